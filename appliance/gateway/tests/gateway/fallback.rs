//! What the fallback engine takes over, how soon, and what clients hear of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sarai_wire::birth::GatewaySettings;
use sarai_wire::engine::{ErrorKind, FinishReason};
use serde_json::{Value, json};

use crate::engine::{Script, answers, crash};
use crate::http::{joined, omni};
use crate::world::{World, world, world_with};

fn small() -> Script {
    answers(&[("Paris, says the small one.", 0.95)])
}

/// Asks, and checks that the fallback answered for this reason.
fn falls_back(world: &World, reason: &str) -> Value {
    falls_back_asked(world, reason, &json!({}))
}

fn falls_back_asked(world: &World, reason: &str, request: &Value) -> Value {
    let body = world.client.chat(request).json();
    assert_eq!(
        body["choices"][0]["message"]["content"], "Paris, says the small one.",
        "{body}"
    );
    assert_eq!(body["model"], "small-model");
    let omni = &body["omni_loop"];
    assert_eq!(
        (&omni["fallback"], &omni["fallback_reason"]),
        (&json!(true), &json!(reason))
    );
    assert_eq!(omni["model"], "small-model");
    let metrics = world.client.get("/metrics").text();
    assert!(
        metrics.contains(&format!("sarai_fallback_total{{reason=\"{reason}\"}} 1")),
        "{metrics}"
    );
    assert_eq!(world.gateway.ping().2, 1);
    body
}

#[test]
fn an_engine_that_is_not_there() {
    let world = world(answers(&[("never", 0.9)]), Some(small()));
    world.primary.remove();
    falls_back(&world, "refused");
}

#[test]
fn an_engine_that_is_killed_in_the_middle() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.words("Ly on", 0.9);
        crash();
    });
    falls_back(&world(script, Some(small())), "closed");
}

#[test]
fn an_engine_that_fails_or_stops() {
    for (kind, reason) in [
        (ErrorKind::Failed, "failed"),
        (ErrorKind::Stopping, "stopping"),
        (ErrorKind::Memory, "memory"),
    ] {
        let script: Script = Arc::new(move |_, talk| talk.fail(kind, "it hurts"));
        falls_back(&world(script, Some(small())), reason);
    }
}

#[test]
fn an_engine_that_is_stopped_by_a_signal_is_noticed_within_two_seconds() {
    let world = world(answers(&[("never", 0.9)]), Some(small()));
    world.primary.freeze(true);
    let started = Instant::now();
    falls_back(&world, "unresponsive");
    assert!(
        started.elapsed() < Duration::from_millis(2500),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn an_engine_that_is_stopped_in_the_middle_is_noticed_too() {
    let frozen = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&frozen);
    let script: Script = Arc::new(move |_, talk| {
        talk.started();
        talk.words("Ly on", 0.9);
        seen.store(true, Ordering::SeqCst);
        talk.wait_for_close(Duration::from_secs(20));
    });
    let world = world(script, Some(small()));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let started = Instant::now();
            falls_back(&world, "unresponsive");
            started.elapsed()
        });
        while !frozen.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        world.primary.freeze(true);
        let took = asking.join().unwrap();
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
}

#[test]
fn an_engine_that_lives_but_says_nothing_for_too_long() {
    let settings = GatewaySettings {
        primary_silence_ms: 2500,
        ..Default::default()
    };
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.wait_for_close(Duration::from_secs(20));
    });
    let world = world_with(script, Some(small()), settings);
    let started = Instant::now();
    falls_back(&world, "silent");
    assert!(
        started.elapsed() >= Duration::from_millis(2500),
        "a busy engine has its time"
    );
}

#[test]
fn a_slow_engine_that_lives_is_waited_for() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        std::thread::sleep(Duration::from_millis(3500));
        let _ = talk.words("Paris it is.", 0.95) && talk.done(FinishReason::Stop);
    });
    let world = world(script, Some(small()));
    assert_eq!(world.client.chat(&json!({})).json()["model"], "big-model");
}

#[test]
fn a_stream_that_was_only_reasoning_goes_on_with_the_fallback_and_says_so() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.words("Ly on", 0.9);
        crash();
    });
    let world = world(script, Some(small()));
    let (events, done) = world.client.stream(&json!({})).all();
    assert!(done);
    let reasoning = joined(&events, "reasoning_content");
    assert!(
        reasoning.starts_with("Ly on") && reasoning.contains("fallback engine starts again"),
        "{reasoning}"
    );
    assert_eq!(joined(&events, "content"), "Paris, says the small one.");
    assert_eq!(omni(&events)["fallback_reason"], "closed");
    assert_eq!(events.last().unwrap()["model"], "small-model");
}

#[test]
fn a_stream_before_its_first_token_goes_on_with_the_fallback() {
    let world = world(Arc::new(|_, _| crash()), Some(small()));
    let (events, done) = world.client.stream(&json!({"reasoning_effort": "none"})).all();
    assert!(done);
    assert_eq!(joined(&events, "content"), "Paris, says the small one.");
    assert_eq!(omni(&events)["fallback"], true);
}

#[test]
fn an_answer_already_under_way_is_not_taken_back_but_ends_with_an_error() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.words("Ly on", 0.9);
        crash();
    });
    let world = world(script, Some(small()));
    let (events, done) = world.client.stream(&json!({"reasoning_effort": "none"})).all();
    assert!(!done);
    assert_eq!(joined(&events, "content"), "Ly on");
    let error = &events.last().unwrap()["error"];
    assert_eq!(error["code"], "engine_unavailable");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("middle of the answer"),
        "{error}"
    );
    // The next request is served.
    let (events, done) = world.client.stream(&json!({})).all();
    assert!(done && omni(&events)["fallback"] == true);
}

#[test]
fn a_revision_that_the_primary_fails_is_made_by_the_fallback_which_then_keeps_the_request() {
    let script: Script = Arc::new(|request, talk| {
        if request.messages.len() > 1 {
            return crash();
        }
        talk.answer("", 0.5);
    });
    let unsure = answers(&[
        ("Lyon, says the small one.", 0.5),
        ("Paris, says the small one.", 0.95),
    ]);
    let world = world(script, Some(unsure));
    let body = falls_back_asked(&world, "closed", &json!({"reasoning_effort": "high"}));
    assert_eq!(body["omni_loop"]["iterations"], 3);
    assert_eq!(
        world.primary.asked().len(),
        2,
        "the third iteration does not try the primary again"
    );
}

#[test]
fn when_both_fail_there_is_an_error_and_never_silence() {
    let world = world(Arc::new(|_, _| crash()), Some(Arc::new(|_, _| crash())));
    let reply = world.client.chat(&json!({}));
    assert_eq!(
        (reply.status, reply.error_code()),
        (503, "engine_unavailable".into())
    );
    assert!(reply.header("retry-after").is_some());
    assert!(
        reply.text().contains("primary: closed; fallback: closed"),
        "{}",
        reply.text()
    );
    assert_eq!(world.client.stream(&json!({})).status, 503);

    let half: Script = Arc::new(|_, talk| {
        talk.started();
        talk.words("Ly on", 0.9);
        crash();
    });
    let world = crate::world::world(Arc::clone(&half), Some(half));
    let (events, done) = world.client.stream(&json!({})).all();
    assert!(!done && events.last().unwrap()["error"]["code"] == "engine_unavailable");
}

#[test]
fn without_a_fallback_an_engine_that_restarts_is_waited_for() {
    let world = world(answers(&[("Paris it is.", 0.95)]), None);
    world.primary.freeze(true);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.client.chat(&json!({})));
        std::thread::sleep(Duration::from_secs(2));
        world.primary.freeze(false);
        assert_eq!(asking.join().unwrap().json()["model"], "big-model");
    });
}

#[test]
fn an_engine_that_talks_nonsense_is_left() {
    use std::io::{Read, Write};
    let world = world(answers(&[("never", 0.9)]), Some(small()));
    world.primary.remove();
    let listener = std::os::unix::net::UnixListener::bind(&world.primary.socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut question = [0; 512];
            let _ = stream.read(&mut question);
            // A frame whose length is far above the bound.
            let _ = stream.write_all(&[0xff; 64]);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    falls_back(&world, "protocol");
}
