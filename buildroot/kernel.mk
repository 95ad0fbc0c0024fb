# The kernel's part of the image.

SARAI_BOARD = $(BR2_EXTERNAL_SARAI_PATH)/board/sarai

# All of Realtek's network cards; Buildroot's own selection lags behind the driver.
LINUX_FIRMWARE_DIRS += rtl_nic

ifeq ($(BR2_x86_64),y)
LINUX_FIRMWARE_DIRS += amd-ucode
LINUX_FIRMWARE_ALL_LICENSE_FILES += LICENSE.amd-ucode

# The processor gets its microcode before anything else runs; with no boot loader and no second file, the kernel
# has to carry it. External trees are read after linux.mk, whose rules already know their prerequisites.
$(LINUX_DIR)/.stamp_dotconfig: | linux-firmware intel-microcode

define SARAI_LINUX_CONFIG_FIXUPS
	rm -rf $(LINUX_DIR)/sarai-firmware
	$(SARAI_BOARD)/x86_64/gather-microcode $(INTEL_MICROCODE_DIR)/intel-ucode $(LINUX_FIRMWARE_DIR)/amd-ucode \
		$(LINUX_DIR)/sarai-firmware
	$(call KCONFIG_SET_OPT,CONFIG_EXTRA_FIRMWARE_DIR,"sarai-firmware")
	$(SED) '/^CONFIG_EXTRA_FIRMWARE=/d' $(LINUX_DIR)/.config
	echo "CONFIG_EXTRA_FIRMWARE=\"`cat $(LINUX_DIR)/sarai-firmware/list`\"" >>$(LINUX_DIR)/.config
endef
endif

# An option that was asked for and is not in the kernel fails the build.
SARAI_KERNEL_OPTIONS = $(call qstrip,$(BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE) $(BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES))
define SARAI_CHECK_KERNEL_OPTIONS
	$(SARAI_BOARD)/common/check-options CONFIG_ $(LINUX_DIR)/.config $(SARAI_KERNEL_OPTIONS)
endef
LINUX_PRE_BUILD_HOOKS += SARAI_CHECK_KERNEL_OPTIONS
