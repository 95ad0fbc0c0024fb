//! `sarai-trainer merge`: a base and an adapter by path, a model in their place.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use sarai_trainer::training::{hex, output};
use sarai_trainer::{lora_file, merge};
use sha2::{Digest as _, Sha256};

use crate::aside::Aside;
use crate::hand::{open, open_hashed};

/// Time between two lines of progress.
const PAUSE: Duration = Duration::from_secs(5);

/// What is merged.
#[derive(Debug, Args)]
pub struct Merge {
    /// The base model (GGUF)
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// The adapter (GGUF, as this program or llama.cpp's tools write it)
    #[arg(long, value_name = "FILE")]
    adapter: PathBuf,
    /// Where the merged model goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Compute threads
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
}

/// Merges as it was told.
pub fn run(given: &Merge) -> Result<()> {
    let (base, base_digest) = open_hashed(&given.base)?;
    let adapter = lora_file::bytes(&open(&given.adapter)?, lora_file::MAX_BYTES)?;
    let adapter_digest = hex(&Sha256::digest(&adapter).into());
    let output = Aside::new(&given.output)?;
    let order = merge::Order {
        base: &base,
        base_digest: &base_digest,
        adapter: &adapter,
        adapter_digest: &adapter_digest,
        threads: given.threads.into(),
    };
    let mut said = Instant::now();
    let mut progress = |written: u64, all: u64| {
        if said.elapsed() >= PAUSE {
            said = Instant::now();
            let _ = writeln!(io::stderr(), "{} of {} MB", written / 1_000_000, all / 1_000_000);
        }
        ControlFlow::Continue(())
    };
    let mut merged = None;
    let written = output::write(&output.file, |to| {
        merged = Some(merge::merge(order, to, &mut progress)?);
        Ok(())
    })
    .with_context(|| format!("make {}", given.output.display()))?;
    output.commit()?;
    if let Some(merged) = merged {
        let _ = writeln!(
            io::stderr(),
            "{} weights updated; rounding took {:.1} % of the update\n{}  {} bytes",
            merged.tensors,
            100.0 * merged.lost,
            written.sha256,
            written.size
        );
    }
    Ok(())
}
