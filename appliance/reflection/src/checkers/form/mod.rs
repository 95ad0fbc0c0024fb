//! Form: is there an answer at all, is it whole, does it go round in circles, does it only hand the question back, is
//! it in the language of the request, does the template show through, does it refuse?

mod echo;
mod language;
mod leaked;
mod refusal;
mod repeating;

pub use echo::Echo;
pub use language::WrongLanguage;
pub use leaked::Leaked;
pub use refusal::Refusal;
pub use repeating::Repeating;

use super::text::{fences, sentence_ends};
use super::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Finish;

/// The answer says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Empty;

impl Checker for Empty {
    fn name(&self) -> &'static str {
        "empty"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if subject
            .text
            .chars()
            .any(|c| !c.is_whitespace() && !c.is_control())
        {
            return Vec::new();
        }
        let sentence = subject.say("The answer is empty.", "La respuesta está vacía.");
        vec![Finding {
            checker: self.name(),
            place: Place::Whole,
            sentence,
            weight: 1.0,
            repair: None,
        }]
    }
}

/// The answer was cut before the model ended it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Truncated;

impl Checker for Truncated {
    fn name(&self) -> &'static str {
        "truncated"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if subject.finish == Finish::Stop {
            return Vec::new();
        }
        let sentence = subject.say(
            "The answer was cut off before its end; it must be shorter.",
            "La respuesta quedó cortada antes de su final; debe ser más corta.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::End,
            sentence,
            weight: 0.3,
            repair: whole_part(subject.text).map(|part| Repair::Rewrite(part.to_owned())),
        }]
    }
}

/// Most that is dropped of a text that is more than running prose, bytes.
const DROPPED: usize = 240;

/// What remains of a cut text when it ends with a whole sentence, if that is a good part of it and no code, list or
/// table stands behind it.
fn whole_part(text: &str) -> Option<&str> {
    let text = text.trim_end();
    let end = sentence_ends(text).pop()?;
    if end == text.len() || end * 4 < text.len() {
        return None;
    }
    // Within code a full stop ends nothing, and code behind it is no torn sentence.
    if fences(text).iter().any(|fence| end < fence.end) {
        return None;
    }
    let dropped = &text[end..];
    let items = dropped.lines().skip(1).any(is_item);
    let breaks = dropped
        .lines()
        .skip(1)
        .filter(|line| !line.trim().is_empty())
        .count();
    let sound = !items && !dropped.contains('|') && (dropped.len() <= DROPPED || breaks <= 1);
    sound.then(|| &text[..end])
}

/// Whether a line is an item of a list: a mark or number, and something behind it.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let rest = if number.len() < line.len() {
        number.strip_prefix(['.', ')'])
    } else {
        line.strip_prefix(['-', '*', '+', '•', '–'])
    };
    rest.is_some_and(|rest| rest.starts_with(char::is_whitespace) && !rest.trim().is_empty())
}

/// Whether any word of `text` begins with one of `beginnings`.
fn asks_for(text: &str, beginnings: &[&str]) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let start: String = word.chars().take(12).flat_map(char::to_lowercase).collect();
        beginnings.iter().any(|beginning| start.starts_with(beginning))
    })
}

#[cfg(test)]
mod tests;
