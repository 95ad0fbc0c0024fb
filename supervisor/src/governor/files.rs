//! A group's memory files, read and understood. Read anew each time: they may vanish, and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::psi;
use super::sample::Own;

/// Share of the budget that the line lies below it where the group has no `memory.high`: a 32nd.
const BELOW: u64 = 32;
/// Longest file that is read; the kernel's are far shorter.
const MAX_FILE: u64 = 64 * 1024;

/// The memory files of one group.
#[derive(Debug, Clone)]
pub struct Files(PathBuf);

/// What only ever counts up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages of files read again, bytes.
    refaulted: u64,
    /// Times the budget was hit.
    hit: u64,
    /// Times nothing could be dropped for it.
    failed: u64,
    /// Time in which some process stood still, where the kernel says.
    stalled: Option<Duration>,
}

impl Files {
    /// Those of the group in `folder`.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self(folder.to_path_buf())
    }

    /// Where its PSI file is, or would be.
    #[must_use]
    pub fn pressure(&self) -> PathBuf {
        self.0.join("memory.pressure")
    }

    fn text(&self, name: &str) -> Option<String> {
        crate::config::read_bounded(&self.0.join(name), MAX_FILE)
            .ok()
            .flatten()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.trim().parse().ok()
    }

    /// Everything at once, and what counted up since `before`. `None` without the files.
    #[must_use]
    pub fn own(&self, before: &mut Option<Counters>) -> Option<Own> {
        let current = self.number("memory.current")?;
        let stat = self.text("memory.stat")?;
        // The kernel's word for no limit is no number.
        let budget = self.number("memory.max").unwrap_or(u64::MAX);
        let line = self
            .number("memory.high")
            .filter(|high| *high < budget)
            .unwrap_or(budget - budget / BELOW);
        // What a service ran into at its own limit is its own matter.
        let events = self.text("memory.events.local").unwrap_or_default();
        let now = Counters {
            refaulted: field(&stat, "workingset_refault_file").saturating_mul(procfs::page_size()),
            hit: field(&events, "max"),
            failed: field(&events, "oom"),
            stalled: self.text("memory.pressure").as_deref().and_then(psi::stalled),
        };
        let last = before.replace(now).unwrap_or(now);
        Some(Own {
            current,
            idle: idle(&stat).min(current),
            line,
            budget,
            refaulted: now.refaulted.saturating_sub(last.refaulted),
            hit: now.hit.saturating_sub(last.hit),
            failed: now.failed.saturating_sub(last.failed),
            // With only one of the two there is nothing to compare.
            stalled: now
                .stalled
                .map(|now| now.saturating_sub(last.stalled.unwrap_or(now))),
        })
    }

    /// What the group needs: what cannot be dropped at no harm, bytes.
    #[must_use]
    pub fn needed(&self) -> Option<u64> {
        let current = self.number("memory.current")?;
        let stat = self.text("memory.stat")?;
        Some(current.saturating_sub(idle(&stat)))
    }

    /// Whether the group is there.
    #[must_use]
    pub fn exist(&self) -> bool {
        fs::exists(self.0.join("memory.current")).unwrap_or(false)
    }
}

/// File pages that nobody has mapped, and slab caches. What is mapped is the models: dropping it makes it be read again
/// at once.
fn idle(stat: &str) -> u64 {
    let files = field(stat, "inactive_file") + field(stat, "active_file");
    files.saturating_sub(field(stat, "file_mapped")) + field(stat, "slab_reclaimable")
}

/// The value of a field, 0 where it is missing: which fields there are depends on the kernel.
fn field(text: &str, name: &str) -> u64 {
    crate::cgroup::files::value(text, name).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A folder that looks like a group.
    pub fn group(folder: &Path, needed: u64, cache: u64, failed: u64) {
        let write = |name: &str, text: String| fs::write(folder.join(name), text).unwrap();
        write("memory.current", format!("{}\n", needed + cache));
        write("memory.high", "1000000\n".into());
        write("memory.max", "1048576\n".into());
        write(
            "memory.stat",
            format!(
                "anon {needed}\nfile {cache}\nfile_mapped 100\nslab_reclaimable 100\ninactive_file {}\nactive_file 50\nworkingset_refault_file 3\n",
                cache - 50
            ),
        );
        write(
            "memory.events.local",
            format!("low 0\nhigh 7\nmax 2\noom {failed}\noom_kill 0\noom_group_kill 0\n"),
        );
    }

    #[test]
    fn a_group_is_understood_and_counters_are_differences() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::of(dir.path());
        let mut before = None;
        assert_eq!(files.own(&mut before), None);
        assert!(!files.exist());
        group(dir.path(), 5000, 1000, 4);
        let first = files.own(&mut before).unwrap();
        assert_eq!(
            (first.current, first.idle, first.line, first.budget),
            (6000, 1000, 1_000_000, 1_048_576)
        );
        assert_eq!((first.failed, first.hit, first.stalled), (0, 0, None));
        assert_eq!(files.needed(), Some(5000));
        group(dir.path(), 5000, 1000, 6);
        fs::write(files.pressure(), "some avg10=0.00 total=500\n").unwrap();
        let second = files.own(&mut before).unwrap();
        assert_eq!((second.failed, second.stalled), (2, Some(Duration::ZERO)));
        fs::write(files.pressure(), "some avg10=0.00 total=900\n").unwrap();
        let third = files.own(&mut before).unwrap();
        assert_eq!(third.stalled, Some(Duration::from_micros(400)));
        // It vanishes, and sampling goes on.
        fs::remove_file(files.pressure()).unwrap();
        assert_eq!(files.own(&mut before).unwrap().stalled, None);
    }

    #[test]
    fn without_a_line_it_lies_below_the_budget() {
        let dir = tempfile::tempdir().unwrap();
        group(dir.path(), 5000, 1000, 0);
        fs::write(dir.path().join("memory.high"), "max\n").unwrap();
        let own = Files::of(dir.path()).own(&mut None).unwrap();
        assert_eq!(own.line, 1_048_576 - 32768);
        fs::write(dir.path().join("memory.max"), "max\n").unwrap();
        let own = Files::of(dir.path()).own(&mut None).unwrap();
        assert!(own.line > 1 << 60);
    }

    #[test]
    fn damaged_files_are_no_sample_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        group(dir.path(), 5000, 1000, 0);
        for (file, text) in [("memory.current", "many\n"), ("memory.current", "")] {
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(Files::of(dir.path()).own(&mut None), None, "{file} {text:?}");
        }
    }
}
