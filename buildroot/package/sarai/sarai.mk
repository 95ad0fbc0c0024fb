################################################################################
#
# sarai: the appliance's programs
#
################################################################################

# Built from the source tree that this file is in: image and source are of one commit.
SARAI_ROOT = $(abspath $(BR2_EXTERNAL_SARAI_PATH)/..)
SARAI_VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' $(BR2_EXTERNAL_SARAI_PATH)/../Cargo.toml | head -n 1)
SARAI_SITE = $(SARAI_ROOT)
SARAI_SITE_METHOD = local
SARAI_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --delete --exclude '/.*' --exclude /target
SARAI_LICENSE = MIT or Apache-2.0
SARAI_LICENSE_FILES = LICENSE LICENSE-APACHE LICENSE-MIT
SARAI_DEPENDENCIES = host-pkgconf nettle sarai-crates

SARAI_LIBCLANG = $(or $(call qstrip,$(BR2_PACKAGE_SARAI_LIBCLANG)),$(HOST_DIR)/lib)
ifeq ($(call qstrip,$(BR2_PACKAGE_SARAI_LIBCLANG)),)
SARAI_DEPENDENCIES += host-clang
endif

SARAI_TARGET_KEY = $(subst -,_,$(call UPPERCASE,$(RUSTC_TARGET_NAME)))
# Where it was built must not be in the bytes. ggml is told a folder of the build to look for backends in; the engine
# names its own. Libraries are linked without a search path: cmake only blanks it out when it installs them, as long as it was.
SARAI_NO_PATHS = -ffile-prefix-map=$(BASE_DIR)=. -UGGML_BACKEND_DIR

# llama.cpp comes by cmake and bindgen; ggml is optimised as far as the compiler can, whatever the system is.
SARAI_CARGO_ENV = \
	CARGO_PROFILE_RELEASE_OPT_LEVEL=3 \
	CARGO_TARGET_$(SARAI_TARGET_KEY)_RUSTFLAGS="--remap-path-prefix=$(BASE_DIR)=." \
	CMAKE="$(BR2_CMAKE)" \
	CMAKE_TOOLCHAIN_FILE="$(HOST_DIR)/share/buildroot/toolchainfile.cmake" \
	CMAKE_C_FLAGS="$(TARGET_CFLAGS) $(SARAI_NO_PATHS)" \
	CMAKE_CXX_FLAGS="$(TARGET_CXXFLAGS) $(SARAI_NO_PATHS)" \
	CMAKE_C_FLAGS_RELEASE="-O3 -DNDEBUG" \
	CMAKE_CXX_FLAGS_RELEASE="-O3 -DNDEBUG" \
	CMAKE_SKIP_RPATH=ON \
	CMAKE_BUILD_PARALLEL_LEVEL=$(PARALLEL_JOBS) \
	CFLAGS="$(TARGET_CFLAGS) $(SARAI_NO_PATHS)" \
	CXXFLAGS="$(TARGET_CXXFLAGS) $(SARAI_NO_PATHS)" \
	LIBCLANG_PATH="$(SARAI_LIBCLANG)" \
	BINDGEN_EXTRA_CLANG_ARGS="--sysroot=$(STAGING_DIR)" \
	PKG_CONFIG_ALLOW_CROSS=1 \
	AWS_LC_SYS_CMAKE_BUILDER=0

# One run for all: llama.cpp is compiled once.
SARAI_CARGO_BUILD_OPTS = \
	--bins -p sarai-supervisor -p sarai-engine -p sarai-gateway -p sarai-trainer -p sarai-announce \
	-p sarai-cli

define SARAI_USE_CRATES
	mkdir -p $(@D)/.cargo
	printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "%s"\n' \
		"$(SARAI_CRATES_DIR)/vendor" >$(@D)/.cargo/config.toml
endef
SARAI_PRE_BUILD_HOOKS += SARAI_USE_CRATES

# What goes where is written down once, for every image.
define SARAI_INSTALL_TARGET_CMDS
	$(@D)/buildroot/package/sarai/install $(@D) $(@D)/target/$(RUSTC_TARGET_NAME)/release $(TARGET_DIR)
endef

$(eval $(cargo-package))
