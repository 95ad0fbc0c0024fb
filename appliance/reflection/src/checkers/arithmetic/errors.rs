//! The wrong equations and weekdays of an answer.

use super::dates;
use super::equations::{Wrong, is_unusual, wrong_equations};
use super::number::Rational;
use super::question::styles;
use crate::checkers::Subject;
use crate::checkers::text::head;
use crate::critique::Language;

/// Most errors that are named; an answer with more is not mended by names.
const MOST: usize = 16;

/// A wrong number or weekday in an answer.
pub(super) struct Error {
    pub start: usize,
    pub end: usize,
    /// What it should be.
    pub right: String,
    pub sentence: String,
    /// The value that was wrong; `None` for a weekday.
    pub said: Option<Rational>,
}

/// The wrong equations and weekdays of `text`, in order.
pub(super) fn errors(subject: &Subject<'_>, text: &str) -> Vec<Error> {
    let asked = subject.asked();
    let mut found = Vec::new();
    if !is_unusual(asked) && !is_unusual(head(text, 4096)) {
        let prefer = styles(subject.language)[0];
        for wrong in wrong_equations(text, prefer) {
            let Wrong {
                start,
                end,
                from,
                right,
                said,
                calculation,
            } = wrong;
            // What the request itself says is not the answer's.
            if asked.contains(&text[from..end]) {
                continue;
            }
            let calculation = text[calculation.0..calculation.1].trim();
            let was = &text[start..end];
            let sentence = subject.say(
                &format!("{calculation} is {right}, not {was}."),
                &format!("{calculation} es {right}, no {was}."),
            );
            found.push(Error {
                start,
                end,
                right,
                sentence,
                said: Some(said),
            });
        }
    }
    for claim in dates::claims(text) {
        if claim.said == claim.right
            || asked.contains(&text[claim.start.min(claim.date.start)..claim.end.max(claim.date.end)])
        {
            continue;
        }
        let was = &text[claim.start..claim.end];
        let right = like(
            dates::day_name(claim.right, Language::of(was_sentence(text, claim.start))),
            was,
        );
        let date = &text[claim.date.start..claim.date.end];
        let sentence = subject.say(
            &format!("{date} is a {right}, not a {was}."),
            &format!("El {date} es {right}, no {was}."),
        );
        found.push(Error {
            start: claim.start,
            end: claim.end,
            right,
            sentence,
            said: None,
        });
    }
    found.sort_by_key(|error| error.start);
    found.truncate(MOST);
    found
}

/// The words around `at`: enough to tell their language.
fn was_sentence(text: &str, at: usize) -> &str {
    let mut start = at.saturating_sub(80);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    head(&text[start..], 160)
}

/// `name` with its first letter as in `model`.
pub(super) fn like(name: &str, model: &str) -> String {
    let (first, rest) = name.split_at(name.chars().next().map_or(0, char::len_utf8));
    if model.starts_with(char::is_uppercase) {
        first.to_uppercase() + rest
    } else {
        first.to_lowercase() + rest
    }
}

/// Whether nothing here is wrong with `text`.
pub(super) fn is_right(subject: &Subject<'_>, text: &str) -> bool {
    errors(subject, text).is_empty()
}
