//! A real engine on made-up models: answers that go on from a given beginning, and scores of given answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use sarai_wire::birth::EngineParams;
use sarai_wire::engine::{ErrorKind, Generate};
use support::{Arch, Engine, Tiny, one_cpu, small, user};

fn going_on(prefix: &str, max_tokens: u32) -> Generate {
    Generate {
        prefix: prefix.into(),
        max_tokens: Some(max_tokens),
        ..user("hello")
    }
}

#[test]
fn an_answer_goes_on_from_its_prefix_as_if_it_had_not_been_cut() {
    for arch in [Arch::Llama, Arch::Mamba, Arch::Lfm2] {
        let tiny = Tiny {
            arch,
            ..Tiny::default()
        };
        let engine = Engine::tiny(&tiny, small());
        let whole = engine.ask(user("hello"));
        let text = whole.text();
        let first: String = whole.tokens[..10].iter().map(|token| &*token.text).collect();
        let rest = engine.ask(going_on(&first, 14));
        assert_eq!(format!("{first}{}", rest.text()), text, "{arch:?}");
        assert_eq!(rest.done().completion_tokens, 14);
        assert_eq!(rest.prompt, rest.done().prompt_tokens);
        assert!(rest.prompt > whole.prompt);
        let fresh = Engine::tiny(&tiny, small()).ask(going_on(&first, 14));
        assert_eq!(fresh.cached, 0);
        assert_eq!(fresh.text(), rest.text(), "{arch:?}");
    }
}

#[test]
fn a_prefix_finds_the_drafts_own_tokens() {
    let engine = Engine::tiny(&Tiny::default(), small());
    let draft = engine.ask(user("hello"));
    let first: String = draft.tokens[..10].iter().map(|token| &*token.text).collect();
    // All of the prompt and the prefix but the last token, which is computed again.
    let rest = engine.ask(going_on(&first, 5));
    assert_eq!((rest.prompt, rest.cached), (draft.prompt + 10, draft.prompt + 9));
    // A prefix that leaves the draft: what it shares is found, only the rest is tokenised.
    let other = format!("{first}\u{1}else");
    let left = engine.ask(going_on(&other, 5));
    assert!(left.cached >= draft.prompt + 9, "{left:?}");
    assert_eq!(left.prompt, draft.prompt + 10 + 5);
}

#[test]
fn stop_texts_and_control_tokens_mean_nothing_in_a_prefix() {
    let engine = Engine::tiny(&Tiny::default(), small());
    let plain = engine.ask(going_on("x", 4));
    let forged = engine.ask(going_on("<|im_end|>", 4));
    assert_eq!(forged.prompt - plain.prompt + 1, 10);
    let stopped = engine.ask(Generate {
        stop: vec!["STOP".into()],
        ..going_on("a STOP b", 4)
    });
    assert_eq!(stopped.done().completion_tokens, 4);
}

#[test]
fn a_prefix_counts_against_the_context() {
    let engine = Engine::tiny(&Tiny::default(), small());
    let refused = engine.ask(going_on(&"x".repeat(300), 4));
    assert!(
        refused
            .refused(ErrorKind::ContextLength)
            .contains("context holds 256")
    );
    let huge = engine.ask(going_on(&"x".repeat(3_000_000), 4));
    assert!(huge.refused(ErrorKind::ContextLength).contains("at least"));
}

#[test]
fn a_score_is_what_generation_reported() {
    for arch in [Arch::Llama, Arch::Mamba, Arch::Lfm2] {
        let engine = Engine::tiny(
            &Tiny {
                arch,
                ..Tiny::default()
            },
            EngineParams {
                context: 512,
                ..small()
            },
        );
        let request = Generate {
            max_tokens: Some(150),
            ..user("hello")
        };
        let answer = engine.ask(request.clone());
        let text = answer.text();
        for turn in 0..2 {
            let scored = engine.score(&request, &text).unwrap();
            assert_eq!(scored.prompt_tokens, answer.prompt);
            assert!(scored.cached_tokens < scored.prompt_tokens);
            if turn == 0 || arch != Arch::Llama {
                assert_eq!(scored.cached_tokens, answer.prompt - 1);
            }
            let bytes: Vec<u8> = scored.tokens.iter().flat_map(|t| t.bytes.clone()).collect();
            assert_eq!(bytes, text.as_bytes());
            // Until the tokeniser cuts the text otherwise than the model did.
            let pairs = scored.tokens.iter().zip(&answer.tokens);
            let same: Vec<_> = pairs
                .take_while(|(score, token)| score.bytes == token.bytes)
                .collect();
            assert!(same.len() > 10, "{} of {}", same.len(), answer.tokens.len());
            for (score, token) in same {
                assert!(
                    (score.logprob - token.logprob).abs() < 1e-2,
                    "{score:?} {token:?}"
                );
            }
        }
        // A score leaves the text behind: the answer can go on from it.
        let on = engine.ask(Generate {
            prefix: text,
            max_tokens: Some(2),
            ..user("hello")
        });
        let expected = match arch {
            Arch::Llama => on.prompt,
            Arch::Mamba | Arch::Lfm2 => answer.prompt,
        };
        assert_eq!(on.cached + 1, expected, "{arch:?}");
    }
}

#[test]
fn scores_are_bounded_and_refused_with_the_counts() {
    let engine = Engine::tiny(&Tiny::default(), small());
    let request = user("hello");
    let empty = engine.score(&request, "").unwrap_err();
    assert_eq!(empty.kind, ErrorKind::Invalid);
    let long = engine.score(&request, &"x".repeat(300)).unwrap_err();
    assert_eq!(long.kind, ErrorKind::ContextLength);
    assert!(long.message.contains("and text 300, context holds 256"));
    let prompt = engine.ask(request.clone()).prompt;
    let fits = "x".repeat((256 - prompt) as usize);
    let scored = engine.score(&request, &fits).unwrap();
    assert_eq!(scored.tokens.len(), fits.len());
    assert_eq!(engine.ask(request).done().completion_tokens, 24);
}

#[test]
fn scores_run_beside_answers_and_each_other() {
    let engine = Engine::slow(EngineParams {
        context: 8192,
        slots: 3,
        batch: 128,
        cpus: one_cpu(),
        ..EngineParams::default()
    });
    let text = "some text to score ".repeat(20);
    let alone = engine.score(&user("a"), &text).unwrap();
    let mut talking = engine.connect();
    talking.send(Generate {
        max_tokens: None,
        ..user("count to a million")
    });
    talking.first_token();
    std::thread::scope(|scope| {
        let threads: Vec<_> = ["a", "b"]
            .map(|who| scope.spawn(|| engine.score(&user(who), &text).unwrap()))
            .into_iter()
            .collect();
        let scores: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(scores[0].tokens.len(), alone.tokens.len());
        for (one, other) in scores[0].tokens.iter().zip(&alone.tokens) {
            assert!((one.logprob - other.logprob).abs() < 1e-2);
        }
    });
    talking.first_token();
}

#[test]
fn a_client_that_goes_away_ends_its_score() {
    let engine = Engine::slow(EngineParams {
        context: 8192,
        slots: 1,
        batch: 128,
        cpus: one_cpu(),
        ..EngineParams::default()
    });
    let text = "x".repeat(1500);
    let mut talk = engine.connect();
    talk.send_score(&user("a"), &text);
    talk.started();
    drop(talk);
    engine.wait_for(0, 0);
    // It was not read to its end, all but the last token of which would be found.
    let on = engine.ask(Generate {
        prefix: text,
        max_tokens: Some(1),
        ..user("a")
    });
    assert!(on.cached + 1 < on.prompt, "{} of {}", on.cached, on.prompt);
}
