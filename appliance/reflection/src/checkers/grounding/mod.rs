//! Grounding: numbers, names and quotations in an answer about a given text that stand nowhere in the request.

mod facts;
mod reads;
mod sought;

use facts::{Facts, Loose};
use sought::{Sought, sought};

use super::given::given;
use super::text::{READ, any_of, fold, folded_words, head, literal, sentence_ends};
use super::{Checker, Finding, Place, Repair, Subject};
use crate::generate::Constraint;

/// What an answer says of a given text and the text does not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grounding;

/// Most findings of one answer.
const MOST: usize = 4;
/// Most alternatives among which the model is made to choose.
const ALTERNATIVES: usize = 12;
/// Words of requests whose answers may well say what the text does not, folded, by their beginnings.
#[rustfmt::skip]
const FREE: &[&str] = &[
    "translat", "traduc", "traduz", "rewrit", "reescrib", "story", "cuento", "poem", "continu", "opinion", "imagin", "invent", "rephras",
    "paraphras", "parafras", "correct", "corrig", "improv", "mejor", "reply", "respond", "code", "codigo", "title", "titulo", "headline",
    "titular", "creativ", "similar", "compar", "calculat", "calcul", "percent", "porcentaj", "average", "promedio", "media", "total", "sum",
    "left", "quedan", "altogether", "difference", "diferencia", "why", "explain", "explica", "convert", "conviert", "json",
    "format", "table", "tabla", "letter", "carta", "sentiment", "classif", "clasific", "older", "younger", "mayor", "longer", "more", "mas", "mean", "signific",
];
/// How an answer says that the text does not say it, folded.
#[rustfmt::skip]
const UNSAID: &[&str] = &[
    "not mention", "not say", "not state", "not specif", "not provide", "not given", "doesn't", "does not", "no information", "unknown", "not know",
    "no menciona", "no dice", "no se menciona", "no se especifica", "no especifica", "no indica", "no aparece", "no consta", "desconocid", "no hay",
];

impl Checker for Grounding {
    fn name(&self) -> &'static str {
        "grounding"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let Some(given) = given(subject.asked()) else {
            return Vec::new();
        };
        let question = folded_words(head(&given.rest, 4096), 256);
        if question
            .iter()
            .any(|word| FREE.iter().any(|free| word.starts_with(free)))
        {
            return Vec::new();
        }
        let writes = any_of(&question, &["write", "draft", "compose", "escribe", "redacta"]);
        if writes
            && !question
                .iter()
                .any(|word| word.starts_with("summar") || word.starts_with("resum"))
        {
            return Vec::new();
        }
        let text = head(subject.text, READ);
        let folded = fold(head(text, 4096));
        if !text.contains(char::is_alphanumeric) || UNSAID.iter().any(|unsaid| folded.contains(unsaid)) {
            return Vec::new();
        }
        let facts = Facts::of(subject);
        let sought = sought(&given);
        // What stands before a question is a text only if the question is one about it.
        if given.unmarked
            && !reads::names_text(&question)
            && !sought
                .as_ref()
                .is_some_and(|sought| !sought.candidates.is_empty() && reads::asks_of(given.text, &question))
        {
            return Vec::new();
        }
        if let Some(finding) = sought
            .as_ref()
            .and_then(|sought| self.wrong_answer(subject, text, &facts, sought))
        {
            return vec![finding];
        }
        let loose = facts.loose(text);
        let repair = without_sentences(text, &loose, &facts).map(Repair::Rewrite);
        loose
            .into_iter()
            .take(MOST)
            .map(|Loose { start, end }| {
                let what = &text[start..end];
                Finding {
                    checker: self.name(),
                    place: Place::Span { start, end },
                    sentence: subject.say(
                        &format!("\"{what}\" does not stand in the given text; the answer must say only what the text says."),
                        &format!("«{what}» no está en el texto dado; la respuesta solo debe decir lo que dice el texto."),
                    ),
                    weight: 0.4,
                    repair: repair.clone(),
                }
            })
            .collect()
    }
}

impl Grounding {
    /// The finding of a short question whose answer is none of those that stand in the text.
    fn wrong_answer(
        self,
        subject: &Subject<'_>,
        text: &str,
        facts: &Facts,
        sought: &Sought,
    ) -> Option<Finding> {
        let candidates = &sought.candidates;
        if candidates.is_empty() || candidates.iter().any(|candidate| sought.is_said(text, candidate)) {
            return None;
        }
        // Something else of the text may well be an answer; only what is of the asked kind, or of no text, is wrong.
        let wrong = sought.wrong(text, facts);
        if wrong.is_empty() && (sought.is_open() || facts.says_of_text(text, &sought.question)) {
            return None;
        }
        let list = candidates
            .iter()
            .take(ALTERNATIVES)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let repair = match candidates.as_slice() {
            [one] => {
                let replaced = match wrong.as_slice() {
                    [Loose { start, end }] => Some(replaced(text, *start, *end, one)),

                    _ => None,
                };
                let whole = replaced
                    .filter(|mended| text.len() == subject.text.len() && facts.loose(mended).is_empty());
                Some(Repair::Rewrite(whole.unwrap_or_else(|| format!("{one}."))))
            }
            several if several.len() <= ALTERNATIVES => {
                let alternatives: Vec<String> = several.iter().map(|one| literal(one)).collect();
                Some(Repair::Constrain(Constraint::Regex(format!(
                    "({})\\.?",
                    alternatives.join("|")
                ))))
            }
            _ => None,
        };
        let place = wrong.first().map_or(Place::Whole, |loose| Place::Span {
            start: loose.start,
            end: loose.end,
        });
        Some(Finding {
            checker: self.name(),
            place,
            sentence: subject.say(
                &format!("The answer must be taken from the given text: {list}."),
                &format!("La respuesta debe tomarse del texto dado: {list}."),
            ),
            weight: 0.6,
            repair,
        })
    }
}

/// `text` with `one` instead of what stands at `start..end`; a sign or unit that is there already is not repeated.
fn replaced(text: &str, start: usize, end: usize, one: &str) -> String {
    let (before, after) = (&text[..start], &text[end..]);
    let mut one = one
        .strip_prefix(['$', '€', '£'])
        .filter(|_| before.ends_with(['$', '€', '£']))
        .unwrap_or(one);
    if let Some(unit) = one.find(' ').filter(|&at| after.starts_with(&one[at..])) {
        one = &one[..unit];
    }
    format!("{before}{one}{after}")
}

/// `text` without the sentences that say what is nowhere, if anything remains.
fn without_sentences(text: &str, loose: &[Loose], facts: &Facts) -> Option<String> {
    if loose.is_empty() {
        return None;
    }
    let mut kept = String::new();
    let mut start = 0;
    let ends = sentence_ends(text);
    if ends.len() < 2 || ends.last() != Some(&text.trim_end().len()) {
        return None;
    }
    let mut next = loose.iter().peekable();
    for end in ends {
        let mut sound = true;
        while next.next_if(|loose| loose.start < end).is_some() {
            sound = false;
        }
        if sound {
            kept.push_str(&text[start..end]);
        }
        start = end;
    }
    let kept = kept.trim().to_owned();
    (kept.contains(char::is_alphanumeric) && facts.loose(&kept).is_empty()).then_some(kept)
}

/// Whether any of these folded words is in the list; for the files of this folder.
fn is_any(words: &[String], list: &[&str]) -> bool {
    any_of(words, list)
}

#[cfg(test)]
mod tests;
