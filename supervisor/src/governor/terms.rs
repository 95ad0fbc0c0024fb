//! What each rung is on this machine: whether it is there, what stepping onto it frees, and what climbing back takes.
//! Pure.

use sarai_wire::birth::KvType;
use sarai_wire::bounds;
use sarai_wire::memory::Rung;
use serde::{Deserialize, Serialize};

/// What an engine keeps beside the KV cache of its slots, bytes: saved states, bounded there.
const SAVED: u64 = 64_000_000;

/// A model as its attestation describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// SHA-256 of the file.
    pub digest: String,
    /// Weights, bytes.
    pub weights: u64,
    /// KV cache of one token at 16-bit floats, bytes; 0 when the attestation does not say.
    pub kv_per_token: u64,
    /// Context it was started with, tokens.
    pub context: u32,
    /// Requests decoded at the same time.
    pub slots: u32,
    /// Element type of the KV cache.
    pub kv_q8: bool,
}

impl Model {
    /// KV cache of `context` tokens in each slot, bytes.
    #[must_use]
    pub fn kv(&self, context: u32) -> u64 {
        let bytes = self
            .kv_per_token
            .saturating_mul(u64::from(context))
            .saturating_mul(u64::from(self.slots));
        // A block of 32 numbers is 34 bytes instead of 64.
        if self.kv_q8 { bytes / 64 * 34 } else { bytes }
    }

    /// Whether `kv_type` is the one with 8-bit blocks.
    #[must_use]
    pub fn is_q8(kv_type: KvType) -> bool {
        kv_type == KvType::Q8_0
    }
}

/// What is known of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The primary's model, once verified.
    pub primary: Option<Model>,
    /// The fallback's.
    pub fallback: Option<Model>,
    /// Whether the fallback serves now.
    pub fallback_serves: bool,
    /// Whether the ladder has stopped the primary: it stands at or below [`Rung::Fallback`] then.
    pub stopped: bool,
    /// What the projector holds, bytes, where one is loaded.
    pub projector: Option<u64>,
    /// What each step freed or took when it was last made, bytes, by its number.
    pub measured: [Option<u64>; Rung::ALL.len()],
}

/// A step between a rung and the one above it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Whether the rung is there on this machine, now.
    pub exists: bool,
    /// Whether it was not there on the way down, and would be now.
    pub skipped: bool,
    /// What stepping onto it is expected to free, bytes.
    pub frees: u64,
    /// What it can free at most, bytes; everything where nobody knows.
    pub most: u64,
    /// What climbing from it takes, bytes.
    pub takes: u64,
}

/// The steps, by the number of the rung they lead onto.
pub type Terms = [Step; Rung::ALL.len()];

/// The context of one request at a rung, where that is less than `configured`.
#[must_use]
pub fn context_at(rung: Rung, configured: u32) -> Option<u32> {
    let tokens = match rung {
        Rung::Normal | Rung::Caches => return None,
        Rung::HalfContext => configured / 2,
        Rung::QuarterContext | Rung::TextOnly | Rung::Fallback | Rung::Refusing => configured / 4,
    };
    let least = *bounds::CONTEXT.start();
    let tokens = tokens.max(least.min(configured));
    (tokens < configured).then_some(tokens)
}

impl Facts {
    /// The steps, seen from `rung`, where the primary holds `primary` bytes.
    #[must_use]
    pub fn terms(&self, rung: Rung, primary: Option<u64>) -> Terms {
        let mut terms = Terms::default();
        let model = self.primary.as_ref();
        let kv = |rung: Rung| model.map_or(0, |m| m.kv(context_at(rung, m.context).unwrap_or(m.context)));
        let smaller = |rung: Rung, above: Rung| {
            model.is_some_and(|m| context_at(rung, m.context) != context_at(above, m.context))
        };
        for step in Rung::ALL {
            let known = self.measured[step as usize];
            let (exists, frees) = match step {
                Rung::Normal => (true, 0),
                Rung::Caches => (true, 0),
                Rung::HalfContext => (
                    smaller(step, Rung::Caches),
                    kv(Rung::Caches).saturating_sub(kv(step)),
                ),
                Rung::QuarterContext => (
                    smaller(step, Rung::HalfContext),
                    kv(Rung::HalfContext).saturating_sub(kv(step)),
                ),
                Rung::TextOnly => (self.projector.is_some(), self.projector.unwrap_or(0)),
                Rung::Fallback => (
                    self.stopped || rung < Rung::Fallback && self.may_stop(),
                    model.map_or(0, |m| m.weights) + kv(step),
                ),
                Rung::Refusing => (true, 0),
            };
            let frees = known.unwrap_or(frees);
            let skipped =
                step == Rung::Fallback && rung == Rung::Refusing && !self.stopped && self.may_stop();
            let most = match step {
                // What they grow to is another amount each time.
                Rung::Caches => frees.max(2 * SAVED),
                Rung::HalfContext | Rung::QuarterContext if known.is_none() && frees == 0 => u64::MAX,
                _ => frees,
            };
            terms[step as usize] = Step {
                exists,
                skipped,
                frees,
                most,
                takes: frees,
            };
        }
        // Nobody knows better what stopping the primary frees than who counts what it holds; what the steps before
        // free of it is theirs.
        if let Some(held) = primary.filter(|_| rung < Rung::Fallback && !self.stopped) {
            let before: u64 = Rung::ALL[..Rung::Fallback as usize]
                .iter()
                .filter(|step| **step > rung && terms[**step as usize].exists)
                .map(|step| terms[*step as usize].frees)
                .sum();
            let frees = held.saturating_sub(before);
            let stop = &mut terms[Rung::Fallback as usize];
            (stop.frees, stop.most) = (frees, frees);
        }
        terms
    }

    /// Without a second model of another kind that serves, stopping the first leaves nothing else.
    fn may_stop(&self) -> bool {
        self.fallback_serves
            && match (&self.primary, &self.fallback) {
                (Some(primary), Some(fallback)) => primary.digest != fallback.digest,
                _ => false,
            }
    }

    /// Takes in what a move from one rung to another freed, or took: it is known of a single step, and of the last of
    /// several where the others are.
    pub fn measured(&mut self, from: Rung, to: Rung, bytes: u64, terms: &Terms) {
        let (above, below) = (from.min(to), from.max(to));
        let steps = || {
            Rung::ALL
                .into_iter()
                .filter(move |step| *step > above && *step <= below)
        };
        let others: u64 = steps()
            .filter(|step| *step != below && terms[*step as usize].exists)
            .map(|step| terms[step as usize].frees)
            .sum();
        if below == Rung::Refusing {
            return;
        }
        let single = steps().filter(|step| terms[*step as usize].exists).count() <= 1;
        if single || below == Rung::Fallback {
            self.measured[below as usize] = Some(bytes.saturating_sub(others));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn model(digest: &str) -> Model {
        Model {
            digest: digest.into(),
            weights: 100 * MIB,
            kv_per_token: 16 * 1024,
            context: 2048,
            slots: 2,
            kv_q8: false,
        }
    }

    fn facts() -> Facts {
        Facts {
            primary: Some(model("a")),
            fallback: Some(model("b")),
            fallback_serves: true,
            ..Facts::default()
        }
    }

    fn frees(facts: &Facts, rung: Rung, held: Option<u64>) -> Vec<Option<u64>> {
        let terms = facts.terms(rung, held);
        terms
            .iter()
            .map(|step| step.exists.then_some(step.frees / MIB))
            .collect()
    }

    #[test]
    fn rungs_free_what_attestation_and_kernel_say() {
        let plain = [Some(0), Some(0), Some(32), Some(16), None, Some(116), Some(0)];
        assert_eq!(frees(&facts(), Rung::Normal, None), plain);
        let held = frees(&facts(), Rung::Normal, Some(300 * MIB));
        assert_eq!(held[Rung::Fallback as usize], Some(300 - 48));
        let quarter = frees(&facts(), Rung::QuarterContext, Some(252 * MIB));
        assert_eq!(quarter[Rung::Fallback as usize], Some(252));
    }

    #[test]
    fn rungs_that_are_not_there_are_told() {
        let there = |facts: &Facts| -> Vec<Rung> {
            let terms = facts.terms(Rung::Normal, None);
            Rung::ALL
                .into_iter()
                .filter(|rung| terms[*rung as usize].exists)
                .collect()
        };
        use Rung::{Caches, Fallback, HalfContext, Normal, QuarterContext, Refusing, TextOnly};
        let all = [Normal, Caches, HalfContext, QuarterContext, Fallback, Refusing];
        assert_eq!(there(&facts()), all);
        let without = all.map(|rung| if rung == Fallback { Refusing } else { rung });
        for change in [
            |f: &mut Facts| f.fallback_serves = false,
            |f: &mut Facts| f.fallback = None,
            |f: &mut Facts| f.fallback = Some(model("a")),
        ] {
            let mut facts = facts();
            change(&mut facts);
            assert_eq!(there(&facts), without[..5]);
        }
        let mut sees = facts();
        sees.projector = Some(MIB);
        assert!(there(&sees).contains(&TextOnly));
        let mut small = facts();
        small.primary.as_mut().unwrap().context = 128;
        assert_eq!(there(&small), [Normal, Caches, Fallback, Refusing]);
        assert_eq!(there(&Facts::default()), [Normal, Caches, Refusing]);
    }

    #[test]
    fn the_context_never_falls_below_what_an_engine_takes() {
        assert_eq!(context_at(Rung::Caches, 2048), None);
        assert_eq!(context_at(Rung::HalfContext, 2048), Some(1024));
        assert_eq!(context_at(Rung::Fallback, 2048), Some(512));
        assert_eq!(context_at(Rung::QuarterContext, 300), Some(128));
        assert_eq!(context_at(Rung::QuarterContext, 128), None);
    }

    #[test]
    fn what_was_measured_counts_more_than_what_was_computed() {
        let mut facts = facts();
        let terms = facts.terms(Rung::Caches, None);
        facts.measured(Rung::Caches, Rung::HalfContext, 40 * MIB, &terms);
        // Of several steps the last is known where the others are.
        let terms = facts.terms(Rung::HalfContext, Some(200 * MIB));
        facts.measured(Rung::HalfContext, Rung::Fallback, 200 * MIB, &terms);
        facts.stopped = true;
        let known = frees(&facts, Rung::Fallback, None);
        assert_eq!((known[2], known[5]), (Some(40), Some(184)));
        // Of several others none is.
        let before = facts.clone();
        facts.measured(Rung::Normal, Rung::QuarterContext, 7, &terms);
        assert_eq!(facts, before);
        // A climb says what its step takes.
        facts.measured(Rung::HalfContext, Rung::Caches, 50 * MIB, &terms);
        assert_eq!(facts.terms(Rung::HalfContext, None)[2].takes, 50 * MIB);
    }

    #[test]
    fn what_nobody_knows_may_suffice() {
        let mut facts = facts();
        let most = |facts: &Facts, rung: Rung| facts.terms(Rung::Normal, None)[rung as usize].most;
        assert_eq!(most(&facts, Rung::Caches), 2 * SAVED);
        assert_eq!(most(&facts, Rung::HalfContext), 32 * MIB);
        facts.primary.as_mut().unwrap().kv_per_token = 0;
        assert_eq!(most(&facts, Rung::HalfContext), u64::MAX);
        facts.measured[Rung::HalfContext as usize] = Some(7);
        assert_eq!(most(&facts, Rung::HalfContext), 7);
    }

    #[test]
    fn blocks_of_eight_bits_take_half_of_the_cache() {
        let small = Model {
            kv_q8: true,
            ..model("a")
        };
        assert_eq!(small.kv(2048), 64 * MIB / 64 * 34);
    }
}
