//! What the loop asks of a model, and what it gets back.

use std::future::Future;

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// Instructions above the conversation.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who speaks.
    pub speaker: Speaker,
    /// What is said.
    pub text: String,
}

impl Turn {
    /// A turn of `speaker` saying `text`.
    pub fn new(speaker: Speaker, text: impl Into<String>) -> Self {
        Self {
            speaker,
            text: text.into(),
        }
    }
}

/// Which part of the loop a generation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The first answer.
    Draft,
    /// An answer written after a critique.
    Revision,
}

/// One generation the loop wants.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Draft or revision.
    pub phase: Phase,
    /// 1 for the draft, at most [`crate::ITERATION_LIMIT`].
    pub iteration: u8,
    /// The whole conversation, oldest turn first. A later task's conversation begins with the earlier task's,
    /// followed by its answer, so a generator that keeps its state evaluates only what is new.
    pub conversation: &'a [Turn],
    /// Text the answer begins with, as if it had been generated; it is not handed to [`Out`].
    pub prefix: &'a str,
    /// What the whole answer, `prefix` included, must match.
    pub constraint: Option<&'a Constraint>,
    /// A text that what comes after `prefix` probably resembles: it may make a generator faster and never changes
    /// what it says.
    pub guess: &'a str,
}

/// What an answer must match; the generator enforces it token by token.
#[derive(Debug, Clone, PartialEq)]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies this schema.
    JsonSchema(serde_json::Value),
    /// The whole answer matches this regular expression (Rust's syntax, no look-around; anchors are implied).
    Regex(String),
    /// The whole answer is a sentence of this grammar, in Lark's notation with the rule `start`.
    Lark(String),
}

/// A token of a given answer and how likely it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// The token's own bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability after everything before it.
    pub logprob: f32,
}

/// What was added to a model's weights.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Adapter {
    /// SHA-256 of its file, lower-case hex.
    pub digest: String,
    /// Its version.
    pub version: String,
}

/// Who answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// Model id.
    pub model: String,
    /// SHA-256 of the model file, lower-case hex.
    pub digest: String,
    /// The adapter that was applied, if one was.
    pub adapter: Option<Adapter>,
    /// Why another engine than the preferred one answered; `None` when the preferred one did.
    pub fallback: Option<String>,
}

/// A generation left the queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Begun {
    /// Who answers.
    pub source: Source,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many of them were already evaluated.
    pub cached_tokens: u32,
}

/// One sampled token.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Text to append to the answer; empty while a character is incomplete or a stop text is held back.
    pub text: String,
    /// The token's own bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The most likely alternatives, best first.
    pub top: Vec<Alternative>,
}

impl Piece {
    /// Text that was not sampled: kept, corrected or inserted. It says nothing of a probability.
    pub fn given(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            bytes: text.as_bytes().to_vec(),
            logprob: 0.0,
            top: Vec::new(),
        }
    }
}

/// A token that could have been chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The token's own bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn or a stop text was met.
    Stop,
    /// A limit of tokens or time cut it.
    Length,
}

/// What a generation took.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many of them were already evaluated.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Milliseconds in the queue.
    pub queue_ms: f64,
    /// Milliseconds from leaving the queue to the first token.
    pub prefill_ms: f64,
    /// Milliseconds from the first token to the last.
    pub decode_ms: f64,
}

/// A generation came to its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finished {
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub work: Work,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its tokens.
    pub pieces: Vec<Piece>,
    /// Why it ended.
    pub finish: Finish,
    /// What it took.
    pub work: Work,
    /// Who gave it.
    pub source: Source,
}

/// Why a generation gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// What is wrong and what to do, for the one who asked.
    pub message: String,
}

/// The kinds of [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request itself is wrong.
    Invalid,
    /// The conversation does not fit the context.
    ContextLength,
    /// Too many requests wait.
    Busy,
    /// No engine could answer.
    Unavailable,
    /// Time ran out before there was anything to return.
    Timeout,
    /// The one who asked is gone.
    Cancelled,
}

/// The receiving side does not take what it was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The one who asked is gone, or has not read for too long.
    #[error("deliver: the client is gone or does not read")]
    Gone,
    /// What would have to be taken back was already delivered as the answer.
    #[error("start again: part of the answer was already delivered")]
    TooLate,
    /// The generation brought more than any context holds.
    #[error("keep the answer: it is longer than any context")]
    TooLong,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::Gone | Refused::TooLate => FailureKind::Cancelled,
            Refused::TooLong => FailureKind::Unavailable,
        };
        Self {
            kind,
            message: refused.to_string(),
        }
    }
}

/// Takes a generation's tokens as they come. Waiting in these calls is how a slow reader slows a generation.
pub trait Out: Send {
    /// The generation left the queue.
    fn began(&mut self, begun: Begun) -> impl Future<Output = Result<(), Refused>> + Send;
    /// The next token.
    fn piece(&mut self, piece: Piece) -> impl Future<Output = Result<(), Refused>> + Send;
    /// What came so far is void: the generation starts again elsewhere, for `reason`.
    fn restart(&mut self, reason: &str) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// Something that continues conversations: an engine, or several behind one face.
///
/// Dropping the future cancels the generation.
pub trait Generate: Sync {
    /// Answers `task`, handing each token to `out`.
    ///
    /// # Errors
    /// [`Failure`], also when `out` refuses.
    fn generate<O: Out>(
        &self,
        task: Task<'_>,
        out: &mut O,
    ) -> impl Future<Output = Result<Finished, Failure>> + Send;

    /// How likely `text` is as the answer to `conversation`, token by token.
    ///
    /// # Errors
    /// [`Failure`].
    fn score(
        &self,
        conversation: &[Turn],
        text: &str,
    ) -> impl Future<Output = Result<Vec<Scored>, Failure>> + Send;
}
