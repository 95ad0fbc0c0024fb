# shellcheck shell=bash
# The pieces of scripts/build-image; uses its variables.
# shellcheck disable=SC2154

pin() { sed -n "s/^$1=//p" "$external/buildroot.pin"; }

# Version of the source: that of Cargo.toml, with the commit unless it is the tag of that version, and whether there
# is anything that is in no commit.
image_version() {
  local version commit
  version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)
  if commit=$(git -C "$root" rev-parse --short=12 HEAD 2>/dev/null); then
    git -C "$root" describe --exact-match --match "v$version" >/dev/null 2>&1 || version+=-g$commit
    [[ -z $(git -C "$root" status --porcelain 2>/dev/null) ]] || version+=-dirty
  fi
  printf '%s\n' "$version"
}

# Time of the source: its last commit. Every date in the image is this one.
source_date() {
  if [[ -n ${SOURCE_DATE_EPOCH:-} ]]; then echo "$SOURCE_DATE_EPOCH"; return; fi
  git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/Cargo.lock"
}

# The pinned Buildroot, by its commit, unpacked in the cache; sets pinned. The commit's name already stands for its
# content; the SHA-256 of the content is compared besides.
fetch_buildroot() {
  local version commit sum from work
  version=$(pin version) commit=$(pin commit) sum=$(pin sha256)
  pinned=$cache/buildroot-$version
  [[ ! -f $pinned/Makefile ]] || return 0
  need_programs git
  work=$cache/buildroot.new
  rm -rf "$work"
  mkdir -p "$work/tree"
  git init -q --bare "$work/git"
  while read -r from; do
    step "fetching Buildroot $version from $from"
    if git -C "$work/git" fetch -q --depth 1 "$from" "$commit"; then
      git -C "$work/git" archive --format=tar "$commit" >"$work/tar"
      [[ $(sum <"$work/tar") == "$sum" ]] || die "$from has another Buildroot $version than the pinned one"
      tar xf "$work/tar" -C "$work/tree"
      mv "$work/tree" "$pinned"
      rm -rf "$work"
      return 0
    fi
  done < <(pin mirror)
  die "failed to fetch Buildroot $version; give one with --buildroot"
}

same_buildroot() {
  local have
  have=$(sed -n 's/^export BR2_VERSION := //p' "$1/Makefile")
  [[ $have == "$(pin version)" ]] || say "    Buildroot $have is not the pinned $(pin version): what comes out is another image"
}

# Buildroot's make, with nothing of this shell's that would change what it makes.
br() {
  env -u CARGO_TARGET_DIR -u RUSTFLAGS -u CARGO_ENCODED_RUSTFLAGS -u CARGO_HOME -u RUSTUP_TOOLCHAIN -u MAKEFLAGS -u LD_LIBRARY_PATH \
    FORCE_UNSAFE_CONFIGURE=1 BR2_DL_DIR="$dl" BR2_JLEVEL="$jobs" SOURCE_DATE_EPOCH="$(source_date)" SARAI_KEYRING="$keyring" SARAI_DEBUG_SHELL="$debug_shell" \
    make -C "$build" --no-print-directory "$@"
}

# The defconfig and the fragments after it. Left alone where nothing changed.
configure() {
  local wanted=$out/defconfig
  cat "$defconfig" ${fragments[@]+"${fragments[@]}"} >"$wanted.new"
  if [[ -n $override ]]; then
    cmp -s "$override" "$build/local.mk" || cp "$override" "$build/local.mk"
  else
    rm -f "$build/local.mk"
  fi
  if [[ ! -f $build/.config || ! -f $build/Makefile ]] || ! cmp -s "$wanted.new" "$wanted"; then
    step "configuring"
    BR2_DL_DIR=$dl make -C "$buildroot" -s O="$build" BR2_EXTERNAL="$external" BR2_DEFCONFIG="$wanted.new" defconfig \
      >"$out/configure.log" 2>&1 || { tail -n 20 "$out/configure.log" >&2; die "failed to configure"; }
    # Buildroot does not look whether a package that it has built would be built otherwise now; busybox is quick.
    ! compgen -G "$build/build/busybox-*/.stamp_configured" >/dev/null || br busybox-dirclean >>"$out/configure.log" 2>&1
  fi
  # The last word on a setting is the one that counts; Buildroot drops what it does not know or cannot do.
  "$external/board/sarai/common/check-options" BR2_ "$build/.config" "$wanted.new" >&2 ||
    die "Buildroot did not take these settings"
  mv "$wanted.new" "$wanted"
}

# The whole system, with one line for each step of each package.
build_system() {
  local begun=$SECONDS rc=0
  # What changed in the source tree since the last build; Buildroot itself looks only at what it unpacked.
  if [[ -d $build/build ]] && compgen -G "$build/build/sarai-[0-9]*/.stamp_built" >/dev/null; then
    br sarai-rebuild >"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; die "failed to build the programs: $out/build.log"; }
    if kernel_changed; then br linux-reconfigure >>"$out/build.log" 2>&1 || { tail -n 40 "$out/build.log" >&2; die "failed to build the kernel: $out/build.log"; }; fi
  else
    : >"$out/build.log"
  fi
  br all >>"$out/build.log" 2>&1 &
  local pid=$! shown=0 total
  while kill -0 "$pid" 2>/dev/null; do
    sleep 5
    total=$(grep -ac '>>>' "$out/build.log" || true)
    if ((total > shown)); then
      say "    $(printf '%3d:%02d' $(((SECONDS - begun) / 60)) $(((SECONDS - begun) % 60)))  $(grep -a '>>>' "$out/build.log" | tail -n 1 | tr -d '\033' | sed 's/\[[0-9;]*m//g; s/^>>> *//')"
      shown=$total
    fi
  done
  wait "$pid" || rc=$?
  if ((rc)); then
    tail -n 40 "$out/build.log" >&2
    die "the build failed after $(((SECONDS - begun) / 60)) minutes: $out/build.log"
  fi
}

# Whether the kernel's settings are newer than the kernel.
kernel_changed() {
  local stamp
  stamp=$(compgen -G "$build/build/linux-[0-9]*/.stamp_built" | head -n 1)
  [[ -n $stamp && -n $(find "$external/board" "$external/kernel.mk" -newer "$stamp" \( -name 'linux*' -o -name 'microcode*' -o -name '*.mk' \) -print -quit) ]]
}

# Bill of materials and licences.
collect_parts() {
  local source work=$out/parts
  rm -rf "$work"
  mkdir -p "$work"
  br -s show-info >"$work/info.json" || die "failed to list the packages"
  source=$(compgen -G "$build/build/sarai-[0-9]*" | head -n 1)
  (cd "$source" && env -u RUSTUP_TOOLCHAIN CARGO_HOME="$dl/br-cargo-home" "$build/host/bin/cargo" metadata --format-version 1 --locked --offline \
    --filter-platform "$arch-unknown-linux-gnu" >"$work/metadata.json" 2>"$work/metadata.log") || { cat "$work/metadata.log" >&2; die "failed to list the crates"; }
  (cd "$buildroot" && python3 "$root/scripts/lib/sbom.py" "$work/info.json" "$work/metadata.json" "$root/Cargo.lock" \
    sarai "${name#sarai-}" "$out/$name.sbom.json") || die "failed to write the bill of materials"
  br -s legal-info >"$out/legal-info.log" 2>&1 || { tail -n 20 "$out/legal-info.log" >&2; die "failed to collect the licences: $out/legal-info.log"; }
  # The sources themselves stay in build/legal-info: whoever gives the image away gives them, too.
  tar c -C "$build/legal-info" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(source_date)" --exclude=sources --exclude=host-sources . |
    zstd -q -19 -T"$jobs" >"$work/licences" || die "failed to pack the licences"
  mv -f "$work/licences" "$out/$name.licences.tar.zst"
  rm -rf "$work"
}

pack_image() {
  local image=$build/images/sarai.img limit=$((64 * 1024 * 1024)) bytes
  python3 "$root/scripts/lib/bmap.py" "$image" "$out/$name.img.bmap" || die "failed to map the image"
  zstd -q -19 -T"$jobs" -f "$image" -o "$out/.img.zst" || die "failed to pack the image"
  bytes=$(stat -c %s "$out/.img.zst")
  ((bytes <= limit)) || die "the packed image has $bytes bytes, more than $limit"
  mv -f "$out/.img.zst" "$out/$name.img.zst"
  (cd "$out" && sha256sum -- "$name".img.zst "$name".img.bmap "$name".sbom.json "$name".licences.tar.zst >SHA256SUMS)
}

sign_parts() {
  local file arguments=()
  make_scratch
  if [[ -z $key && -z $gnupghome ]]; then
    key=$("$root/scripts/dev-key" "$root/.sarai/release")
    gnupghome=$root/.sarai/release/gnupg
    say "    signed with the development key: not for others"
  fi
  [[ -z $gnupghome ]] || use_gnupghome "$gnupghome"
  [[ -z $key ]] || arguments=(--local-user "$key")
  for file in "$name".img.zst "$name".img.bmap "$name".sbom.json "$name".licences.tar.zst SHA256SUMS; do
    rm -f "$out/$file.asc"
    gpg --batch --yes --armor ${arguments[@]+"${arguments[@]}"} --output "$out/$file.asc" --detach-sign -- "$out/$file" ||
      die "failed to sign $file"
    gpg --batch --verify -- "$out/$file.asc" "$out/$file" 2>/dev/null || die "the signature of $file does not hold"
  done
}
