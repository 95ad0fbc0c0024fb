//! Structure: code fences closed, blocks of JSON valid, markup balanced.

mod json;
mod markup;

use super::text::{fences, words};
use super::{Checker, Finding, Place, Repair, Subject};

/// The longest text whose structure is looked at, bytes.
const READ: usize = 1024 * 1024;

/// A code fence that is opened and not closed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fences;

impl Checker for Fences {
    fn name(&self) -> &'static str {
        "fences"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let fences = fences(subject.text);
        let Some(open) = fences.last().filter(|fence| !fence.closed) else {
            return Vec::new();
        };
        let mut closed = subject.text.trim_end().to_owned();
        // A closing fence that was cut is part of one.
        let partial = closed.rfind('\n').map_or(0, |at| at + 1);
        if partial >= open.inside
            && !closed[partial..].is_empty()
            && open.mark.starts_with(&closed[partial..])
        {
            closed.truncate(partial);
        }
        if !closed.ends_with('\n') {
            closed.push('\n');
        }
        closed.push_str(open.mark);
        vec![Finding {
            checker: self.name(),
            place: Place::Span {
                start: open.start,
                end: open.start + open.mark.len(),
            },
            sentence: subject.say(
                "The block of code is not closed.",
                "El bloque de código no está cerrado.",
            ),
            weight: 0.3,
            repair: Some(Repair::Rewrite(closed)),
        }]
    }
}

/// A block that calls itself JSON and is none. An answer that must be JSON as a whole is a stated constraint.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Checker for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let text = subject.text;
        if text.len() > READ {
            return Vec::new();
        }
        let blocks = fences(text);
        let wrong = blocks
            .iter()
            .filter(|block| block.closed && block.tag == "json")
            .find(|block| {
                let inside = text[block.inside..block.inside_end].trim();
                // Comments and omissions are for people to read.
                let meant =
                    inside.starts_with(['{', '[']) && !inside.contains("...") && !inside.contains(['…', '<']);
                let noted = inside
                    .lines()
                    .any(|line| line.trim_start().starts_with(['/', '#']) || line.contains(" //"));
                meant && !noted && !json::is_valid(inside) && !json::is_lines(inside)
            });
        let Some(block) = wrong else {
            return Vec::new();
        };
        let mended = json::without_last_commas(&text[block.inside..block.inside_end])
            .filter(|mended| json::is_valid(mended))
            .map(|mended| format!("{}{mended}{}", &text[..block.inside], &text[block.inside_end..]));
        vec![Finding {
            checker: self.name(),
            place: Place::Span {
                start: block.inside,
                end: block.inside_end,
            },
            sentence: subject.say(
                "The block of JSON is not valid JSON.",
                "El bloque de JSON no es JSON válido.",
            ),
            weight: 0.3,
            repair: mended.map(Repair::Rewrite),
        }]
    }
}

/// Markup that is opened and not closed: HTML elements, and bold text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Markup;

impl Checker for Markup {
    fn name(&self) -> &'static str {
        "markup"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if subject.text.len() > READ {
            return Vec::new();
        }
        let text = subject.text;
        if let Some(unclosed) = markup::unclosed(text) {
            let names = unclosed.names.join(", ");
            let repair = unclosed.closed;
            return vec![Finding {
                checker: self.name(),
                place: Place::End,
                sentence: subject.say(
                    &format!("These elements are not closed: {names}."),
                    &format!("Estos elementos no están cerrados: {names}."),
                ),
                weight: 0.3,
                repair: Some(Repair::Rewrite(repair)),
            }];
        }
        let Some((start, closed)) = markup::open_bold(text) else {
            return Vec::new();
        };
        vec![Finding {
            checker: self.name(),
            place: Place::Span {
                start,
                end: start + 2,
            },
            sentence: subject.say(
                "The bold text is not closed.",
                "El texto en negrita no está cerrado.",
            ),
            weight: 0.1,
            repair: Some(Repair::Rewrite(closed)),
        }]
    }
}

/// Whether a text says anything; for the files of this folder.
fn says(text: &str) -> bool {
    words(text).next().is_some()
}

#[cfg(test)]
mod tests;
