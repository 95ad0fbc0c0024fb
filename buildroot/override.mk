# Versions that differ from Buildroot's own. Read before the packages' files, so each needs "override"; the hashes
# are in patches/.

# The project's rust-version (Cargo.toml).
override RUST_BIN_VERSION := 1.95.0
override RUST_VERSION := 1.95.0

# What the builder wants different, as without this file.
-include $(CONFIG_DIR)/local.mk
