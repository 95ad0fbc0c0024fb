//! Whether an answer has what was asked of it.

use super::count::{self, count};
use super::tokens::fold;
use super::{ListKind, Mark, Stipulation, Tongue, Unit};
use crate::checkers::Place;

/// Where `text` breaks the stipulation; `None` if it keeps it.
pub(super) fn broken(stipulation: &Stipulation, text: &str) -> Option<Place> {
    let kept = |kept: bool, place: Place| (!kept).then_some(place);
    match stipulation {
        Stipulation::Count { unit, least, most } => {
            let (low, high) = count(*unit, text);
            let too_few = least.is_some_and(|least| high < as_usize(least));
            let too_many = most.is_some_and(|most| low > as_usize(most));
            let place = if too_few {
                Place::End
            } else {
                surplus(*unit, *most, text)
            };
            kept(!too_few && !too_many, place)
        }
        Stipulation::Contains { text: word, times } => {
            kept(occurrences(text, word).len() >= as_usize(*times), Place::Whole)
        }
        Stipulation::Avoids(word) => occurrences(text, word)
            .first()
            .map(|&(start, end)| Place::Span { start, end }),
        Stipulation::AvoidsLetter(letter) => {
            text.char_indices()
                .find(|(_, c)| same_letter(*c, *letter))
                .map(|(start, c)| Place::Span {
                    start,
                    end: start + c.len_utf8(),
                })
        }
        Stipulation::StartsWith(start) => kept(starts_with(text, start), Place::Start),
        Stipulation::EndsWith(end) => kept(ends_with(text, end), Place::End),
        Stipulation::UpperCase => text
            .char_indices()
            .find(|(_, c)| c.is_lowercase() && c.to_uppercase().next() != Some(*c))
            .map(|(start, c)| Place::Span {
                start,
                end: start + c.len_utf8(),
            }),
        Stipulation::LowerCase => text
            .char_indices()
            .find(|(_, c)| c.is_uppercase())
            .map(|(start, c)| Place::Span {
                start,
                end: start + c.len_utf8(),
            }),
        Stipulation::Without(mark) => {
            text.char_indices()
                .find(|(_, c)| forbids(*mark, *c))
                .map(|(start, c)| Place::Span {
                    start,
                    end: start + c.len_utf8(),
                })
        }
        Stipulation::Quoted => kept(is_quoted(text), Place::Whole),
        Stipulation::Language(tongue) => kept(speaks(text, *tongue), Place::Whole),
        Stipulation::Json => kept(is_json(text), Place::Whole),
        Stipulation::Table => kept(has_table(text), Place::Whole),
        Stipulation::List(kind) => kept(has_list(text, *kind), Place::Whole),
        Stipulation::Title { angular } => kept(has_title(text, *angular), Place::Start),
        Stipulation::Postscript(marker) => kept(has_postscript(text, marker), Place::End),
        Stipulation::Placeholders(least) => kept(placeholders(text) >= as_usize(*least), Place::Whole),
        Stipulation::Choice(options) => {
            kept(options.iter().any(|option| is_option(text, option)), Place::Whole)
        }
        Stipulation::Repeat(part) => kept(repeats(text, part), Place::Start),
    }
}

pub(super) fn keeps(stipulation: &Stipulation, text: &str) -> bool {
    broken(stipulation, text).is_none()
}

pub(super) fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Where an answer goes beyond what was asked.
fn surplus(unit: Unit, most: Option<u32>, text: &str) -> Place {
    let spans = match unit {
        Unit::Sentences => count::sentences(text),
        Unit::Paragraphs => count::blocks(text),
        Unit::Lines => count::lines(text),
        Unit::Bullets => count::items(text),
        _ => return Place::Whole,
    };
    match most.and_then(|most| spans.get(as_usize(most))) {
        Some(span) => Place::Span {
            start: span.start,
            end: text.len(),
        },
        None => Place::Whole,
    }
}

/// Where `word` stands in `text` as a word or phrase of its own, whatever the case. The spans are of `text`.
pub(super) fn occurrences(text: &str, word: &str) -> Vec<(usize, usize)> {
    let wanted: Vec<char> = word.chars().flat_map(char::to_lowercase).collect();
    let Some(&head) = wanted.first() else {
        return Vec::new();
    };
    let mut out = Vec::new();
    let mut before: Option<char> = None;
    for (start, c) in text.char_indices() {
        let at_word = before.is_none_or(|b| !b.is_alphanumeric()) || !head.is_alphanumeric();
        before = Some(c);
        if !at_word || c.to_lowercase().next() != Some(head) {
            continue;
        }
        let mut matched = 0;
        let mut end = start;
        for d in text[start..].chars() {
            if matched >= wanted.len() {
                break;
            }
            let same = d
                .to_lowercase()
                .eq(wanted[matched..].iter().copied().take(d.to_lowercase().count()))
                || (d.is_whitespace() && wanted[matched].is_whitespace());
            if !same {
                break;
            }
            matched += d.to_lowercase().count();
            end += d.len_utf8();
        }
        let ends = text[end..].chars().next().is_none_or(|c| !c.is_alphanumeric());
        let closed = ends || !wanted.last().is_some_and(|c| c.is_alphanumeric());
        if matched == wanted.len() && closed {
            out.push((start, end));
        }
    }
    out
}

fn same_letter(c: char, letter: char) -> bool {
    let mut lower = c.to_lowercase();
    let first = lower.next();
    // An accented vowel is still that vowel; ñ is a letter of its own.
    first == Some(letter)
        || (!matches!(first, Some('ñ' | 'ç')) && c.is_alphabetic() && !c.is_ascii() && {
            let mut bytes = [0; 4];
            let plain = fold(c.encode_utf8(&mut bytes));
            plain.len() == 1 && plain.starts_with(letter)
        })
}

/// The letters and digits of a text in lower case, words one space apart.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        } else if !matches!(c, '\'' | '’') && !out.ends_with(' ') && !out.is_empty() {
            out.push(' ');
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn head(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn tail(text: &str, bytes: usize) -> &str {
    let mut start = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    &text[start..]
}

pub(super) fn starts_with(text: &str, start: &str) -> bool {
    let text = plain(head(text, start.len() * 4 + 64));
    let start = plain(start);
    text.strip_prefix(&start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

pub(super) fn ends_with(text: &str, end: &str) -> bool {
    let text = plain(tail(text.trim_end(), end.len() * 4 + 64));
    let end = plain(end);
    text.strip_suffix(&end)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
}

pub(super) fn repeats(text: &str, part: &str) -> bool {
    plain(head(text, part.len() * 4 + 64)).starts_with(&plain(part))
}

pub(super) fn forbids(mark: Mark, c: char) -> bool {
    match mark {
        Mark::Commas => matches!(c, ',' | '，' | '、'),
        Mark::Exclamation => matches!(c, '!' | '¡' | '！'),
        Mark::Questions => matches!(c, '?' | '¿' | '？'),
        Mark::Semicolons => c == ';',
        Mark::Punctuation => {
            c.is_ascii_punctuation() && !matches!(c, '\'' | '$' | '%' | '&' | '+' | '=' | '<' | '>' | '@')
                || matches!(
                    c,
                    '¿' | '¡' | '…' | '“' | '”' | '«' | '»' | '–' | '—' | '，' | '。'
                )
        }
    }
}

fn is_quoted(text: &str) -> bool {
    let text = text.trim();
    let pairs = [('"', '"'), ('“', '”'), ('«', '»')];
    text.chars().count() >= 2
        && pairs
            .iter()
            .any(|&(open, close)| text.starts_with(open) && text.ends_with(close))
}

/// The JSON of an answer that says nothing else; a code fence around it is allowed.
pub(super) fn unfenced(text: &str) -> &str {
    let text = text.trim();
    let Some(inner) = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```")) else {
        return text;
    };
    let word = inner.chars().take_while(|c| c.is_ascii_alphanumeric()).count();
    inner[word..].trim()
}

fn is_json(text: &str) -> bool {
    let json = unfenced(text);
    json.starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok()
}

fn has_table(text: &str) -> bool {
    let mut before = false;
    for line in text.lines() {
        let line = line.trim();
        let rule = line.len() >= 3
            && line.contains('-')
            && line.chars().all(|c| matches!(c, '|' | '-' | ':' | ' ' | '+'));
        if rule && before {
            return true;
        }
        before = line.contains('|') && !rule;
    }
    let html = |name: &str| text.contains(name);
    html("<table") && html("<tr")
}

fn has_list(text: &str, kind: ListKind) -> bool {
    let items = count::items(text);
    let numbered = |line: &str| line.trim_start().starts_with(|c: char| c.is_ascii_digit());
    let right = items
        .iter()
        .filter(|span| match kind {
            ListKind::Any => true,
            ListKind::Numbered => numbered(&text[(*span).clone()]),
            ListKind::Bulleted => !numbered(&text[(*span).clone()]),
        })
        .count();
    right > 0
}

fn has_title(text: &str, angular: bool) -> bool {
    if angular {
        let inner = text
            .find("<<")
            .and_then(|i| text[i + 2..].find(">>").map(|j| &text[i + 2..i + 2 + j]));
        return inner.is_some_and(|title| !title.trim().is_empty() && !title.contains('\n'));
    }
    let lines = count::lines(text);
    let Some(first) = lines.first().map(|span| &text[span.clone()]) else {
        return false;
    };
    let labelled = ["title:", "título:", "titulo:", "**title", "**título"]
        .iter()
        .any(|label| head(first, 16).to_lowercase().starts_with(label));
    let short = first.split_whitespace().take(16).count() <= 14 && !first.ends_with(['.', ',', ':', ';']);
    labelled || count::is_heading(first) || (short && lines.len() > 1 && count::marker(first).is_none())
}

fn has_postscript(text: &str, marker: &str) -> bool {
    let letters: String = marker
        .chars()
        .filter(|c| c.is_alphabetic())
        .flat_map(char::to_lowercase)
        .collect();
    let words = ["postscript", "posdata", "postdata"];
    count::lines(text).into_iter().any(|span| {
        let start = head(&text[span], 24)
            .trim_start_matches(['*', '_', '#', ' '])
            .to_lowercase();
        let found: String = start
            .chars()
            .take_while(|c| c.is_alphabetic() || *c == '.')
            .filter(|c| *c != '.')
            .collect();
        found == letters
            || (found == "ps" && letters == "pd")
            || words.iter().any(|word| start.starts_with(word))
    }) || occurrences(text, marker).into_iter().any(|(start, _)| start > 0)
}

pub(super) fn placeholders(text: &str) -> usize {
    let mut found = 0;
    let mut open: Option<usize> = None;
    for (i, c) in text.char_indices() {
        match c {
            '[' => open = Some(i),
            '\n' => open = None,
            ']' => {
                let inner = open.take().map(|start| &text[start + 1..i]);
                // A link or a box to tick is none.
                let link = text[i + 1..].starts_with('(');
                found += usize::from(!link && inner.is_some_and(|inner| inner.contains(char::is_alphabetic)));
            }
            _ => {}
        }
    }
    found
}

fn is_option(text: &str, option: &str) -> bool {
    let bare = |text: &str| {
        let edge = |c: char| !c.is_alphanumeric();
        text.trim_matches(edge).to_lowercase()
    };
    text.trim().len() <= option.len() * 4 + 16 && bare(text) == bare(option)
}

/// Frequent words of each language that are rare in the others.
const FREQUENT: &[(Tongue, &[&str])] = &[
    (
        Tongue::English,
        &[
            "the", "of", "and", "to", "is", "that", "with", "for", "it", "are", "was", "this", "by", "you",
        ],
    ),
    (
        Tongue::Spanish,
        &[
            "el", "los", "las", "y", "es", "del", "una", "con", "por", "son", "su", "más", "como", "lo",
            "está", "muy", "hay",
        ],
    ),
    (
        Tongue::French,
        &[
            "le", "les", "et", "des", "est", "une", "du", "dans", "qui", "pour", "pas", "sur", "avec", "au",
            "ce", "sont", "c'est",
        ],
    ),
    (
        Tongue::German,
        &[
            "der", "die", "und", "das", "ist", "den", "ein", "eine", "nicht", "mit", "von", "zu", "sich",
            "auf", "es", "sind",
        ],
    ),
    (
        Tongue::Italian,
        &[
            "il", "di", "che", "è", "gli", "della", "per", "sono", "una", "del", "non", "con", "nel", "dei",
            "anche",
        ],
    ),
    (
        Tongue::Portuguese,
        &[
            "o", "os", "e", "é", "um", "uma", "do", "da", "em", "não", "com", "para", "dos", "são", "na",
            "no", "ao",
        ],
    ),
];
/// How many words decide on the language.
const WORDS: usize = 400;
/// Fewest frequent words for a verdict: a name or a number is in no language.
const ENOUGH: usize = 3;

/// Whether `text` is in the language, or too short to tell.
fn speaks(text: &str, tongue: Tongue) -> bool {
    let mut scores = [0_usize; FREQUENT.len()];
    let words = text
        .split(|c: char| !c.is_alphanumeric() && c != '\'')
        .filter(|word| !word.is_empty());
    for word in words.take(WORDS).filter(|word| word.len() <= 12) {
        let word = word.to_lowercase();
        for (score, (_, list)) in scores.iter_mut().zip(FREQUENT) {
            *score += usize::from(list.contains(&word.as_str()));
        }
    }
    let own = FREQUENT
        .iter()
        .zip(scores)
        .find(|((t, _), _)| *t == tongue)
        .map_or(0, |(_, score)| score);
    let best = scores.into_iter().max().unwrap_or(0);
    best < ENOUGH || own * 4 >= best * 3
}
