//! What the program does before it is born: it takes its two sockets, and sees to it that nothing below forks or keeps
//! memory for later.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sarai_wire::birth::{BIRTH_FD, LISTEN_FD};

use crate::birth::{self, Confine};
use crate::{log, panics, resident, server};

/// Takes an inherited socket of the expected type.
fn inherited(number: RawFd, name: &str, kind: SockType) -> Result<OwnedFd> {
    // SAFETY: F_GETFD fails harmlessly on a number that is not open.
    if unsafe { nix::libc::fcntl(number, nix::libc::F_GETFD) } < 0 {
        bail!("descriptor {number} ({name}) is not open: this program is started by sarai-supervisor");
    }
    // SAFETY: the descriptor is open, was inherited, and is taken exactly once, before any other code ran.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    let found = getsockopt(&descriptor, sockopt::SockType)
        .with_context(|| format!("descriptor {number} ({name}) is not a socket"))?;
    if found != kind {
        bail!("descriptor {number} ({name}) is a socket of another type");
    }
    Ok(descriptor)
}

fn run(confine: Confine) -> Result<()> {
    let socket = inherited(BIRTH_FD, "birth socket", SockType::SeqPacket)?;
    let listener = inherited(LISTEN_FD, "listening socket", SockType::Stream)?;
    // A supervisor that does not read must not hold up the decode thread for ever.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(2, 0))?;
    birth::run(socket, server::listener(listener), confine)
}

/// The program, from its first moment to its last.
#[must_use]
pub fn main(confine: Confine) -> ExitCode {
    // SAFETY: no other thread exists yet. ggml would fork a debugger to print a backtrace when it aborts; an
    // engine never forks.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    resident::keep_little();
    panics::report_plainly();
    match run(confine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line("ERROR", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
