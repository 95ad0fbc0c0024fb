//! How many words, sentences, paragraphs, … a text has.
//!
//! People and programs count differently: is "well-known" one word, is a heading a paragraph? So a count is a range
//! over the usual ways, and what is within it by any of them is right.

use std::ops::Range;

use super::Unit;

/// The fewest and the most that a usual way of counting finds.
pub(super) fn count(unit: Unit, text: &str) -> (usize, usize) {
    match unit {
        Unit::Words => words(text),
        Unit::Sentences => {
            let spans = sentences(text);
            let ended = spans
                .iter()
                .filter(|span| ends_sentence(&text[(*span).clone()]))
                .count();
            (ended.max(usize::from(!spans.is_empty())), spans.len())
        }
        Unit::Paragraphs => {
            let blocks = blocks(text);
            let prose = blocks
                .iter()
                .filter(|span| !is_heading(&text[(*span).clone()]))
                .count();
            (
                prose.max(usize::from(!blocks.is_empty())),
                blocks.len().max(lines(text).len()),
            )
        }
        Unit::Lines => {
            let lines = lines(text);
            let titles = usize::from(lines.first().is_some_and(|span| is_heading(&text[span.clone()])));
            let first_block = blocks(text)
                .first()
                .map_or(0, |span| text[span.clone()].lines().count());
            let titles = titles.max(usize::from(first_block == 1 && lines.len() > 2));
            (lines.len() - titles, lines.len())
        }
        Unit::Bullets => {
            let items = items(text);
            let outer = items.iter().filter(|span| outer(text, span)).count();
            (outer, items.len())
        }
        Unit::Sections => {
            let headings = lines(text)
                .into_iter()
                .filter(|span| is_section(&text[span.clone()]))
                .count();
            // Some part their sections by a rule instead.
            let rules = text.lines().filter(|line| is_rule(line)).count();
            let parted = if rules > 0 { rules + 1 } else { 0 };
            let least = headings.saturating_sub(1).max(usize::from(headings == 1));
            (
                if parted > 0 { least.min(parted) } else { least },
                headings.max(parted),
            )
        }
        Unit::Characters => {
            let chars = text.trim().chars().count();
            let spaces = text.trim().chars().filter(|c| c.is_whitespace()).count();
            (chars - spaces, chars)
        }
    }
}

fn words(text: &str) -> (usize, usize) {
    let (mut least, mut most) = (0, 0);
    for word in text.split_whitespace() {
        let marker = word
            .trim_end_matches(['.', ')'])
            .bytes()
            .all(|b| b.is_ascii_digit())
            && word.ends_with(['.', ')']);
        let parts = word
            .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’' | '.' | ',' | '_'))
            .filter(|part| part.contains(char::is_alphanumeric))
            .count();
        least += usize::from(parts > 0 && !marker);
        most += parts;
    }
    (least, most)
}

/// Words after whose full stop a sentence goes on.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "e.g", "i.e", "eg", "ie", "no", "fig",
    "approx", "u.s", "u.k", "a.m", "p.m", "dra", "sra", "ud", "uds", "ee.uu", "p.ej", "ej", "pág", "núm",
    "p.s", "p.d", "p.p.s",
];

/// The byte spans of the sentences of `text`. A line break ends one too, and a line without a letter or digit is none.
pub(super) fn sentences(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    for line in lines(text) {
        let end = line.end;
        let mut start = line.start;
        let mut chars = text[line.clone()].char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if !matches!(c, '.' | '!' | '?' | '…' | '。' | '！' | '？') {
                continue;
            }
            let at = line.start + i;
            let mut close = at + c.len_utf8();
            while let Some(&(_, d)) = chars.peek() {
                if !matches!(
                    d,
                    '.' | '!' | '?' | '…' | '"' | '”' | '»' | '\'' | '’' | ')' | '*'
                ) {
                    break;
                }
                close += d.len_utf8();
                chars.next();
            }
            let follows = chars.peek().map(|&(_, d)| d);
            let apart = follows.is_none_or(char::is_whitespace) || matches!(c, '。' | '！' | '？');
            if !apart || (c == '.' && follows.is_some() && goes_on(&text[start..at], &text[close..end])) {
                continue;
            }
            if text[start..close].contains(char::is_alphanumeric) {
                out.push(start..close);
            }
            start = close;
        }
        if text[start..end].contains(char::is_alphanumeric) {
            out.push(start..end);
        }
    }
    for span in &mut out {
        let sentence = &text[span.clone()];
        span.start += sentence.len() - sentence.trim_start().len();
    }
    out
}

/// Whether a full stop after `before` does not end the sentence.
fn goes_on(before: &str, after: &str) -> bool {
    let cut = before
        .char_indices()
        .rev()
        .take(12)
        .find(|(_, c)| c.is_whitespace() || *c == '(');
    let last = cut.map_or(before, |(i, c)| &before[i + c.len_utf8()..]);
    if last.len() > 12 {
        return false;
    }
    let alone = last.len() == before.trim_start().len();
    let last = last.to_lowercase();
    let initial = last.chars().count() == 1 && last.contains(char::is_alphabetic) && !alone && last != "i";
    let number = alone && last.bytes().all(|b| b.is_ascii_digit());
    let small = after.trim_start().starts_with(char::is_lowercase);
    ABBREVIATIONS.contains(&last.as_str()) || initial || number || small
}

/// Whether a sentence has its end.
pub(super) fn ends_sentence(sentence: &str) -> bool {
    sentence
        .trim_end()
        .trim_end_matches(['"', '”', '»', '\'', '’', ')', '*', '_'])
        .ends_with(['.', '!', '?', '…', '。', '！', '？'])
}

/// The byte spans of the lines that say something, without the white space around them.
pub(super) fn lines(text: &str) -> Vec<Range<usize>> {
    let mut out = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.contains(char::is_alphanumeric) {
            let start = at + line.len() - line.trim_start().len();
            out.push(start..start + trimmed.len());
        }
        at += line.len();
    }
    out
}

/// The byte spans of the blocks between blank lines that say something.
pub(super) fn blocks(text: &str) -> Vec<Range<usize>> {
    let mut out: Vec<Range<usize>> = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.contains(char::is_alphanumeric) {
            let start = at + line.len() - line.trim_start().len();
            let end = start + trimmed.len();
            open = Some(open.map_or(start, |span| span.start)..end);
        } else if trimmed.is_empty() || trimmed.chars().all(|c| matches!(c, '*' | '-' | '_' | '=')) {
            out.extend(open.take());
        }
        at += line.len();
    }
    out.extend(open);
    out
}

/// The mark that makes a line an item: its length in bytes, its space included.
pub(super) fn marker(line: &str) -> Option<usize> {
    let text = line.trim_start();
    let indent = line.len() - text.len();
    for mark in ['-', '*', '•', '–', '+', '·'] {
        if let Some(rest) = text.strip_prefix(mark) {
            let space = rest.len() - rest.trim_start().len();
            return (space > 0 && !rest.trim().is_empty()).then_some(indent + mark.len_utf8() + space);
        }
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &text[digits..];
    if (1..=3).contains(&digits) && rest.starts_with(['.', ')']) {
        let after = &rest[1..];
        let space = after.len() - after.trim_start().len();
        return (space > 0 && !after.trim().is_empty()).then_some(indent + digits + 1 + space);
    }
    None
}

/// The byte spans of the items of lists, their marks included.
pub(super) fn items(text: &str) -> Vec<Range<usize>> {
    lines(text)
        .into_iter()
        .filter(|span| marker(&text[span.clone()]).is_some())
        .collect()
}

/// Whether an item is not below another.
fn outer(text: &str, span: &Range<usize>) -> bool {
    !text[..span.start].ends_with([' ', '\t'])
}

/// Whether a line or block is a heading.
pub(super) fn is_heading(block: &str) -> bool {
    let block = block.trim();
    let bold =
        block.len() > 4 && block.starts_with("**") && (block.ends_with("**") || block.ends_with("**:"));
    !block.contains('\n') && (block.starts_with('#') || block.starts_with("<<") || bold)
}

/// Whether a line is a rule, such as `***`.
fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 3
        && ["*", "-", "_", "="]
            .iter()
            .any(|mark| line.trim_matches(['*', '-', '_', '=', ' ']).is_empty() && line.starts_with(mark))
}

/// Whether a line begins a section.
fn is_section(line: &str) -> bool {
    let named = ["section ", "sección ", "seccion ", "part ", "parte ", "apartado "];
    let start: String = line.chars().take(12).flat_map(char::to_lowercase).collect();
    let start = start.trim_start_matches(['*', '#', ' ']);
    is_heading(line) || (line.len() <= 80 && named.iter().any(|name| start.starts_with(name)))
}
