//! `sarai-trainer`: trains a LoRA adapter on a quantised base model.
//!
//! Without arguments it is born by the supervisor, with its birth socket as descriptor 3: it opens nothing, and gives
//! up its right to before it reads a byte that somebody else wrote. With arguments it is a tool by hand, for people,
//! tests and benches.

mod aside;
mod hand;
mod merge_hand;
mod shown;

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sarai_trainer::training::control::{self, Control};
use sarai_trainer::{adapter, birth, log};
use sarai_wire::birth::BIRTH_FD;

fn main() -> ExitCode {
    keep_one_heap();
    // A backtrace opens files, and a confined trainer that opens one is ended.
    std::panic::set_hook(Box::new(|info| log(&format!("ERROR {info}"))));
    if std::env::args_os().len() > 1 {
        return hand::main();
    }
    match born() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            log(&format!("ERROR failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn born() -> Result<bool> {
    let socket = inherit()?;
    // A supervisor that does not read must not hold up the training for ever.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(2, 0)).context("set up the birth socket")?;
    control::obey_signals().context("hear signals")?;
    adapter::prepare();
    // Everything is loaded; what comes now leads to bytes that others wrote.
    sarai_confine::seal(sarai_confine::Program::Trainer)?;
    birth::run(socket, adapter::open, Control::with_signals())
}

/// The birth socket.
fn inherit() -> Result<OwnedFd> {
    let missing = "take descriptor 3: it is no birth socket; this program is started by sarai-supervisor, or by hand with \
                   --base, --data and --output";
    // SAFETY: the descriptor is only borrowed for these calls, which fail cleanly if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(BIRTH_FD) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context(missing)?;
    let kind = getsockopt(&fd, sockopt::SockType).context(missing)?;
    if kind != SockType::SeqPacket {
        bail!(missing);
    }
    // SAFETY: it was just seen to be open, the supervisor passed it for this purpose, nothing in this process has used
    // its number, and this is the only place that takes it.
    Ok(unsafe { OwnedFd::from_raw_fd(BIRTH_FD) })
}

/// With more heaps than one, the C library opens a file of `/proc` when it gives memory of the others back, and a
/// confined trainer that opens a file is ended. Called before there is a second thread.
fn keep_one_heap() {
    // SAFETY: sets a number of the allocator's.
    if unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) } == 0 {
        log("WARN failed to keep one heap");
    }
}
