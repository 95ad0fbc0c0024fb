//! The decode thread: all slots together, one step after the other.

mod orders;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sarai_wire::birth::FromEngine;
use sarai_wire::engine::{Error, ErrorKind, Event, FinishReason};

use crate::admission::{Beginning, beginning};
use crate::easing::Easing;
use crate::generating::StepError;
use crate::llama::batch::Batch;
use crate::llama::context::Context;
use crate::llama::vocab::Vocab;
use crate::llama::{LlamaError, Token};
use crate::memory::{Kv, position, sequence};
use crate::plan::{self, Pace, State};
use crate::prefix::{self, Idle};
use crate::probe::Findings;
use crate::prompt::Markers;
use crate::sampling::Scratch;
use crate::scoring::{self, EXTRA_ROWS};
use crate::shared::{Inbox, Job, Shared, stopping};
use crate::slot::{Active, Slot, Work, count};
use crate::speculation::Costs;

/// How long running requests may go on after a stop.
const STOP_TIME: Duration = Duration::from_secs(5);

/// Tells the supervisor something.
pub type Tell = Box<dyn FnMut(&FromEngine) + Send>;

/// The decode thread's whole state.
pub struct Worker<'model> {
    context: Context<'model>,
    vocab: Vocab<'model>,
    markers: Arc<Markers>,
    slots: Vec<Slot>,
    batch: Batch,
    /// Tokens of one step now.
    batch_size: usize,
    /// Tokens of one request now.
    context_size: usize,
    pace: Pace,
    scratch: Scratch,
    /// Whether sequences can forget their end.
    forgets: bool,
    /// What it costs to look ahead; nothing is known about models that cannot take tokens back.
    costs: Costs,
    clock: u64,
    tokens: u64,
    easing: Easing,
    shared: Arc<Shared>,
    tell: Tell,
}

/// A position whose logits were asked for.
struct Output {
    /// The slot.
    number: usize,
    /// In the batch.
    index: usize,
    /// In the slot's sequence.
    at: usize,
    /// The token that was decoded ahead in the next position.
    ahead: Option<Token>,
}

impl<'model> Worker<'model> {
    /// A worker with empty slots, as many and as large as the context has.
    pub fn new(
        context: Context<'model>,
        vocab: Vocab<'model>,
        markers: Arc<Markers>,
        findings: Findings,
        easing: Easing,
        shared: Arc<Shared>,
        tell: Tell,
    ) -> Self {
        let begun = context.params();
        let batch = begun.batch as usize;
        Self {
            context,
            vocab,
            markers,
            slots: (0..begun.slots).map(|_| Slot::default()).collect(),
            // Large enough for what it may grow to.
            batch: Batch::new(easing.sized(easing.most()).batch as usize),
            batch_size: batch,
            context_size: begun.context as usize,
            pace: Pace::new(batch),
            scratch: Scratch::new(vocab.len()),
            forgets: findings.forgets,
            costs: Costs::new(findings.costs),
            clock: 0,
            tokens: 0,
            easing,
            shared,
            tell,
        }
    }

    /// Works until the supervisor asks to stop.
    ///
    /// # Errors
    /// When the context was to be changed and cannot be made again in any size.
    pub fn run(mut self) -> Result<(), LlamaError> {
        let mut deadline = None;
        loop {
            if !self.take_orders(&mut deadline) {
                return Ok(());
            }
            self.drop_cancelled();
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                for slot in &mut self.slots {
                    slot.fail(stopping());
                }
            }
            if let Some(change) = self.easing.due(self.running()) {
                self = self.change(&change)?;
            }
            self.step();
        }
    }

    fn running(&self) -> usize {
        self.slots.iter().filter(|slot| slot.active.is_some()).count()
    }

    /// Reads the inbox and does what was ordered, waiting while there is nothing to do. `false` when it is time to leave.
    fn take_orders(&mut self, deadline: &mut Option<Instant>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut inbox = shared.lock();
        let (pings, orders) = loop {
            inbox.running = self.running();
            inbox.queue.retain(|job| !job.mailbox.is_cancelled());
            if inbox.stop {
                deadline.get_or_insert_with(|| Instant::now() + STOP_TIME);
                for job in inbox.queue.drain() {
                    job.mailbox.send(Event::Error(stopping()));
                }
            }
            let orders = std::mem::take(&mut inbox.orders);
            if orders.is_empty() && !self.easing.waits() {
                self.admit(&mut inbox);
            }
            let pings = std::mem::take(&mut inbox.pings);
            if !pings.is_empty() || !orders.is_empty() || inbox.running > 0 || self.easing.waits() {
                break (pings, orders);
            }
            if inbox.stop {
                return false;
            }
            inbox = shared.wait(inbox);
        };
        let (queued, running, stop) = (count(inbox.queue.len()), count(inbox.running), inbox.stop);
        drop(inbox);
        for seq in pings {
            (self.tell)(&FromEngine::Pong {
                seq,
                queued,
                running,
                tokens: self.tokens,
            });
        }
        for order in orders {
            self.obey(order);
        }
        if stop {
            self.refuse_change("the engine is stopping");
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
        let mut beginnings: Vec<Option<Beginning>> = self
            .slots
            .iter()
            .map(|slot| {
                let idle = slot.active.is_none();
                idle.then(|| beginning(&job, &slot.cached, self.vocab, &self.markers, self.context_size))
            })
            .collect();
        let idle = beginnings.iter().enumerate().filter_map(|(number, beginning)| {
            let slot = &self.slots[number];
            Some(Idle {
                slot: number,
                common: beginning.as_ref()?.common,
                held: slot.cached.tokens.len(),
                used: slot.used,
            })
        });
        let chosen = prefix::choose(idle, job.prompt.len());
        let Some((number, Beginning { known, common })) =
            chosen.and_then(|number| Some((number, beginnings[number].take()?)))
        else {
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
        let active = slot
            .active
            .insert(Active::begin(job, known, kept, self.context_size));
        if active.is_complete() {
            slot.finish(FinishReason::Stop);
        }
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
        let states: Vec<State> = self.slots.iter().map(Slot::state).collect();
        let generating = states.contains(&State::Generate);
        let mut shares = plan::step(&states, self.pace.chunk(generating), self.batch_size);
        self.batch.clear();
        let mut outputs = Vec::new();
        let mut prefilled = 0;
        let mut spare_rows = EXTRA_ROWS;
        // Others would wait for what may turn out wrong.
        let alone = self.running() == 1;
        for (number, share) in shares.iter_mut().enumerate().filter(|(_, share)| **share > 0) {
            let slot = &mut self.slots[number];
            let Some(active) = &mut slot.active else { continue };
            let begin = slot.cached.tokens.len();
            if begin >= active.known.len()
                && let Some(token) = active.next()
            {
                slot.cached.tokens.push(token);
                if alone && let Work::Generate(generating) = &mut active.work {
                    let room = self.context_size.min(begin + self.batch_size) - begin - 1;
                    slot.cached
                        .tokens
                        .extend(generating.ahead(&self.costs, room.min(EXTRA_ROWS)));
                }
                for at in begin..slot.cached.tokens.len() {
                    let token = slot.cached.tokens[at];
                    let index = self.batch.push(token, position(at), sequence(number), true);
                    let ahead = slot.cached.tokens.get(at + 1).copied();
                    outputs.push(Output {
                        number,
                        index,
                        at,
                        ahead,
                    });
                }
                continue;
            }
            if !self.forgets && begin < active.mark() {
                // A step ends where the state is to be saved.
                *share = (*share).min(active.mark() - begin);
            }
            if let Work::Score(scoring) = &active.work {
                let first = active.prompt - 1 + scoring.tokens.len();
                *share = scoring::share(*share, begin, first, spare_rows + 1);
            }
            prefilled += *share;
            let mut rows = 0_usize;
            for at in begin..begin + *share {
                let needed = active.needs_logits(at);
                let index = self
                    .batch
                    .push(active.known[at], position(at), sequence(number), needed);
                if needed {
                    rows += 1;
                    outputs.push(Output {
                        number,
                        index,
                        at,
                        ahead: None,
                    });
                }
            }
            spare_rows -= rows.saturating_sub(1);
            let known = &active.known[begin..begin + *share];
            slot.cached.tokens.extend_from_slice(known);
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
        if !self.forgets {
            self.save_states();
        }
        for output in outputs {
            self.take(&output);
            if let Some(ahead) = output.ahead
                && !self.was_right(output.number, ahead)
            {
                // It was alone in the batch: what else there is was built on a wrong token.
                self.take_back(output.number, output.at + 1);
                break;
            }
        }
        for slot in &mut self.slots {
            // The last token of a scored text has no logits that anyone needs.
            if slot.is_scored() {
                slot.finish(FinishReason::Stop);
            }
        }
    }

    /// Saves the state of every slot that has just read its prompt but for the last token.
    fn save_states(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let at = slot.cached.tokens.len();
            if slot.active.as_ref().is_some_and(|active| active.mark() == at)
                && let Some(state) = self.context.save(sequence(number))
            {
                slot.cached.save(state);
            }
        }
    }

    fn was_right(&mut self, number: usize, ahead: Token) -> bool {
        match &mut self.slots[number].active {
            Some(Active {
                work: Work::Generate(generating),
                ..
            }) => generating.was_right(ahead),
            // The answer ended.
            _ => false,
        }
    }

    /// Makes a slot forget what it decoded from `at` on.
    fn take_back(&mut self, number: usize, at: usize) {
        let slot = &mut self.slots[number];
        let kept = prefix::rewind(&mut Kv(&mut self.context), number, &mut slot.cached, at);
        if kept != at {
            // Looking ahead is for models that can forget; here one could not after all.
            slot.fail(failed(
                &"take tokens back: the model's memory cannot forget a part",
            ));
        }
    }

    /// After a failed step nobody knows what the sequences of the batch hold: they are cleared.
    fn fail_step(&mut self, shares: &[usize], error: &LlamaError) {
        for (number, _) in shares.iter().enumerate().filter(|(_, share)| **share > 0) {
            self.context.forget(sequence(number));
            let slot = &mut self.slots[number];
            slot.cached.tokens.clear();
            slot.cached.saved.clear();
            slot.fail(failed(error));
        }
    }

    /// Takes what the logits of one position say.
    fn take(&mut self, output: &Output) {
        let slot = &mut self.slots[output.number];
        let Some(active) = &mut slot.active else { return };
        let logits = self.context.logits(output.index);
        match &mut active.work {
            Work::Score(scoring) => {
                let token = active.known[output.at + 1];
                if let Err(error) = scoring.add(token, logits, self.vocab) {
                    slot.fail(failed(&error));
                }
            }
            Work::Generate(generating) => {
                let room = self.context_size - (output.at + 1).min(self.context_size);
                let choice = match generating.choose(logits, &mut self.scratch) {
                    Ok(choice) => choice,
                    Err(error) => return slot.fail(step_failed(&error)),
                };
                if self.vocab.ends(choice.token) {
                    return slot.finish(FinishReason::Stop);
                }
                self.tokens += 1;
                let mailbox = &active.job.mailbox;
                match generating.accept(choice, &self.scratch.top, self.vocab, room, mailbox) {
                    Ok(None) => {}
                    Ok(Some(FinishReason::Length)) if active.is_cut(self.context_size) => {
                        let error = active.outgrown(self.context_size);
                        slot.fail(error);
                    }
                    Ok(Some(reason)) => slot.finish(reason),
                    Err(error) => slot.fail(step_failed(&error)),
                }
            }
        }
    }
}

/// A constraint that cannot be kept to any longer is the request's; another engine would not do better.
fn step_failed(error: &StepError) -> Error {
    match error {
        StepError::Constraint(_) => Error {
            kind: ErrorKind::Invalid,
            message: format!("failed to {error}"),
        },
        StepError::NotFinite(_) => failed(error),
    }
}

fn failed(error: &impl std::fmt::Display) -> Error {
    Error {
        kind: ErrorKind::Failed,
        message: format!("failed to {error}"),
    }
}
