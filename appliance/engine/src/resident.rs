//! How much memory of its own this process holds, and giving back what it does not need.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The kernel's account of this process. Opened once, at start, and read from that descriptor ever after: a running
/// engine opens nothing.
#[derive(Debug, Default)]
pub struct Resident(Option<File>);

impl Resident {
    /// Opens the account; what runs without `/proc` has none.
    pub fn open() -> Self {
        let file = File::open("/proc/self/status");
        if let Err(error) = &file {
            crate::warning!("failed to open the kernel's account of this process: {error}");
        }
        Self(file.ok())
    }

    /// Resident anonymous memory, bytes; 0 where the kernel does not tell.
    pub fn anonymous(&self) -> u64 {
        let mut status = [0; 4096];
        let read = self
            .0
            .as_ref()
            .and_then(|file| file.read_at(&mut status, 0).ok())
            .unwrap_or(0);
        parse(&String::from_utf8_lossy(&status[..read])).unwrap_or(0)
    }
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// Blocks of this many bytes are mapped and given back one by one.
const MAPPED: i32 = 256 * 1024;
/// Free bytes at the end of a heap that are given back at once.
const LOOSE: i32 = 1024 * 1024;

/// Has the allocator keep little of what is freed. Left alone, it learns from the first large block that is freed (a
/// context) to keep up to 64 MB at the end of each thread's heap, where [`trim`] does not reach. With more heaps than
/// one it also opens a file of `/proc` when it gives memory of the others back, and an engine that opens a file is
/// ended; few threads allocate much here. Called before there is a second thread.
pub fn keep_little() {
    // SAFETY: sets three numbers of the allocator's.
    let set = unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED)
            & nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, LOOSE)
            & nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1)
    };
    if set == 0 {
        crate::warning!("failed to tell the allocator to keep little");
    }
}

/// Returns freed memory that the allocator keeps to the kernel.
pub fn trim() {
    // SAFETY: takes the allocator's own locks and touches free pages alone.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_account_is_read_in_bytes() {
        assert_eq!(
            parse("VmRSS:\t  9 kB\nRssAnon:\t    5812 kB\nRssFile:\t 1 kB\n"),
            Some(5812 * 1024)
        );
        assert_eq!(parse("VmRSS:\t  9 kB\n"), None);
        assert_eq!(parse("RssAnon:\t99999999999999999 kB\n"), None);
    }

    #[test]
    fn memory_that_is_touched_counts_and_what_is_given_back_does_not() {
        let resident = Resident::open();
        let before = resident.anonymous();
        let held = vec![1_u8; 64 * 1024 * 1024];
        let with = resident.anonymous();
        assert!(with >= before + 60 * 1024 * 1024, "{before} {with}");
        drop(std::hint::black_box(held));
        trim();
        assert!(resident.anonymous() <= with - 60 * 1024 * 1024);
    }

    #[test]
    fn without_an_account_nothing_is_claimed() {
        assert_eq!(Resident::default().anonymous(), 0);
    }
}
