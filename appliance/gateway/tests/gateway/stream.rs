//! Server-sent events: their shape, their timing, and clients that leave.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sarai_wire::engine::{ErrorKind, FinishReason};
use serde_json::{Value, json};

use crate::engine::{Script, answers, crash};
use crate::http::{joined, omni};
use crate::world::world;

#[test]
fn a_stream_has_openais_shape() {
    let world = world(answers(&[("Paris it is.", 0.95)]), None);
    let stream = world
        .client
        .stream(&json!({"stream_options": {"include_usage": true}}));
    assert!(
        stream
            .headers
            .contains(&("content-type".into(), "text/event-stream".into()))
    );
    let (events, done) = stream.all();
    assert!(done);
    let first = &events[0];
    assert_eq!(first["object"], "chat.completion.chunk");
    assert_eq!(
        first["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    for event in &events {
        for member in ["id", "created", "model", "object"] {
            assert_eq!(event[member], first[member], "{member}");
        }
    }
    assert_eq!(first["model"], "big-model");
    assert_eq!(
        joined(&events, "reasoning_content"),
        "Paris it is.",
        "the draft is reasoning"
    );
    assert_eq!(
        joined(&events, "content"),
        "Paris it is.",
        "the answer is content"
    );
    let last = &events[events.len() - 2];
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!(last["choices"][0]["delta"], json!({}));
    assert_eq!(last["omni_loop"]["iterations"], 1);
    assert!(
        events[..events.len() - 1]
            .iter()
            .all(|event| event["usage"] == Value::Null)
    );
    let usage = &events[events.len() - 1];
    assert_eq!(
        (&usage["choices"], &usage["usage"]["total_tokens"]),
        (&json!([]), &json!(14))
    );
    let finishes = events
        .iter()
        .filter(|e| e["choices"][0]["finish_reason"].is_string())
        .count();
    assert_eq!(finishes, 1);
}

#[test]
fn drafts_critiques_and_revisions_are_reasoning_and_the_accepted_answer_is_content() {
    let world = world(answers(&[("Lyon it is.", 0.4), ("Paris it is.", 0.95)]), None);
    let (events, done) = world
        .client
        .stream(&json!({"logprobs": true, "reasoning_effort": "high"}))
        .all();
    assert!(done);
    assert!(
        events.iter().all(|event| event.get("usage").is_none()),
        "usage was not asked for"
    );
    let reasoning = joined(&events, "reasoning_content");
    assert!(
        reasoning.starts_with("Lyon it is.\n\n") && reasoning.ends_with("\n\nParis it is."),
        "{reasoning}"
    );
    assert_eq!(joined(&events, "content"), "Paris it is.");
    assert_eq!(omni(&events)["corrected"], true);
    let with_logprobs: Vec<&Value> = events
        .iter()
        .filter(|e| e["choices"][0]["logprobs"]["content"].is_array())
        .collect();
    assert_eq!(with_logprobs.len(), 3);
    assert_eq!(
        with_logprobs[0]["choices"][0]["logprobs"]["content"][0]["token"],
        "Paris "
    );
}

/// A script that says one word each time it is told to.
fn prompted() -> (Script, Sender<&'static str>) {
    let (sender, receiver) = channel::<&'static str>();
    let receiver: Arc<Mutex<Receiver<&'static str>>> = Arc::new(Mutex::new(receiver));
    let script: Script = Arc::new(move |_, talk| {
        talk.started();
        for word in receiver.lock().unwrap().iter() {
            match word {
                "" => {
                    talk.done(FinishReason::Stop);
                    return;
                }
                "crash" => return crash(),
                "leave" => {
                    talk.wait_for_close(Duration::from_secs(30));
                    return;
                }
                word => _ = talk.token(word, 0.99),
            }
        }
    });
    (script, sender)
}

#[test]
fn without_effort_each_token_is_sent_as_content_the_moment_it_is_there() {
    let (script, say) = prompted();
    let world = world(script, None);
    say.send("one ").unwrap();
    let mut stream = world.client.stream(&json!({"reasoning_effort": "none"}));
    assert_eq!(stream.json()["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(stream.json()["choices"][0]["delta"]["content"], "one ");
    // The engine says the next word only after the client has seen the last.
    let mut slowest = Duration::ZERO;
    for word in ["two ", "three ", "four ", "five "] {
        let started = Instant::now();
        say.send(word).unwrap();
        assert_eq!(stream.json()["choices"][0]["delta"]["content"], word);
        slowest = slowest.max(started.elapsed());
    }
    // Far above what it takes, far below any timer or delayed acknowledgement's sum.
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    say.send("").unwrap();
    let (events, done) = stream.all();
    assert!(done && omni(&events)["iterations"] == 1);
}

#[test]
fn drafts_stream_as_they_come_too() {
    let (script, say) = prompted();
    let world = world(script, None);
    say.send("one ").unwrap();
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    for word in ["one ", "two ", "three "] {
        assert_eq!(stream.json()["choices"][0]["delta"]["reasoning_content"], word);
        say.send(match word {
            "one " => "two ",
            "two " => "three ",
            _ => "",
        })
        .unwrap();
    }
    assert_eq!(joined(&stream.all().0, "content"), "one two three ");
}

#[test]
fn an_error_before_the_first_token_is_a_status_and_after_it_an_event() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        talk.token("Par", 0.9);
        talk.fail(ErrorKind::Failed, "out of memory");
    });
    let world = world(script, None);
    for effort in ["none", "medium"] {
        let (events, done) = world.client.stream(&json!({"reasoning_effort": effort})).all();
        assert!(!done, "a broken stream must not look whole");
        let error = &events.last().unwrap()["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!("engine_unavailable"), &json!("server_error"))
        );
    }
    world.primary.remove();
    assert_eq!(world.client.stream(&json!({})).status, 503);
}

#[test]
fn a_client_that_leaves_cancels_its_generation() {
    let (script, say) = prompted();
    let world = world(script, None);
    // In the middle of a stream.
    say.send("one ").unwrap();
    say.send("leave").unwrap();
    let mut stream = world.client.stream(&json!({}));
    stream.json();
    drop(stream);
    world.primary.wait_for_cancelled(1, Duration::from_secs(5));
    // While the prompt is evaluated, with a stream and without.
    for (count, streams) in [(2, true), (3, false)] {
        say.send("leave").unwrap();
        let mut connection = world.client.connect().unwrap();
        world.client.post_on(
            &mut connection,
            crate::http::chat(&json!({"stream": streams})).as_bytes(),
        );
        while world.primary.asked().len() < count {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(connection);
        world.primary.wait_for_cancelled(count, Duration::from_secs(5));
    }
    let text = world.client.get("/metrics").text();
    assert!(text.contains("\nsarai_requests_in_flight 0\n"), "{text}");
    assert!(
        text.contains("sarai_http_requests_total{route=\"/v1/chat/completions\",status=\"499\"} 2"),
        "{text}"
    );
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let big = "x".repeat(100_000);
    let script: Script = Arc::new(move |_, talk| {
        talk.started();
        while talk.token(&big, 0.9) {}
    });
    let world = world(script, None);
    let stream = world.client.stream(&json!({"reasoning_effort": "none"}));
    // The iteration's limit of 30 s would end it too; the client's silence must do so before.
    world.primary.wait_for_cancelled(1, Duration::from_secs(25));
    drop(stream);
}

#[test]
fn a_stream_that_waits_sends_comments() {
    let script: Script = Arc::new(|_, talk| {
        talk.started();
        std::thread::sleep(Duration::from_secs(11));
        let _ = talk.words("Paris it is.", 0.95) && talk.done(FinishReason::Stop);
    });
    let world = world(script, None);
    let mut stream = world.client.stream(&json!({}));
    assert_eq!(stream.next().unwrap(), ": keep-alive");
    assert!(stream.all().1);
}
