# shellcheck shell=bash
# A virtual machine with the image: whether KVM works, start, console, stop. Sourced after system.sh and image.sh.
#
# Its folder holds vmlinuz, initramfs.img, data.img (as built), disk.img (in use), console (a FIFO that is the
# keyboard), console.log (what the serial console showed), qemu.pid.
# shellcheck disable=SC2154 # cache, kernel, busybox are the other files'

qemu='qemu-system-x86_64'
prompt='sarai> '
# What the console shows once it can be typed at: the prompt, or the code that opens it.
locked='To open it, type [0-9]{6} and press Enter'

# Whether KVM works here, proven by a tiny guest that says so within 20 s: that /dev/kvm opens proves nothing, on
# some machines a guest then hangs for ever. The verdict holds until the next boot. Sets accel to kvm or tcg.
find_accelerator() {
  local verdict work out
  verdict=$cache/accelerator.$(</proc/sys/kernel/random/boot_id)
  accel=tcg
  [[ -r /dev/kvm && -w /dev/kvm ]] || return 0
  if [[ -s $verdict ]]; then
    accel=$(<"$verdict")
    return
  fi
  step "trying whether KVM works here (at most 20 s)"
  fetch_debian_parts
  work=$(mktemp -d)
  mkdir -p "$work/tree/bin" "$work/tree/dev"
  cp "$busybox" "$work/tree/bin/busybox"
  # shellcheck disable=SC2016 # the guest's shell expands it
  printf '#!/bin/busybox sh\necho "kvm-proof $((6 * 7))"\n/bin/busybox poweroff -f\n' >"$work/tree/init"
  chmod 755 "$work/tree/init" "$work/tree/bin/busybox"
  (cd "$work/tree" && find . -mindepth 1 | cpio -o --quiet -H newc -R 0:0) >"$work/initramfs"
  out=$(timeout -k 1 20 "$qemu" -nodefaults -no-user-config -display none -no-reboot -machine q35,accel=kvm -cpu host \
    -m 256M -serial stdio -kernel "$kernel" -initrd "$work/initramfs" -append 'console=ttyS0 quiet panic=-1' \
    </dev/null 2>&1) || true
  rm -rf "$work"
  [[ $out != *'kvm-proof 42'* ]] || accel=kvm
  rm -f "$cache"/accelerator.*
  echo "$accel" >"$verdict"
}

# Whether process $1 is this user's QEMU.
is_qemu() { [[ -n ${1:-} && $(readlink "/proc/$1/exe" 2>/dev/null) == */qemu-system-* ]]; }

vm_pid() {
  local pid
  pid=$(cat "$1/qemu.pid" 2>/dev/null) || return 1
  is_qemu "$pid" && echo "$pid"
}

# vm_start DIR PORT: boots the image in DIR in the background; 127.0.0.1:PORT leads to its port 443.
vm_start() {
  local dir=$1 port=$2 cpus memory=2048 pid cpu=max
  cpus=$(nproc)
  ((cpus <= 4)) || cpus=4
  (($(awk '/^MemTotal:/ {print $2}' /proc/meminfo) < 8 * 1048576)) || memory=4096
  local with=tcg,thread=multi
  [[ $accel != kvm ]] || with=kvm cpu=host
  rm -f "$dir/console" "$dir/qemu.pid"
  # What is typed there reaches a console that obeys: for the owner alone.
  (umask 077 && mkfifo "$dir/console" && : >"$dir/console.log")
  # Opened for both directions the FIFO never ends, whoever else opens and closes it.
  setsid "$qemu" -name sarai -nodefaults -no-user-config -display none -no-reboot -machine q35 -accel "$with" -cpu "$cpu" \
    -smp "$cpus" -m "${memory}M" \
    -chardev stdio,id=console,signal=off -serial chardev:console \
    -device virtio-rng-pci -device i6300esb -action watchdog=reset \
    -netdev "user,id=lan,hostfwd=tcp:127.0.0.1:$port-:443" -device virtio-net-pci,netdev=lan \
    -drive "file=$dir/disk.img,format=raw,if=none,id=data,discard=unmap" -device virtio-blk-pci,drive=data \
    -kernel "$dir/vmlinuz" -initrd "$dir/initramfs.img" \
    -append 'console=ttyS0,115200 rdinit=/usr/lib/sarai/sarai-supervisor panic=10 quiet' \
    <>"$dir/console" >>"$dir/console.log" 2>"$dir/qemu.log" &
  pid=$!
  echo "$pid" >"$dir/qemu.pid"
  sleep 0.5
  is_qemu "$pid" || die "QEMU ended at once: $(tail -n 3 "$dir/qemu.log")"
}

# vm_wait_console DIR OFFSET PATTERN SECONDS: waits until the console shows PATTERN behind byte OFFSET.
vm_wait_console() {
  local dir=$1 offset=$2 pattern=$3 end=$((SECONDS + $4))
  # Not grep -q: it would end early, and the broken pipe would look like a failure.
  until tail -c "+$((offset + 1))" "$dir/console.log" | grep -aE -- "$pattern" >/dev/null; do
    ((SECONDS < end)) || return 1
    vm_pid "$dir" >/dev/null || return 2
    sleep 0.2
  done
}

# vm_open DIR SECONDS: has a prompt there, opened with the code that the console shows if it is locked.
vm_open() {
  local dir=$1 offset last
  offset=$(stat -c %s "$dir/console.log")
  # An empty line: whatever stood half typed there is done with, and a prompt or a code is shown.
  printf '\n' >"$dir/console"
  vm_wait_console "$dir" "$offset" "$prompt|$locked" "$2" || return 1
  last=$(tail -c "+$((offset + 1))" "$dir/console.log" | grep -aoE -- "$prompt|$locked" | tail -n 1)
  [[ $last =~ [0-9]{6} ]] || return 0
  offset=$(stat -c %s "$dir/console.log")
  printf '%s\n' "${BASH_REMATCH[0]}" >"$dir/console"
  vm_wait_console "$dir" "$offset" "$prompt" "$2"
}

# vm_command DIR LINE SECONDS: types LINE at the prompt, prints what it answers.
vm_command() {
  local dir=$1 line=$2 offset
  vm_open "$dir" "$3" || return 1
  sleep 0.3
  offset=$(stat -c %s "$dir/console.log")
  printf '%s\n' "$line" >"$dir/console"
  # The terminal shows the line as it is typed; what follows until the next prompt is the answer.
  vm_wait_console "$dir" "$offset" "$prompt" "$3" || return 1
  tail -c "+$((offset + 1))" "$dir/console.log" | tr -d '\r' | sed $'s/\x1b\\[[?0-9;]*[A-Za-z]//g' | sed "1d; /^$prompt/d"
}

# vm_stop DIR: asks the machine to shut down, then insists.
vm_stop() {
  local dir=$1 pid end
  pid=$(vm_pid "$dir") || return 1
  vm_open "$dir" 60 || true
  printf 'poweroff\n' >"$dir/console"
  end=$((SECONDS + 90))
  while is_qemu "$pid" && ((SECONDS < end)); do sleep 0.2; done
  if is_qemu "$pid"; then
    say "the machine did not shut down within 90 s; cutting its power"
    kill "$pid" 2>/dev/null || true
    sleep 1
  fi
  rm -f "$dir/qemu.pid" "$dir/console"
}
