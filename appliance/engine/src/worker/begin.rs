//! How a request that waited gets its slot and its adapter.

use sarai_wire::engine::{Error, ErrorKind, Event, FinishReason};

use super::Worker;
use crate::admission::{Beginning, beginning};
use crate::memory::Kv;
use crate::prefix::{self, Idle};
use crate::shared::{Inbox, Job};
use crate::slot::Active;
use crate::validate::invalid;

impl Worker<'_> {
    /// Gives waiting requests to idle slots.
    pub(super) fn admit(&mut self, inbox: &mut Inbox) {
        while inbox.running < self.slots.len() {
            let Some(job) = inbox.queue.pop() else { return };
            self.begin(job);
            inbox.running = self.running();
        }
    }

    fn begin(&mut self, mut job: Job) {
        let adapter = match self.adapters.resolve(&job.apply) {
            Ok(adapter) => adapter.cloned(),
            Err(digest) => {
                let message = format!("the adapter {digest} is not loaded");
                return job.mailbox.send(Event::Error(invalid(message)));
            }
        };
        // From here to its end: the same tokens under another adapter are another text.
        job.key.adapter = adapter.as_ref().map(|adapter| adapter.digest.clone());
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
            .insert(Active::begin(job, known, kept, self.context_size, adapter));
        if active.is_complete() {
            slot.finish(FinishReason::Stop);
        }
    }
}
