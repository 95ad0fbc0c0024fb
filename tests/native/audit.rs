//! The audit log of a real appliance: written, signed, proven, and broken on purpose. And the words it speaks with:
//! signed like a model, refused like one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::{model, process, tree};
use serde_json::Value;

use crate::common::{pair, primary_answers};

const LOG: &str = "data/gateway/audit/audit-00000001.jsonl";

/// `sarai audit verify --json` of a whole log.
fn proof(a: &Appliance) -> Result<Value> {
    Ok(serde_json::from_str(
        &a.sarai_ok(&["audit", "verify", "--json"])?,
    )?)
}

/// Waits until as many loops are in the log as were asked for.
fn loops(a: &Appliance, count: u64) -> Value {
    tree::wait_for("the loops to be in the log", Duration::from_secs(20), || {
        let proof = proof(a)?;
        ensure!(proof["loops"] == count, "{proof}");
        Ok(proof)
    })
    .unwrap()
}

/// What `sarai audit verify` says of a broken log, which it must end with 1.
fn broken(a: &Appliance) -> String {
    let output = a.sarai(&["audit", "verify"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[test]
fn the_audit_log_is_proven_and_a_changed_record_is_named() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    for _ in 0..3 {
        primary_answers(&client).unwrap();
    }
    let proof = loops(&a, 3);
    assert_eq!((&proof["lost"], &proof["unclean"]), (&0.into(), &0.into()));
    let shown = a.sarai_ok(&["audit", "show", "-n", "2"]).unwrap();
    assert!(
        shown.contains("made-up-primary") && shown.contains("tests"),
        "{shown}"
    );
    let text = fs::read_to_string(a.path(LOG)).unwrap();
    assert!(!text.contains("hello there"), "{text}");

    // The end is signed, and the next start goes on from there; a gateway that was killed leaves a note.
    a.stop(Duration::from_secs(20)).unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    primary_answers(&client).unwrap();
    let proof = loops(&a, 4);
    assert!(proof["signed"].as_u64() >= Some(1), "{proof}");
    assert_eq!(proof["unclean"], 0);
    process::signal(a.service_pid("gateway").unwrap(), Signal::SIGKILL).unwrap();
    tree::wait_for("the gateway", READY, || primary_answers(&client)).unwrap();
    let proof = loops(&a, 5);
    assert_eq!(proof["unclean"], 1, "{proof}");
    a.stop(Duration::from_secs(20)).unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    loops(&a, 5);

    // A line changed, a line taken out, and the end cut off.
    let whole = fs::read_to_string(a.path(LOG)).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let line = 1 + lines
        .iter()
        .position(|l| l.contains("\"kind\":\"loop\""))
        .unwrap();
    let changed = whole.replacen("\"chosen\":1", "\"chosen\":2", 1);
    assert_ne!(changed, whole);
    fs::write(a.path(LOG), changed).unwrap();
    let said = broken(&a);
    assert!(
        said.contains(&format!("audit-00000001.jsonl line {line}:")),
        "{said}"
    );
    let without: Vec<&str> = lines
        .iter()
        .enumerate()
        .filter(|(n, _)| *n != 3)
        .map(|(_, l)| *l)
        .collect();
    fs::write(a.path(LOG), without.join("\n") + "\n").unwrap();
    let said = broken(&a);
    // On a slow machine a minute passes before the first stop, and line 4 is signed: then its signature speaks first.
    let named = |line| said.contains(&format!("audit-00000001.jsonl line {line}:"));
    assert!(named(3) || named(4), "{said}");
    fs::write(a.path(LOG), lines[..2].join("\n") + "\n").unwrap();
    let said = broken(&a);
    assert!(said.contains("signed at"), "{said}");
    fs::write(a.path(LOG), &whole).unwrap();
    loops(&a, 5);

    // What is signed is guarded too.
    let folder = a.path("data/state/checkpoints");
    let document = fs::read_dir(&folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "toml"))
        .unwrap();
    let text = fs::read_to_string(&document).unwrap();
    fs::write(&document, text.replace("file = 1", "file = 2")).unwrap();
    assert!(broken(&a).contains("bad-signature"));
    fs::write(&document, text).unwrap();
    loops(&a, 5);
    a.stop(Duration::from_secs(20)).unwrap();
}

#[test]
fn texts_are_in_the_audit_log_only_when_the_admin_wants_them() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "[audit]\ncontent = true").unwrap();
    primary_answers(&a.keyed().unwrap()).unwrap();
    loops(&a, 1);
    let text = fs::read_to_string(a.path(LOG)).unwrap();
    assert!(text.contains("hello there"), "{text}");
    a.stop(Duration::from_secs(20)).unwrap();
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A file under fs-verity cannot be written, only replaced.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn signed_prompts_are_used_and_changed_ones_refused_by_name() {
    let _shared = tree::shared();
    let mut a = Appliance::prepare(&pair().unwrap(), "").unwrap();
    model::install_prompts(&a.path("data/models"), &a.publisher).unwrap();
    a.start().unwrap();
    let status = a.wait_ready(READY).unwrap();
    assert_eq!(status.prompts.id.as_deref(), Some("omni-loop"));
    assert_eq!(status.prompts.signer, Some(a.publisher.fingerprint().unwrap()));
    assert_eq!(status.prompts.refused, None);
    primary_answers(&a.keyed().unwrap()).unwrap();
    loops(&a, 1);
    let sha256 = status.prompts.sha256.unwrap();
    let log = fs::read_to_string(a.path(LOG)).unwrap();
    assert!(log.contains(&format!(
        "\"id\":\"omni-loop\",\"version\":\"1.0.0\",\"sha256\":\"{sha256}\""
    )));

    flip(&a.path("data/models/omni-loop.prompts"));
    a.sarai_ok(&["restart", "gateway"]).unwrap();
    let status = a
        .wait_status("the prompts to be refused", READY, |s| {
            s.ready && s.prompts.refused.is_some() && s.prompts.id.is_some()
        })
        .unwrap();
    assert_eq!(status.prompts.id.as_deref(), Some("built-in"));
    assert!(status.prompts.refused.unwrap().starts_with("wrong-digest: "));
    assert!(
        status
            .problems
            .iter()
            .any(|p| p.contains("omni-loop.prompts") && p.contains("wrong-digest")),
        "{:?}",
        status.problems
    );
    let human = String::from_utf8(a.sarai(&["status"]).unwrap().stdout).unwrap();
    assert!(
        human.contains("omni-loop.prompts refused: wrong-digest"),
        "{human}"
    );
    tree::wait_for("an answer with the built-in prompts", READY, || {
        primary_answers(&a.keyed()?)
    })
    .unwrap();

    // Without a file the built-in ones are used, and nothing is wrong.
    fs::remove_file(a.path("data/models/omni-loop.prompts")).unwrap();
    a.sarai_ok(&["restart", "gateway"]).unwrap();
    let status = a
        .wait_status("the built-in prompts", READY, |s| {
            s.ready && s.prompts.refused.is_none() && s.prompts.id.is_some()
        })
        .unwrap();
    assert_eq!(status.prompts.id.as_deref(), Some("built-in"));
    assert!(
        !status.problems.iter().any(|p| p.contains("prompts")),
        "{:?}",
        status.problems
    );
    a.stop(Duration::from_secs(20)).unwrap();
}
