//! `sarai-quantise IN OUT TYPE`: makes a smaller model of a model.
//!
//! A tool for the workshop, not for the image. It writes beside `OUT` and renames, so `OUT` is whole or absent,
//! and the same input gives the same bytes on every machine and with any number of threads.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sarai_engine::llama::backend::Backend;
use sarai_engine::llama::quantise::{Type, quantise};

const USAGE: &str = "usage: sarai-quantise IN OUT TYPE [--threads N]";

struct Arguments {
    from: PathBuf,
    to: PathBuf,
    kind: Type,
    threads: usize,
}

fn arguments(mut given: Vec<String>) -> Result<Arguments> {
    let mut threads = std::thread::available_parallelism().map_or(1, usize::from);
    if let Some(at) = given.iter().position(|word| word == "--threads") {
        let count = given.get(at + 1).with_context(|| USAGE)?;
        threads = count
            .parse()
            .with_context(|| format!("failed to read the thread count {count:?}"))?;
        given.drain(at..at + 2);
    }
    if !(1..=256).contains(&threads) {
        bail!("threads must be 1 to 256");
    }
    let [from, to, kind] = given.as_slice() else {
        bail!("{USAGE}\ntypes: {}", Type::names().collect::<Vec<_>>().join(" "));
    };
    let kind = Type::parse(kind).with_context(|| {
        format!(
            "unknown type {kind:?}; known: {}",
            Type::names().collect::<Vec<_>>().join(" ")
        )
    })?;
    Ok(Arguments {
        from: from.into(),
        to: to.into(),
        kind,
        threads,
    })
}

fn run() -> Result<()> {
    let given = arguments(std::env::args().skip(1).collect())?;
    let before = fs::metadata(&given.from)
        .with_context(|| format!("failed to read {}", given.from.display()))?
        .len();
    let backend = Backend::start().context("failed to start llama.cpp")?;
    let mut aside = given.to.clone().into_os_string();
    aside.push(format!(".{}.part", std::process::id()));
    let aside = PathBuf::from(aside);
    let made = quantise(&backend, &given.from, &aside, given.kind, given.threads)
        .map_err(anyhow::Error::from)
        .and_then(|()| commit(&aside, &given.to));
    if made.is_err() {
        let _ = fs::remove_file(&aside);
    }
    let after = made.with_context(|| format!("failed to make {}", given.to.display()))?;
    println!(
        "{} {before} bytes -> {} {after} bytes",
        given.from.display(),
        given.to.display()
    );
    Ok(())
}

fn commit(aside: &Path, to: &Path) -> Result<u64> {
    let file = File::open(aside)?;
    file.sync_all()?;
    fs::rename(aside, to)?;
    let folder = to
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(file.metadata()?.len())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sarai-quantise: {error:#}");
            ExitCode::FAILURE
        }
    }
}
