//! A slot: what its KV cache holds, and the request that runs in it.

use std::time::{Duration, Instant};

use sarai_wire::adapter::Adapter;
use sarai_wire::engine::{Done, Error, ErrorKind, Event, FinishReason, Scored};

use crate::generating::Generating;
use crate::llama::Token;
use crate::plan::State;
use crate::prefix::{Cached, KvKey};
use crate::scoring::Scoring;
use crate::shared::{Job, Task};

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
    /// Tokens known beforehand: the conversation, then the answer's prefix or the text to score. What was decoded
    /// since comes to it when the context is made anew, which must read all of it again.
    pub known: Vec<Token>,
    /// How many of them are the prompt: for an answer all, for a score the conversation.
    pub prompt: usize,
    /// What to do with them.
    pub work: Work,
    /// The request.
    pub job: Job,
    /// Tokens that the context held when it began.
    pub promised: usize,
    cached: u32,
    admitted: Instant,
}

/// What a request wants.
pub enum Work {
    /// An answer.
    Generate(Box<Generating>),
    /// The log-probabilities of the tokens behind the prompt.
    Score(Scoring),
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
                saved: Vec::new(),
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
            Some(active) => match active.known.len().saturating_sub(self.cached.tokens.len()) {
                0 if active.next().is_some() => State::Generate,
                left => State::Prefill(left),
            },
        }
    }

    /// After the context was made anew, for `context` tokens: nothing is held any more, and the request that runs
    /// reads again what it had, or ends where that is too much.
    pub fn carry_over(&mut self, context: usize) {
        let held = std::mem::take(&mut self.cached.tokens);
        self.cached.saved = Vec::new();
        let Some(active) = &mut self.active else { return };
        if let Work::Generate(generating) = &active.work
            && generating.next.is_some()
        {
            active.known = held;
        }
        if !active.fits(context) {
            let error = active.outgrown(context);
            self.fail(error);
        }
    }

    /// Whether all of a text is scored.
    pub fn is_scored(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            matches!(active.work, Work::Score(_)) && self.cached.tokens.len() >= active.known.len()
        })
    }

    /// Ends the request with an error.
    pub fn fail(&mut self, error: Error) {
        if let Some(active) = self.active.take() {
            active.job.mailbox.send(Event::Error(error));
        }
    }

    /// Whether its client has had a part of the answer.
    pub fn is_heard(&self) -> bool {
        self.active.as_ref().is_some_and(|active| match &active.work {
            Work::Generate(generating) => generating.first.is_some(),
            Work::Score(_) => false,
        })
    }

    /// Ends the request with its figures; an answer for `reason`.
    pub fn finish(&mut self, reason: FinishReason) {
        let Some(active) = self.active.take() else { return };
        let Active {
            prompt,
            work,
            job,
            cached,
            admitted,
            ..
        } = active;
        let now = Instant::now();
        let queue_ms = milliseconds(admitted - job.queued);
        let event = match work {
            Work::Score(scoring) => Event::Scored(Scored {
                tokens: scoring.tokens,
                prompt_tokens: count(prompt),
                cached_tokens: cached,
                queue_ms,
                score_ms: milliseconds(now - admitted),
            }),
            Work::Generate(mut generating) => {
                generating.flush(|event| job.mailbox.send(event));
                let first = generating.first.unwrap_or(now);
                let (drafted, accepted) = generating.speculated();
                Event::Done(Done {
                    finish_reason: reason,
                    prompt_tokens: count(prompt),
                    cached_tokens: cached,
                    completion_tokens: generating.tokens(),
                    queue_ms,
                    prefill_ms: milliseconds(first - admitted),
                    decode_ms: milliseconds(now - first),
                    drafted,
                    accepted,
                })
            }
        };
        job.mailbox.send(event);
    }
}

impl Active {
    /// A request that begins with `cached` of the `known` tokens already decoded, and tells its client so, and which
    /// adapter it is computed with.
    pub fn begin(
        mut job: Job,
        known: Vec<Token>,
        cached: usize,
        context: usize,
        adapter: Option<Adapter>,
    ) -> Self {
        let (prompt, work) = match std::mem::replace(&mut job.task, Task::Score(Vec::new())) {
            Task::Generate(generation) => {
                let generating = Box::new(Generating::new(*generation));
                (known.len(), Work::Generate(generating))
            }
            Task::Score(_) => (job.prompt.len(), Work::Score(Scoring::default())),
        };
        let cached = count(cached);
        job.mailbox.send(Event::Started {
            prompt_tokens: count(prompt),
            cached_tokens: cached,
            adapter,
        });
        Self {
            known,
            prompt,
            work,
            job,
            promised: context,
            cached,
            admitted: Instant::now(),
        }
    }

    /// Whether nothing can follow what is known: the answer is its prefix.
    pub fn is_complete(&self) -> bool {
        matches!(&self.work, Work::Generate(generating) if generating.is_complete())
    }

    /// The generated token to decode next; `None` while known ones are left.
    pub fn next(&self) -> Option<Token> {
        match &self.work {
            Work::Generate(generating) => generating.next,
            Work::Score(_) => None,
        }
    }

    /// Whether what there is so far fits a context, an answer with a token to come.
    fn fits(&self, context: usize) -> bool {
        match &self.work {
            Work::Generate(generating) => self.known.len() + usize::from(generating.next.is_some()) < context,
            Work::Score(_) => self.known.len() <= context,
        }
    }

    /// Whether an answer that reached the end of a context of `context` tokens had been promised more and wants it.
    pub fn is_cut(&self, context: usize) -> bool {
        let spent = match &self.work {
            Work::Generate(generating) => generating.is_spent(),
            Work::Score(_) => true,
        };
        self.promised > context && !spent
    }

    /// Why a request cannot go on in a context that was made smaller.
    pub fn outgrown(&self, context: usize) -> Error {
        Error {
            kind: ErrorKind::Memory,
            message: format!(
                "memory is short: the context was made smaller, from {} tokens to {context}, while the request \
                 ran, and it needs more; send it again later or send less",
                self.promised
            ),
        }
    }

    /// The last position to which a later request may want to go back: before the first token whose logits count.
    pub fn mark(&self) -> usize {
        self.prompt.saturating_sub(1)
    }

    /// Whether the logits after the known token at `at` are needed.
    pub fn needs_logits(&self, at: usize) -> bool {
        match &self.work {
            // What was chosen already needs none.
            Work::Generate(generating) => at + 1 == self.known.len() && generating.next.is_none(),
            Work::Score(scoring) => at + 1 >= self.prompt + scoring.tokens.len() && at + 1 < self.known.len(),
        }
    }
}
