//! One look at the memory, and what it says: how much room is left, and whether there is pressure. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trace::micros;

/// Share of the line that must stay free for a climb, and that is near to it: a 32nd.
const MARGIN: u64 = 32;
/// Share of the line that may still be idle where it counts as close: an eighth.
const NEAR: u64 = 8;
/// Share of the machine that is to stay available, where the appliance's own budget does not end first: a 32nd, and at
/// most 512 MiB.
const FLOOR: u64 = 32;
const MOST_FLOOR: u64 = 512 << 20;
/// Share of the time, in percent, in which some process of the subtree stood still for want of memory, from which on it
/// is pressure. The kernel's trigger waits for the same ([`super::psi`]).
pub(super) const STALLED: u64 = 15;
/// The same below which it is calm.
const UNSTALLED: u64 = 5;
/// Pages read again in a second, bytes, from which on they are pressure where the kernel does not say who stood still.
const REFAULTED: u64 = 16 << 20;

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The appliance's memory, where anybody counts it.
    pub own: Option<Own>,
    /// Physical memory of the machine, bytes; 0 when the kernel does not say.
    pub total: u64,
    /// What of it is available by the kernel's own estimate, bytes.
    pub available: u64,
    /// Time since the sample before.
    #[serde(with = "micros")]
    pub passed: Duration,
    /// What stopping the primary engine would free, bytes, where that is known.
    pub primary: Option<u64>,
}

/// The appliance's memory: the figures of its subtree, or natively the resident memory of its services.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Everything charged, bytes.
    pub current: u64,
    /// What of it the kernel can drop at no harm, bytes: file pages that nobody has mapped, and slab caches.
    pub idle: u64,
    /// The line to stay below, bytes.
    pub line: u64,
    /// The budget, bytes.
    pub budget: u64,
    /// File pages read again since the sample before, bytes.
    pub refaulted: u64,
    /// How often the budget was hit since then.
    pub hit: u64,
    /// How often it was hit and nothing could be dropped for it since then.
    pub failed: u64,
    /// Time since then in which some process stood still for want of memory; `None` when the kernel does not say.
    #[serde(with = "micros::option")]
    pub stalled: Option<Duration>,
}

impl Own {
    /// What is needed: what cannot be dropped at no harm, bytes.
    #[must_use]
    pub fn needed(&self) -> u64 {
        self.current.saturating_sub(self.idle)
    }

    /// Whether the line is close and little is left that could be dropped for it. Elsewhere, whoever stands still does
    /// not do so for want of what a rung frees.
    fn is_near(&self) -> bool {
        self.current >= self.line - self.line / MARGIN && self.idle <= self.line / NEAR
    }
}

/// What showed that memory is short. Its text is the reason of a move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// More is needed than the line allows.
    Line {
        /// Needed, bytes.
        needed: u64,
        /// The line, bytes.
        line: u64,
    },
    /// The budget itself was hit.
    Budget {
        /// How often.
        hit: u64,
        /// How often nothing could be dropped for it, and the kernel killed.
        failed: u64,
    },
    /// Processes stood still for want of memory, near the line.
    Stalled {
        /// Share of the time, percent.
        percent: u64,
        /// Charged, bytes.
        current: u64,
        /// The line, bytes.
        line: u64,
    },
    /// What was dropped had to be read again, near the line.
    Refaulted {
        /// Bytes in a second.
        rate: u64,
        /// Charged, bytes.
        current: u64,
        /// The line, bytes.
        line: u64,
    },
    /// The machine itself has too little left.
    Machine {
        /// Available, bytes.
        available: u64,
        /// What is to stay available, bytes.
        floor: u64,
    },
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Line { needed, line } => {
                write!(f, "{} are needed, the line is {}", Bytes(needed), Bytes(line))
            }
            Self::Budget { hit, failed: 0 } => write!(f, "the budget was hit {hit} time(s)"),
            Self::Budget { failed, .. } => {
                write!(
                    f,
                    "the budget was exceeded {failed} time(s), for which the kernel kills"
                )
            }
            Self::Stalled {
                percent,
                current,
                line,
            } => write!(
                f,
                "processes stood still for memory {percent} % of the time at {}, the line is {}",
                Bytes(current),
                Bytes(line)
            ),
            Self::Refaulted { rate, current, line } => write!(
                f,
                "{} a second were read again at {}, the line is {}",
                Bytes(rate),
                Bytes(current),
                Bytes(line)
            ),
            Self::Machine { available, floor } => write!(
                f,
                "the machine has {} available, {} are to stay",
                Bytes(available),
                Bytes(floor)
            ),
        }
    }
}

/// What a sample says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// What could still be taken, bytes; negative is what is missing.
    pub room: i64,
    /// What a climb has to leave free, bytes.
    pub margin: i64,
    /// Why there is pressure.
    pub pressure: Option<Signal>,
    /// Neither pressure nor a sign that there soon will be.
    pub calm: bool,
}

impl Sample {
    /// What it says.
    #[must_use]
    pub fn read(&self) -> Reading {
        let floor = (self.total / FLOOR).min(MOST_FLOOR);
        // A kernel that does not say how much is available does not say that none is.
        let machine = if self.total == 0 {
            i64::MAX
        } else {
            gap(self.available, floor)
        };
        let own = self.own.map_or(i64::MAX, |own| gap(own.line, own.needed()));
        let margin = self.own.map_or(floor, |own| own.line / MARGIN);
        let short = machine < 0;
        let pressure = self.own.and_then(|own| self.own_pressure(own)).or_else(|| {
            short.then_some(Signal::Machine {
                available: self.available,
                floor,
            })
        });
        Reading {
            room: own.min(machine),
            margin: signed(margin),
            pressure,
            calm: pressure.is_none() && !self.own.is_some_and(|own| self.uneasy(own)),
        }
    }

    fn own_pressure(&self, own: Own) -> Option<Signal> {
        let Own { current, line, .. } = own;
        if own.failed > 0 || own.hit > 0 && own.needed() > line - line / MARGIN {
            return Some(Signal::Budget {
                hit: own.hit,
                failed: own.failed,
            });
        }
        if own.needed() >= line {
            let needed = own.needed();
            return Some(Signal::Line { needed, line });
        }
        if !own.is_near() {
            return None;
        }
        match own.stalled {
            Some(stalled) => {
                let percent = self.percent(stalled);
                (percent >= STALLED).then_some(Signal::Stalled {
                    percent,
                    current,
                    line,
                })
            }
            // Without the kernel's word on who stood still, the pages themselves are the witness.
            None => {
                let rate = self.rate(own.refaulted);
                (rate >= REFAULTED).then_some(Signal::Refaulted { rate, current, line })
            }
        }
    }

    fn uneasy(&self, own: Own) -> bool {
        let stalls = own
            .stalled
            .is_some_and(|stalled| self.percent(stalled) >= UNSTALLED);
        own.is_near() && (stalls || self.rate(own.refaulted) >= REFAULTED)
    }

    fn percent(&self, part: Duration) -> u64 {
        let whole = self.passed.as_micros().max(1);
        u64::try_from(part.as_micros() * 100 / whole).unwrap_or(u64::MAX)
    }

    fn rate(&self, bytes: u64) -> u64 {
        let millis = u64::try_from(self.passed.as_millis()).unwrap_or(u64::MAX).max(1);
        bytes.saturating_mul(1000) / millis
    }
}

fn gap(high: u64, low: u64) -> i64 {
    signed(high).saturating_sub(signed(low))
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A number of bytes for people.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(bytes) = *self;
        #[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
        let scaled = |shift: u32| bytes as f64 / f64::from(1u32 << shift);
        match bytes {
            0..0x2800 => write!(f, "{bytes} bytes"),
            0x2800..0x0010_0000 => write!(f, "{:.0} KiB", scaled(10)),
            0x0010_0000..0x4000_0000 => write!(f, "{:.1} MiB", scaled(20)),
            _ => write!(f, "{:.2} GiB", scaled(30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(current: u64, idle: u64) -> Sample {
        Sample {
            own: Some(Own {
                current: current * MIB,
                idle: idle * MIB,
                line: 960 * MIB,
                budget: 1024 * MIB,
                stalled: Some(Duration::ZERO),
                ..Own::default()
            }),
            total: 16384 * MIB,
            available: 8192 * MIB,
            passed: Duration::from_secs(1),
            primary: None,
        }
    }

    fn with(sample: Sample, change: impl FnOnce(&mut Own)) -> Sample {
        let mut own = sample.own.unwrap();
        change(&mut own);
        Sample {
            own: Some(own),
            ..sample
        }
    }

    #[test]
    fn a_full_page_cache_is_no_pressure() {
        let reading = at(960, 400).read();
        assert_eq!(reading.pressure, None);
        assert_eq!(reading.room, 400 * MIB as i64);
        assert!(reading.calm);
    }

    #[test]
    fn what_cannot_be_dropped_above_the_line_is() {
        let reading = at(980, 10).read();
        let text = reading.pressure.unwrap().to_string();
        assert_eq!(text, "970.0 MiB are needed, the line is 960.0 MiB");
        assert_eq!(reading.room, -(10 * MIB as i64));
    }

    #[test]
    fn who_stands_still_counts_near_the_line_and_nowhere_else() {
        let half = |own: &mut Own| own.stalled = Some(Duration::from_millis(500));
        assert_eq!(with(at(500, 0), half).read().pressure, None);
        let signal = with(at(958, 80), half).read().pressure;
        assert!(
            matches!(signal, Some(Signal::Stalled { percent: 50, .. })),
            "{signal:?}"
        );
        assert_eq!(with(at(958, 500), half).read().pressure, None);
        let little = |own: &mut Own| own.stalled = Some(Duration::from_millis(80));
        let reading = with(at(958, 80), little).read();
        assert!(reading.pressure.is_none() && !reading.calm);
    }

    #[test]
    fn pages_read_again_are_the_witness_where_nobody_says_who_stood_still() {
        let again = |own: &mut Own| own.refaulted = 40 * MIB;
        let reading = with(at(958, 80), again).read();
        assert!(reading.pressure.is_none() && !reading.calm, "{reading:?}");
        let unknown = |own: &mut Own| (own.refaulted, own.stalled) = (40 * MIB, None);
        let signal = with(at(958, 80), unknown).read().pressure;
        assert!(matches!(signal, Some(Signal::Refaulted { .. })), "{signal:?}");
        assert_eq!(with(at(500, 0), unknown).read().pressure, None);
    }

    #[test]
    fn an_exceeded_budget_is_pressure_also_when_that_is_over() {
        let failed = |own: &mut Own| own.failed = 1;
        let signal = with(at(100, 0), failed).read().pressure.unwrap();
        assert!(signal.to_string().contains("exceeded 1 time(s)"), "{signal}");
    }

    #[test]
    fn without_a_subtree_the_machine_is_the_signal() {
        let sample = Sample {
            own: None,
            total: 8192 * MIB,
            available: 200 * MIB,
            passed: Duration::from_secs(1),
            primary: None,
        };
        let reading = sample.read();
        assert_eq!(reading.room, -(56 * MIB as i64));
        let text = reading.pressure.unwrap().to_string();
        assert_eq!(text, "the machine has 200.0 MiB available, 256.0 MiB are to stay");
        let silent = Sample { total: 0, ..sample };
        assert_eq!(silent.read().pressure, None);
    }

    #[test]
    fn bytes_are_said_in_a_unit_of_their_size() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (20480, "20 KiB"),
            (3 << 19, "1.5 MiB"),
            (10_630_044_057, "9.90 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }
}
