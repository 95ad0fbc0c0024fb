//! The trainer beside PyTorch + PEFT, in turn in one run: the same shape, rank, rows and threads.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::{median, mib, quantile};
use sarai_tests::tree;
use serde_json::Value;

use crate::program::{self, measured, number, random_rows};

/// Tokens of a row.
const LENGTH: u64 = 512;
/// Rows of a run.
const ROWS: u64 = 6;
/// Tokens of the vocabulary.
const VOCABULARY: u64 = 49152;
/// Rank of the adapters.
const RANK: u32 = 8;
/// Least part of the peer's speed, and largest part of its memory.
const SPEED: f64 = 1.0;
const MEMORY: f64 = 0.25;

/// Who is measured.
#[derive(Clone, Copy)]
enum Who {
    Trainer,
    /// PyTorch + PEFT as it is.
    Peer,
    /// The same, computing again on the way back what it did not keep.
    Sparing,
}

/// Figures of a side, round by round.
#[derive(Default)]
struct Side {
    tokens_per_second: Vec<f64>,
    /// MiB.
    peak: Vec<f64>,
}

/// Measures and adds the figures.
pub fn measure(figures: &mut Figures, model: &Path, python: &Path, rounds: usize) -> Result<()> {
    ensure!(rounds >= 3, "read --rounds: a median wants at least 3");
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    random_rows(model, VOCABULARY, ROWS, LENGTH, folder)?;
    let config = format!(
        "rank = {RANK}\nalpha = 16.0\nepochs = 1\nsequence_length = {LENGTH}\nheld_out_every = 1000\npatience = 0\nleast_steps = 0\n\
         threads = 2\n"
    );
    std::fs::write(folder.join("config.toml"), config)?;
    let [mut ours, mut peer, mut sparing] = [(); 3].map(|()| Side::default());
    let mut about = None;
    for round in 0..rounds {
        eprintln!("speed: round {} of {rounds}", round + 1);
        // Which of them first changes from round to round.
        let mut order = [Who::Trainer, Who::Peer, Who::Sparing];
        order.rotate_left(round % 3);
        for who in order {
            match who {
                Who::Trainer => {
                    let ended = measured(&mut program::trainer(model, folder)?)?;
                    let report = program::report(folder)?;
                    ours.take(number(&report, "/outcome/tokens_per_second")?, ended.peak);
                }
                Who::Peer => about = Some(theirs(python, folder, false, &mut peer)?),
                Who::Sparing => drop(theirs(python, folder, true, &mut sparing)?),
            }
        }
    }
    let about = about.context("measure the peer")?;
    let imported = mib(about["imported"].as_u64().unwrap_or(0));
    figures.say(format!(
        "speed: SmolLM2-135M, rank {RANK}, all seven matrices, rows of {LENGTH} tokens, loss of each, {ROWS} steps, \
         {rounds} rounds in turn; peer {}; it has {imported:.0} MiB once it is imported",
        about["versions"]
    ));
    let ratios = |of: fn(&Side) -> &Vec<f64>, to: &Side| -> Vec<f64> {
        std::iter::zip(of(&ours), of(to)).map(|(a, b)| a / b).collect()
    };
    let speed = ratios(|side| &side.tokens_per_second, &peer);
    let memory = ratios(|side| &side.peak, &peer);
    figures.push(
        Figure::new("tokens/s, trainer / PyTorch + PEFT", median(&speed), "x")
            .promised(Promise::AtLeast(SPEED))
            .noted(range(&speed, 2)),
    );
    figures.push(
        Figure::new("peak RSS, trainer / PyTorch + PEFT", median(&memory), "x")
            .promised(Promise::AtMost(MEMORY))
            .noted(range(&memory, 3)),
    );
    let sparing_speed = ratios(|side| &side.tokens_per_second, &sparing);
    let sparing_memory = ratios(|side| &side.peak, &sparing);
    let name = "trainer / PyTorch + PEFT with checkpointing";
    figures.push(Figure::new(
        format!("tokens/s, {name}"),
        median(&sparing_speed),
        "x",
    ));
    figures.push(Figure::new(
        format!("peak RSS, {name}"),
        median(&sparing_memory),
        "x",
    ));
    for (name, side) in [
        ("trainer", &ours),
        ("PyTorch + PEFT", &peer),
        ("PyTorch + PEFT with checkpointing", &sparing),
    ] {
        let speed = &side.tokens_per_second;
        figures.push(Figure::new(format!("tokens/s, {name}"), median(speed), "tok/s").noted(range(speed, 1)));
        figures.push(Figure::new(
            format!("peak RSS, {name}"),
            median(&side.peak),
            "MiB",
        ));
    }
    Ok(())
}

impl Side {
    fn take(&mut self, tokens_per_second: f64, peak: u64) {
        self.tokens_per_second.push(tokens_per_second);
        self.peak.push(mib(peak));
    }
}

fn range(of: &[f64], digits: usize) -> String {
    format!("{:.digits$} to {:.digits$}", quantile(of, 0.0), quantile(of, 1.0))
}

/// Runs the peer; gives what it said.
fn theirs(python: &Path, folder: &Path, sparing: bool, side: &mut Side) -> Result<Value> {
    let mut command = Command::new(python);
    command.arg(tree::root().join("tests/training/peer.py"));
    command.arg("--data").arg(folder.join("data.jsonl"));
    command.args(["--threads", "2", "--rank", &RANK.to_string(), "--alpha", "16"]);
    command.args(sparing.then_some("--checkpointing"));
    // Nothing is to be looked for anywhere, and no thread beyond the two.
    command.envs([
        ("HF_HUB_OFFLINE", "1"),
        ("OMP_NUM_THREADS", "2"),
        ("MKL_NUM_THREADS", "2"),
    ]);
    command.env_remove("OPENBLAS_CORETYPE");
    let ended = measured(&mut command)?;
    let said: Value = serde_json::from_str(ended.output.trim()).context("understand the peer")?;
    side.take(
        number(&said, "/tokens_per_second")?,
        ended.peak.max(said["peak"].as_u64().unwrap_or(0)),
    );
    Ok(said)
}
