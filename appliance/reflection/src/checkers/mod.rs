//! Checkers read a request and an answer and say what is wrong. They know nothing of models.
//!
//! One file a kind. A checker prefers missing an error to inventing one: each finding costs a reflection and
//! lowers the answer's score. Work is bounded for any text.

pub(crate) mod arithmetic;
mod form;
pub(crate) mod given;
mod grounding;
pub(crate) mod numerals;
mod stated;
mod structure;
pub(crate) mod text;

pub use arithmetic::Arithmetic;
pub use form::{Echo, Empty, Leaked, Refusal, Repeating, Truncated, WrongLanguage};
pub use grounding::Grounding;
pub use stated::{
    ListKind, MOST_ASKED, MOST_STIPULATIONS, Mark, Stated, Stipulation, Tongue, Unit, constraints_of,
};
pub use structure::{Fences, Json, Markup};

use crate::critique::Language;
use crate::generate::{Constraint, Finish, Speaker, Turn};

/// What a checker looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The conversation as the client sent it, oldest turn first.
    pub request: &'a [Turn],
    /// The answer to it.
    pub text: &'a str,
    /// Why the answer ended.
    pub finish: Finish,
    /// The language findings are written in.
    pub language: Language,
}

impl<'a> Subject<'a> {
    /// The last thing the user said; empty if the user said nothing.
    pub fn asked(&self) -> &'a str {
        self.request
            .iter()
            .rev()
            .find(|turn| turn.speaker == Speaker::User)
            .map_or("", |turn| &turn.text)
    }

    /// `english` or `spanish`, whichever the request is in.
    pub fn say(&self, english: &str, spanish: &str) -> String {
        match self.language {
            Language::English => english.to_owned(),
            Language::Spanish => spanish.to_owned(),
        }
    }
}

/// Where in an answer something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Place {
    /// The answer as a whole.
    Whole,
    /// Where it begins.
    Start,
    /// Where it ends.
    End,
    /// Between two byte offsets of the answer's text.
    Span {
        /// The first byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
}

/// One error in an answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Finding {
    /// Which checker found it.
    pub checker: &'static str,
    /// Where.
    pub place: Place,
    /// What is wrong, as a sentence a model can act on, in the language of the request.
    pub sentence: String,
    /// In [0, 1]: the share of the confidence it takes away.
    #[serde(skip)]
    pub weight: f64,
    /// How it can be mended without hoping that the model understands the sentence; `None` where only the model
    /// can.
    #[serde(skip)]
    pub repair: Option<Repair>,
}

/// How an error can be mended. Whatever comes of it is judged like any other revision.
#[derive(Debug, Clone, PartialEq)]
pub enum Repair {
    /// This is the corrected answer; nothing needs to be generated. It must be free of the finding it repairs.
    Rewrite(String),
    /// The first `keep` bytes of the answer are sound: the answer goes on from there with `insert`, and then with
    /// what the model says.
    Resume {
        /// Bytes of the answer that stay; a character boundary.
        keep: usize,
        /// Text that follows them; may be empty.
        insert: String,
        /// What the whole answer must match, if it can be said.
        constraint: Option<Constraint>,
    },
    /// The answer is written anew to the same request, and the decoding enforces this.
    Constrain(Constraint),
}

/// Finds one kind of error.
pub trait Checker: Send + Sync {
    /// A short stable name, for findings and metrics.
    fn name(&self) -> &'static str;
    /// Everything of its kind that is wrong with the answer. Never panics, and takes time at most proportional to
    /// the texts.
    fn check(&self, subject: &Subject<'_>) -> Vec<Finding>;
}

/// The checkers an appliance runs, in the order their findings are named.
pub fn standard() -> Vec<Box<dyn Checker>> {
    vec![
        Box::new(Empty),
        Box::new(Truncated),
        Box::new(Repeating),
        Box::new(Echo),
        Box::new(Leaked),
        Box::new(WrongLanguage),
        Box::new(Refusal),
        Box::new(Arithmetic),
        Box::new(Stated),
        Box::new(Grounding),
        Box::new(Fences),
        Box::new(Json),
        Box::new(Markup),
    ]
}
