//! The system calls of its list. The list and the reasons are in `sarai-confine`; the program itself puts on the
//! second, shorter one before it reads what others wrote.
//!
//! A call that is not listed ends the process at once, by the kernel. Asking the supervisor instead
//! (`SECCOMP_RET_USER_NOTIF`) was passed over: what is inside can interrupt the wait, or end before it was heard, and
//! with the supervisor gone nobody would end it.

use std::io;

use sarai_confine::{Filters, Program, Stage};

/// Compiled filters.
pub struct Calls(Filters);

impl Calls {
    /// Those of a program that is about to be started.
    pub fn prepare(program: Program) -> io::Result<Self> {
        Filters::compile(program, Stage::Start)
            .map(Self)
            .map_err(io::Error::other)
    }

    /// Puts them on. The last step before `exec`: most others are not on the list.
    pub fn take(&self) -> io::Result<()> {
        // Whatever failed was a system call, and no allocation is allowed here.
        self.0.install().map_err(|_| io::Error::last_os_error())
    }
}
