//! What the form checkers find, and what they must leave alone.

use super::*;
use crate::critique::Language;
use crate::generate::Turn;
use proptest::prelude::*;

fn found(request: &str, text: &str, finish: Finish) -> Vec<&'static str> {
    let request = [Turn::new(Speaker::User, request)];
    let subject = Subject {
        request: &request,
        text,
        finish,
        language: Language::of_request(&request),
    };
    super::super::standard()
        .iter()
        .flat_map(|checker| checker.check(&subject))
        .map(|f| f.checker)
        .collect()
}

#[test]
fn good_answers_have_no_findings() {
    for (request, text) in [
        ("What is the capital of France?", "Paris."),
        (
            "¿Cuál es la capital de Francia?",
            "La capital de Francia es París.",
        ),
        ("List three colours.", "- red\n- green\n- blue"),
        (
            "Make a table.",
            "| a | b |\n| --- | --- |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |\n| 0 | 0 |",
        ),
        (
            "Draw a line.",
            "----------------------------------------------------------------------------------",
        ),
        (
            "Say hello ten times.",
            "hello hello hello hello hello hello hello hello hello hello hello hello hello",
        ),
        (
            "Repeat this sentence exactly as it is written here.",
            "Repeat this sentence exactly as it is written here.",
        ),
        (
            "Count to twenty.",
            "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        ),
        (
            "Name the planets and their moons, please, in order.",
            "Mercury has no moons. Venus has no moons. Earth has one moon. Mars has two moons. \
             Jupiter has many moons. Saturn has many moons.",
        ),
    ] {
        assert_eq!(
            found(request, text, Finish::Stop),
            Vec::<&str>::new(),
            "{request}: {text}"
        );
    }
}

#[test]
fn nothing_is_empty_and_so_are_spaces() {
    for text in ["", " \n\t", "\u{0}\u{7}", "\u{a0}"] {
        assert_eq!(found("Hi", text, Finish::Stop), ["empty"], "{text:?}");
    }
}

#[test]
fn a_cut_answer_is_truncated() {
    assert_eq!(found("Hi", "The first of the", Finish::Length), ["truncated"]);
}

#[test]
fn circles_are_found_wherever_they_close() {
    let words = "the cat sat on the mat and ".repeat(6);
    let cut = &words[..words.len() - 3];
    let characters = "喵".repeat(80);
    let sentences = "I am a helpful assistant made for you. Here is one more thought about it. "
        .replace("one", "a fresh")
        + "I am a helpful assistant made for you. And yet. I am a helpful assistant made for you.";
    for text in [
        words.as_str(),
        cut,
        &characters,
        &sentences,
        &"hahaha".repeat(20),
        &"no ".repeat(12),
    ] {
        assert_eq!(
            found("Tell me about cats.", text, Finish::Stop),
            ["repeating"],
            "{text}"
        );
    }
}

#[test]
fn the_place_of_a_circle_is_in_the_text() {
    let text = format!(
        "A good beginning, and then {}",
        "round and round we go ".repeat(8)
    );
    let request = [Turn::new(Speaker::User, "Go")];
    let subject = Subject {
        request: &request,
        text: &text,
        finish: Finish::Stop,
        language: Language::English,
    };
    let findings = Repeating.check(&subject);
    let Place::Span { start, end } = findings[0].place else {
        panic!("{findings:?}")
    };
    assert!(
        text[start..end].starts_with("round and round"),
        "{}",
        &text[start..end]
    );
}

#[test]
fn handing_the_question_back_is_an_echo() {
    let question = "What is the tallest mountain in the whole of Europe?";
    assert_eq!(found(question, question, Finish::Stop), ["echo"]);
    assert_eq!(
        found(question, &format!("{question} It is."), Finish::Stop),
        ["echo"]
    );
    assert_eq!(
        found(question, "What is the tallest mountain in", Finish::Stop),
        ["echo"]
    );
    assert!(
        found(
            question,
            "The tallest mountain in the whole of Europe is Elbrus.",
            Finish::Stop
        )
        .is_empty()
    );
}

#[test]
fn handing_the_instructions_back_is_an_echo() {
    let request = [
        Turn::new(
            Speaker::System,
            "You are a terse assistant who answers in one word.",
        ),
        Turn::new(Speaker::User, "Capital of Italy?"),
    ];
    let text = "You are a terse assistant who answers in one word. Rome";
    let subject = Subject {
        request: &request,
        text,
        finish: Finish::Stop,
        language: Language::English,
    };
    assert_eq!(Echo.check(&subject).len(), 1);
}

#[test]
fn findings_speak_the_language_of_the_request() {
    let request = [Turn::new(Speaker::User, "¿Qué hora es en la ciudad de Lima?")];
    let subject = Subject {
        request: &request,
        text: "",
        finish: Finish::Stop,
        language: Language::of_request(&request),
    };
    assert_eq!(Empty.check(&subject)[0].sentence, "La respuesta está vacía.");
}

#[test]
fn hostile_texts_take_bounded_time() {
    let started = std::time::Instant::now();
    for text in [
        "x".repeat(10 << 20),
        "x ".repeat(5 << 20),
        "ab".repeat(5 << 20),
        "é\u{301}".repeat(2 << 20),
    ] {
        let _ = found(&text, &text, Finish::Length);
    }
    assert!(
        started.elapsed() < std::time::Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

proptest! {
    #[test]
    fn any_text_is_survived_and_places_are_inside_it(
        request in any::<String>(), unit in any::<String>(), times in 1_usize..40,
    ) {
        let text = unit.repeat(times);
        let request = [Turn::new(Speaker::User, request)];
        let subject = Subject { request: &request, text: &text, finish: Finish::Length, language: Language::Spanish };
        for checker in super::super::standard() {
            for finding in checker.check(&subject) {
                prop_assert!((0.0..=1.0).contains(&finding.weight));
                if let Place::Span { start, end } = finding.place {
                    prop_assert!(text.get(start..end).is_some());
                }
            }
        }
    }
}
