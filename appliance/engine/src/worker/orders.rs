//! What the decode thread does when memory is to be given back.

use std::time::Instant;

use sarai_wire::birth::FromEngine;
use sarai_wire::engine::Event;
use sarai_wire::memory::{Ease, Eased};

use super::Worker;
use crate::easing::{self, Change};
use crate::llama::LlamaError;
use crate::memory::sequence;
use crate::shared::Order;
use crate::{info, resident};

impl Worker<'_> {
    /// Does what was ordered, or has it wait.
    pub(super) fn obey(&mut self, order: Order) {
        let before = self.easing.resident.anonymous();
        match order.ease {
            Ease::DropCaches => {
                self.drop_caches();
                self.report(&order, before, None);
            }
            Ease::Context { tokens } => {
                if let Err(why) = easing::check(tokens, self.easing.most()) {
                    return self.report(&order, before, Some(why));
                }
                if tokens as usize == self.context_size {
                    self.refuse_change("the present one is to stay after all");
                    return self.report(&order, before, None);
                }
                if let Some(replaced) = self.easing.plan(order, tokens) {
                    self.refuse(&replaced, "another one was ordered before it came about");
                }
            }
        }
    }

    /// The change that waits will not come about.
    pub(super) fn refuse_change(&mut self, why: &str) {
        if let Some(change) = self.easing.give_up() {
            self.refuse(&change, why);
        }
    }

    fn refuse(&mut self, change: &Change, why: &str) {
        let before = self.easing.resident.anonymous();
        let why = format!("use a context of {} tokens: {why}", change.tokens);
        self.report(&change.order, before, Some(why));
    }

    /// Forgets what no running request needs.
    fn drop_caches(&mut self) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            slot.cached.saved = Vec::new();
            if slot.active.is_none() {
                self.context.forget(sequence(number));
                slot.cached.tokens = Vec::new();
            }
        }
        self.easing.grammars.forget();
        self.give_up_spare_adapters();
        resident::trim();
    }

    /// Makes the context anew in another size. Whoever runs goes on in it, whoever waits and does not fit is told so.
    ///
    /// # Errors
    /// When neither the new one can be made nor one as before.
    pub(super) fn change(mut self, change: &Change) -> Result<Self, LlamaError> {
        let before = self.easing.resident.anonymous();
        let (context, refused) = self.context.remade(self.easing.sized(change.tokens))?;
        self.context = context;
        let params = self.context.params();
        self.context_size = params.context as usize;
        self.batch_size = params.batch as usize;
        self.pace.bound(self.batch_size);
        for slot in &mut self.slots {
            slot.carry_over(self.context_size);
        }
        {
            let mut inbox = self.shared.lock();
            inbox.context = params.context;
            inbox.queue.retain(|job| match job.check(params.context) {
                Ok(()) => true,
                Err(error) => {
                    job.mailbox.send(Event::Error(error));
                    false
                }
            });
        }
        resident::trim();
        self.report(&change.order, before, refused.map(|error| error.to_string()));
        Ok(self)
    }

    /// Tells what came of an order.
    fn report(&mut self, order: &Order, before: u64, refused: Option<String>) {
        let took = Instant::now().saturating_duration_since(order.came).as_millis();
        let eased = Eased {
            seq: order.seq,
            context: u32::try_from(self.context_size).unwrap_or(u32::MAX),
            before,
            after: self.easing.resident.anonymous(),
            took_ms: u64::try_from(took).unwrap_or(u64::MAX),
            // A packet has a bound.
            refused: refused.map(|why| why.chars().take(1024).collect()),
        };
        match &eased.refused {
            Some(why) => crate::warning!("failed to {why}"),
            None => info!(
                "memory: {:?} done in {} ms, {} kB before, {} kB after, {} tokens of context",
                order.ease,
                eased.took_ms,
                eased.before / 1024,
                eased.after / 1024,
                eased.context
            ),
        }
        (self.tell)(&FromEngine::Eased(eased));
    }
}
