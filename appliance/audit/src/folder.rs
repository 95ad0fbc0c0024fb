//! The files' names.

use std::io;
use std::path::Path;

/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// A series of numbered files of JSON lines that are one log, by what their names begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series(pub &'static str);

/// The audit log's.
pub const AUDIT: Series = Series("audit");

impl Series {
    /// The name of file `number`.
    #[must_use]
    pub fn name(self, number: u64) -> String {
        format!("{}-{number:08}.jsonl", self.0)
    }

    /// The number of the file called so; exactly as [`Series::name`] spells it.
    #[must_use]
    pub fn number(self, file: &str) -> Option<u64> {
        let digits = file
            .strip_prefix(self.0)?
            .strip_prefix('-')?
            .strip_suffix(".jsonl")?;
        let number = digits.parse().ok()?;
        (number > 0 && self.name(number) == file).then_some(number)
    }

    /// The numbers of its files in `folder`, in order.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(self, folder: &Path) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(folder)?.take(MAX_ENTRIES) {
            numbers.extend(entry?.file_name().to_str().and_then(|file| self.number(file)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// The name of the audit log's file `number`.
#[must_use]
pub fn name(number: u64) -> String {
    AUDIT.name(number)
}

/// The numbers of the audit log's files in `folder`, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> io::Result<Vec<u64>> {
    AUDIT.list(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        for n in [1, 7, 99_999_999, 100_000_000] {
            assert_eq!(AUDIT.number(&name(n)), Some(n));
        }
        for wrong in [
            "audit-1.jsonl",
            "audit-00000000.jsonl",
            "audit-+0000001.jsonl",
            "audit-00000001.json",
            "x",
        ] {
            assert_eq!(AUDIT.number(wrong), None, "{wrong}");
        }
        assert_eq!(Series("aud").number(&name(7)), None);
    }
}
