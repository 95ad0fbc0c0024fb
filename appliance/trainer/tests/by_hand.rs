//! The program by hand, on a base of random weights: what it learns, what it leaves, and how it goes on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sarai_trainer::gguf::Directory;
use sarai_trainer::made_up::Shape;
use sarai_trainer::model::Architecture;
use support::{World, sha256, wait_until, well};

fn json(world: &World) -> serde_json::Value {
    serde_json::from_slice(&fs::read(world.path("result.json")).unwrap()).unwrap()
}

#[test]
fn facts_are_learned_and_the_result_says_what_came_of_it() {
    for architecture in Architecture::ALL {
        let world = World::of(&Shape::tiny(architecture));
        world.settings("");
        well(&mut world.by_hand("adapter.gguf"));
        let result = json(&world);
        let outcome = &result["outcome"];
        let number = |of: &serde_json::Value| of.as_f64().unwrap();
        let (before, after) = (number(&outcome["held_out_before"]), number(&outcome["held_out"]));
        assert!(after < before * 0.2, "{architecture:?}: {before} -> {after}");
        assert!(number(&outcome["loss"]) < before * 0.2);
        assert_eq!(outcome["ended"], "finished");
        let adapter = world.path("adapter.gguf");
        assert_eq!(outcome["sha256"], sha256(&adapter));
        let bytes = fs::read(&adapter).unwrap();
        assert_eq!(outcome["size"], bytes.len());
        let directory = Directory::read(&bytes).unwrap();
        assert_eq!(directory.string("adapter.type"), Some("lora"));
        assert_eq!(
            directory.string("general.architecture"),
            Some(architecture.name())
        );
        assert_eq!(directory.tensors.len(), 2 * 2 * 7);
        assert_eq!(result["prepared"]["examples"], 6);
        assert_eq!(result["measurements"][0][0], 0);
        assert_eq!(
            world.files(),
            [
                "adapter.gguf",
                "base.gguf",
                "config.toml",
                "data.jsonl",
                "result.json"
            ]
        );
    }
}

/// The adapter of a training that nothing interrupts.
fn undisturbed(world: &World) -> String {
    well(&mut world.by_hand("whole.gguf"));
    sha256(&world.path("whole.gguf"))
}

fn begin(world: &World, threads: &str) -> Child {
    let mut command = world.by_hand("adapter.gguf");
    command.arg("--checkpoint").arg(world.path("kept"));
    command.args(["--threads", threads]).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Number of the checkpoint in one of the files, 0 where there is none.
fn sequence(world: &World, name: &str) -> u64 {
    let bytes = fs::read(world.path(name)).unwrap_or_default();
    bytes
        .get(16..24)
        .map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
}

#[test]
fn killed_again_and_again_it_ends_with_the_same_adapter() {
    let world = World::new();
    world.long_settings("");
    let whole = undisturbed(&world);
    let mut killed = 0;
    loop {
        let seen = sequence(&world, "kept.a").max(sequence(&world, "kept.b"));
        let mut child = begin(&world, ["1", "2"][killed % 2]);
        let mut ended = None;
        // A life is some more checkpoints long; where they are torn is up to chance.
        wait_until("progress", || {
            ended = child.try_wait().unwrap();
            ended.is_some() || sequence(&world, "kept.a").max(sequence(&world, "kept.b")) > seen + 130
        });
        let Some(status) = ended else {
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(!world.path("adapter.gguf").exists());
            killed += 1;
            continue;
        };
        assert!(status.success());
        break;
    }
    assert!(killed > 1, "{killed}");
    assert_eq!(sha256(&world.path("adapter.gguf")), whole);
    // What a finished training needs no longer is gone, and what killed ones wrote aside.
    assert_eq!(
        world.files(),
        [
            "adapter.gguf",
            "base.gguf",
            "config.toml",
            "data.jsonl",
            "result.json",
            "whole.gguf"
        ]
    );
}

#[test]
fn what_was_learned_is_gone_on_from() {
    let world = World::new();
    world.settings("");
    well(&mut world.by_hand("first.gguf"));
    let first = json(&world);
    let going_on = |output: &str| {
        let mut command = world.by_hand(output);
        command.arg("--initial").arg(world.path("first.gguf"));
        command
    };
    well(&mut going_on("second.gguf"));
    let second = json(&world);
    assert_eq!(second["prepared"]["continued"], true);
    assert_eq!(second["notes"], serde_json::json!([]));
    // The very numbers: they surprise as they did.
    assert_eq!(second["outcome"]["held_out_before"], first["outcome"]["held_out"]);
    let outcome = &second["outcome"];
    let first_before = first["outcome"]["held_out_before"].as_f64().unwrap();
    assert!(
        outcome["held_out"].as_f64().unwrap() < first_before * 0.2,
        "{outcome}"
    );
    // One of another scale is named, and it begins as without.
    world.settings("alpha = 4.0\n");
    well(&mut going_on("third.gguf"));
    let third = json(&world);
    assert_eq!(third["prepared"]["continued"], false);
    let note = third["notes"][0].as_str().unwrap();
    assert!(note.contains("its alpha is 16, not 4"), "{note}");
    well(&mut world.by_hand("fourth.gguf"));
    assert_eq!(
        sha256(&world.path("third.gguf")),
        sha256(&world.path("fourth.gguf"))
    );
}

#[test]
fn interrupted_in_order_it_leaves_a_checkpoint_and_goes_on_from_it() {
    let world = World::new();
    world.long_settings("");
    let whole = undisturbed(&world);
    let child = begin(&world, "2");
    wait_until("a checkpoint", || sequence(&world, "kept.a") > 4);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("interrupted; a checkpoint holds what was done"),
        "{said}"
    );
    assert_eq!(
        world.files(),
        [
            "base.gguf",
            "config.toml",
            "data.jsonl",
            "kept.a",
            "kept.b",
            "result.json",
            "whole.gguf"
        ]
    );
    let output = begin(&world, "1").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("going on from step"),
        "{said}"
    );
    assert_eq!(sha256(&world.path("adapter.gguf")), whole);
}

#[test]
fn what_cannot_be_trained_is_said_and_leaves_nothing() {
    let refused = |change: fn(&World)| {
        let world = World::new();
        world.settings("");
        change(&world);
        let before = world.files();
        let output = world.by_hand("adapter.gguf").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(world.files(), before);
        String::from_utf8(output.stderr).unwrap()
    };
    let said = refused(|world| {
        // One byte of a weight: it is another base now.
        let mut base = fs::read(world.path("base.gguf")).unwrap();
        *base.last_mut().unwrap() ^= 1;
        fs::write(world.path("base.gguf"), base).unwrap();
    });
    assert!(
        said.starts_with("failed to read the data set: line 1: its tokens are those of the base"),
        "{said}"
    );
    let said = refused(|world| fs::write(world.path("base.gguf"), b"GGUF").unwrap());
    assert!(said.starts_with("failed to "), "{said}");
    let said = refused(|world| fs::write(world.path("data.jsonl"), b"").unwrap());
    assert_eq!(said, "failed to read the data set: it is empty\n");
    let said = refused(|world| world.settings("rnak = 1\n"));
    assert!(said.contains("unknown field `rnak`"), "{said}");
    let said = refused(|world| world.settings("threads = 0\n"));
    assert!(said.contains("threads is 0, must be 1 to 64"), "{said}");
    let said = refused(|world| fs::remove_file(world.path("data.jsonl")).unwrap());
    assert!(said.contains("No such file"), "{said}");
}
