//! What the grounding checker finds and mends, and what it must leave alone.

use super::*;
use crate::critique::Language;
use crate::generate::{Finish, Speaker, Turn};
use proptest::prelude::*;

const TEXT: &str = "The Silver Harbor museum opened in 1987 in the old customs house. Its founder, Marta Lindqvist, gave it 240 paintings.";
const TEXTO: &str = "El museo de Puerto Plata abrió en 1987 en la antigua aduana. Su fundadora, Marta Lindqvist, le dio 240 cuadros.";

fn findings(request: &str, text: &str) -> Vec<Finding> {
    let request = [Turn::new(Speaker::User, request)];
    Grounding.check(&Subject {
        request: &request,
        text,
        finish: Finish::Stop,
        language: Language::of_request(&request),
    })
}

fn repaired(request: &str, text: &str) -> String {
    match findings(request, text)
        .first()
        .map(|finding| finding.repair.clone())
    {
        None => "grounded".to_owned(),
        Some(Some(Repair::Rewrite(text))) => {
            assert_eq!(findings(request, &text), [], "{text}");
            text
        }
        Some(Some(Repair::Constrain(Constraint::Regex(regex)))) => regex,
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn answers_of_the_text_are_grounded() {
    for (question, answer) in [
        ("When did the museum open?", "It opened in 1987."),
        ("Who founded the museum?", "Marta Lindqvist founded it."),
        ("Who founded the museum?", "Lindqvist"),
        ("How many paintings did she give?", "240"),
        (
            "How many paintings did she give?",
            "Two hundred and forty paintings.",
        ),
        ("Where is the museum?", "In the old customs house."),
        ("What did the founder give?", "She gave the museum 240 paintings."),
        ("Who is the president of the museum?", "The text does not say."),
        ("Is the museum old?", "Yes, it opened in 1987."),
        (
            "What is it called?",
            "The museum is called the \"Silver Harbor\" museum.",
        ),
        (
            "Summarize it.",
            "The Silver Harbor museum, opened in 1987, has 240 paintings from Marta Lindqvist, its Founder.",
        ),
    ] {
        assert_eq!(
            repaired(&format!("Text: {TEXT}\nQuestion: {question}"), answer),
            "grounded",
            "{question} {answer}"
        );
    }
    for (question, answer) in [
        ("¿Cuándo abrió el museo?", "El museo abrió en 1987."),
        ("¿Quién fundó el museo?", "Lo fundó Marta Lindqvist."),
        ("¿Cuántos cuadros dio?", "Dio doscientos cuarenta cuadros."),
    ] {
        assert_eq!(
            repaired(&format!("Texto: {TEXTO}\nPregunta: {question}"), answer),
            "grounded",
            "{question} {answer}"
        );
    }
}

#[test]
fn what_stands_nowhere_is_found_and_mended() {
    for (question, answer, expected) in [
        (
            "In what year did the museum open?",
            "It opened in 1992.",
            "It opened in 1987.",
        ),
        ("When did the museum open?", "In 1992.", "In 1987."),
        (
            "How many paintings did she give?",
            "She gave 300 paintings.",
            "She gave 240 paintings.",
        ),
        ("How many paintings did she give?", "A lot of them.", "240."),
        (
            "Who founded the museum?",
            "It was founded by Peter Brown.",
            "It was founded by Marta Lindqvist.",
        ),
        (
            "What is known of the museum?",
            "It opened in 1987. It has 500 visitors.",
            "It opened in 1987.",
        ),
    ] {
        assert_eq!(
            repaired(&format!("Text: {TEXT}\nQuestion: {question}"), answer),
            expected,
            "{question} {answer}"
        );
    }
    for (request, answer, expected) in [
        (
            "The blue notebook costs 14 euros.\n\nHow much is the blue notebook?",
            "It is 15 euros.",
            "It is 14 euros.",
        ),
        (
            "The meeting with Laura is on Thursday in room 12.\n\nWhen is the meeting?",
            "On Friday.",
            "On Thursday.",
        ),
        (
            "Invoice 5531 is due on 30 June. Please pay it.\n\nWhen is the invoice due?",
            "It is due on 31 July.",
            "30 June.",
        ),
        (
            "La farmacia de la plaza abre hoy a las 16:30 horas.\n\n¿A qué hora abre la farmacia?",
            "A las 17:45.",
            "16:30.",
        ),
    ] {
        assert_eq!(repaired(request, answer), expected, "{request}");
    }
    let request = format!("Texto: {TEXTO}\nPregunta: ¿En qué año abrió el museo?");
    assert_eq!(repaired(&request, "Abrió en 1990."), "Abrió en 1987.");
}

#[test]
fn with_several_candidates_the_model_chooses_among_them() {
    let text = "Anna Berg was born in 1950 in Oslo. She met Karl Holm in 1972. They moved to Bergen in 1980.";
    let request = format!("Text: {text}\nQuestion: In what year did they move?");
    assert_eq!(repaired(&request, "They moved in 1999."), r"(1950|1972|1980)\.?");
    let request = format!("Text: {text}\nQuestion: Who moved to Bergen first?");
    assert_eq!(
        repaired(&request, "It was Peter Brown."),
        r"(Anna Berg|Karl Holm)\.?"
    );
}

#[test]
fn without_a_given_text_nothing_is_said() {
    for (request, answer) in [
        ("Who founded Rome?", "Romulus, in 753."),
        (
            "Tom has 3 apples. He buys 40 more and gives away 2. How many apples has Tom?",
            "He has 41.",
        ),
        (
            "Tom has 3 apples in his bag. He buys 40 more.\n\nHow many apples has Tom?",
            "43",
        ),
        (
            "A pen costs 3 euros in this shop.\n\nHow much do 6 pens cost?",
            "18 euros",
        ),
        (
            "Lucy is 8 years old and Hugo is 11.\n\nHow many years old is Hugo?",
            "11",
        ),
        (
            "Write an email to my boss: I am ill and at home.",
            "Dear Peter, on 30 June I was in London.",
        ),
        (
            &format!("Translate to Spanish. Text: {TEXT}"),
            "El museo de Puerto abrió en 1990.",
        ),
        (
            &format!("Write a story based on this text: {TEXT}"),
            "Peter went there in 1999.",
        ),
    ] {
        assert_eq!(repaired(request, answer), "grounded", "{request}");
    }
}

#[test]
fn what_is_told_before_a_question_is_no_text() {
    for (request, answer) in [
        (
            "I'm planning a trip to Japan in May.\n\nWhat should I pack?",
            "Pack light clothes. In Tokyo it is 15 to 24 °C.",
        ),
        (
            "Hi, my name is Ana.\n\nCan you tell me about the Eiffel Tower?",
            "It is a tower of iron. It was built in 1889 in Paris.",
        ),
        (
            "We visited the Eiffel Tower in 2019.\n\nWhen was the Eiffel Tower built?",
            "It was built in 1889.",
        ),
        (
            "My son was born in 2015 in Madrid.\n\n¿En qué año se fundó Madrid?",
            "Se fundó en 865.",
        ),
        (
            "I have 3 cats.\n\nHow many cats are there in the United States?",
            "There are 58 million cats.",
        ),
        (
            "My cat eats 2 meals.\n\nHow many meals can I give a cat?",
            "Give it 3 meals.",
        ),
        (
            "Last week my friend told me that she does not want to go to the party with me. I bought the tickets long ago, and \
             they were not cheap at all. She says she is tired, but I saw her at the cinema with other people on that same day. \
             What should I do?",
            "Talk to her. Call the shop Ticketmaster within 14 days.",
        ),
    ] {
        assert_eq!(findings(request, answer), [], "{request}");
    }
}

#[test]
fn what_is_asked_of_a_text_above_is_grounded() {
    for (request, answer) in [
        (
            "The museum was built in 1912 by the architect Clara Holm.\n\nIn which year was the museum built?",
            "It was built in 1921.",
        ),
        (
            "The museum was built in 1912 by the architect Clara Holm.\n\nWho built the museum?",
            "Peter Brown built it.",
        ),
        (
            "The book was written by Ada Wong.\n\nWho wrote the book?",
            "Peter Brown.",
        ),
        (
            "The hotel has 58 rooms, a pool and a garden.\n\nHow many rooms does the hotel have?",
            "It has 85 rooms.",
        ),
        (
            "El museo fue construido en 1934 por la arquitecta Elena Vidal.\n\n¿Quién construyó el museo?",
            "Lo construyó Ana Pérez.",
        ),
        (
            "Who came second?\n\nAna Ruiz won the race. Bea Sanz came second and Carla Gil came third.",
            "Peter Brown.",
        ),
        (
            "The bridge crosses the river Tamar.\n\nAccording to the text, which river does it cross?",
            "It crosses the river Thames.",
        ),
    ] {
        assert_ne!(findings(request, answer), [], "{request}");
    }
}

#[test]
fn alternatives_are_escaped() {
    assert_eq!(literal("a.b (c) $1"), r"a\.b \(c\) \$1");
}

#[test]
fn long_texts_are_survived() {
    for text in [
        "Ana Berg 1999 ".repeat(1 << 16),
        "\"a b c\" ".repeat(1 << 16),
        "1 ".repeat(1 << 19),
        "Text: ".repeat(1 << 16),
    ] {
        let _ = findings(&format!("Text: {text}\nQuestion: Who?"), &text);
        let _ = findings(&format!("Text: {text}\nQuestion: How many a?"), &text);
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>(), answer in any::<String>()) {
        for question in ["Who?", "When?", "What year?", "How many cats?", "Summarize."] {
            let request = format!("Text: {TEXT} {text}\nQuestion: {question}");
            for finding in findings(&request, &answer) {
                if let Place::Span { start, end } = finding.place {
                    prop_assert!(answer.get(start..end).is_some());
                }
            }
        }
    }

    #[test]
    fn what_is_copied_is_grounded(from in 0_usize..18, length in 1_usize..12) {
        let words: Vec<&str> = TEXT.split(' ').collect();
        let answer = words[from..(from + length).min(words.len())].join(" ");
        let request = format!("Text: {TEXT}\nQuestion: What does it say?");
        prop_assert_eq!(findings(&request, &answer), []);
    }
}
