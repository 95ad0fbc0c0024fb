//! Starting a child as the supervisor does, with a birth socket and a listener, and without everything else: no
//! namespaces, no limits, no sandbox.
//!
//! Needs `nix` and `sarai-wire` alone, so that other test crates can include this file by path.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use sarai_wire::birth;

/// Numbers above those that the child finds its sockets at, so that putting one there does not overwrite the other.
const HIGH: i32 = 100;

/// Starts it. Gives the supervisor's end of the birth socket too.
pub fn born(command: &mut Command, listener: &dyn AsFd) -> io::Result<(Child, OwnedFd)> {
    let (ours, theirs) = birth::pair()?;
    let high = |fd: &dyn AsFd| -> io::Result<OwnedFd> {
        use std::os::fd::FromRawFd as _;
        let copy = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(HIGH))?;
        // SAFETY: fcntl has just made it, and nobody else has it.
        Ok(unsafe { OwnedFd::from_raw_fd(copy) })
    };
    let copies = [high(&theirs)?, high(listener)?];
    let from = [copies[0].as_raw_fd(), copies[1].as_raw_fd()];
    let put = move || {
        for (from, to) in std::iter::zip(from, [birth::BIRTH_FD, birth::LISTEN_FD]) {
            // SAFETY: a system call on numbers.
            if unsafe { libc::dup2(from, to) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec there is only dup2, which is async-signal-safe. The numbers are open until then:
    // the command is started below, while their owners live, and a second start of it would find them closed.
    let child = unsafe { command.pre_exec(put) }.spawn()?;
    Ok((child, ours))
}
