//! A real engine with LoRA adapters: which one a request gets, what is refused, and what is given back.
//!
//! Answers are compared bit for bit where steps of the same tokens are compared: one request of an adapter is alone in
//! its steps, whoever else runs with other ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use sarai_wire::adapter::{Adapter, AdapterOrder, Apply, MOST_LOADED};
use sarai_wire::birth::{EngineParams, ToEngine};
use sarai_wire::engine::{ErrorKind, Generate};
use sarai_wire::memory::Ease;
use support::adapters::{Made, exactly, put_to_use, without};
use support::{Arch, Engine, Lora, LoraFlaw, Tiny, descriptor, one_cpu, small, user};

/// What a request is answered when the prompt is in the cache already, as it is for whoever asks later.
fn warm(engine: &Engine, request: &Generate) -> Vec<(Vec<u8>, u32)> {
    engine.ask(request.clone());
    let again = engine.ask(request.clone());
    assert!(again.cached > 0);
    exactly(&again)
}

fn slots(slots: u32) -> EngineParams {
    EngineParams {
        context: 1024,
        slots,
        ..small()
    }
}

#[test]
fn an_adapter_changes_answers_and_one_that_adds_nothing_does_not() {
    for arch in [Arch::Llama, Arch::Lfm2] {
        let tiny = Tiny {
            arch,
            ..Tiny::default()
        };
        let engine = Engine::tiny(&tiny, small());
        let plain = engine.ask(user("hello"));
        assert_eq!(plain.adapter, None);
        let some = Made::of(&Lora::tiny(&tiny, 1), "a");
        let nothing = Lora {
            strength: 0.0,
            ..Lora::tiny(&tiny, 2)
        };
        let nothing = Made::of(&nothing, "b");
        for (made, same) in [(&some, false), (&nothing, true)] {
            made.load(&engine);
            put_to_use(&engine, Some(made));
            let adapted = engine.ask(user("hello"));
            assert_eq!(adapted.adapter.as_ref(), Some(&made.which));
            assert_eq!(
                exactly(&adapted) == exactly(&plain),
                same,
                "{arch:?} {:?}",
                made.which
            );
        }
        put_to_use(&engine, None);
        assert_eq!(exactly(&engine.ask(user("hello"))), exactly(&plain));
    }
}

#[test]
fn an_engine_is_born_with_its_adapter_and_goes_on_without_one_that_is_none() {
    let tiny = Tiny::default();
    let model = descriptor(&tiny.bytes());
    let made = Made::of(&Lora::tiny(&tiny, 1), "a");
    let (engine, answer) = Engine::adapted(&model, small(), (&made.which, &made.file)).unwrap();
    assert_eq!(
        (answer.seq, answer.used(), &answer.refused),
        (0, Some(&made.which), &None)
    );
    assert_eq!(engine.info.adapter.as_ref(), Some(&made.which));
    let born = engine.ask(user("hello"));
    let later = Engine::start(&model, small()).unwrap();
    made.load(&later);
    put_to_use(&later, Some(&made));
    assert_eq!(exactly(&later.ask(user("hello"))), exactly(&born));
    let wrong = Lora {
        flaw: Some(LoraFlaw::OtherShape),
        ..Lora::tiny(&tiny, 1)
    };
    let wrong = Made::of(&wrong, "b");
    let (engine, answer) = Engine::adapted(&model, small(), (&wrong.which, &wrong.file)).unwrap();
    assert!(answer.refused.unwrap().contains("incorrect shape") && answer.in_use.is_none());
    assert_eq!(
        (engine.info.adapter.as_ref(), engine.ask(user("hello")).adapter),
        (None, None)
    );
}

#[test]
fn what_is_no_adapter_of_the_model_is_refused_with_the_reason_and_the_engine_serves_as_before() {
    let tiny = Tiny::default();
    let engine = Engine::tiny(&tiny, small());
    let good = Made::of(&Lora::tiny(&tiny, 1), "a");
    good.load(&engine);
    put_to_use(&engine, Some(&good));
    let before = warm(&engine, &user("hello"));
    for (flaw, why) in [
        (LoraFlaw::NoAdapter, "general.type is \"model\""),
        (LoraFlaw::UnknownKind, "adapter.type is \"dora\""),
        (
            LoraFlaw::OtherArch,
            "architecture \"gpt2\", and the model's is \"llama\"",
        ),
        (LoraFlaw::OtherShape, "incorrect shape"),
        (LoraFlaw::OtherLayer, "does not exist in base model"),
        (LoraFlaw::NoB, "missing one component"),
        (LoraFlaw::AlphaIsText, "adapter.lora.alpha is no finite number"),
        (LoraFlaw::Integers, "no matrix of floats"),
        (LoraFlaw::Norm, "no matrix of a LoRA"),
        (LoraFlaw::NotANumber, "not finite"),
        (LoraFlaw::Truncated, "load the adapter"),
    ] {
        let lora = Lora {
            flaw: Some(flaw),
            ..Lora::tiny(&tiny, 2)
        };
        let wrong = Made::of(&lora, "b");
        let answer = engine.order(wrong.loading(), Some(&wrong.file));
        let refused = answer.refused.clone().unwrap();
        println!("{flaw:?}: failed to {refused}");
        assert!(refused.contains(why), "{flaw:?}: {refused}");
        assert_eq!((answer.loaded.len(), answer.used()), (1, Some(&good.which)));
    }
    for bytes in [&b""[..], b"GGUF", &[0xff; 4096], &tiny.bytes()] {
        let answer = engine.order(
            AdapterOrder::Load {
                adapter: Adapter {
                    digest: "c".repeat(64),
                    version: "1".into(),
                },
            },
            Some(&descriptor(bytes)),
        );
        assert!(answer.refused.unwrap().starts_with("load the adapter: "));
    }
    let nothing = engine.order(good.loading(), None);
    assert!(nothing.refused.unwrap().contains("no file came"));
    assert_eq!(exactly(&engine.ask(user("hello"))), before);
}

#[test]
fn requests_with_different_adapters_run_together_and_answer_as_each_does_alone() {
    let engine = Engine::slow(slots(3));
    let tiny = Tiny {
        layers: 8,
        feed_forward: 16_384,
        ..Tiny::default()
    };
    let lora = |seed| Lora {
        strength: 2.0,
        ..Lora::tiny(&tiny, seed)
    };
    let (a, b) = (Made::of(&lora(1), "a"), Made::of(&lora(2), "b"));
    a.load(&engine);
    b.load(&engine);
    let long = Generate {
        max_tokens: Some(300),
        client: "long".into(),
        ..without(user("hello"))
    };
    let (of_a, of_b) = (a.exactly(user("hello")), b.exactly(user("hello")));
    let alone = [&long, &of_a, &of_b].map(|request| warm(&engine, request));
    assert!(alone[1] != alone[2] && alone[0][..24] != alone[1][..]);
    for _ in 0..3 {
        let mut first = engine.connect();
        first.send(long.clone());
        first.started();
        first.first_token();
        let mut others = [&of_a, &of_b].map(|request| {
            let mut talk = engine.connect();
            talk.send(Generate {
                client: "other".into(),
                ..request.clone()
            });
            talk
        });
        let ends = others.each_mut().map(|talk| talk.finish());
        // They ran beside it: it goes on.
        engine.wait_for(0, 1);
        let whole = first.finish();
        assert_eq!(exactly(&ends[0]), alone[1]);
        assert_eq!(exactly(&ends[1]), alone[2]);
        assert_eq!(exactly(&whole), alone[0][1..]);
        assert_eq!(ends[0].adapter.as_ref(), Some(&a.which));
        assert_eq!(ends[1].adapter.as_ref(), Some(&b.which));
    }
}

#[test]
fn what_runs_ends_with_its_adapter_and_what_begins_gets_the_new_one() {
    let engine = Engine::slow(slots(2));
    let tiny = Tiny {
        layers: 8,
        feed_forward: 16_384,
        ..Tiny::default()
    };
    let lora = |seed| Lora {
        strength: 2.0,
        ..Lora::tiny(&tiny, seed)
    };
    let [a, b, c] = [("a", 1), ("b", 2), ("c", 3)].map(|(digit, seed)| Made::of(&lora(seed), digit));
    let long = Generate {
        max_tokens: Some(200),
        ..user("hello")
    };
    a.load(&engine);
    put_to_use(&engine, Some(&a));
    let alone = warm(&engine, &long);
    let mut running = engine.connect();
    running.send(long);
    running.started();
    running.first_token();
    for made in [&b, &c] {
        made.load(&engine);
        put_to_use(&engine, Some(made));
        assert_eq!(engine.ask(user("hello")).adapter.as_ref(), Some(&made.which));
    }
    // The one that runs was given up meanwhile, and is not there for anybody else.
    engine.wait_for(0, 1);
    let refused = engine.ask(a.exactly(user("hello")));
    assert!(refused.refused(ErrorKind::Invalid).contains("is not loaded"));
    assert_eq!(exactly(&running.finish()), alone[1..]);
}

#[test]
fn a_prefix_is_never_used_under_another_adapter() {
    for arch in [Arch::Llama, Arch::Lfm2] {
        let tiny = Tiny {
            arch,
            ..Tiny::default()
        };
        let engine = Engine::tiny(&tiny, small());
        let (a, b) = (
            Made::of(&Lora::tiny(&tiny, 1), "a"),
            Made::of(&Lora::tiny(&tiny, 2), "b"),
        );
        a.load(&engine);
        b.load(&engine);
        let requests = [
            without(user("hello")),
            a.exactly(user("hello")),
            b.exactly(user("hello")),
        ];
        let mut answers = Vec::new();
        for request in &requests {
            let fresh = engine.ask(request.clone());
            assert_eq!(fresh.cached, 0, "{arch:?}");
            let again = engine.ask(request.clone());
            assert!(again.cached > 0, "{arch:?}");
            answers.push(again.text());
        }
        for (request, answer) in requests.iter().zip(&answers) {
            let back = engine.ask(request.clone());
            assert_eq!((back.cached, &back.text()), (0, answer), "{arch:?}");
            // A draft's own text is not found under another adapter either.
            let going_on = Generate {
                prefix: answer.chars().take(4).collect(),
                ..request.clone()
            };
            assert!(engine.ask(going_on.clone()).cached > 0);
            for other in requests.iter().filter(|other| other.apply != request.apply) {
                let crossing = Generate {
                    apply: other.apply.clone(),
                    ..going_on.clone()
                };
                assert_eq!(engine.ask(crossing).cached, 0);
                assert_eq!(engine.ask(going_on.clone()).cached, 0);
            }
        }
    }
}

#[test]
fn a_request_names_its_adapter_and_what_is_not_there_is_refused_or_replaced_as_it_wishes() {
    let tiny = Tiny::default();
    let engine = Engine::tiny(&tiny, small());
    let (a, b) = (
        Made::of(&Lora::tiny(&tiny, 1), "a"),
        Made::of(&Lora::tiny(&tiny, 2), "b"),
    );
    a.load(&engine);
    b.load(&engine);
    put_to_use(&engine, Some(&a));
    let of = |apply: Apply| {
        engine.ask(Generate {
            apply,
            ..user("hello")
        })
    };
    let (own, gone) = (Some(b.which.digest.clone()), Some("f".repeat(64)));
    assert_eq!(of(Apply::InUse).adapter.as_ref(), Some(&a.which));
    assert_eq!(
        of(Apply::Exactly { digest: own.clone() }).adapter.as_ref(),
        Some(&b.which)
    );
    assert_eq!(of(Apply::Rather { digest: own }).adapter.as_ref(), Some(&b.which));
    assert_eq!(
        of(Apply::Rather { digest: gone.clone() }).adapter.as_ref(),
        Some(&a.which)
    );
    assert_eq!(of(Apply::Rather { digest: None }).adapter, None);
    assert!(
        of(Apply::Exactly { digest: gone })
            .refused(ErrorKind::Invalid)
            .contains("not loaded")
    );
    let odd = Some("../adapter".to_owned());
    assert!(
        of(Apply::Exactly { digest: odd })
            .refused(ErrorKind::Invalid)
            .contains("64 lower-case")
    );
}

#[test]
fn a_score_is_of_the_adapter_it_is_asked_with() {
    let tiny = Tiny::default();
    let engine = Engine::tiny(&tiny, small());
    let made = Made::of(&Lora::tiny(&tiny, 1), "a");
    made.load(&engine);
    let sum = |request: &Generate, text: &str| -> f32 {
        let scored = engine.score(request, text).unwrap();
        scored.tokens.iter().map(|token| token.logprob).sum()
    };
    let (plain, adapted) = (without(user("hello")), made.exactly(user("hello")));
    let text = engine.ask(adapted.clone()).text();
    let (under, without) = (sum(&adapted, &text), sum(&plain, &text));
    // Greedy under the adapter, so nothing finds it likelier.
    assert!(under > without + 1.0, "{under} {without}");
    put_to_use(&engine, Some(&made));
    assert!((sum(&user("hello"), &text) - under).abs() < 0.01);
    assert!((sum(&plain, &text) - without).abs() < 0.01);
}

#[test]
fn a_context_made_anew_computes_with_the_adapter_again() {
    let tiny = Tiny::default();
    let engine = Engine::tiny(&tiny, slots(1));
    let made = Made::of(&Lora::tiny(&tiny, 1), "a");
    made.load(&engine);
    put_to_use(&engine, Some(&made));
    let before = exactly(&engine.ask(user("hello")));
    for tokens in [256, 1024] {
        engine.tell(&ToEngine::Ease {
            seq: 1,
            ease: Ease::Context { tokens },
        });
        while engine.info().context != tokens {}
        let after = engine.ask(user("hello"));
        assert_eq!((after.cached, exactly(&after) == before), (0, true));
    }
}

#[test]
fn two_are_kept_and_memory_of_the_others_is_given_back() {
    let tiny = Tiny {
        layers: 8,
        feed_forward: 16_384,
        ..Tiny::default()
    };
    let engine = Engine::slow(EngineParams {
        cpus: one_cpu(),
        ..small()
    });
    let wide = |seed| Lora {
        rank: 64,
        ..Lora::tiny(&tiny, seed)
    };
    let made: Vec<Made> = (0..5).map(|n| Made::of(&wide(n), &n.to_string())).collect();
    let size = made[0].file.metadata().unwrap().len();
    assert!(size > 32 * 1024 * 1024);
    engine.ask(user("hello"));
    let before = resident(&engine);
    for (n, adapter) in made.iter().enumerate() {
        adapter.load(&engine);
        put_to_use(&engine, Some(adapter));
        assert_eq!(engine.ask(user("hello")).adapter.as_ref(), Some(&adapter.which));
        let held = resident(&engine).saturating_sub(before);
        let kept = (n as u64 + 1).min(MOST_LOADED as u64);
        assert!(held < kept * size + size / 2, "{n}: {held} of {size} each");
        assert!(held + size / 4 > kept * size, "{n}: {held} of {size} each");
    }
    // The one that is in use is not dropped, the one before it may be, and short memory drops it unasked.
    let in_use = made[4].which.digest.clone();
    let refused = engine.order(AdapterOrder::Drop { digest: in_use }, None);
    assert!(refused.refused.unwrap().contains("in use"));
    engine.tell(&ToEngine::Ease {
        seq: 1,
        ease: Ease::DropCaches,
    });
    let spare = made[3].which.digest.clone();
    assert_eq!(
        engine
            .order(AdapterOrder::Drop { digest: spare }, None)
            .loaded
            .len(),
        1
    );
    put_to_use(&engine, None);
    let last = made[4].which.digest.clone();
    assert!(
        engine
            .order(AdapterOrder::Drop { digest: last }, None)
            .loaded
            .is_empty()
    );
    let left = resident(&engine).saturating_sub(before);
    assert!(left < size / 4, "{left} bytes are not given back");
}

/// Anonymous memory of the engine, bytes.
fn resident(engine: &Engine) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
