//! `sarai-bench-trainer`: the trainer beside PyTorch + PEFT, on a model of the product's true size under its memory
//! limit, what the embedded model learns of made-up facts, and what people wait meanwhile. `scripts/bench-trainer` calls it.

mod facts;
mod latency;
mod learning;
mod memory;
mod program;
mod speed;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use sarai_tests::measure::arguments::Arguments;
use sarai_tests::measure::figures::Figures;
use sarai_tests::measure::machine;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("sarai-bench-trainer: a promised number was missed");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("sarai-bench-trainer: failed to {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool> {
    let mut given = Arguments::of_program()?;
    let parts: String = given.need("--parts")?;
    let model: PathBuf = given.need("--model")?;
    let json: Option<PathBuf> = given.take("--json")?;
    let python: Option<PathBuf> = given.take("--python")?;
    let rounds: Option<usize> = given.take("--rounds")?;
    let shape: Option<PathBuf> = given.take("--shape")?;
    let config: Option<PathBuf> = given.take("--config")?;
    let seed: Option<u64> = given.take("--seed")?;
    given.end()?;
    let mut figures = Figures::default();
    figures.say(format!("{}, 2 threads", machine::processor()));
    // What one part cannot do takes nothing from the others.
    let mut failed = Vec::new();
    for part in parts.split(',') {
        let measured = match (part, &python, &shape) {
            ("speed", Some(python), _) => speed::measure(&mut figures, &model, python, rounds.unwrap_or(3)),
            ("memory", _, Some(shape)) => memory::measure(&mut figures, shape),
            ("learning", _, _) => {
                learning::measure(&mut figures, &model, config.as_deref(), seed.unwrap_or(1))
            }
            ("latency", _, _) => latency::measure(&mut figures, &model),
            ("speed" | "memory", _, _) => bail!("measure {part}: --python or --shape is missing"),
            _ => bail!("measure {part}: there is speed, memory, learning and latency"),
        };
        if let Err(error) = measured {
            eprintln!("{part}: failed to {error:#}");
            failed.push(part);
        }
    }
    let hold = figures.publish(json.as_deref())?;
    ensure!(failed.is_empty(), "measure {}", failed.join(", "));
    Ok(hold)
}
