//! The result that an answer gives to a request that is one computation.

use super::Arithmetic;
use super::answer::{Stated, named_days, stated};
use super::dates;
use super::errors::{is_right, like};
use super::mend::edit;
use super::number::{Look, Rational, Style};
use super::question::{Expected, Question};
use crate::checkers::text::{READ, sentence_ends};
use crate::checkers::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Finish;

impl Arithmetic {
    /// What is wrong with the result that an answer gives to a computation.
    pub(super) fn wrong_result(
        self,
        subject: &Subject<'_>,
        text: &str,
        question: &Question,
    ) -> Option<Finding> {
        let (place, right, edits) = match question.expected {
            Expected::Number(value, _) => wrong_number(subject.asked(), text, value, question)?,
            Expected::Day(day) => {
                let named = named_days(text);
                if named.iter().any(|named| named.day == day) {
                    return None;
                }
                let right = dates::day_name(day, subject.language);
                let wrong = named
                    .iter()
                    .rev()
                    .find(|named| !question.days.contains(&named.day));
                let edits = wrong.map(|wrong| {
                    let same = named.iter().filter(|named| named.day == wrong.day);
                    same.map(|named| (named.start, named.end, like(right, &text[named.start..named.end])))
                        .collect()
                });
                let place = wrong.map(|wrong| (wrong.start, wrong.end));
                (place, right.to_owned(), edits.unwrap_or_default())
            }
        };
        let was = place.map(|(start, end)| &text[start..end]);
        let full = question.sentence.trim_end_matches('.');
        let sentence = match was {
            Some(was) => subject.say(
                &format!("The right result is: {full}, not {was}."),
                &format!("El resultado correcto es: {full}, no {was}."),
            ),
            None => subject.say(
                &format!("The answer must state the result: {full}."),
                &format!("La respuesta debe decir el resultado: {full}."),
            ),
        };
        let short = if question.bare {
            like_bare(&right)
        } else {
            question.sentence.clone()
        };
        // A wrong result at the end of a derivation has a wrong derivation: only a sentence or two are worth mending.
        let simple = sentence_ends(text).len() <= 2 && subject.finish == Finish::Stop;
        let mended = (simple && !edits.is_empty() && subject.text.len() <= READ)
            .then(|| {
                edit(
                    text,
                    edits
                        .iter()
                        .map(|(start, end, right)| (*start, *end, right.as_str()))
                        .collect(),
                )
            })
            .flatten()
            .filter(|mended| is_right(subject, mended) && is_answered(subject.asked(), mended, question));
        Some(Finding {
            checker: self.name(),
            place: place.map_or(Place::Whole, |(start, end)| Place::Span { start, end }),
            sentence,
            weight: 0.9,
            repair: Some(Repair::Rewrite(mended.unwrap_or(short))),
        })
    }
}

/// A bare result.
fn like_bare(right: &str) -> String {
    let mut chars = right.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Where, what is right, and what to replace by what.
type Correction = (Option<(usize, usize)>, String, Vec<(usize, usize, String)>);

/// The wrong or missing number of an answer to a computation.
fn wrong_number(asked: &str, text: &str, value: Rational, question: &Question) -> Option<Correction> {
    if is_answered(asked, text, question) || text.contains("10^") || text.contains("frac") {
        return None;
    }
    let Expected::Number(_, look) = question.expected else {
        return None;
    };
    let right = value.show(look)?;
    let given = stated(asked);
    let numbers = stated(text);
    let wrong = |number: &&Stated| !number.is(value);
    let new = |number: &&Stated| !number.is_any(&given);
    let chosen = numbers
        .iter()
        .rev()
        .filter(wrong)
        .find(|number| number.answer && new(number))
        .or_else(|| {
            numbers
                .iter()
                .rev()
                .filter(wrong)
                .find(|number| number.result && new(number))
        })
        .or_else(|| numbers.iter().rev().filter(wrong).find(new))
        .or_else(|| {
            numbers
                .last()
                .filter(wrong)
                .filter(|number| number.result || numbers.len() == 1)
        });
    let Some(chosen) = chosen else {
        return Some((None, right, Vec::new()));
    };
    let again = numbers.iter().filter(|number| {
        number.start == chosen.start
            || (number.is_same(chosen) && number.look.is_some() && !number.is_any(&given))
    });
    let edits = again
        .map(|number| {
            let look = number.look.map_or(look, |look| Look {
                grouped: look.grouped
                    || (value.as_whole().is_some_and(|n| n.abs() >= 1000)
                        && text[number.start..number.end].contains(',')),
                style: question_style(question, look),
                ..look
            });
            (
                number.start,
                number.end,
                value.show(look).unwrap_or_else(|| right.clone()),
            )
        })
        .collect();
    Some((Some((chosen.start, chosen.end)), right, edits))
}

/// The style of the wrong number, unless it shows none.
const fn question_style(question: &Question, look: Look) -> Style {
    match question.expected {
        Expected::Number(_, wanted) if look.decimals == 0 && !look.grouped => wanted.style,
        _ => look.style,
    }
}

/// Whether `text` states the result of `question`.
fn is_answered(asked: &str, text: &str, question: &Question) -> bool {
    let value = match question.expected {
        Expected::Number(value, _) => value,
        Expected::Day(day) => return named_days(text).iter().any(|named| named.day == day),
    };
    let given = stated(asked);
    let numbers = stated(text);
    let is_given = given.iter().any(|number| number.is(value));
    let states = |number: &Stated, last: bool| number.is(value) && (!is_given || number.result || last);
    let count = numbers.len();
    if !numbers
        .iter()
        .enumerate()
        .any(|(i, number)| states(number, i == 0 || i + 1 == count))
    {
        return false;
    }
    // "17 + 25 = 42, so the answer is 43."
    numbers
        .iter()
        .rev()
        .find(|number| number.answer && !number.is_any(&given))
        .is_none_or(|number| number.is(value))
}
