//! The trainer by hand: files by path, progress on the terminal, the result as JSON.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use sarai_trainer::adapter;
use sarai_trainer::training::control::{self, Control};
use sarai_trainer::training::session::{Files, session};
use sarai_trainer::training::{config, hex};
use sarai_wire::training::{FromTrainer, Outcome, Prepared, TrainerStart, TrainingConfig};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::aside::Aside;
use crate::merge_hand::{self, Merge};
use crate::shown::Shown;

/// Status when it was interrupted: there is no adapter yet, and the same command goes on.
const INTERRUPTED: u8 = 3;

/// Trains a LoRA adapter on a quantised base model, on the CPU.
///
/// Ends with 0 when the adapter is there, 3 when it was interrupted (with --checkpoint the same command goes on), 1
/// when it failed.
#[derive(Debug, Parser)]
#[command(
    name = "sarai-trainer",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(flatten)]
    training: Option<Training>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes a base model with an adapter made part of it, in the base's own quantisation
    Merge(Merge),
}

/// What a training is given.
#[derive(Debug, Args)]
struct Training {
    /// The base model: GGUF of the architectures llama, qwen2 or qwen2vl
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The data set: JSON lines of tokens
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the adapter goes: GGUF as llama.cpp loads it
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The adapter to go on from: one that was trained before with the same rank, alpha and targets
    #[arg(long, value_name = "FILE")]
    initial: Option<PathBuf>,
    /// Keep checkpoints in PREFIX.a and PREFIX.b, and go on from them
    #[arg(long, value_name = "PREFIX")]
    checkpoint: Option<PathBuf>,
    /// Settings (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Compute threads, whatever the settings say
    #[arg(long, value_name = "N")]
    threads: Option<u32>,
    /// Write what came of it as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What `--json` writes.
#[derive(Debug, Default, Serialize)]
struct Report {
    prepared: Option<Prepared>,
    outcome: Option<Outcome>,
    /// Step and held-out loss of each measurement.
    measurements: Vec<(u64, f64)>,
    notes: Vec<String>,
}

/// The tool, from its first moment to its last.
pub fn main() -> ExitCode {
    let given = Arguments::parse();
    let end = match (&given.training, &given.command) {
        (_, Some(Command::Merge(given))) => merge_hand::run(given).map(|()| ExitCode::SUCCESS),
        (Some(given), None) => run(given),
        // clap asks for the one where the other is not.
        (None, None) => Err(anyhow::anyhow!("find anything to do: see --help")),
    };
    match end {
        Ok(status) => status,
        Err(error) => {
            let _ = writeln!(io::stderr(), "failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(given: &Training) -> Result<ExitCode> {
    let begin = Instant::now();
    let config = settings(given)?;
    let (base, base_digest) = open_hashed(&given.base)?;
    let (initial, initial_digest) = given.initial.as_deref().map(open_hashed).transpose()?.unzip();
    let output = Aside::new(&given.output)?;
    let checkpoints = given.checkpoint.as_deref().map(checkpoint_paths);
    let files = Files {
        base,
        data: open(&given.data)?,
        output: output.file.try_clone().context("write the adapter")?,
        checkpoints: match &checkpoints {
            Some(paths) => Some([keep(&paths[0])?, keep(&paths[1])?]),
            None => None,
        },
        initial,
    };
    control::obey_signals().context("hear signals")?;
    let start = TrainerStart {
        base: base_digest,
        config,
        initial: initial_digest,
    };
    let mut report = Report::default();
    let mut shown = Shown::new();
    let mut stopped = None;
    let ended = session(
        &start,
        files,
        adapter::open,
        &Arc::new(Control::with_signals()),
        begin,
        &mut |message| {
            shown.show(&message);
            report.take(&message);
            if let FromTrainer::Stopped { saved, .. } = message {
                stopped = Some(saved);
            }
        },
    );
    shown.end();
    ended?;
    if let Some(saved) = stopped {
        let what = if saved {
            "a checkpoint holds what was done"
        } else {
            "nothing was kept"
        };
        let _ = writeln!(io::stderr(), "interrupted; {what}");
        return Ok(ExitCode::from(INTERRUPTED));
    }
    output.commit()?;
    for path in checkpoints.iter().flatten() {
        // The adapter is there: what they are good for is done.
        let _ = fs::remove_file(path);
    }
    if let Some(path) = &given.json {
        let text = serde_json::to_vec_pretty(&report).context("write the result")?;
        let mut aside = Aside::new(path)?;
        aside
            .file
            .write_all(&text)
            .with_context(|| format!("write {}", path.display()))?;
        aside.commit()?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn take(&mut self, message: &FromTrainer) {
        match message {
            FromTrainer::Ready(prepared) => self.prepared = Some(prepared.clone()),
            FromTrainer::Done(outcome) => self.outcome = Some(outcome.clone()),
            FromTrainer::Note { text } => self.notes.push(text.clone()),
            FromTrainer::Progress(progress) => {
                if let Some(held_out) = progress.held_out
                    && self
                        .measurements
                        .last()
                        .is_none_or(|(_, last)| last.to_bits() != held_out.to_bits())
                {
                    self.measurements.push((progress.step, held_out));
                }
            }
            _ => {}
        }
    }
}

fn settings(given: &Training) -> Result<TrainingConfig> {
    let mut config = match &given.config {
        None => TrainingConfig::default(),
        Some(path) => {
            let mut text = String::new();
            open(path)?
                .take(config::MAX_BYTES + 1)
                .read_to_string(&mut text)
                .with_context(|| format!("read {}", path.display()))?;
            if text.len() as u64 > config::MAX_BYTES {
                bail!(
                    "read {}: it has more than {} bytes",
                    path.display(),
                    config::MAX_BYTES
                );
            }
            config::parse(&text)?
        }
    };
    if let Some(threads) = given.threads {
        config.threads = threads;
    }
    Ok(config)
}

/// Opens a file to read.
pub fn open(path: &Path) -> Result<File> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        bail!("open {}: it is not a file", path.display());
    }
    Ok(file)
}

/// The same, with its SHA-256, lower-case hex.
pub fn open_hashed(path: &Path) -> Result<(File, String)> {
    let file = open(path)?;
    let digest = digest(&file).with_context(|| format!("read {}", path.display()))?;
    Ok((file, digest))
}

/// SHA-256 of a file, lower-case hex.
fn digest(file: &File) -> io::Result<String> {
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut file = file;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&sum.finalize().into())),
            got => sum.update(&buffer[..got]),
        }
    }
}

fn checkpoint_paths(prefix: &Path) -> [PathBuf; 2] {
    ["a", "b"].map(|which| {
        let mut path = prefix.as_os_str().to_owned();
        path.push(format!(".{which}"));
        path.into()
    })
}

/// Opens a checkpoint as it is, or an empty one.
fn keep(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}
