//! `sarai-engine`: started by the supervisor with its birth socket as descriptor 3 and its listening socket as
//! descriptor 4. It takes no arguments.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sarai_wire::birth::{BIRTH_FD, LISTEN_FD};

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

fn run() -> Result<()> {
    let socket = inherited(BIRTH_FD, "birth socket", SockType::SeqPacket)?;
    let listener = inherited(LISTEN_FD, "listening socket", SockType::Stream)?;
    // A supervisor that does not read must not hold up the decode thread for ever.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(2, 0))?;
    sarai_engine::birth::run(socket, sarai_engine::server::listener(listener))
}

fn main() -> ExitCode {
    // SAFETY: no other thread exists yet. ggml would fork a debugger to print a backtrace when it aborts; an
    // engine never forks.
    unsafe { std::env::set_var("GGML_NO_BACKTRACE", "1") };
    sarai_engine::resident::keep_little();
    sarai_engine::panics::report_plainly();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sarai_engine::log::line("ERROR", &format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
