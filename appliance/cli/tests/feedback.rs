//! `sarai feedback` against a supervisor that hands over real files.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sarai_wire::control::{Reply, Request};
use sarai_wire::feedback::Forget;
use support::{Supervisor, err, out};

/// A judgment as the gateway writes it.
fn line(id: &str, key: &str, score: f64, question: &str) -> String {
    let record = serde_json::json!({"feedback": {
        "id": format!("fb-{id}"), "time": "2026-01-02T03:04:05Z",
        "judgment": {"score": score, "correction": "better"},
        "completion": {
            "id": id, "key": key, "time": "2026-01-02T03:04:00Z", "model": "m", "digest": "ab".repeat(32),
            "confidence": 0.5, "messages": [{"role": "user", "content": question}], "answer": "an answer",
        },
    }});
    record.to_string() + "\n"
}

/// Two files of a log with all that can be in one.
fn supervisor(folder: &Path) -> Supervisor {
    let forget = "{\"forget\":{\"time\":\"2026-01-02T03:04:06Z\",\"what\":{\"key\":\"gone\"}}}\n";
    let first = line("c1", "a", 0.1, "first") + &line("c2", "gone", 1.0, "secret") + "damage\n" + forget;
    let question = "steer\u{1b}[2J the   terminal ".repeat(10);
    let second = line("c1", "a", 0.9, "first") + &line("c3", "b", 0.75, &question);
    let files = [first, second].map(|text| {
        let path = folder.join(format!("{}", text.len()));
        std::fs::write(&path, text).unwrap();
        File::open(path).unwrap()
    });
    Supervisor::with_files(&Reply::Feedback { files: vec![1, 2] }, files.into())
}

#[test]
fn the_last_of_each_answer_is_listed_without_what_was_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = supervisor(folder.path());
    let output = supervisor.sarai(&["feedback", "list"]);
    assert!(output.status.success(), "{}", err(&output));
    let shown = out(&output);
    for wanted in ["TIME", "c1", "0.90", "c3", "0.75", "first"] {
        assert!(shown.contains(wanted), "{wanted:?} is missing in:\n{shown}");
    }
    for gone in ["0.10", "c2", "secret", "\x1b"] {
        assert!(!shown.contains(gone), "{gone:?} is in:\n{shown}");
    }
    assert_eq!(shown.lines().count(), 3);
    assert!(err(&output).contains("1 damaged lines"), "{}", err(&output));
    let json = out(&supervisor.sarai(&["feedback", "list", "--json", "-n", "1"]));
    let record: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(record["completion"]["id"], "c3");
    assert_eq!(record["judgment"]["score"], 0.75);
}

#[test]
fn all_of_it_is_exported_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let supervisor = supervisor(folder.path());
    let to = folder.path().join("export.jsonl");
    let export = || supervisor.sarai(&["feedback", "export", to.to_str().unwrap()]);
    let output = export();
    assert!(output.status.success(), "{}", err(&output));
    let text = std::fs::read_to_string(&to).unwrap();
    let ids: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["completion"]["id"].clone())
        .collect();
    assert_eq!(ids, ["c1", "c3"]);
    assert_eq!(
        std::fs::metadata(&to).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let again = export();
    assert_eq!(again.status.code(), Some(1));
    assert!(err(&again).contains("export.jsonl"), "{}", err(&again));
    assert_eq!(out(&supervisor.sarai(&["feedback", "export"])), text);
}

#[test]
fn what_is_to_be_forgotten_is_asked_for_by_its_kind() {
    let supervisor = Supervisor::start(|_| vec![Reply::Forgotten { records: 7 }]);
    for args in [&["c-1"][..], &["--key", "phone"], &["--everything"]] {
        let output = supervisor.sarai(&[&["feedback", "forget"], args].concat());
        assert!(output.status.success(), "{}", err(&output));
        assert!(out(&output).contains("7 judgments"));
    }
    let asked = [
        Forget::Completion { id: "c-1".into() },
        Forget::Key { name: "phone".into() },
        Forget::Everything,
    ];
    assert_eq!(
        supervisor.requests(),
        asked.map(|what| Request::FeedbackForget { what })
    );
}

#[test]
fn files_that_do_not_come_are_missed() {
    let supervisor = Supervisor::start(|_| vec![Reply::Feedback { files: vec![1] }]);
    let output = supervisor.sarai(&["feedback", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("1 files are named and 0 came"),
        "{}",
        err(&output)
    );
}
