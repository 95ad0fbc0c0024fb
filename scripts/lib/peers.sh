# shellcheck shell=bash
# llama.cpp's own programs, to measure the appliance beside. Sourced, never run; root is the tree, die ends a script.
# shellcheck disable=SC2154

peers=$root/.sarai/peers
peers_sdist=llama-cpp-python==0.3.36
peers_sdist_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

# Builds llama-server and llama-bench once (about ten minutes): the inference source (ggml, src, include) is the
# very one that the llama-cpp-sys-2 crate carries; the two programs' own files, which the crate leaves out, come
# from the source distribution of llama-cpp-python.
build_peers() {
  local crate name=llama_cpp_python-${peers_sdist#*==}
  [[ -x $peers/bin/llama-server && -x $peers/bin/llama-bench ]] && return
  command -v cmake >/dev/null || die "cmake is missing: scripts/setup installs it"
  crate=$(cargo metadata --format-version 1 --manifest-path "$root/Cargo.toml" |
    grep -o '"manifest_path":"[^"]*llama-cpp-sys-2-[^"]*"' | head -n 1 | cut -d'"' -f4)
  [[ -n $crate ]] || die "the llama-cpp-sys-2 crate is not in the cargo registry: run cargo fetch"
  crate=$(dirname "$crate")/llama.cpp
  mkdir -p "$peers"
  if [[ ! -e $peers/$name.tar.gz ]]; then
    echo "fetching the peers' own files …"
    # A pip of its own: Debian's python3 comes without one.
    [[ -x $peers/venv/bin/pip ]] || python3 -m venv "$peers/venv"
    "$peers/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$peers" "$peers_sdist"
  fi
  echo "$peers_sdist_sha256  $peers/$name.tar.gz" | sha256sum -c --quiet - || die "$name.tar.gz is not the pinned file"
  rm -rf "$peers/src" "$peers/build"
  mkdir "$peers/src"
  tar xzf "$peers/$name.tar.gz" -C "$peers/src" --strip-components=3 "$name/vendor/llama.cpp"
  local part
  for part in ggml src include; do
    rm -rf "${peers:?}/src/$part"
    cp -r "$crate/$part" "$peers/src/$part"
  done
  echo "building llama-server and llama-bench for this machine (GGML_NATIVE) …"
  cmake -S "$peers/src" -B "$peers/build" -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF >"$peers/build.log" 2>&1 || die "see $peers/build.log"
  cmake --build "$peers/build" -j "$(nproc)" --target llama-server llama-bench | tee -a "$peers/build.log" |
    grep -o '^\[ *[0-9]*%\]' | uniq | tr '\n' '\r' || die "see $peers/build.log"
  echo
  mkdir -p "$peers/bin"
  cp "$peers/build/bin/llama-server" "$peers/build/bin/llama-bench" "$peers/bin/"
}

# status_field STATUS EXPRESSION: of the JSON that `sarai status --json` prints, as `s`.
status_field() { python3 -c "import json,sys; s=json.load(sys.stdin); print($2)" <<<"$1"; }

# start_peer PROGRAM DIR STATUS PORT: starts llama-server on the model that the native run in DIR serves, with as
# many threads. Sets server (its process, for the caller to end), model and threads.
start_peer() {
  threads=$(status_field "$3" "len(next(x for x in s['services'] if x['name']=='engine-primary')['cpus'])")
  model=$2/data/models/$(status_field "$3" "next(m['file'] for m in s['models'] if m['role']=='primary')")
  mkdir -p "$peers"
  "$1" -m "$model" -c 4096 -np 2 -t "$threads" -tb "$threads" --no-webui \
    --host 127.0.0.1 --port "$4" >"$peers/server.log" 2>&1 &
  server=$!
  for _ in $(seq 100); do
    kill -0 "$server" 2>/dev/null || die "llama-server ended: see $peers/server.log"
    curl -fs "http://127.0.0.1:$4/health" >/dev/null 2>&1 && return
    sleep 0.2
  done
  kill "$server" 2>/dev/null || true
  die "llama-server did not get ready: see $peers/server.log"
}
