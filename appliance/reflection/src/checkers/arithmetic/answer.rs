//! Whether an answer states the result of a computation.

use jiff::civil::Weekday;

use super::dates;
use super::number::{Look, Rational, Style, read};
use crate::checkers::numerals::spelled;
use crate::checkers::text::{Word, fold, in_word, words};
use crate::critique::Language;

/// A number that an answer states.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stated {
    pub start: usize,
    pub end: usize,
    /// What it may mean, and its decimals.
    readings: Vec<(Rational, u32)>,
    /// How its digits are written; `None` for words.
    pub look: Option<Look>,
    /// It follows "=", "is" or their like.
    pub result: bool,
    /// It follows "the answer is" or its like.
    pub answer: bool,
}

impl Stated {
    /// Whether it stands for `value`.
    pub fn is(&self, value: Rational) -> bool {
        self.readings
            .iter()
            .any(|(shown, decimals)| value.is_shown_as(*shown, *decimals))
    }

    /// Whether it may be the same number as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        self.readings
            .iter()
            .any(|(a, _)| other.readings.iter().any(|(b, _)| a == b))
    }

    /// Whether it is one of `numbers`.
    pub fn is_any(&self, numbers: &[Self]) -> bool {
        numbers.iter().any(|number| number.is_same(self))
    }
}

const EQUALS: &[&str] = &[
    "is",
    "are",
    "equals",
    "be",
    "es",
    "son",
    "igual",
    "da",
    "gives",
    "get",
    "makes",
    "obtenemos",
    "to",
    "a",
];
const ANSWERS: &[&str] = &[
    "answer",
    "result",
    "total",
    "respuesta",
    "resultado",
    "solution",
    "solucion",
];

/// The numbers that `text` states, in order.
pub(crate) fn stated(text: &str) -> Vec<Stated> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..]
        .find(|c: char| c.is_ascii_digit())
        .map(|at| from + at)
    {
        let end = literal_end(text, start);
        from = end;
        let (mut readings, look) = readings(text, start, end);
        if readings.is_empty() {
            continue;
        }
        let mut first = start;
        if let Some(sign) = text[..start]
            .chars()
            .next_back()
            .filter(|c| matches!(c, '-' | '−'))
        {
            let before = text[..start - sign.len_utf8()].chars().next_back();
            if !before.is_some_and(|c| in_word(c) || matches!(c, ')' | '%')) {
                readings = readings
                    .into_iter()
                    .map(|(value, d)| (value.negated(), d))
                    .collect();
                first = start - sign.len_utf8();
            }
        }
        let (result, answer) = stands_after(&text[..first]);
        found.push(Stated {
            start: first,
            end,
            readings,
            look,
            result,
            answer,
        });
    }
    let in_words = spelled(words(text), Language::of(text) == Language::Spanish)
        .into_iter()
        .map(|number| {
            let (result, answer) = stands_after(&text[..number.start]);
            Stated {
                start: number.start,
                end: number.end,
                readings: vec![(Rational::whole(number.value), 0)],
                look: None,
                result,
                answer,
            }
        });
    found.extend(in_words);
    found.sort_by_key(|number| number.start);
    found
}

/// One past the digits that begin at `start`, separators included.
fn literal_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut end = start;
    while digit(end) || (matches!(bytes.get(end), Some(b'.' | b',')) && digit(end + 1)) {
        end += 1;
    }
    end
}

/// What the digits at `start..end` may mean.
fn readings(text: &str, start: usize, end: usize) -> (Vec<(Rational, u32)>, Option<Look>) {
    let mut found = Vec::new();
    let mut look = None;
    let digits = &text[start..end];
    for style in Style::ALL {
        if let Some(written) = read(digits, style) {
            found.push((written.value, written.look.decimals));
            look = look.or(Some(written.look));
        }
    }
    let Some(&(value, _)) = found.first() else {
        return (found, None);
    };
    // ".5" without its zero.
    if text[..start].ends_with('.')
        && !text[..start - 1].ends_with(in_word)
        && let Some(written) = read(&format!("0.{digits}"), Style::Point)
    {
        found.push((written.value, written.look.decimals));
    }
    let rest = &text[end..];
    // 1 234 567
    let mut joined = digits.to_owned();
    let mut after = rest;
    while let Some(group) = after
        .strip_prefix([' ', '\u{a0}', '\u{202f}', '\u{2009}'])
        .filter(|r| r.len() >= 3 && r.is_char_boundary(3))
    {
        let (group, more) = group.split_at(3);
        if joined.len() > 24
            || !group.bytes().all(|b| b.is_ascii_digit())
            || more.starts_with(|c: char| c.is_ascii_digit())
        {
            break;
        }
        joined.push_str(group);
        after = more;
    }
    if joined.len() > digits.len()
        && let Some(written) = read(&joined, Style::Point)
    {
        found.push((written.value, 0));
    }
    // 3/4, and 1 3/4
    let fraction = |whole: Rational, rest: &str| {
        let top = literal_end(rest, 0);
        let bottom = rest[top..].strip_prefix('/')?;
        let top = read(&rest[..top], Style::Point)?.value;
        let bottom = read(&bottom[..literal_end(bottom, 0)], Style::Point)?.value;
        whole.add(top.div(bottom)?)
    };
    found.extend(fraction(Rational::whole(0), &text[start..]).map(|value| (value, 12)));
    if let Some(rest) = rest.strip_prefix(' ') {
        found.extend(fraction(value, rest).map(|value| (value, 12)));
    }
    // "1.5 million"
    let word = words(crate::checkers::text::head(rest, 24))
        .next()
        .filter(|word| word.start <= 1);
    let scale = match word.map(|word| fold(word.text)).as_deref() {
        Some("thousand" | "mil") => 1000,
        Some("million" | "millon" | "millones") => 1_000_000,
        Some("billion") => 1_000_000_000,
        _ => 1,
    };
    if scale > 1 {
        found.extend(value.mul(Rational::whole(scale)).map(|value| (value, 0)));
    }
    (found, look)
}

/// Whether the text before a number presents it as a result, and as the answer.
fn stands_after(before: &str) -> (bool, bool) {
    let skip = [' ', '*', '_', '$', '€', '£', '(', '\\', '`', '"', '\n', '['];
    let near = before.trim_end_matches(skip);
    let mut signs = near.chars().rev();
    let sign = signs.next();
    let equals = matches!(sign, Some('=' | '≈'));
    let colon = sign == Some(':');
    let near = near.trim_end_matches([':', '=', '≈', ' ', '*', '_']);
    let mut tail = near.len().saturating_sub(48);
    while !near.is_char_boundary(tail) {
        tail += 1;
    }
    let last: Vec<Word<'_>> = words(&near[tail..]).collect();
    let folded = |back: usize| {
        last.len()
            .checked_sub(back)
            .and_then(|i| last.get(i))
            .map(|word| fold(word.text))
            .unwrap_or_default()
    };
    let ends_in_word = near.ends_with(in_word);
    let says = ends_in_word && !colon && !equals && EQUALS.contains(&folded(1).as_str());
    let answers = ends_in_word
        && if colon || equals {
            ANSWERS.contains(&folded(1).as_str())
        } else {
            says && (2..=3).any(|back| ANSWERS.contains(&folded(back).as_str()))
        };
    (equals || says || answers, answers)
}

/// A weekday that an answer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamedDay {
    pub start: usize,
    pub end: usize,
    pub day: Weekday,
}

/// The weekdays that `text` names, in order.
pub(crate) fn named_days(text: &str) -> Vec<NamedDay> {
    words(text)
        .filter(|word| (5..=12).contains(&word.text.len()))
        .filter_map(|word| {
            Some(NamedDay {
                start: word.start,
                end: word.end(),
                day: dates::weekday(&fold(word.text))?,
            })
        })
        .collect()
}
