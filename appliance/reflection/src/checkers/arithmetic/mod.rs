//! Arithmetic, units and dates, recomputed: the equations and weekdays of an answer, and the result of a request
//! that is one computation.

pub(crate) mod answer;
mod calendar;
pub(crate) mod dates;
mod equations;
mod errors;
mod expression;
mod lex;
mod measures;
mod mend;
mod named;
mod number;
mod question;
mod result;
mod units;

use errors::errors;
use mend::repairs;
use question::closed_question;

use super::text::{READ, head};
use super::{Checker, Finding, Place, Subject};
use crate::critique::Language;

/// Whether a request is one closed computation.
pub(crate) fn is_computation(asked: &str, language: Language) -> bool {
    closed_question(asked, language).is_some()
}

/// Wrong sums, conversions and weekdays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Arithmetic;

impl Checker for Arithmetic {
    fn name(&self) -> &'static str {
        "arithmetic"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let asked = subject.asked();
        let text = head(subject.text, READ);
        if !text.contains(char::is_alphanumeric) {
            return Vec::new();
        }
        let question = closed_question(asked, subject.language);
        let mut found: Vec<Finding> = question
            .as_ref()
            .and_then(|question| self.wrong_result(subject, text, question))
            .into_iter()
            .collect();
        let taken = found.first().and_then(|finding| span(finding.place));
        let errors = errors(subject, text);
        let repairs = repairs(subject, text, &errors);
        for (error, repair) in errors.into_iter().zip(repairs) {
            if taken.is_some_and(|(start, end)| error.start < end && start < error.end) {
                continue;
            }
            found.push(Finding {
                checker: self.name(),
                place: Place::Span {
                    start: error.start,
                    end: error.end,
                },
                sentence: error.sentence,
                weight: 0.5,
                repair,
            });
        }
        found
    }
}

const fn span(place: Place) -> Option<(usize, usize)> {
    match place {
        Place::Span { start, end } => Some((start, end)),
        _ => None,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
