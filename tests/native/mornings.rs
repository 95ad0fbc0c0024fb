//! What comes of a night: cut off while it measures, its adapter in use by day and taken back when people judge its
//! answers worse, also by judgments that take the place of others; and a base on which numbers break.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::gguf::{Flaw, Tiny};
use sarai_tests::model::{self, Artifact};
use sarai_tests::tree;
use sarai_wire::adapter::Standing;
use sarai_wire::night::{Judgments, NightResult, NightStage, Sums};
use serde_json::{Value, json};

use crate::common::{primary_answers, short};
use crate::nights::{
    SHORT, adapter_of, adapters, four, judge, last, left, run, started_again, status, teach, wait_stage,
};

/// From a judgment to what the supervisor makes of it: the gateway tells every few seconds.
const HEARD: Duration = Duration::from_secs(120);

/// The judgments that hold of answers with the adapter whose digest begins like that, or none, as the supervisor remembers
/// them.
fn judged(a: &Appliance, adapter: Option<&str>) -> Result<Judgments> {
    // Whatever is ordered has what is known written down.
    a.sarai_ok(&["training", "on"])?;
    let state: Value = serde_json::from_slice(&fs::read(a.path("data/state/training.json"))?)?;
    let days = state["days"].as_array().context("no days")?;
    let of = days
        .iter()
        .filter(|day| match (day["adapter"].as_str(), adapter) {
            (Some(found), Some(wanted)) => found.starts_with(wanted),
            (found, wanted) => found == wanted,
        });
    of.map(|day| Ok(serde_json::from_value::<Sums>(day["sums"].clone())?))
        .try_fold(Sums::default(), |sums, day: Result<Sums>| Ok(sums.and(day?)))
        .map(|sums| sums.newest())
}

/// Waits until the supervisor has heard of so many.
fn heard(a: &Appliance, adapter: Option<&str>, count: u64) -> Result<Judgments> {
    tree::wait_for("the judgments to be heard of", HEARD, || {
        let judged = judged(a, adapter)?;
        ensure!(judged.judged == count, "{judged:?}, not {count}");
        Ok(judged)
    })
}

/// A primary of two layers, which is soon measured, and a fallback.
fn models(folder: &Path, flaw: Option<Flaw>) -> Result<[Artifact; 2]> {
    let path = folder.join("primary.gguf");
    Tiny {
        flaw,
        ..Tiny::default()
    }
    .write(&path)?;
    let primary = Artifact::new("primary", "made-up-primary", &path, 2048)?;
    Ok([primary, model::tiny("fallback")?])
}

#[test]
fn an_adapter_whose_answers_are_judged_worse_is_taken_back_by_itself() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let mut a = Appliance::start_with(&models(folder.path(), None).unwrap(), SHORT).unwrap();
    let clients = four(&a).unwrap();
    // Good as they were, and corrected for the night to have something to learn.
    judge(
        &clients,
        0,
        12,
        &|id| json!({"completion_id": id, "score": 0.9, "correction": "It is painted in bright red."}),
    )
    .unwrap();
    heard(&a, None, 48).unwrap();

    // It ends while it measures, as by a power cut: the next one has no more to train.
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "the measurement", |stage| *stage == NightStage::Measuring);
    a.kill().unwrap();
    started_again(&mut a);
    let night = last(&a).unwrap();
    assert!(
        matches!(&night.result, NightResult::Failed { reason, resumes: true } if reason.contains("in the middle")),
        "{night:?}"
    );
    let (night, _) = run(&a).unwrap();
    assert!(a.log().contains("going on from step"), "{}", a.log());
    let NightResult::Applied { adapter } = &night.result else {
        panic!("{night:?}");
    };
    let in_use = |a: &Appliance| -> Result<bool> {
        let all = adapters(a)?;
        let stored = all
            .iter()
            .find(|stored| stored.name == *adapter)
            .context("gone")?;
        Ok(stored.standing == Standing::InUse)
    };
    assert!(in_use(&a).unwrap());
    let answer = clients[0].chat(&short()).unwrap().ok().unwrap();
    let digest = answer["omni_loop"]["adapter"]["digest"]
        .as_str()
        .unwrap()
        .to_owned();

    // As good as before, by fewer answers than their confidences would be compared for: it stays.
    let ids = judge(&clients, 1, 6, &|id| json!({"completion_id": id, "score": 0.9})).unwrap();
    let good = heard(&a, Some(&digest), 24).unwrap();
    assert!((good.score - 24.0 * 0.9).abs() < 1e-6, "{good:?}");
    assert!(in_use(&a).unwrap());
    assert_eq!(status(&a).unwrap().counts.taken_back, 0);

    // The same answers were bad, people say now: no answer more, and no judgment more that holds.
    for (client, ids) in clients.iter().zip(&ids) {
        for id in ids {
            let judgment = json!({"completion_id": id, "score": 0.1});
            client.post("/v1/feedback", &judgment).unwrap().ok().unwrap();
        }
    }
    tree::wait_for("the adapter to be taken back", HEARD, || {
        ensure!(!in_use(&a)?, "{:?}", judged(&a, Some(&digest)));
        Ok(())
    })
    .unwrap();
    let answer = primary_answers(&clients[0]).unwrap();
    assert_eq!(adapter_of(&answer).unwrap(), None);
    let said = |a: &Appliance| {
        let told = status(a).unwrap();
        let later = told.nights[0].later.clone().unwrap_or_default();
        assert!(
            later.contains("taken back by itself: the mean score of answers fell from 0.900 (of 48) to ")
                && later.ends_with("(of 24)"),
            "{later}"
        );
        assert_eq!(told.counts.taken_back, 1);
    };
    tree::wait_for("that it is said", READY, || {
        let problems = a.status()?.problems;
        ensure!(
            problems
                .iter()
                .any(|problem| problem.contains("taken back by itself")),
            "{problems:?}"
        );
        ensure!(status(&a)?.counts.taken_back == 1);
        Ok(())
    })
    .unwrap();
    said(&a);
    // Nobody was disturbed by it, and it stays so.
    assert!(a.status().unwrap().services.iter().all(|s| s.restarts == 0));
    a.stop(Duration::from_secs(30)).unwrap();
    started_again(&mut a);
    said(&a);
    assert!(!in_use(&a).unwrap());
    a.stop(Duration::from_secs(30)).unwrap();
}

#[test]
fn numbers_that_break_end_the_night_with_that_reason_and_nothing_is_applied() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let models = models(folder.path(), Some(Flaw::Steep)).unwrap();
    let mut a = Appliance::start_with(&models, SHORT).unwrap();
    let clients = four(&a).unwrap();
    // It serves as any other.
    primary_answers(&clients[0]).unwrap();
    teach(&clients, 0, 12).unwrap();
    let (night, said) = run(&a).unwrap();
    let NightResult::Failed { reason, resumes } = &night.result else {
        panic!("{night:?}");
    };
    assert!(
        reason.contains("is not finite, after 3 returns to a good state") && !resumes,
        "{night:?}"
    );
    assert!(said.contains("is not finite"), "{said}");
    assert!(adapters(&a).unwrap().is_empty());
    assert_eq!(left(&a), Vec::<String>::new());
    assert_eq!(adapter_of(&primary_answers(&clients[0]).unwrap()).unwrap(), None);
    let told = status(&a).unwrap();
    assert_eq!((told.counts.failed, told.counts.applied), (1, 0));
    let now = a.status().unwrap();
    assert!(
        now.services.iter().all(|s| s.restarts == 0) && now.problems.is_empty(),
        "{now:#?}"
    );
    a.stop(Duration::from_secs(30)).unwrap();
}
