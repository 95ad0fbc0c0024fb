# shellcheck shell=bash
# scripts/run's way to an appliance in a virtual machine. Sourced by scripts/run.
# shellcheck disable=SC2034,SC2154

# An emulated processor is some thirty times slower: what is a sign of death on a machine is normal there.
emulated_settings() {
  cat <<'END'

# The processor is emulated: everything takes some thirty times longer.
[engine]
silence_s = 900
startup_s = 3600
batch = 64

[gateway]
header_timeout_ms = 120000
body_timeout_ms = 600000
iteration_timeout_s = 600
deadline_s = 3600
primary_silence_ms = 600000
END
}

vm_run() {
  local vm=$dir/vm fingerprint ready=120
  mkdir -p "$vm"
  if [[ $accel == tcg ]]; then
    say "    KVM does not work here: the processor is emulated, expect about 1 token a second"
    ready=1800
    ask_options=(--temperature 0 --timeout 3600 --max-tokens 24 --effort minimal)
  fi
  step "making the image"
  cat "$common/rootfs-overlay/etc/sarai/sarai.toml" >"$vm/sarai.toml"
  [[ $accel == kvm ]] || emulated_settings >>"$vm/sarai.toml"
  "$root/scripts/build-vm-image" --out "$vm" --keyring "$dir/release/keyring" --models "$dir/models" \
    --profile "$profile" --settings "$vm/sarai.toml"
  fingerprint=$({ sha256sum <"$vm/initramfs.img"; cat "$vm/data.sum"; echo "$port $accel"; } | sum)
  if vm_pid "$vm" >/dev/null; then
    if [[ $(cat "$vm/fingerprint" 2>/dev/null) == "$fingerprint" ]]; then
      say "    it runs already (process $(vm_pid "$vm"))"
    else
      step "the image changed: starting it anew"
      vm_stop "$vm"
    fi
  fi
  if ! vm_pid "$vm" >/dev/null; then
    port_is_free "$port" || die "port $port is in use by something else; choose another with --port"
    # The disk in use keeps its keys over restarts; other models make a new one.
    if ! cmp -s "$vm/data.sum" "$vm/disk.sum" || [[ ! -s $vm/disk.img ]]; then
      rm -f "$vm/disk.sum"
      cp --sparse=always "$vm/data.img" "$vm/disk.img"
      cp "$vm/data.sum" "$vm/disk.sum"
    fi
    step "starting the virtual machine ($accel)"
    vm_start "$vm" "$port"
    echo "$fingerprint" >"$vm/fingerprint"
  fi
  step "waiting until it is ready (its console: $vm/console.log)"
  vm_wait_ready "$vm" "$ready" || {
    tail -n 40 "$vm/console.log" >&2
    die "it did not become ready within $ready s"
  }
  ask_sarai() { vm_command "$vm_dir" "$*" 120; }
  vm_dir=$vm
  ask_sarai ca | sed -n '/-----BEGIN CERTIFICATE-----/,/-----END CERTIFICATE-----/p' >"$vm/ca.crt"
  [[ -s $vm/ca.crt ]] || die "the machine did not show its certificate"
}

# Shows what the console says while it boots, then waits on the console's prompt until the appliance serves.
vm_wait_ready() {
  local vm=$1 end=$((SECONDS + $2)) offset=0 size answer
  until vm_wait_console "$vm" 0 "$prompt|$locked" 1; do
    vm_pid "$vm" >/dev/null && ((SECONDS < end)) || return 1
    size=$(stat -c %s "$vm/console.log")
    tail -c "+$((offset + 1))" "$vm/console.log" | head -c "$((size - offset))" | tr -d '\r' | sed 's/^/    | /' >&2
    offset=$size
  done
  while ((SECONDS < end)); do
    answer=$(vm_command "$vm" "wait --timeout 20" 60) || true
    if grep '^ready after' <<<"$answer" >/dev/null; then return; fi
    vm_pid "$vm" >/dev/null || return 1
    say "    | ${answer//$'\n'/$'\n'    | }"
  done
  return 1
}
