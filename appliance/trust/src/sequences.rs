//! The highest sequence seen for each id: what makes a rollback to an old, once valid artifact impossible.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{TrustError, atomic, is_id, store};

/// Most ids that are kept.
const MAX_IDS: usize = 4096;
/// Largest file, bytes: [`MAX_IDS`] of the longest ids.
const MAX_FILE: u64 = 1024 * 1024;

/// Highest sequences, persisted as TOML.
#[derive(Debug)]
pub struct Sequences {
    path: PathBuf,
    seen: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: u32,
    highest: BTreeMap<String, u64>,
}

impl Sequences {
    /// Loads what an earlier run recorded; a file that is not there means that nothing was seen yet.
    ///
    /// A damaged file is an error (`damaged-sequences`): treating it as empty would allow every rollback.
    pub fn load(path: &Path) -> Result<Self, TrustError> {
        let damaged = |reason: String| TrustError::DamagedSequences {
            path: path.to_owned(),
            reason,
        };
        let bytes = match store::read_bounded(path, MAX_FILE) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(damaged(format!("it exceeds {MAX_FILE} bytes"))),
            Err(TrustError::MissingFile { .. }) => {
                return Ok(Self {
                    path: path.to_owned(),
                    seen: BTreeMap::new(),
                });
            }
            Err(e) => return Err(e),
        };
        let text = std::str::from_utf8(&bytes).map_err(|e| damaged(e.to_string()))?;
        let saved: Saved = toml::from_str(text).map_err(|e| damaged(e.message().into()))?;
        if saved.format != 1 {
            return Err(damaged(format!("format {} is unknown", saved.format)));
        }
        if saved.highest.len() > MAX_IDS || !saved.highest.keys().all(|id| is_id(id)) {
            return Err(damaged(format!("more than {MAX_IDS} ids, or one that is no id")));
        }
        Ok(Self {
            path: path.to_owned(),
            seen: saved.highest,
        })
    }

    /// The highest sequence seen of `id`; 0 if none.
    #[must_use]
    pub fn get(&self, id: &str) -> u64 {
        self.seen.get(id).copied().unwrap_or(0)
    }

    /// Records that `sequence` of `id` was accepted. Lower than the highest changes nothing; higher is on disk
    /// once this returns. If it cannot be written, the record in memory stays as it was.
    pub fn record(&mut self, id: &str, sequence: u64) -> Result<(), TrustError> {
        if sequence <= self.get(id) {
            return Ok(());
        }
        let wrong = |reason: String| TrustError::DamagedSequences {
            path: self.path.clone(),
            reason,
        };
        let mut highest = self.seen.clone();
        highest.insert(id.to_owned(), sequence);
        if !is_id(id) || highest.len() > MAX_IDS {
            return Err(wrong(format!("{id:?} is no id, or {MAX_IDS} are there already")));
        }
        let text = toml::to_string(&Saved {
            format: 1,
            highest: highest.clone(),
        })
        .map_err(|e| wrong(e.to_string()))?;
        atomic::write(&self.path, text.as_bytes(), 0o600)?;
        self.seen = highest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_is_there_after_a_restart_and_never_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequences.toml");
        let mut sequences = Sequences::load(&path).unwrap();
        assert_eq!(sequences.get("a.b-c"), 0);
        sequences.record("a.b-c", 7).unwrap();
        sequences.record("other", 1).unwrap();
        sequences.record("a.b-c", 3).unwrap();
        let again = Sequences::load(&path).unwrap();
        assert_eq!(
            (again.get("a.b-c"), again.get("other"), again.get("none")),
            (7, 1, 0)
        );
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sequences.toml");
        let large = "#".repeat(2 * 1024 * 1024);
        for text in [
            "",
            "format = 2\n[highest]\n",
            "format = 1\n[highest]\na = -1\n",
            "\0",
            &large,
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(
                Sequences::load(&path).unwrap_err().name(),
                "damaged-sequences",
                "{:.20}",
                text
            );
        }
    }

    #[test]
    fn what_cannot_be_written_is_not_remembered_either() {
        let folder = tempfile::tempdir().unwrap();
        let mut sequences = Sequences::load(&folder.path().join("gone/sequences.toml")).unwrap();
        sequences.record("a", 1).unwrap_err();
        assert_eq!(sequences.get("a"), 0);
        sequences.record("../a", 1).unwrap_err();
    }
}
