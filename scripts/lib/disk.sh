# shellcheck shell=bash
# shellcheck disable=SC2154 # scratch is common.sh's
# The layout of a flashed disk, made and read. Sourced after common.sh; the supervisor's side of it is
# supervisor/src/boot/disk/table.rs. buildroot/board/sarai/common/README.md says why it is so.
#
#   1 MiB      boot partition (FAT32), named SARAI-ESP
#   511 MiB    free: the second table of an image lies here
#   512 MiB    data partition (ext4, verity), named SARAI-DATA; no part of an image
PATH=$PATH:/usr/sbin:/sbin
mib=1048576
disk_boot_mib=1
disk_data_mib=512
disk_label=SARAI-DATA

# make_boot_disk IMAGE STAMP NAME=FILE...: an image with these files on its boot partition. Folders are made. The
# same files and the same stamp (seconds since 1970) make the same bytes.
make_boot_disk() {
  local image=$1 stamp=$2 esp=$1.esp sectors pair folder
  shift 2
  # mtools and mkfs.vfat take the time from here.
  local -x SOURCE_DATE_EPOCH=$stamp
  sectors=$(((disk_data_mib - disk_boot_mib - 1) * mib / 512))
  rm -f "$image" "$esp"
  truncate -s $((sectors * 512)) "$esp"
  mkfs.vfat -F 32 -n SARAI-BOOT --invariant "$esp" >/dev/null || die "failed to make the boot partition"
  for pair in "$@"; do
    folder=$(dirname "${pair%%=*}")
    [[ $folder == . ]] || boot_folder "$esp" 0 "$folder"
    mcopy -o -i "$esp" "${pair#*=}" "::/${pair%%=*}" || die "failed to copy ${pair%%=*}"
  done
  truncate -s $((disk_data_mib * mib)) "$image"
  sfdisk -q "$image" <<END || die "failed to make the partition table"
label: gpt
label-id: 5A4A1001-0000-4000-8000-000000000001
first-lba: 34
start=$((disk_boot_mib * mib / 512)), size=$sectors, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid=5A4A1001-0000-4000-8000-000000000002, name=SARAI-ESP
END
  dd if="$esp" of="$image" bs=1M seek=$disk_boot_mib conv=notrunc,sparse status=none
  rm -f "$esp"
}

# boot_folder FILE OFFSET FOLDER: makes a folder of a boot partition and those above it.
boot_folder() {
  local part path=''
  local -a parts
  IFS=/ read -ra parts <<<"$3"
  for part in "${parts[@]}"; do
    path+=/$part
    mdir -b -i "$1@@$2" "::$path" >/dev/null 2>&1 || mmd -i "$1@@$2" "::$path" || die "failed to make the folder $path"
  done
}

# boot_offset TARGET: where its boot partition begins, bytes; fails if the disk is none of ours.
boot_offset() {
  sfdisk --dump "$1" 2>/dev/null | sed -n 's/.*start= *\([0-9]*\),.*type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B.*name="SARAI-ESP".*/\1/p' |
    awk 'NR == 1 { print $1 * 512; found = 1 } END { exit !found }'
}

# data_label TARGET: the label of the ext file system where the data goes; nothing if there is none.
data_label() {
  local magic
  magic=$(dd if="$1" bs=1 skip=$((disk_data_mib * mib + 1024 + 56)) count=2 status=none | od -An -tx1 | tr -d ' \n')
  [[ $magic != 53ef ]] || dd if="$1" bs=1 skip=$((disk_data_mib * mib + 1024 + 120)) count=16 status=none | tr -d '\0'
}

# target_bytes TARGET: size of a disk or of a file that stands for one.
target_bytes() {
  if [[ -b $1 ]]; then blockdev --getsize64 "$1"; else stat -Lc %s "$1"; fi
}

# data_blocks TARGET: blocks of 4 KiB that its data partition will have, as the supervisor counts them.
data_blocks() {
  echo $(((($(target_bytes "$1") - 33 * 512) / mib - disk_data_mib) * (mib / 4096)))
}

# clear_data TARGET: nothing there is taken for data any more, its second superblock included.
clear_data() {
  local at length size
  size=$(target_bytes "$1")
  for at in $((disk_data_mib * mib)) $(((disk_data_mib + 128) * mib)); do
    length=$((16 * mib))
    ((at + length <= size)) || length=$(((size - at) / 512 * 512))
    ((length <= 0)) || head -c "$length" /dev/zero | dd of="$1" bs=1M seek="${at}B" conv=notrunc iflag=fullblock status=none
  done
}

# put_models TARGET FILE...: files into /models of the data partition, which is made if it is not there.
put_models() {
  local target=$1 tree=$scratch/data offset=$((disk_data_mib * mib)) file name rc=0
  shift
  if [[ $(data_label "$target") == "$disk_label" ]]; then
    # What a power cut left in the journal comes first.
    e2fsck -p "$target?offset=$offset" >"$scratch/e2fsck" 2>&1 || rc=$?
    ((rc & ~3)) && die "the data partition is damaged and was left as it is: $(tr '\n' ' ' <"$scratch/e2fsck")"
    {
      # debugfs makes a folder that is there once more, and then cannot name it.
      debugfs -R 'stat /models' "$target?offset=$offset" 2>/dev/null | grep 'Type: directory' >/dev/null || echo 'mkdir /models'
      for file in "$@"; do
        name=$(basename "$file")
        printf 'rm "/models/%s"\nwrite "%s" "/models/%s"\n' "$name" "$file" "$name"
      done
    } >"$scratch/put"
    debugfs -w -f "$scratch/put" "$target?offset=$offset" >/dev/null 2>"$scratch/debugfs" || die "failed to write the models"
    ! grep -qiE 'no space|could not allocate' "$scratch/debugfs" || die "there is no room for the models"
  else
    mkdir -p "$tree/models"
    for file in "$@"; do ln "$file" "$tree/models/" 2>/dev/null || cp --reflink=auto "$file" "$tree/models/"; done
    mke2fs -q -F -t ext4 -b 4096 -O verity -L "$disk_label" -m 1 -J size=64 -d "$tree" \
      -E "offset=$offset,root_owner=0:0,lazy_itable_init=1,nodiscard" "$target" "$(data_blocks "$target")" >&2 ||
      die "failed to make the data partition"
  fi
  {
    printf 'set_inode_field /models uid 0\nset_inode_field /models gid 0\nset_inode_field /models mode 040755\n'
    for file in "$@"; do
      name=$(basename "$file")
      printf 'set_inode_field "/models/%s" %s\n' "$name" 'uid 0' "$name" 'gid 0' "$name" 'mode 0100644'
    done
  } >"$scratch/owners"
  debugfs -w -f "$scratch/owners" "$target?offset=$offset" >/dev/null 2>"$scratch/debugfs" || die "failed to set the models' owners"
  # debugfs is no file system: what it left behind is looked at as a whole.
  e2fsck -f -n "$target?offset=$offset" >"$scratch/e2fsck" 2>&1 || die "the data partition is not in order: $(tr '\n' ' ' <"$scratch/e2fsck")"
}
