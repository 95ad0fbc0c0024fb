//! Stated constraints: what a request asks of the answer in words, in English and Spanish.
//!
//! | module | duty |
//! | --- | --- |
//! | `tokens` | the request as tokens; given texts are left out |
//! | `pattern` | the small language the rules are written in |
//! | `english`, `spanish` | the rules of each language, with its words beside them |
//! | `lexicon` | what the words and rules of a language are made of |
//! | `page` | which sentences of a request speak of the answer |
//! | `extract` | what they ask |
//! | `lists` | the words, options and endings that follow a rule |
//! | `count` | how many words, sentences, … a text has |
//! | `verify` | whether an answer has what was asked |
//! | `say` | what is wrong, as a sentence |
//! | `repair` | which way it is mended |
//! | `rewrite`, `reshape` | by an edit: cut, joined, turned into another form |
//! | `shape`, `enforce` | by what decoding enforces: the parts of an answer, and the whole |
//!
//! A rule that is not sure stays silent: a constraint that was never asked would spoil a good answer.

mod count;
mod enforce;
mod english;
mod english_words;
mod extract;
mod lexicon;
mod lists;
mod page;
mod pattern;
mod repair;
mod reshape;
mod rewrite;
mod say;
mod shape;
mod spanish;
mod spanish_words;
mod tokens;
mod verify;

use std::cell::LazyCell;
use std::fmt;

use super::{Checker, Finding, Subject};
use crate::generate::{Speaker, Turn};

/// What can be counted in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Words.
    Words,
    /// Sentences.
    Sentences,
    /// Paragraphs.
    Paragraphs,
    /// Lines, also those of a poem.
    Lines,
    /// Items of a list.
    Bullets,
    /// Sections, each with a heading.
    Sections,
    /// Characters.
    Characters,
}

/// Kinds of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListKind {
    /// Either.
    Any,
    /// With bullets.
    Bulleted,
    /// With numbers.
    Numbered,
}

/// Punctuation that can be forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// `,`
    Commas,
    /// `!` and `¡`
    Exclamation,
    /// `?` and `¿`
    Questions,
    /// `;`
    Semicolons,
    /// All of it.
    Punctuation,
}

/// Languages that an answer can be asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tongue {
    /// English.
    English,
    /// Spanish.
    Spanish,
    /// French.
    French,
    /// German.
    German,
    /// Italian.
    Italian,
    /// Portuguese.
    Portuguese,
}

/// One thing a request asks of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stipulation {
    /// Between `least` and `most` of a unit; at least one of the two is there.
    Count {
        /// What is counted.
        unit: Unit,
        /// The fewest allowed.
        least: Option<u32>,
        /// The most allowed.
        most: Option<u32>,
    },
    /// This text stands in the answer at least so many times.
    Contains {
        /// The text, as it was written.
        text: String,
        /// How often.
        times: u32,
    },
    /// This word or phrase does not stand in the answer.
    Avoids(String),
    /// This letter does not stand in the answer.
    AvoidsLetter(char),
    /// The answer begins with this.
    StartsWith(String),
    /// The answer ends with this.
    EndsWith(String),
    /// No lower-case letter.
    UpperCase,
    /// No upper-case letter.
    LowerCase,
    /// None of these marks.
    Without(Mark),
    /// The whole answer in double quotes.
    Quoted,
    /// The answer is in this language.
    Language(Tongue),
    /// The answer is JSON.
    Json,
    /// The answer has a table.
    Table,
    /// The answer has a list.
    List(ListKind),
    /// The answer has a title.
    Title {
        /// In double angular brackets.
        angular: bool,
    },
    /// The answer has a postscript with this marker.
    Postscript(String),
    /// At least so many placeholders in square brackets.
    Placeholders(u32),
    /// The answer is one of these.
    Choice(Vec<String>),
    /// The answer begins with this part of the request, repeated.
    Repeat(String),
}

impl fmt::Display for Stipulation {
    /// The short form that metrics and the labelled set use: `words<=10`, `contains:moon`, `upper`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { unit, least, most } => {
                let unit = format!("{unit:?}").to_lowercase();
                match (least, most) {
                    (Some(a), Some(b)) if a == b => write!(f, "{unit}={a}"),
                    (Some(a), Some(b)) => write!(f, "{unit}={a}..{b}"),
                    (Some(a), None) => write!(f, "{unit}>={a}"),
                    (None, Some(b)) => write!(f, "{unit}<={b}"),
                    (None, None) => write!(f, "{unit}"),
                }
            }
            Self::Contains { text, times: 1 } => write!(f, "contains:{text}"),
            Self::Contains { text, times } => write!(f, "contains:{text}*{times}"),
            Self::Avoids(text) => write!(f, "avoids:{text}"),
            Self::AvoidsLetter(letter) => write!(f, "no-letter:{letter}"),
            Self::StartsWith(text) => write!(f, "starts:{text}"),
            Self::EndsWith(text) => write!(f, "ends:{text}"),
            Self::UpperCase => f.write_str("upper"),
            Self::LowerCase => f.write_str("lower"),
            Self::Without(mark) => write!(f, "no:{}", format!("{mark:?}").to_lowercase()),
            Self::Quoted => f.write_str("quoted"),
            Self::Language(tongue) => write!(f, "language:{}", format!("{tongue:?}").to_lowercase()),
            Self::Json => f.write_str("json"),
            Self::Table => f.write_str("table"),
            Self::List(ListKind::Any) => f.write_str("list"),
            Self::List(kind) => write!(f, "list:{}", format!("{kind:?}").to_lowercase()),
            Self::Title { angular: false } => f.write_str("title"),
            Self::Title { angular: true } => f.write_str("title<<>>"),
            Self::Postscript(marker) => write!(f, "postscript:{marker}"),
            Self::Placeholders(least) => write!(f, "placeholders>={least}"),
            Self::Choice(options) => write!(f, "choice:{}", options.join("|")),
            Self::Repeat(_) => f.write_str("repeat"),
        }
    }
}

/// Most bytes of a turn that are read for constraints: the first and the last half of it. People state them before
/// or after a long text, not in its middle.
pub const MOST_ASKED: usize = 16 * 1024;
/// Most constraints that are kept; a request with more is not a person's.
pub const MOST_STIPULATIONS: usize = 24;

/// What the last user turn, and a system turn, ask of the answer, in the order they were stated. Where two contradict
/// each other, the user's holds, and of one turn the later.
pub fn constraints_of(request: &[Turn]) -> Vec<Stipulation> {
    let mut out: Vec<Stipulation> = Vec::new();
    let system = request.iter().find(|turn| turn.speaker == Speaker::System);
    let user = request.iter().rev().find(|turn| turn.speaker == Speaker::User);
    for turn in system.into_iter().chain(user) {
        for found in extract::extract(&turn.text) {
            out.retain(|kept| !found.replaces(kept));
            if out.len() < MOST_STIPULATIONS && !out.contains(&found) {
                out.push(found);
            }
        }
    }
    out
}

impl Stipulation {
    /// Whether `older` cannot be asked beside this one.
    fn replaces(&self, older: &Self) -> bool {
        match (self, older) {
            (
                Self::Count { unit, least, most },
                Self::Count {
                    unit: other,
                    least: l,
                    most: m,
                },
            ) => {
                unit == other
                    && ((least.is_some() && l.is_some())
                        || (most.is_some() && m.is_some())
                        || most.zip(*l).is_some_and(|(most, l)| most < l)
                        || least.zip(*m).is_some_and(|(least, m)| least > m))
            }
            (Self::UpperCase | Self::LowerCase, Self::UpperCase | Self::LowerCase)
            | (Self::Language(_), Self::Language(_))
            | (Self::Choice(_), Self::Choice(_))
            | (Self::StartsWith(_), Self::StartsWith(_))
            | (Self::EndsWith(_), Self::EndsWith(_))
            | (Self::Title { .. }, Self::Title { .. })
            | (Self::Postscript(_), Self::Postscript(_)) => true,
            (Self::Contains { text, .. }, Self::Contains { text: other, .. }) => text == other,
            (
                Self::Count {
                    unit: Unit::Bullets, ..
                },
                Self::List(kind),
            ) => *kind != ListKind::Numbered,
            _ => false,
        }
    }
}

/// The share of an answer's worth that breaking one stipulation takes away. Nearly all: what was asked for in so many
/// words is what the client looks at first, and what keeps to it is less likely in the model's eyes than what flows.
const WEIGHT: f64 = 0.9;

/// The answer is not as the request asked for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stated;

impl Checker for Stated {
    fn name(&self) -> &'static str {
        "stated"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        // An empty answer breaks everything; that it is empty is another checker's to say.
        if subject.text.trim().is_empty() {
            return Vec::new();
        }
        let all = constraints_of(subject.request);
        let places: Vec<_> = all.iter().map(|one| verify::broken(one, subject.text)).collect();
        let judged = || all.iter().zip(&places);
        let kept: Vec<&Stipulation> = judged()
            .filter(|(_, place)| place.is_none())
            .map(|(one, _)| one)
            .collect();
        // Read once, and only where something is broken.
        let wide = LazyCell::new(|| shape::needs_more(subject.asked()));
        let mut findings = Vec::new();
        for (stipulation, place) in judged() {
            let Some(place) = *place else { continue };
            findings.push(Finding {
                checker: self.name(),
                place,
                sentence: say::sentence(stipulation, subject.text, subject.language),
                weight: WEIGHT,
                repair: repair::repair(stipulation, &all, &kept, subject, *wide),
            });
        }
        findings
    }
}

#[cfg(test)]
#[path = "stated_tests.rs"]
mod tests;
