//! Structure: code fences closed, JSON valid where it was asked for, markup balanced.

mod json;
mod markup;

use super::text::{any_of, fences, folded_words, head, words};
use super::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Constraint;

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

/// An answer that was to be JSON and is none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Checker for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if subject.text.len() > READ {
            return Vec::new();
        }
        let Some(demand) = demand(subject.asked()) else {
            return Vec::new();
        };
        let text = subject.text.trim();
        let blocks = fences(text);
        let block = match blocks.as_slice() {
            [fence] => Some(text[fence.inside..fence.inside_end].trim()),
            _ => None,
        };
        if json::is_valid(text) || (block.is_some_and(json::is_valid) && !demand.only) {
            return Vec::new();
        }
        // One valid value with talk around it needs only to lose the talk.
        let inner = block
            .filter(|block| json::is_valid(block))
            .or_else(|| json::only_value(text));
        let repair = match inner {
            Some(value) => Some(Repair::Rewrite(value.to_owned())),
            None => (!demand.list).then_some(Repair::Constrain(Constraint::JsonObject)),
        };
        let sentence = if inner.is_some() {
            subject.say(
                "The answer must be the JSON alone, without other words.",
                "La respuesta debe ser solo el JSON, sin otras palabras.",
            )
        } else {
            subject.say(
                "The answer must be valid JSON.",
                "La respuesta debe ser JSON válido.",
            )
        };
        vec![Finding {
            checker: self.name(),
            place: Place::Whole,
            sentence,
            weight: if inner.is_some() { 0.4 } else { 0.6 },
            repair,
        }]
    }
}

/// How JSON is asked for.
struct Demand {
    /// And nothing else.
    only: bool,
    /// A list rather than an object.
    list: bool,
}

/// Words that ask for an answer.
#[rustfmt::skip]
const ORDERS: &[&str] = &[
    "return", "respond", "reply", "answer", "output", "give", "write", "produce", "generate", "create", "format", "provide", "make", "express", "list", "extract",
    "devuelve", "responde", "contesta", "dame", "da", "escribe", "genera", "crea", "haz", "expresa", "extrae", "formato", "represent", "representa",
];
/// Words right before "JSON" that make it the form of the answer.
#[rustfmt::skip]
const FORMS: &[&str] = &["as", "in", "a", "valid", "only", "the", "single", "just", "this", "en", "como", "un", "solo", "formato", "objeto", "format", "of", "with", "following", "valido"];
/// Words of requests about JSON rather than for it.
#[rustfmt::skip]
const ABOUT: &[&str] = &[
    "code", "function", "python", "javascript", "parse", "parser", "library", "convert", "explain", "difference", "what", "yaml", "xml", "csv", "file", "files",
    "java", "rust", "script", "program", "schema", "api", "codigo", "funcion", "explica", "diferencia", "archivo", "fichero", "convierte", "fix", "corrige", "how", "como", "why", "que", "is",
    "if", "si", "not", "no", "without", "sin",
];

/// Whether the answer to `asked` must be JSON.
fn demand(asked: &str) -> Option<Demand> {
    let words = folded_words(head(asked, 16 * 1024), 2048);
    let at = words.iter().position(|word| word == "json")?;
    let orders = any_of(&words, ORDERS);
    let formed = at > 0 && FORMS.contains(&words[at - 1].as_str())
        || words
            .get(at + 1)
            .is_some_and(|word| matches!(word.as_str(), "object" | "only" | "array" | "format" | "with"));
    // "como JSON" is a form, "cómo …" and "how" are questions about it.
    let about = words.iter().enumerate().any(|(i, word)| {
        ABOUT.contains(&word.as_str()) && i + 1 != at && !(word == "is" || word == "que")
            || i < 2 && (word == "what" || word == "que")
    });
    if !orders || !formed || about {
        return None;
    }
    Some(Demand {
        only: any_of(
            &words,
            &["only", "just", "solo", "unicamente", "nothing", "solamente"],
        ),
        list: any_of(&words, &["array", "arrays", "list", "lista", "arreglo"]),
    })
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
