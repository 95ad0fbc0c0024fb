//! Mounts, processes, IPC, host name and network of its own. In the network there is nothing: what a service accepts
//! or connects to are sockets it was born with and Unix sockets, which belong to no network. A service whose work is
//! the network itself keeps the machine's.
//!
//! The child is the first process of its process namespace. It sees no other, cannot be traced or signalled by
//! another service, and nothing it could ever start outlives it. The supervisor knows it by its number outside and
//! collects it as ever. Two things are different for such a process: signals that it sends itself or that come from
//! outside are ignored unless it has a handler, except SIGKILL and SIGSTOP from outside and faults, which the kernel
//! forces on it; so `abort` ends in the fault behind it and is seen as SIGSEGV.

use std::ffi::{CStr, CString};
use std::io;

use nix::libc;
use sarai_wire::control::DutyStatus;

use super::{check, duty};

/// What is the child's own.
const OWN: libc::c_int = libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Name of the duty.
pub const DUTY: &str = "namespaces";

/// The namespaces to be born into.
pub struct Namespaces {
    flags: libc::c_int,
    /// Without root: a user namespace, in which the child is who it is outside.
    users: Option<Users>,
}

struct Users {
    user: CString,
    group: CString,
}

impl Namespaces {
    /// As root directly; for anybody else by way of a user namespace. With `network`, the machine's network stays.
    #[must_use]
    pub fn prepare(network: bool) -> Self {
        let own = if network { OWN } else { OWN | libc::CLONE_NEWNET };
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if user.is_root() {
            return Self {
                flags: own,
                users: None,
            };
        }
        // Digits and spaces hold no zero byte.
        let line = |id: u32| CString::new(format!("{id} {id} 1\n")).unwrap_or_default();
        Self {
            flags: own | libc::CLONE_NEWUSER,
            users: Some(Users {
                user: line(user.as_raw()),
                group: line(group.as_raw()),
            }),
        }
    }

    /// Flags for `clone`.
    #[must_use]
    pub fn flags(&self) -> libc::c_int {
        self.flags
    }

    /// Whether the child had every capability in there and has to give them up itself.
    #[must_use]
    pub fn gave_capabilities(&self) -> bool {
        self.users.is_some()
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> DutyStatus {
        let by = if self.users.is_some() {
            ", by a user namespace"
        } else {
            ""
        };
        let network = if self.flags & libc::CLONE_NEWNET == 0 {
            "the machine's network"
        } else {
            "no network"
        };
        duty(
            DUTY,
            Ok(format!("mounts, processes, IPC, host name, {network}{by}")),
        )
    }

    /// In the child, first of all: who it is in its user namespace.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(users) = &self.users {
            // Unprivileged maps are taken only where groups cannot be given up any more.
            write(c"/proc/self/setgroups", c"deny")?;
            write(c"/proc/self/uid_map", &users.user)?;
            write(c"/proc/self/gid_map", &users.group)?;
        }
        Ok(())
    }
}

fn write(path: &CStr, text: &CStr) -> io::Result<()> {
    // SAFETY: both are terminated, the length is the text's own, the descriptor is our own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        check(fd.into())?;
        let written = libc::write(fd, text.as_ptr().cast(), text.to_bytes().len());
        let written = check(written as libc::c_long);
        libc::close(fd);
        written?;
    }
    Ok(())
}
