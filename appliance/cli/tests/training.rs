//! `sarai training` against a supervisor that speaks the real wire.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use sarai_wire::control::{Reply, Request};
use sarai_wire::night::{Night, NightCounts, NightResult, NightStage, TrainingStatus};
use support::{Supervisor, err, out};

fn status(now: NightStage, nights: Vec<Night>) -> Reply {
    Reply::Training(Box::new(TrainingStatus {
        enabled: true,
        next: Some("2026-01-03T02:00:00+01:00".into()),
        now,
        nights,
        counts: NightCounts::default(),
        merge: None,
    }))
}

fn night(began: &str, result: NightResult) -> Night {
    Night {
        began: began.into(),
        seconds: 7,
        result,
        examples: None,
        figures: None,
        later: None,
    }
}

fn old() -> Night {
    night(
        "2026-01-01T02:00:00Z",
        NightResult::Skipped { reason: "old".into() },
    )
}

/// A supervisor whose night runs for three looks and ends with this.
fn ending(result: NightResult) -> Supervisor {
    let looks = AtomicU32::new(0);
    Supervisor::start(move |request| {
        let running = vec![old()];
        vec![match request {
            Request::TrainingStatus => match looks.fetch_add(1, Ordering::SeqCst) {
                0 => status(NightStage::Choosing, running),
                1 | 2 => status(
                    NightStage::Training {
                        progress: None,
                        paused: false,
                    },
                    running,
                ),
                _ => status(
                    NightStage::Idle,
                    vec![night("2026-01-02T02:00:00Z", result.clone()), old()],
                ),
            },
            _ => status(NightStage::Choosing, running),
        }]
    })
}

#[test]
fn a_night_is_waited_for_and_says_how_it_ended() {
    for (result, said, code) in [
        (
            NightResult::Applied {
                adapter: "night-1".into(),
            },
            "applied after 7 s: night-1 is in use",
            0,
        ),
        (
            NightResult::Skipped {
                reason: "3 new examples".into(),
            },
            "skipped after 7 s: 3 new examples",
            0,
        ),
        (
            NightResult::Failed {
                reason: "train: it broke".into(),
                resumes: true,
            },
            "failed after 7 s: failed to train: it broke; the next one goes on",
            1,
        ),
    ] {
        let output = ending(result).sarai(&["training", "run", "--wait"]);
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert_eq!(out(&output).trim(), said);
        // Each stage once.
        let told = err(&output);
        assert_eq!(told.matches("chooses what is learnt").count(), 1, "{told}");
        assert_eq!(told.matches("trains").count(), 1, "{told}");
    }
}

#[test]
fn a_night_that_may_not_begin_is_an_error_and_the_rest_is_told() {
    let supervisor = Supervisor::start(|request| {
        vec![match request {
            Request::TrainingRun => Reply::Error {
                message: "failed to begin a night: one runs".into(),
            },
            Request::TrainingOff => status(NightStage::Measuring, vec![]),
            _ => status(NightStage::Idle, vec![old()]),
        }]
    });
    let refused = supervisor.sarai(&["training", "run", "--wait"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(err(&refused), "sarai: failed to begin a night: one runs\n");
    assert_eq!(
        out(&supervisor.sarai(&["training", "off"])),
        "nights are off; the one that runs is ending\n"
    );
    assert_eq!(
        out(&supervisor.sarai(&["training", "on"])),
        "nights are on; the next one begins 2026-01-03T02:00:00+01:00\n"
    );
    let text = out(&supervisor.sarai(&["training", "status"]));
    assert!(
        text.contains("skipped") && text.contains("nothing runs"),
        "{text}"
    );
    let json: TrainingStatus =
        serde_json::from_str(&out(&supervisor.sarai(&["training", "status", "--json"]))).unwrap();
    assert_eq!(json.nights, [old()]);
    assert_eq!(supervisor.requests()[0], Request::TrainingRun);
}
