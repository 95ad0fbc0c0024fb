//! What the decode thread does about adapters: loads them, has the context apply the one whose turn it is, and forgets
//! them.

use std::fs::File;
use std::rc::Rc;
use std::time::Instant;

use sarai_wire::adapter::{Adapter as Which, AdapterOrder};
use sarai_wire::birth::FromEngine;

use super::Worker;
use crate::adapters::Loaded;
use crate::llama::LlamaError;
use crate::llama::adapter::Adapter;
use crate::shared::AdapterWish;
use crate::{config, info, probe, resident, warning};

impl<'model> Worker<'model> {
    /// Begins with this adapter, or without one where it cannot be used; the supervisor is told why.
    pub fn born_with(&mut self, which: &Which, file: File) {
        let came = Instant::now();
        let done = self.load(which, file).and_then(|()| {
            // A digest that was loaded is kept.
            self.adapters.take_into_use(Some(&which.digest))
        });
        self.answer(0, came, done);
    }

    /// Does what the supervisor wishes about adapters.
    pub(super) fn grant(&mut self, wish: AdapterWish) {
        let AdapterWish {
            seq,
            order,
            file,
            came,
        } = wish;
        let done = match (order, file) {
            (AdapterOrder::Load { adapter }, Some(file)) => self.load(&adapter, file),
            (AdapterOrder::Load { .. }, None) => Err("load the adapter: no file came with the order".into()),
            (AdapterOrder::Use { digest }, _) => self.adapters.take_into_use(digest.as_deref()),
            (AdapterOrder::Drop { digest }, _) => self.adapters.give_up(&digest),
        };
        self.answer(seq, came, done);
    }

    fn answer(&mut self, seq: u64, came: Instant, done: Result<(), String>) {
        self.forget_unneeded();
        self.shared.lock().adapter = self.adapters.in_use().cloned();
        let took = Instant::now().saturating_duration_since(came).as_millis();
        let took = u64::try_from(took).unwrap_or(u64::MAX);
        let answer = self.adapters.answer(seq, took, done.err());
        match (&answer.refused, self.adapters.in_use()) {
            (Some(why), _) => warning!("failed to {why}"),
            (None, Some(used)) => info!("adapter {} {} is in use", used.short(), used.version),
            (None, None) => info!("no adapter is in use"),
        }
        (self.tell)(&FromEngine::Adapter(answer));
    }

    /// Errors fit after "failed to".
    fn load(&mut self, which: &Which, file: File) -> Result<(), String> {
        config::check_adapter(which).map_err(|why| format!("load the adapter: {why}"))?;
        if self.adapters.is_kept(&which.digest) {
            return Ok(());
        }
        // One that turns out to be none takes nobody's place.
        let loaded = self.try_load(which, file).map_err(|error| error.to_string())?;
        info!(
            "adapter {} {} loaded: {} bytes",
            which.short(),
            which.version,
            loaded.bytes
        );
        self.adapters.keep(loaded);
        Ok(())
    }

    fn try_load(&self, which: &Which, file: File) -> Result<Loaded<Rc<Adapter<'model>>>, LlamaError> {
        let adapter = Rc::new(Adapter::load(&self.context, file)?);
        let first = self.vocab.bos().unwrap_or(0);
        let exact = probe::try_adapter(&self.context, &adapter, first, self.costs.are_known())?;
        Ok(Loaded {
            which: which.clone(),
            bytes: adapter.bytes(),
            exact,
            adapter,
        })
    }

    /// Gives up the adapters that are kept for going back; the supervisor is told.
    pub(super) fn give_up_spare_adapters(&mut self) {
        if self.adapters.give_up_spare() {
            self.answer(0, Instant::now(), Ok(()));
        }
    }

    /// Gives back the memory of adapters that were given up, as far as nobody runs with them any more.
    pub(super) fn forget_unneeded(&mut self) {
        let slots = &self.slots;
        let running = |digest: &str| {
            let mut keys = slots
                .iter()
                .filter_map(|slot| slot.active.as_ref()?.job.key.adapter.as_deref());
            keys.any(|key| key == digest)
        };
        let unneeded = self.adapters.take_unneeded(running);
        if unneeded.is_empty() {
            return;
        }
        // The context may still hold one of them; the next step applies its own.
        if let Err(error) = self.context.apply(None) {
            warning!("failed to {error}");
        }
        for adapter in &unneeded {
            info!(
                "adapter {} {} forgotten",
                adapter.which.short(),
                adapter.which.version
            );
        }
        drop(unneeded);
        resident::trim();
    }

    /// Whether what is decoded ahead comes out as it would one by one.
    pub(super) fn may_look_ahead(&self, adapter: Option<&str>) -> bool {
        adapter.is_none_or(|digest| self.adapters.get(digest).is_some_and(|loaded| loaded.exact))
    }

    /// Decodes the batch with this adapter, which its requests began with.
    pub(super) fn decode(&mut self, adapter: Option<&str>) -> Result<(), LlamaError> {
        let apply = match adapter {
            None => None,
            Some(digest) => match self.adapters.get(digest) {
                Some(loaded) => Some(&loaded.adapter),
                // What a request began with is kept until it ends.
                None => return Err(LlamaError::Adapter(format!("{digest} is not loaded any more"))),
            },
        };
        self.context.apply(apply)?;
        self.context.decode(&mut self.batch)
    }
}
