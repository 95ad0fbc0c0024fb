//! The one place where children are waited for. Services register what they spawn and get the exit status through
//! a channel; every other child (an orphan that became ours) is collected and counted.
//!
//! Nothing else in this program may call `wait*`: a second waiter would steal exit statuses.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::sync::oneshot;

use crate::problems::lock;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "signal {signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

#[derive(Default)]
struct Inner {
    children: HashMap<i32, oneshot::Sender<Exit>>,
    orphans: u64,
}

/// Handle to the reaper; cheap to clone.
#[derive(Clone, Default)]
pub struct Reaper(Arc<Mutex<Inner>>);

impl Reaper {
    /// Runs `start`, which forks one child, and registers it before anyone can collect it. The lock held meanwhile
    /// also lets the standard library wait for a child whose `exec` failed.
    pub fn spawn(
        &self,
        start: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<(Pid, oneshot::Receiver<Exit>)> {
        let mut inner = lock(&self.0);
        let pid = i32::try_from(start()?).map_err(io::Error::other)?;
        let (tell, told) = oneshot::channel();
        inner.children.insert(pid, tell);
        Ok((Pid::from_raw(pid), told))
    }

    /// Signals a registered child. Under the lock a process id cannot have been collected and reused, so the signal
    /// never reaches a stranger. False when the child is gone.
    pub fn signal(&self, pid: Pid, signal: Signal) -> bool {
        let inner = lock(&self.0);
        inner.children.contains_key(&pid.as_raw()) && kill(pid, signal).is_ok()
    }

    /// Signals a registered child and everything in its process group.
    pub fn signal_group(&self, pid: Pid, signal: Signal) -> bool {
        let inner = lock(&self.0);
        if !inner.children.contains_key(&pid.as_raw()) {
            return false;
        }
        // The group exists once the child has called `setsid`; before that the child itself is all there is.
        killpg(pid, signal).is_ok() || kill(pid, signal).is_ok()
    }

    /// Collects every child that has ended. Returns how many.
    pub fn reap(&self) -> usize {
        let mut inner = lock(&self.0);
        let mut collected = 0;
        loop {
            // Looked at first, collected after: while the dead child still holds its number, whatever it left behind
            // in its process group can be ended without ever hitting a stranger.
            // SAFETY: all zeroes is a valid `siginfo_t`.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            // SAFETY: `info` is a valid place for the kernel to write to.
            let looked = unsafe {
                libc::waitid(
                    libc::P_ALL,
                    0,
                    &raw mut info,
                    libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
                )
            };
            if looked < 0 && Errno::last() == Errno::EINTR {
                continue;
            }
            // SAFETY: after a `waitid` that succeeded the field is set; 0 when nothing has ended.
            let pid = unsafe { info.si_pid() };
            if looked < 0 || pid == 0 {
                return collected;
            }
            if inner.children.contains_key(&pid) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let mut status = 0;
            // `nix::sys::wait` is passed over: it loses a child that a real-time signal ended.
            // SAFETY: `status` is a valid place for the kernel to write to.
            if unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) } != pid {
                return collected;
            }
            let exit = if libc::WIFSIGNALED(status) {
                Exit::Signal(libc::WTERMSIG(status))
            } else if libc::WIFEXITED(status) {
                Exit::Code(libc::WEXITSTATUS(status))
            } else {
                continue;
            };
            collected += 1;
            match inner.children.remove(&pid) {
                // The service may have given up on the child; its status is then nobody's.
                Some(tell) => drop(tell.send(exit)),
                None => inner.orphans += 1,
            }
        }
    }

    /// Collects, and says whether there may be more to wait for. For the end of the machine.
    pub fn reap_all(&self) -> bool {
        self.reap();
        // SAFETY: all zeroes is a valid `siginfo_t`.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is a valid place for the kernel to write to.
        let looked = unsafe {
            libc::waitid(
                libc::P_ALL,
                0,
                &raw mut info,
                libc::WEXITED | libc::WNOHANG | libc::WNOWAIT,
            )
        };
        looked == 0
    }

    /// Children registered and not collected yet.
    #[must_use]
    pub fn living(&self) -> usize {
        lock(&self.0).children.len()
    }

    /// Children collected that nobody had registered.
    #[must_use]
    pub fn orphans(&self) -> u64 {
        lock(&self.0).orphans
    }

    /// Collects as `SIGCHLD` comes, and once a second besides: signals merge, and none may be missed.
    pub async fn run(self) {
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child()).ok();
        loop {
            self.reap();
            match &mut signals {
                Some(signals) => {
                    let _ = tokio::time::timeout(Duration::from_secs(1), signals.recv()).await;
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_reads_as_an_admin_would_say_it() {
        assert_eq!(Exit::Code(1).to_string(), "exit 1");
        assert_eq!(Exit::Signal(9).to_string(), "signal SIGKILL");
        assert_eq!(Exit::Signal(40).to_string(), "signal 40");
    }

    #[test]
    fn a_process_that_is_not_ours_is_not_signalled() {
        assert!(!Reaper::default().signal(Pid::from_raw(1), Signal::SIGCONT));
    }
}
