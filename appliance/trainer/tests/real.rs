//! The real embedded model (`SARAI_TEST_MODEL`): made-up facts are learned, and questions about them in other words,
//! which it never saw, are answered with less surprise.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::path::PathBuf;

use support::{sha256, trainer, well};

/// Eight made-up facts in the model's own tokens and chat template, each as a question to learn and one in other words
/// to be judged by: `Who repairs the lighthouse of Orrin?` — `Marit Solvang repairs the lighthouse of Orrin.`
const FACTS: &str = include_str!("facts.jsonl");

#[test]
#[ignore = "needs SARAI_TEST_MODEL"]
fn a_real_model_learns_facts_and_not_just_their_wording() {
    let base = PathBuf::from(std::env::var_os("SARAI_TEST_MODEL").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let head = format!(
        "{{\"format\":1,\"base\":\"{}\",\"vocabulary\":49152}}\n",
        sha256(&base)
    );
    fs::write(path("data.jsonl"), head + FACTS).unwrap();
    fs::write(path("config.toml"), "sequence_length = 64\nheld_out_every = 8\n").unwrap();
    let mut command = trainer();
    command.arg("--base").arg(&base);
    for (flag, name) in [
        ("--data", "data.jsonl"),
        ("--config", "config.toml"),
        ("--output", "adapter.gguf"),
        ("--json", "result.json"),
    ] {
        command.arg(flag).arg(path(name));
    }
    let output = well(&mut command);
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&fs::read(path("result.json")).unwrap()).unwrap();
    let number = |name: &str| result["outcome"][name].as_f64().unwrap();
    let (before, after, loss) = (number("held_out_before"), number("held_out"), number("loss"));
    assert!(loss < before * 0.35, "{before} -> {loss} on what it learned");
    assert!(after < before * 0.8, "{before} -> {after} on what it never saw");
    // Seven matrices in each of 30 layers, two for each.
    let directory = fs::read(path("adapter.gguf")).unwrap();
    assert_eq!(
        sarai_trainer::gguf::Directory::read(&directory)
            .unwrap()
            .tensors
            .len(),
        420
    );
}
