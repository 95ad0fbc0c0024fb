//! One child from `clone` to `exec`. Everything is prepared before; in the child there are only system calls, because
//! another thread may have held any lock at the moment of the fork.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::libc;
use nix::sched::CpuSet;
use sarai_wire::control::DutyStatus;

use super::signals::Signals;
use super::{Output, Spec};
use crate::sandbox::descriptors::Given;
use crate::sandbox::landlock::{self, Rules};
use crate::sandbox::namespaces::{self, Namespaces};
use crate::sandbox::oom::Score;
use crate::sandbox::root::{self, Root};
use crate::sandbox::seccomp::Calls;
use crate::sandbox::{Sandbox, capabilities, check, duty, limits, no_new_privs, user};

/// What a child was doing when it failed. Its number travels through a pipe, its name goes into the error.
const STEPS: [&str; 10] = [
    "be run",
    "enter its namespaces",
    "enter its root",
    "enter its session",
    "enter its cgroup",
    "take its CPUs and limits",
    "become its user",
    "put on Landlock",
    "put on its list of system calls",
    "outlive its parent",
];
const RUN: u8 = 0;
const NAMESPACES: u8 = 1;
const ROOT: u8 = 2;
const SESSION: u8 = 3;
const CGROUP: u8 = 4;
const LIMITS: u8 = 5;
const USER: u8 = 6;
const LANDLOCK: u8 = 7;
const CALLS: u8 = 8;
const PARENT: u8 = 9;

/// How a start failed.
pub(super) struct Failed {
    step: u8,
    /// The system's own error.
    pub(super) error: io::Error,
}

impl Failed {
    /// Whether what failed is a wall that this kernel or this user cannot have.
    pub(super) fn at_a_wall(&self) -> bool {
        matches!(self.step, NAMESPACES | ROOT)
    }

    /// As an error that says what failed.
    pub(super) fn into_error(self) -> io::Error {
        let step = STEPS.get(usize::from(self.step)).copied().unwrap_or("start");
        match self.step {
            // Of the kind that `exec` gave: a program that is not there is told apart.
            RUN => self.error,
            _ => io::Error::new(
                self.error.kind(),
                format!("the child failed to {step}: {}", self.error),
            ),
        }
    }

    fn here(step: u8) -> impl Fn(io::Error) -> Self {
        move |error| Self { step, error }
    }
}

/// Strings and the null-terminated list of pointers to them that `exec` takes.
struct Strings {
    pointers: Vec<*const libc::c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    fn new(owned: Vec<CString>) -> Self {
        let mut pointers: Vec<_> = owned.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self {
            pointers,
            _owned: owned,
        }
    }
}

/// Everything a child does, prepared.
pub(super) struct Plan {
    program: CString,
    arguments: Strings,
    environment: Strings,
    given: Given,
    terminal: bool,
    cgroup: Option<File>,
    cpus: Option<CpuSet>,
    user: Option<u32>,
    confined: bool,
    descriptors: u64,
    score: Score,
    namespaces: Option<Namespaces>,
    root: Option<Root>,
    limits: Option<limits::Limits>,
    landlock: Option<Rules>,
    calls: Option<Calls>,
    /// What is in force and what is not, for `status`.
    pub(super) duties: Vec<DutyStatus>,
}

fn text(bytes: Vec<u8>) -> io::Result<CString> {
    CString::new(bytes).map_err(io::Error::other)
}

impl Plan {
    pub(super) fn prepare(spec: &Spec<'_>, given: Given) -> io::Result<Self> {
        let program = text(spec.program.as_os_str().as_bytes().to_vec())?;
        let mut arguments = vec![program.clone()];
        for argument in &spec.args {
            arguments.push(text(argument.as_bytes().to_vec())?);
        }
        let mut environment = Vec::new();
        for (name, value) in &spec.env {
            let mut entry = name.clone();
            entry.push("=");
            entry.push(value);
            environment.push(text(entry.into_vec())?);
        }
        if spec.sandbox.is_some()
            && let Some(folder) = spec.program.parent()
        {
            // How the loader finds the libraries beside a program where there is no `/proc` to ask.
            environment.push(text(
                [b"LD_ORIGIN_PATH=", folder.as_os_str().as_bytes()].concat(),
            )?);
        }
        let mut me = Self {
            program,
            arguments: Strings::new(arguments),
            environment: Strings::new(environment),
            given,
            terminal: matches!(spec.output, Output::Terminal(_)),
            cgroup: spec.cgroup.as_ref().map(File::try_clone).transpose()?,
            cpus: (!spec.cpus.is_empty()).then(|| crate::cores::set_of(&spec.cpus)),
            user: spec.user.map(|user| user.id),
            confined: spec.confined,
            descriptors: spec.descriptors,
            score: Score::prepare(spec.oom_score_adj),
            namespaces: None,
            root: None,
            limits: None,
            landlock: None,
            calls: None,
            duties: Vec::new(),
        };
        if let Some(sandbox) = &spec.sandbox {
            me.confine(sandbox, &spec.site)?;
        }
        Ok(me)
    }

    fn confine(&mut self, sandbox: &Sandbox, site: &Path) -> io::Result<()> {
        let own = if self.user.is_some() {
            Ok("its own".to_owned())
        } else {
            Err("it runs as who started the supervisor".to_owned())
        };
        self.duties.push(duty("user", own.clone()));
        let none = own.map(|_| "none".to_owned());
        self.duties.push(duty(
            "capabilities",
            if nix::unistd::geteuid().is_root() {
                none
            } else {
                Ok("none".to_owned())
            },
        ));
        self.duties
            .push(duty("no_new_privs", Ok("no program gives rights".to_owned())));
        let namespaces = Namespaces::prepare(sandbox.network);
        self.duties.push(namespaces.status());
        self.namespaces = Some(namespaces);
        let root = Root::prepare(sandbox, site)?;
        self.duties.push(root.status());
        self.root = Some(root);
        match Rules::prepare(sandbox) {
            Ok(rules) => {
                self.duties.push(rules.status());
                self.landlock = Some(rules);
            }
            // The root holds all that Landlock would allow: the image's kernel has it, an old one need not.
            Err(e) => self
                .duties
                .push(duty(landlock::DUTY, Err(format!("this kernel has none: {e}")))),
        }
        if let Some(program) = sandbox.program {
            self.calls = Some(Calls::prepare(program)?);
            let listed = "a list; any other call ends it".to_owned();
            self.duties.push(duty("seccomp", Ok(listed)));
        }
        self.limits = Some(sandbox.limits);
        self.duties.push(duty("limits", Ok(sandbox.limits.describe())));
        self.duties
            .push(duty("descriptors", Ok("nothing but what it is given".to_owned())));
        Ok(())
    }

    /// Goes without namespaces and the root that needs them.
    pub(super) fn give_up_walls(&mut self, why: &str) {
        self.namespaces = None;
        self.root = None;
        for name in [namespaces::DUTY, root::DUTY] {
            if let Some(shown) = self.duties.iter_mut().find(|d| d.duty == name) {
                *shown = duty(name, Err(why.to_owned()));
            }
        }
    }

    /// Whether there are walls to give up.
    pub(super) fn has_walls(&self) -> bool {
        self.namespaces.is_some()
    }

    /// Starts the child. On an error nothing of it is left.
    pub(super) fn start(&self) -> Result<libc::pid_t, Failed> {
        let failed = Failed::here(RUN);
        let (told, tell) = pipe().map_err(&failed)?;
        let before = Signals::block();
        let flags = self.namespaces.as_ref().map_or(0, Namespaces::flags) | libc::SIGCHLD;
        // SAFETY: as `fork`: no shared memory, no stack of its own. The child makes system calls on prepared data and
        // ends in `exec` or `_exit` (see `be`).
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
        if pid == 0 {
            self.be(&told, &tell)
        }
        let clone = check(pid);
        before.restore();
        drop(tell);
        let pid = clone.map_err(Failed::here(if self.has_walls() { NAMESPACES } else { RUN }))?;
        let pid = libc::pid_t::try_from(pid)
            .map_err(io::Error::other)
            .map_err(&failed)?;
        let mut message = [0u8; 5];
        match read_all(&told, &mut message) {
            // Closed by `exec`.
            0 => Ok(pid),
            got => {
                // It is about to end; nobody else knows of it, and the reaper's lock is held.
                // SAFETY: a null pointer asks for no status.
                unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
                let [step, errno @ ..] = message;
                let error = if got == 5 {
                    io::Error::from_raw_os_error(i32::from_ne_bytes(errno))
                } else {
                    io::Error::other("the child ended before it began")
                };
                Err(Failed { step, error })
            }
        }
    }

    /// The child's life up to `exec`.
    fn be(&self, told: &OwnedFd, tell: &OwnedFd) -> ! {
        // SAFETY: closes the child's own copy of the reading end; nothing in the child uses it again.
        unsafe { libc::close(told.as_raw_fd()) };
        let failed = self.steps(tell.as_raw_fd());
        let mut message = [failed.step, 0, 0, 0, 0];
        let errno = failed.error.raw_os_error().unwrap_or(libc::EINVAL);
        message[1..].copy_from_slice(&errno.to_ne_bytes());
        // SAFETY: the buffer's own pointer and length; `_exit` runs nothing of the parent's.
        unsafe {
            libc::write(tell.as_raw_fd(), message.as_ptr().cast(), message.len());
            libc::_exit(127)
        }
    }

    /// Every step, in an order in which each still has the privileges it needs. Comes back only with a failure.
    fn steps(&self, tell: RawFd) -> Failed {
        let all = || -> Result<(), Failed> {
            if let Some(namespaces) = &self.namespaces {
                namespaces.enter().map_err(Failed::here(NAMESPACES))?;
            }
            self.session().map_err(Failed::here(SESSION))?;
            self.enter_cgroup().map_err(Failed::here(CGROUP))?;
            self.bounds().map_err(Failed::here(LIMITS))?;
            if let Some(root) = &self.root {
                root.enter().map_err(Failed::here(ROOT))?;
            }
            self.given.take().map_err(Failed::here(LIMITS))?;
            self.rights().map_err(Failed::here(USER))?;
            if let Some(rules) = &self.landlock {
                rules.enter().map_err(Failed::here(LANDLOCK))?;
            }
            // After the change of user, which would clear it.
            die_with_parent(tell).map_err(Failed::here(PARENT))?;
            Signals::reset().map_err(Failed::here(SESSION))?;
            if let Some(calls) = &self.calls {
                calls.take().map_err(Failed::here(CALLS))?;
            }
            Ok(())
        };
        if let Err(failed) = all() {
            return failed;
        }
        // SAFETY: terminated strings and null-terminated lists of pointers to such, all of which live on.
        unsafe {
            libc::execve(
                self.program.as_ptr(),
                self.arguments.pointers.as_ptr(),
                self.environment.pointers.as_ptr(),
            );
        }
        Failed::here(RUN)(io::Error::last_os_error())
    }

    fn session(&self) -> io::Result<()> {
        // SAFETY: plain system calls; the path is terminated.
        unsafe {
            check(libc::setsid().into())?;
            check(libc::chdir(c"/".as_ptr()).into())?;
            if self.terminal {
                let terminal = self.given.standard[0].as_raw_fd();
                // The third argument 0 asks not to steal it from a session.
                check(libc::ioctl(terminal, libc::TIOCSCTTY, 0).into())?;
            }
        }
        Ok(())
    }

    fn enter_cgroup(&self) -> io::Result<()> {
        if let Some(file) = &self.cgroup {
            // SAFETY: the pointer and the length are those of a literal.
            let written = unsafe { libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            if written != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        self.score.take();
        Ok(())
    }

    fn bounds(&self) -> io::Result<()> {
        if let Some(cpus) = &self.cpus {
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), cpus)?;
        }
        limits::take_common(self.descriptors)?;
        self.limits.map_or(Ok(()), |limits| limits.take())
    }

    fn rights(&self) -> io::Result<()> {
        let leaves_a_namespace = self
            .namespaces
            .as_ref()
            .is_some_and(Namespaces::gave_capabilities);
        if self.confined && (self.user.is_some() || leaves_a_namespace) {
            capabilities::take_bounds();
        }
        if let Some(id) = self.user {
            user::take(id)?;
        }
        if leaves_a_namespace {
            capabilities::take_all()?;
        }
        if self.confined {
            no_new_privs::take()?;
        }
        Ok(())
    }
}

/// A pipe whose ends are above the numbers that the child's own descriptors take.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((super::raise(read.as_fd())?, super::raise(write.as_fd())?))
}

/// Reads until the buffer is full or the other end closed; how much came.
fn read_all(from: &OwnedFd, buffer: &mut [u8]) -> usize {
    let mut got = 0;
    while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match nix::unistd::read(from, rest) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => break,
        }
    }
    got
}

/// The child is killed when the thread of the supervisor that started it ends, or has ended already: the other end of
/// its pipe is gone then.
fn die_with_parent(tell: RawFd) -> io::Result<()> {
    let mut pipe = libc::pollfd {
        fd: tell,
        events: 0,
        revents: 0,
    };
    // SAFETY: plain system calls; the pointer is to one structure, as the count says.
    unsafe {
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0).into())?;
        libc::poll(&raw mut pipe, 1, 0);
    }
    if pipe.revents & libc::POLLERR == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}
