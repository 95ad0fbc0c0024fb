//! What is known of the ladder outside of the decision: where it stands, what it did, what the rungs are worth here.
//! Written by the governor and by the engines' drivers, read by `status`, by engines and gateway at their birth, and by
//! the governor itself when it has to start anew: it goes on where it stood.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use sarai_wire::control::{LadderStatus, MAX_MOVES, MoveStatus, RungStatus};
use sarai_wire::memory::{Rung, RungNotice};

use super::sample::Sample;
use super::terms::{Facts, Model, Terms, context_at};
use crate::problems::lock;

/// Seconds after which a refused client may try again: two climbs from the last rung have been possible by then.
const RETRY_AFTER: u32 = 10;

/// The engines that the ladder can ask for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that answers.
    Primary,
    /// The one that answers when the primary cannot.
    Fallback,
}

/// The book; every task has it.
#[derive(Debug)]
pub struct Book(Mutex<Page>);

#[derive(Debug)]
struct Page {
    rung: Rung,
    since: Instant,
    reason: String,
    sensed: String,
    facts: Facts,
    sample: Option<Sample>,
    moves: VecDeque<MoveStatus>,
    reached: [u64; Rung::ALL.len()],
    spent: [Duration; Rung::ALL.len()],
    ended: bool,
}

impl Default for Book {
    fn default() -> Self {
        Self(Mutex::new(Page {
            rung: Rung::Normal,
            since: Instant::now(),
            reason: String::new(),
            sensed: "not begun".to_owned(),
            facts: Facts::default(),
            sample: None,
            moves: VecDeque::new(),
            reached: [0; Rung::ALL.len()],
            spent: [Duration::ZERO; Rung::ALL.len()],
            ended: false,
        }))
    }
}

impl Book {
    /// Where the ladder stands.
    #[must_use]
    pub fn rung(&self) -> Rung {
        lock(&self.0).rung
    }

    /// It stands elsewhere from now on, for `reason`.
    pub(super) fn stand(&self, rung: Rung, reason: &str) {
        let mut page = lock(&self.0);
        let now = Instant::now();
        let before = page.rung as usize;
        let passed = now.saturating_duration_since(page.since);
        page.spent[before] += passed;
        if rung != page.rung {
            page.reached[rung as usize] += 1;
        }
        (page.rung, page.since) = (rung, now);
        page.reason = if rung == Rung::Normal {
            String::new()
        } else {
            reason.to_owned()
        };
    }

    /// What clients are told where it stands.
    #[must_use]
    pub fn notice(&self) -> RungNotice {
        let page = lock(&self.0);
        let configured = page.facts.primary.as_ref().map(|model| model.context);
        RungNotice {
            rung: page.rung,
            reason: page.reason.clone(),
            context: configured
                .filter(|_| page.rung < Rung::Fallback)
                .and_then(|tokens| context_at(page.rung, tokens)),
            retry_after_s: (page.rung == Rung::Refusing).then_some(RETRY_AFTER),
        }
    }

    /// The context that an engine is to have now, where that is less than `configured`.
    #[must_use]
    pub fn context(&self, which: Which, configured: u32) -> Option<u32> {
        match which {
            Which::Primary => context_at(self.rung(), configured),
            Which::Fallback => None,
        }
    }

    /// The context of the primary at `rung`, once it is known which it was configured with.
    pub(super) fn context_of_primary(&self, rung: Rung) -> Option<u32> {
        let page = lock(&self.0);
        let configured = page.facts.primary.as_ref()?.context;
        Some(context_at(rung, configured).unwrap_or(configured))
    }

    /// Whether the ladder has stopped the primary.
    #[must_use]
    pub fn stopped(&self) -> bool {
        lock(&self.0).facts.stopped
    }

    pub(super) fn set_stopped(&self, stopped: bool) {
        lock(&self.0).facts.stopped = stopped;
    }

    /// An engine is about to be born with this model.
    pub fn born(&self, which: Which, model: Model) {
        let mut page = lock(&self.0);
        let facts = &mut page.facts;
        let known = match which {
            Which::Primary => &mut facts.primary,
            Which::Fallback => &mut facts.fallback,
        };
        // What was measured with another model says nothing of this one.
        if which == Which::Primary && known.as_ref().is_some_and(|before| *before != model) {
            facts.measured = Default::default();
        }
        *known = Some(model);
    }

    /// Everything ends: nothing is started any more.
    pub fn end(&self) {
        lock(&self.0).ended = true;
    }

    /// Whether everything ends.
    #[must_use]
    pub fn ended(&self) -> bool {
        lock(&self.0).ended
    }

    /// How pressure is sensed.
    pub(super) fn sensed(&self, how: &str) {
        let mut page = lock(&self.0);
        if page.sensed != how {
            how.clone_into(&mut page.sensed);
        }
    }

    /// Takes in a sample and gives the steps as they are now.
    pub(super) fn look(&self, sample: Sample, fallback_serves: bool) -> Terms {
        let mut page = lock(&self.0);
        page.sample = Some(sample);
        page.facts.fallback_serves = fallback_serves;
        page.facts.terms(page.rung, sample.primary)
    }

    /// Takes in what a move did. `terms` are those it was decided by.
    pub(super) fn moved(&self, made: MoveStatus, terms: &Terms) {
        let mut page = lock(&self.0);
        // A stop that another move took the place of goes on: what it frees was counted by the kernel before, and will
        // be taken again by the climb from there.
        let stops = made.to == Rung::Fallback && made.from < made.to;
        let known = made.measured.or_else(|| stops.then_some(made.predicted));
        if let Some(bytes) = known {
            page.facts.measured(made.from, made.to, bytes, terms);
        }
        if page.moves.len() == MAX_MOVES {
            page.moves.pop_front();
        }
        page.moves.push_back(made);
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> LadderStatus {
        let page = lock(&self.0);
        let here = page.since.elapsed();
        let held = page.sample.and_then(|sample| sample.primary);
        let terms = page.facts.terms(page.rung, held);
        let own = page.sample.and_then(|sample| sample.own);
        LadderStatus {
            rung: page.rung,
            since_s: here.as_secs(),
            reason: page.reason.clone(),
            sensed: page.sensed.clone(),
            budget: own.map(|own| own.budget),
            high: own.map(|own| own.line),
            needed: own.map(|own| own.needed()),
            rungs: Rung::ALL
                .into_iter()
                .map(|rung| {
                    let n = rung as usize;
                    let more = if rung == page.rung { here } else { Duration::ZERO };
                    RungStatus {
                        rung,
                        exists: terms[n].exists,
                        frees: terms[n].frees,
                        reached: page.reached[n],
                        spent_s: (page.spent[n] + more).as_secs(),
                    }
                })
                .collect(),
            moves: page.moves.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(context: u32) -> Model {
        Model {
            digest: "a".into(),
            weights: 1 << 20,
            kv_per_token: 1024,
            context,
            slots: 2,
            kv_q8: false,
        }
    }

    #[test]
    fn engines_and_clients_are_told_of_the_rung_they_are_born_at() {
        let book = Book::default();
        book.born(Which::Primary, model(2048));
        assert_eq!(book.notice(), RungNotice::default());
        assert_eq!(book.context(Which::Primary, 2048), None);
        book.stand(Rung::HalfContext, "short");
        let notice = book.notice();
        assert_eq!((notice.context, notice.reason.as_str()), (Some(1024), "short"));
        assert_eq!(book.context(Which::Primary, 2048), Some(1024));
        assert_eq!(book.context(Which::Fallback, 2048), None);
        book.stand(Rung::Refusing, "shorter");
        assert_eq!(book.notice().retry_after_s, Some(RETRY_AFTER));
        book.stand(Rung::Normal, "calm");
        assert_eq!(book.notice(), RungNotice::default());
        let reached: Vec<u64> = book.status().rungs.iter().map(|rung| rung.reached).collect();
        assert_eq!(reached, [1, 0, 1, 0, 0, 0, 1]);
    }

    #[test]
    fn the_last_moves_are_remembered_and_no_more() {
        let book = Book::default();
        let terms = Terms::default();
        for n in 0..100 {
            let made = MoveStatus {
                took_ms: n,
                ..MoveStatus::default()
            };
            book.moved(made, &terms);
        }
        let moves = book.status().moves;
        assert_eq!(
            (moves.len(), moves[0].took_ms),
            (MAX_MOVES, 100 - MAX_MOVES as u64)
        );
    }

    #[test]
    fn what_a_stop_frees_is_known_also_when_another_move_took_its_place() {
        let book = Book::default();
        let fallback = Model {
            digest: "b".into(),
            ..model(2048)
        };
        book.born(Which::Primary, model(2048));
        book.born(Which::Fallback, fallback);
        book.stand(Rung::QuarterContext, "short");
        let held = Sample {
            primary: Some(500 << 20),
            ..Sample::default()
        };
        let terms = book.look(held, true);
        let made = MoveStatus {
            from: Rung::QuarterContext,
            to: Rung::Fallback,
            predicted: terms[Rung::Fallback as usize].frees,
            measured: None,
            ..MoveStatus::default()
        };
        book.set_stopped(true);
        book.stand(Rung::Refusing, "shorter");
        book.moved(made, &terms);
        let terms = book.look(Sample::default(), true);
        assert_eq!(terms[Rung::Fallback as usize].takes, 500 << 20);
    }

    #[test]
    fn measurements_of_another_model_are_forgotten() {
        let book = Book::default();
        book.born(Which::Primary, model(2048));
        let terms = book.look(Sample::default(), true);
        let made = MoveStatus {
            from: Rung::Caches,
            to: Rung::HalfContext,
            measured: Some(77),
            ..MoveStatus::default()
        };
        book.moved(made, &terms);
        let half = |book: &Book| book.status().rungs[Rung::HalfContext as usize].frees;
        assert_eq!(half(&book), 77);
        book.born(Which::Primary, model(2048));
        assert_eq!(half(&book), 77);
        book.born(Which::Primary, model(4096));
        assert_eq!(half(&book), 2 * 2048 * 1024);
    }
}
