//! `sarai-announce`: the machine's name and service on the local network, by multicast DNS (RFC 6762) and DNS service
//! discovery (RFC 6763).
//!
//! It is born by the supervisor with a birth socket and nothing else. It asks whether somebody has the name already,
//! takes another one if so and tells the supervisor, answers questions, follows addresses as they come and go, and says
//! goodbye when it is told to stop. The protocol is `mdns-sd`'s.
//!
//! It reads packets that anybody on the LAN may have written, which is why it is a process of its own: it may open UDP
//! sockets and ask the kernel for the machine's addresses. It opens no file, starts nothing and holds no secret.

mod announcer;

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sarai_wire::birth::{self, BIRTH_FD, BirthError, FromAnnouncer, ToAnnouncer};

use announcer::Announcer;

/// Longest time between a change of name and the supervisor's knowing of it.
const LOOK: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("failed to {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// A line of the log.
fn say(text: &str) {
    // A log that cannot be written to has nobody to be told about it.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn run() -> anyhow::Result<()> {
    let birth = inherit().context("take descriptor 3 from the supervisor")?;
    // Everything is loaded; what comes now reads bytes that others wrote.
    sarai_confine::seal(sarai_confine::Program::Announcer)?;
    let start = match birth::recv::<ToAnnouncer>(birth.as_fd()) {
        Ok((ToAnnouncer::Start(start), _)) => start,
        Ok((ToAnnouncer::Stop, _)) | Err(BirthError::Closed) => return Ok(()),
        Ok((other, _)) => bail!("begin: the supervisor said {other:?} before it said start"),
        Err(error) => return Err(anyhow!("{error}").context("hear what to announce")),
    };
    let tell = |message: &FromAnnouncer| {
        birth::send(birth.as_fd(), message, &[]).map_err(|error| anyhow!("{error}"))
    };
    let mut announcer = match Announcer::start(&start) {
        Ok(announcer) => announcer,
        Err(error) => {
            let reason = format!("{error:#}");
            let _ = tell(&FromAnnouncer::Failed { reason });
            return Err(error);
        }
    };
    tell(&FromAnnouncer::Ready)?;
    let outcome = obey(birth.as_fd(), &mut announcer, &tell);
    announcer.goodbye();
    outcome
}

/// Until the order to stop, or the supervisor's end.
fn obey(
    birth: BorrowedFd<'_>,
    announcer: &mut Announcer,
    tell: &impl Fn(&FromAnnouncer) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let limit = PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX);
    loop {
        let mut wait = [PollFd::new(birth, PollFlags::POLLIN)];
        let heard = match poll(&mut wait, limit) {
            Ok(n) => n > 0,
            Err(nix::errno::Errno::EINTR) => false,
            Err(e) => return Err(e).context("wait for the supervisor"),
        };
        for message in announcer.news()? {
            tell(&message)?;
        }
        if !heard {
            continue;
        }
        match birth::recv::<ToAnnouncer>(birth) {
            Ok((ToAnnouncer::Ping { seq }, _)) => {
                // Answered only if the thread that speaks with the LAN does its work.
                announcer.alive()?;
                tell(&FromAnnouncer::Pong { seq })?;
            }
            Ok((ToAnnouncer::Stop, _)) | Err(BirthError::Closed) => return Ok(()),
            Ok((ToAnnouncer::Start(_), _)) => bail!("go on: the supervisor said start twice"),
            Err(error) => return Err(anyhow!("{error}").context("hear the supervisor")),
        }
    }
}

/// The birth socket.
fn inherit() -> std::io::Result<OwnedFd> {
    // SAFETY: the descriptor is only borrowed for this call, which fails cleanly if it is not open.
    let fd = unsafe { BorrowedFd::borrow_raw(BIRTH_FD) };
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it was just seen to be open, the supervisor passed it for this purpose, nothing in this process has used
    // its number, and this is the only place that takes it.
    Ok(unsafe { OwnedFd::from_raw_fd(BIRTH_FD) })
}
