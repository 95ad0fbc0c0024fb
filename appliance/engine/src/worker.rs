//! The decode thread: all slots together, one step after the other.

mod adapters;
mod begin;
mod orders;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sarai_wire::birth::FromEngine;
use sarai_wire::engine::{Error, ErrorKind, Event, FinishReason};

use crate::adapters::Adapters;
use crate::easing::Easing;
use crate::generating::StepError;
use crate::llama::adapter::Adapter;
use crate::llama::batch::Batch;
use crate::llama::context::Context;
use crate::llama::vocab::Vocab;
use crate::llama::{LlamaError, Token};
use crate::memory::{Kv, position, sequence};
use crate::plan::{self, Pace, State};
use crate::prefix;
use crate::probe::{Batches, Findings};
use crate::prompt::Markers;
use crate::sampling::Scratch;
use crate::scoring::{self, EXTRA_ROWS};
use crate::shared::{AdapterWish, Order, Shared, stopping};
use crate::slot::{Active, Slot, Work, count};
use crate::speculation::Costs;
use crate::turns::Turns;

/// How long requests that have a token already may go on after a stop.
const STOP_TIME: Duration = Duration::from_secs(5);
/// Shortest time between two words that there is work: what gave way does so for longer.
const TELL_AGAIN: Duration = Duration::from_millis(100);

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
    /// What a context may apply.
    adapters: Adapters<Rc<Adapter<'model>>>,
    /// Which adapter's requests the next step is for; those without one are one more kind.
    turns: Turns<Option<String>>,
    shared: Arc<Shared>,
    tell: Tell,
    /// Whether there was something to compute at the last look.
    works: bool,
    /// When the supervisor was last told that there is.
    told: Option<Instant>,
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
            costs: match findings.batches {
                Batches::Costs(costs) => Costs::new(costs),
                Batches::Unmeasured | Batches::Inexact => Costs::new([]),
            },
            clock: 0,
            tokens: 0,
            easing,
            adapters: Adapters::default(),
            turns: Turns::default(),
            shared,
            tell,
            works: false,
            told: None,
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
            if let Some(deadline) = deadline {
                let over = Instant::now() >= deadline;
                // Whoever has heard nothing yet loses nothing by asking elsewhere, and waits no longer than those in
                // the queue.
                for slot in &mut self.slots {
                    if over || !slot.is_heard() {
                        slot.fail(stopping());
                    }
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
        let (pings, orders, wishes) = loop {
            inbox.running = self.running();
            inbox.queue.retain(|job| !job.mailbox.is_cancelled());
            if inbox.stop {
                deadline.get_or_insert_with(|| Instant::now() + STOP_TIME);
                for job in inbox.queue.drain() {
                    job.mailbox.send(Event::Error(stopping()));
                }
            }
            let orders = std::mem::take(&mut inbox.orders);
            let wishes = std::mem::take(&mut inbox.wishes);
            if orders.is_empty() && wishes.is_empty() && !self.easing.waits() {
                self.admit(&mut inbox);
            }
            let pings = std::mem::take(&mut inbox.pings);
            let told = !(pings.is_empty() && orders.is_empty() && wishes.is_empty());
            if told || inbox.running > 0 || self.easing.waits() {
                break (pings, orders, wishes);
            }
            if inbox.stop {
                return false;
            }
            self.works = false;
            inbox = shared.wait(inbox);
        };
        let (queued, running, stop) = (count(inbox.queue.len()), count(inbox.running), inbox.stop);
        drop(inbox);
        self.tell_of_work(running > 0 || queued > 0);
        for seq in pings {
            (self.tell)(&FromEngine::Pong {
                seq,
                queued,
                running,
                tokens: self.tokens,
            });
        }
        self.obey_all(orders, wishes);
        self.forget_unneeded();
        if stop {
            self.refuse_change("the engine is stopping");
        }
        true
    }

    /// Has others give way as soon as there is work.
    fn tell_of_work(&mut self, works: bool) {
        let begins = works && !std::mem::replace(&mut self.works, works);
        if begins && self.told.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
            self.told = Some(Instant::now());
            (self.tell)(&FromEngine::Busy);
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

    fn obey_all(&mut self, orders: VecDeque<Order>, wishes: VecDeque<AdapterWish>) {
        for order in orders {
            self.obey(order);
        }
        for wish in wishes {
            self.grant(wish);
        }
    }

    /// Where every slot stands as far as the next step is for it: those of the adapter whose turn it is.
    fn next_turn(&mut self) -> Option<(Vec<State>, bool, Option<String>)> {
        let slots = self.slots.iter();
        let active = slots.filter_map(|slot| Some(&slot.active.as_ref()?.job.key.adapter));
        let turn = self.turns.next(active)?;
        let mut states: Vec<State> = self.slots.iter().map(Slot::state).collect();
        // Those whose turn it is not wait for this step too.
        let generating = states.contains(&State::Generate);
        for (state, slot) in states.iter_mut().zip(&self.slots) {
            if slot
                .active
                .as_ref()
                .is_some_and(|active| active.job.key.adapter != turn)
            {
                *state = State::Idle;
            }
        }
        Some((states, generating, turn))
    }

    /// Decodes one batch and samples from it.
    fn step(&mut self) {
        let Some((states, generating, adapter)) = self.next_turn() else {
            return;
        };
        let mut shares = plan::step(&states, self.pace.chunk(generating), self.batch_size);
        self.batch.clear();
        let mut outputs = Vec::new();
        let mut prefilled = 0;
        let mut spare_rows = EXTRA_ROWS;
        // Others would wait for what may turn out wrong.
        let alone = self.running() == 1 && self.may_look_ahead(adapter.as_deref());
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
        if let Err(error) = self.decode(adapter.as_deref()) {
            crate::error!("failed to {error}");
            self.fail_step(&shares, &error);
            return;
        }
        self.pace.measured(prefilled, begin.elapsed());
        if !self.forgets {
            self.save_states(&shares);
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
    fn save_states(&mut self, shares: &[usize]) {
        for (number, slot) in self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| shares[*number] > 0)
        {
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
