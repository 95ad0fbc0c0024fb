//! Edits that give an answer another form: a list, a table, JSON, a title, one of the options, no commas.

use super::count::{items, lines, marker, sentences};
use super::rewrite::Material;
use super::verify::{self, forbids, occurrences};
use super::{ListKind, Mark, Stipulation, Unit};
use crate::critique::Language;

pub(super) fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The answer as a list: its lines, the parts after its colon, or its sentences. Code is left as it is.
pub(super) fn listed(text: &str, kind: ListKind, bounds: Option<(usize, Option<usize>)>) -> Option<String> {
    if text.contains("```") {
        return None;
    }
    let (least, most) = bounds.unwrap_or((1, None));
    let existing = items(text);
    let mut intro = "";
    let mut parts: Vec<&str> = existing
        .iter()
        .map(|span| &text[span.clone()])
        .map(|item| &item[marker(item).unwrap_or(0)..])
        .collect();
    let lines = lines(text);
    if parts.len() < least.max(1) && lines.len() > 1 {
        parts = lines.iter().map(|span| &text[span.clone()]).collect();
        if parts[0].ends_with(':') {
            intro = parts.remove(0);
        }
        parts = parts
            .iter()
            .map(|line| &line[marker(line).unwrap_or(0)..])
            .collect();
    }
    if parts.len() < least.max(2) {
        let commas = after_colon(text);
        if commas.len() >= least.max(2) {
            parts = commas;
        }
    }
    if parts.len() < least.max(2) {
        let spans = sentences(text);
        if spans.len() >= least {
            parts = spans.into_iter().map(|span| &text[span]).collect();
        }
    }
    if parts.len() < least || parts.is_empty() || parts.len() > 60 {
        return None;
    }
    parts.truncate(most.unwrap_or(usize::MAX));
    let mut out = String::new();
    if !intro.is_empty() {
        out.push_str(intro);
        out.push_str("\n\n");
    }
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        if kind == ListKind::Numbered {
            out.push_str(&format!("{}. ", i + 1));
        } else {
            out.push_str("- ");
        }
        out.push_str(part.trim());
    }
    Some(out)
}

/// The parts of "…: a, b and c."
fn after_colon(text: &str) -> Vec<&str> {
    let text = text.trim();
    let list = text
        .split_once(": ")
        .map_or(text, |(_, list)| list)
        .trim_end_matches('.');
    if list.len() > 1000 || list.contains(['.', '\n', ';']) {
        return Vec::new();
    }
    let mut out: Vec<&str> = list.split(", ").collect();
    let last = out.pop().unwrap_or("");
    let split = [" and ", " or ", " y ", " o "]
        .iter()
        .find_map(|and| last.split_once(and));
    match split {
        Some((a, b)) => out.extend([a, b]),
        None => out.push(
            ["and ", "or ", "y ", "o "]
                .iter()
                .find_map(|and| last.strip_prefix(and))
                .unwrap_or(last),
        ),
    }
    // A sentence with a comma in it is no list.
    if out.len() >= 3 && out.iter().all(|part| part.split_whitespace().count() <= 6) {
        out
    } else {
        Vec::new()
    }
}

/// The answer without a mark, so that it still reads.
pub(super) fn unmarked(text: &str, mark: Mark, all: &[Stipulation]) -> String {
    if mark == Mark::Commas {
        return without_commas(text, all);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !forbids(mark, c) {
            out.push(c);
            continue;
        }
        match (mark, c) {
            (Mark::Exclamation, '!' | '！') | (Mark::Questions, '?' | '？') if !out.ends_with('.') => {
                out.push('.')
            }
            (Mark::Semicolons, _) => {
                let commas = all.contains(&Stipulation::Without(Mark::Commas));
                out.push(if commas { '.' } else { ',' });
            }
            (Mark::Punctuation, '-' | '–' | '—' | '/' | '_') => out.push(' '),
            _ => {}
        }
    }
    out
}

/// Between the short parts of a list a comma becomes "and"; elsewhere a dash, or nothing where words are counted or
/// only an opening stands before it.
fn without_commas(text: &str, all: &[Stipulation]) -> String {
    let counted = all.iter().any(|s| {
        matches!(
            s,
            Stipulation::Count {
                unit: Unit::Words,
                ..
            }
        )
    });
    let spanish = Language::of(text) == Language::Spanish;
    let and = if spanish { " y" } else { " and" };
    let conjunctions = [
        "and ", "or ", "but ", "so ", "y ", "o ", "pero ", "e ", "which ", "because ", "que ", "porque ",
    ];
    let parts: Vec<&str> = text.split(',').collect();
    let words = |part: &str| part.split_whitespace().take(8).count();
    let is_last = |part: &str| {
        ["and ", "or ", "y ", "o ", "e "]
            .iter()
            .any(|word| part.trim_start().starts_with(word))
    };
    let mut out = String::with_capacity(text.len() + 16);
    for (i, part) in parts.iter().enumerate() {
        out.push_str(part);
        let Some(next) = parts.get(i + 1) else { break };
        let after = next.trim_start();
        let digits =
            part.ends_with(|c: char| c.is_ascii_digit()) && next.starts_with(|c: char| c.is_ascii_digit());
        let joined = conjunctions.iter().any(|word| after.starts_with(word));
        if digits || joined || counted || !next.starts_with(' ') {
            continue;
        }
        let opening = part.rsplit(['.', '!', '?', '\n']).next().unwrap_or(part);
        let starts_sentence = i == 0 || opening.len() < part.len();
        // A list is here if short parts follow and the last one has its "and".
        let list_begins = words(next) <= 3
            && !next.contains(['.', '\n'])
            && parts[i + 2..]
                .iter()
                .take(8)
                .take_while(|part| words(part) <= 5 || is_last(part))
                .any(|part| is_last(part));
        if list_begins {
            out.push_str(and);
        } else if !(starts_sentence && words(opening) <= 3) {
            out.push_str(" –");
        }
    }
    out
}

/// The JSON within an answer that says more.
pub(super) fn json(text: &str) -> Option<String> {
    if let Some(open) = text.find("```") {
        let rest = &text[open + 3..];
        let inner = &rest[..rest.find("```").unwrap_or(rest.len())];
        let word = inner.chars().take_while(char::is_ascii_alphanumeric).count();
        let json = inner[word..].trim();
        if verify::keeps(&Stipulation::Json, json) {
            return Some(json.to_owned());
        }
    }
    // From the first bracket to the last of its kind: trying every pair would be quadratic.
    [('{', '}'), ('[', ']')].into_iter().find_map(|(open, close)| {
        let json = text.get(text.find(open)?..=text.rfind(close)?)?;
        verify::keeps(&Stipulation::Json, json).then(|| json.to_owned())
    })
}

/// Lines of the form "label: text" as a table. Code is left as it is.
pub(super) fn table(text: &str, language: Language) -> Option<String> {
    if text.contains("```") {
        return None;
    }
    let mut rows = Vec::new();
    for span in lines(text).into_iter().take(64) {
        let line = &text[span];
        let line = line[marker(line).unwrap_or(0)..]
            .replace("**", "")
            .replace('|', "/");
        if let Some((label, value)) = line.split_once(':')
            && !value.trim().is_empty()
            && label.len() <= 60
        {
            rows.push(format!("| {} | {} |", label.trim(), value.trim()));
        }
    }
    let head = match language {
        Language::English => "| Item | Description |",
        Language::Spanish => "| Elemento | Descripción |",
    };
    (rows.len() >= 2 && rows.len() * 3 >= lines(text).len() * 2)
        .then(|| format!("{head}\n| --- | --- |\n{}", rows.join("\n")))
}

/// The answer below a title taken from what the request is about.
pub(super) fn titled(material: &Material<'_>, angular: bool) -> Option<String> {
    let text = material.text.trim_start();
    let span = lines(text).into_iter().next()?;
    let first = &text[span.clone()];
    let bare = first.trim_matches(['#', '*', ' ', '_', '"', '<', '>']);
    let titled = verify::keeps(&Stipulation::Title { angular: false }, text);
    if angular && titled && !bare.is_empty() {
        // The title is there; only its brackets are missing.
        return Some(format!("<<{bare}>>{}", &text[span.end..]));
    }
    let topic = topic(material.asked)?;
    Some(if angular {
        format!("<<{topic}>>\n\n{text}")
    } else {
        format!("# {topic}\n\n{text}")
    })
}

/// What a request is about: the words after "about", "on" or "sobre".
pub(super) fn topic(asked: &str) -> Option<String> {
    let about = ["about", "on", "of", "for", "sobre", "acerca", "de", "para"];
    let mut words = asked.split_whitespace().take(200).peekable();
    words.find(|word| about.contains(&word.to_lowercase().as_str()))?;
    let mut topic: Vec<&str> = Vec::new();
    let stops = [
        "with", "in", "that", "which", "using", "and", "con", "en", "que", "y", "of", "whose", "to",
        "without",
    ];
    for word in words {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if bare.is_empty()
            || topic.len() == 6
            || (!topic.is_empty() && stops.contains(&bare.to_lowercase().as_str()))
        {
            break;
        }
        topic.push(bare);
        if word.ends_with(['.', ',', ':', ';', '?', '!']) {
            break;
        }
    }
    let named = topic.iter().any(|word| word.chars().count() > 3);
    named.then(|| capitalised(&topic.join(" ")))
}

/// The one option that an answer names.
pub(super) fn chosen(text: &str, options: &[String]) -> Option<String> {
    let named = |text: &str| {
        let mut found: Vec<(usize, usize, &String)> = Vec::new();
        for option in options {
            let first = occurrences(text, option).into_iter().next();
            found.extend(first.map(|(start, end)| (start, end, option)));
        }
        // An option within another, as "positive" in "very positive", is not meant.
        let within = |a: &(usize, usize, &String)| {
            found
                .iter()
                .any(|b| b.0 <= a.0 && a.1 <= b.1 && b.1 - b.0 > a.1 - a.0)
        };
        let left: Vec<&String> = found.iter().filter(|one| !within(one)).map(|one| one.2).collect();
        match left.as_slice() {
            [one] => Some((*one).clone()),
            _ => None,
        }
    };
    let first = sentences(text).into_iter().next().map(|span| &text[span]);
    let first_word = text
        .split(|c: char| !c.is_alphanumeric())
        .find(|word| !word.is_empty());
    let leading = options
        .iter()
        .find(|option| first_word.is_some_and(|word| word.to_lowercase() == option.to_lowercase()));
    let option = leading
        .cloned()
        .or_else(|| named(text))
        .or_else(|| first.and_then(named))?;
    Some(if option.starts_with(char::is_lowercase) {
        capitalised(&option)
    } else {
        option
    })
}
