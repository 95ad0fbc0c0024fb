//! A model of the product's true size, trained under the memory limit that the appliance gives its trainer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::{gib, memory};

use crate::program::{self, measured, number, random_rows};

/// The limit, bytes.
const LIMIT: u64 = 4 << 30;
/// Tokens of a row, and rows.
const LENGTH: u64 = 512;
const ROWS: u64 = 2;
/// Tokens of Qwen2.5-Omni-3B's vocabulary.
const VOCABULARY: u64 = 151_936;

/// Measures and adds the figures.
pub fn measure(figures: &mut Figures, shape: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    random_rows(shape, VOCABULARY, ROWS, LENGTH, folder)?;
    // What a night has by default, but for the length of the course.
    let config = format!(
        "epochs = 1\nsequence_length = {LENGTH}\nheld_out_every = 1000\npatience = 0\nleast_steps = 0\nthreads = 2\n"
    );
    std::fs::write(folder.join("config.toml"), config)?;
    // The pages of the base are to be billed to the group.
    memory::forget(shape)?;
    let group = memory::Group::make("sarai-bench-trainer", LIMIT)?;
    let trainer = program::trainer(shape, folder)?;
    let procs = group.procs();
    // Into the group before it becomes the trainer.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg("echo $$ >\"$0\" && exec \"$@\"")
        .arg(&procs);
    command.arg(trainer.get_program()).args(trainer.get_args());
    eprintln!("memory: {ROWS} rows of {LENGTH} tokens");
    let ended = measured(&mut command)?;
    let report = program::report(folder)?;
    let kills = group.oom_kills()?;
    ensure!(
        kills == 0,
        "train within the limit: {kills} processes were ended for want of memory"
    );
    let peak = group.peak().context("find the group's peak")?;
    figures.say(format!(
        "memory: {} under {:.0} GiB ({} of a group of its own, pages of files included, no swap), rank 8, all seven \
         matrices, {ROWS} steps of {LENGTH} tokens",
        shape.file_name().unwrap_or_default().to_string_lossy(),
        gib(LIMIT),
        group.source()
    ));
    figures.push(
        Figure::new("3.1B: peak of the group", gib(peak), "GiB")
            .promised(Promise::AtMost(gib(LIMIT)))
            .noted("with what the kernel keeps of the base's file, as much as the limit leaves"),
    );
    figures.push(Figure::new("3.1B: peak of its own pages", gib(ended.own), "GiB"));
    figures.push(Figure::new("3.1B: peak RSS", gib(ended.peak), "GiB"));
    figures.push(Figure::new(
        "3.1B: speed",
        number(&report, "/outcome/tokens_per_second")?,
        "tok/s",
    ));
    Ok(())
}
