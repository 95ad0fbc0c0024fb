#!/usr/bin/env bash
# The root before it is packed: build stamp, certificates, and nothing that is not written down.
#
#   post-build.sh TARGET ARCH                   (called by Buildroot)
#
# SARAI_KEYRING may name a folder with release certificates (*.asc). With SARAI_DEBUG_SHELL the terminals of the machine
# are root's, and busybox has more applets.
set -euo pipefail

target=$1 arch=$2
board=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$target"/{data,dev,proc,run,sys,tmp,etc/sarai/keyring,usr/lib/sarai}
rm -f "$target"/etc/sarai/keyring/*.asc
if [[ -n ${SARAI_KEYRING:-} ]]; then
  cp -L "$SARAI_KEYRING"/*.asc "$target/etc/sarai/keyring/"
  chmod 644 "$target"/etc/sarai/keyring/*.asc
fi
echo "${SOURCE_DATE_EPOCH:?}" >"$target/usr/lib/sarai/build-stamp"
# The kernel's own way to process 1, should its command line be lost.
ln -sfn usr/lib/sarai/sarai-supervisor "$target/init"
lists=("$board/common/busybox-applets.list")
rm -f "$target/usr/lib/sarai/debug-shell"
if [[ -n ${SARAI_DEBUG_SHELL:-} ]]; then
  : >"$target/usr/lib/sarai/debug-shell"
  lists+=("$board/common/debug-applets.list")
fi
# Buildroot links every applet it built; the list says which.
while read -r applet; do
  # Where a system asks for no shell, Buildroot removes each link called sh; check-buildroot looks that busybox has one.
  [[ $applet == sh || -L $target/usr/bin/$applet || -L $target/usr/sbin/$applet ]] || { echo "busybox has no $applet" >&2; exit 1; }
  rm -f "$target/usr/sbin/$applet"
  ln -sfn busybox "$target/usr/bin/$applet"
done < <(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "${lists[@]}")
# The overlay has the last word over what packages brought, and removes what an earlier build left.
cp -R --no-dereference --preserve=mode,links "$board/common/rootfs-overlay/." "$target/"
python3 "$board/../../../scripts/lib/image_files.py" prune "$target" "$arch"
find "$target" -type d -exec chmod 755 {} +
chmod 1777 "$target/tmp"
chmod 600 "$target/etc/shadow"
