//! Adapters on the real model. `SARAI_TEST_MODEL` names its file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use sarai_wire::adapter::{Adapter, AdapterOrder, Apply};
use sarai_wire::birth::EngineParams;
use sarai_wire::engine::Generate;
use support::{Engine, Lora, Outcome, descriptor, one_cpu, real_model, user};

const QUESTION: &str = "What is the capital of France? Answer in one sentence.";

fn params() -> EngineParams {
    EngineParams {
        cpus: one_cpu(),
        ..EngineParams::default()
    }
}

fn which(digit: &str) -> Adapter {
    Adapter {
        digest: digit.repeat(64),
        version: "1".into(),
    }
}

fn load_and_use(engine: &Engine, adapter: &Adapter, lora: &Lora) {
    let file = descriptor(&lora.bytes());
    let load = AdapterOrder::Load {
        adapter: adapter.clone(),
    };
    assert_eq!(engine.order(load, Some(&file)).refused, None);
    let digest = Some(adapter.digest.clone());
    let answer = engine.order(AdapterOrder::Use { digest }, None);
    println!("{answer:?}");
    assert_eq!(answer.used(), Some(adapter));
}

fn exactly(outcome: &Outcome) -> Vec<(Vec<u8>, u32)> {
    let tokens = outcome.tokens.iter();
    tokens.map(|t| (t.bytes.clone(), t.logprob.to_bits())).collect()
}

#[test]
#[ignore = "needs SARAI_TEST_MODEL"]
fn a_small_adapter_moves_every_probability_and_one_that_adds_nothing_none() {
    let engine = Engine::start(&real_model(), params()).unwrap();
    let plain = engine.ask(user(QUESTION));
    assert!(plain.text().contains("Paris"));
    load_and_use(&engine, &which("a"), &Lora::smollm2(1));
    let moved = engine.ask(user(QUESTION));
    let (before, after) = (exactly(&plain), exactly(&moved));
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before.1 != after.1)
    );
    let nothing = Lora {
        strength: 0.0,
        ..Lora::smollm2(2)
    };
    load_and_use(&engine, &which("b"), &nothing);
    assert_eq!(exactly(&engine.ask(user(QUESTION))), before);
}

#[test]
#[ignore = "needs SARAI_TEST_MODEL"]
fn a_guess_changes_nothing_under_an_adapter() {
    let (adapter, lora) = (which("a"), Lora::smollm2(1));
    let file = descriptor(&lora.bytes());
    let request = Generate {
        max_tokens: Some(60),
        ..user("Write three sentences about the sea.")
    };
    let expected = {
        let engine = Engine::start(&real_model(), params()).unwrap();
        load_and_use(&engine, &adapter, &lora);
        engine.ask(request.clone())
    };
    let engine = Engine::eager_adapted(&real_model(), params(), (&adapter, &file));
    assert_eq!(engine.info.adapter.as_ref(), Some(&adapter));
    for guess in [
        expected.text(),
        expected.text().replace(" the ", " a "),
        String::new(),
    ] {
        let guessed = engine.ask(Generate {
            guess: guess.clone(),
            ..request.clone()
        });
        println!(
            "{} ahead, {} right",
            guessed.done().drafted,
            guessed.done().accepted
        );
        assert_eq!(guessed.text(), expected.text());
    }
    // Without the adapter the engine looks ahead as ever.
    let plain = Generate {
        apply: Apply::Exactly { digest: None },
        ..request
    };
    let plain_text = engine.ask(plain.clone()).text();
    let guessed = engine.ask(Generate {
        guess: plain_text.clone(),
        ..plain
    });
    assert_eq!(guessed.text(), plain_text);
}

#[test]
#[ignore = "needs SARAI_TEST_MODEL"]
fn going_back_takes_less_than_a_second() {
    let engine = Engine::start(&real_model(), params()).unwrap();
    load_and_use(&engine, &which("a"), &Lora::smollm2(1));
    let first = engine.ask(user(QUESTION));
    load_and_use(
        &engine,
        &which("b"),
        &Lora {
            rank: 16,
            strength: 0.1,
            ..Lora::smollm2(2)
        },
    );
    assert_ne!(exactly(&engine.ask(user(QUESTION))), exactly(&first));
    let digest = Some(which("a").digest);
    let back = engine.order(AdapterOrder::Use { digest }, None);
    // By the engine's own clock, from the order to its end; between two steps it is a matter of microseconds.
    assert!(back.refused.is_none() && back.took_ms < 1000, "{back:?}");
    assert_eq!(engine.ask(user(QUESTION)).text(), first.text());
}
