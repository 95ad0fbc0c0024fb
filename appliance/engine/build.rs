//! Puts llama.cpp's shared libraries and ggml's CPU variants where the binaries look for them.
//!
//! The layout next to the binaries is the one of the image: `lib/` holds the libraries under the names the
//! loader asks for, `backends/` holds one module per instruction level. Both are real files, so that the folder
//! can be copied as it is.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Libraries the binaries link; `libllama-common` is not among them on purpose: it drags in OpenSSL.
const LIBRARIES: [&str; 3] = ["libllama.so.0", "libggml.so.0", "libggml-base.so.0"];

/// Variants at or above the floor (AVX2, FMA, F16C, BMI2). Keep in step with `src/llama/cpu.rs`.
const VARIANTS: [&str; 9] = [
    "haswell",
    "alderlake",
    "skylakex",
    "cannonlake",
    "cascadelake",
    "icelake",
    "cooperlake",
    "zen4",
    "sapphirerapids",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let backends = PathBuf::from(
        env::var("DEP_LLAMA_BACKENDS_DIR").map_err(|_| "llama-cpp-sys-2 lacks `dynamic-backends`")?,
    );
    let libraries = backends
        .parent()
        .ok_or("the backends folder has no parent")?
        .join("lib");
    // OUT_DIR is PROFILE/build/CRATE-HASH/out.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let profile = out
        .ancestors()
        .nth(3)
        .ok_or("OUT_DIR is not inside a profile folder")?;

    for folder in [
        profile.to_path_buf(),
        profile.join("deps"),
        profile.join("examples"),
    ] {
        remove_dangling_links(&folder)?;
    }
    for name in LIBRARIES {
        stage(&libraries.join(name), &profile.join("lib").join(name))?;
    }
    for variant in VARIANTS {
        let name = format!("libggml-cpu-{variant}.so");
        stage(&backends.join(&name), &profile.join("backends").join(&name))?;
    }

    // DT_RPATH, not DT_RUNPATH: the libraries need each other and carry no path of their own.
    for kind in ["bins", "tests"] {
        println!("cargo:rustc-link-arg-{kind}=-Wl,--disable-new-dtags");
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-rpath,$ORIGIN/lib");
    println!("cargo:rustc-link-arg-tests=-Wl,-rpath,$ORIGIN/../lib");
    Ok(())
}

/// llama-cpp-sys-2 leaves links to nowhere beside the binaries, and its own next build (another feature, another
/// version) fails on finding them. Nothing uses them.
fn remove_dangling_links(folder: &Path) -> io::Result<()> {
    for name in [
        "libllama.so",
        "libllama-common.so",
        "libggml.so",
        "libggml-base.so",
    ] {
        let path = folder.join(name);
        if path.is_symlink() && !path.exists() {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Copies what `from` points at to `to` unless it is there already. By rename, because a running engine may
/// have the old file mapped.
fn stage(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", from.display());
    println!("cargo:rerun-if-changed={}", to.display());
    let wanted = fs::read(from).map_err(|e| format!("failed to read {}: {e}", from.display()))?;
    match fs::read(to) {
        Ok(found) if found == wanted => return Ok(()),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let folder = to.parent().ok_or("a staged file has no folder")?;
    fs::create_dir_all(folder)?;
    let aside = to.with_extension(format!("staging-{}", std::process::id()));
    fs::write(&aside, wanted)?;
    fs::rename(&aside, to)?;
    Ok(())
}
