//! Signals around `clone`: none reaches a handler of the parent's in the child.

use std::io;

use nix::libc;

use crate::sandbox::check;

/// A mask of signals to go back to.
pub(super) struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks all of them, so that no handler of the parent's runs in the child.
    pub(super) fn block() -> Self {
        // SAFETY: both sets are valid places; all zeroes is a valid one.
        unsafe {
            let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, &raw mut before);
            Self(before)
        }
    }

    pub(super) fn restore(&self) {
        // SAFETY: the set is valid; a null pointer asks for no old one.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }

    /// In the child: every signal does what it does by default, and none is blocked.
    pub(super) fn reset() -> io::Result<()> {
        // SAFETY: the sets and the action are valid; numbers that cannot be set fail harmlessly.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = libc::SIG_DFL;
            for signal in 1..=64 {
                libc::sigaction(signal, &raw const action, std::ptr::null_mut());
            }
            let none: libc::sigset_t = std::mem::zeroed();
            check(libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()).into())?;
        }
        Ok(())
    }
}
