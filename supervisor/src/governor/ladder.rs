//! The decision: samples go in, moves come out. Pure: no I/O, and no clock but the time it is told, which is a
//! [`Duration`] since any moment.
//!
//! Down at once: past a rung only where the most it can free does not suffice for what is missing. Up one rung at a time, once it
//! has been calm for a while and what the climb takes fits below the line with a margin. A climb that had to be taken
//! back is tried again later each time.

use std::fmt;
use std::time::Duration;

use sarai_wire::memory::Rung;

use super::sample::{Bytes, Reading, Sample, Signal};
use super::terms::Terms;

/// Calm before each climb. Six of them, and the longest [`HOLD_MOST`], still lie within a minute.
pub const HOLD: Duration = Duration::from_secs(4);
/// Longest calm before a climb that was taken back before.
pub const HOLD_MOST: Duration = Duration::from_secs(20);
/// Pressure this soon after a climb means that it was one too many.
pub const REGRET: Duration = Duration::from_secs(30);
/// A move down needs this long to show in the figures.
pub const SETTLE: Duration = Duration::from_millis(900);
/// How long a move down may be under way before pressure asks for more.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// The same for stopping the primary, where the most that it can free suffices: its requests may end first, and so long
/// the actuator gives it. Beyond it is only refusing. A context that is not smaller by then belongs to an engine that the
/// kernel slows down: in a recorded leak, waiting for it kept clients from their first token for six seconds.
pub const PATIENCE_STOP: Duration = Duration::from_secs(10);
/// How far growth is thought on while a move takes effect.
const AHEAD: Duration = Duration::from_millis(1500);

/// A move to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// From which rung.
    pub from: Rung,
    /// To which.
    pub to: Rung,
    /// Why: the pressure, or how calm it is.
    pub why: Why,
    /// Bytes it is to free, or to take.
    pub predicted: u64,
}

/// Why a move is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There is pressure.
    Pressure(Signal),
    /// There is none, for so long, and so many bytes of room.
    Calm(Duration, u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Pressure(signal) => signal.fmt(f),
            Self::Calm(calm, room) => {
                write!(f, "no pressure for {} s, {} of room", calm.as_secs(), Bytes(room))
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Under {
    from: Rung,
    since: Duration,
    /// Bytes it can free at most; of a climb, none.
    most: u64,
}

/// Where the ladder stands.
#[derive(Debug, Clone)]
pub struct Ladder {
    rung: Rung,
    under_way: Option<Under>,
    moved: Duration,
    pressed: Option<Duration>,
    /// The last move, where that was a climb.
    climbed: Option<Duration>,
    /// Calm before the first climb after pressure.
    hold: Duration,
    last: Option<(Duration, i64)>,
    /// What was lost between the two samples before, thought on.
    lost: i64,
}

impl Ladder {
    /// A ladder that stands at `rung`.
    #[must_use]
    pub fn at(rung: Rung, now: Duration) -> Self {
        Self {
            rung,
            under_way: None,
            moved: now,
            pressed: None,
            climbed: None,
            hold: HOLD,
            last: None,
            lost: 0,
        }
    }

    /// Where it stands; while a move is under way, where that leads.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Takes in a sample and decides. A move that comes out is under way until [`Self::done`], or until the next one
    /// comes out, which replaces it.
    pub fn decide(&mut self, now: Duration, sample: &Sample, terms: &Terms) -> Option<Move> {
        let reading = sample.read();
        let grown = self.growth(now, reading.room);
        if let Some(signal) = reading.pressure {
            self.pressed = Some(now);
            return self.step_back(now, &reading, signal, grown, terms);
        }
        if !reading.calm {
            self.pressed = Some(now);
            return None;
        }
        self.climb(now, &reading, terms)
    }

    /// The move under way has ended.
    pub fn done(&mut self, now: Duration) {
        if self.under_way.take().is_some() {
            self.moved = now;
            // What the move did is no growth.
            self.last = None;
        }
    }

    /// Bytes that the need grows by while a move takes effect. One jump is no growth: it has to go on.
    fn growth(&mut self, now: Duration, room: i64) -> i64 {
        let Some((before, had)) = self.last.replace((now, room)) else {
            self.lost = 0;
            return 0;
        };
        let passed = now.saturating_sub(before).as_millis().max(1);
        let lost = i128::from(had.saturating_sub(room).max(0));
        let ahead =
            lost * i128::try_from(AHEAD.as_millis()).unwrap_or(0) / i128::try_from(passed).unwrap_or(1);
        let lost = i64::try_from(ahead).unwrap_or(i64::MAX);
        std::mem::replace(&mut self.lost, lost).min(lost)
    }

    fn step_back(
        &mut self,
        now: Duration,
        reading: &Reading,
        signal: Signal,
        grown: i64,
        terms: &Terms,
    ) -> Option<Move> {
        let missing = reading.room.min(0).saturating_neg().saturating_add(grown).max(1);
        let missing = u64::try_from(missing).unwrap_or(u64::MAX);
        match self.under_way {
            // Above where it came from: that climb is taken back at once.
            Some(Under { from, .. }) if from > self.rung => {
                self.regret(now);
                let why = Why::Pressure(signal);
                return Some(self.go(now, from, why, (taken(terms, self.rung, from), 0)));
            }
            Some(Under { since, most, .. }) if now.saturating_sub(since) < self.patience(most, missing) => {
                return None;
            }
            None if now.saturating_sub(self.moved) < SETTLE => return None,
            _ => {}
        }
        let mut below = Rung::ALL
            .into_iter()
            .filter(|rung| *rung > self.rung && terms[*rung as usize].exists);
        let Some(mut to) = below.next() else {
            let skipped = terms[Rung::Fallback as usize];
            return skipped.skipped.then(|| {
                let why = Why::Pressure(signal);
                self.go(now, Rung::Fallback, why, (skipped.frees, skipped.most))
            });
        };
        let mut freed = terms[to as usize].frees;
        let mut most = terms[to as usize].most;
        // The last rung frees nothing: it is for when all others did not suffice, and that is seen, not predicted.
        for rung in below.filter(|rung| *rung != Rung::Refusing) {
            if most >= missing {
                break;
            }
            to = rung;
            freed = freed.saturating_add(terms[rung as usize].frees);
            most = most.saturating_add(terms[rung as usize].most);
        }
        self.regret(now);
        Some(self.go(now, to, Why::Pressure(signal), (freed, most)))
    }

    /// Pressure came: soon after a climb that was one too many, and the next has to wait longer; long after it that is
    /// another story.
    fn regret(&mut self, now: Duration) {
        if let Some(climbed) = self.climbed.take() {
            self.hold = if now.saturating_sub(climbed) <= REGRET {
                (self.hold * 2).min(HOLD_MOST)
            } else {
                HOLD
            };
        }
    }

    fn climb(&mut self, now: Duration, reading: &Reading, terms: &Terms) -> Option<Move> {
        if self.under_way.is_some() {
            return None;
        }
        let to = Rung::ALL
            .into_iter()
            .rfind(|rung| *rung < self.rung && terms[*rung as usize].exists)?;
        let since = self.pressed.map_or(self.moved, |pressed| pressed.max(self.moved));
        let calm = now.saturating_sub(since);
        // Only the first has to prove that the pressure is gone.
        if calm < self.climbed.map_or(self.hold, |_| HOLD) {
            return None;
        }
        let takes = taken(terms, to, self.rung);
        let left = reading
            .room
            .saturating_sub(i64::try_from(takes).unwrap_or(i64::MAX));
        if left < reading.margin {
            return None;
        }
        let room = u64::try_from(reading.room).unwrap_or(0);
        self.climbed = Some(now);
        Some(self.go(now, to, Why::Calm(calm, room), (takes, 0)))
    }

    /// How long the move down under way, which can free `most` bytes, is waited for while `missing` bytes are. What it
    /// has freed so far is missing no more, so that it is judged too kindly rather than too hard; the longest wait bounds
    /// that.
    fn patience(&self, most: u64, missing: u64) -> Duration {
        if self.rung == Rung::Fallback && most >= missing {
            PATIENCE_STOP
        } else {
            PATIENCE
        }
    }

    /// Begins a move that is to free or take the first number of bytes, and can free the second at most.
    fn go(&mut self, now: Duration, to: Rung, why: Why, (predicted, most): (u64, u64)) -> Move {
        let from = std::mem::replace(&mut self.rung, to);
        self.under_way = Some(Under {
            from,
            since: now,
            most,
        });
        Move {
            from,
            to,
            why,
            predicted,
        }
    }
}

/// What climbing from `below` to `above` takes.
fn taken(terms: &Terms, above: Rung, below: Rung) -> u64 {
    Rung::ALL
        .into_iter()
        .filter(|rung| *rung > above && *rung <= below && terms[*rung as usize].exists)
        .map(|rung| terms[rung as usize].takes)
        .fold(0, u64::saturating_add)
}
