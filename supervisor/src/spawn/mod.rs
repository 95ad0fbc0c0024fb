//! Starts one child with exactly what it is given: descriptors 0 to 4, a clean environment, its CPUs, its cgroup,
//! its user, and nothing else.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, pipe2};
use sarai_wire::control::DutyStatus;
use tokio::sync::oneshot;

use crate::reaper::{Exit, Reaper};
use crate::sandbox::Sandbox;
use crate::sandbox::descriptors::Given;

mod child;
mod signals;

use child::{Failed, Plan};

/// A user of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// Name for `status`.
    pub name: &'static str,
    /// User and group id.
    pub id: u32,
}

/// Runs the engines.
pub const ENGINE: User = User {
    name: "engine",
    id: 701,
};
/// Runs the gateway.
pub const GATEWAY: User = User {
    name: "gateway",
    id: 702,
};
/// Runs the admin's prompt.
pub const ADMIN: User = User {
    name: "admin",
    id: 703,
};

/// Runs the nightly trainer.
pub const TRAINER: User = User {
    name: "trainer",
    id: 704,
};
/// Announces the machine.
pub const ANNOUNCE: User = User {
    name: "announce",
    id: 705,
};

/// Where a child's descriptors 0, 1 and 2 lead.
pub enum Output {
    /// `/dev/null` and a pipe to the log.
    Log,
    /// This terminal, which also becomes the controlling one.
    Terminal(File),
}

/// What a child is given.
pub struct Spec<'a> {
    /// The program.
    pub program: PathBuf,
    /// Its arguments after the name.
    pub args: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// User to become; `None` stays who the supervisor is.
    pub user: Option<User>,
    /// Whether every capability and every way to gain one is given up.
    pub confined: bool,
    /// What it is confined to besides; nothing more where there is none.
    pub sandbox: Option<Sandbox>,
    /// A folder that exists, over which a sandbox builds its root.
    pub site: PathBuf,
    /// CPUs it may use; empty leaves the supervisor's.
    pub cpus: Vec<u32>,
    /// Its cgroup's `cgroup.procs`, open for writing.
    pub cgroup: Option<File>,
    /// Most open descriptors.
    pub descriptors: u64,
    /// How gladly the kernel kills it when memory runs out (-1000 to 1000).
    pub oom_score_adj: i32,
    /// Becomes descriptor 3.
    pub birth: Option<BorrowedFd<'a>>,
    /// Becomes descriptor 4.
    pub listener: Option<BorrowedFd<'a>>,
    /// Descriptors 0 to 2.
    pub output: Output,
}

impl Spec<'_> {
    /// A spec with nothing but the program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            confined: true,
            sandbox: None,
            site: PathBuf::from("/"),
            cpus: Vec::new(),
            cgroup: None,
            descriptors: 64,
            oom_score_adj: 0,
            birth: None,
            listener: None,
            output: Output::Log,
        }
    }
}

/// A running child. Dropped before it was seen to end, it is killed: no child outlives its owner.
pub struct Child {
    /// Its process id.
    pub pid: Pid,
    /// Resolves once it has ended.
    pub exit: oneshot::Receiver<Exit>,
    /// What it writes, unless it has a terminal.
    pub output: Option<OwnedFd>,
    /// Which duties of its sandbox are in force, and why others are not.
    pub duties: Vec<DutyStatus>,
    reaper: Reaper,
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing happens when the reaper has already collected it.
        self.reaper
            .signal_group(self.pid, nix::sys::signal::Signal::SIGKILL);
    }
}

/// Occupies the descriptors 3 and 4 of this process for good, so that nothing else gets a number that a child's birth
/// socket or listener is about to take.
pub fn reserve_descriptors() -> io::Result<()> {
    loop {
        let null = File::open("/dev/null")?;
        if null.as_raw_fd() > sarai_wire::birth::LISTEN_FD {
            return Ok(());
        }
        std::mem::forget(null);
    }
}

/// Starts a child. Natively a wall that this kernel or this user cannot have is left out, and the child's duties say so.
pub fn spawn(reaper: &Reaper, spec: &Spec<'_>) -> io::Result<Child> {
    reserve_descriptors()?;
    let (output, standard) = match &spec.output {
        Output::Log => {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            let null = File::open("/dev/null")?;
            let standard = [raise(null.as_fd())?, raise(write.as_fd())?, raise(write.as_fd())?];
            (Some(read), standard)
        }
        Output::Terminal(terminal) => {
            let end = || raise(terminal.as_fd());
            (None, [end()?, end()?, end()?])
        }
    };
    let given = Given {
        standard,
        birth: spec.birth.map(raise).transpose()?,
        listener: spec.listener.map(raise).transpose()?,
    };
    let mut plan = Plan::prepare(spec, given)?;
    let may_go_without = spec.sandbox.as_ref().is_some_and(|sandbox| !sandbox.required);
    if !may_go_without && let Some(missing) = plan.duties.iter().find(|duty| !duty.in_force) {
        return Err(io::Error::other(format!(
            "{} is not to be had: {}",
            missing.duty, missing.detail
        )));
    }
    let (pid, exit) = reaper.spawn(|| {
        let started = match plan.start() {
            Err(failed) if failed.at_a_wall() && plan.has_walls() && may_go_without => {
                let why = failed.into_error();
                plan.give_up_walls(&format!("not allowed to this user by this kernel: {why}"));
                plan.start()
            }
            started => started,
        };
        let pid = started.map_err(Failed::into_error)?;
        u32::try_from(pid).map_err(io::Error::other)
    })?;
    Ok(Child {
        pid,
        exit,
        output,
        duties: plan.duties,
        reaper: reaper.clone(),
    })
}

/// A copy of a descriptor above 31, far from the numbers a child's own take.
fn raise(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let raised = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(32))?;
    // SAFETY: the kernel has just made this descriptor for us and nothing else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(raised) })
}
