//! The judgments: each is on disk before the client is answered.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::FEEDBACK;
use crate::forget::{Unfinished, What};
use crate::journal::{Bounds, Found, Journal, JournalError};
use crate::record::{Entry, Feedback};

/// Files that the bytes are spread over.
const PARTS: u64 = 64;
/// Files that the days are spread over.
const SPANS: i32 = 32;
/// Most lines of a file; with [`MOST_FILES`] the most that anybody who reads has to index.
const LINES: u64 = 4096;
/// Most files: what the supervisor can hand over at once is a few more.
pub const MOST_FILES: usize = 100;
/// Shortest time from a file's first line to its last.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Largest and smallest file, bytes.
const FILE: (u64, u64) = (256 * 1024, 32 * 1024 * 1024);

/// The judgments.
#[derive(Debug)]
pub struct Log {
    journal: Journal,
}

impl Log {
    /// Opens the log in `folder`. Records older than `keep` are removed within a 32nd of it, or a day; all files together
    /// have at most `bytes`; `reserve` bytes of the disk stay free. Each judgment is shown to `judged`. Returns also
    /// what was asked to be forgotten and may still be in the files, for [`Log::finish`].
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(
        folder: &Path,
        keep: SignedDuration,
        bytes: u64,
        reserve: u64,
        now: Timestamp,
        judged: &mut dyn FnMut(&Feedback),
    ) -> Result<(Self, Found, Unfinished), JournalError> {
        let bounds = Bounds {
            bytes,
            file: (bytes / PARTS).clamp(FILE.0, FILE.1),
            lines: LINES,
            span: (keep / SPANS).max(DAY),
            files: MOST_FILES,
            keep,
            reserve,
        };
        let mut unfinished = Unfinished::default();
        let visit = &mut |number, _, line: &[u8]| {
            let entry = Entry::parse(line).ok()?;
            unfinished.note(number, &entry);
            if let Entry::Feedback(feedback) = &entry {
                judged(feedback);
            }
            Some(entry.time())
        };
        let (journal, found) = Journal::open(folder, FEEDBACK, bounds, visit)?;
        let mut log = Self { journal };
        if let Some((file, bytes)) = found.torn {
            let entry = Entry::Repaired {
                time: now,
                file,
                bytes,
            };
            match log.add(&entry) {
                // It was cut all the same.
                Ok(()) | Err(JournalError::Full(_)) => {}
                Err(e) => return Err(e),
            }
        }
        Ok((log, found, unfinished))
    }

    /// Writes a judgment and flushes it.
    ///
    /// # Errors
    /// When the disk does not take it; nothing of it is then in the log.
    pub fn append(&mut self, line: &[u8], now: Timestamp) -> Result<(), JournalError> {
        self.tidy(line.len() as u64 + 1, now)?;
        self.journal.append(line, now, true).map(drop)
    }

    /// Makes room for `more` bytes, and removes what is too old. A record says so before.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn tidy(&mut self, more: u64, now: Timestamp) -> Result<(), JournalError> {
        self.journal.retire(now)?;
        while let Some(surplus) = self.journal.surplus(more, now) {
            let entry = Entry::Pruned {
                time: now,
                file: surplus.file,
                lines: surplus.lines,
            };
            match self.add(&entry) {
                // What is removed makes room for the next record about it.
                Ok(()) | Err(JournalError::Full(_)) => {}
                Err(e) => return Err(e),
            }
            self.journal.remove(surplus.file)?;
        }
        Ok(())
    }

    /// Notes what is to be forgotten. Once that is on disk it counts; [`Log::finish`] takes the texts out of the files.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn forget(&mut self, what: &What, now: Timestamp) -> Result<Unfinished, JournalError> {
        let number = self.journal.lines();
        self.add(&Entry::Forget {
            time: now,
            what: what.clone(),
        })?;
        Ok(Unfinished::one(number, now, what.clone()))
    }

    /// Takes what is to be forgotten out of the files. Returns how many lines went.
    ///
    /// # Errors
    /// When the disk does not take it; the log has to be opened again then, which tells what is unfinished.
    pub fn finish(&mut self, unfinished: &Unfinished) -> Result<u64, JournalError> {
        let (asked, tombstones) = unfinished.all();
        let lines = self
            .journal
            .rewrite(&mut |number, line| tombstones.spare(number, line))?;
        for time in asked {
            self.add(&Entry::Forgotten { time, lines })?;
        }
        Ok(lines)
    }

    fn add(&mut self, entry: &Entry) -> Result<(), JournalError> {
        // These entries hold a name and numbers.
        let line = entry.line().unwrap_or_default();
        self.journal.append(&line, entry.time(), true).map(drop)
    }
}
