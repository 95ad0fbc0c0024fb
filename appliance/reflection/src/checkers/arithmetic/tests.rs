//! What the arithmetic checker finds and mends, and what it must leave alone.

use super::*;
use crate::checkers::Repair;
use crate::critique::Language;
use crate::generate::{Finish, Speaker, Turn};
use proptest::prelude::*;

fn findings(request: &str, text: &str) -> Vec<Finding> {
    let request = [Turn::new(Speaker::User, request)];
    Arithmetic.check(&Subject {
        request: &request,
        text,
        finish: Finish::Stop,
        language: Language::of_request(&request),
    })
}

/// The repaired answer; what is to be generated is `…`.
fn repaired(request: &str, text: &str) -> String {
    let found = findings(request, text);
    match found.first().map(|finding| finding.repair.clone()) {
        None => "right".to_owned(),
        Some(Some(Repair::Rewrite(text))) => {
            assert_eq!(findings(request, &text), [], "{request}: {text}");
            text
        }
        Some(Some(Repair::Resume { keep, insert, .. })) => format!("{}{insert}…", &text[..keep]),
        Some(other) => format!("{other:?}"),
    }
}

#[test]
fn wrong_equations_are_mended() {
    for (text, expected) in [
        ("12 × 7 = 85", "12 × 7 = 84"),
        ("12 times 7 is 85.", "12 times 7 is 84."),
        ("15% of 80 is 10.", "15% of 80 is 12."),
        ("El 15 % de 80 es 10.", "El 15 % de 80 es 12."),
        ("So 3 + 4 * 2 = 14", "So 3 + 4 * 2 = 11"),
        ("1,200 + 300 = 1,600", "1,200 + 300 = 1,500"),
        ("3,5 + 1,5 = 6", "3,5 + 1,5 = 5"),
        ("10 / 4 = 2.6", "10 / 4 = 2.5"),
        ("2^10 = 1000", "2^10 = 1024"),
        ("(3 + 4) × 2 = 15.", "(3 + 4) × 2 = 14."),
        ("**12 * 12 = 143**", "**12 * 12 = 144**"),
        ("- 5 + 6 = 12\n- 2 + 2 = 5", "- 5 + 6 = 11\n- 2 + 2 = 4"),
        (
            "12 × 7 = 85. So there are 85 eggs.",
            "12 × 7 = 84. So there are 84 eggs.",
        ),
        ("12 × 7 = 85. Then 85 + 5 = 90.", "12 × 7 = 84…"),
        ("3 apples + 4 apples = 8 apples", "3 apples + 4 apples = 7 apples"),
        ("$3 + $4 = $8", "$3 + $4 = $7"),
        (r"\(12 \times 7 = 85\)", r"\(12 \times 7 = 84\)"),
        ("20 entre 4 es igual a 6", "20 entre 4 es igual a 5"),
        ("7 = 3 + 5", "8 = 3 + 5"),
        ("12 × 7 = 85 eggs", "12 × 7 = 84 eggs"),
        ("12 - 7 = 4 and so on.", "12 - 7 = 5 and so on."),
        ("12 eggs - 7 eggs = 4 eggs", "12 eggs - 7 eggs = 5 eggs"),
        ("2 cats - 1 cat = 2 cats", "2 cats - 1 cat = 1 cats"),
        ("I am sure that 12 × 7 = 85.", "I am sure that 12 × 7 = 84."),
    ] {
        assert_eq!(repaired("Explain this to me.", text), expected, "{text}");
    }
}

#[test]
fn numbers_are_read_as_the_language_writes_them() {
    assert_eq!(
        repaired("Explica la suma.", "1.200 + 300 = 1.600"),
        "1.200 + 300 = 1.500"
    );
    assert_eq!(repaired("Explica la suma.", "1.5 + 2 = 5"), "1.5 + 2 = 3.5");
}

#[test]
fn what_is_right_or_unclear_is_left_alone() {
    for text in [
        "12 × 7 = 84",
        "10 / 3 = 3.33",
        "10 / 3 ≈ 3.3",
        "2/3 = 0.66",
        "1/3 is about 0.3",
        "5 + 3 = 8 - 2 = 6",
        "2x + 3 = 7",
        "x + 3 + 4 = 10",
        "3 + 4 = x",
        "3 + 4 = 7 + x",
        "Is 3 + 4 = 8?",
        "3 + 4 is not 8.",
        "If 3 + 4 = 8, then we are lost.",
        "17 / 5 = 3 remainder 2",
        "19 / 5 = 3 R4",
        "3 km + 400 m = 3.4 km",
        "1 hour + 30 minutes = 90 minutes",
        "2020-2024 = 4 years",
        "From 10-20 is a range.",
        "24/7 is 5 letters",
        "7 + 8 = 3 (mod 12)",
        "In binary, 1 + 1 = 10.",
        "10:30 + 2:00 = 12:30",
        "1 + 2 + ... + 10 = 55",
        "3 + 5! = 123",
        "√16 + 9 = 13",
        "The square root of 16 + 9 = 5",
        "50 + 10% = 55",
        "3 million + 200 thousand = 3.2 million",
        "version 1.2.3 = 4",
        "a = b + 3 = 5",
        "x == 3",
        "3 + 4 >= 6, 2 != 3, 5 => 6",
        "```\n3 + 4 = 9\n```",
        "60 km/h × 2 h = 120 km",
        "Call 555-1234 = home",
        "1. 3 + 4 = 7\n2. 5 + 5 = 10",
        "3 + 4 = 7\n8 + 1 = 9",
        "| 3 + 4 | 7 |\n| 5 | 9 |",
        "It costs 3 + 4 = $7.00",
        "80% = 4/5 = 0.8",
        "0.1 + 0.2 = 0.3",
        "2 ** 3 = 8",
        "3 - 5 = -2",
        "3 − 5 = −2",
        "10 PM - 6 AM = 8 hours",
        "9 AM - 5 PM = 8 hours",
        "10 p.m. - 6 a.m. = 8 hours",
        "9am to 5pm is 8 hours: 5 - 9 = 8",
        "3/4 = 3 beats per measure",
        "4/4 = 4 beats",
        "3/4 = 3 pulsos",
        "1/2 tsp = 2.5 ml",
        "1/2 taza = 120 ml",
        "1/2 stick = 4 tbsp",
        "Weeks 1 – 4 are 30 minutes of walking.",
        "Days 3 - 5 are 2.",
        "1990 - 2020 = 30 years",
        "1990 - 2020 = 30",
        "In Java, 9 / 5 = 1.",
        "In C, 9 / 5 = 1.",
        "In C++ the result of 9 / 5 = 1.",
        "Integer division: 9 / 5 = 1.",
        "5 ^ 3 = 6",
        "58 rooms * 72 dollars = 3960 dollars",
    ] {
        assert_eq!(repaired("Explain this to me.", text), "right", "{text}");
    }
}

#[test]
fn the_requests_own_computation_is_computed() {
    for (request, expected) in [
        ("What is 17 + 25?", "17 + 25 = 42"),
        ("Calculate 15% of 80", "15% of 80 is 12."),
        ("¿Cuánto es 6 por 7?", "6 por 7 es 42."),
        ("¿Cuánto es el 15 % de 80?", "15 % de 80 es 12."),
        ("How many minutes are in 3 hours?", "3 hours = 180 minutes"),
        ("convert 5 km to m", "5 kilometers = 5000 meters"),
        ("Convierte 5 km a m.", "5 kilómetros = 5000 metros"),
        ("Convierte 2,5 horas a minutos.", "2,5 horas = 150 minutos"),
        ("¿Cuántos minutos hay en 3 horas?", "3 horas = 180 minutos"),
        ("How many seconds are in an hour?", "1 hour = 3600 seconds"),
        ("¿Cuántas horas tiene un día?", "1 día = 24 horas"),
        (
            "What day is 10 days after Monday?",
            "10 days after Monday is Thursday.",
        ),
        (
            "¿Qué día es 10 días después del lunes?",
            "10 días después del lunes es jueves.",
        ),
        (
            "Today is Monday. What day of the week is it in 3 days?",
            "3 days after Monday is Thursday.",
        ),
        ("What do you get when you add 240 and 360?", "The result is 600."),
        (
            "If today is Friday, what day of the week will it be in 3 days?",
            "3 days after Friday is Monday.",
        ),
        (
            "How many days from March 3 2024 to April 1 2024?",
            "There are 29 days from March 3 2024 to April 1 2024.",
        ),
        ("What weekday was 2024-02-29?", "2024-02-29 is a Thursday."),
        (
            "¿Qué día de la semana fue el 29 de febrero de 2024?",
            "El 29 de febrero de 2024 es jueves.",
        ),
        ("What is the sum of 3 and 4?", "The sum of 3 and 4 is 7."),
        ("¿Cuál es la suma de 12 y 30?", "La suma de 12 y 30 es 42."),
        ("Divide 20 by 8.", "The result is 2.5."),
        ("Multiplica 6 por 7.", "El resultado es 42."),
        ("What is half of 90?", "Half of 90 is 45."),
        ("What is the square root of 144?", "The square root of 144 is 12."),
        ("What is 12 * 12? Answer with just the number.", "144"),
        ("¿Cuánto es 9 x 8? Responde solo con el número.", "72"),
        ("7 * 6 = ?", "7 * 6 = 42"),
        ("What percent of 80 is 20?", "20 is 25% of 80."),
        ("¿Qué porcentaje de 80 es 20?", "20 es el 25 % de 80."),
        ("Please calculate (3 + 4) * 5 step by step.", "(3 + 4) * 5 = 35"),
        ("What is 1,250 + 750?", "1,250 + 750 = 2,000"),
    ] {
        assert_eq!(repaired(request, "I do not know."), expected, "{request}");
    }
}

#[test]
fn other_requests_are_no_computation() {
    for request in [
        "What is 24/7?",
        "What is 9/11?",
        "What is a 4x4?",
        "What is Python 3 + Django?",
        "Tom has 3 apples and buys 4 more. How many apples has he?",
        "What is 17 + 25 in binary?",
        "What is 17 + 25? And who was Napoleon?",
        "What happened in 1999?",
        "Write a story about 3 + 4 pigs.",
        "What is 3 million + 2?",
        "What is 2x + 3?",
        "Solve 2x + 3 = 7",
        "How many days are in February?",
        "What day is it today?",
        "What is 17 + 25? Answer in words.",
        "How many meters in 3 hours?",
        "Is 3 + 4 = 8?",
        "What is 5?",
        "What is the capital of France?",
        "How many legs do 3 cats have?",
    ] {
        assert!(
            closed_question(request, Language::of(request)).is_none(),
            "{request}"
        );
    }
}

#[test]
fn wrong_results_are_mended_and_right_ones_stay() {
    for (request, text, expected) in [
        ("What is 17 + 25?", "42", "right"),
        ("What is 17 + 25?", "43", "42"),
        ("What is 17 + 25?", "The answer is 43.", "The answer is 42."),
        ("What is 17 + 25?", "Forty-two.", "right"),
        (
            "What is 17 + 25?",
            "17 + 25 = 42. You can check it: 42 - 25 = 17.",
            "right",
        ),
        (
            "What is 17 + 25?",
            "17 + 25 = 42, so the answer is 43.",
            "17 + 25 = 42, so the answer is 42.",
        ),
        ("What is 6 + 6 - 6?", "6 + 6 - 6 = 12", "6 + 6 - 6 = 6"),
        ("What is 10 / 4?", "It is 2 1/2.", "right"),
        ("What is 10 / 4?", "10/4 = 5/2", "right"),
        ("What is 3 - 5?", "The answer is -2.", "right"),
        ("What is 3 - 5?", "The answer is 2.", "The answer is -2."),
        ("What is 1000 * 1000?", "1 000 000", "right"),
        ("What is 1000 * 1000?", "One million: 1 million.", "right"),
        ("Calculate 15% of 80", "15% of 80 is 10.", "15% of 80 is 12."),
        (
            "Calculate 15% of 80",
            "First, 80 * 0.15 = 14. So it is 14.",
            "First, 80 * 0.15 = 12. So it is 12.",
        ),
        ("¿Cuánto es 6 por 7?", "6 por 7 es 48.", "6 por 7 es 42."),
        (
            "How many minutes are in 3 hours?",
            "There are 120 minutes in 3 hours.",
            "There are 180 minutes in 3 hours.",
        ),
        ("How many minutes are in 3 hours?", "180min", "right"),
        (
            "What day is 10 days after Monday?",
            "10 days after Monday is Wednesday.",
            "10 days after Monday is Thursday.",
        ),
        (
            "What day is 10 days after Monday?",
            "It will be Thursday.",
            "right",
        ),
        (
            "What weekday was 2024-02-29?",
            "It was a monday.",
            "It was a thursday.",
        ),
        ("What is 10 / 3?", "3.33", "right"),
        (
            "What is 2 * 3?",
            "To multiply 2 by 3, add 2 to itself 4 times: 2 + 2 + 2 + 2 = 8.",
            "2 * 3 = 6",
        ),
    ] {
        assert_eq!(repaired(request, text), expected, "{request}: {text}");
    }
}

#[test]
fn wrong_weekdays_are_mended() {
    for (text, expected) in [
        (
            "It happened on Monday, 5 March 2024.",
            "It happened on Tuesday, 5 March 2024.",
        ),
        (
            "El lunes 5 de marzo de 2024 llovió en la ciudad.",
            "El martes 5 de marzo de 2024 llovió en la ciudad.",
        ),
        ("March 5, 2024 was a Tuesday.", "right"),
        ("On Monday, 4 July 1776, it was signed.", "right"),
    ] {
        assert_eq!(repaired("Tell me about it.", text), expected, "{text}");
    }
}

#[test]
fn sentences_are_in_the_language_of_the_request() {
    let found = findings("¿Cuánto es 6 por 7?", "6 por 7 es 48.");
    assert_eq!(
        found[0].sentence,
        "El resultado correcto es: 6 por 7 es 42, no 48."
    );
}

#[test]
fn hostile_texts_are_survived() {
    for text in [
        "1".repeat(1 << 20),
        "1 + ".repeat(1 << 18),
        "(".repeat(1 << 20),
        "1 = ".repeat(1 << 18),
        "1 + 1 = 3 ".repeat(1 << 16),
        "Monday ".repeat(1 << 16),
        "=".repeat(1 << 20),
        "x".repeat(10 << 20),
        "2024-".repeat(1 << 18),
    ] {
        let _ = findings(&text, &text);
        let _ = findings("What is 17 + 25?", &text);
    }
}

proptest! {
    #[test]
    fn sums_are_right_and_near_misses_are_not(a in 0_i64..5000, b in 1_i64..5000, off in 1_i64..50) {
        for (sign, value) in [("+", a + b), ("*", a * b), ("-", a - b)] {
            // What a span of years would say.
            if sign == "-" && value + off == b - a {
                continue;
            }
            let request = format!("What is {a} {sign} {b}?");
            let right = format!("{a} {sign} {b} = {value}");
            let wrong = format!("{a} {sign} {b} = {}", value + off);
            prop_assert_eq!(repaired(&request, &right), "right");
            prop_assert_eq!(repaired(&request, &wrong), right.clone());
            prop_assert_eq!(repaired("Go on.", &right), "right");
            prop_assert_eq!(repaired("Go on.", &wrong), right);
        }
    }

    #[test]
    fn arbitrary_texts_never_panic(request in any::<String>(), text in any::<String>()) {
        let _ = findings(&request, &text);
    }

    #[test]
    fn texts_like_sums_never_panic(text in "[0-9+*/=%.,() -x²³√½°a-cMñ\u{301}\u{5d0}]{0,60}") {
        for finding in findings(&text, &text) {
            if let Place::Span { start, end } = finding.place {
                prop_assert!(text.get(start..end).is_some());
            }
        }
    }

    #[test]
    fn texts_of_such_words_never_panic(words in proptest::collection::vec("what|is|cuánto|es|[0-9]{1,3}|%|of|de|días|after|lunes|March|2024|5|=|times|\\*\\*|1/2|km|m|in|to|\\?|\\.|million|(|)|-", 0..24)) {
        let text = words.join(" ");
        for finding in findings(&text, &text) {
            if let Place::Span { start, end } = finding.place {
                prop_assert!(text.get(start..end).is_some());
            }
        }
    }
}
