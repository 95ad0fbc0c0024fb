//! No `exec` gives more rights than there are: set-user-id programs and file capabilities count for nothing.

use std::io;

use nix::libc;

use super::check;

/// Sets it, for good.
pub fn take() -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) }.into())?;
    Ok(())
}
