//! A slot: what its KV cache holds, and the request that runs in it.

use std::time::{Duration, Instant};

use sarai_wire::engine::{Alternative, Done, Error, Event, FinishReason};

use crate::answer::Answer;
use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::plan::State;
use crate::prefix::{Cached, KvKey};
use crate::sampling::{self, Choice, NotFinite, Random, Scratch};
use crate::shared::Job;

/// A sequence of the context.
pub struct Slot {
    /// What its part of the KV cache holds; kept after a request for the next one.
    pub cached: Cached,
    /// When it was used last, on the worker's counter; 0 is never.
    pub used: u64,
    /// The request that runs in it.
    pub active: Option<Active>,
}

/// A request that has a slot.
pub struct Active {
    /// The request.
    pub job: Job,
    /// The token to decode next; `None` while the prompt is not through.
    pub next: Option<Token>,
    answer: Answer,
    random: Random,
    cached: u32,
    admitted: Instant,
    first: Option<Instant>,
}

/// Counts go over the wire as `u32`; a context is far smaller.
pub fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            cached: Cached {
                key: KvKey::text(""),
                tokens: Vec::new(),
            },
            used: 0,
            active: None,
        }
    }
}

impl Slot {
    /// Where it stands.
    pub fn state(&self) -> State {
        match &self.active {
            None => State::Idle,
            Some(Active { next: Some(_), .. }) => State::Generate,
            Some(active) => State::Prefill(active.job.prompt.len().saturating_sub(self.cached.tokens.len())),
        }
    }

    /// Ends the request with an error.
    pub fn fail(&mut self, error: Error) {
        if let Some(active) = self.active.take() {
            active.job.mailbox.send(Event::Error(error));
        }
    }

    /// Ends the request with its figures.
    pub fn finish(&mut self, finish_reason: FinishReason) {
        let Some(Active {
            job,
            mut answer,
            cached,
            admitted,
            first,
            ..
        }) = self.active.take()
        else {
            return;
        };
        let now = Instant::now();
        let first = first.unwrap_or(now);
        answer.finish(|event| job.mailbox.send(event));
        job.mailbox.send(Event::Done(Done {
            finish_reason,
            prompt_tokens: count(job.prompt.len()),
            cached_tokens: cached,
            completion_tokens: answer.tokens(),
            queue_ms: milliseconds(admitted - job.queued),
            prefill_ms: milliseconds(first - admitted),
            decode_ms: milliseconds(now - first),
        }));
    }
}

impl Active {
    /// A request that begins with `cached` tokens of its prompt already known, and tells its client so.
    pub fn begin(mut job: Job, cached: usize) -> Self {
        let cached = count(cached);
        job.mailbox.send(Event::Started {
            prompt_tokens: count(job.prompt.len()),
            cached_tokens: cached,
        });
        Self {
            answer: Answer::new(std::mem::take(&mut job.request.stop)),
            random: Random::new(job.seed),
            cached,
            next: None,
            admitted: Instant::now(),
            first: None,
            job,
        }
    }

    /// Picks the next token.
    ///
    /// # Errors
    /// [`NotFinite`] when the logits are missing or no distribution.
    pub fn choose(&mut self, logits: Option<&[f32]>, scratch: &mut Scratch) -> Result<Choice, NotFinite> {
        let request = &self.job.request;
        let top = usize::from(request.top_logprobs);
        let choice = sampling::choose(
            logits.ok_or(NotFinite)?,
            &request.sampling,
            &mut self.random,
            top,
            scratch,
        )?;
        self.first.get_or_insert_with(Instant::now);
        Ok(choice)
    }

    /// Adds a chosen token to the answer. Says why the answer ends there, if it does; a request holds at most
    /// `context` tokens.
    pub fn accept(
        &mut self,
        choice: Choice,
        top: &[(Token, f32)],
        vocab: Vocab<'_>,
        context: usize,
    ) -> Option<FinishReason> {
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
        let mailbox = &self.job.mailbox;
        let bytes = piece(choice.token, false);
        let stopped = self
            .answer
            .push(bytes, choice.logprob, top.collect(), |event| mailbox.send(event));
        let most = self.job.request.max_tokens.unwrap_or(u32::MAX);
        let full = self.job.prompt.len() + self.answer.tokens() as usize >= context;
        self.next = Some(choice.token);
        if stopped {
            Some(FinishReason::Stop)
        } else if full || self.answer.tokens() >= most {
            Some(FinishReason::Length)
        } else {
            None
        }
    }
}
