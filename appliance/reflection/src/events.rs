//! What is told while the loop runs.

use std::future::Future;

use crate::generate::{Begun, Phase, Piece, Refused};

/// One step of the loop, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// A generation left the queue.
    Begun {
        /// Draft or revision.
        phase: Phase,
        /// Who answers, and how long the prompt is.
        begun: &'a Begun,
    },
    /// The next token of the draft.
    Draft(&'a Piece),
    /// The critique the next revision answers.
    Critique(&'a str),
    /// The next token of a revision.
    Revision(&'a Piece),
    /// The tokens of the current draft or revision are void: it starts again elsewhere.
    Restarted {
        /// Draft or revision.
        phase: Phase,
        /// Why.
        reason: &'a str,
    },
}

/// Takes [`Event`]s. A refusal of [`Event::Restarted`] with [`Refused::TooLate`] forbids the restart; any other
/// refusal ends the loop.
pub trait Sink: Send {
    /// One event, in order.
    fn event(&mut self, event: Event<'_>) -> impl Future<Output = Result<(), Refused>> + Send;
}

/// Takes every event and does nothing with it: for callers that want only the outcome.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Sink for Unwatched {
    async fn event(&mut self, _event: Event<'_>) -> Result<(), Refused> {
        Ok(())
    }
}
