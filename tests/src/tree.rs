//! Where things are in the project's tree, and the one lock that keeps measurements apart.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Root of the project's tree.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Folder of the release binaries: `$SARAI_TEST_BIN`, else the folder this test or bench itself was built into.
pub fn binaries() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("SARAI_TEST_BIN") {
        return Ok(folder.into());
    }
    // .../release/deps/native-0123 or .../release/sarai-kpi -> .../release
    let me = std::env::current_exe().context("find the test's own executable")?;
    let mut folder = me.parent();
    if folder.is_some_and(|folder| folder.ends_with("deps")) {
        folder = folder.and_then(Path::parent);
    }
    Ok(folder
        .context("find the folder of the test's executable")?
        .to_path_buf())
}

/// Path of one of the project's programs.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = binaries()?.join(name);
    ensure!(
        path.exists(),
        "{} is missing; build it: cargo build --release --workspace --bins",
        path.display()
    );
    Ok(path)
}

/// Folder of the real models: `$SARAI_TEST_MODELS`, else `.sarai/models` in the tree.
#[must_use]
pub fn real_models() -> PathBuf {
    std::env::var_os("SARAI_TEST_MODELS").map_or_else(|| root().join(".sarai/models"), PathBuf::from)
}

/// Path of one real model file, or how to get it.
pub fn real_model(file: &str) -> Result<PathBuf> {
    let path = real_models().join(file);
    if !path.exists() {
        bail!(
            "{} is missing; fetch it: scripts/fetch-models tiny --to .sarai/models",
            path.display()
        );
    }
    Ok(path)
}

/// A Python with the packages of `tests/clients/requirements.txt`: `$SARAI_TEST_PYTHON`, else the tree's own.
pub fn python() -> Result<PathBuf> {
    let path = std::env::var_os("SARAI_TEST_PYTHON")
        .map_or_else(|| root().join(".sarai/venv/bin/python"), PathBuf::from);
    let has = Command::new(&path).args(["-c", "import openai"]).output();
    ensure!(
        has.is_ok_and(|output| output.status.success()),
        "{} has no openai package; make it: python3 -m venv .sarai/venv && .sarai/venv/bin/pip install -r \
         tests/clients/requirements.txt",
        path.display()
    );
    Ok(path)
}

static QUIET: RwLock<()> = RwLock::new(());

/// Taken by tests that measure no time: any number of them run together.
pub fn shared() -> RwLockReadGuard<'static, ()> {
    QUIET.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Taken by tests that measure time: they run alone.
pub fn alone() -> RwLockWriteGuard<'static, ()> {
    QUIET.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Asks `probe` every 20 ms until it gives a value. At the deadline the error says what was awaited and what
/// the last probe said.
pub fn wait_for<T>(what: &str, deadline: Duration, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match probe() {
            Ok(value) => return Ok(value),
            Err(e) if Instant::now() >= end => {
                return Err(e.context(format!("waited {deadline:?} for {what}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
