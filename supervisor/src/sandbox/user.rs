//! A user of its own, with a group of the same number and no other.

use std::io;

use nix::libc;

use super::check;

/// Becomes user and group `id`. The system calls themselves: the C library's functions would change every thread
/// that it remembers, and those are the parent's.
pub fn take(id: u32) -> io::Result<()> {
    // The group list first, the user last: each step needs what the next gives up.
    // SAFETY: an empty list may be given by a null pointer; the others take no pointers.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            0,
            std::ptr::null::<libc::gid_t>(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, id, id, id))?;
        check(libc::syscall(libc::SYS_setresuid, id, id, id))?;
    }
    Ok(())
}
