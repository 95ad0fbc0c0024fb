//! A real engine among several clients and under its supervisor: turns, limits, cancellation, idleness, the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::{Duration, Instant};

use sarai_wire::birth::{EngineParams, FromEngine, ToEngine};
use sarai_wire::engine::{ErrorKind, Event, FinishReason, Generate, Request};
use sarai_wire::frame;
use support::{Engine, Tiny, first_with_news, one_cpu, small, tokens_in, user};

/// A context long enough for a request to last, with a slow model, while a test looks at it.
fn roomy() -> EngineParams {
    EngineParams {
        context: 8192,
        slots: 1,
        queue: 8,
        batch: 256,
        cpus: one_cpu(),
        ..EngineParams::default()
    }
}

fn endless(client: &str) -> Generate {
    Generate {
        client: client.into(),
        max_tokens: None,
        ..user("count to a million")
    }
}

/// Tokens it has generated since its start.
fn tokens(engine: &Engine) -> u64 {
    engine.tell(&ToEngine::Ping { seq: 0 });
    match engine.hear() {
        FromEngine::Pong { tokens, .. } => tokens,
        other => panic!("{other:?}"),
    }
}

fn short(client: &str) -> Generate {
    Generate {
        client: client.into(),
        max_tokens: Some(4),
        ..user("hi")
    }
}

#[test]
fn two_requests_run_at_the_same_time_and_do_not_disturb_each_other() {
    let engine = Engine::slow(EngineParams { slots: 2, ..roomy() });
    let alone = Generate {
        max_tokens: Some(40),
        ..user("alone")
    };
    let expected = engine.ask(alone.clone()).text();
    let mut long = engine.connect();
    long.send(endless("a"));
    long.first_token();
    assert_eq!(engine.ask(alone).text(), expected);
    engine.wait_for(0, 1);
    long.first_token();
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let engine = Engine::slow(roomy());
    let mut long = engine.connect();
    long.send(endless("a"));
    long.first_token();
    let mut queued = engine.connect();
    queued.send(endless("b"));
    engine.wait_for(1, 1);
    drop(queued);
    engine.wait_for(0, 1);
    drop(long);
    engine.wait_for(0, 0);
    // Long before its end, and the one that waited never ran.
    let said = tokens(&engine);
    assert!(said < 4096, "{said} tokens of 8192");
    assert_eq!(engine.ask(short("c")).done().completion_tokens, 4);
}

#[test]
fn a_client_that_goes_away_during_its_prompt_frees_its_slot() {
    let engine = Engine::slow(roomy());
    let mut long = engine.connect();
    long.send(user(&"x".repeat(4000)));
    long.started();
    drop(long);
    engine.wait_for(0, 0);
    // It was not read to its end, all but the last token of which would be found.
    let again = engine.ask(user(&"x".repeat(4000)));
    assert!(
        again.cached + 1 < again.prompt,
        "{} of {}",
        again.cached,
        again.prompt
    );
}

#[test]
fn a_full_house_is_busy_and_says_so_at_once() {
    let engine = Engine::slow(EngineParams { queue: 1, ..roomy() });
    let mut running = engine.connect();
    running.send(endless("a"));
    running.first_token();
    let mut waiting = engine.connect();
    waiting.send(short("b"));
    engine.wait_for(1, 1);
    assert!(
        engine
            .ask(short("c"))
            .refused(ErrorKind::Busy)
            .contains("try again")
    );
    drop(running);
    assert_eq!(waiting.finish().done().completion_tokens, 4);
}

#[test]
fn clients_take_turns() {
    let engine = Engine::slow(roomy());
    let mut running = engine.connect();
    running.send(endless("greedy"));
    running.first_token();
    // Each would go on for minutes: whoever has a slot has it until its client leaves.
    let queued = |number, client| {
        let mut talk = engine.connect();
        talk.send(endless(client));
        engine.wait_for(number, 1);
        talk
    };
    let mut waiting = vec![
        ("greedy's second", queued(1, "greedy")),
        ("greedy's third", queued(2, "greedy")),
        ("greedy's fourth", queued(3, "greedy")),
        ("the other's", queued(4, "other")),
    ];
    drop(running);
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let talks: Vec<_> = waiting.iter().map(|(_, talk)| talk).collect();
        let next = first_with_news(&talks).unwrap();
        let (name, mut talk) = waiting.remove(next);
        talk.started();
        order.push(name);
    }
    // The oldest of the first client was next; then it was the other client's turn.
    let expected = [
        "greedy's second",
        "the other's",
        "greedy's third",
        "greedy's fourth",
    ];
    assert_eq!(order, expected);
}

#[test]
fn a_long_prompt_does_not_stop_the_others_talking() {
    let engine = Engine::slow(EngineParams { slots: 2, ..roomy() });
    let mut talking = engine.connect();
    talking.send(endless("a"));
    talking.first_token();
    let before = tokens(&engine);
    let mut reading = engine.connect();
    reading.send(Generate {
        max_tokens: Some(1),
        ..user(&"x".repeat(3000))
    });
    assert_eq!(reading.finish().done().completion_tokens, 1);
    // A step takes at most 256 tokens of the prompt, and one of the answer.
    let meanwhile = tokens(&engine) - before;
    assert!(
        meanwhile > 10,
        "only {meanwhile} tokens came while the prompt was read"
    );
}

#[test]
fn info_is_answered_while_busy_and_connections_are_bounded() {
    let engine = Engine::slow(roomy());
    let mut running = engine.connect();
    running.send(endless("a"));
    running.first_token();
    let info = engine.info();
    assert_eq!(
        (info.queued, info.running, info.context, info.slots),
        (0, 1, 8192, 1)
    );
    let mut crowd: Vec<_> = Vec::new();
    let refused = loop {
        let mut talk = engine.connect();
        // Who has a seat is answered; who has none is told so, and may be gone before it can ask.
        let _ = frame::write(&mut talk.stream, &Request::Info);
        match talk.next() {
            Event::Info(_) => crowd.push(talk),
            Event::Error(error) => break error,
            other => panic!("{other:?}"),
        }
        assert!(crowd.len() <= 64);
    };
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(crowd.len() >= 60, "{}", crowd.len());
    drop(crowd);
    drop(running);
    // Seats are free once those who left are noticed.
    loop {
        match engine.ask(short("b")).end {
            Ok(done) => break assert_eq!(done.completion_tokens, 4),
            Err(error) => assert_eq!(error.kind, ErrorKind::Busy),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_stop_lets_running_requests_end_and_refuses_waiting_ones() {
    let mut engine = Engine::slow(roomy());
    // Long enough for what follows, and well within the time that what runs has after a stop.
    let most = tokens_in(&engine, Duration::from_secs(1)).max(5);
    let mut running = engine.connect();
    running.send(Generate {
        max_tokens: Some(most),
        ..endless("a")
    });
    running.first_token();
    let mut waiting = engine.connect();
    waiting.send(short("b"));
    engine.wait_for(1, 1);
    engine.tell(&ToEngine::Stop);
    waiting.finish().refused(ErrorKind::Stopping);
    assert_eq!(running.finish().done().finish_reason, FinishReason::Length);
    assert_eq!(engine.wait().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_prompt() {
    let mut engine = Engine::slow(EngineParams {
        context: 65_536,
        slots: 2,
        ..roomy()
    });
    let mut heard = engine.connect();
    heard.send(endless("a"));
    heard.first_token();
    // Read while the neighbour gets its answer: longer than what runs has after a stop.
    let mut reading = engine.connect();
    reading.send(Generate {
        client: "b".into(),
        ..user(&"x ".repeat(15_000))
    });
    engine.wait_for(0, 2);
    engine.tell(&ToEngine::Stop);
    let begun = Instant::now();
    reading.finish().refused(ErrorKind::Stopping);
    let refused = begun.elapsed();
    heard.finish().refused(ErrorKind::Stopping);
    // The one goes at once, the other when its time is over.
    assert!(
        refused * 2 < begun.elapsed(),
        "{refused:?} of {:?}",
        begun.elapsed()
    );
    assert_eq!(engine.wait().code(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut engine = Engine::slow(EngineParams {
        context: 65_536,
        ..roomy()
    });
    let mut running = engine.connect();
    running.send(endless("a"));
    running.first_token();
    engine.tell(&ToEngine::Stop);
    // It would have gone on for many minutes.
    running.finish().refused(ErrorKind::Stopping);
    assert_eq!(engine.wait().code(), Some(0));
}

#[test]
fn an_engine_without_its_supervisor_leaves() {
    assert_eq!(Engine::tiny(&Tiny::default(), small()).orphan().code(), Some(0));
}

#[test]
fn the_supervisor_is_told_unasked_each_time_that_work_begins() {
    let engine = Engine::slow(roomy());
    for client in ["a", "b"] {
        let mut running = engine.connect();
        running.send(short(client));
        engine.hear_of_work();
        running.finish().done();
        // So long it says nothing again.
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn pings_are_answered_idle_and_busy_and_show_progress() {
    let engine = Engine::slow(roomy());
    let ping = |seq| {
        engine.tell(&ToEngine::Ping { seq });
        match engine.hear() {
            FromEngine::Pong {
                seq: answered,
                queued,
                running,
                tokens,
            } => {
                assert_eq!(answered, seq);
                (queued, running, tokens)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ping(1), (0, 0, 0));
    let mut running = engine.connect();
    running.send(endless("a"));
    running.first_token();
    let (_, busy, before) = ping(2);
    assert_eq!(busy, 1);
    running.first_token();
    running.first_token();
    let (_, _, after) = ping(3);
    assert!(after > before && before > 0);
}

/// Clock ticks of CPU time, hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn an_idle_engine_uses_no_cpu() {
    let engine = Engine::tiny(&Tiny::default(), small());
    engine.ask(user("hi"));
    // How long its threads take to come to rest is the machine's affair; an engine that never does is not idle.
    let idle = || {
        let before = ticks(engine.pid());
        std::thread::sleep(Duration::from_secs(2));
        ticks(engine.pid()) - before <= 2
    };
    assert!((0..10).any(|_| idle()), "an idle engine ran");
}

#[test]
fn each_compute_thread_has_a_cpu_of_its_own() {
    let engine = Engine::tiny(
        &Tiny::default(),
        EngineParams {
            cpus: Vec::new(),
            ..small()
        },
    );
    engine.ask(user("hi"));
    let mut pinned = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{}/task", engine.pid())).unwrap() {
        // A connection's thread may be gone by now.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap()
                .trim()
                .to_owned()
        };
        if let Ok(cpu) = field("Cpus_allowed_list:").parse::<u32>()
            && field("Name:") != "accept"
            && field("Name:") != "connection"
        {
            pinned.push(cpu);
        }
    }
    pinned.sort_unstable();
    let mut each = pinned.clone();
    each.dedup();
    assert_eq!(pinned, each, "two threads share a CPU");
    let allowed = std::thread::available_parallelism().unwrap().get();
    if allowed > 1 {
        assert_eq!(pinned.len(), allowed);
    }
}
