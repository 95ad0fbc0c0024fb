//! How well an engine does with an adapter is measured by the gateway, behind everybody else; and how answers go is told.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sarai_wire::adapter::{Adapter, Apply};
use sarai_wire::birth::{FromGateway, ToGateway};
use sarai_wire::engine::FinishReason;
use sarai_wire::feedback::{FeedbackSettings, FeedbackStart};
use sarai_wire::night::{
    Judgments, MeasureAnswer, MeasureOrder, Measured, NightCounts, NightEnd, NightNotice, NightStage, Quality,
};
use sarai_wire::training::Progress;
use serde_json::json;

use crate::engine::{Script, TOO_LONG, answers, likelihood};
use crate::world::{World, world, world_of};

/// General texts, and questions, that ship.
const SHIPPED: (usize, usize) = (20, 32);

fn digest(pair: &str) -> String {
    pair.repeat(32)
}

/// Of the model that the test's engine runs.
fn base() -> String {
    "0123456789abcdef".repeat(4)
}

pub fn examples(targets: &[&str]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    for (n, target) in targets.iter().enumerate() {
        let message = json!({"role": "user", "content": format!("question {n}")});
        writeln!(file, "{}", json!({"messages": [message], "target": target})).unwrap();
    }
    file
}

fn order(adapter: Option<String>) -> MeasureOrder {
    MeasureOrder {
        base: base(),
        adapter,
        within_s: 600,
    }
}

fn send(world: &World, seq: u64, order: MeasureOrder, file: &File) {
    let order = ToGateway::Measure { seq, order };
    world.gateway.say_with(&order, &[file.as_raw_fd()]);
}

fn outcome(world: &World, seq: u64) -> Result<Measured, String> {
    match world.gateway.hear_within(Duration::from_secs(660)) {
        Some(FromGateway::Measured(MeasureAnswer { seq: theirs, outcome })) if theirs == seq => outcome,
        other => panic!("{other:?}"),
    }
}

pub fn measure(world: &World, order: MeasureOrder, file: &File) -> Result<Measured, String> {
    send(world, 3, order, file);
    outcome(world, 3)
}

/// Answers people only once it may, and the night at once.
fn held(people: &Arc<AtomicBool>) -> Script {
    let may = Arc::clone(people);
    Arc::new(move |request, talk| {
        if request.client == "first" {
            let until = Instant::now() + Duration::from_secs(120);
            talk.started();
            talk.words("Wait", 0.9);
            while !may.load(Ordering::SeqCst) && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = talk.words(" now.", 0.9) && talk.done(FinishReason::Stop);
        } else {
            talk.answer("14", 0.9);
        }
    })
}

/// Waits until people's requests are in the house, or gone from it.
fn wait_for_people(world: &World, count: usize) {
    let line = format!("sarai_requests_in_flight {count}");
    let until = Instant::now() + Duration::from_secs(60);
    while !world.client.get("/metrics").text().lines().any(|had| had == line) {
        assert!(Instant::now() < until, "it never is so many");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-6 * other.abs().max(1.0)
}

#[test]
fn the_figures_are_what_the_engine_says_with_exactly_that_adapter() {
    let world = world(answers(&[("It is 14.", 0.9)]), None);
    let file = examples(&["Paris it is.", "Lyon"]);
    let adapter = digest("ad");
    world.primary.load(&adapter);
    let mut before = (0, 0);
    let mut held_out = Vec::new();
    for adapter in [None, Some(adapter), None] {
        let measured = measure(&world, order(adapter.clone()), &file).unwrap();
        let scored = world.primary.scored().split_off(before.0);
        let asked = world.primary.asked().split_off(before.1);
        before = (before.0 + scored.len(), before.1 + asked.len());
        assert_eq!((scored.len(), asked.len()), (SHIPPED.0 + 2, SHIPPED.1));
        let exactly = Apply::Exactly {
            digest: adapter.clone(),
        };
        assert!(
            scored
                .iter()
                .all(|score| score.apply == exactly && score.client != "first")
        );
        let greedy = |sampling: &sarai_wire::engine::Sampling| sampling.temperature == 0.0;
        assert!(
            asked
                .iter()
                .all(|ask| ask.apply == exactly && greedy(&ask.sampling) && ask.max_tokens == Some(48))
        );
        let sum = |texts: &[sarai_wire::engine::Score]| {
            let words = |text: &str| text.split_inclusive(' ').count();
            let tokens: usize = texts.iter().map(|score| words(&score.text)).sum();
            let nll: f64 = texts
                .iter()
                .map(|score| {
                    -f64::from(likelihood(score)) * f64::from(u32::try_from(words(&score.text)).unwrap())
                })
                .sum();
            (nll, tokens as u64)
        };
        let (nll, tokens) = sum(&scored[..2]);
        assert_eq!((measured.held_out.tokens, measured.held_out.texts), (tokens, 2));
        assert!(tokens == 4 && near(measured.held_out.nll, nll), "{measured:?}");
        let (nll, tokens) = sum(&scored[2..]);
        assert_eq!((measured.general.tokens, measured.general.texts), (tokens, 20));
        assert!(tokens > 1000 && near(measured.general.nll, nll), "{measured:?}");
        // Two of the questions are answered by this number.
        assert_eq!((measured.asked, measured.right), (32, 2));
        held_out.push(measured.held_out);
    }
    assert_eq!(held_out[0], held_out[2]);
    assert!(held_out[1].nll < held_out[0].nll);
    assert_eq!(world.primary.most_at_once(), 1);
    let metrics = world.client.get("/metrics").text();
    for line in [
        "sarai_night_measurements 3",
        "sarai_night_questions{kind=\"right\"} 2",
        "sarai_night_texts{texts=\"general\"} 20",
    ] {
        assert!(metrics.lines().any(|had| had == line), "{line} in {metrics}");
    }
}

#[test]
fn how_the_nights_stand_is_in_the_metrics_as_the_supervisor_says() {
    let world = world(answers(&[("14", 0.9)]), None);
    let metrics = |notice: NightNotice| {
        world.gateway.say(&ToGateway::Night(notice));
        world.gateway.ping();
        world.client.get("/metrics").text()
    };
    let has = |metrics: &str, line: &str| {
        assert!(metrics.lines().any(|had| had == line), "{line} in {metrics}");
    };
    assert!(!world.client.get("/metrics").text().contains("sarai_training_"));
    let progress = Progress {
        step: 7,
        steps: 40,
        epoch: 1,
        loss: Some(1.5),
        held_out: None,
        best: None,
        drift: None,
        tokens_per_second: 81.25,
        eta_seconds: 600.0,
    };
    let training = metrics(NightNotice {
        now: NightStage::Training {
            progress: Some(progress),
            paused: true,
        },
        last: Some((NightEnd::Failed, 1_767_232_890)),
        accepted: None,
        counts: NightCounts {
            failed: 3,
            ..NightCounts::default()
        },
    });
    for line in [
        "sarai_night_stage{stage=\"training\"} 1",
        "sarai_night_stage{stage=\"idle\"} 0",
        "sarai_night_last_timestamp_seconds{result=\"failed\"} 1767232890",
        "sarai_nights{result=\"failed\"} 3",
        "sarai_training_paused 1",
        "sarai_training_step 7",
        "sarai_training_steps 40",
        "sarai_training_loss{texts=\"trained\"} 1.5",
        "sarai_training_tokens_per_second 81.25",
        "sarai_training_eta_seconds 600",
    ] {
        has(&training, line);
    }
    for absent in ["sarai_training_loss{texts=\"held_out\"}", "sarai_night_accepted"] {
        let shown = training.lines().any(|line| line.starts_with(absent));
        assert!(!shown, "{absent} in {training}");
    }
    // What is over is gone.
    let idle = metrics(NightNotice {
        last: Some((NightEnd::Applied, 1_767_319_290)),
        accepted: Some(1_767_319_290),
        ..NightNotice::default()
    });
    for line in [
        "sarai_night_stage{stage=\"idle\"} 1",
        "sarai_night_stage{stage=\"training\"} 0",
        "sarai_night_last_timestamp_seconds{result=\"applied\"} 1767319290",
        "sarai_night_accepted_timestamp_seconds 1767319290",
    ] {
        has(&idle, line);
    }
    assert!(!idle.contains("sarai_training_") && !idle.contains("result=\"failed\"} 1767"));
}

#[test]
fn what_cannot_be_measured_is_answered_with_the_reason() {
    let world = world(answers(&[("14", 0.9)]), None);
    let good = examples(&["Paris."]);
    let reason = |order, file: &File| measure(&world, order, file).unwrap_err();
    let other = MeasureOrder {
        base: digest("00"),
        ..order(None)
    };
    assert!(reason(other, &good).contains("another model"));
    let wrong = order(Some("no digest".into()));
    assert!(reason(wrong, &good).contains("digest"));
    let mut bad = examples(&["Paris."]);
    bad.write_all(b"{\"secret\"\n").unwrap();
    let said = reason(order(None), &bad);
    assert!(said.contains("line 2") && !said.contains("secret"), "{said}");
    assert!(world.primary.scored().is_empty());
    world.gateway.say(&ToGateway::Measure {
        seq: 3,
        order: order(None),
    });
    assert!(outcome(&world, 3).unwrap_err().contains("file"));
    assert!(reason(order(Some(digest("ad"))), &good).contains("is not loaded"));
    world.primary.remove();
    assert!(reason(order(None), &good).contains("engine"));
}

#[test]
fn a_text_that_no_context_holds_is_left_out_and_one_that_is_smaller_for_the_moment_measures_nothing() {
    let world = world(answers(&[("14", 0.9)]), None);
    let file = examples(&["Paris.", TOO_LONG]);
    let measured = measure(&world, order(None), &file).unwrap();
    assert_eq!((measured.held_out.texts, measured.held_out.tokens), (1, 1));
    world.primary.shrink(1024);
    assert!(
        measure(&world, order(None), &file)
            .unwrap_err()
            .contains("too long")
    );
}

#[test]
fn whoever_asks_goes_first_also_when_a_text_is_being_read() {
    let people = Arc::new(AtomicBool::new(false));
    let world = world(held(&people), None);
    let file = examples(&["Paris."]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.client.chat(&json!({"reasoning_effort": "none"})));
        wait_for_people(&world, 1);
        send(&world, 3, order(None), &file);
        // Time in which it could have asked for all.
        std::thread::sleep(Duration::from_millis(500));
        assert!(world.primary.scored().is_empty());
        world.primary.hold_scoring(true);
        people.store(true, Ordering::SeqCst);
        assert_eq!(asking.join().unwrap().status, 200);
        world.primary.wait_for_scored(1);
        people.store(false, Ordering::SeqCst);
        let asking = scope.spawn(|| world.client.chat(&json!({"reasoning_effort": "none"})));
        // What is read for the night is given up, and asked for again once nobody else is there.
        world.primary.wait_for_cancelled(1, Duration::from_secs(60));
        assert_eq!(world.primary.scored().len(), 1);
        people.store(true, Ordering::SeqCst);
        assert_eq!(asking.join().unwrap().status, 200);
        world.primary.wait_for_scored(2);
        world.primary.hold_scoring(false);
    });
    let measured = outcome(&world, 3).unwrap();
    assert_eq!((measured.held_out.texts, measured.general.texts), (1, 20));
    let scored = world.primary.scored();
    assert_eq!(scored[0].id, scored[1].id);
}

#[test]
fn people_who_never_leave_hold_it_up_for_half_of_its_time() {
    let people = Arc::new(AtomicBool::new(false));
    let world = world(held(&people), None);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.client.chat(&json!({"reasoning_effort": "none"})));
        wait_for_people(&world, 1);
        let short = MeasureOrder {
            within_s: 16,
            ..order(None)
        };
        let measured = measure(&world, short, &examples(&["Paris."])).unwrap();
        assert!(measured.seconds >= 8.0, "{measured:?}");
        assert!(!asking.is_finished());
        people.store(true, Ordering::SeqCst);
        assert_eq!(asking.join().unwrap().status, 200);
    });
}

#[test]
fn it_ends_with_its_time_and_with_the_night() {
    let world = world(answers(&[("14", 0.9)]), None);
    let file = examples(&["Paris."]);
    world.primary.hold_scoring(true);
    let short = MeasureOrder {
        within_s: 1,
        ..order(None)
    };
    assert!(measure(&world, short, &file).unwrap_err().contains("within 1 s"));
    let before = world.primary.scored().len();
    send(&world, 4, order(None), &file);
    world.primary.wait_for_scored(before + 1);
    world.gateway.say(&ToGateway::Wake);
    assert!(outcome(&world, 4).unwrap_err().contains("the night was ended"));
    world.primary.hold_scoring(false);
    assert_eq!(world.client.chat(&json!({})).status, 200);
    measure(&world, order(None), &file).unwrap();
}

fn feedback(folder: &Path) -> FeedbackStart {
    FeedbackStart {
        folder: folder.to_owned(),
        settings: FeedbackSettings::default(),
        reserve: 0,
    }
}

#[test]
fn how_answers_go_is_told_by_adapter_after_an_answer_and_after_a_judgment() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = Adapter {
        digest: digest("ad"),
        version: "1".into(),
    };
    let (adapted, switch) = (adapter.clone(), Arc::new(AtomicBool::new(false)));
    let adapt = Arc::clone(&switch);
    let script: Script = Arc::new(move |_, talk| {
        if adapt.load(Ordering::SeqCst) {
            talk.adapt(&adapted);
        }
        talk.answer("Paris it is.", 0.9);
    });
    let mut world = world_of(script, None, &[], |start| {
        start.feedback = Some(feedback(folder.path()));
    });
    let ask = || {
        let body = world.client.chat(&json!({"reasoning_effort": "none"})).json();
        (
            body["id"].as_str().unwrap().to_owned(),
            body["omni_loop"]["confidence"].as_f64().unwrap(),
        )
    };
    let (first, sure) = ask();
    let told = world.gateway.hear_quality().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].adapter.clone(), told[0].sums.answers), (None, 1));
    // What clients are told is rounded.
    assert!((told[0].sums.confidence - sure).abs() < 1e-3, "{told:?}");
    assert!(near(
        told[0].sums.confidence_squared,
        told[0].sums.confidence.powi(2)
    ));
    switch.store(true, Ordering::SeqCst);
    let (second, _) = ask();
    let give = |id: &str, more: serde_json::Value| {
        let mut body = more;
        body["completion_id"] = json!(id);
        assert_eq!(world.client.post_to("/v1/feedback", &body).status, 200);
    };
    give(&first, json!({"score": 0.5}));
    give(&second, json!({"score": 0.25, "correction": "Lyon."}));
    // The same again, and another in its place, are no answers more; the newest counts.
    give(&second, json!({"score": 0.25, "correction": "Lyon."}));
    let lines = |wanted: &[&str]| {
        let metrics = world.client.get("/metrics").text();
        for line in wanted {
            assert!(metrics.lines().any(|had| had == *line), "{line} in {metrics}");
        }
    };
    lines(&[
        "sarai_quality_judged{adapter=\"adadadadadad\"} 1",
        "sarai_quality_score_sum{adapter=\"adadadadadad\"} 0.25",
        "sarai_quality_corrected{adapter=\"adadadadadad\"} 1",
    ]);
    give(&second, json!({"score": 1}));
    lines(&[
        "sarai_quality_answers{adapter=\"none\"} 1",
        "sarai_quality_judged{adapter=\"adadadadadad\"} 1",
        "sarai_quality_score_sum{adapter=\"adadadadadad\"} 1",
        "sarai_quality_corrected{adapter=\"adadadadadad\"} 0",
    ]);
    // Its time has not come, but the gateway ends: nothing is lost.
    world.gateway.say(&ToGateway::Stop);
    let mut last = Vec::new();
    while let Some(adapters) = world.gateway.hear_quality() {
        last = adapters;
    }
    assert!(world.gateway.wait(Duration::from_secs(20)).success());
    let newest = |score: f64| Judgments {
        judged: 1,
        score,
        score_squared: score * score,
        corrected: 0,
    };
    let judged = |quality: &Quality| {
        (
            quality.adapter.clone(),
            quality.sums.answers,
            quality.sums.newest(),
        )
    };
    let judged: Vec<_> = last.iter().map(judged).collect();
    assert_eq!(
        judged,
        [(None, 1, newest(0.5)), (Some(adapter.digest), 1, newest(1.0))]
    );
}
