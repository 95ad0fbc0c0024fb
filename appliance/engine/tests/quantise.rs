//! The real quantiser on a made-up model, and a real engine on what it made.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};

use sarai_wire::birth::EngineParams;
use support::{Engine, Flaw, Tiny, small, user};

fn quantise(from: &Path, to: &Path, kind: &str, threads: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sarai-quantise"))
        .env_remove("LD_LIBRARY_PATH")
        .args([from, to])
        .args([kind, "--threads", threads])
        .output()
        .unwrap()
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let from = folder.path().join("from.gguf");
    Tiny::default().write(&from).unwrap();
    for kind in ["Q4_0", "Q4_1", "Q8_0", "IQ4_NL"] {
        let outputs = ["1", "2", "3"].map(|threads| {
            let to = folder.path().join(format!("{kind}-{threads}.gguf"));
            let output = quantise(&from, &to, kind, threads);
            assert!(output.status.success(), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("bytes ->"));
            fs::read(to).unwrap()
        });
        assert!(outputs[0].len() < fs::read(&from).unwrap().len());
        assert!(outputs.iter().all(|output| *output == outputs[0]), "{kind}");
    }
}

#[test]
fn a_repacked_model_says_the_same_with_any_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.gguf"), folder.path().join("to.gguf"));
    Tiny::default().write(&from).unwrap();
    assert!(quantise(&from, &to, "Q4_0", "1").status.success());
    let answer = |params: EngineParams| {
        let engine = Engine::start(&File::open(&to).unwrap(), params).unwrap();
        engine.ask(user("hello")).text()
    };
    let one = answer(small());
    assert_eq!(
        one,
        answer(EngineParams {
            cpus: Vec::new(),
            ..small()
        })
    );
    assert!(!one.is_empty());
}

#[test]
fn what_cannot_be_made_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from.gguf"), folder.path().join("to.gguf"));
    Tiny {
        flaw: Some(Flaw::Truncated),
        ..Tiny::default()
    }
    .write(&from)
    .unwrap();
    let output = quantise(&from, &to, "Q4_0", "1");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed to make"));
    assert!(!quantise(&from, &to, "Q9_9", "1").status.success());
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["from.gguf"]);
}
