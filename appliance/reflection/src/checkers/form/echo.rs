//! An answer that hands the prompt back.

use super::asks_for;
use crate::checkers::text::{fold, words};
use crate::checkers::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Speaker;

/// The answer hands the prompt back instead of answering it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

/// Fewest words that count as an echo; a shorter coincidence is ordinary.
const ECHO_WORDS: usize = 6;
/// How many words are compared; an echo this long is certain.
const ECHO_COMPARED: usize = 512;
/// Beginnings of words by which a request asks to get its own text back.
const ECHO_WANTED: &[&str] = &[
    "repeat",
    "repit",
    "repet",
    "copy",
    "copia",
    "quote",
    "cita",
    "correct",
    "corrig",
    "rewrite",
    "reescrib",
    "proofread",
    "translat",
    "traduc",
    "complet",
    "continu",
    "fix",
    "edit",
    "format",
    "echo",
    "same",
];

impl Checker for Echo {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if asks_for(subject.asked(), ECHO_WANTED) {
            return Vec::new();
        }
        let Some(echoed) = echoed(subject, subject.text) else {
            return Vec::new();
        };
        let sentence = subject.say(
            "The answer repeats the request instead of answering it.",
            "La respuesta repite la petición en lugar de responderla.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Start,
            sentence,
            weight: 0.7,
            repair: after_echo(subject, echoed).map(Repair::Rewrite),
        }]
    }
}

/// How many words at the beginning of `text` are those of the prompt, if it is an echo.
fn echoed(subject: &Subject<'_>, text: &str) -> Option<usize> {
    let answer = first_words(text);
    let echoes = |prompt: &str| {
        let prompt = first_words(prompt);
        let common = answer.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
        // The whole prompt stands at the start of the answer, or the answer is nothing but its start. A sentence out
        // of a given text is an answer to a question that follows it.
        let start = common == answer.len() && !asks_after(subject.asked(), common);
        (common >= ECHO_WORDS && (common == prompt.len() || start)).then_some(common)
    };
    let system = subject
        .request
        .iter()
        .find(|turn| turn.speaker == Speaker::System);
    echoes(subject.asked())
        .filter(|&count| !is_title(text, count))
        .or_else(|| echoes(&system?.text))
}

/// Whether the first `count` words of `text` are a heading, or a line of their own, over more text.
fn is_title(text: &str, count: usize) -> bool {
    let text = text.trim_start();
    let Some(last) = count.checked_sub(1).and_then(|last| words(text).nth(last)) else {
        return false;
    };
    let Some((line, more)) = text.split_once('\n') else {
        return false;
    };
    let heading = line.starts_with('#') || (line.starts_with("**") && line.trim_end().ends_with("**"));
    let alone = |rest: &str| heading || !rest.contains(char::is_alphanumeric);
    line.get(last.end()..).is_some_and(alone) && more.contains(char::is_alphanumeric)
}

/// Whether `text` asks a question behind its first `count` words, at the end of a sentence.
fn asks_after(text: &str, count: usize) -> bool {
    let end = count.checked_sub(1).and_then(|last| words(text).nth(last));
    end.is_some_and(|word| {
        let rest = &text[word.end()..];
        rest.starts_with(['.', '!', ';', '\n', ':', '"', '”']) && rest.contains('?')
    })
}

/// What follows the echo, if it says anything.
fn after_echo(subject: &Subject<'_>, echoed: usize) -> Option<String> {
    if echoed >= ECHO_COMPARED {
        return None;
    }
    let last = words(subject.text).nth(echoed.checked_sub(1)?)?;
    let rest = subject.text[last.end()..]
        .trim_start_matches(|c: char| {
            !c.is_alphanumeric() && !matches!(c, '-' | '*' | '(' | '"' | '“' | '«' | '¿' | '¡' | '`' | '$')
        })
        .trim();
    (rest.contains(char::is_alphanumeric) && self::echoed(subject, rest).is_none()).then(|| rest.to_owned())
}

fn first_words(text: &str) -> Vec<String> {
    words(text)
        .take(ECHO_COMPARED)
        .map(|word| fold(word.text))
        .collect()
}
