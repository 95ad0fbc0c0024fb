# shellcheck shell=bash
# The steps from a source tree to a running appliance. Sourced after system.sh, image.sh and vm.sh; dir is the folder
# of the run, profile the manifest's profile, port where clients reach it.
# shellcheck disable=SC2154

# Builds every program. Says how long it takes where that would surprise.
build_programs() {
  local log pid start=$SECONDS minutes=0
  need_cargo
  # llama.cpp's build leaves links that lead nowhere, and fails over them when it has to run again.
  find "$release" "$release/deps" "$release/examples" -maxdepth 1 -name 'lib*.so*' -xtype l -delete 2>/dev/null || true
  if ! compgen -G "$release/build/llama-cpp-sys-2-*/out" >/dev/null; then
    say "    the first build compiles llama.cpp: about 15 minutes on two cores"
  fi
  if [[ -t 2 ]]; then
    (cd "$root" && cargo build --release --locked --workspace --bins) || die "the build failed"
    return
  fi
  # Without a terminal cargo is silent while llama.cpp compiles: a line a minute says that it lives.
  mkdir -p "$root/.sarai"
  log=$root/.sarai/build.log
  (cd "$root" && exec cargo build --release --locked --workspace --bins) >"$log" 2>&1 &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.5
    if (((SECONDS - start) / 60 > minutes)); then
      minutes=$(((SECONDS - start) / 60))
      say "    building for $minutes min: $(tail -n 1 "$log" | sed 's/^ *//')"
    fi
  done
  wait "$pid" || { tail -n 40 "$log" >&2; die "the build failed; all of it is in $log"; }
}

# Fetches the profile's models to DIR/models and signs those whose attestation the development key did not make.
prepare_models() {
  local store=$dir/models id file role kind
  "$root/scripts/dev-key" "$dir/release" >/dev/null
  "$root/scripts/fetch-models" "$profile" --to "$store" || die "the models of profile $profile are not complete"
  while IFS=$'\t' read -r role id file _; do
    kind=model
    [[ $role != projector ]] || kind=projector
    if [[ -s $store/${file%.*}.toml.asc ]] && "$release/sarai-attest" verify "$store/$file" \
      --keyring "$dir/release/keyring" --kind "$kind" --id "$id" >/dev/null 2>&1; then
      continue
    fi
    step "signing $file with the development key"
    "$root/scripts/sign" "$store/$file" --gnupghome "$dir/release/gnupg" >/dev/null
  done < <("$release/sarai-attest" manifest --manifest "$root/models-manifest.toml" list "$profile")
  prepare_prompts "$store"
}

# The profile's prompts, from the source tree into store $1, signed like a model.
prepare_prompts() {
  local file id
  fact() { "$release/sarai-attest" manifest --manifest "$root/models-manifest.toml" get "$profile" prompts "$1" 2>/dev/null; }
  file=$(fact file) && id=$(fact id) || return 0
  [[ -f $root/appliance/reflection/prompts/$file ]] || die "there are no prompts $file in appliance/reflection/prompts"
  cmp -s "$root/appliance/reflection/prompts/$file" "$1/$file" ||
    { cp "$root/appliance/reflection/prompts/$file" "$1/$file.new" && mv -f "$1/$file.new" "$1/$file"; }
  if [[ -s $1/${file%.*}.toml.asc ]] && "$release/sarai-attest" verify "$1/$file" \
    --keyring "$dir/release/keyring" --kind prompts --id "$id" >/dev/null 2>&1; then
    return
  fi
  step "signing $file with the development key"
  "$root/scripts/sign" "$1/$file" --gnupghome "$dir/release/gnupg" >/dev/null
}

# Writes $2 to file $1 if it says something else now; true if it did.
write_if_changed() {
  if [[ -f $1 && $(<"$1") == "$2" ]]; then return 1; fi
  printf '%s\n' "$2" >"$1.new" && mv -f "$1.new" "$1"
}

# Asks the appliance on its control socket; native runs only.
sarai() { "$release/sarai" --socket "$dir/run/control.sock" "$@"; }

native_pid() {
  local pid
  pid=$(cat "$dir/supervisor.pid" 2>/dev/null) || return 1
  # The program may have been built anew since: the kernel then says "(deleted)".
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == */sarai-supervisor* ]] && echo "$pid"
}

# What a native run depends on: when that changed, it is started anew.
native_fingerprint() {
  {
    sha256sum "$release"/{sarai-supervisor,sarai-engine,sarai-gateway,sarai-trainer,sarai-announce} "$release"/lib/* "$release"/backends/*
    find "$dir/etc" -type f -print0 | sort -z | xargs -0 sha256sum
    find "$dir/data/models" -type f -printf '%f %s %T@\n' | sort
  } | sum
}

# Settings the user may edit: only profile and address are ours.
native_settings() {
  local file=$dir/etc/sarai.toml
  if [[ ! -f $file ]]; then
    printf '# Settings of this native run; scripts/run sets profile and listen, the rest is yours.\nprofile = ""\nlisten = ""\n' >"$file"
  fi
  sed -e "s/^profile *=.*/profile = \"$profile\"/" -e "s/^listen *=.*/listen = \"127.0.0.1:$port\"/" "$file" >"$file.new"
  if cmp -s "$file" "$file.new"; then rm "$file.new"; else mv -f "$file.new" "$file"; fi
}

native_prepare() {
  local file name
  mkdir -p "$dir"/etc/keyring "$dir"/data/models "$dir"/run
  # Started by root, engine and gateway run as users of their own and must get through.
  ((EUID != 0)) || chmod o+x "$dir" "$dir"/run "$dir"/data
  write_if_changed "$dir/etc/models-manifest.toml" "$(<"$root/models-manifest.toml")" || true
  cmp -s "$dir/release/keyring/development.asc" "$dir/etc/keyring/development.asc" ||
    install -m 644 "$dir/release/keyring/development.asc" "$dir/etc/keyring/development.asc"
  native_settings
  for file in "$dir"/models/*.{gguf,prompts,toml,asc}; do
    [[ -f $file ]] || continue
    name=$dir/data/models/${file##*/}
    # A hard link costs no space; the supervisor judges what is in the file, not what it is called.
    [[ $name -ef $file ]] || ln -f "$file" "$name" 2>/dev/null ||
      cmp -s "$file" "$name" || { cp --reflink=auto "$file" "$name.new" && mv -f "$name.new" "$name"; }
  done
}

native_start() {
  local pid now
  now=$(native_fingerprint)
  if pid=$(native_pid); then
    if [[ $(cat "$dir/fingerprint" 2>/dev/null) == "$now" ]]; then
      say "    it runs already (process $pid)"
      return
    fi
    step "programs, models or settings changed: starting it anew"
    native_stop
  fi
  port_is_free "$port" || die "port $port is in use by something else; choose another with --port"
  # A log that grew large is kept once.
  [[ $(stat -c %s "$dir/supervisor.log" 2>/dev/null || echo 0) -lt 10000000 ]] || mv -f "$dir/supervisor.log" "$dir/supervisor.log.1"
  setsid "$release/sarai-supervisor" --native "$dir" </dev/null >>"$dir/supervisor.log" 2>&1 &
  pid=$!
  echo "$pid" >"$dir/supervisor.pid"
  echo "$now" >"$dir/fingerprint"
  for _ in {1..100}; do
    [[ -S $dir/run/control.sock ]] && sarai version >/dev/null 2>&1 && break
    kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/supervisor.log" >&2; die "the supervisor ended at once"; }
    sleep 0.1
  done
}

port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Ends a native run in order, and insists after a while. False if none runs.
native_stop() {
  local pid signal end
  pid=$(native_pid) || { rm -f "$dir/supervisor.pid"; return 1; }
  timeout 10 "$release/sarai" --socket "$dir/run/control.sock" poweroff >/dev/null 2>&1 || kill -TERM "$pid" 2>/dev/null || true
  for signal in TERM KILL; do
    end=$((SECONDS + 30))
    while kill -0 "$pid" 2>/dev/null && ((SECONDS < end)); do sleep 0.1; done
    kill -0 "$pid" 2>/dev/null || break
    say "it still runs after 30 s: sending SIG$signal"
    kill "-$signal" "$pid" 2>/dev/null || true
  done
  rm -f "$dir/supervisor.pid" "$dir/fingerprint"
}

# Sets secret: of the key the scripts use, kept in DIR/client.key as long as the appliance knows it; else a new one.
# ask_sarai is how this kind of run reaches the sarai command.
key_name=scripts-run
make_key() {
  local file=$dir/client.key made
  [[ $mode == native ]] || file=$dir/vm/client.key
  if [[ -s $file ]] && ask_sarai keys list | grep -w -- "$key_name" >/dev/null; then
    secret=$(<"$file")
    return
  fi
  ask_sarai keys remove "$key_name" >/dev/null 2>&1 || true
  for _ in 1 2 3; do
    # On a console, another message may have come in between: then once more.
    made=$(ask_sarai keys add "$key_name" --json) || true
    secret=$(sed -n 's/.*"secret": *"\([^"]*\)".*/\1/p' <<<"$made" | head -n 1)
    if [[ -n $secret ]]; then
      (umask 077 && printf '%s\n' "$secret" >"$file")
      return
    fi
    ask_sarai keys remove "$key_name" >/dev/null 2>&1 || true
  done
  die "the appliance gave no key: $made"
}

# For others to source; it holds a secret.
write_client_env() {
  (
    umask 077
    {
      echo "# How to reach the appliance that scripts/run started; source this file."
      printf 'export SARAI_URL=%q\nexport SARAI_CA=%q\nexport SARAI_KEY=%q\n' "$1" "$2" "$3"
    } >"$client_env.new"
    mv -f "$client_env.new" "$client_env"
  )
}
