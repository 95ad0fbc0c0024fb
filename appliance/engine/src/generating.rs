//! An answer while it is generated: the next token chosen, checked against its constraint, and made text.

use std::time::Instant;

use sarai_wire::engine::{Alternative, Event, FinishReason, Generate};

use crate::answer::Answer;
use crate::constraint::{ConstraintError, Matching};
use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::mailbox::Mailbox;
use crate::sampling::{self, Choice, NotFinite, Random, Scratch};
use crate::shared::Generation;
use crate::slot::count;
use crate::speculation::{Costs, Speculation};

/// Why an answer cannot go on. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The model's logits are no distribution.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    /// The constraint got stuck.
    #[error(transparent)]
    Constraint(#[from] ConstraintError),
}

/// The state of an answer.
pub struct Generating {
    request: Generate,
    /// The token to decode next; `None` while the prompt is not through.
    pub next: Option<Token>,
    answer: Answer,
    random: Random,
    matching: Option<Matching>,
    speculation: Speculation,
    /// Tokens decoded ahead.
    drafted: u32,
    /// Tokens among them that were kept.
    accepted: u32,
    /// When the first token was chosen.
    pub first: Option<Instant>,
}

impl Generating {
    /// An answer without a token yet.
    pub fn new(generation: Generation) -> Self {
        let Generation {
            mut request,
            prefix: _,
            matching,
            guess,
            seed,
        } = generation;
        Self {
            answer: Answer::new(std::mem::take(&mut request.stop)),
            request,
            next: None,
            random: Random::new(seed),
            matching,
            speculation: Speculation::new(guess),
            drafted: 0,
            accepted: 0,
            first: None,
        }
    }

    /// Whether its constraint lets nothing follow: the answer is the prefix alone, or ended with the last token.
    pub fn is_complete(&self) -> bool {
        self.matching.as_ref().is_some_and(Matching::is_complete)
    }

    /// Tokens so far.
    pub fn tokens(&self) -> u32 {
        self.answer.tokens()
    }

    /// Whether it has all the tokens that were asked for.
    pub fn is_spent(&self) -> bool {
        self.request
            .max_tokens
            .is_some_and(|most| self.answer.tokens() >= most)
    }

    /// Tokens decoded ahead, and those among them that were right.
    pub fn speculated(&self) -> (u32, u32) {
        (self.drafted, self.accepted)
    }

    /// Tokens worth decoding together with the next one, at most `most`.
    pub fn ahead(&mut self, costs: &Costs, most: usize) -> &[Token] {
        let left = self.request.max_tokens.unwrap_or(u32::MAX) - self.answer.tokens();
        // The last token is never decoded.
        let most = most.min((left as usize).saturating_sub(1));
        let ahead = self.speculation.propose(costs, most);
        self.drafted += count(ahead.len());
        ahead
    }

    /// Whether the last choice is the token that was decoded ahead in its place.
    pub fn was_right(&mut self, ahead: Token) -> bool {
        let right = self.next == Some(ahead);
        self.accepted += u32::from(right);
        right
    }

    /// Sends whatever text is still held back.
    pub fn flush(&mut self, emit: impl FnMut(Event)) {
        self.answer.finish(emit);
    }

    /// Picks the next token.
    ///
    /// # Errors
    /// [`StepError`] when the logits are missing or no distribution, or the constraint allows nothing.
    pub fn choose(&mut self, logits: Option<&[f32]>, scratch: &mut Scratch) -> Result<Choice, StepError> {
        let mask = self.matching.as_mut().map(Matching::mask).transpose()?;
        let choice = sampling::choose(
            logits.ok_or(NotFinite)?,
            mask,
            &self.request.sampling,
            &mut self.random,
            usize::from(self.request.top_logprobs),
            scratch,
        )?;
        self.first.get_or_insert_with(Instant::now);
        Ok(choice)
    }

    /// Adds a chosen token to the answer. Says why the answer ends there, if it does; there is room for `room` more
    /// tokens, this one included.
    ///
    /// # Errors
    /// [`StepError`] when the constraint got stuck.
    pub fn accept(
        &mut self,
        choice: Choice,
        top: &[(Token, f32)],
        vocab: Vocab<'_>,
        room: usize,
        mailbox: &Mailbox,
    ) -> Result<Option<FinishReason>, StepError> {
        if let Some(matching) = &mut self.matching {
            matching.consume(choice.token)?;
        }
        let piece = |token, special| {
            let mut bytes = Vec::new();
            vocab.piece(token, special, &mut bytes);
            bytes
        };
        // Alternatives are shown by name; what goes into the text never is a control token.
        let top = top.iter().map(|(token, logprob)| Alternative {
            bytes: piece(*token, true),
            logprob: *logprob,
        });
        let bytes = piece(choice.token, false);
        let stopped = self
            .answer
            .push(bytes, choice.logprob, top.collect(), |event| mailbox.send(event));
        self.next = Some(choice.token);
        self.speculation.said(choice.token);
        let most = self.request.max_tokens.unwrap_or(u32::MAX);
        Ok(if stopped || self.is_complete() {
            Some(FinishReason::Stop)
        } else if room <= 1 || self.answer.tokens() >= most {
            Some(FinishReason::Length)
        } else {
            None
        })
    }
}
