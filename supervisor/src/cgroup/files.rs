//! The files of a cgroup: small texts that are there or not.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

/// What groups of the tree are limited by.
const CONTROLLERS: [&str; 4] = ["cpuset", "cpu", "memory", "pids"];
/// More than any file of a cgroup that is read here holds, bytes.
const MAX: u64 = 1024 * 1024;

/// Writes a file that must be there: making one would hide that a controller is missing.
pub(super) fn write(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(file)?
        .write_all(value.as_bytes())
}

/// Sets a file, or names what could not be set.
pub(super) fn set(file: &Path, value: &str, problems: &mut Vec<String>) {
    if let Err(e) = write(file, value) {
        // A kernel without swap has no file to forbid it in.
        if file.ends_with("memory.swap.max") && e.kind() == io::ErrorKind::NotFound {
            return;
        }
        problems.push(format!("cannot set {} to {value}: {e}", file.display()));
    }
}

/// Lets the children of `folder` use every controller, one by one: a kernel that lacks one keeps the others. Without
/// `cpuset` nothing is lost but the partition, which says so itself.
pub(super) fn enable(folder: &Path, problems: &mut Vec<String>) {
    let file = folder.join("cgroup.subtree_control");
    for controller in CONTROLLERS {
        let value = format!("+{controller}");
        if let Err(e) = write(&file, &value)
            && controller != "cpuset"
        {
            problems.push(format!("cannot set {} to {value}: {e}", file.display()));
        }
    }
}

/// The text of a file, without the newline at its end.
pub(super) fn text(file: &Path) -> Option<String> {
    let mut text = String::new();
    fs::File::open(file)
        .ok()?
        .take(MAX)
        .read_to_string(&mut text)
        .ok()?;
    text.truncate(text.trim_end().len());
    Some(text)
}

/// The number a file holds; none for `max`.
pub(super) fn number(file: &Path) -> Option<u64> {
    text(file)?.parse().ok()
}

/// The number behind `key` in a text of lines `key number`.
pub(crate) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number behind `key` in a file of lines `key number`.
pub(super) fn keyed(file: &Path, key: &str) -> Option<u64> {
    value(&text(file)?, key)
}
