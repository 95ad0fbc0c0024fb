//! What the embedded model learns of made-up facts, by llama.cpp's own judgement: it is asked in words that it never
//! saw, and general texts must not surprise it more than before.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::{process, tree};
use serde::Deserialize;
use serde_json::Value;

use crate::facts::{Fact, facts};
use crate::program::{self, number, sha256};

/// Facts to learn, and questions in other words to judge by.
const FACTS: usize = 40;
/// What is left of the held-out loss, at most.
const LOSS: f64 = 0.8;
/// What becomes of the loss of general texts, at most.
const GENERAL: f64 = 1.01;

/// Measures and adds the figures.
pub fn measure(figures: &mut Figures, model: &Path, config: Option<&Path>, seed: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let path = |name: &str| folder.join(name);
    let mut learnt = facts(seed, FACTS);
    std::fs::write(path("facts.json"), serde_json::to_vec(&learnt)?)?;
    learnt.extend(anchors()?);
    std::fs::write(path("learnt.json"), serde_json::to_vec(&learnt)?)?;
    let config = config
        .map_or(Ok(String::new()), std::fs::read_to_string)
        .context("read --config")?;
    std::fs::write(path("config.toml"), &config)?;
    let mut encode = learning()?;
    encode.arg("encode").arg(model).arg(sha256(model)?);
    process::output_of(encode.arg(path("learnt.json")).arg(path("data.jsonl")))?;
    eprintln!("learning: training");
    let trained = program::measured(&mut program::trainer(model, folder)?)?;
    let report = program::report(folder)?;
    eprintln!("learning: merging");
    let mut merge = Command::new(tree::program("sarai-trainer")?);
    merge.arg("merge").arg("--base").arg(model);
    merge
        .arg("--adapter")
        .arg(path("adapter.gguf"))
        .arg("--output")
        .arg(path("merged.gguf"));
    program::measured(&mut merge)?;
    let judge = |what: &str, model: &Path, adapter: Option<&Path>| -> Result<Value> {
        eprintln!("learning: asking {what}");
        let mut ask = learning()?;
        ask.arg("measure").arg(model).arg(path("facts.json"));
        ask.arg(tree::root().join("tests/training/general.txt"))
            .args(adapter);
        serde_json::from_str(&process::output_of(&mut ask)?).context("understand what was measured")
    };
    let before = judge("the base", model, None)?;
    let after = judge("with the adapter", model, Some(&path("adapter.gguf")))?;
    let merged = judge("the merged model", &path("merged.gguf"), None)?;
    figures.say(format!(
        "learning: {}, {FACTS} made-up facts (seed {seed}) in English and Spanish, each asked once; judged by llama.cpp on \
         {FACTS} questions in other words; settings: {}; step {} of {} kept, {:.0} s, {:.0} MiB",
        model.file_name().unwrap_or_default().to_string_lossy(),
        if config.is_empty() { "the defaults" } else { config.trim() }.replace('\n', ", "),
        report["outcome"]["best_step"],
        report["outcome"]["steps"],
        number(&report, "/outcome/seconds")?,
        sarai_tests::measure::mib(trained.peak),
    ));
    let loss = |of: &Value, split: &str| -> Result<f64> {
        Ok(number(of, &format!("/{split}/nll"))? / number(of, &format!("/{split}/tokens"))?)
    };
    let right = |of: &Value, split: &str| number(of, &format!("/{split}/right"));
    let (held_out, held_out_after) = (loss(&before, "held_out")?, loss(&after, "held_out")?);
    let (general, general_after) = (loss(&before, "general")?, loss(&after, "general")?);
    let from_to = |before: f64, after: f64| format!("{before:.3} -> {after:.3} nats a token");
    figures.push(
        Figure::new("held-out loss, after / before", held_out_after / held_out, "x")
            .promised(Promise::AtMost(LOSS))
            .noted(from_to(held_out, held_out_after)),
    );
    let gain = right(&after, "held_out")? - right(&before, "held_out")?;
    figures.push(
        Figure::new("held-out questions answered right, more than before", gain, "")
            .promised(Promise::AtLeast(1.0))
            .noted(format!(
                "{} -> {} of {FACTS}",
                right(&before, "held_out")?,
                right(&after, "held_out")?
            )),
    );
    figures.push(
        Figure::new("general loss, after / before", general_after / general, "x")
            .promised(Promise::AtMost(GENERAL))
            .noted(from_to(general, general_after)),
    );
    figures.push(
        Figure::new(
            "questions of the training answered right",
            right(&after, "train")?,
            "",
        )
        .noted(format!(
            "of {FACTS}; before {}; loss {}",
            right(&before, "train")?,
            from_to(loss(&before, "train")?, loss(&after, "train")?)
        )),
    );
    for (name, split) in [
        ("held-out", "held_out"),
        ("training", "train"),
        ("general", "general"),
    ] {
        let (with, merged_loss) = (loss(&after, split)?, loss(&merged, split)?);
        let figure = Figure::new(
            format!("merged: {name} loss, merged / adapter"),
            merged_loss / with,
            "x",
        );
        figures.push(figure.noted(from_to(with, merged_loss)));
    }
    figures.push(
        Figure::new(
            "merged: held-out questions answered right",
            right(&merged, "held_out")?,
            "",
        )
        .noted(format!(
            "of {FACTS}; of the training {}",
            right(&merged, "train")?
        )),
    );
    Ok(())
}

/// The general texts that the gateway ships to hold a training to what the base says.
fn anchors() -> Result<Vec<Fact>> {
    #[derive(Deserialize)]
    struct Text {
        ask: String,
        answer: String,
    }
    #[derive(Deserialize)]
    struct Texts {
        text: Vec<Text>,
    }
    let path = tree::root().join("appliance/gateway/src/night/suite/anchors.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let texts: Texts = toml::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    let anchor = |text: Text| Fact {
        split: "anchor",
        question: text.ask,
        answer: text.answer,
        key: String::new(),
    };
    Ok(texts.text.into_iter().map(anchor).collect())
}

/// The program that asks llama.cpp.
fn learning() -> Result<Command> {
    let folder = tree::binaries()?;
    let program = folder.join("examples/learning");
    ensure!(program.exists(), "find {}: build it", program.display());
    let mut command = Command::new(program);
    // llama.cpp's libraries, which the programs of the appliance find by themselves.
    command.env("LD_LIBRARY_PATH", folder.join("lib"));
    Ok(command)
}
