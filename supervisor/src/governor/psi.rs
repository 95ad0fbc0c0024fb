//! The kernel's trigger on a group's `memory.pressure`: it wakes us when some process of the group stood still for want
//! of memory, long before a sample would show it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::sample::STALLED;

/// The window in which the kernel adds up, microseconds: the shortest that reacts within a sample's time.
const WINDOW: u64 = 1_000_000;

/// A trigger; it lives as long as its descriptor.
#[derive(Debug)]
pub struct Trigger(AsyncFd<File>);

impl Trigger {
    /// Sets one on the group whose `memory.pressure` this is.
    ///
    /// # Errors
    /// Where the kernel has no PSI, or it is switched off, there is no such file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        // The kernel wants the terminating zero in the same write.
        let text = format!("some {} {WINDOW}\0", WINDOW / 100 * STALLED);
        file.write_all(text.as_bytes())?;
        // SAFETY: an open file keeps its descriptor for as long as it lives, and only the `AsyncFd` has it.
        let fd = unsafe { AsyncFd::register_with_interest(file, Interest::PRIORITY) }?;
        Ok(Self(fd))
    }

    /// Waits until it fires, at most once in a window. It also does when its group is gone.
    pub async fn fired(&self) {
        match self.0.ready(Interest::PRIORITY).await {
            Ok(mut guard) => guard.clear_ready(),
            // The runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Time in which some process of the group stood still since the kernel began to count.
#[must_use]
pub fn stalled(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some
        .split_ascii_whitespace()
        .find_map(|field| field.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_the_kernels_own_form() {
        let text = "some avg10=0.12 avg60=0.00 avg300=0.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(stalled(text), Some(Duration::from_micros(123_456)));
        assert_eq!(stalled("full avg10=0.00 total=7\n"), None);
        assert_eq!(stalled("some total=x\n"), None);
        assert_eq!(stalled(""), None);
    }

    #[tokio::test]
    async fn without_the_file_there_is_no_trigger_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.pressure");
        assert_eq!(Trigger::open(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!path.exists());
    }
}
