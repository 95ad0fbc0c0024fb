//! A machine whose memory obeys what the ladder does, a second at a time.

use std::time::Duration;

use sarai_wire::memory::Rung;

use crate::governor::ladder::{Ladder, Move};
use crate::governor::sample::{Own, Sample};
use crate::governor::terms::{Facts, Model, Terms};

pub const MIB: u64 = 1 << 20;
/// Time between two samples.
pub const TICK: Duration = Duration::from_secs(1);

/// A machine.
#[derive(Debug, Clone)]
pub struct World {
    pub line: u64,
    /// What everything needs at the first rung.
    pub base: u64,
    pub facts: Facts,
    /// What each step really frees, whatever is believed of it.
    pub frees: [u64; 7],
    pub ladder: Ladder,
    /// Where the machine is: it follows the ladder when a move ends.
    pub at: Rung,
    pub now: Duration,
    /// When the move under way ends.
    pub ends: Option<Duration>,
    /// How long a move takes.
    pub takes: Duration,
    pub moves: Vec<(Duration, Move)>,
    under: Option<(Move, Terms)>,
}

impl World {
    /// With a primary of `weights` and a KV cache of `kv`, MiB.
    pub fn new(line: u64, base: u64, weights: u64, kv: u64) -> Self {
        let model = |digest: &str| Model {
            digest: digest.into(),
            weights: weights * MIB,
            kv_per_token: kv * MIB / 4096,
            context: 2048,
            slots: 2,
            kv_q8: false,
        };
        let facts = Facts {
            primary: Some(model("a")),
            fallback: Some(model("b")),
            fallback_serves: true,
            ..Facts::default()
        };
        let terms = facts.terms(Rung::Normal, None);
        Self {
            line: line * MIB,
            base: base * MIB,
            frees: terms.map(|step| if step.exists { step.frees } else { 0 }),
            facts,
            ladder: Ladder::at(Rung::Normal, Duration::ZERO),
            at: Rung::Normal,
            now: Duration::ZERO,
            ends: None,
            takes: Duration::from_millis(500),
            moves: Vec::new(),
            under: None,
        }
    }

    /// What the rungs down to `rung` free.
    pub fn freed(&self, rung: Rung) -> u64 {
        self.frees[..=rung as usize].iter().sum()
    }

    /// What is needed at `rung` when something else takes `load`.
    pub fn need(&self, rung: Rung, load: u64) -> u64 {
        (self.base + load).saturating_sub(self.freed(rung))
    }

    pub fn sample(&self, load: u64) -> Sample {
        let needed = self.need(self.at, load);
        let budget = self.line / 15 * 16;
        let left = self.frees[..=Rung::Fallback as usize]
            .iter()
            .skip(self.at as usize + 1)
            .sum();
        Sample {
            own: Some(Own {
                current: needed,
                line: self.line,
                budget,
                stalled: Some(Duration::ZERO),
                ..Own::default()
            }),
            total: 1 << 40,
            available: 1 << 39,
            passed: TICK,
            primary: (!self.facts.stopped).then_some(left),
        }
    }

    /// A second passes, with `load` besides.
    pub fn second(&mut self, load: u64) -> Option<Move> {
        self.now += TICK;
        if let Some(ends) = self.ends
            && self.now >= ends
        {
            self.end(ends);
        }
        let sample = self.sample(load);
        let terms = self.facts.terms(self.at, sample.primary);
        let decided = self.ladder.decide(self.now, &sample, &terms)?;
        self.moves.push((self.now, decided));
        self.ends = Some(self.now + self.takes);
        self.under = Some((decided, terms));
        // A climb begins to take at once, a step back frees when it is done.
        if decided.to < decided.from {
            self.at = decided.to;
        }
        let there = terms[Rung::Fallback as usize].exists || terms[Rung::Fallback as usize].skipped;
        self.facts.stopped = decided.to >= Rung::Fallback && (there || self.facts.stopped);
        Some(decided)
    }

    fn end(&mut self, at: Duration) {
        self.ends = None;
        self.ladder.done(at);
        self.at = self.ladder.rung();
        if let Some((made, terms)) = self.under.take() {
            let bytes = self.freed(made.from).abs_diff(self.freed(made.to));
            self.facts.measured(made.from, made.to, bytes, &terms);
        }
    }

    /// The rungs that are there.
    pub fn there(&self) -> Vec<Rung> {
        let terms = self.facts.terms(self.at, None);
        Rung::ALL
            .into_iter()
            .filter(|rung| terms[*rung as usize].exists)
            .collect()
    }

    /// Changes from down to up and from up to down.
    pub fn turns(&self) -> usize {
        let down: Vec<bool> = self.moves.iter().map(|(_, m)| m.to > m.from).collect();
        down.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}
