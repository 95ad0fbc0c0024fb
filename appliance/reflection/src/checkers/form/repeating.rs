//! An answer that goes round in circles.

use std::collections::HashMap;

use super::{asks_for, is_item};
use crate::checkers::text::sentence_ends;
use crate::checkers::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Finish;

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
        // A model that goes round in circles seldom ends by itself; one that ended may have made a form or a list.
        let ended = subject.finish == Finish::Stop;
        let Some(Circle { start, end, second }) = circle(subject.text, ended) else {
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
            repair: before_circle(subject.text, second, ended).map(Repair::Rewrite),
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

/// The first repetition in a text, which the model `ended` by itself or not.
fn circle(text: &str, ended: bool) -> Option<Circle> {
    repeated_words(text)
        .or_else(|| repeated_characters(text))
        .filter(|circle| !(ended && is_form(text, circle)))
        .or_else(|| repeated_sentences(text, ended))
}

/// Whether what comes again are rows and items: of a list, a table or markup.
fn is_form(text: &str, circle: &Circle) -> bool {
    let first = text[..circle.start].rfind('\n').map_or(0, |at| at + 1);
    let pattern = &text[circle.start..circle.second];
    let mut lines = text[first..].lines().filter(|line| !line.trim().is_empty());
    lines.all(|line| is_row(line) || (is_item(line) && pattern.trim_start().contains('\n')))
}

/// Whether a line is a row of a table, of markup or a box to be ticked.
fn is_row(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with(['|', '<']) || (is_item(line) && line.contains("[ ]"))
}

/// The answer up to where it would begin to repeat itself, at a sentence's end where one is near.
fn before_circle(text: &str, second: usize, ended: bool) -> Option<String> {
    let once = text[..second].trim_end();
    let sentence = sentence_ends(once).pop().filter(|end| end * 2 >= once.len());
    let kept = match sentence {
        Some(end) => &once[..end],
        None => once.trim_end_matches([',', ';', ':', '-', '*', ' ', '\n']),
    };
    let sound = kept.contains(char::is_alphabetic) && circle(kept, ended).is_none();
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

/// A sentence that comes at least three times and makes up a third of `text`: its third coming. In a text that the
/// model `ended`, only copies with nothing between them count.
fn repeated_sentences(text: &str, ended: bool) -> Option<Circle> {
    /// How often a sentence came and came at most, how many words it has, where its second coming begins, and its last.
    struct Seen {
        count: usize,
        most: usize,
        length: usize,
        second: usize,
        last: usize,
    }
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut total = 0;
    let mut place = 0;
    let mut third = Vec::new();
    for sentence in text.split(['.', '!', '?', '\n']) {
        let words = normal_words(sentence);
        total += words.len();
        // The number of an item stands between nothing.
        if words
            .iter()
            .all(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
        {
            continue;
        }
        place += 1;
        if words.len() < 5 || (ended && is_row(sentence)) {
            continue;
        }
        let known = seen.entry(words.join(" ")).or_insert(Seen {
            count: 0,
            most: 0,
            length: words.len(),
            second: 0,
            last: place,
        });
        if ended && known.last + 1 != place {
            known.count = 0;
        }
        known.count += 1;
        known.last = place;
        match known.count {
            2 => known.second = offset_in(text, sentence),
            3 if known.most < 3 => third.push((sentence, known.second)),
            _ => {}
        }
        known.most = known.most.max(known.count);
    }
    third.into_iter().find_map(|(sentence, second)| {
        let known = seen.get(&normal_words(sentence).join(" "))?;
        let start = offset_in(text, sentence);
        (known.most * known.length * 3 >= total).then_some(Circle {
            start,
            end: start + sentence.len(),
            second,
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
