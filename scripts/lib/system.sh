# shellcheck shell=bash
# For the scripts that install, build and start things: packages, toolchain, folders. Sourced, never run.
# shellcheck disable=SC2034 # what is set here is for the scripts

# shellcheck source=scripts/lib/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

root=$SARAI_ROOT
release=$(target_dir)/release
# What is downloaded once: the image's kernel and busybox.
cache=${SARAI_CACHE:-$root/.sarai/cache}

say() { printf '%s\n' "$*" >&2; }
step() { if [[ -t 2 && -z ${NO_COLOR:-} ]]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else say "==> $*"; fi; }
usage_error() {
  say "$SARAI_SCRIPT: $* (see --help)"
  exit 2
}
# The comment at the head of a script is its help.
help_of() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$1"; }

is_debian() { command -v apt-get >/dev/null && command -v dpkg-query >/dev/null; }

# Runs as root: directly, or through sudo after asking once. Without a terminal sudo must not need a password.
may_sudo=${may_sudo:-}
as_root() {
  if ((EUID == 0)); then "$@"; return; fi
  command -v sudo >/dev/null || die "this needs root and there is no sudo; as root: $*"
  if [[ -t 0 ]]; then sudo "$@"; else sudo -n "$@" || die "sudo asks for a password and there is no terminal; first run: sudo $*"; fi
}

# Packages of a list that are not installed.
missing_packages() {
  local package
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || printf '%s\n' "$package"
  done
}

apt_refreshed=
apt_refresh() {
  [[ -n $apt_refreshed ]] && return
  as_root apt-get update -qq || die "failed to read the package lists (apt-get update)"
  apt_refreshed=1
}

# Installs what is missing. Asks before sudo, except with --yes (may_sudo=1), as root, or without a terminal.
install_packages() {
  local missing answer
  mapfile -t missing < <(missing_packages "$@")
  ((${#missing[@]})) || return 0
  if ((EUID != 0)) && [[ -z $may_sudo && -t 0 ]]; then
    say "To go on, these Debian packages must be installed with sudo: ${missing[*]}"
    read -r -p "Install them now? [Y/n] " answer >&2 || answer=n
    [[ ${answer,,} =~ ^(y|yes|)$ ]] || die "not installed; do it yourself: sudo apt-get install ${missing[*]}"
  fi
  step "installing ${missing[*]}"
  apt_refresh
  local log
  log=$(mktemp)
  if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends \
    "${missing[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "failed to install ${missing[*]}"
  fi
  rm -f "$log"
}

# Elsewhere than on Debian nothing is installed; what is missing is named.
need_programs() {
  local program missing=()
  for program in "$@"; do command -v "$program" >/dev/null || missing+=("$program"); done
  ((${#missing[@]} == 0)) || die "missing: ${missing[*]}; scripts/setup --list names what is needed"
}

# A Rust toolchain that is new enough; rustup's usual folder counts even where the profile was not read.
need_cargo() {
  local wanted have
  command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  command -v cargo >/dev/null || die "no Rust toolchain: install one from https://rustup.rs, then try again"
  wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
  have=$(cd "$root" && cargo --version | awk '{print $2}')
  printf '%s\n%s\n' "$wanted" "${have%%-*}" | sort -CV || die "Rust $wanted or newer is needed, cargo is $have: rustup update"
}

# SHA-256 of what the standard input holds.
sum() { sha256sum | cut -d' ' -f1; }
