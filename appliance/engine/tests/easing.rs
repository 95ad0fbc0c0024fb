//! A real engine that is asked to give memory back: what it frees, and what becomes of whoever runs and waits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::time::{Duration, Instant};

use nix::sys::resource::Resource;
use sarai_wire::birth::{EngineParams, FromEngine, ToEngine};
use sarai_wire::engine::{ErrorKind, Event, FinishReason, Generate, Role};
use sarai_wire::memory::{Ease, Eased};
use support::{Arch, Engine, Tiny, descriptor, one_cpu, small, talk, tokens_in, user};

/// Bytes of KV cache a token of [`tiny`] takes.
const KV: u64 = 2048;
/// How long a change of the context waits for running requests at most.
const WAIT: Duration = Duration::from_secs(8);

/// Whether a change came about before it had to: nothing ran any more.
fn at_once(eased: &Eased) -> bool {
    u128::from(eased.took_ms) < WAIT.as_millis()
}

fn tiny() -> Tiny {
    Tiny {
        layers: 16,
        context: 131_072,
        ..Tiny::default()
    }
}

fn params() -> EngineParams {
    EngineParams {
        context: 8192,
        slots: 2,
        queue: 8,
        batch: 256,
        cpus: one_cpu(),
        ..EngineParams::default()
    }
}

fn order(engine: &Engine, seq: u64, ease: Ease) -> Eased {
    engine.tell(&ToEngine::Ease { seq, ease });
    eased(engine, seq)
}

fn eased(engine: &Engine, seq: u64) -> Eased {
    loop {
        match engine.hear() {
            FromEngine::Eased(eased) if eased.seq == seq => return eased,
            FromEngine::Pong { .. } | FromEngine::Eased(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn context(engine: &Engine, tokens: u32) -> Eased {
    let eased = order(engine, u64::from(tokens), Ease::Context { tokens });
    assert_eq!((eased.refused.as_deref(), eased.context), (None, tokens));
    eased
}

fn words(bytes: usize) -> Generate {
    Generate {
        max_tokens: Some(8),
        ..user(&"x".repeat(bytes))
    }
}

fn long(client: &str, most: Option<u32>) -> Generate {
    Generate {
        client: client.into(),
        max_tokens: most,
        ..user("count to a million")
    }
}

/// Resident anonymous memory as the kernel shows it to others.
fn anonymous(engine: &Engine) -> u64 {
    field(engine, "RssAnon:")
}

/// A field of its `status`, bytes.
fn field(engine: &Engine, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn ratio(freed: u64, expected: u64) -> f64 {
    freed as f64 / expected as f64
}

#[test]
fn the_context_shrinks_and_grows_and_the_memory_with_it() {
    let engine = Engine::tiny(&tiny(), params());
    let expected = engine.ask(words(100)).text();
    let full = anonymous(&engine);
    for tokens in [4096, 1024, 128, 1024, 8192, 512] {
        let before = engine.info().context;
        let eased = context(&engine, tokens);
        let info = engine.info();
        assert_eq!((info.context, info.configured, info.slots), (tokens, 8192, 2));
        // Both slots; llama.cpp rounds a slot up to 256 cells.
        let cells = |tokens: u32| u64::from(tokens.next_multiple_of(256)) * 2 * KV;
        let (from, to) = (cells(before), cells(tokens));
        if to < from {
            let freed = eased.before.saturating_sub(eased.after);
            let ratio = ratio(freed, from - to);
            println!("{before} → {tokens}: {freed} bytes freed, {ratio:.2} of the KV cache's difference");
            assert!((0.9..1.5).contains(&ratio), "{ratio}");
        }
        assert!(at_once(&eased), "{eased:?}");
        assert_eq!(engine.ask(words(100)).text(), expected, "at {tokens} tokens");
        let held = anonymous(&engine);
        assert!(held <= full + 2_000_000, "{held} bytes are more than {full}");
        assert!(
            engine
                .ask(words(tokens as usize))
                .refused(ErrorKind::ContextLength)
                .contains("context holds")
        );
    }
}

/// Most of its memory that was ever resident, bytes, mapped files included.
fn peak(engine: &Engine) -> u64 {
    field(engine, "VmHWM:")
}

#[test]
fn an_engine_that_is_born_small_is_small_from_the_beginning_and_grows_when_told() {
    let born = |reduced| {
        let params = EngineParams {
            context: 32_768,
            reduced,
            ..params()
        };
        Engine::tiny(&tiny(), params)
    };
    let (full, small) = (born(None), born(Some(1024)));
    // Both slots.
    let expected = (32_768 - 1024) * 2 * KV;
    // Not even for a moment, or it would have been too much for a moment.
    let saved = ratio(peak(&full).saturating_sub(peak(&small)), expected);
    println!("{saved:.2} of the KV cache's difference were never taken");
    assert!((0.9..1.5).contains(&saved), "{saved}");
    let shown = (small.info.context, small.info.configured);
    assert_eq!(shown, (1024, 32_768));
    assert_eq!((small.info().context, small.info().configured), shown);
    let answer = small.ask(words(100)).text();
    assert_eq!(answer, full.ask(words(100)).text());
    let refused = small.ask(words(2000));
    assert!(
        refused
            .refused(ErrorKind::ContextLength)
            .contains("context holds 1024")
    );
    // It can have all it was configured with, and no more.
    let eased = context(&small, 32_768);
    let taken = ratio(eased.after.saturating_sub(eased.before), expected);
    assert!((0.9..1.5).contains(&taken), "{taken}");
    assert_eq!(small.ask(words(100)).text(), answer);
    assert_eq!(small.ask(words(2000)).text(), full.ask(words(2000)).text());
    let more = order(&small, 1, Ease::Context { tokens: 32_769 });
    assert!(more.refused.unwrap().contains("128 to 32768"));
}

#[test]
fn an_engine_whose_batch_is_longer_than_what_it_is_born_with_reads_long_prompts_once_it_has_grown() {
    let params = |reduced| EngineParams {
        context: 4096,
        reduced,
        batch: 1024,
        ..params()
    };
    let engine = Engine::tiny(&tiny(), params(Some(128)));
    assert_eq!(engine.ask(words(60)).done().completion_tokens, 8);
    context(&engine, 4096);
    let expected = Engine::tiny(&tiny(), params(None)).ask(words(3000));
    assert_eq!(engine.ask(words(3000)).text(), expected.text());
}

#[test]
fn a_birth_with_a_reduced_context_out_of_bounds_is_refused_with_the_bounds() {
    let model = descriptor(&tiny().bytes());
    for reduced in [0, 127, 8193, u32::MAX] {
        let params = EngineParams {
            reduced: Some(reduced),
            ..params()
        };
        let failure = Engine::start(&model, params).err().unwrap();
        let why = &failure.reason;
        assert!(
            why.contains(&format!("the reduced context is {reduced}")) && why.contains("128 to 8192"),
            "{why}"
        );
        assert_eq!(failure.status.code(), Some(1));
    }
}

#[test]
fn contexts_out_of_bounds_are_refused_with_the_bounds() {
    let engine = Engine::tiny(&tiny(), params());
    for tokens in [0, 127, 8193, u32::MAX] {
        let eased = order(&engine, 1, Ease::Context { tokens });
        let why = eased.refused.unwrap();
        assert!(
            why.contains(&tokens.to_string()) && why.contains("128 to 8192"),
            "{why}"
        );
        assert_eq!(eased.context, 8192);
    }
    // What it has is no change, whatever runs.
    let mut running = engine.connect();
    running.send(long("a", None));
    running.first_token();
    assert!(at_once(&context(&engine, 8192)));
}

#[test]
fn eight_clients_under_a_shrinking_context_all_get_their_whole_answers() {
    let engine = Engine::slow(EngineParams { slots: 4, ..params() });
    let request = |client: usize| Generate {
        client: client.to_string(),
        max_tokens: Some(150),
        ..user(&format!("client {client} speaks"))
    };
    let mut clients: Vec<_> = (0..8)
        .map(|client| {
            let mut talk = engine.connect();
            talk.send(request(client));
            talk
        })
        .collect();
    clients[0].first_token();
    // The second long before what runs would let the first come about.
    for (seq, tokens) in [(1, 1024), (2, 256)] {
        engine.tell(&ToEngine::Ease {
            seq,
            ease: Ease::Context { tokens },
        });
    }
    let answers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|talk| scope.spawn(|| talk.finish()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (client, answer) in answers.iter().enumerate() {
        let done = answer.done();
        assert_eq!(
            (done.completion_tokens, done.finish_reason),
            (150, FinishReason::Length)
        );
        // The first one's first token was read before.
        assert!(answer.tokens.len() >= 149, "client {client}");
    }
    // Each order was answered; one that was overtaken says so.
    let FromEngine::Eased(first) = engine.hear() else {
        panic!("no answer")
    };
    assert!(first.seq == 1 && first.refused.unwrap().contains("another one was ordered"));
    assert_eq!(eased(&engine, 2).refused, None);
    assert_eq!(engine.info().context, 256);
}

#[test]
fn what_waits_and_does_not_fit_is_refused_with_the_counts_when_it_is_so_far() {
    let engine = Engine::slow(EngineParams { slots: 1, ..params() });
    let most = tokens_in(&engine, WAIT / 2).min(700);
    let mut running = engine.connect();
    running.send(long("a", Some(most)));
    running.first_token();
    let mut large = engine.connect();
    large.send(words(3000));
    engine.wait_for(1, 1);
    let mut scored = engine.connect();
    scored.send_score(&user(&"y".repeat(1000)), &"z".repeat(1000));
    engine.wait_for(2, 1);
    let mut fits = engine.connect();
    fits.send(words(100));
    engine.wait_for(3, 1);
    let eased = context(&engine, 1024);
    let refused = large.finish();
    let why = refused.refused(ErrorKind::ContextLength);
    assert!(
        why.contains("prompt has 30") && why.contains("context holds 1024"),
        "{why}"
    );
    let Event::Error(error) = scored.next() else {
        panic!("scored")
    };
    assert!(error.message.contains("context holds 1024"), "{}", error.message);
    assert_eq!(fits.finish().done().completion_tokens, 8);
    // What ran had its time, and not more was waited for.
    let done = running.finish();
    let done = done.done();
    assert_eq!(done.completion_tokens, most);
    if done.decode_ms < WAIT.as_secs_f64() * 750.0 {
        assert!(at_once(&eased), "{eased:?}, {done:?}");
    }
}

#[test]
fn what_runs_on_goes_on_in_the_new_context_and_what_needs_more_is_told_so() {
    let params = EngineParams {
        context: 32_768,
        slots: 3,
        ..params()
    };
    let engine = Engine::slow(params);
    // Ends of itself, but not in time; needs more than there will be; wants whatever there is.
    let mut stays = engine.connect();
    stays.send(long("a", None));
    let mut large = engine.connect();
    large.send(Generate {
        max_tokens: None,
        ..user(&"x".repeat(20_000))
    });
    large.started();
    let mut scoring = engine.connect();
    scoring.send_score(&user("hi"), &"0123456789".repeat(400));
    scoring.started();
    stays.started();
    let Event::Token(first) = stays.next() else {
        panic!("no token")
    };
    let begin = Instant::now();
    engine.tell(&ToEngine::Ease {
        seq: 7,
        ease: Ease::Context { tokens: 16_384 },
    });
    // It goes on answering the supervisor, and begins nothing.
    let mut waiting = engine.connect();
    waiting.send(words(10));
    while engine.info().queued == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    for seq in 0..3 {
        engine.tell(&ToEngine::Ping { seq });
        assert!(matches!(engine.hear(), FromEngine::Pong { queued: 1, seq: heard, .. } if heard == seq));
        std::thread::sleep(Duration::from_millis(300));
    }
    // They had their time, and though they would have gone on for minutes, not more. Where everything takes long, the
    // step that had begun does too, so nothing is said of how long it takes at most.
    let eased = eased(&engine, 7);
    assert_eq!((&eased.refused, eased.context), (&None, 16_384));
    assert!(begin.elapsed() >= WAIT && !at_once(&eased), "{eased:?}");
    let why = large.finish();
    let why = why.refused(ErrorKind::Memory);
    assert!(why.contains("from 32768 tokens to 16384"), "{why}");
    assert_eq!(waiting.finish().done().completion_tokens, 8);
    let Event::Scored(scored) = scoring.next() else {
        panic!("not scored")
    };
    // On a machine several times faster than ours all of it was, before the change.
    assert_eq!(
        scored.tokens.len(),
        4000,
        "each token once, though part of it was read twice"
    );
    // Its tokens are as likely as if nothing had happened, those after the change included.
    engine.tell(&ToEngine::Ping { seq: 9 });
    let FromEngine::Pong { tokens: until, .. } = engine.hear() else {
        panic!("no pong")
    };
    let mut tokens = Vec::new();
    while tokens.len() as u64 <= until + 20 {
        match stays.next() {
            Event::Token(token) => tokens.push(token),
            other => panic!("{other:?}"),
        }
    }
    drop(stays);
    let text: String = first.text + &tokens.iter().map(|token| token.text.as_str()).collect::<String>();
    let scored = engine.score(&long("a", None), &text).unwrap();
    assert_eq!(scored.tokens.len(), tokens.len() + 1);
    for (at, (scored, token)) in std::iter::zip(&scored.tokens[1..], &tokens).enumerate() {
        assert_eq!(scored.bytes, token.bytes, "token {at}");
        assert!((scored.logprob - token.logprob).abs() < 0.01, "token {at}");
    }
}

#[test]
fn an_answer_that_reaches_the_end_of_a_context_made_smaller_is_not_passed_off_as_whole() {
    let engine = Engine::slow(EngineParams {
        context: 16_384,
        ..params()
    });
    let mut running = engine.connect();
    running.send(long("a", None));
    running.first_token();
    let eased = context(&engine, 1024);
    assert!(!at_once(&eased), "it would have gone on for minutes: {eased:?}");
    let outcome = running.finish();
    let why = outcome.refused(ErrorKind::Memory);
    assert!(why.contains("from 16384 tokens to 1024"), "{why}");
    // On a machine several times faster than ours it had more than that before the change.
    println!("{} tokens", outcome.tokens.len());
}

#[test]
fn dropped_caches_change_no_answer() {
    for arch in [Arch::Llama, Arch::Mamba, Arch::Lfm2] {
        let model = Tiny { arch, ..tiny() };
        let engine = Engine::tiny(
            &model,
            EngineParams {
                context: 2048,
                ..params()
            },
        );
        let first = engine.ask(words(600));
        let again = engine.ask(words(600));
        assert!(again.cached > 0, "{arch:?}");
        let mut running = engine.connect();
        running.send(long("a", Some(60)));
        running.first_token();
        let eased = order(&engine, 1, Ease::DropCaches);
        assert_eq!((eased.refused, eased.context), (None, 2048));
        let answer = running.finish();
        assert_eq!(answer.done().completion_tokens, 60);
        let fresh = engine.ask(words(600));
        assert_eq!((fresh.cached, fresh.text()), (0, first.text()), "{arch:?}");
        let alone = engine.ask(long("b", Some(60))).text();
        assert!(alone.ends_with(&answer.text()), "{arch:?}");
    }
}

#[test]
fn saved_states_are_given_back() {
    let model = Tiny {
        arch: Arch::Mamba,
        layers: 32,
        ..tiny()
    };
    let engine = Engine::tiny(
        &model,
        EngineParams {
            context: 1024,
            ..params()
        },
    );
    for turn in 0..8 {
        engine.ask(words(50 + 40 * turn));
    }
    let eased = order(&engine, 1, Ease::DropCaches);
    println!("{} → {}", eased.before, eased.after);
    assert!(eased.after < eased.before, "{eased:?}");
}

#[test]
fn a_context_that_cannot_be_made_leaves_the_one_there_was() {
    let engine = Engine::tiny(
        &tiny(),
        EngineParams {
            context: 65_536,
            ..params()
        },
    );
    context(&engine, 1024);
    // Room for what it has, and not for half a gigabyte of KV cache.
    limit(&engine, 100_000_000);
    let eased = order(&engine, 2, Ease::Context { tokens: 65_536 });
    assert!(eased.refused.unwrap().starts_with("make a context: "));
    assert_eq!((eased.context, engine.info().context), (1024, 1024));
    assert_eq!(engine.ask(words(100)).done().completion_tokens, 8);
    let refused = engine.ask(words(2000));
    assert!(refused.refused(ErrorKind::ContextLength).contains("1024"));
}

#[test]
fn an_engine_that_can_have_no_context_any_more_says_so_and_leaves() {
    let mut engine = Engine::tiny(
        &tiny(),
        EngineParams {
            context: 65_536,
            ..params()
        },
    );
    context(&engine, 32_768);
    limit_below(&engine, 100_000_000);
    engine.tell(&ToEngine::Ease {
        seq: 2,
        ease: Ease::Context { tokens: 65_536 },
    });
    let FromEngine::Failed { reason, .. } = engine.hear() else {
        panic!("it goes on")
    };
    assert!(
        reason.starts_with("change the context: ") && reason.contains("make a context"),
        "{reason}"
    );
    assert_eq!(engine.wait().code(), Some(1));
}

/// Lets the engine map at most `more` bytes more than it has.
fn limit(engine: &Engine, more: u64) {
    set_limit(engine, field(engine, "VmSize:") + more);
}

/// Lets it map `less` bytes less than it has, once it has given some back.
fn limit_below(engine: &Engine, less: u64) {
    set_limit(engine, field(engine, "VmSize:") - less);
}

fn set_limit(engine: &Engine, bytes: u64) {
    let limit = nix::libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    let pid = i32::try_from(engine.pid()).unwrap();
    // SAFETY: the limit is valid during the call, and no old one is asked for.
    let done = unsafe {
        nix::libc::prlimit(
            pid,
            Resource::RLIMIT_AS as _,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(done, 0);
}

#[test]
fn a_stop_does_not_wait_for_a_change() {
    let mut engine = Engine::slow(EngineParams { slots: 1, ..params() });
    // Well within the time that what runs has after a stop.
    let most = tokens_in(&engine, Duration::from_secs(1)).max(5);
    let mut running = engine.connect();
    running.send(long("a", Some(most)));
    running.first_token();
    engine.tell(&ToEngine::Ease {
        seq: 1,
        ease: Ease::Context { tokens: 256 },
    });
    engine.tell(&ToEngine::Stop);
    assert!(eased(&engine, 1).refused.unwrap().contains("stopping"));
    assert_eq!(running.finish().done().completion_tokens, most);
    assert_eq!(engine.wait().code(), Some(0));
}

#[test]
fn a_batch_longer_than_the_smallest_context_does_no_harm() {
    let engine = Engine::start(
        &descriptor(&tiny().bytes()),
        EngineParams {
            batch: 4096,
            context: 4096,
            slots: 8,
            ..small()
        },
    )
    .unwrap();
    context(&engine, 128);
    let mut clients: Vec<_> = (0..8)
        .map(|client| {
            let mut talk = engine.connect();
            talk.send(Generate {
                client: client.to_string(),
                ..words(80)
            });
            talk
        })
        .collect();
    for client in &mut clients {
        assert_eq!(client.finish().done().completion_tokens, 8);
    }
}

#[test]
fn a_conversation_is_counted_as_it_would_be_read() {
    let engine = Engine::tiny(&tiny(), params());
    let request = talk(&[(Role::System, "be brief"), (Role::User, "hello")]);
    let asked = engine.ask(request.clone());
    assert_eq!(engine.count(&request).unwrap(), (asked.prompt, 8192));
    context(&engine, 128);
    assert_eq!(engine.count(&request).unwrap(), (asked.prompt, 128));
    let (tokens, context) = engine.count(&user(&"x".repeat(100_000))).unwrap();
    assert!(tokens >= context);
    assert_eq!(engine.count(&talk(&[])).unwrap_err().kind, ErrorKind::Invalid);
}
