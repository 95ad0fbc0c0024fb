//! Requests about the calendar: "what weekday was 2024-02-29", "cuántos días hay entre …", "10 days after Monday".

use super::dates::{dates, day_name, weekday};
use super::number::{Look, Rational};
use super::question::{Computed, Expected, only_words, styles};
use crate::checkers::text::{any_of, fold, words};
use crate::critique::Language;

/// Words of a request that asks for a weekday or for a number of days, beside its dates and numbers.
#[rustfmt::skip]
const FILLERS: &[&str] = &[
    "what", "which", "day", "days", "weekday", "of", "the", "week", "is", "was", "will", "be", "on", "did", "does", "do", "fall", "falls",
    "que", "dia", "dias", "de", "la", "semana", "semanas", "weeks", "es", "fue", "sera", "cae", "cayo", "caera", "era", "el", "un", "en", "it",
    "date", "how", "many", "are", "there", "from", "to", "between", "and", "until", "till", "cuantos", "hay", "pasan", "desde", "hasta",
    "entre", "y", "del", "al", "tell", "me", "dime", "calculate", "calcula", "please", "por", "favor", "after", "before", "later", "ago",
    "if", "today", "in", "now", "si", "hoy", "dentro", "despues", "antes", "hace", "then", "pasado", "pasados", "would", "a", "los", "have",
    "passed", "elapse", "elapsed", "transcurren", "transcurrido", "cual", "fell", "s", "estamos",
];

/// What a sentence asks about dates.
pub(crate) fn compute(sentence: &str, language: Language) -> Option<Computed> {
    let dates = dates(sentence);
    let inside = |at: usize| dates.iter().any(|date| (date.start..date.end).contains(&at));
    let mut days = Vec::new();
    let mut numbers = Vec::new();
    let known = only_words(sentence, FILLERS, |word, folded| {
        inside(word.start)
            || weekday(folded).is_some()
            || (folded.len() <= 4 && folded.bytes().all(|b| b.is_ascii_digit()))
    });
    if !known {
        return None;
    }
    let mut said = Vec::new();
    for word in words(sentence).filter(|word| !inside(word.start)) {
        let folded = fold(word.text);
        if let Some(day) = weekday(&folded) {
            days.push((word, day));
        } else if let Ok(number) = folded.parse::<i64>() {
            numbers.push((word, number));
        } else {
            said.push(folded);
        }
    }
    let says = |wanted: &[&str]| any_of(&said, wanted);
    let many = says(&["many", "cuantos"]);
    let which =
        says(&["what", "which", "que", "weekday", "cual"]) && says(&["day", "days", "weekday", "dia"]);
    match (dates.as_slice(), days.as_slice(), numbers.as_slice()) {
        ([date], [], [])
            if which && !many && !says(&["after", "before", "later", "ago", "despues", "antes", "hace"]) =>
        {
            let day = date.date.weekday();
            let (shown, name) = (&sentence[date.start..date.end], day_name(day, language));
            let sentence = match language {
                Language::English => format!("{shown} is a {name}."),
                Language::Spanish => format!("El {shown} es {name}."),
            };
            Some(Computed {
                expected: Expected::Day(day),
                sentence,
            })
        }
        ([a, b], [], []) if many && says(&["days", "dias"]) && !which => {
            let count = i128::from(a.date.until(b.date).ok()?.get_days()).abs();
            let look = Look {
                style: styles(language)[0],
                grouped: false,
                decimals: 0,
            };
            let (a, b) = (&sentence[a.start..a.end], &sentence[b.start..b.end]);
            let sentence = match language {
                Language::English => format!("There are {count} days from {a} to {b}."),
                Language::Spanish => format!("Hay {count} días entre el {a} y el {b}."),
            };
            Some(Computed {
                expected: Expected::Number(Rational::whole(count), look),
                sentence,
            })
        }
        ([], [(from, day)], [(number, count)]) if which && !many => {
            let weeks = words(&sentence[number.end()..])
                .next()
                .map(|word| fold(word.text))?;
            let count = match weeks.as_str() {
                "day" | "days" | "dia" | "dias" => *count,
                "week" | "weeks" | "semana" | "semanas" => count * 7,
                _ => return None,
            };
            let later = says(&["after", "later", "in", "from", "dentro", "despues"])
                || (says(&["en"]) && says(&["hoy"]));
            let earlier = says(&["before", "ago", "antes", "hace"]);
            if later == earlier || count > 100_000 {
                return None;
            }
            let right = if later {
                day.wrapping_add(count)
            } else {
                day.wrapping_sub(count)
            };
            let (unit, from) = (&sentence[number.start..number.end()], from.text);
            let unit = format!("{unit} {}", words(&sentence[number.end()..]).next()?.text);
            let name = day_name(right, language);
            let sentence = match (language, later) {
                (Language::English, true) => format!("{unit} after {from} is {name}."),
                (Language::English, false) => format!("{unit} before {from} is {name}."),
                (Language::Spanish, true) => format!("{unit} después del {from} es {name}."),
                (Language::Spanish, false) => format!("{unit} antes del {from} es {name}."),
            };
            Some(Computed {
                expected: Expected::Day(right),
                sentence,
            })
        }
        _ => None,
    }
}
