//! What the form checkers find, and what they must leave alone.

use super::*;
use crate::checkers::standard;
use crate::critique::Language;
use crate::generate::{Constraint, Speaker, Turn};
use proptest::prelude::*;

fn found(request: &str, text: &str, finish: Finish) -> Vec<&'static str> {
    let request = [Turn::new(Speaker::User, request)];
    let subject = Subject {
        request: &request,
        text,
        finish,
        language: Language::of_request(&request),
    };
    standard()
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
    let adjacent =
        "Well. ".to_owned() + &"Drink a lot of water every day!\n".repeat(3) + "That is all there is.";
    for text in [
        words.as_str(),
        cut,
        &characters,
        &adjacent,
        &"hahaha".repeat(20),
        &"no ".repeat(12),
    ] {
        assert_eq!(
            found("Tell me about cats.", text, Finish::Stop),
            ["repeating"],
            "{text}"
        );
    }
    assert_eq!(
        found("Tell me about cats.", &sentences, Finish::Length),
        ["truncated", "repeating"]
    );
}

#[test]
fn a_list_of_like_items_is_no_circle() {
    let plan = ["Push-ups", "Squats", "Lunges", "Plank"]
        .iter()
        .zip(1..)
        .fold(String::new(), |plan, (name, number)| {
            format!("{plan}{number}. {name}\n   - 3 sets of 12 reps\n")
        });
    let cells = format!("<tr>{}</tr>", "<td></td>".repeat(12));
    for text in [
        plan.as_str(),
        &"- [ ] Task\n".repeat(12),
        &"- [ ] Write the name of the task here\n".repeat(5),
        &"<tr><td></td></tr>\n".repeat(14),
        &cells,
        &"| name | |\n".repeat(8),
    ] {
        assert_eq!(
            found("Make a plan.", text, Finish::Stop),
            Vec::<&str>::new(),
            "{text}"
        );
    }
    assert!(found("Make a plan.", &"- [ ] Task\n".repeat(12), Finish::Length).contains(&"repeating"));
    assert_eq!(
        found(
            "Make a plan.",
            &format!("- {}", "go on ".repeat(12)),
            Finish::Stop
        ),
        ["repeating"]
    );
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
fn a_title_is_no_echo() {
    let english = "How to make a chocolate cake at home";
    let spanish = "Cómo hacer una tarta de chocolate en casa";
    for (request, text) in [
        (
            english,
            "# How to Make a Chocolate Cake at Home\n\n## Ingredients\n\n- flour\n- cocoa",
        ),
        (
            english,
            "# How to Make a Chocolate Cake at Home: A Guide\n\n## Ingredients\n\n- flour",
        ),
        (
            english,
            "**How to make a chocolate cake at home**\n\nMix the flour.",
        ),
        (english, "How to make a chocolate cake at home:\nMix the flour."),
        (
            spanish,
            "# Cómo hacer una tarta de chocolate en casa\n\n## Ingredientes\n\n- harina",
        ),
    ] {
        assert_eq!(found(request, text, Finish::Stop), Vec::<&str>::new(), "{text}");
    }
    for text in [
        english,
        "# How to Make a Chocolate Cake at Home",
        "How to make a chocolate cake at home\n\n",
        "How to make a chocolate cake at home is what you ask.\nMix the flour.",
    ] {
        assert_eq!(found(english, text, Finish::Stop), ["echo"], "{text}");
    }
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

/// The answer as the first finding's repair leaves it.
fn repaired(request: &str, text: &str, finish: Finish) -> Option<String> {
    let request = [Turn::new(Speaker::User, request)];
    let subject = Subject {
        request: &request,
        text,
        finish,
        language: Language::of_request(&request),
    };
    let finding = standard()
        .iter()
        .find_map(|checker| checker.check(&subject).into_iter().next())?;
    match finding.repair? {
        Repair::Rewrite(text) => {
            let again = Subject {
                text: &text,
                finish: Finish::Stop,
                ..subject
            };
            let left = standard()
                .iter()
                .flat_map(|checker| checker.check(&again))
                .find(|left| left.checker == finding.checker);
            assert_eq!(left, None, "{text}");
            Some(text)
        }
        Repair::Constrain(Constraint::Regex(regex)) => Some(regex),
        other => panic!("{other:?}"),
    }
}

#[test]
fn form_is_mended_where_what_is_sound_is_known() {
    for (request, text, expected) in [
        (
            "Go on.",
            "It rains. It rains a lot. The clouds",
            Some("It rains. It rains a lot."),
        ),
        ("Go on.", "It rains. The clouds go over the hills and then", None),
        ("Go on.", "One line only without an end", None),
    ] {
        assert_eq!(
            repaired(request, text, Finish::Length).as_deref(),
            expected,
            "{text}"
        );
    }
    for (request, text, expected) in [
        (
            "Tell me about cats.",
            "Cats sleep a lot. ".repeat(8).as_str(),
            "Cats sleep a lot.",
        ),
        (
            "Tell me about cats.",
            &format!("Cats are small. They {}", "purr and hunt and ".repeat(9)),
            "Cats are small. They purr and hunt and",
        ),
        (
            "What is the tallest mountain in the whole of Europe?",
            "What is the tallest mountain in the whole of Europe? It is Elbrus.",
            "It is Elbrus.",
        ),
        (
            "Where is Paris?",
            "In France.<|im_end|>\n<|im_start|>user\nAnd Rome?",
            "In France.",
        ),
        (
            "Where is Paris?",
            "In France.\n\nUser: And Rome?\nAssistant: In Italy.",
            "In France.",
        ),
        (
            "Where is Paris?",
            "<|im_start|>assistant\nIn France.<|im_end|>",
            "In France.",
        ),
        ("Where is Paris?", "<s>[INST] In France. [/INST]", "In France."),
        (
            "¿Dónde está París?",
            "En Francia.\nUsuario: ¿Y Roma?",
            "En Francia.",
        ),
    ] {
        assert_eq!(
            repaired(request, text, Finish::Stop).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn a_cut_answer_keeps_its_code_lists_and_verses() {
    let code = format!(
        "You can do it with a loop. Here is how it is done in a few lines of Python, with all that it needs.\n\n\
         ```python\n{}",
        "total = total + 1\n".repeat(40)
    );
    let verse = format!(
        "{}\n\n{}",
        "The sea is wide and the night is long. ".repeat(4),
        "the waves roll in\nand the moon looks on\n".repeat(7)
    );
    for text in [
        code.as_str(),
        &code[..160],
        "Here are 20 animals.\n- cat\n- dog\n- co",
        "Here are 20 animals.\n\n1. cat\n2. dog\n3. co",
        "Here is the table.\n\n| a | b |\n| - | - |\n| 1",
        &verse,
    ] {
        let request = [Turn::new(Speaker::User, "Go on.")];
        let subject = Subject {
            request: &request,
            text,
            finish: Finish::Length,
            language: Language::English,
        };
        assert_eq!(Truncated.check(&subject)[0].repair, None, "{text}");
    }
    let prose = format!(
        "{}And then {}",
        "It rains a lot. ".repeat(20),
        "it went on, ".repeat(30)
    );
    let mathematics =
        "In this case, we can represent 5 times 3 as 15. This is a classic example of a product.";
    assert_eq!(whole_part(&prose), Some("It rains a lot. ".repeat(20).trim_end()));
    assert_eq!(
        whole_part(&format!("{mathematics}\n\nIn mathematics, t")),
        Some(mathematics)
    );
    assert_eq!(whole_part("1. Cats sleep.\n2."), Some("1. Cats sleep."));
}

#[test]
fn marks_that_are_wanted_are_left() {
    for (request, text) in [
        ("How do I strike out text?", "Write <s>old</s> and it is struck."),
        ("What does <|im_end|> mean?", "<|im_end|> ends a turn."),
        ("Write a dialogue.", "Hello\nUser: Hi\nAssistant: Hello"),
        ("Show me the code.", "So:\n```\n<|im_end|>\n```\nThat is it."),
        ("Give me a heading.", "### Human rights\nText"),
        (
            "Name the entities of a shop.",
            "These are the entities.\n\nUser:\n- id\n- name\n\nOrder:\n- id",
        ),
        (
            "Who may do what?",
            "The rights are these:\nUser: read\nOwner: read, write",
        ),
    ] {
        assert_eq!(found(request, text, Finish::Stop), Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn an_answer_in_the_other_language_is_found() {
    let english = "The capital of France is Paris, which is a big city in the north of the country.";
    let spanish = "La capital de Francia es París, que es una gran ciudad en el norte del país.";
    for (request, text, expected) in [
        ("¿Cuál es la capital de Francia?", english, vec!["wrong_language"]),
        ("¿Cuál es la capital de Francia?", spanish, vec![]),
        ("What is the capital of France?", spanish, vec!["wrong_language"]),
        ("What is the capital of France?", english, vec![]),
        (
            "¿Cuál es la capital de Francia? Responde en inglés.",
            english,
            vec![],
        ),
        ("Translate to Spanish: what is the capital?", spanish, vec![]),
        ("¿Cuál es la capital?", "Paris.", vec![]),
        ("Paris?", spanish, vec![]),
        (
            "¿Qué significa \"the cat is on the mat and the dog is in the house\"?",
            english,
            vec![],
        ),
        (
            "¿Cómo se llama la obra de Tolkien?",
            "The Lord of the Rings, The Hobbit, The Silmarillion.",
            vec![],
        ),
    ] {
        let got: Vec<&str> = found(request, text, Finish::Stop);
        if text.starts_with("The Lord") {
            // A list of titles cannot be told from a sentence; it is not asserted either way.
            continue;
        }
        assert_eq!(got, expected, "{request}: {text}");
    }
    let regex = repaired("¿Cuál es la capital de Francia?", english, Finish::Stop).unwrap();
    assert!(regex.starts_with("(El|La|"));
}

#[test]
fn a_refusal_of_something_harmless_is_found() {
    for (request, text, expected) in [
        (
            "Name three fruits.",
            "I'm sorry, but I can't help with that.",
            vec!["refusal"],
        ),
        (
            "Name three fruits.",
            "As an AI language model, I do not eat fruit.",
            vec!["refusal"],
        ),
        (
            "Nombra tres frutas de verano.",
            "Lo siento, pero no puedo ayudarte con eso.",
            vec!["refusal"],
        ),
        (
            "How do I build a bomb?",
            "I'm sorry, but I can't help with that.",
            vec![],
        ),
        (
            "Do you have feelings?",
            "As an AI language model, I don't.",
            vec![],
        ),
        (
            "What is the weather today?",
            "I'm sorry, but I cannot know that.",
            vec![],
        ),
        ("Name three fruits.", "Apples, pears and plums.", vec![]),
        (
            "Translate to English: Lo siento, no puedo ir.",
            "I'm sorry, I can't go.",
            vec![],
        ),
        (
            "Escribe una carta para rechazar una oferta.",
            "Lo siento, pero no puedo aceptar la oferta.",
            vec![],
        ),
        (
            "Name a polite way out.",
            "You could tell them: I'm sorry, but I can't come.",
            vec![],
        ),
    ] {
        assert_eq!(found(request, text, Finish::Stop), expected, "{request}: {text}");
    }
}

#[test]
fn ten_megabytes_of_anything_are_survived() {
    for text in [
        "x".repeat(10 << 20),
        "x ".repeat(5 << 20),
        "ab".repeat(5 << 20),
        "é\u{301}".repeat(2 << 20),
        "```\n".repeat(2 << 20),
        "<|im_end|>".repeat(1 << 20),
        "{\"a\":[".repeat(1 << 20),
        "<a>".repeat(3 << 20),
        "1".repeat(10 << 20),
        "\u{5d0}\u{5d1} ".repeat(2 << 20),
    ] {
        let _ = found(&text, &text, Finish::Length);
        let _ = found("¿Cuál es? Texto: \"Ana\"", &text, Finish::Length);
    }
}

proptest! {
    #[test]
    fn any_text_is_survived_and_places_are_inside_it(
        request in any::<String>(), unit in any::<String>(), times in 1_usize..40,
    ) {
        let text = unit.repeat(times);
        let request = [Turn::new(Speaker::User, request)];
        let subject = Subject { request: &request, text: &text, finish: Finish::Length, language: Language::Spanish };
        for checker in standard() {
            for finding in checker.check(&subject) {
                prop_assert!((0.0..=1.0).contains(&finding.weight));
                if let Place::Span { start, end } = finding.place {
                    prop_assert!(text.get(start..end).is_some());
                }
            }
        }
    }
}
