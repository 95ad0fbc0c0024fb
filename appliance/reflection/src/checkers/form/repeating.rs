//! An answer that goes round in circles.

use std::collections::HashMap;

use super::asks_for;
use crate::checkers::text::sentence_ends;
use crate::checkers::{Checker, Finding, Place, Repair, Subject};

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
        let Some(Circle { start, end, second }) = found else {
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
            repair: before_circle(subject.text, second).map(Repair::Rewrite),
        }]
    }
}

/// A repetition.
struct Circle {
    /// Where it begins.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Where what is said is said for the second time.
    second: usize,
}

/// The answer up to where it would begin to repeat itself, at a sentence's end where one is near.
fn before_circle(text: &str, second: usize) -> Option<String> {
    let once = text[..second].trim_end();
    let sentence = sentence_ends(once).pop().filter(|end| end * 2 >= once.len());
    let kept = match sentence {
        Some(end) => &once[..end],
        None => once.trim_end_matches([',', ';', ':', '-', '*', ' ', '\n']),
    };
    let sound = kept.contains(char::is_alphabetic)
        && repeated_words(kept).is_none()
        && repeated_characters(kept).is_none()
        && repeated_sentences(kept).is_none();
    sound.then(|| kept.to_owned())
}

/// A pattern of words that fills the end of `text`. The very last word may be cut in the middle.
fn repeated_words(text: &str) -> Option<Circle> {
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
                return Some(Circle {
                    start: offset_in(text, words[words.len() - run]),
                    end: text.len(),
                    second: offset_in(text, words[words.len() - run + period]),
                });
            }
        }
    }
    None
}

/// A pattern of characters that fills the end of `text`, for texts without spaces.
fn repeated_characters(text: &str) -> Option<Circle> {
    let mut tail: Vec<(usize, char)> = text.trim_end().char_indices().rev().take(TAIL).collect();
    tail.reverse();
    let chars: Vec<char> = tail.iter().map(|&(_, c)| c).collect();
    for period in 1..=CHAR_PERIOD.min(chars.len() / TIMES) {
        let run = periodic_tail(&chars, period);
        if run >= CHAR_RUN
            && run / period >= TIMES
            && chars[chars.len() - period..].iter().any(|c| c.is_alphabetic())
        {
            return Some(Circle {
                start: tail[tail.len() - run].0,
                end: text.len(),
                second: tail[tail.len() - run + period].0,
            });
        }
    }
    None
}

/// A sentence that comes at least three times and makes up a third of `text`: its third coming.
fn repeated_sentences(text: &str) -> Option<Circle> {
    /// How often a sentence came, how many words it has, and where its second coming begins.
    struct Seen {
        count: usize,
        length: usize,
        second: usize,
    }
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut total = 0;
    let mut third = Vec::new();
    for sentence in text.split(['.', '!', '?', '\n']) {
        let words = normal_words(sentence);
        total += words.len();
        if words.len() < 5 {
            continue;
        }
        let known = seen.entry(words.join(" ")).or_insert(Seen {
            count: 0,
            length: words.len(),
            second: 0,
        });
        known.count += 1;
        match known.count {
            2 => known.second = offset_in(text, sentence),
            3 => third.push(sentence),
            _ => {}
        }
    }
    third.into_iter().find_map(|sentence| {
        let known = seen.get(&normal_words(sentence).join(" "))?;
        let start = offset_in(text, sentence);
        (known.count * known.length * 3 >= total).then_some(Circle {
            start,
            end: start + sentence.len(),
            second: known.second,
        })
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
