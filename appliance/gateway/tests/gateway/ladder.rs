//! What clients see of the memory ladder: refusals, notices, and conversations that have to be shortened.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sarai_wire::engine::{ErrorKind, Role};
use sarai_wire::memory::{Rung, RungNotice};
use serde_json::{Value, json};

use crate::engine::{MESSAGE, Script, answers};
use crate::http::{joined, omni};
use crate::world::{World, world};

fn paris() -> Script {
    answers(&[("Paris.", 0.95)])
}

fn notice(rung: Rung) -> RungNotice {
    RungNotice {
        rung,
        reason: "the budget is nearly full".into(),
        context: (rung >= Rung::HalfContext).then_some(1024),
        retry_after_s: (rung == Rung::Refusing).then_some(17),
    }
}

/// An engine that refuses what its context does not hold, as a real one does.
fn strict(context: &Arc<AtomicU32>) -> Script {
    let context = Arc::clone(context);
    Arc::new(move |request, talk| {
        let (tokens, holds) = (
            u32::try_from(request.messages.len()).unwrap() * MESSAGE,
            context.load(Ordering::SeqCst),
        );
        if tokens >= holds {
            let message = format!("prompt has {tokens} tokens, context holds {holds}; shorten it");
            talk.fail(ErrorKind::ContextLength, &message);
        } else {
            talk.answer("Paris.", 0.95);
        }
    })
}

fn shrunk(context: u32) -> World {
    let world = world(strict(&Arc::new(AtomicU32::new(context))), None);
    world.primary.shrink(context);
    world
}

/// A system message, then so many rounds, then a question.
fn conversation(rounds: usize) -> Value {
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for round in 0..rounds {
        messages.push(json!({"role": "user", "content": format!("question {round}")}));
        messages.push(json!({"role": "assistant", "content": format!("answer {round}")}));
    }
    messages.push(json!({"role": "user", "content": "What is the capital of France?"}));
    messages.into()
}

#[test]
fn every_answer_that_a_rung_touched_says_so() {
    let world = world(paris(), Some(paris()));
    let untouched = world.client.chat(&json!({})).json();
    assert_eq!(untouched["omni_loop"].get("memory"), None);
    let metrics = || world.client.get("/metrics").text();
    assert!(
        !metrics().contains("sarai_memory_rung"),
        "nobody has said yet where it stands"
    );
    world.gateway.rung(RungNotice::default());
    assert!(metrics().contains("\nsarai_memory_rung 0\n"));
    assert_eq!(
        world.client.chat(&json!({})).json()["omni_loop"].get("memory"),
        None
    );
    for (place, rung) in [(1, Rung::Caches), (2, Rung::HalfContext), (4, Rung::TextOnly)] {
        world.gateway.rung(notice(rung));
        let context = (rung >= Rung::HalfContext).then_some(1024);
        let expected =
            json!({"rung": rung.name(), "reason": "the budget is nearly full", "context": context});
        assert_eq!(
            world.client.chat(&json!({})).json()["omni_loop"]["memory"],
            expected
        );
        let (events, done) = world.client.stream(&json!({})).all();
        assert!(done && omni(&events)["memory"] == expected, "{events:?}");
        assert_eq!(world.client.get("/readyz").json()["memory"]["rung"], rung.name());
        let text = metrics();
        assert!(text.contains(&format!("\nsarai_memory_rung {place}\n")), "{text}");
        let moves = format!("\nsarai_memory_moves_total{{to=\"{}\"}} 1\n", rung.name());
        assert!(text.contains(&moves), "{text}");
    }
    world.gateway.rung(RungNotice::default());
    assert_eq!(
        world.client.chat(&json!({})).json()["omni_loop"].get("memory"),
        None
    );
    assert!(metrics().contains("to=\"normal\"} 1\n"));
}

#[test]
fn a_rung_that_came_while_the_answer_was_written_touched_it_too() {
    let go = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&go);
    let script: Script = Arc::new(move |_, talk| {
        talk.started();
        talk.words("Pa ris", 0.95);
        while !seen.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        talk.done(sarai_wire::engine::FinishReason::Stop);
    });
    let world = world(script, None);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| world.client.chat(&json!({})).json());
        while world.primary.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
        world.gateway.rung(notice(Rung::HalfContext));
        world.gateway.rung(RungNotice::default());
        go.store(true, Ordering::SeqCst);
        let body = asking.join().unwrap();
        assert_eq!(body["omni_loop"]["memory"]["rung"], "half_context", "{body}");
    });
}

#[test]
fn the_last_rung_refuses_new_requests_and_lets_the_others_go_on() {
    let go = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&go);
    let script: Script = Arc::new(move |_, talk| {
        while !seen.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        talk.answer("Paris.", 0.95);
    });
    let world = world(script, None);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| world.client.chat(&json!({})));
        while world.primary.asked().is_empty() {
            std::thread::sleep(Duration::from_millis(2));
        }
        world.gateway.rung(notice(Rung::Refusing));
        for request in [json!({}), json!({"stream": true}), json!({"truncation": "auto"})] {
            let reply = world.client.chat(&request);
            assert_eq!(
                (reply.status, reply.error_code()),
                (503, "memory_pressure".into())
            );
            assert_eq!(reply.header("retry-after"), Some("17"));
            let text = reply.text();
            assert!(
                text.contains("Memory is short (the budget is nearly full)"),
                "{text}"
            );
            assert_eq!(reply.json()["error"]["type"], "server_error");
        }
        let ready = world.client.get("/readyz");
        assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
        // Whoever watches the machine still can.
        assert_eq!(world.client.get("/metrics").status, 200);
        assert_eq!(world.client.get("/v1/models").status, 200);
        go.store(true, Ordering::SeqCst);
        let reply = running.join().unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["omni_loop"]["memory"]["rung"], "refusing");
    });
    world.gateway.rung(notice(Rung::Caches));
    assert_eq!(world.client.chat(&json!({})).status, 200);
    assert_eq!(world.client.get("/readyz").status, 200);
}

#[test]
fn with_the_primary_stopped_on_purpose_it_is_not_even_asked() {
    let world = world(paris(), Some(answers(&[("Lyon.", 0.95)])));
    // It would not answer either.
    world.primary.freeze(true);
    world.gateway.rung(notice(Rung::Fallback));
    let body = world.client.chat(&json!({"reasoning_effort": "none"})).json();
    assert_eq!(body["model"], "small-model", "{body}");
    let omni = &body["omni_loop"];
    assert_eq!(
        (&omni["fallback_reason"], &omni["memory"]["rung"]),
        (&json!("memory"), &json!("fallback"))
    );
    assert!(world.primary.asked().is_empty());
    let metrics = world.client.get("/metrics").text();
    assert!(
        metrics.contains("sarai_fallback_total{reason=\"memory\"} 1"),
        "{metrics}"
    );
    world.primary.freeze(false);
    world.gateway.rung(RungNotice::default());
    assert_eq!(
        world.client.chat(&json!({"reasoning_effort": "none"})).json()["model"],
        "big-model"
    );
}

#[test]
fn without_a_fallback_the_primary_is_asked_all_the_same() {
    let world = world(paris(), None);
    world.gateway.rung(notice(Rung::Fallback));
    assert_eq!(world.client.chat(&json!({})).status, 200);
}

#[test]
fn an_engine_that_ends_an_answer_for_memory_is_no_riddle() {
    let script: Script =
        Arc::new(|_, talk| talk.fail(ErrorKind::Memory, "memory is short: from 2048 tokens to 512"));
    let reply = world(script, None).client.chat(&json!({}));
    assert_eq!(
        (reply.status, reply.error_code()),
        (503, "engine_unavailable".into())
    );
    assert!(
        reply.text().contains("memory is short: from 2048 tokens to 512"),
        "{}",
        reply.text()
    );
}

#[test]
fn a_conversation_that_does_not_fit_is_refused_with_all_the_counts() {
    let world = shrunk(512);
    for truncation in [json!(null), json!("disabled")] {
        let request = json!({"messages": conversation(4), "truncation": truncation});
        let reply = world.client.chat(&request);
        assert_eq!(
            (reply.status, reply.error_code()),
            (400, "context_length_exceeded".into())
        );
        let text = reply.text();
        for part in [
            "prompt has 1000 tokens",
            "context holds 512",
            "Memory is short",
            "2048 are configured",
            "truncation",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    // At its full size memory is no cause.
    world.primary.shrink(0);
    let text = world.client.chat(&json!({"messages": conversation(4)})).text();
    assert!(
        text.contains("prompt has 1000 tokens") && !text.contains("Memory"),
        "{text}"
    );
}

#[test]
fn with_leave_the_oldest_rounds_are_left_out_and_that_is_told() {
    let world = shrunk(1024);
    let request = json!({"messages": conversation(6), "truncation": "auto", "reasoning_effort": "none"});
    let body = world.client.chat(&request).json();
    // 1400 tokens; a quarter of 1024 is for the answer, so 700 may stay: the system message, two rounds, the question.
    let told = json!({"turns_dropped": 8, "prompt_tokens": 600, "context": 1024});
    assert_eq!(body["omni_loop"]["truncated"], told, "{body}");
    let (events, _) = world.client.stream(&request).all();
    assert_eq!(
        (&omni(&events)["truncated"], joined(&events, "content")),
        (&told, "Paris.".into())
    );
    for asked in world.primary.asked() {
        let messages: Vec<&str> = asked
            .messages
            .iter()
            .map(|message| message.content.as_str())
            .collect();
        let last = "What is the capital of France?";
        assert_eq!(
            messages,
            [
                "Be brief.",
                "question 4",
                "answer 4",
                "question 5",
                "answer 5",
                last
            ]
        );
        assert_eq!(asked.messages[0].role, Role::System);
    }
    assert!(
        world
            .client
            .get("/metrics")
            .text()
            .contains("\nsarai_truncated_total 2\n")
    );
    // What fits stays whole, and nothing is told.
    let short = json!({"messages": conversation(4), "truncation": "auto", "reasoning_effort": "none"});
    assert_eq!(
        world.client.chat(&short).json()["omni_loop"].get("truncated"),
        None
    );
    assert_eq!(world.primary.asked().last().unwrap().messages.len(), 10);
}

#[test]
fn what_must_stay_and_does_not_fit_is_refused_with_the_counts() {
    let world = shrunk(150);
    let reply = world
        .client
        .chat(&json!({"messages": conversation(4), "truncation": "auto"}));
    assert_eq!(
        (reply.status, reply.error_code()),
        (400, "context_length_exceeded".into())
    );
    let text = reply.text();
    for part in [
        "prompt has 200 tokens",
        "context holds 150",
        "2048 are configured",
        "always stay",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(world.primary.asked().is_empty());
}

#[test]
fn a_context_that_shrinks_before_the_conversation_is_read_is_asked_again() {
    let (shrink, shrunk) = std::sync::mpsc::channel();
    let (asked, go) = (Mutex::new(Some(shrink)), Mutex::new(()));
    let inner = strict(&Arc::new(AtomicU32::new(512)));
    let hold = Arc::new(go);
    let held = Arc::clone(&hold);
    let script: Script = Arc::new(move |request, talk| {
        // The first time: it becomes smaller between the count and the reading.
        if let Some(shrink) = asked.lock().unwrap().take() {
            shrink.send(()).unwrap();
        }
        drop(held.lock().unwrap());
        inner(request, talk);
    });
    let world = world(script, None);
    world.primary.shrink(1024);
    let request = json!({"messages": conversation(6), "truncation": "auto", "reasoning_effort": "none"});
    let body = std::thread::scope(|scope| {
        let guard = hold.lock().unwrap();
        let asking = scope.spawn(|| world.client.chat(&request).json());
        shrunk.recv().unwrap();
        world.primary.shrink(512);
        drop(guard);
        asking.join().unwrap()
    });
    assert_eq!(body["omni_loop"]["truncated"]["context"], 512, "{body}");
    assert_eq!(world.primary.asked().len(), 2);
}

#[test]
fn a_fallback_with_a_smaller_context_counts_for_itself() {
    let small = Arc::new(AtomicU32::new(400));
    let script: Script = Arc::new(|_, talk| talk.fail(ErrorKind::Failed, "it hurts"));
    let world = world(script, Some(strict(&small)));
    world.fallback.as_ref().unwrap().shrink(400);
    let messages = conversation(5);
    let reply = world.client.chat(&json!({"messages": messages}));
    assert_eq!(
        (reply.status, reply.error_code()),
        (400, "context_length_exceeded".into())
    );
    assert!(reply.text().contains("context holds 400"), "{}", reply.text());
    let body = world
        .client
        .chat(&json!({"messages": messages, "truncation": "auto", "reasoning_effort": "none"}))
        .json();
    assert_eq!(body["omni_loop"]["fallback_reason"], "failed", "{body}");
    let truncated = &body["omni_loop"]["truncated"];
    assert_eq!(
        (&truncated["context"], &truncated["prompt_tokens"]),
        (&json!(400), &json!(200)),
        "{body}"
    );
}
