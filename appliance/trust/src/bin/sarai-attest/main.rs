//! `sarai-attest`: makes and verifies attestations, reads and pins the models manifest.
//!
//! For publishers and for the scripts. It signs nothing: signatures are made by the publisher's own `gpg` or `sq`.
//! It writes nothing but the document of `create` and the digests of `manifest pin`, never enables fs-verity,
//! and talks to no network.

mod create;
mod manifest;
mod verify;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use sarai_trust::{Hashes, TrustError, hash_file};

#[derive(Parser)]
#[command(
    version,
    about = "Makes and verifies attestations; reads and pins the models manifest"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the attestation document of a file, ready to be signed
    Create(Box<create::Args>),
    /// Verify a file by the document and the signature beside it
    Verify(verify::Args),
    /// Read, check or pin the models manifest
    Manifest(manifest::Args),
    /// Print size, SHA-256 and fs-verity digest of a file
    Digest {
        /// The file
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Create(args) => create::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Manifest(args) => manifest::run(&args),
        Command::Digest { file, json } => digest(&file, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // A reader such as `head` that has seen enough is no failure.
        Err(e)
            if e.downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            // The stable name first: scripts and tests look for it.
            let name = e
                .chain()
                .find_map(|e| e.downcast_ref::<TrustError>())
                .map(TrustError::name);
            match name {
                Some(name) => eprintln!("sarai-attest: {name}: failed to {e:#}"),
                None => eprintln!("sarai-attest: failed to {e:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn digest(path: &Path, json: bool) -> anyhow::Result<()> {
    let hashes = hash(path)?;
    let mut out = std::io::stdout().lock();
    if json {
        let value =
            serde_json::json!({ "size": hashes.size, "sha256": hashes.sha256, "verity": hashes.verity });
        writeln!(out, "{value}")?;
    } else {
        writeln!(
            out,
            "size   {}\nsha256 {}\nverity {}",
            hashes.size, hashes.sha256, hashes.verity
        )?;
    }
    Ok(())
}

/// Both digests of a regular file, with a progress bar on a terminal.
fn hash(path: &Path) -> anyhow::Result<Hashes> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    if !file
        .metadata()
        .with_context(|| format!("stat {}", path.display()))?
        .is_file()
    {
        return Err(TrustError::NotAFile {
            path: path.to_owned(),
        }
        .into());
    }
    let mut bar = Bar::new("hashing");
    let hashes = hash_file(&file, &mut |done, total| bar.show(done, total));
    hashes.with_context(|| format!("read {}", path.display()))
}

/// A progress bar that appears for large files only; without a terminal nothing is drawn.
struct Bar {
    label: &'static str,
    bar: Option<indicatif::ProgressBar>,
}

impl Bar {
    /// Below this, hashing takes less than a blink.
    const LARGE: u64 = 64 * 1024 * 1024;

    fn new(label: &'static str) -> Self {
        Self { label, bar: None }
    }

    fn show(&mut self, done: u64, total: u64) {
        if total < Self::LARGE {
            return;
        }
        let label = self.label;
        let bar = self.bar.get_or_insert_with(|| {
            let style = indicatif::ProgressStyle::with_template(
                "{prefix} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            let bar = indicatif::ProgressBar::new(total).with_prefix(label);
            if let Ok(style) = style {
                bar.with_style(style)
            } else {
                bar
            }
        });
        bar.set_position(done);
        if done >= total {
            bar.finish_and_clear();
        }
    }
}
