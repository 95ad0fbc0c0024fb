################################################################################
#
# sarai-crates: what Cargo.lock names, so that cargo needs no network
#
################################################################################

# crates.list and sarai-crates.hash are made from Cargo.lock: scripts/check-buildroot --update
SARAI_CRATES_FOLDER = $(BR2_EXTERNAL_SARAI_PATH)/package/sarai-crates
include $(SARAI_CRATES_FOLDER)/crates.list

# Other crates, another folder.
SARAI_CRATES_VERSION := $(shell sha256sum $(SARAI_CRATES_FOLDER)/sarai-crates.hash | cut -c1-12)
SARAI_CRATES_SOURCE =
SARAI_CRATES_EXTRA_DOWNLOADS = $(SARAI_CRATES_URLS)
SARAI_CRATES_LICENSE = MIT, Apache-2.0, BSD-2-Clause, BSD-3-Clause, ISC, LGPL-2.0+, LGPL-3.0, Unicode-3.0, Zlib and others: licences.txt
SARAI_CRATES_LICENSE_FILES = licences.txt
SARAI_CRATES_INSTALL_TARGET = NO

define SARAI_CRATES_EXTRACT_CMDS
	$(SARAI_CRATES_FOLDER)/unpack $(SARAI_CRATES_FOLDER)/sarai-crates.hash $(SARAI_CRATES_DL_DIR) $(@D)
endef

$(eval $(generic-package))
