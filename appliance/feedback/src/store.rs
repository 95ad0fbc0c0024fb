//! The answers that may be judged and the judgments of them, together.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use crate::forget::{Unfinished, What};
use crate::journal::{Found, JournalError};
use crate::log::Log;
use crate::recent::{Judged, Recent};
use crate::record::{Completion, Entry, Feedback, Invalid, Judgment, Verdict};

/// Most judgments that are kept of one answer, each taking the place of the one before.
pub const MOST_JUDGMENTS: u32 = 16;
/// How much more of the disk answers leave free than judgments do.
const MARGIN: u64 = 32 * 1024 * 1024;

/// Where and how much is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// Days a judgment is kept.
    pub keep_days: u32,
    /// Most bytes of all judgments.
    pub max_bytes: u64,
    /// Bytes of the disk that stay free.
    pub reserve: u64,
}

/// What went wrong. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Of the files.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A record is out of its bounds.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Why a judgment is not kept. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// There is no such answer of this key: it never was, is too old, was too long, or was to be forgotten.
    #[error("find the answer: it is not known")]
    Unknown,
    /// It was judged too often.
    #[error("keep the judgment: {MOST_JUDGMENTS} of this answer were kept, which is all that are")]
    TooOften,
    /// It is too long together with its answer.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The disk does not take it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A judgment that is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Id of the feedback.
    pub id: String,
    /// When it was given first.
    pub time: Timestamp,
    /// Whether the very same was there already.
    pub repeated: bool,
    /// What the one came to whose place it takes.
    pub replaced: Option<Verdict>,
    /// What gave the answer; none where the very same was there already.
    pub of: Option<Of>,
}

/// What gave an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of {
    /// SHA-256 of the model file, lower-case hex.
    pub digest: String,
    /// The adapter that was applied.
    pub adapter: Option<String>,
}

/// Both, open.
#[derive(Debug)]
pub struct Store {
    log: Log,
    recent: Recent,
}

/// What was found when they were opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opened {
    /// Of the judgments.
    pub log: Found,
    /// Of the answers.
    pub recent: Found,
}

impl Store {
    /// Opens what is there, or begins it.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(settings: &Settings, now: Timestamp) -> Result<(Self, Opened), StoreError> {
        let folder: &Path = &settings.folder;
        let keep = SignedDuration::from_hours(24 * i64::from(settings.keep_days));
        let reserve = settings.reserve;
        let (mut recent, of_recent) = Recent::open(folder, keep, reserve.saturating_add(MARGIN))?;
        let mut judged = |feedback: &Feedback| {
            let judged = Judged {
                id: feedback.id.as_str().into(),
                time: feedback.time,
                digest: feedback.judgment.digest(),
                verdict: feedback.judgment.verdict(),
                count: 0,
            };
            recent.judged(&feedback.completion.id, judged);
        };
        let (log, of_log, unfinished) =
            Log::open(folder, keep, settings.max_bytes, reserve, now, &mut judged)?;
        let mut store = Self { log, recent };
        if !unfinished.is_empty() {
            match store.finish(&unfinished, now) {
                // It does not count any more, and the next opening tries again.
                Ok(_) | Err(StoreError::Journal(JournalError::Full(_))) => {}
                Err(e) => return Err(e),
            }
        }
        store.tidy(now)?;
        let opened = Opened {
            log: of_log,
            recent: of_recent,
        };
        Ok((store, opened))
    }

    /// Takes in an answer that may be judged.
    ///
    /// # Errors
    /// When it is out of its bounds or the disk does not take it.
    pub fn remember(&mut self, completion: Completion) -> Result<(), StoreError> {
        completion.check()?;
        let entry = Entry::Completion(Box::new(completion));
        let line = entry.line()?;
        if let Entry::Completion(completion) = entry {
            self.recent.remember(*completion, &line)?;
        }
        Ok(())
    }

    /// Keeps what the key `key` says of an answer it was given. The same once more is the same; another takes its place.
    /// `id` is that of the feedback, if it is new.
    ///
    /// # Errors
    /// Why it is not kept.
    pub fn judge(
        &mut self,
        key: &str,
        completion: &str,
        judgment: Judgment,
        id: &str,
        now: Timestamp,
    ) -> Result<Given, JudgeError> {
        let known = self
            .recent
            .get(completion, now)
            .filter(|known| *known.key == *key)
            .ok_or(JudgeError::Unknown)?;
        let digest = judgment.digest();
        let before = known.judged.as_ref();
        if let Some(before) = before.filter(|before| before.digest == digest) {
            return Ok(Given {
                id: before.id.to_string(),
                time: before.time,
                repeated: true,
                replaced: None,
                of: None,
            });
        }
        if before.is_some_and(|before| before.count >= MOST_JUDGMENTS) {
            return Err(JudgeError::TooOften);
        }
        let replaced = before.map(|before| before.verdict);
        let verdict = judgment.verdict();
        let feedback = Feedback {
            id: id.to_owned(),
            time: now,
            judgment,
            completion: self.recent.read(known)?.ok_or(JudgeError::Unknown)?,
        };
        feedback.check()?;
        let of = Of {
            digest: feedback.completion.digest.clone(),
            adapter: feedback.completion.adapter.clone(),
        };
        let line = Entry::Feedback(Box::new(feedback)).line()?;
        self.log.append(&line, now)?;
        let judged = Judged {
            id: id.into(),
            time: now,
            digest,
            verdict,
            count: 0,
        };
        self.recent.judged(completion, judged);
        Ok(Given {
            id: id.to_owned(),
            time: now,
            repeated: false,
            replaced,
            of: Some(of),
        })
    }

    /// Forgets, at once and then out of the files. Returns how many lines of judgments went. After an error the store has
    /// to be opened again.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn forget(&mut self, what: &What, now: Timestamp) -> Result<u64, StoreError> {
        what.check()?;
        let unfinished = self.log.forget(what, now)?;
        self.finish(&unfinished, now)
    }

    fn finish(&mut self, unfinished: &Unfinished, now: Timestamp) -> Result<u64, StoreError> {
        for what in unfinished.whats() {
            self.recent.forget(what, now)?;
        }
        Ok(self.log.finish(unfinished)?)
    }

    /// Removes what is too old.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn tidy(&mut self, now: Timestamp) -> Result<(), StoreError> {
        self.recent.tidy(0, now)?;
        self.log.tidy(0, now)?;
        Ok(())
    }

    /// Flushes everything.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), StoreError> {
        Ok(self.recent.flush()?)
    }

    /// How many answers may be judged.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.recent.len()
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
