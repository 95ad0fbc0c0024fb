//! The files' names.

use std::io;
use std::path::Path;

/// Most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// The name of file `number`.
#[must_use]
pub fn name(number: u64) -> String {
    format!("audit-{number:08}.jsonl")
}

/// The number of the file called so; exactly as [`name`] spells it.
#[must_use]
pub fn number(file: &str) -> Option<u64> {
    let digits = file.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    let number = digits.parse().ok()?;
    (number > 0 && name(number) == file).then_some(number)
}

/// The numbers of the files in `folder`, in order.
pub fn list(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(MAX_ENTRIES) {
        numbers.extend(entry?.file_name().to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        for n in [1, 7, 99_999_999, 100_000_000] {
            assert_eq!(number(&name(n)), Some(n));
        }
        for wrong in [
            "audit-1.jsonl",
            "audit-00000000.jsonl",
            "audit-+0000001.jsonl",
            "audit-00000001.json",
            "x",
        ] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
    }
}
