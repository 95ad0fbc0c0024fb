//! What the governor saw and did, line by line, for who has to understand afterwards why the ladder moved: with
//! `[memory] trace = true` in the settings, `memory.jsonl` in the log folder, 1 MiB and the one before it.
//!
//! Every look is in it with all its figures, so that [`super::ladder`] can be run over it again.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use sarai_wire::memory::Rung;
use serde::{Deserialize, Serialize};

use super::ladder::Move;
use super::sample::Sample;
use super::terms::Terms;
use crate::logs::Rotated;

/// The file's name in the log folder.
pub const NAME: &str = "memory.jsonl";
/// Files kept beside the current one.
const KEEP: u32 = 1;
/// Entries that may wait for the disk: a minute of looks. What does not fit is lost and counted.
const QUEUE: usize = 64;

/// A line. Times are since the supervisor started, microseconds in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// The governor began, at this rung.
    Begun {
        /// When.
        #[serde(with = "micros")]
        at: Duration,
        /// The wall clock then, RFC 3339.
        time: String,
        /// Where the ladder stood.
        rung: Rung,
    },
    /// What the rungs are worth from now on; written when that has changed, before the look it was computed with.
    Terms(Terms),
    /// A look.
    Look {
        /// When.
        #[serde(with = "micros")]
        at: Duration,
        /// What was seen.
        sample: Sample,
    },
    /// The look before this line led to a move.
    Move {
        /// From which rung.
        from: Rung,
        /// To which.
        to: Rung,
        /// Why.
        reason: String,
        /// Bytes it is to free, or to take.
        predicted: u64,
    },
    /// The move under way ended, or another took its place.
    End {
        /// When.
        #[serde(with = "micros")]
        at: Duration,
        /// Whether another took its place.
        replaced: bool,
        /// Bytes freed or taken, where that is known.
        measured: Option<u64>,
    },
    /// So many entries before this one are missing: the disk was too slow, or took none.
    Lost(u64),
}

impl Entry {
    /// The entry of a decision.
    #[must_use]
    pub fn of(made: &Move) -> Self {
        Self::Move {
            from: made.from,
            to: made.to,
            reason: made.why.to_string(),
            predicted: made.predicted,
        }
    }
}

/// Durations in whole microseconds, which is what the kernel counts in.
pub(super) mod micros {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }

    /// The same where there may be none.
    pub(crate) mod option {
        use super::{Deserialize, Deserializer, Duration, Serializer};

        pub(crate) fn serialize<S: Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
            match time {
                Some(time) => super::serialize(time, to),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
            Option::<u64>::deserialize(from).map(|time| time.map(Duration::from_micros))
        }
    }
}

/// Takes entries, and never waits for the disk.
#[derive(Debug, Default)]
pub struct Trace {
    to: Option<SyncSender<Entry>>,
    terms: Option<Terms>,
    lost: u64,
}

impl Trace {
    /// None is written.
    #[must_use]
    pub fn off() -> Self {
        Self::default()
    }

    /// Into `folder`, by a thread of its own that ends with this.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn into(folder: &Path) -> std::io::Result<Self> {
        let file = Rotated::new(folder, NAME, KEEP);
        let (to, entries) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("memory trace".into())
            .spawn(move || write(&entries, file))?;
        Ok(Self {
            to: Some(to),
            ..Self::default()
        })
    }

    /// A look and what the rungs were worth at it. `at` is what the decision was told.
    pub fn look(&mut self, at: Duration, sample: &Sample, terms: &Terms) {
        if self.to.is_none() {
            return;
        }
        if self.terms.as_ref() != Some(terms) && self.add(Entry::Terms(*terms)) {
            self.terms = Some(*terms);
        }
        self.add(Entry::Look { at, sample: *sample });
    }

    /// Whether it will be written; what is lost is said by the next that is not.
    pub fn add(&mut self, entry: Entry) -> bool {
        let Some(to) = &self.to else {
            return false;
        };
        if self.lost > 0 && to.try_send(Entry::Lost(self.lost)).is_ok() {
            self.lost = 0;
        }
        match to.try_send(entry) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost += 1;
                false
            }
        }
    }
}

/// Writes whole lines; the file is let go of in between, so that it is in nobody's way when the machine ends.
fn write(entries: &Receiver<Entry>, mut file: Rotated) {
    let mut lost = 0;
    while let Ok(entry) = entries.recv() {
        let mut text = String::new();
        if lost > 0 {
            text.extend(line(&Entry::Lost(lost)));
        }
        text.extend(line(&entry));
        match file.write(text.as_bytes()) {
            Ok(()) => lost = 0,
            Err(_) => lost += 1,
        }
        file.rest();
    }
}

fn line(entry: &Entry) -> Option<String> {
    serde_json::to_string(entry).ok().map(|line| line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::governor::sample::Own;

    fn read(folder: &Path) -> Vec<Entry> {
        let text = std::fs::read_to_string(folder.join(NAME)).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn until(folder: &Path, holds: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
        for _ in 0..6000 {
            let read = read(folder);
            if holds(&read) {
                return read;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{:?}", read(folder));
    }

    #[test]
    fn every_look_is_read_back_as_it_was_and_terms_only_when_they_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut trace = Trace::into(dir.path()).unwrap();
        let sample = Sample {
            own: Some(Own {
                current: 1 << 40,
                stalled: Some(Duration::from_micros(1_234_567)),
                ..Own::default()
            }),
            passed: Duration::from_micros(999_999),
            primary: Some(3),
            ..Sample::default()
        };
        let mut terms = Terms::default();
        let at = Duration::from_micros(5_000_001);
        trace.look(at, &sample, &terms);
        trace.look(at, &Sample::default(), &terms);
        terms[1].exists = true;
        trace.look(at, &sample, &terms);
        let look = |sample| Entry::Look { at, sample };
        let wanted = [
            Entry::Terms(Terms::default()),
            look(sample),
            look(Sample::default()),
            Entry::Terms(terms),
            look(sample),
        ];
        assert_eq!(until(dir.path(), |read| read.len() == wanted.len()), wanted);
    }

    #[test]
    fn what_the_disk_did_not_take_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("later");
        let mut trace = Trace::into(&folder).unwrap();
        let mut said = 0;
        while said < 3 {
            said += u64::from(trace.add(Entry::Lost(0)));
        }
        // The three are tried and fail: there is no such folder.
        std::thread::sleep(Duration::from_millis(200));
        std::fs::create_dir(&folder).unwrap();
        trace.add(Entry::Terms(Terms::default()));
        let read = until(&folder, |read| read.contains(&Entry::Terms(Terms::default())));
        let counted: u64 = read
            .iter()
            .map(|entry| match entry {
                Entry::Lost(0) => 1,
                Entry::Lost(lost) => *lost,
                _ => 0,
            })
            .sum();
        assert_eq!(counted, 3, "{read:?}");
    }

    #[test]
    fn it_never_waits_for_the_disk() {
        // Nobody reads: as a disk that hangs.
        let (to, entries) = sync_channel(2);
        let mut trace = Trace {
            to: Some(to),
            ..Trace::default()
        };
        for _ in 0..10 {
            trace.add(Entry::Lost(0));
        }
        assert_eq!(trace.lost, 8);
        assert_eq!(entries.try_iter().count(), 2);
        assert!(trace.add(Entry::Terms(Terms::default())));
        let read: Vec<Entry> = entries.try_iter().collect();
        assert_eq!(read, [Entry::Lost(8), Entry::Terms(Terms::default())]);
    }
}
