//! Each kind of constraint: right and wrong answers, what is said about them, what is read from a request.

use proptest::prelude::*;
use regex::Regex;

use super::verify::keeps;
use super::*;
use crate::checkers::{Place, Repair};
use crate::critique::Language;
use crate::generate::{Constraint, Finish};

fn asked(request: &str) -> Vec<Stipulation> {
    constraints_of(&[Turn::new(Speaker::User, request)])
}

fn short(request: &str) -> Vec<String> {
    asked(request).iter().map(ToString::to_string).collect()
}

pub(super) fn check_as(request: &str, text: &str, finish: Finish) -> Vec<Finding> {
    let request = [Turn::new(Speaker::User, request)];
    let subject = Subject {
        request: &request,
        text,
        finish,
        language: Language::of_request(&request),
    };
    Stated.check(&subject)
}

pub(super) fn check(request: &str, text: &str) -> Vec<Finding> {
    check_as(request, text, Finish::Stop)
}

#[test]
fn every_kind_knows_right_from_wrong() {
    for (request, right, wrong) in [
        (
            "Describe the sea in exactly four words.",
            "Deep, blue and cold.",
            "It is very deep and blue.",
        ),
        (
            "Explain rain in at most 5 words.",
            "Water falls from clouds.",
            "Rain is water that falls from the clouds.",
        ),
        (
            "Write at least 4 words about tea.",
            "Tea is a drink.",
            "Tea is hot.",
        ),
        (
            "Tell me about Rome in two sentences.",
            "It is old. It is in Italy, e.g. near Ostia.",
            "It is old.",
        ),
        (
            "Write 2 paragraphs about coffee.",
            "One.\n\nTwo.",
            "One.\n\nTwo.\n\nThree.",
        ),
        (
            "Write a poem of exactly 3 lines about rain.",
            "Rain\nfalls\nhere",
            "Rain\nfalls",
        ),
        (
            "Give me three bullet points on walking.",
            "Here:\n- a\n- b\n- c",
            "- a\n- b",
        ),
        (
            "Write an article about bread. It should have 2 sections.",
            "# A\nx\n# B\ny",
            "Bread is good.",
        ),
        (
            "Write a haiku. It must contain the word \"moon\".",
            "The Moon, then.",
            "The moonlight.",
        ),
        (
            "Describe fire. Do not use the word hot.",
            "It burns in the photo.",
            "It is Hot.",
        ),
        (
            "Write a sentence without the letter e.",
            "A dog runs.",
            "The dog.",
        ),
        (
            "Tell me a story. Begin with \"Once upon a time\".",
            "Once upon a time, a fox…",
            "There was once a fox.",
        ),
        (
            "Write a letter. End it with \"Yours, Tom\".",
            "Hello.\n\nYours,\nTom",
            "Hello.",
        ),
        ("Tell me a joke in all caps.", "WHY NOT? 1, 2.", "WHY not?"),
        (
            "Write a greeting in all lowercase letters.",
            "hello, straße.",
            "Hello.",
        ),
        (
            "What are the primary colours? No commas.",
            "Red and blue",
            "Red, blue",
        ),
        ("Write a message without exclamation marks.", "Hello.", "Hello!"),
        (
            "Put your answer in double quotes. What is light?",
            "\"A wave.\"",
            "A wave.",
        ),
        (
            "What is the capital of Peru? Answer in Spanish.",
            "La capital de Perú es Lima, y está en la costa.",
            "The capital of Peru is Lima, and it is on the coast of the sea.",
        ),
        (
            "Tell me about the Eiffel Tower in JSON.",
            "```json\n{\"a\": [1]}\n```",
            "Sure: {\"a\": 1}",
        ),
        (
            "Compare Mars and Venus in a table.",
            "| a | b |\n|---|---|\n| 1 | 2 |",
            "Mars is red.",
        ),
        (
            "Give me tips for sleep as a bulleted list.",
            "- a\n- b",
            "Sleep more.",
        ),
        (
            "How do I cook rice? Answer with a numbered list.",
            "1. a\n2. b",
            "- a\n- b",
        ),
        (
            "Write a short article on bees with a title.",
            "# Bees\n\nThey fly.",
            "They fly and make honey.",
        ),
        (
            "Write a letter to my aunt and add a postscript starting with P.S.",
            "Hi.\n\nP.S. Bye.",
            "Hi.",
        ),
        (
            "Write a contract with at least 2 placeholders.",
            "[name] and [date]",
            "[name] and [x](http://y)",
        ),
        (
            "Is the sun a star? Answer yes or no.",
            "Yes.",
            "It is a star, yes.",
        ),
    ] {
        assert!(!asked(request).is_empty(), "{request}");
        assert!(
            check(request, right).is_empty(),
            "{request}: {:?}",
            check(request, right)
        );
        assert_eq!(check(request, wrong).len(), 1, "{request}: {wrong}");
    }
    let repeat = "What is the largest ocean? First repeat the question word for word, then give your answer.";
    assert!(check(repeat, "What is the largest ocean?\n\nThe Pacific.").is_empty());
    assert_eq!(check(repeat, "The Pacific.").len(), 1);
}

#[test]
fn findings_name_the_numbers_in_the_language_of_the_request() {
    let found = check(
        "Explain rain in at most 5 words.",
        "Rain is water that falls from the clouds.",
    );
    assert_eq!(
        found[0].sentence,
        "The answer has 8 words; at most 5 were asked for."
    );
    let found = check("Explica la lluvia en una frase.", "Cae agua. Moja el suelo.");
    assert_eq!(
        found[0].sentence,
        "La respuesta tiene 2 frases; se pedía exactamente 1."
    );
    let text = "It is old. It is far. It is big.";
    let found = check("Tell me about Rome in two sentences.", text);
    assert_eq!(
        found[0].place,
        Place::Span {
            start: 22,
            end: text.len()
        }
    );
    let found = check("What are the primary colours? No commas.", "Red, blue");
    assert_eq!(found[0].place, Place::Span { start: 3, end: 4 });
}

#[test]
fn a_system_turn_asks_too_and_the_user_overrides_it() {
    let request = [
        Turn::new(
            Speaker::System,
            "Always answer in French. Answer in at most 20 words.",
        ),
        Turn::new(Speaker::User, "What is rain? Answer in Spanish."),
    ];
    let found: Vec<String> = constraints_of(&request).iter().map(ToString::to_string).collect();
    assert_eq!(found, ["words<=20", "language:spanish"]);
    assert_eq!(
        short("At most 50 words. What is rain? Actually, at most 20 words."),
        ["words<=20"]
    );
}

#[test]
fn what_is_refused_is_not_asked_for() {
    for (request, found) in [
        (
            "Write a poem. Do not include the keywords field and thanks.",
            &["avoids:field", "avoids:thanks"][..],
        ),
        (
            "Don't include the keywords \"Du\" and \"Da\" in your response. Write a poem.",
            &["avoids:Du", "avoids:Da"],
        ),
        (
            "Escribe un poema. No incluyas las palabras clave \"sol\" y \"mar\".",
            &["avoids:sol", "avoids:mar"],
        ),
        ("Write a song. Use at least 10 words in all capital letters.", &[]),
        ("Write a song. Highlight at least 3 sections with markdown.", &[]),
        ("Escribe un texto. Incluye al menos 15 palabras con acento.", &[]),
        (
            "Write a riddle. Do not say any word before repeating the request.",
            &[],
        ),
        (
            "Write it. Include the phrase \"life\" and be in all lowercase letters.",
            &["contains:life", "lower"],
        ),
    ] {
        assert_eq!(short(request), found, "{request}");
    }
}

#[test]
fn other_wordings_say_the_same() {
    for (request, found) in [
        (
            "Write a poem. The word forest should appear at least 3 times. The word sea should not appear.",
            &["contains:forest*3", "avoids:sea"][..],
        ),
        (
            "Escribe un texto. No olvides incluir las palabras clave \"sol\" y \"mar\".",
            &["contains:sol", "contains:mar"],
        ),
        (
            "Escribe un texto. La palabra \"luz\" debe aparecer al menos 2 veces.",
            &["contains:luz*2"],
        ),
        (
            "Write a song. Finish your response with this exact phrase: So what is next?",
            &["ends:So what is next?"],
        ),
        (
            "Write an ad about people who meet and end your entire response with the phrase \"Call us\".",
            &["ends:Call us"],
        ),
        (
            "Aim the post at teenagers and wrap your entire response with double quotation marks.",
            &["quoted"],
        ),
        (
            "Put double quotation marks around your entire response. What is rain?",
            &["quoted"],
        ),
        (
            "Describe la lluvia. Tu respuesta debe tener exactamente 3 puntos de lista.",
            &["bullets=3"],
        ),
        (
            "¿Llueve? Responde con alguna de las siguientes opciones: \"Sí.\", \"No.\", \"Quizás.\".",
            &["choice:Sí.|No.|Quizás."],
        ),
        (
            "Write a letter. Add a postscript starting with Note.",
            &["postscript:Note"],
        ),
    ] {
        assert_eq!(short(request), found, "{request}");
    }
}

#[test]
fn numbers_are_read_as_people_write_them() {
    for (request, found) in [
        ("Write at least twenty-five words about tea.", "words>=25"),
        ("Write at least a hundred words about tea.", "words>=100"),
        ("Write at most 1,200 words about tea.", "words<=1200"),
        (
            "Use between ten and ninety nine words to explain tea.",
            "words=10..99",
        ),
        (
            "Escribe al menos cuarenta y dos palabras sobre el té.",
            "words>=42",
        ),
        ("Escribe al menos cien palabras sobre el té.", "words>=100"),
        ("Write 3–5 sentences about tea.", "sentences=3..5"),
    ] {
        assert_eq!(short(request), [found], "{request}");
    }
}

#[test]
fn hostile_texts_are_survived() {
    for text in [
        "x".repeat(10 << 20),
        "at most 5 words, ".repeat(40_000),
        "\"".repeat(100_000),
        "a. ".repeat(300_000),
        "[".repeat(300_000),
        "- no. ".repeat(200_000),
        "¿".repeat(100_000),
        "<<".repeat(100_000),
        "1.".repeat(100_000),
    ] {
        let _ = check(&text, &text);
        let _ = check(
            "Answer in at most 5 words, as a list, with a title, no commas, in Spanish.",
            &text,
        );
    }
    assert!(asked(&"Include the word \"a\". Answer in 5 words. ".repeat(500)).len() <= MOST_STIPULATIONS);
}

#[test]
fn a_quotation_ends_with_the_mark_that_closes_it() {
    for request in [
        "Say ”hola\" ñandú",
        "Explain <<T>é",
        "Say “x”ñ",
        "Say <<T>>é",
        "«a»ñ „b”é ‘c’ó `d`ú",
    ] {
        let _ = check(request, "Hola.");
    }
    assert_eq!(
        short("Write a poem. Include the words ”sol\" and “luz”ñ."),
        ["contains:sol", "contains:luz"]
    );
}

#[test]
fn a_title_below_a_mark_is_put_in_brackets() {
    let asked = "Write a poem about the sea with a title in double angular brackets, such as <<title>>.";
    for text in ["🌊\nÉxito\n\nEl mar.", "🌊\n# Éxito\n\nEl mar."] {
        for finding in check(asked, text) {
            if let Some(Repair::Rewrite(out)) = finding.repair {
                assert!(out.starts_with("<<") && out.ends_with("\n\nEl mar."), "{out}");
            }
        }
    }
}

#[test]
fn a_form_is_asked_of_the_answer_not_of_its_topic() {
    for topic in [
        "Explain the difference between arrays and objects in JSON.",
        "Find the largest number in a list.",
        "Show me Python code to remove duplicates in a list.",
        "Explain what a primary key is in a table.",
        "Explain how to return data in JSON.",
        "Explica la diferencia entre arreglos y objetos en JSON.",
        "Encuentra el número mayor en una lista.",
        "Explica qué es una clave primaria en una tabla.",
    ] {
        assert_eq!(short(topic), [""; 0], "{topic}");
    }
    for (request, form) in [
        ("Return the data in JSON.", "json"),
        ("Explain the tides and give your answer in a table.", "table"),
        ("Explain the tides as a table.", "table"),
        ("Describe the tides in table form.", "table"),
        ("What is the tide? In JSON, please.", "json"),
        ("Devuelve los datos en JSON.", "json"),
        ("Explica las mareas como una tabla.", "table"),
        ("Pon los planetas en una tabla.", "table"),
    ] {
        assert_eq!(short(request), [form], "{request}");
    }
}

#[test]
fn a_comma_or_a_language_of_the_topic_is_not_asked_for() {
    for topic in [
        "Give me three tips to avoid comma splices.",
        "Explica los números sin coma flotante.",
        "Write a short poem in Spanish with an English translation.",
        "Escribe un poema en inglés con su traducción.",
    ] {
        assert_eq!(short(topic), [""; 0], "{topic}");
    }
    assert_eq!(short("Describe the sea. Never use a comma."), ["no:commas"]);
    assert_eq!(
        short("Describe el mar. Sin ninguna coma, por favor."),
        ["no:commas"]
    );
    assert_eq!(
        short("Write a poem in Spanish about the sea."),
        ["language:spanish"]
    );
}

#[test]
fn a_poem_does_not_begin_as_an_answer() {
    let text = "The sea is blue and the waves are tall, and the wind that comes with the night is cold.";
    let repairs = |request: &str| {
        check(request, text)
            .into_iter()
            .map(|f| f.repair)
            .collect::<Vec<_>>()
    };
    assert_eq!(repairs("Write a poem in Spanish about the sea."), [None]);
    assert!(matches!(
        repairs("What is the sea like? Answer in Spanish.").as_slice(),
        [Some(Repair::Resume { keep: 0, .. })]
    ));
}

#[test]
fn code_is_not_made_a_list_or_a_table() {
    let text = "One: a\nTwo: b\n```\nlet a: u8 = 1;\nlet b: u8 = 2;\n```";
    for wish in ["Answer as a table.", "Use a bulleted list."] {
        for finding in check(wish, text) {
            assert!(!matches!(finding.repair, Some(Repair::Rewrite(_))), "{wish}");
        }
    }
}

/// Marks that open and close, of one, two and three bytes, and what may stand beside them.
fn mark_or_word() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("\""),
        Just("“"),
        Just("”"),
        Just("„"),
        Just("«"),
        Just("»"),
        Just("‘"),
        Just("’"),
        Just("'"),
        Just("`"),
        Just("<<"),
        Just(">"),
        Just(">>"),
        Just("é"),
        Just("ñandú"),
        Just("🌊"),
        Just("\n"),
        Just("\n\n"),
        Just(" "),
        Just("."),
        Just(","),
        Just(":"),
        Just("# "),
        Just("**"),
        Just("- "),
        Just("include the words "),
        Just("title"),
        Just("start with "),
        Just("Éxito")
    ]
}

proptest! {
    #[test]
    fn any_text_is_survived_and_edits_mend(request in any::<String>(), text in any::<String>()) {
        let _ = check(&request, &text);
        let wishes = "Answer in exactly 3 sentences, in lower case, with a title, no commas, and include the word \"x\". \
                      Put your answer in double quotes. Start with \"Hm\". End with \"Bye\".";
        let all = asked(wishes);
        for finding in check(wishes, &text) {
            if let Place::Span { start, end } = finding.place {
                prop_assert!(text.get(start..end).is_some());
            }
            match finding.repair {
                Some(Repair::Rewrite(out)) => {
                    let kept = |text: &str| all.iter().filter(|one| keeps(one, text)).count();
                    prop_assert!(kept(&out) > kept(&text));
                }
                Some(Repair::Resume { keep, constraint, .. }) => {
                    prop_assert!(text.is_char_boundary(keep));
                    if let Some(Constraint::Regex(regex)) = constraint {
                        prop_assert!(Regex::new(&regex).is_ok());
                    }
                }
                Some(Repair::Constrain(Constraint::Regex(regex))) => prop_assert!(Regex::new(&regex).is_ok()),
                _ => {}
            }
        }
    }

    #[test]
    fn marks_of_any_length_are_survived(
        request in proptest::collection::vec(mark_or_word(), 0..24),
        text in proptest::collection::vec(mark_or_word(), 1..24),
    ) {
        let (request, text) = (request.concat(), text.concat());
        let _ = check(&request, &text);
        let _ = check("Write a poem with a title in <<double angular brackets>>.", &text);
    }

    #[test]
    fn words_of_rules_in_any_order_are_survived(words in proptest::collection::vec(
        prop_oneof![
            Just("at"), Just("most"), Just("no"), Just("more"), Just("than"), Just("5"), Just("words"), Just("in"),
            Just("answer"), Just(","), Just("."), Just("include"), Just("the"), Just("word"), Just("\"x\""), Just("or"),
            Just("with"), Just("only"), Just(":"), Just("-"), Just("en"), Just("menos"), Just("de"), Just("palabras"),
            Just("y"), Just("¿"), Just("?"), Just("P.S."), Just("<<a>>"), Just("(")
        ], 0..40)) {
        let request = words.join(" ");
        let _ = check(&request, "A text, with two sentences. Yes!");
    }
}
