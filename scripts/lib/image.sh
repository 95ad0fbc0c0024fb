# shellcheck shell=bash
# The pieces of the image for virtual machines. Sourced by scripts/build-vm-image after system.sh; uses its options
# (out keyring models profile manifest settings size) and its function told.
# shellcheck disable=SC2154

common=$root/buildroot/board/sarai/common

# Lines of a list without comments and blanks.
lines_of() { sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$1"; }

# Kernel and busybox as Debian packages, unpacked in the cache; sets kernel, kernel_version, busybox.
fetch_debian_parts() {
  lock_cache
  if [[ ! -e $cache/kernel/done ]]; then
    step "fetching Debian's kernel and busybox (unpacked, not installed)"
    local name
    name=$(kernel_package)
    if [[ -z $name ]]; then apt_refresh; name=$(kernel_package); fi
    [[ -n $name ]] || die "apt knows no linux-image-amd64"
    rm -rf "$cache/kernel.new"
    mkdir -p "$cache/kernel.new/root"
    # The sandbox user of apt may not write here; that is a warning and no error.
    (cd "$cache/kernel.new" && { apt-get download -qq "$name" busybox-static || { apt_refresh && apt-get download -qq "$name" busybox-static; }; }) 2> >(grep -v '^W:' >&2) ||
      die "failed to download $name and busybox-static"
    local package
    for package in "$cache"/kernel.new/*.deb; do
      basename "$package" >>"$cache/kernel.new/done"
      dpkg-deb -x "$package" "$cache/kernel.new/root" || die "failed to unpack $package"
      rm "$package"
    done
    rm -rf "$cache/kernel"
    mv "$cache/kernel.new" "$cache/kernel"
  fi
  kernel=$(echo "$cache"/kernel/root/boot/vmlinuz-*)
  kernel_version=${kernel##*/vmlinuz-}
  modules=$cache/kernel/root/lib/modules
  [[ -d $modules ]] || modules=$cache/kernel/root/usr/lib/modules
  [[ -e $modules/$kernel_version/modules.dep ]] ||
    /sbin/depmod -b "${modules%/lib/modules}" "$kernel_version" 2>/dev/null ||
    die "failed to order the kernel's modules"
  for busybox in "$cache/kernel/root/bin/busybox" "$cache/kernel/root/usr/bin/busybox"; do
    [[ -x $busybox ]] && break
  done
  [[ -s $kernel && -x $busybox ]] || die "$cache/kernel is damaged: remove it and try again"
  unlock_cache
}

# Several images may be made at once, of one cache.
lock_cache() {
  mkdir -p "$cache"
  exec 7>"$cache/lock"
  flock 7
}
unlock_cache() { exec 7>&-; }

kernel_package() {
  apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

make_kernel() {
  cmp -s "$kernel" "$1/vmlinuz" || install -m 644 "$kernel" "$1/vmlinuz"
}

# Puts one file aside and renames it, so that a machine never boots half of it.
put() { mv -f "$1" "$2"; }

# The part of the initramfs that is the same for every profile, kept in the cache by what went into it; sets base.
make_base() {
  local work=$1 tree=$1/base kind source to mode inputs=() sum stamp
  while read -r kind source to mode; do
    case $kind in
      program) inputs+=("$release/$source") ;;
      folder) inputs+=("$release/$source") ;;
      system) inputs+=("$(system_program "$source")") ;;
    esac
  done < <(lines_of "$common/programs.list")
  for source in "${inputs[@]}"; do
    [[ -e $source ]] || die "$source is missing: cargo build --release --workspace --bins"
  done
  stamp=$(build_stamp)
  sum=$({
    echo "$stamp $kernel_version"
    cat "$cache/kernel/done" "${BASH_SOURCE[0]}"
    find "$common" "${inputs[@]}" -type f -print0 | sort -z | xargs -0 sha256sum
    find "$common" -type l -printf '%P %l\n' | sort
  } | sum)
  base=$cache/initramfs/$sum.cpio.zst
  lock_cache
  if [[ -s $base ]]; then
    touch "$base"
    unlock_cache
    return
  fi
  told "assembling the system"
  mkdir -p "$cache/initramfs" "$tree"/{data,dev,proc,run,sys,tmp,usr/bin,usr/sbin,usr/lib64,usr/lib/sarai/modules,etc/sarai/keyring}
  ln -s usr/bin "$tree/bin"
  ln -s usr/sbin "$tree/sbin"
  ln -s usr/lib "$tree/lib"
  ln -s usr/lib64 "$tree/lib64"
  cp -R --no-dereference --preserve=mode,links "$common/rootfs-overlay/." "$tree/"
  add_programs "$tree"
  add_busybox "$tree"
  add_modules "$tree"
  echo "$stamp" >"$tree/usr/lib/sarai/build-stamp"
  pack "$tree" "$stamp" >"$work/base.cpio.zst"
  # Old ones are of no use any more.
  find "$cache/initramfs" -name '*.cpio.zst' -mtime +2 -delete
  put "$work/base.cpio.zst" "$base"
  unlock_cache
}

# Where this machine has a program of its distribution.
system_program() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" || die "$1 is missing; scripts/setup --list names what is needed"; }

# Seconds since 1970 of the source: the last commit, or the newest program where there is no history.
build_stamp() {
  if [[ -n ${SOURCE_DATE_EPOCH:-} ]]; then echo "$SOURCE_DATE_EPOCH"; return; fi
  git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$release/sarai-supervisor"
}

add_programs() {
  local tree=$1 kind source to mode file binaries=()
  while read -r kind source to mode; do
    mkdir -p "$tree$(dirname "$to")"
    case $kind in
      program)
        install -m "${mode:-755}" "$release/$source" "$tree$to"
        strip --strip-unneeded "$tree$to" 2>/dev/null || true
        binaries+=("$release/$source") ;;
      folder)
        cp -RL "$release/$source" "$tree$to"
        while IFS= read -r -d '' file; do binaries+=("$file"); done < <(find "$release/$source" -name '*.so*' -print0) ;;
      system)
        file=$(system_program "$source")
        install -m "${mode:-755}" "$file" "$tree$to"
        binaries+=("$file") ;;
      # Files of the source tree that are settings come with make_initramfs.
      file) [[ $to == /etc/sarai/* ]] || install -m "${mode:-644}" "$root/$source" "$tree$to" ;;
      link) ln -sfn "$source" "$tree$to" ;;
      *) die "programs.list: what is \"$kind\"?" ;;
    esac
  done < <(lines_of "$common/programs.list")
  # Shared libraries of the system under the very paths the loader found them by.
  for file in "${binaries[@]}"; do ldd "$file"; done |
    awk '/=> \// {print $3} /^[[:space:]]*\/.*ld-linux/ {print $1}' | sort -u |
    while read -r file; do
      [[ $file == "$release"/* ]] && continue
      mkdir -p "$tree$(dirname "$file")"
      cp -L "$file" "$tree$file"
    done
  # Nothing may be missing in there: the loader would say so only at boot.
  for file in "${binaries[@]}"; do
    if ldd "$file" | grep 'not found' | grep -v 'libggml\|libllama' >&2; then die "$file lacks a shared library"; fi
  done
}

add_busybox() {
  local tree=$1 applet applets
  install -m 755 "$busybox" "$tree/usr/bin/busybox"
  applets=$'\n'$("$busybox" --list)$'\n'
  while read -r applet; do
    [[ $applets == *$'\n'"$applet"$'\n'* ]] || die "busybox has no $applet"
    ln -s busybox "$tree/usr/bin/$applet"
  done < <(lines_of "$common/busybox-applets.list")
}

# Wanted modules and what they need, each after those it needs.
add_modules() {
  local tree=$1 name needed what file target=/usr/lib/sarai/modules list=$1/usr/lib/sarai/modules/modules.list
  : >"$list"
  while read -r name; do
    needed=
    [[ $name == '! '* ]] && needed=1 name=${name#! }
    if ! /sbin/modprobe -d "${modules%/lib/modules}" -S "$kernel_version" --show-depends "$name" >"$work/depends" 2>/dev/null; then
      [[ -z $needed ]] || die "the kernel has no $name"
      continue
    fi
    # "insmod PATH options" or "builtin NAME".
    while read -r what file _; do
      [[ $what == insmod ]] || continue
      name=$(basename "$file")
      case $name in
        *.ko) install -m 644 "$file" "$tree$target/$name" ;;
        *.ko.xz) name=${name%.xz}; xz -dc "$file" >"$tree$target/$name" ;;
        *.ko.zst) name=${name%.zst}; zstd -qdc "$file" >"$tree$target/$name" ;;
      esac
      grep -qxF "$target/$name" "$list" || echo "$target/$name" >>"$list"
    done <"$work/depends"
  done < <(lines_of "$common/modules.wanted")
}

# A folder as a compressed archive that depends on nothing but what is in it.
pack() {
  local tree=$1 stamp=$2
  find "$tree" -type d -exec chmod 755 {} +
  find "$tree" -type f -perm /111 -exec chmod 755 {} +
  find "$tree" -type f ! -perm /111 -exec chmod 644 {} +
  [[ ! -e $tree/etc/shadow ]] || chmod 600 "$tree/etc/shadow"
  [[ ! -d $tree/tmp ]] || chmod 1777 "$tree/tmp"
  find "$tree" -exec touch -h -d "@$stamp" {} +
  (cd "$tree" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | cpio -o0 --quiet -H newc -R 0:0 --reproducible) |
    zstd -q -T0 -9 || die "failed to pack the archive"
}

# The system and the part that differs, one archive after the other: the kernel unpacks both.
make_initramfs() {
  local out=$1 work=$2 etc=$2/etc/etc/sarai applet
  mkdir -p "$etc/keyring"
  install -m 644 "$manifest" "$etc/models-manifest.toml"
  install -m 644 "$settings" "$etc/sarai.toml"
  if [[ -n $profile ]]; then
    grep -q '^profile *=' "$etc/sarai.toml" || sed -i "1i profile = \"$profile\"" "$etc/sarai.toml"
    sed -i "s/^profile *= *\"[^\"]*\"/profile = \"$profile\"/" "$etc/sarai.toml"
  fi
  [[ -z $keyring ]] || cp -L "$keyring"/*.asc "$etc/keyring/" 2>/dev/null || die "$keyring holds no *.asc"
  if [[ -n $debug_shell ]]; then
    mkdir -p "$work/etc/usr/lib/sarai" "$work/etc/usr/bin"
    : >"$work/etc/usr/lib/sarai/debug-shell"
    while read -r applet; do ln -s busybox "$work/etc/usr/bin/$applet"; done < <(lines_of "$common/debug-applets.list")
  fi
  pack "$work/etc" "$(build_stamp)" >"$work/etc.cpio.zst"
  cat "$base" "$work/etc.cpio.zst" >"$work/initramfs.img"
  cmp -s "$work/initramfs.img" "$out/initramfs.img" || put "$work/initramfs.img" "$out/initramfs.img"
}

# A disk to be flashed: the boot partition with one EFI file that holds kernel, command line and root.
make_flashable() {
  local out=$1 work=$2 sum stamp
  stamp=$(build_stamp)
  sum=$({ cat "${BASH_SOURCE[0]}" "$root/scripts/lib/disk.sh"; sha256sum <"$kernel"; sha256sum <"$out/initramfs.img"; echo "$stamp"; } | sum)
  [[ -s $disk && $(cat "$disk.sum" 2>/dev/null) == "$sum" ]] && return
  fetch_stub
  told "making the disk image"
  printf 'console=tty1 console=ttyS0,115200 rdinit=/usr/lib/sarai/sarai-supervisor panic=10 quiet' >"$work/cmdline"
  objcopy --add-section .cmdline="$work/cmdline" --change-section-vma .cmdline=0x30000 \
    --add-section .linux="$kernel" --change-section-vma .linux=0x2000000 \
    --add-section .initrd="$out/initramfs.img" --change-section-vma .initrd=0x4000000 \
    "$stub" "$work/system.efi" || die "failed to join kernel and root in one EFI file"
  # shellcheck source=scripts/lib/disk.sh
  source "$root/scripts/lib/disk.sh"
  make_boot_disk "$work/disk.img" "$stamp" "EFI/BOOT/BOOTX64.EFI=$work/system.efi"
  rm -f "$disk.sum"
  put "$work/disk.img" "$disk"
  echo "$sum" >"$disk.sum"
}

# What makes an EFI program of a kernel and its root, as a Debian package, unpacked in the cache; sets stub.
fetch_stub() {
  lock_cache
  stub=$cache/stub/usr/lib/systemd/boot/efi/linuxx64.efi.stub
  if [[ ! -s $stub ]]; then
    step "fetching the EFI stub (unpacked, not installed)"
    rm -rf "$cache/stub.new"
    mkdir -p "$cache/stub.new"
    (cd "$cache/stub.new" && { apt-get download -qq systemd-boot-efi || { apt_refresh && apt-get download -qq systemd-boot-efi; }; }) 2> >(grep -v '^W:' >&2) ||
      die "failed to download systemd-boot-efi"
    dpkg-deb -x "$cache"/stub.new/*.deb "$cache/stub.new" || die "failed to unpack systemd-boot-efi"
    rm -f "$cache"/stub.new/*.deb
    rm -rf "$cache/stub"
    mv "$cache/stub.new" "$cache/stub"
  fi
  [[ -s $stub ]] || die "$cache/stub is damaged: remove it and try again"
  unlock_cache
}

# The data disk, made again only when what goes on it changed; data.sum beside it says of what it was made.
make_disk() {
  local out=$1 work=$2 tree=$2/data files=() file bytes=0 sum
  mkdir -p "$tree/models"
  if [[ -n $models ]]; then
    for file in "$models"/*.gguf "$models"/*.prompts "$models"/*.toml "$models"/*.asc; do
      [[ -f $file ]] || continue
      ! is_noise "$file" || die "$file holds random weights (scripts/shape-model) and belongs in no image"
      files+=("$file")
      bytes=$((bytes + $(stat -Lc %s "$file")))
    done
    ((${#files[@]})) || die "$models holds no models"
  fi
  [[ -n $size ]] || size=$((bytes * 2 / 1048576 + 512))
  sum=$({
    echo "$size"
    cat "${BASH_SOURCE[0]}"
    for file in ${files[@]+"${files[@]}"}; do stat -Lc '%n %s %Y' "$file"; done
  } | sum)
  [[ -s $out/data.img && $(cat "$out/data.sum" 2>/dev/null) == "$sum" ]] && return
  told "making the data disk ($size MiB)"
  for file in ${files[@]+"${files[@]}"}; do
    cp -L --reflink=auto "$file" "$tree/models/"
  done
  chmod -R u=rwX,go=rX "$tree"
  truncate -s "${size}M" "$work/data.img"
  # fs-verity wants blocks of the size of a page. The fixed identity makes equal disks of equal content.
  /sbin/mkfs.ext4 -q -F -b 4096 -O verity -L SARAI-DATA -E root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1 \
    -d "$tree" "$work/data.img" >&2 || die "failed to make the data disk"
  # The files are whose they were on this machine; there they are root's.
  {
    printf 'set_inode_field /models uid 0\nset_inode_field /models gid 0\n'
    for file in ${files[@]+"${files[@]}"}; do
      printf 'set_inode_field "/models/%s" uid 0\n' "$(basename "$file")"
      printf 'set_inode_field "/models/%s" gid 0\n' "$(basename "$file")"
    done
  } >"$work/owners"
  /sbin/debugfs -w -f "$work/owners" "$work/data.img" >/dev/null 2>"$work/debugfs.log" || die "failed to set the owners"
  rm -f "$out/data.sum"
  put "$work/data.img" "$out/data.img"
  echo "$sum" >"$out/data.sum"
}
