//! `sarai adapters merge` and `merged` against a supervisor that speaks the real wire.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::io::{Seek, Write};
use std::sync::atomic::{AtomicU32, Ordering};

use sarai_wire::control::{Reply, Request};
use sarai_wire::merge::{
    MergeEnd, MergeNow, MergeOutcome, MergeResult, MergeStage, MergeStatus, MergedModel, Merging,
};
use support::{Supervisor, err, out};

const BEGAN: &str = "2026-01-02T02:00:00Z";

fn running(stage: MergeStage) -> MergeStatus {
    MergeStatus {
        now: Some(MergeNow {
            id: Some("m-a".into()),
            adapter: "a".into(),
            began: BEGAN.into(),
            stage,
        }),
        // Of an earlier one, which is nobody's answer.
        last: Some(ended("2026-01-01T02:00:00Z", failed("old"))),
        models: vec![],
    }
}

fn ended(began: &str, result: MergeResult) -> MergeEnd {
    MergeEnd {
        adapter: "a".into(),
        began: began.into(),
        seconds: 7,
        result,
    }
}

fn failed(reason: &str) -> MergeResult {
    MergeResult::Failed {
        reason: reason.into(),
    }
}

fn merged() -> MergeResult {
    MergeResult::Merged {
        id: "m-a".into(),
        outcome: MergeOutcome {
            tensors: 14,
            lost: 0.004,
            size: 3 << 20,
            sha256: "ab".repeat(32),
        },
    }
}

fn model() -> MergedModel {
    MergedModel {
        id: "m-a".into(),
        version: "1+2".into(),
        size: 3 << 20,
        digest: "ab".repeat(32),
        signer: "F00D".into(),
    }
}

/// A supervisor whose merge runs for three looks and ends with this, or of which nothing is known any more.
fn ending(last: Option<MergeEnd>) -> Supervisor {
    let looks = AtomicU32::new(0);
    let merging = MergeStage::Merging {
        progress: Merging {
            written: 1 << 20,
            all: 4 << 20,
        },
        paused: false,
    };
    Supervisor::start(move |request| {
        let status = match request {
            Request::MergedList => match looks.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => running(merging),
                2 => running(MergeStage::Attesting),
                _ => MergeStatus {
                    now: None,
                    last: last.clone(),
                    models: vec![model()],
                },
            },
            _ => running(MergeStage::Verifying),
        };
        vec![Reply::Merges(Box::new(status))]
    })
}

#[test]
fn a_merge_is_waited_for_and_says_how_it_ended() {
    for (last, said, code) in [
        (
            Some(ended(BEGAN, merged())),
            "merged after 7 s: m-a, 3 MiB, 14 weights updated, 0.4 % of the update lost by rounding\n",
            0,
        ),
        (
            Some(ended(BEGAN, failed("merge: it broke"))),
            "failed after 7 s: failed to merge: it broke\n",
            1,
        ),
        // The supervisor began anew.
        (None, "", 1),
    ] {
        let supervisor = ending(last);
        let output = supervisor.sarai(&["adapters", "merge", "--wait"]);
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert_eq!(out(&output), said);
        // Each stage once.
        let told = err(&output);
        for stage in ["verifies", "merges", "attests"] {
            assert_eq!(told.matches(stage).count(), 1, "{told}");
        }
        let first = Request::AdaptersMerge { name: None, id: None };
        assert_eq!(supervisor.requests()[0], first);
    }
    let output = ending(Some(ended(BEGAN, merged()))).sarai(&["adapters", "merge", "a", "--wait", "--json"]);
    let status: MergeStatus = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (status.last.unwrap().result, status.models),
        (merged(), vec![model()])
    );
}

#[test]
fn what_is_refused_is_an_error_and_what_is_kept_is_told_taken_and_removed() {
    let supervisor = Supervisor::start(|request| {
        vec![match request {
            Request::AdaptersMerge { .. } => Reply::Error {
                message: "failed to begin a merge: a night runs".into(),
            },
            _ => Reply::Merges(Box::new(MergeStatus {
                models: vec![model()],
                ..MergeStatus::default()
            })),
        }]
    });
    let refused = supervisor.sarai(&["adapters", "merge", "a", "--id", "m", "--wait"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(err(&refused), "sarai: failed to begin a merge: a night runs\n");
    let text = out(&supervisor.sarai(&["adapters", "merged"]));
    assert!(
        text.contains("m-a") && text.contains("none is loaded here"),
        "{text}"
    );
    assert_eq!(
        out(&supervisor.sarai(&["adapters", "merged", "remove", "m-a"])),
        "m-a removed\n"
    );
    let (name, id) = (Some("a".to_owned()), Some("m".to_owned()));
    assert_eq!(
        supervisor.requests(),
        [
            Request::AdaptersMerge { name, id },
            Request::MergedList,
            Request::MergedRemove { id: "m-a".into() }
        ]
    );

    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"merged").unwrap();
    file.rewind().unwrap();
    let names = vec!["m-a.gguf".to_owned()];
    let supervisor = Supervisor::with_files(&Reply::Files { names }, vec![file]);
    let output = supervisor.sarai(&["adapters", "merged", "export", "m-a"]);
    assert!(output.status.success() && output.stdout.starts_with(b"m-a.gguf\0"));
    assert_eq!(&output.stdout[512..518], b"merged");
    let asked = Request::MergedExport { id: "m-a".into() };
    assert_eq!(supervisor.requests(), [asked]);
}
