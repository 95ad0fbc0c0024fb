//! Nothing open but what it is given: 0 to 2, the birth socket as 3, the listening socket as 4.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;

use super::check;

const FIRST_CLOSED: u32 = 5;

/// What 0 to 4 become. Each is a copy above 31, so that taking one number cannot close another.
pub struct Given {
    /// Standard input, output and error.
    pub standard: [OwnedFd; 3],
    /// 3.
    pub birth: Option<OwnedFd>,
    /// 4.
    pub listener: Option<OwnedFd>,
}

impl Given {
    /// Puts them in their places; everything above closes at `exec`.
    pub fn take(&self) -> io::Result<()> {
        for (number, fd) in (0..).zip(&self.standard) {
            // SAFETY: both descriptors are open and different: sources are above 31.
            check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?;
        }
        for (fd, number) in [
            (&self.birth, sarai_wire::birth::BIRTH_FD),
            (&self.listener, sarai_wire::birth::LISTEN_FD),
        ] {
            match fd {
                // SAFETY: as above.
                Some(fd) => drop(check(unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?),
                // SAFETY: sets a flag on a descriptor number of this process.
                None => drop(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }),
            }
        }
        // SAFETY: marks descriptors of this process; none is used by number after `exec`.
        let marked = unsafe {
            libc::syscall(
                libc::SYS_close_range,
                FIRST_CLOSED,
                u32::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        if marked < 0 {
            // A kernel before 5.11: the numbers this process can plausibly have reached, one by one.
            for number in 5..4096 {
                // SAFETY: sets a flag; a number that is not open fails harmlessly.
                unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
            }
        }
        Ok(())
    }
}
