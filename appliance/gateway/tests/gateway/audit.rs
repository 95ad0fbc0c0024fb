//! Every loop leaves a record, and no record ever holds up a request.

use std::path::Path;
use std::time::{Duration, Instant};

use sarai_audit::{Event, Hash, Loop, Record, Signed, Source, verify};
use sarai_wire::birth::{AuditReport, AuditStart, FromGateway, ToGateway};
use sarai_wire::engine::ErrorKind;
use serde_json::json;

use crate::engine::{Script, answers};
use crate::world::{World, world_of};

const FILE: &str = "audit-00000001.jsonl";

fn world(script: Script, folder: &Path, content: bool) -> World {
    world_of(script, None, &[], |start| {
        start.audit = Some(AuditStart {
            folder: folder.to_owned(),
            content,
        });
    })
}

/// Ends the gateway; the last thing it said about its log.
fn end(world: &mut World) -> AuditReport {
    world.gateway.say(&ToGateway::Stop);
    let mut last = None;
    while let Some(message) = world.gateway.hear_or_end() {
        if let FromGateway::Audit(report) = message {
            last = Some(report);
        }
    }
    assert!(world.gateway.wait(Duration::from_secs(10)).success());
    last.unwrap()
}

fn records(folder: &Path) -> Vec<Record> {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn loops(folder: &Path) -> Vec<Loop> {
    records(folder)
        .into_iter()
        .filter_map(|record| match record.event {
            Event::Loop(entry) => Some(*entry),
            _ => None,
        })
        .collect()
}

fn proven(folder: &Path, report: &AuditReport) {
    let head = report.head.as_ref().unwrap();
    let signed = Signed {
        head: sarai_audit::Head {
            file: head.file,
            line: head.line,
            sha256: Hash::parse(&head.sha256).unwrap(),
        },
        time: "now".into(),
    };
    let source = Source {
        number: 1,
        reader: Box::new(std::fs::File::open(folder.join(FILE)).unwrap()),
    };
    let proof = verify(vec![source], &[signed], 64).unwrap();
    assert_eq!((proof.signed, proof.unsigned, proof.unclean), (1, 0, 0));
}

#[test]
fn a_loop_is_recorded_with_the_hashes_of_what_was_said_and_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(
        answers(&[("", 0.9), ("Paris it is.", 0.95)]),
        folder.path(),
        false,
    );
    let question = "What is the capital of France?";
    let body = world
        .client
        .chat(&json!({"messages": [{"role": "user", "content": question}]}))
        .json();
    let metrics = || {
        let reply = world.client.get("/metrics");
        String::from_utf8_lossy(&reply.body).into_owned()
    };
    let until = Instant::now() + Duration::from_secs(10);
    while !metrics().contains("sarai_audit_records_total 2") {
        assert!(Instant::now() < until, "{}", metrics());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(metrics().contains("sarai_audit_lost_total 0"));
    let report = end(&mut world);
    assert_eq!((&report.trouble, report.lost), (&None, 0));
    proven(folder.path(), &report);
    let kinds: Vec<bool> = records(folder.path())
        .iter()
        .map(|r| matches!(r.event, Event::Loop(_)))
        .collect();
    assert_eq!(kinds, [false, true, false]);
    let entry = loops(folder.path()).remove(0);
    let prompt = format!(r#"[{{"role":"user","content":"{question}"}}]"#);
    assert_eq!(entry.prompt, Some(Hash::of(prompt.as_bytes())));
    let answer = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(entry.answer, Some(Hash::of(answer.as_bytes())));
    assert_eq!((entry.client.as_str(), entry.chosen), ("first", Some(2)));
    assert_eq!(entry.steps[0].sha256, Hash::of(b""));
    assert_eq!(entry.steps[0].findings.len(), 1);
    assert_eq!(
        (entry.steps[1].phase.as_str(), entry.steps[1].ended.as_str()),
        ("revision", "complete")
    );
    assert_eq!(entry.stopped.as_deref(), body["omni_loop"]["stopped"].as_str());
    assert_eq!(entry.digest.unwrap(), "0123456789abcdef".repeat(4));
    assert_eq!(
        (entry.prompts.id.as_str(), entry.prompts.sha256.len()),
        ("built-in", 64)
    );
    let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
    for said in ["capital", "Paris", "empty."] {
        assert!(!text.contains(said), "{text}");
    }
}

#[test]
fn a_request_that_fails_or_is_left_is_recorded_too() {
    let folder = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let script: Script = std::sync::Arc::new(move |_, talk| {
        if next.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0 {
            talk.fail(ErrorKind::ContextLength, "too long");
        } else {
            talk.started();
            talk.words("Paris ", 0.9);
            talk.wait_for_close(Duration::from_secs(20));
        }
    });
    let mut world = world(script, folder.path(), false);
    assert_eq!(world.client.chat(&json!({})).status, 400);
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    drop(stream);
    world.primary.wait_for_cancelled(1, Duration::from_secs(10));
    proven(folder.path(), &end(&mut world));
    let failed: Vec<Option<String>> = loops(folder.path())
        .into_iter()
        .map(|entry| entry.failed)
        .collect();
    assert_eq!(failed[0].as_deref(), Some("context_length"));
    assert!(
        matches!(failed[1].as_deref(), Some("left" | "cancelled")),
        "{failed:?}"
    );
}

#[test]
fn texts_are_kept_where_the_admin_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = world(answers(&[("Paris it is.", 0.95)]), folder.path(), true);
    assert_eq!(world.client.chat(&json!({})).status, 200);
    end(&mut world);
    let content = loops(folder.path()).remove(0).content.unwrap();
    assert_eq!(
        (content.answer.as_str(), content.steps.len()),
        ("Paris it is.", 1)
    );
    assert_eq!(content.messages[0].role, "user");
}

#[test]
fn a_log_that_cannot_be_written_is_told_and_holds_up_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("missing");
    let mut world = world(answers(&[("Paris it is.", 0.95)]), &folder, false);
    for _ in 0..3 {
        assert_eq!(world.client.chat(&json!({})).status, 200);
    }
    let FromGateway::Audit(report) = world.gateway.hear() else {
        panic!("it says nothing about its log");
    };
    assert!(report.trouble.unwrap().contains("missing"));
    // Once there is a folder, what was lost is in the log.
    std::fs::create_dir(&folder).unwrap();
    world.gateway.say(&ToGateway::Stop);
    while world.gateway.hear_or_end().is_some() {}
    assert!(world.gateway.wait(Duration::from_secs(10)).success());
    let lost: u64 = records(&folder).iter().map(|record| record.lost).sum();
    assert_eq!(lost, 3);
}
