# shellcheck shell=bash
# What every script here shares. Source it first thing:
#
#   set -euo pipefail
#   . "$(dirname "${BASH_SOURCE[0]}")/lib/common.sh"
#
# Messages go to standard error; standard output is for results that another program may read.

SARAI_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SARAI_SCRIPT=$(basename "$0")

# note TEXT...: what is being done.
note() { printf '%s: %s\n' "$SARAI_SCRIPT" "$*" >&2; }

# die TEXT...: what is wrong and what to do; ends the script.
die() {
    printf '%s: error: %s\n' "$SARAI_SCRIPT" "$*" >&2
    exit 1
}

# need_value OPTION COUNT: fails if an option that takes a value is the last argument.
need_value() { [ "$2" -ge 2 ] || die "$1 needs a value; see --help"; }

# need_command NAME HINT: fails unless the command is there.
need_command() { command -v "$1" >/dev/null 2>&1 || die "$1 is not installed; $2"; }

# is_noise FILE: whether it is a model of scripts/shape-model: its first metadata field says so.
is_noise() { head -c 64 -- "$1" | tr -d '\0' | grep -aqF sarai.noise; }

# target_dir: where cargo puts what it builds.
target_dir() {
    local dir=${CARGO_TARGET_DIR:-$SARAI_ROOT/target}
    case $dir in /*) ;; *) dir=$SARAI_ROOT/$dir ;; esac
    printf '%s\n' "$dir"
}

# program NAME PACKAGE: prints the path of one of the project's programs; builds it if it is not there.
# SARAI_PROGRAMS may name a folder to look in first.
program() {
    local path
    for path in ${SARAI_PROGRAMS:+"$SARAI_PROGRAMS/$1"} "$(target_dir)/release/$1"; do
        if [ -x "$path" ]; then
            printf '%s\n' "$path"
            return
        fi
    done
    need_command cargo "see https://rustup.rs, or set SARAI_PROGRAMS to the folder that holds $1"
    note "building $1"
    cargo build --release --locked --manifest-path "$SARAI_ROOT/Cargo.toml" -p "$2" >&2 ||
        die "cannot build $1"
    path=$(target_dir)/release/$1
    [ -x "$path" ] || die "package $2 was built but did not make $1"
    printf '%s\n' "$path"
}

# make_scratch: a private folder in $scratch, removed when the script ends.
make_scratch() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/sarai.XXXXXXXX")
    trap remove_scratch EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

remove_scratch() {
    [ -n "${scratch:-}" ] || return 0
    if [ -n "${agent_to_end:-}" ]; then gpgconf --kill all >/dev/null 2>&1 || true; fi
    rm -rf -- "$scratch"
}

# use_gnupghome DIR: sets GNUPGHOME so that gpg works in DIR however long its path is (needs make_scratch). The
# agent's socket lives in that folder, and a socket's path has at most 107 bytes: a short link stands for a long
# one. An agent that was not running before is told to end with the script.
use_gnupghome() {
    GNUPGHOME=$(cd "$1" && pwd -P)
    if [ ${#GNUPGHOME} -gt 70 ]; then
        ln -sfn "$GNUPGHOME" "$scratch/gnupg"
        GNUPGHOME=$scratch/gnupg
    fi
    export GNUPGHOME
    agent_to_end=yes
    # It succeeds without an agent, too; only a living one answers with its number.
    if gpg-connect-agent --no-autostart 'getinfo pid' /bye 2>/dev/null | grep -q '^D '; then agent_to_end=''; fi
}
