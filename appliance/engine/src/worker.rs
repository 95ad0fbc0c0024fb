//! The decode thread: all slots together, one step after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sarai_wire::engine::{Alternative, Done, Error, ErrorKind, Event, FinishReason};

use crate::answer::Answer;
use crate::llama::batch::Batch;
use crate::llama::context::Context;
use crate::llama::vocab::Vocab;
use crate::llama::{LlamaError, Token};
use crate::plan::{self, Pace, State};
use crate::prefix::{self, Cached, Idle, KvKey, Memory};
use crate::sampling::{self, Random, Scratch};
use crate::shared::{Inbox, Job, Shared, stopping};

/// How long running requests may go on after a stop.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Answers a ping: number, waiting, running, tokens since start.
pub type Pong = Box<dyn FnMut(u64, u32, u32, u64) + Send>;

/// A request that has a slot.
struct Active {
    job: Job,
    answer: Answer,
    random: Random,
    cached: u32,
    /// The token to decode next; `None` while the prompt is not through.
    next: Option<Token>,
    admitted: Instant,
    first: Option<Instant>,
}

struct Slot {
    cached: Cached,
    used: u64,
    active: Option<Active>,
}

/// The decode thread's whole state.
pub struct Worker<'model> {
    context: Context<'model>,
    vocab: Vocab<'model>,
    slots: Vec<Slot>,
    batch: Batch,
    batch_size: usize,
    context_size: usize,
    pace: Pace,
    scratch: Scratch,
    clock: u64,
    tokens: u64,
    shared: Arc<Shared>,
    pong: Pong,
}

struct Kv<'a, 'model>(&'a mut Context<'model>);

/// A slot's number is its sequence's; there are at most 64.
fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}

fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

impl Memory for Kv<'_, '_> {
    fn forget_from(&mut self, slot: usize, at: usize) -> bool {
        self.0.forget_from(sequence(slot), position(at))
    }

    fn forget(&mut self, slot: usize) {
        self.0.forget(sequence(slot));
    }
}

/// Sizes of a [`Worker`].
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Requests at the same time.
    pub slots: usize,
    /// Tokens of one request.
    pub context: usize,
    /// Tokens of one step.
    pub batch: usize,
}

impl<'model> Worker<'model> {
    /// A worker with empty slots.
    pub fn new(
        context: Context<'model>,
        vocab: Vocab<'model>,
        sizes: Sizes,
        shared: Arc<Shared>,
        pong: Pong,
    ) -> Self {
        let empty = || Slot {
            cached: Cached {
                key: KvKey::text(""),
                tokens: Vec::new(),
            },
            used: 0,
            active: None,
        };
        Self {
            context,
            vocab,
            slots: (0..sizes.slots).map(|_| empty()).collect(),
            batch: Batch::new(sizes.batch),
            batch_size: sizes.batch,
            context_size: sizes.context,
            pace: Pace::new(sizes.batch),
            scratch: Scratch::new(vocab.len()),
            clock: 0,
            tokens: 0,
            shared,
            pong,
        }
    }

    /// Decodes one token and forgets it, so that the first request finds everything in memory and a model that
    /// loads but does not run is noticed before it is announced.
    ///
    /// # Errors
    /// As [`Context::decode`], or when the logits are no numbers.
    pub fn warm_up(&mut self) -> Result<(), LlamaError> {
        self.batch.clear();
        self.batch.push(self.vocab.bos().unwrap_or(0), 0, 0, true);
        self.context.decode(&mut self.batch)?;
        let sound = self.context.logits(0).and_then(crate::softmax::largest).is_some();
        self.context.forget(0);
        if sound {
            Ok(())
        } else {
            Err(LlamaError::Model(
                "its first logits are not finite numbers".into(),
            ))
        }
    }

    /// Works until the supervisor asks to stop.
    pub fn run(&mut self) {
        let mut deadline = None;
        loop {
            if !self.take_orders(&mut deadline) {
                return;
            }
            self.drop_cancelled();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                for slot in 0..self.slots.len() {
                    self.fail(slot, stopping());
                }
            }
            self.step();
        }
    }

    fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.active.is_some()).count()
    }

    /// Reads the inbox, waiting while there is nothing to do. `false` when it is time to leave.
    fn take_orders(&mut self, deadline: &mut Option<Instant>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.lock();
        let pings = loop {
            inbox.running = self.running();
            inbox.queue.retain(|job| !job.mailbox.is_cancelled());
            if inbox.stop {
                deadline.get_or_insert_with(|| Instant::now() + STOP_TIME);
                for job in inbox.queue.drain() {
                    job.mailbox.send(Event::Error(stopping()));
                }
            }
            self.admit(&mut inbox);
            let pings = std::mem::take(&mut inbox.pings);
            if !pings.is_empty() || inbox.running > 0 {
                break pings;
            }
            if inbox.stop {
                return false;
            }
            inbox = shared.wait(inbox);
        };
        let (waiting, running) = (count(inbox.queue.len()), count(inbox.running));
        drop(inbox);
        for seq in pings {
            (self.pong)(seq, waiting, running, self.tokens);
        }
        true
    }

    /// Gives waiting requests to idle slots.
    fn admit(&mut self, inbox: &mut Inbox) {
        while inbox.running < self.slots.len() {
            let Some(job) = inbox.queue.pop() else { return };
            self.begin(job);
            inbox.running = self.running();
        }
    }

    fn begin(&mut self, job: Job) {
        let idle = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.active.is_none())
            .map(|(number, slot)| Idle {
                slot: number,
                cached: &slot.cached,
                used: slot.used,
            });
        let Some((number, common)) = prefix::choose(idle, &job.key, &job.prompt) else {
            // Only called while a slot is idle; an answer all the same.
            job.mailbox.send(Event::Error(Error {
                kind: ErrorKind::Busy,
                message: "every slot is taken; try again later".into(),
            }));
            return;
        };
        let slot = &mut self.slots[number];
        let kept = prefix::rewind(&mut Kv(&mut self.context), number, &mut slot.cached, common);
        slot.cached.key = job.key.clone();
        self.clock += 1;
        slot.used = self.clock;
        job.mailbox.send(Event::Started {
            prompt_tokens: count(job.prompt.len()),
            cached_tokens: count(kept),
        });
        slot.active = Some(Active {
            answer: Answer::new(job.request.stop.clone()),
            random: Random::new(job.seed),
            cached: count(kept),
            next: None,
            admitted: Instant::now(),
            first: None,
            job,
        });
    }

    fn drop_cancelled(&mut self) {
        for slot in &mut self.slots {
            // What was decoded so far stays in the cache: the client may come back with the same conversation.
            if slot
                .active
                .as_ref()
                .is_some_and(|active| active.job.mailbox.is_cancelled())
            {
                slot.active = None;
            }
        }
    }

    /// Decodes one batch and samples from it.
    fn step(&mut self) {
        let states: Vec<State> = self
            .slots
            .iter()
            .map(|slot| match &slot.active {
                None => State::Idle,
                Some(Active { next: Some(_), .. }) => State::Generate,
                Some(active) => State::Prefill(active.job.prompt.len() - slot.cached.tokens.len()),
            })
            .collect();
        let generating = states.contains(&State::Generate);
        let shares = plan::step(&states, self.pace.chunk(generating), self.batch_size);
        self.batch.clear();
        // Slot and index in the batch whose logits decide the next token.
        let mut outputs = Vec::new();
        let mut prefilled = 0;
        for (number, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            let slot = &mut self.slots[number];
            let Some(active) = &slot.active else { continue };
            let begin = slot.cached.tokens.len();
            if let Some(token) = active.next {
                let at = self.batch.push(token, position(begin), sequence(number), true);
                outputs.push((number, at));
                slot.cached.tokens.push(token);
                continue;
            }
            prefilled += share;
            let prompt = &active.job.prompt;
            for at in begin..begin + share {
                let last = at + 1 == prompt.len();
                let index = self.batch.push(prompt[at], position(at), sequence(number), last);
                if last {
                    outputs.push((number, index));
                }
            }
            slot.cached
                .tokens
                .extend_from_slice(&prompt[begin..begin + share]);
        }
        if self.batch.is_empty() {
            return;
        }
        let begin = Instant::now();
        if let Err(error) = self.context.decode(&mut self.batch) {
            crate::error!("failed to {error}");
            self.fail_step(&shares, &error);
            return;
        }
        self.pace.measured(prefilled, begin.elapsed());
        for (number, index) in outputs {
            self.advance(number, index);
        }
    }

    /// After a failed step nobody knows what the sequences of the batch hold: they are cleared.
    fn fail_step(&mut self, shares: &[usize], error: &LlamaError) {
        for (number, _) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            self.context.forget(sequence(number));
            self.slots[number].cached.tokens.clear();
            self.fail(
                number,
                Error {
                    kind: ErrorKind::Failed,
                    message: format!("failed to {error}"),
                },
            );
        }
    }

    fn fail(&mut self, number: usize, error: Error) {
        if let Some(active) = self.slots[number].active.take() {
            active.job.mailbox.send(Event::Error(error));
        }
    }

    /// Picks the slot's next token and decides whether the answer goes on.
    fn advance(&mut self, number: usize, index: usize) {
        let Some(active) = &mut self.slots[number].active else {
            return;
        };
        let request = &active.job.request;
        let choice = self
            .context
            .logits(index)
            .ok_or(sampling::NotFinite)
            .and_then(|logits| {
                let top = usize::from(request.top_logprobs);
                sampling::choose(
                    logits,
                    &request.sampling,
                    &mut active.random,
                    top,
                    &mut self.scratch,
                )
            });
        let choice = match choice {
            Ok(choice) => choice,
            Err(error) => {
                let message = format!("failed to {error}");
                self.fail(
                    number,
                    Error {
                        kind: ErrorKind::Failed,
                        message,
                    },
                );
                return;
            }
        };
        active.first.get_or_insert_with(Instant::now);
        if self.vocab.ends(choice.token) {
            self.finish(number, FinishReason::Stop);
            return;
        }
        let mut bytes = Vec::new();
        self.vocab.piece(choice.token, false, &mut bytes);
        let vocab = self.vocab;
        let top = self.scratch.top.iter().map(|(token, logprob)| {
            let mut bytes = Vec::new();
            vocab.piece(*token, true, &mut bytes);
            Alternative {
                bytes,
                logprob: *logprob,
            }
        });
        let mailbox = Arc::clone(&active.job.mailbox);
        let stopped = active
            .answer
            .push(bytes, choice.logprob, top.collect(), |event| mailbox.send(event));
        self.tokens += 1;
        let most = request.max_tokens.unwrap_or(u32::MAX);
        let full = active.job.prompt.len() + active.answer.tokens() as usize >= self.context_size;
        if stopped {
            self.finish(number, FinishReason::Stop);
        } else if full || active.answer.tokens() >= most {
            self.finish(number, FinishReason::Length);
        } else {
            active.next = Some(choice.token);
        }
    }

    fn finish(&mut self, number: usize, finish_reason: FinishReason) {
        let Some(mut active) = self.slots[number].active.take() else {
            return;
        };
        let now = Instant::now();
        let first = active.first.unwrap_or(now);
        let mailbox = Arc::clone(&active.job.mailbox);
        active.answer.finish(|event| mailbox.send(event));
        mailbox.send(Event::Done(Done {
            finish_reason,
            prompt_tokens: count(active.job.prompt.len()),
            cached_tokens: active.cached,
            completion_tokens: active.answer.tokens(),
            queue_ms: milliseconds(active.admitted - active.job.queued),
            prefill_ms: milliseconds(first - active.admitted),
            decode_ms: milliseconds(now - first),
        }));
    }
}
