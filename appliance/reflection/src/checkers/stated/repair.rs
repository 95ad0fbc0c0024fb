//! How a broken stipulation is mended: by an edit if one helps and harms nothing else, else by going on from the
//! answer, else by writing it anew under what decoding can enforce.

use super::count::{self, count, ends_sentence, items, marker, sentences};
use super::rewrite::{Material, rewrites};
use super::shape::{LONGEST_KEPT, Shape, repeated};
use super::tokens::tokens;
use super::verify::{as_usize, keeps, occurrences, placeholders};
use super::{Stipulation, Tongue, Unit};
use crate::checkers::text::literal;
use crate::checkers::{Repair, Subject};
use crate::generate::{Constraint, Finish};

/// Longest answer that is edited, bytes: above it every edit would cost more than it is worth.
const LONGEST_EDITED: usize = 256 * 1024;
/// Most parts that are added to an answer.
const MOST_ADDED: usize = 60;

/// The repair of `broken`, one of `all`, of which the answer has what is in `kept`, in more
/// than western letters where `wide`; `None` where only the model can mend it.
pub(super) fn repair(
    broken: &Stipulation,
    all: &[Stipulation],
    kept: &[&Stipulation],
    subject: &Subject<'_>,
    wide: bool,
) -> Option<Repair> {
    if subject.text.len() > LONGEST_EDITED {
        return None;
    }
    let material = Material {
        text: subject.text,
        all,
        asked: subject.asked(),
        language: subject.language,
    };
    edit(broken, kept, &material)
        .or_else(|| resume(broken, all, subject, wide))
        .or_else(|| constrain(broken, all, wide).map(Repair::Constrain))
}

/// The first edit that mends it and breaks nothing that was kept.
fn edit(broken: &Stipulation, kept: &[&Stipulation], material: &Material<'_>) -> Option<Repair> {
    rewrites(broken, material)
        .into_iter()
        .find(|text| {
            !text.trim().is_empty() && keeps(broken, text) && kept.iter().all(|other| keeps(other, text))
        })
        .map(Repair::Rewrite)
}

/// Where an answer ends whole: its bytes that stay, and what closes them.
fn whole(subject: &Subject<'_>) -> (usize, &'static str) {
    let text = subject.text.trim_end();
    let last_item = items(text).last().is_some_and(|item| item.end == text.len());
    if ends_sentence(text) || (last_item && subject.finish == Finish::Stop) {
        return (text.len(), "");
    }
    let ended = sentences(text)
        .into_iter()
        .rev()
        .find(|span| ends_sentence(&text[span.clone()]));
    match ended {
        Some(span) if subject.finish == Finish::Length => (span.end, ""),
        _ if text.ends_with(char::is_alphanumeric) => (text.len(), "."),
        _ => (text.len(), ""),
    }
}

/// The answer goes on until what it lacks is there.
fn resume(broken: &Stipulation, all: &[Stipulation], subject: &Subject<'_>, wide: bool) -> Option<Repair> {
    let shape = Shape::new(all, wide);
    let text = subject.text;
    let (keep, close) = whole(subject);
    let kept = text.get(..keep)?;
    // What must stand at the end, or alone, leaves no room after it.
    let closed = all.iter().any(|s| {
        matches!(
            s,
            Stipulation::EndsWith(_) | Stipulation::Quoted | Stipulation::Json | Stipulation::Choice(_)
        ) && (s != broken)
    });
    if closed || kept.trim().is_empty() {
        return None;
    }
    let go_on = |keep: usize, insert: String, more: String| {
        let constraint = (keep <= LONGEST_KEPT)
            .then(|| text.get(..keep))
            .flatten()
            .map(|kept| Constraint::Regex(format!("{}{more}", literal(&format!("{kept}{insert}")))));
        Some(Repair::Resume {
            keep,
            insert,
            constraint,
        })
    };
    match broken {
        Stipulation::Count {
            unit,
            least: Some(least),
            most,
        } => {
            let (low, high) = count(*unit, text);
            let least = as_usize(*least);
            if high >= least {
                return None;
            }
            let missing = least
                - if *unit == Unit::Words {
                    low
                } else {
                    count(*unit, kept).1.min(least - 1)
                };
            if *unit != Unit::Words && missing > MOST_ADDED {
                return None;
            }
            match unit {
                Unit::Words => {
                    let room = most.map_or(usize::MAX, |most| as_usize(most).saturating_sub(high));
                    let few = missing.min(186);
                    let more = shape.words(few, few.saturating_add(14).min(room).max(few), false)?;
                    go_on(keep, format!("{close} "), more)
                }
                Unit::Sentences => go_on(
                    keep,
                    format!("{close} "),
                    repeated(&shape.sentence(), " ", missing, missing),
                ),
                Unit::Paragraphs => go_on(
                    keep,
                    format!("{close}\n\n"),
                    repeated(&shape.paragraph(), "\n\n", missing, missing),
                ),
                Unit::Lines => go_on(
                    keep,
                    "\n".to_owned(),
                    repeated(&shape.line(), "\n", missing, missing),
                ),
                Unit::Sections if high > 0 => go_on(
                    keep,
                    format!("{close}\n\n"),
                    repeated(&shape.section(), "\n\n", missing, missing),
                ),
                Unit::Bullets => more_items(text, missing, &shape, go_on),
                Unit::Sections | Unit::Characters => None,
            }
        }
        Stipulation::Contains { .. } => {
            let words = missing_words(all, text);
            let sentences_fit = fits(all, Unit::Sentences, text, words.len());
            let words_fit = fits(all, Unit::Words, text, words.len() * 8);
            if words.is_empty() || words.len() > 12 || !sentences_fit || !words_fit {
                return None;
            }
            let more: Vec<String> = words.iter().map(|word| shape.sentence_with(&[word])).collect();
            go_on(keep, format!("{close} "), more.join(" "))
        }
        Stipulation::Placeholders(least) => {
            let missing = as_usize(*least).checked_sub(placeholders(text))?;
            if missing == 0 || missing > MOST_ADDED {
                return None;
            }
            let field = r"[\p{Lu}][\p{Ll}]{2,14}: \[[\p{Ll}]{2,14}(?: [\p{Ll}]{2,14}){0,2}\]";
            go_on(
                text.trim_end().len(),
                "\n\n".to_owned(),
                repeated(field, "\n", missing, missing),
            )
        }
        Stipulation::Postscript(marker) => {
            let dot = if marker.ends_with('.') { "" } else { "." };
            go_on(keep, format!("{close}\n\n{marker}{dot} "), shape.sentence())
        }
        Stipulation::Language(tongue) => {
            let begins = all
                .iter()
                .any(|s| matches!(s, Stipulation::StartsWith(_) | Stipulation::Count { .. }));
            // A poem does not begin with "The answer is".
            let composed = words_of(subject.asked()).any(|word| COMPOSED.contains(&word.as_str()));
            let opening = opening(*tongue);
            let insert = if all.contains(&Stipulation::LowerCase) {
                opening.to_lowercase()
            } else {
                opening.to_owned()
            };
            (!begins && !composed).then_some(Repair::Resume {
                keep: 0,
                insert,
                constraint: None,
            })
        }
        _ => None,
    }
}

/// Texts that are composed: none begins with "The answer is".
const COMPOSED: &[&str] = &[
    "poem",
    "poems",
    "letter",
    "story",
    "stories",
    "email",
    "mail",
    "message",
    "essay",
    "haiku",
    "limerick",
    "song",
    "joke",
    "tweet",
    "post",
    "speech",
    "dialogue",
    "slogan",
    "motto",
    "riddle",
    "recipe",
    "tale",
    "verse",
    "fable",
    "ode",
    "invitation",
    "toast",
    "article",
    "note",
    "paragraph",
    "sentence",
    "review",
    "bio",
    "biography",
    "rap",
    "script",
    "blurb",
    "caption",
    "headline",
    "advert",
    "ad",
    "greeting",
    "memo",
    "poema",
    "poemas",
    "carta",
    "cuento",
    "cuentos",
    "historia",
    "correo",
    "mensaje",
    "ensayo",
    "cancion",
    "chiste",
    "tuit",
    "discurso",
    "dialogo",
    "lema",
    "eslogan",
    "adivinanza",
    "receta",
    "relato",
    "verso",
    "fabula",
    "oda",
    "invitacion",
    "anuncio",
    "articulo",
    "nota",
    "parrafo",
    "frase",
    "oracion",
    "resena",
    "biografia",
    "saludo",
    "felicitacion",
];

fn words_of(text: &str) -> impl Iterator<Item = String> {
    tokens(text).into_iter().map(|token| token.folded)
}

/// Words by which a model stays in a language.
fn opening(tongue: Tongue) -> &'static str {
    match tongue {
        Tongue::English => "The answer is",
        Tongue::Spanish => "La respuesta es",
        Tongue::French => "La réponse est",
        Tongue::German => "Die Antwort ist",
        Tongue::Italian => "La risposta è",
        Tongue::Portuguese => "A resposta é",
    }
}

/// More items after the last one, with the same mark.
fn more_items(
    text: &str,
    missing: usize,
    shape: &Shape<'_>,
    go_on: impl Fn(usize, String, String) -> Option<Repair>,
) -> Option<Repair> {
    let last = items(text).pop()?;
    let line = &text[last.clone()];
    let mark = line[..marker(line)?].trim();
    let number: Option<usize> = mark.trim_end_matches(['.', ')']).parse().ok();
    let marks: Vec<String> = match number {
        Some(number) => (1..=missing)
            .map(|i| {
                format!(
                    "{}{} ",
                    number.saturating_add(i),
                    if mark.ends_with(')') { ")" } else { "." }
                )
            })
            .collect(),
        None => vec![format!("{mark} "); missing],
    };
    let (first, others) = marks.split_first()?;
    let item = shape.item();
    let more: String = others
        .iter()
        .map(|mark| format!("\n{}{item}", literal(mark)))
        .collect();
    go_on(last.end, format!("\n{first}"), format!("{item}{more}"))
}

/// The words that must be there and are not, each as often as it is missing.
fn missing_words<'a>(all: &'a [Stipulation], text: &str) -> Vec<&'a str> {
    let mut out = Vec::new();
    for stipulation in all {
        if let Stipulation::Contains { text: word, times } = stipulation {
            let missing = as_usize(*times).saturating_sub(occurrences(text, word).len());
            out.extend(std::iter::repeat_n(word.as_str(), missing));
        }
    }
    out
}

/// Whether so many more of a unit are allowed.
fn fits(all: &[Stipulation], unit: Unit, text: &str, more: usize) -> bool {
    all.iter().all(|s| match s {
        Stipulation::Count {
            unit: u,
            most: Some(most),
            ..
        } if *u == unit => count::count(unit, text).0 + more <= as_usize(*most),
        _ => true,
    })
}

/// What the answer is written anew under.
fn constrain(broken: &Stipulation, all: &[Stipulation], wide: bool) -> Option<Constraint> {
    match broken {
        // Only more words can mend these, and those are for the model to find.
        Stipulation::Count {
            unit: Unit::Characters,
            ..
        }
        | Stipulation::Language(_)
        | Stipulation::Postscript(_)
        | Stipulation::Placeholders(_)
        | Stipulation::Repeat(_)
        | Stipulation::Without(_)
        | Stipulation::UpperCase
        | Stipulation::LowerCase
        | Stipulation::Quoted => None,
        Stipulation::Count {
            unit: Unit::Words,
            most: None,
            ..
        } => None,
        _ => Shape::new(all, wide).whole(),
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
