# The kernel's part of the image.

SARAI_BOARD = $(BR2_EXTERNAL_SARAI_PATH)/board/sarai

# All of Realtek's network cards; Buildroot's own selection lags behind the driver.
LINUX_FIRMWARE_DIRS += rtl_nic

# What is asked for: the files of the defconfig, and what can only be said once other packages are there.
SARAI_KERNEL_OPTIONS = \
	$(call qstrip,$(BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE) $(BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES)) \
	$(LINUX_DIR)/sarai-firmware/asked

ifeq ($(BR2_x86_64),y)
LINUX_FIRMWARE_DIRS += amd-ucode
LINUX_FIRMWARE_ALL_LICENSE_FILES += LICENSE.amd-ucode

# The processor gets its microcode before anything else runs; with no boot loader and no second file, the kernel
# has to carry it. External trees are read after linux.mk, whose rules already know their prerequisites.
$(LINUX_DIR)/.stamp_dotconfig: | linux-firmware intel-microcode

define SARAI_GATHER_MICROCODE
	rm -rf $(LINUX_DIR)/sarai-firmware
	$(SARAI_BOARD)/x86_64/gather-microcode $(INTEL_MICROCODE_DIR)/intel-ucode $(LINUX_FIRMWARE_DIR)/amd-ucode \
		$(LINUX_DIR)/sarai-firmware
endef
else
define SARAI_GATHER_MICROCODE
	mkdir -p $(LINUX_DIR)/sarai-firmware
	: >$(LINUX_DIR)/sarai-firmware/asked
endef
endif

# The root is packed with the kernel around it, not twice. It can be asked for only once there is a root.
define SARAI_LINUX_CONFIG_FIXUPS
	$(SARAI_GATHER_MICROCODE)
	echo 'CONFIG_INITRAMFS_COMPRESSION_NONE=y' >>$(LINUX_DIR)/sarai-firmware/asked
	$(SED) '/CONFIG_INITRAMFS_COMPRESSION_/d; /CONFIG_EXTRA_FIRMWARE/d' $(LINUX_DIR)/.config
	cat $(LINUX_DIR)/sarai-firmware/asked >>$(LINUX_DIR)/.config
endef

# An option that was asked for and is not in the kernel fails the build.
define SARAI_CHECK_KERNEL_OPTIONS
	$(SARAI_BOARD)/common/check-options CONFIG_ $(LINUX_DIR)/.config $(SARAI_KERNEL_OPTIONS)
endef
LINUX_PRE_BUILD_HOOKS += SARAI_CHECK_KERNEL_OPTIONS
