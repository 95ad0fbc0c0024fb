//! Requests that convert a measure: "how many minutes are in 3 hours", "convierte 5 km a metros".

use super::lex::{Kind, Token};
use super::number::{Look, Rational, Style, read};
use super::question::{Computed, Expected, pieces, styles};
use super::units::{Unit, convert, find};
use crate::critique::Language;

/// Words that may stand in such a request beside the units and the number.
#[rustfmt::skip]
const FILLERS: &[&str] = &[
    "how", "many", "much", "there", "is", "are", "in", "a", "an", "one", "does", "do", "have", "has", "make", "makes", "up", "to", "into",
    "convert", "change", "express", "what", "please", "equal", "equals", "contain", "contains", "the", "of", "degrees", "degree", "grados",
    "grado", "cuantos", "cuantas", "cuanto", "hay", "en", "tiene", "tienen", "son", "es", "equivale", "equivalen", "convierte", "pasa",
    "transforma", "expresa", "cambia", "convertir", "un", "una", "el", "la", "los", "las", "por", "favor", "tell", "me", "dime", "calculate",
    "calcula", "can", "you", "puedes", "hacen", "forman", "contiene", "contienen", "que", "as", "whole", "full", "from", "de", "if", "single",
    "una", "wide", "each", "every", "cada",
];

/// What a sentence asks to convert.
pub(crate) fn compute(sentence: &str, language: Language) -> Option<Computed> {
    let pieces = pieces(sentence);
    let mut units: Vec<(usize, &'static Unit)> = Vec::new();
    let mut amount: Option<usize> = None;
    for (at, (word, token)) in pieces.iter().enumerate() {
        match token.kind {
            Kind::Number if amount.is_none() => amount = Some(at),
            Kind::Number | Kind::Other => return None,
            Kind::Word => match unit_of(word) {
                Some(unit) => units.push((at, unit)),
                None if !FILLERS.contains(&word.as_str()) => return None,
                None => {}
            },
            Kind::Equals { .. } => {}
            // "por favor"
            Kind::Times if word == "por" => {}
            Kind::Minus
                if pieces
                    .get(at + 1)
                    .is_some_and(|(_, next)| next.kind == Kind::Number) =>
            {
                return None;
            }
            _ => return None,
        }
    }
    let [first, second] = <[_; 2]>::try_from(units).ok()?;
    let asks_how_many = pieces
        .iter()
        .take(6)
        .any(|(word, _)| matches!(word.as_str(), "many" | "cuantos" | "cuantas"));
    let asks_to = pieces.iter().any(|(word, _)| {
        matches!(
            word.as_str(),
            "convert"
                | "change"
                | "express"
                | "convierte"
                | "pasa"
                | "transforma"
                | "expresa"
                | "cambia"
                | "convertir"
                | "what"
                | "much"
                | "cuanto"
        )
    });
    let next_to = |unit: &(usize, &'static Unit)| amount.map(|at| unit.0 > at && unit.0 <= at + 2);
    // Where the amount is not in digits it is one: "in a day", "en una hora".
    let (from, to) = match (next_to(&first), next_to(&second)) {
        (Some(true), Some(false)) if first.0 < second.0 && (asks_to || asks_how_many) => (first, second),
        (Some(false), Some(true)) if asks_how_many => (second, first),
        (None, None) if asks_how_many && one_before(&pieces, second.0) => (second, first),
        _ => return None,
    };
    let (from, to) = (from.1, to.1);
    let (value, look, shown) = match amount {
        Some(at) => {
            let token = pieces[at].1;
            let digits = &sentence[token.start..token.end];
            let written = styles(language)
                .into_iter()
                .find_map(|style| read(digits, style))?;
            (written.value, written.look, digits.to_owned())
        }
        None => {
            let look = Look {
                style: if language == Language::Spanish {
                    Style::Comma
                } else {
                    Style::Point
                },
                grouped: false,
                decimals: 0,
            };
            (Rational::whole(1), look, "1".to_owned())
        }
    };
    let result = convert(value, from, to)?;
    if from.english == to.english {
        return None;
    }
    let name = |unit: &Unit, value: Rational| {
        let (one, many) = match language {
            Language::English => unit.english,
            Language::Spanish => unit.spanish,
        };
        if value == Rational::whole(1) { one } else { many }
    };
    Some(Computed {
        expected: Expected::Number(result, look),
        sentence: format!(
            "{shown} {} = {} {}",
            name(from, value),
            result.show(look)?,
            name(to, result)
        ),
    })
}

/// The unit that a word names; C and F are temperatures.
fn unit_of(word: &str) -> Option<&'static Unit> {
    match word {
        "c" => find("celsius"),
        "f" => find("fahrenheit"),
        _ => find(word),
    }
}

/// Whether the word before the one at `at` is "a" or its like.
fn one_before(pieces: &[(String, Token)], at: usize) -> bool {
    at.checked_sub(1).is_some_and(|i| {
        let (word, token) = &pieces[i];
        matches!(word.as_str(), "a" | "an" | "one" | "un" | "una" | "each" | "every" | "cada" | "single" | "whole" | "full")
            // "is a", "es un": a word for "equals" may have swallowed the article.
            || (matches!(token.kind, Kind::Equals { .. }) && word.ends_with(" a"))
    })
}
