//! The answers that may still be judged: bounded by number, bytes and age. Of their texts only the places are in memory.
//!
//! They are not flushed one by one, since nobody waits for that: what was answered in the last seconds before a power cut
//! cannot be judged. A gateway that is killed loses nothing that it wrote.

use std::collections::HashMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::RECENT;
use crate::forget::{Tombstones, Unfinished, What};
use crate::journal::{Bounds, Found, Journal, JournalError, Place};
use crate::record::{Completion, Entry, Verdict};

/// Files.
const FILES: usize = 8;
/// Most answers.
pub const MOST: u64 = 10_000;
/// Most bytes.
pub const BYTES: u64 = 32 * 1024 * 1024;
/// How long an answer may be judged.
pub const KEEP: SignedDuration = SignedDuration::from_hours(48);

/// An answer that may be judged.
#[derive(Debug, Clone)]
pub struct Known {
    place: Place,
    /// Name of the key it was given to.
    pub key: Box<str>,
    /// When.
    pub time: Timestamp,
    /// The last judgment of it.
    pub judged: Option<Judged>,
}

/// A judgment that was kept.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Id of the feedback.
    pub id: Box<str>,
    /// When it was given.
    pub time: Timestamp,
    /// [`crate::Judgment::digest`].
    pub digest: [u8; 16],
    /// What it came to.
    pub verdict: Verdict,
    /// How many judgments of this answer were kept.
    pub count: u32,
}

/// The answers that may be judged.
#[derive(Debug)]
pub struct Recent {
    journal: Journal,
    known: HashMap<Box<str>, Known>,
    keep: SignedDuration,
}

impl Recent {
    /// Opens what is in `folder`. An answer may be judged for `keep`, at most [`KEEP`]; `reserve` bytes of the disk stay
    /// free. What was to be forgotten, and was not when the power went, is forgotten now.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: &Path, keep: SignedDuration, reserve: u64) -> Result<(Self, Found), JournalError> {
        let keep = keep.min(KEEP);
        let files = FILES as u64;
        let bounds = Bounds {
            bytes: BYTES,
            file: BYTES / files,
            lines: MOST / files,
            span: keep / i32::try_from(FILES).unwrap_or(1),
            files: FILES,
            keep,
            reserve,
        };
        let mut known: HashMap<Box<str>, Known> = HashMap::new();
        let mut unfinished = Unfinished::default();
        let visit = &mut |number, place, line: &[u8]| {
            let entry = Entry::parse(line).ok()?;
            let time = entry.time();
            unfinished.note(number, &entry);
            match entry {
                Entry::Completion(completion) => {
                    let Completion { id, key, .. } = *completion;
                    let entry = Known {
                        place,
                        key: key.into(),
                        time,
                        judged: None,
                    };
                    known.insert(id.into(), entry);
                }
                Entry::Forget { what, .. } => drop_what(&mut known, &what),
                _ => {}
            }
            Some(time)
        };
        let (journal, found) = Journal::open(folder, RECENT, bounds, visit)?;
        let mut recent = Self { journal, known, keep };
        let (asked, tombstones) = unfinished.all();
        if !asked.is_empty() {
            match recent.erase(&asked, &tombstones) {
                Ok(()) => {}
                // It is not in memory any more, and the next opening tries again.
                Err(JournalError::Full(_)) => recent.find_again()?,
                Err(e) => return Err(e),
            }
        }
        Ok((recent, found))
    }

    /// Takes in an answer.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn remember(&mut self, completion: Completion, line: &[u8]) -> Result<(), JournalError> {
        let now = completion.time;
        self.tidy(line.len() as u64 + 1, now)?;
        let place = self.journal.append(line, now, false)?;
        let known = Known {
            place,
            key: completion.key.into(),
            time: now,
            judged: None,
        };
        self.known.insert(completion.id.into(), known);
        Ok(())
    }

    /// An answer that may be judged now, by its id.
    #[must_use]
    pub fn get(&self, id: &str, now: Timestamp) -> Option<&Known> {
        self.known
            .get(id)
            .filter(|known| now.duration_since(known.time) <= self.keep)
    }

    /// Notes that it was judged.
    pub fn judged(&mut self, id: &str, judged: Judged) {
        if let Some(known) = self.known.get_mut(id) {
            let before = known.judged.as_ref().map_or(0, |before| before.count);
            known.judged = Some(Judged {
                count: before + 1,
                ..judged
            });
        }
    }

    /// Its request and answer; `None` where they cannot be read any more.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn read(&self, known: &Known) -> Result<Option<Completion>, JournalError> {
        let line = self.journal.read(known.place)?;
        Ok(match Entry::parse(&line) {
            Ok(Entry::Completion(completion)) => Some(*completion),
            _ => None,
        })
    }

    /// Makes room for `more` bytes, and removes what is too old.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn tidy(&mut self, more: u64, now: Timestamp) -> Result<(), JournalError> {
        self.journal.retire(now)?;
        while let Some(surplus) = self.journal.surplus(more, now) {
            self.journal.remove(surplus.file)?;
            self.known.retain(|_, known| known.place.file != surplus.file);
        }
        Ok(())
    }

    /// Forgets, in memory at once; what is said to be forgotten is on disk before the texts are taken out of the files.
    ///
    /// # Errors
    /// When the disk does not take it; what was noted is carried out when this is opened again, which has to be next.
    pub fn forget(&mut self, what: &What, now: Timestamp) -> Result<(), JournalError> {
        drop_what(&mut self.known, what);
        let entry = Entry::Forget {
            time: now,
            what: what.clone(),
        };
        let mut tombstones = Tombstones::default();
        tombstones.note(self.journal.lines(), what);
        self.append(&entry)?;
        self.erase(&[now], &tombstones)
    }

    fn erase(&mut self, asked: &[Timestamp], tombstones: &Tombstones) -> Result<(), JournalError> {
        let lines = self
            .journal
            .rewrite(&mut |number, line| tombstones.spare(number, line))?;
        self.find_again()?;
        asked
            .iter()
            .try_for_each(|time| self.append(&Entry::Forgotten { time: *time, lines }))
    }

    /// Finds the places anew after a rewrite.
    fn find_again(&mut self) -> Result<(), JournalError> {
        let known = &mut self.known;
        self.journal.walk(&mut |place, line| {
            if let Ok(Entry::Completion(completion)) = Entry::parse(line)
                && let Some(known) = known.get_mut(completion.id.as_str())
            {
                known.place = place;
            }
        })
    }

    fn append(&mut self, entry: &Entry) -> Result<(), JournalError> {
        // These entries hold a name and numbers.
        let line = entry.line().unwrap_or_default();
        self.journal.append(&line, entry.time(), true).map(drop)
    }

    /// Flushes what was taken in.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), JournalError> {
        self.journal.flush()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

fn drop_what(known: &mut HashMap<Box<str>, Known>, what: &What) {
    match what {
        What::Completion(id) => drop(known.remove(id.as_str())),
        What::Key(key) => known.retain(|_, known| *known.key != **key),
        What::Everything => known.clear(),
    }
}
