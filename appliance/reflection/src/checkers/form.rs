//! Form: is there an answer at all, is it whole, does it go round in circles, does it only hand the question back?

use std::collections::HashMap;

use super::{Checker, Finding, Place, Subject};
use crate::generate::{Finish, Speaker};

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
            repair: None,
        }]
    }
}

/// The answer says the same again and again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Repeating;

/// How much of an answer's end is searched for a repeating pattern, in words and in characters.
const TAIL: usize = 4096;
/// Longest repeated pattern looked for, in words.
const WORD_PERIOD: usize = 48;
/// Longest repeated pattern looked for, in characters.
const CHAR_PERIOD: usize = 16;
/// How often a pattern must come.
const TIMES: usize = 4;
/// Shortest repetition that counts, in words.
const WORD_RUN: usize = 12;
/// Shortest repetition that counts, in characters.
const CHAR_RUN: usize = 64;
/// Beginnings of words by which a request asks for repetition.
const REPETITION_WANTED: &[&str] = &[
    "repeat",
    "repit",
    "repet",
    "times",
    "veces",
    "chorus",
    "estribillo",
    "refrain",
    "song",
    "canci",
];

impl Checker for Repeating {
    fn name(&self) -> &'static str {
        "repeating"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if asks_for(subject.asked(), REPETITION_WANTED) {
            return Vec::new();
        }
        let found = repeated_words(subject.text)
            .or_else(|| repeated_characters(subject.text))
            .or_else(|| repeated_sentences(subject.text));
        let Some((start, end)) = found else {
            return Vec::new();
        };
        let sentence = subject.say(
            "The answer repeats the same words over and over; each thing must be said once.",
            "La respuesta repite las mismas palabras una y otra vez; cada cosa debe decirse una sola vez.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Span { start, end },
            sentence,
            weight: 0.6,
            repair: None,
        }]
    }
}

/// The byte span of a pattern of words that fills the end of `text`. The very last word may be cut in the middle.
fn repeated_words(text: &str) -> Option<(usize, usize)> {
    let mut words: Vec<&str> = text.split_whitespace().rev().take(TAIL).collect();
    words.reverse();
    for end in [words.len(), words.len().saturating_sub(1)] {
        let words = &words[..end];
        for period in 1..=WORD_PERIOD.min(words.len() / TIMES) {
            let run = periodic_tail(words, period);
            if run >= WORD_RUN
                && run / period >= TIMES
                && words[words.len() - period..]
                    .iter()
                    .any(|word| word.contains(char::is_alphabetic))
            {
                let start = offset_in(text, words[words.len() - run]);
                return Some((start, text.len()));
            }
        }
    }
    None
}

/// The byte span of a pattern of characters that fills the end of `text`, for texts without spaces.
fn repeated_characters(text: &str) -> Option<(usize, usize)> {
    let mut tail: Vec<(usize, char)> = text.trim_end().char_indices().rev().take(TAIL).collect();
    tail.reverse();
    let chars: Vec<char> = tail.iter().map(|&(_, c)| c).collect();
    for period in 1..=CHAR_PERIOD.min(chars.len() / TIMES) {
        let run = periodic_tail(&chars, period);
        if run >= CHAR_RUN
            && run / period >= TIMES
            && chars[chars.len() - period..].iter().any(|c| c.is_alphabetic())
        {
            return Some((tail[tail.len() - run].0, text.len()));
        }
    }
    None
}

/// The byte span of the third coming of a sentence that comes at least three times and makes up a third of `text`.
fn repeated_sentences(text: &str) -> Option<(usize, usize)> {
    let mut seen: HashMap<String, (usize, usize)> = HashMap::new();
    let mut total = 0;
    let mut third = Vec::new();
    for sentence in text.split(['.', '!', '?', '\n']) {
        let words = normal_words(sentence);
        total += words.len();
        if words.len() < 5 {
            continue;
        }
        let (count, length) = seen.entry(words.join(" ")).or_insert((0, words.len()));
        *count += 1;
        if *count == 3 {
            third.push((sentence, *length));
        }
    }
    third.into_iter().find_map(|(sentence, length)| {
        let count = seen.get(&normal_words(sentence).join(" "))?.0;
        let start = offset_in(text, sentence);
        (count * length * 3 >= total).then_some((start, start + sentence.len()))
    })
}

/// How many items at the end of `items` repeat with `period`, the first coming included.
fn periodic_tail<T: PartialEq>(items: &[T], period: usize) -> usize {
    let same = items
        .iter()
        .rev()
        .zip(items.iter().rev().skip(period))
        .take_while(|(a, b)| a == b)
        .count();
    if same == 0 { 0 } else { same + period }
}

/// Where `part`, a slice of `whole`, begins in it.
fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The words of a text in lower case, without punctuation.
fn normal_words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Whether any word of `text` begins with one of `beginnings`.
fn asks_for(text: &str, beginnings: &[&str]) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let start: String = word.chars().take(12).flat_map(char::to_lowercase).collect();
        beginnings.iter().any(|beginning| start.starts_with(beginning))
    })
}

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
        let answer = first_words(subject.text);
        let echoes = |prompt: &str| {
            let prompt = first_words(prompt);
            let common = answer.iter().zip(&prompt).take_while(|(a, b)| a == b).count();
            // The whole prompt stands at the start of the answer, or the answer is nothing but its start.
            common >= ECHO_WORDS && (common == prompt.len() || common == answer.len())
        };
        let system = subject
            .request
            .iter()
            .find(|turn| turn.speaker == Speaker::System);
        if !echoes(subject.asked()) && !system.is_some_and(|turn| echoes(&turn.text)) {
            return Vec::new();
        }
        let sentence = subject.say(
            "The answer repeats the request instead of answering it.",
            "La respuesta repite la petición en lugar de responderla.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Start,
            sentence,
            weight: 0.7,
            repair: None,
        }]
    }
}

fn first_words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .take(ECHO_COMPARED)
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
