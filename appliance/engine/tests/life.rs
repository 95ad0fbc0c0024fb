//! A real engine among several clients and under its supervisor: turns, limits, cancellation, idleness, the end.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::{Duration, Instant};

use sarai_wire::birth::{EngineParams, FromEngine, ToEngine};
use sarai_wire::engine::{ErrorKind, Event, FinishReason, Generate};
use support::{Engine, Tiny, one_cpu, small, user};

/// A model slow enough, and a context long enough, for a request to last while a test looks at it.
fn slow() -> Tiny {
    Tiny {
        layers: 16,
        ..Tiny::default()
    }
}

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

fn short(client: &str) -> Generate {
    Generate {
        client: client.into(),
        max_tokens: Some(4),
        ..user("hi")
    }
}

#[test]
fn two_requests_run_at_the_same_time_and_do_not_disturb_each_other() {
    let engine = Engine::tiny(&slow(), EngineParams { slots: 2, ..roomy() });
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
    let engine = Engine::tiny(&slow(), roomy());
    let mut long = engine.connect();
    long.send(endless("a"));
    long.first_token();
    let mut queued = engine.connect();
    queued.send(endless("b"));
    engine.wait_for(1, 1);
    drop(queued);
    engine.wait_for(0, 1);
    let begin = Instant::now();
    drop(long);
    engine.wait_for(0, 0);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(engine.ask(short("c")).done().completion_tokens, 4);
}

#[test]
fn a_client_that_goes_away_during_its_prompt_frees_its_slot() {
    let engine = Engine::tiny(&slow(), roomy());
    let mut long = engine.connect();
    long.send(user(&"x".repeat(4000)));
    assert!(matches!(long.next(), Event::Started { .. }));
    drop(long);
    engine.wait_for(0, 0);
    // What was read of the prompt before is not lost.
    let again = engine.ask(user(&"x".repeat(4000)));
    assert!(again.cached < again.prompt);
}

#[test]
fn a_full_house_is_busy_and_says_so_at_once() {
    let engine = Engine::tiny(&slow(), EngineParams { queue: 1, ..roomy() });
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
    let engine = Engine::tiny(&slow(), roomy());
    let mut running = engine.connect();
    running.send(endless("greedy"));
    running.first_token();
    let mut greedy: Vec<_> = (1..=3)
        .map(|queued| {
            let mut talk = engine.connect();
            talk.send(Generate {
                max_tokens: Some(200),
                ..endless("greedy")
            });
            engine.wait_for(queued, 1);
            talk
        })
        .collect();
    let mut other = engine.connect();
    other.send(short("other"));
    engine.wait_for(4, 1);
    drop(running);
    let (other, greedy) = std::thread::scope(|scope| {
        let finish = |talk: &mut support::Talk| {
            let outcome = talk.finish();
            (Instant::now(), outcome.done().queue_ms)
        };
        let other = scope.spawn(move || finish(&mut other));
        let threads: Vec<_> = greedy
            .iter_mut()
            .map(|talk| scope.spawn(move || finish(talk)))
            .collect();
        let times: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        (other.join().unwrap(), times)
    });
    assert!(greedy[0].0 < other.0, "the oldest of the first client was next");
    assert!(
        other.0 < greedy[1].0,
        "then it was the other client's turn, before the first one's second"
    );
    assert!(greedy[1].0 < greedy[2].0);
}

#[test]
fn a_long_prompt_does_not_stop_the_others_talking() {
    let engine = Engine::tiny(&slow(), EngineParams { slots: 2, ..roomy() });
    let mut talking = engine.connect();
    talking.send(endless("a"));
    talking.first_token();
    let mut reading = engine.connect();
    reading.send(Generate {
        max_tokens: Some(1),
        ..user(&"x".repeat(3000))
    });
    engine.wait_for(0, 2);
    let reader = std::thread::spawn(move || reading.finish());
    let mut meanwhile = 0;
    while !reader.is_finished() {
        talking.first_token();
        meanwhile += 1;
    }
    assert_eq!(reader.join().unwrap().done().completion_tokens, 1);
    assert!(
        meanwhile >= 5,
        "only {meanwhile} tokens came while the prompt was read"
    );
}

#[test]
fn info_is_answered_while_busy_and_connections_are_bounded() {
    let engine = Engine::tiny(&slow(), roomy());
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
        // A connection that got a seat says nothing until it is asked.
        talk.stream
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        if let Ok(Event::Error(error)) = talk.try_next() {
            break error;
        }
        crowd.push(talk);
        assert!(crowd.len() <= 64);
    };
    assert_eq!(refused.kind, ErrorKind::Busy);
    assert!(crowd.len() >= 60, "{}", crowd.len());
    drop(crowd);
    drop(running);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(engine.ask(short("b")).done().completion_tokens, 4);
}

#[test]
fn a_stop_lets_running_requests_end_and_refuses_waiting_ones() {
    let mut engine = Engine::tiny(&slow(), roomy());
    let mut running = engine.connect();
    running.send(Generate {
        max_tokens: Some(300),
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
fn a_stop_does_not_wait_for_ever() {
    let mut engine = Engine::tiny(
        &Tiny {
            layers: 64,
            context: 131_072,
            ..Tiny::default()
        },
        EngineParams {
            context: 16_384,
            ..roomy()
        },
    );
    let mut running = engine.connect();
    running.send(endless("a"));
    running.first_token();
    let begin = Instant::now();
    engine.tell(&ToEngine::Stop);
    running.finish().refused(ErrorKind::Stopping);
    assert_eq!(engine.wait().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
}

#[test]
fn an_engine_without_its_supervisor_leaves() {
    assert_eq!(Engine::tiny(&Tiny::default(), small()).orphan().code(), Some(0));
}

#[test]
fn pings_are_answered_idle_and_busy_and_show_progress() {
    let engine = Engine::tiny(&slow(), roomy());
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
    std::thread::sleep(Duration::from_millis(300));
    let before = ticks(engine.pid());
    std::thread::sleep(Duration::from_secs(2));
    assert!(ticks(engine.pid()) - before <= 2, "an idle engine ran");
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
