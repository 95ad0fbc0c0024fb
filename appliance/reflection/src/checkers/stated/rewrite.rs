//! Edits that mend an answer without a model. Each gives a whole new answer, or nothing where it would read badly.

use super::count::{self, blocks, ends_sentence, items, lines, marker, sentences};
use super::reshape::{capitalised, chosen, json, listed, table, titled, unmarked};
use super::verify::{self, as_usize, occurrences};
use super::{ListKind, Mark, Stipulation, Unit};
use crate::critique::Language;

/// What an edit may need to know.
pub(super) struct Material<'a> {
    /// The answer.
    pub(super) text: &'a str,
    /// Everything that was asked.
    pub(super) all: &'a [Stipulation],
    /// What the user said.
    pub(super) asked: &'a str,
    pub(super) language: Language,
}

/// Fewest words an answer is cut to.
const FEWEST_WORDS: usize = 3;

/// The edits that may mend `broken`, the best first. They are only taken where they do.
pub(super) fn rewrites(broken: &Stipulation, material: &Material<'_>) -> Vec<String> {
    let text = material.text;
    match broken {
        Stipulation::Count { unit, least, most } => counted(*unit, *least, *most, material),
        Stipulation::Avoids(word) => {
            without_sentences(text, |sentence| !occurrences(sentence, word).is_empty())
        }
        Stipulation::StartsWith(start) => begun(text, start, material.all),
        Stipulation::EndsWith(end) => ended(text, end),
        Stipulation::UpperCase => vec![text.to_uppercase()],
        Stipulation::LowerCase => vec![text.to_lowercase()],
        Stipulation::Without(mark) => vec![unmarked(text, *mark, material.all)],
        Stipulation::Quoted => {
            let inner = text
                .trim()
                .trim_matches(['"', '“', '”', '«', '»'])
                .replace(['"', '“', '”'], "'");
            vec![format!("\"{inner}\"")]
        }
        Stipulation::Json => json(text).into_iter().collect(),
        Stipulation::Table => table(text, material.language).into_iter().collect(),
        Stipulation::List(kind) => listed(text, *kind, None).into_iter().collect(),
        Stipulation::Title { angular } => titled(material, *angular).into_iter().collect(),
        Stipulation::Choice(options) => chosen(text, options).into_iter().collect(),
        Stipulation::Repeat(part) => vec![format!("{part}\n\n{}", text.trim_start())],
        Stipulation::AvoidsLetter(letter) => {
            let has = |sentence: &str| !verify::keeps(&Stipulation::AvoidsLetter(*letter), sentence);
            without_sentences(text, has)
        }
        Stipulation::Contains { .. }
        | Stipulation::Language(_)
        | Stipulation::Postscript(_)
        | Stipulation::Placeholders(_) => Vec::new(),
    }
}

fn counted(unit: Unit, least: Option<u32>, most: Option<u32>, material: &Material<'_>) -> Vec<String> {
    let text = material.text;
    let (low, high) = count::count(unit, text);
    let most_here = most.map(as_usize);
    let too_many = most_here.is_some_and(|most| low > most);
    let bound = match (most_here, least.map(as_usize)) {
        (Some(most), _) if too_many => most,
        (_, Some(least)) if high < least => least,
        _ => return Vec::new(),
    };
    if too_many {
        match unit {
            Unit::Words | Unit::Characters => shorter(text, unit, least.map_or(1, as_usize), bound),
            Unit::Sentences => cut(text, &sentences(text), bound),
            Unit::Lines => cut(text, &lines(text), bound),
            Unit::Bullets => without_items(text, bound),
            Unit::Paragraphs => {
                let mut out = merged(text, bound);
                out.extend(cut(text, &blocks(text), bound));
                out
            }
            Unit::Sections => Vec::new(),
        }
    } else {
        match unit {
            Unit::Bullets => {
                let numbered = material.all.contains(&Stipulation::List(ListKind::Numbered));
                let kind = if numbered {
                    ListKind::Numbered
                } else {
                    ListKind::Bulleted
                };
                let most = most.map(as_usize);
                listed(text, kind, Some((bound, most))).into_iter().collect()
            }
            Unit::Paragraphs => grouped(text, bound, |_| String::new()).into_iter().collect(),
            Unit::Lines => {
                let spans = sentences(text);
                let exact = spans.len() == bound || (spans.len() > bound && most.is_none());
                exact.then(|| joined(text, &spans, "\n")).into_iter().collect()
            }
            Unit::Sections => {
                let word = match material.language {
                    Language::English => "Section",
                    Language::Spanish => "Sección",
                };
                grouped(text, bound, |n| format!("{word} {n}\n"))
                    .into_iter()
                    .collect()
            }
            Unit::Words | Unit::Sentences | Unit::Characters => Vec::new(),
        }
    }
}

fn joined(text: &str, spans: &[std::ops::Range<usize>], between: &str) -> String {
    let parts: Vec<&str> = spans.iter().map(|span| text[span.clone()].trim()).collect();
    parts.join(between)
}

/// The answer up to the end of the last of its first `most` parts.
fn cut(text: &str, spans: &[std::ops::Range<usize>], most: usize) -> Vec<String> {
    let last = most.checked_sub(1).and_then(|last| spans.get(last));
    last.map(|span| text[..span.end].trim_end().to_owned())
        .into_iter()
        .collect()
}

/// As many whole sentences as fit from the start; where an exact number is asked, also any one that has it.
fn shorter(text: &str, unit: Unit, least: usize, most: usize) -> Vec<String> {
    let spans = sentences(text);
    let mut out = Vec::new();
    let mut best = None;
    // Counting again for every sentence would be quadratic; nothing far beyond the bound can fit.
    for span in spans.iter().take(most.min(400)) {
        let head = &text[..span.end];
        if head.len() > most.saturating_mul(60) {
            break;
        }
        let (low, high) = count::count(unit, head);
        if high > most {
            break;
        }
        if low >= least.max(FEWEST_WORDS.min(most)) && ends_sentence(head) {
            best = Some(head);
        }
    }
    out.extend(best.map(|head| head.trim_end().to_owned()));
    if unit == Unit::Words && least == most && most >= 4 {
        let fits =
            |span: &&std::ops::Range<usize>| count::count(unit, &text[(*span).clone()]) == (most, most);
        let whole = |span: &&std::ops::Range<usize>| {
            let sentence = &text[(*span).clone()];
            ends_sentence(sentence) && marker(sentence).is_none()
        };
        out.extend(
            spans
                .iter()
                .take(64)
                .filter(whole)
                .find(fits)
                .map(|span| text[span.clone()].to_owned()),
        );
    }
    if unit == Unit::Words && most == 1 {
        out.extend(after_copula(text, &spans));
    }
    out
}

/// The one word that the first sentence says something is: "The sky is blue." becomes "Blue".
fn after_copula(text: &str, spans: &[std::ops::Range<usize>]) -> Option<String> {
    let sentence = &text[spans.first()?.clone()];
    let words: Vec<&str> = sentence.split_whitespace().take(16).collect();
    let [.., verb, last] = words.as_slice() else {
        return None;
    };
    let verb = matches!(
        *verb,
        "is" | "was" | "are" | "were" | "by" | "es" | "fue" | "son" | "era" | "por"
    );
    let word = last.trim_matches(|c: char| !c.is_alphanumeric());
    (verb && words.len() < 16 && !word.is_empty()).then(|| capitalised(word))
}

/// The first `most` items and all that is no item; what follows the last item that stays must not refer to the rest.
fn without_items(text: &str, most: usize) -> Vec<String> {
    let items = items(text);
    let Some(first_gone) = items.get(most) else {
        return Vec::new();
    };
    let last = items.last().map_or(text.len(), |span| span.end);
    let after = text[last..].trim();
    let head = text[..first_gone.start].trim_end();
    let mut out = vec![head.to_owned()];
    if !after.is_empty() {
        out.insert(0, format!("{head}\n\n{after}"));
    }
    out
}

/// The answer with its last paragraphs joined into one.
fn merged(text: &str, most: usize) -> Vec<String> {
    let spans = blocks(text);
    let prose = |span: &std::ops::Range<usize>| {
        let block = &text[span.clone()];
        !count::is_heading(block) && items(block).is_empty()
    };
    if most == 0 || spans.len() <= most || !spans.iter().skip(most - 1).all(prose) {
        return Vec::new();
    }
    let kept = joined(text, &spans[..most - 1], "\n\n");
    let rest = joined(text, &spans[most - 1..], " ").replace('\n', " ");
    vec![if kept.is_empty() {
        rest
    } else {
        format!("{kept}\n\n{rest}")
    }]
}

/// The answer in `parts` parts of whole paragraphs or sentences, each under what `heading` says.
fn grouped(text: &str, parts: usize, heading: impl Fn(usize) -> String) -> Option<String> {
    let mut units = blocks(text);
    if units.iter().any(|span| !items(&text[span.clone()]).is_empty()) {
        return None;
    }
    if units.len() < parts {
        units = sentences(text);
    }
    if parts == 0 || parts > 50 || units.len() < parts {
        return None;
    }
    let mut out: Vec<String> = Vec::with_capacity(parts);
    for part in 0..parts {
        let (from, to) = (part * units.len() / parts, (part + 1) * units.len() / parts);
        let between = if blocks(text).len() >= parts { "\n" } else { " " };
        out.push(format!(
            "{}{}",
            heading(part + 1),
            joined(text, &units[from..to], between)
        ));
    }
    Some(out.join("\n\n"))
}

/// The answer without the sentences that `gone` names, if enough stays.
fn without_sentences(text: &str, gone: impl Fn(&str) -> bool) -> Vec<String> {
    let spans = sentences(text);
    let mut out = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    for span in &spans {
        let sentence = &text[span.clone()];
        if gone(sentence) {
            out.push_str(&text[at..span.start]);
            at = span.end;
            // One space is enough where a sentence was.
            if out.ends_with(' ') || out.is_empty() {
                at += text[at..].len() - text[at..].trim_start_matches(' ').len();
            }
        } else {
            kept += 1;
        }
    }
    out.push_str(&text[at..]);
    if kept * 2 >= spans.len() && kept > 0 && kept < spans.len() {
        vec![out.trim().to_owned()]
    } else {
        Vec::new()
    }
}

/// First words that lose their capital when something is put before them.
const SMALL: &[&str] = &[
    "The", "A", "An", "It", "This", "That", "There", "These", "In", "On", "At", "He", "She", "They", "We",
    "You", "El", "La", "Los", "Las", "Un", "Una", "Es", "En", "Este", "Esta", "Hay", "Si", "To", "Its",
];

fn begun(text: &str, start: &str, all: &[Stipulation]) -> Vec<String> {
    let text = text.trim_start();
    let mut out = Vec::new();
    // What stands before the demanded beginning may be only "Sure!".
    let near = occurrences(&text[..text.floor_char_boundary(120 + start.len())], start)
        .first()
        .copied();
    if let Some((at, _)) = near {
        out.push(text[at..].to_owned());
    }
    let first = text.split(' ').next().unwrap_or("");
    let lowered = if SMALL.contains(&first) {
        format!("{}{}", first.to_lowercase(), &text[first.len()..])
    } else {
        text.to_owned()
    };
    let no_commas = all
        .iter()
        .any(|s| matches!(s, Stipulation::Without(Mark::Commas | Mark::Punctuation)));
    if start.ends_with(['.', '!', '?', ':', ',', ';', '…']) {
        out.push(format!("{start} {text}"));
    } else if no_commas {
        out.push(format!("{start} {lowered}"));
    } else {
        out.push(format!("{start}, {lowered}"));
    }
    out
}

fn ended(text: &str, end: &str) -> Vec<String> {
    let text = text.trim_end();
    let mut out = Vec::new();
    // The demanded end is there, and something short follows it.
    if let Some(&(_, last)) = occurrences(text, end).last() {
        let mut rest = text[last..].chars();
        let closing = rest.next().filter(|c| matches!(c, '.' | '!' | '?' | '"'));
        if text.len() - last <= 120 && last * 2 >= text.len() {
            out.push(text[..last + closing.map_or(0, char::len_utf8)].to_owned());
        }
    }
    let between = if text.contains('\n') { "\n\n" } else { " " };
    out.push(format!("{text}{between}{end}"));
    out
}
