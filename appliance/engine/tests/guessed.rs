//! A real engine on made-up models: answers decoded with a guess are the answers decoded without.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use sarai_wire::birth::EngineParams;
use sarai_wire::engine::{Constraint, FinishReason, Generate, Sampling};
use support::{Arch, Engine, Outcome, Tiny, descriptor, small, user};

fn engine(arch: Arch) -> Engine {
    let tiny = Tiny {
        arch,
        ..Tiny::default()
    };
    let params = EngineParams {
        context: 512,
        ..small()
    };
    Engine::careless(&descriptor(&tiny.bytes()), params)
}

fn plain(seed: Option<u64>) -> Generate {
    Generate {
        max_tokens: Some(120),
        top_logprobs: 5,
        sampling: Sampling {
            temperature: if seed.is_some() { 0.8 } else { 0.0 },
            top_p: 0.95,
            seed,
        },
        ..user("hello")
    }
}

/// Two answers are the same as far as arithmetic allows: a batch adds up its numbers in another order, so where two
/// tokens are as good as equally likely, one answer may take the one and the other the other. Until there, what is
/// reported must agree.
fn agree(one: &Outcome, other: &Outcome) {
    for (a, b) in one.tokens.iter().zip(&other.tokens) {
        if a.bytes != b.bytes {
            assert!((a.top[0].logprob - a.top[1].logprob).abs() < 0.05, "{a:?} {b:?}");
            return;
        }
        assert!((a.logprob - b.logprob).abs() < 0.05, "{a:?} {b:?}");
    }
    assert_eq!(one.text(), other.text());
}

#[test]
fn a_guess_changes_nothing_of_the_answer() {
    let engine = engine(Arch::Llama);
    let expected = engine.ask(plain(None));
    let whole = expected.text();
    let middle = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let guesses = [
        whole.clone(),
        whole[middle..].to_owned(),
        format!("{}something else{}", &whole[..middle], &whole[middle..]),
        "nothing of the kind at all".to_owned(),
    ];
    for guess in guesses {
        let outcome = engine.ask(Generate { guess, ..plain(None) });
        agree(&outcome, &expected);
        let done = outcome.done();
        assert_eq!(done.completion_tokens, 120);
        assert!(done.accepted <= done.drafted);
    }
}

#[test]
fn a_good_guess_is_used_and_the_cache_stays_true() {
    let engine = engine(Arch::Llama);
    let on = |prefix: String| Generate {
        prefix,
        max_tokens: Some(1),
        ..plain(None)
    };
    let expected = engine.ask(plain(None));
    let after = engine.ask(on(expected.text()));
    let guessed = engine.ask(Generate {
        guess: expected.text(),
        ..plain(None)
    });
    println!("{:?}", guessed.done());
    assert!(guessed.done().accepted > 60);
    // What a guess leaves in the cache is what was said: what follows sees the same.
    let here = engine.ask(on(guessed.text()));
    assert_eq!(here.cached + 1, here.prompt);
    if guessed.text() == expected.text() {
        assert!((here.tokens[0].top[0].logprob - after.tokens[0].top[0].logprob).abs() < 0.1);
    }
}

#[test]
fn a_guess_and_limits_agree() {
    let engine = engine(Arch::Llama);
    let expected = engine.ask(plain(None)).text();
    for most in [1, 2, 3, 7, 33] {
        let outcome = engine.ask(Generate {
            guess: expected.clone(),
            max_tokens: Some(most),
            ..plain(None)
        });
        assert_eq!(outcome.done().completion_tokens, most);
        assert_eq!(outcome.done().finish_reason, FinishReason::Length);
    }
    let stop: String = expected.chars().skip(40).take(3).collect();
    let stopped = engine.ask(Generate {
        guess: expected.clone(),
        stop: vec![stop.clone()],
        ..plain(None)
    });
    assert!(!stopped.text().contains(&stop));
    // To the very end of the context.
    let full = engine.ask(Generate {
        max_tokens: None,
        ..plain(None)
    });
    let guessed = engine.ask(Generate {
        max_tokens: None,
        guess: full.text(),
        ..plain(None)
    });
    agree(&guessed, &full);
    assert_eq!(guessed.prompt + guessed.done().completion_tokens, 512);
}

#[test]
fn a_guess_obeys_the_constraint() {
    let engine = engine(Arch::Llama);
    let request = Generate {
        constraint: Some(Constraint::Regex {
            pattern: "([a-d]{2} ){30}end".into(),
        }),
        ..plain(Some(4))
    };
    let expected = engine.ask(request.clone());
    assert_eq!(expected.done().finish_reason, FinishReason::Stop);
    for guess in [expected.text(), format!("ab {}", expected.text()), "zz zz".into()] {
        let outcome = engine.ask(Generate {
            guess,
            ..request.clone()
        });
        assert_eq!(outcome.done().finish_reason, FinishReason::Stop);
        let text = outcome.text();
        let words: Vec<&str> = text.split(' ').collect();
        assert_eq!((words.len(), words[30]), (31, "end"), "{text}");
        let sound = |word: &&str| word.len() == 2 && word.bytes().all(|b| (b'a'..=b'd').contains(&b));
        assert!(words[..30].iter().all(sound), "{text}");
    }
}

#[test]
fn a_model_that_cannot_take_tokens_back_is_not_asked_to() {
    let engine = engine(Arch::Mamba);
    assert!(engine.info.batch_costs.is_empty());
    let expected = engine.ask(plain(None));
    let guessed = engine.ask(Generate {
        guess: expected.text(),
        ..plain(None)
    });
    assert_eq!(guessed.text(), expected.text());
    assert_eq!(guessed.done().drafted, 0);
}
