#!/usr/bin/env bash
# The disk image: see genimage.cfg beside the architecture's other files.
#
#   post-image.sh BINARIES ARCH                 (called by Buildroot)
set -euo pipefail

binaries=$1 arch=$2
board=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $arch in
  x86_64) kernel=bzImage name=BOOTX64.EFI ;;
  aarch64) kernel=Image name=BOOTAA64.EFI ;;
  *) echo "post-image.sh: what architecture is \"$arch\"?" >&2; exit 1 ;;
esac
python3 "$board/../../../scripts/lib/image_files.py" seal "$binaries/rootfs.cpio" "$arch"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# What the EFI partition holds besides the system: common/esp, as it is.
mkdir -p "$work/root/EFI/BOOT" "$work/tmp"
cp -R "$board/common/esp/." "$work/root/"
install -m 644 "$binaries/$kernel" "$work/root/EFI/BOOT/$name"
find "$work/root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:?}" {} +
bytes=$(stat -c %s "$work/root/EFI/BOOT/$name")
limit=$((250 * 1024 * 1024))
((bytes <= limit)) || { echo "post-image.sh: the system is $bytes bytes, two of them do not fit the EFI partition" >&2; exit 1; }
rm -f "$binaries"/sarai.img "$binaries"/esp.vfat
genimage --rootpath "$work/root" --tmppath "$work/tmp/genimage" --inputpath "$binaries" --outputpath "$binaries" \
  --config "$board/$arch/genimage.cfg"
