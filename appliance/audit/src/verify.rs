//! Proves a chain, or names the first record that breaks it. Every byte is taken for hostile: lines are bounded, and
//! nothing is believed but hashes and what was signed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;

use crate::record::{Event, Hash, Record};
use crate::{Head, MAX_LINE, folder};

/// A file of the log.
pub struct Source {
    /// Its number.
    pub number: u64,
    /// Its bytes.
    pub reader: Box<dyn Read>,
}

/// A head that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Where the chain ended.
    pub head: Head,
    /// When.
    pub time: String,
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file, self.line, self.what)
    }
}

/// What a whole chain holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Proof {
    /// Files.
    pub files: u64,
    /// Records.
    pub records: u64,
    /// Of these, Omni-Loops.
    pub loops: u64,
    /// Records that were lost, as the records say.
    pub lost: u64,
    /// Starts that no orderly end came before: what was about to be written then is missing.
    pub unclean: u64,
    /// Repairs of a torn end.
    pub repaired: u64,
    /// The newest file that was removed because there were too many.
    pub pruned: Option<u64>,
    /// Time of the first record.
    pub from: Option<String>,
    /// Time of the last record.
    pub until: Option<String>,
    /// Signed heads that the chain holds.
    pub signed: u64,
    /// Records after the last signed head: nothing but the chain itself vouches for those.
    pub unsigned: u64,
    /// Whether the last line is not whole: it is being written, or a power cut tore it.
    pub torn: bool,
}

/// Why a chain is not proven.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is broken.
    #[error("{0}")]
    Broken(Broken),
    /// A file could not be read. Fits after "failed to".
    #[error("read {file}: {source}")]
    Io {
        /// Which.
        file: String,
        /// Why.
        source: io::Error,
    },
}

/// Proves the chain in `sources`, which are in order, against what was signed. `kept` is how many files a log keeps
/// before it removes the oldest.
///
/// # Errors
/// The first record that breaks it.
pub fn verify(sources: Vec<Source>, signed: &[Signed], kept: usize) -> Result<Proof, VerifyError> {
    let first = sources.first().map_or(1, |source| source.number);
    let newest = sources.last().map_or(0, |source| source.number);
    let mut walk = Walk {
        signed: signed.iter().map(|s| ((s.head.file, s.head.line), s)).collect(),
        proof: Proof::default(),
        last: Hash::ZERO,
        before: None,
        first,
        beginning: Hash::ZERO,
        pruned: false,
        running: false,
    };
    let count = sources.len();
    for (expected, source) in (first..).zip(sources) {
        if source.number != expected {
            return Err(broken(expected, 1, "the file is missing".to_owned()));
        }
        walk.file(source, expected == first, expected == newest)?;
    }
    // What was signed must be there; walking found every signed line that exists to be the same.
    let beyond = walk.signed.iter().find(|((file, _), _)| *file >= first);
    if let Some(((file, line), signed)) = beyond {
        let what = format!("the log ends before it, but it was signed at {}", signed.time);
        return Err(broken(*file, *line, what));
    }
    if first > 1 {
        let enough = usize::try_from(newest - first + 1).is_ok_and(|there| there >= kept);
        if !walk.pruned || !enough {
            let what = "the files before it are missing, and no record says that they were removed for being too many";
            return Err(broken(first, 1, what.to_owned()));
        }
        walk.proof.pruned = Some(first - 1);
    }
    walk.proof.files = count as u64;
    Ok(walk.proof)
}

fn broken(file: u64, line: u64, what: String) -> VerifyError {
    VerifyError::Broken(Broken {
        file: folder::name(file),
        line,
        what,
    })
}

/// What is known while walking.
struct Walk<'a> {
    /// Signed heads not met yet.
    signed: BTreeMap<(u64, u64), &'a Signed>,
    proof: Proof,
    /// SHA-256 of the line before.
    last: Hash,
    /// Where that line is; `None` at the beginning.
    before: Option<(u64, u64)>,
    /// The first file, and what its first record goes on from.
    first: u64,
    beginning: Hash,
    /// Whether any record says that the file before the first was removed. While files are rotated, more are removed
    /// than were missing when the files were opened: the last such record may speak of one that is still here.
    pruned: bool,
    /// Whether a start was not followed by a stop yet.
    running: bool,
}

impl Walk<'_> {
    fn file(&mut self, source: Source, is_first: bool, is_last: bool) -> Result<(), VerifyError> {
        let number = source.number;
        let failed = |source| VerifyError::Io {
            file: folder::name(number),
            source,
        };
        let mut lines = Lines(BufReader::with_capacity(256 * 1024, source.reader));
        let mut next = lines.next().map_err(failed)?;
        let mut line = 0;
        while let Some(text) = next {
            line += 1;
            let (bytes, ends) = match text {
                Text::TooLong => {
                    let what = format!("it is no record: it exceeds {MAX_LINE} bytes");
                    return Err(broken(number, line, what));
                }
                Text::Line(bytes) => (bytes, true),
                Text::Torn(bytes) => (bytes, false),
            };
            next = lines.next().map_err(failed)?;
            if !ends {
                if !is_last {
                    return Err(broken(number, line, "it does not end".to_owned()));
                }
                // Whoever cut a line that was signed is found out by the signature.
                self.proof.torn = true;
                return Ok(());
            }
            let hash = Hash::of(&bytes);
            self.check_signed(number, line, hash)?;
            let record: Record = serde_json::from_slice(&bytes)
                .map_err(|e| broken(number, line, format!("it is no record: {e}")))?;
            if is_first && line == 1 {
                self.beginning = record.prev;
                if number == 1 && record.prev != Hash::ZERO {
                    let what = "it is not the first record of a log: records before it are missing";
                    return Err(broken(number, line, what.to_owned()));
                }
            } else if record.prev != self.last {
                return Err(self.blame(number, line, hash, next.as_ref()));
            }
            self.note(record);
            self.proof.unsigned += 1;
            if self.signed_here(number, line) {
                self.proof.signed += 1;
                self.proof.unsigned = 0;
            }
            self.last = hash;
            self.before = Some((number, line));
        }
        if line == 0 && !is_last {
            return Err(broken(number, 1, "the file is empty".to_owned()));
        }
        Ok(())
    }

    fn check_signed(&self, file: u64, line: u64, hash: Hash) -> Result<(), VerifyError> {
        match self.signed.get(&(file, line)) {
            Some(signed) if signed.head.sha256 != hash => {
                let what = format!("it is not the record that was signed at {}", signed.time);
                Err(broken(file, line, what))
            }
            _ => Ok(()),
        }
    }

    fn signed_here(&mut self, file: u64, line: u64) -> bool {
        self.signed.remove(&(file, line)).is_some()
    }

    /// A record does not follow the one before it: which of the two is at fault. Where the next one follows this one,
    /// this one is what was written, and it is the one before that was changed.
    fn blame(&self, file: u64, line: u64, hash: Hash, next: Option<&Text>) -> VerifyError {
        if hash == self.last {
            return broken(file, line, "it is there twice".to_owned());
        }
        let confirmed = match next {
            Some(Text::Line(bytes)) => {
                serde_json::from_slice::<Record>(bytes).is_ok_and(|record| record.prev == hash)
            }
            // Nothing follows: it was most likely the last that was written, and the one before that was touched.
            _ => true,
        };
        match self.before {
            Some((before_file, before_line)) if confirmed => {
                let what = "it is not the record that the next one follows: it was changed, or records after it are missing";
                broken(before_file, before_line, what.to_owned())
            }
            _ => {
                let what = "it does not follow the record before it: it was changed, moved or put in";
                broken(file, line, what.to_owned())
            }
        }
    }

    fn note(&mut self, record: Record) {
        let proof = &mut self.proof;
        proof.records += 1;
        proof.lost = proof.lost.saturating_add(record.lost);
        match record.event {
            Event::Start { .. } => {
                proof.unclean += u64::from(self.running);
                self.running = true;
            }
            Event::Stop => self.running = false,
            Event::Loop(_) => {
                proof.loops += 1;
                // A chain that begins in the middle of a run was running.
                self.running = true;
            }
            Event::Repaired { .. } => proof.repaired += 1,
            Event::Pruned { file, last } => {
                self.pruned |= file.checked_add(1) == Some(self.first) && last == self.beginning;
            }
            Event::Lost => {}
        }
        proof.from.get_or_insert_with(|| record.time.clone());
        proof.until = Some(record.time);
    }
}

/// A line as it was read.
enum Text {
    Line(Vec<u8>),
    /// The file ends before the line does.
    Torn(Vec<u8>),
    TooLong,
}

struct Lines(BufReader<Box<dyn Read>>);

impl Lines {
    fn next(&mut self) -> io::Result<Option<Text>> {
        let mut bytes = Vec::new();
        (&mut self.0)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut bytes)?;
        Ok(match bytes.last() {
            None => None,
            Some(b'\n') => {
                bytes.pop();
                Some(Text::Line(bytes))
            }
            Some(_) if bytes.len() > MAX_LINE => Some(Text::TooLong),
            Some(_) => Some(Text::Torn(bytes)),
        })
    }
}

/// The newest `count` records, oldest first; lines that are none are passed over.
///
/// # Errors
/// When a file cannot be read.
pub fn newest(sources: Vec<Source>, count: usize) -> Result<Vec<Record>, VerifyError> {
    let mut found = std::collections::VecDeque::new();
    for source in sources {
        let number = source.number;
        let mut lines = Lines(BufReader::new(source.reader));
        let mut next = || {
            lines.next().map_err(|source| VerifyError::Io {
                file: folder::name(number),
                source,
            })
        };
        while let Some(text) = next()? {
            let Text::Line(bytes) = text else { continue };
            if let Ok(record) = serde_json::from_slice(&bytes) {
                if found.len() == count {
                    found.pop_front();
                }
                found.push_back(record);
            }
        }
    }
    Ok(found.into())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
