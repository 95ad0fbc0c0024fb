//! How gladly the kernel kills it when memory runs out.

use std::ffi::CStr;

use nix::libc;

const PATH: &CStr = c"/proc/self/oom_score_adj";
/// Fewer bytes than any score needs.
const TEXT: usize = 8;

/// A score, written out.
pub struct Score {
    text: [u8; TEXT],
    length: usize,
}

impl Score {
    /// -1000 (never) to 1000 (first).
    #[must_use]
    pub fn prepare(score: i32) -> Self {
        let digits = score.clamp(-1000, 1000).to_string();
        let mut text = [0; TEXT];
        text[..digits.len()].copy_from_slice(digits.as_bytes());
        Self {
            text,
            length: digits.len(),
        }
    }

    /// Sets it if it can be set; a child without this score still serves.
    pub fn take(&self) {
        // SAFETY: the path is terminated, the text's pointer and length belong together, the descriptor is our own.
        unsafe {
            let fd = libc::open(PATH.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
            if fd >= 0 {
                libc::write(fd, self.text.as_ptr().cast(), self.length);
                libc::close(fd);
            }
        }
    }
}
