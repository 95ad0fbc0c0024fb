//! What happens between `fork` and `exec`, in the child. Everything is prepared before the fork; afterwards there
//! are only system calls, because another thread may hold the allocator's lock at the moment of the fork.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::libc;
use nix::sched::CpuSet;

use super::{Output, Spec};

const FIRST_CLOSED: u32 = 5;
/// Above every capability the kernel knows; dropping one it does not know fails with `EINVAL`, which ends the row.
const MAX_CAPABILITY: libc::c_ulong = 63;
/// Fewer bytes than any oom score needs.
const OOM_TEXT: usize = 8;

/// Data of the steps.
pub(super) struct Steps {
    birth: Option<OwnedFd>,
    listener: Option<OwnedFd>,
    terminal: bool,
    cgroup: Option<File>,
    cpus: Option<CpuSet>,
    user: Option<u32>,
    confined: bool,
    descriptors: u64,
    oom_path: CString,
    oom_text: [u8; OOM_TEXT],
    oom_length: usize,
    parent: libc::pid_t,
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl Steps {
    pub(super) fn prepare(spec: &Spec<'_>, birth: Option<OwnedFd>, listener: Option<OwnedFd>) -> Self {
        let text = spec.oom_score_adj.clamp(-1000, 1000).to_string();
        let mut oom_text = [0; OOM_TEXT];
        oom_text[..text.len()].copy_from_slice(text.as_bytes());
        Self {
            birth,
            listener,
            terminal: matches!(spec.output, Output::Terminal(_)),
            cgroup: spec.cgroup.as_ref().and_then(|file| file.try_clone().ok()),
            cpus: (!spec.cpus.is_empty()).then(|| crate::cores::set_of(&spec.cpus)),
            user: spec.user.map(|user| user.id),
            confined: spec.confined,
            descriptors: spec.descriptors,
            oom_path: CString::from(c"/proc/self/oom_score_adj"),
            oom_text,
            oom_length: text.len(),
            parent: nix::unistd::getpid().as_raw(),
        }
    }

    /// Every step, in an order in which each still has the privileges it needs.
    pub(super) fn take(&self) -> io::Result<()> {
        // SAFETY: plain system call without pointers.
        check(unsafe { libc::setsid() })?;
        if self.terminal {
            // SAFETY: descriptor 0 is the terminal; the third argument 0 asks not to steal it from a session.
            check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
        }
        self.cgroup_and_score()?;
        self.descriptors()?;
        if let Some(cpus) = &self.cpus {
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), cpus)?;
        }
        limit(libc::RLIMIT_CORE, 0)?;
        limit(libc::RLIMIT_NOFILE, self.descriptors)?;
        self.privileges()?;
        // After the change of user, which would clear it.
        // SAFETY: plain system call without pointers.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0) })?;
        // SAFETY: plain system call without pointers.
        if unsafe { libc::getppid() } != self.parent {
            // The supervisor ended before the line above: nobody would ever end this child.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    }

    fn cgroup_and_score(&self) -> io::Result<()> {
        if let Some(file) = &self.cgroup {
            // SAFETY: the pointer and the length are those of a literal.
            let written = unsafe { libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1) };
            if written != 1 {
                return Err(io::Error::last_os_error());
            }
        }
        write_once(&self.oom_path, &self.oom_text[..self.oom_length]);
        Ok(())
    }

    /// 3 and 4 become what the child is born with; everything above closes at `exec`.
    fn descriptors(&self) -> io::Result<()> {
        for (fd, number) in [
            (&self.birth, sarai_wire::birth::BIRTH_FD),
            (&self.listener, sarai_wire::birth::LISTEN_FD),
        ] {
            match fd {
                // SAFETY: both descriptors are open and different: sources are above 31.
                Some(fd) => check(unsafe { libc::dup2(fd.as_raw_fd(), number) })?,
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

    fn privileges(&self) -> io::Result<()> {
        if self.confined && self.user.is_some() {
            // SAFETY: plain system calls without pointers.
            unsafe {
                for capability in 0..=MAX_CAPABILITY {
                    if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                        break;
                    }
                }
                libc::prctl(
                    libc::PR_CAP_AMBIENT,
                    libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
                    0,
                    0,
                    0,
                );
            }
        }
        if let Some(id) = self.user {
            // The group list first, the user last: each step needs what the next gives up.
            // SAFETY: an empty list may be given by a null pointer; the others take no pointers.
            unsafe {
                check(libc::setgroups(0, std::ptr::null()))?;
                check(libc::setresgid(id, id, id))?;
                check(libc::setresuid(id, id, id))?;
            }
        }
        if self.confined {
            // SAFETY: plain system call without pointers.
            check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as libc::c_ulong, 0, 0, 0) })?;
        }
        Ok(())
    }
}

/// Lowers a limit, never above what is allowed already.
fn limit(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `now` is a valid place to read into and from.
    unsafe {
        check(libc::getrlimit(resource, &raw mut now))?;
        let most = most.min(now.rlim_max);
        now = libc::rlimit {
            rlim_cur: most,
            rlim_max: most,
        };
        check(libc::setrlimit(resource, &raw const now))
    }
}

/// Writes to a file of `/proc` if it is there; a child without this score still serves.
fn write_once(path: &CStr, text: &[u8]) {
    // SAFETY: the path is terminated, the text's pointer and length belong together, the descriptor is our own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, text.as_ptr().cast(), text.len());
            libc::close(fd);
        }
    }
}
