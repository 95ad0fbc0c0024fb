//! What a child cannot do, one duty a file. Everything is prepared before the fork; between `fork` and `exec` there
//! are only system calls, because another thread may hold the allocator's lock at the moment of the fork. Functions
//! that run there are called `take` or `enter`.
//!
//! | duty | what |
//! | --- | --- |
//! | [`user`], [`capabilities`], [`no_new_privs`] | who it is, with no privilege and no way to one |
//! | [`namespaces`] | mounts, processes, IPC, host name and network of its own |
//! | [`root`] | a root that holds what it needs and nothing else |
//! | [`landlock`] | the same once more, by the kernel's other means, and no TCP but what it was born with |
//! | [`seccomp`] | the system calls of its list; any other ends it |
//! | [`limits`], [`oom`] | bounds on what it uses up |
//! | [`descriptors`] | nothing open but what it is given |
//!
//! In the image each of them must be in force or the child is not started. Natively, what this user and this kernel
//! allow is used, and `status` shows what is missing and why.

use std::path::PathBuf;

use sarai_confine::Program;
use sarai_wire::control::DutyStatus;

use limits::Limits;

pub mod capabilities;
pub mod denied;
pub mod descriptors;
pub mod landlock;
pub mod limits;
pub mod namespaces;
pub mod no_new_privs;
pub mod oom;
pub mod policy;
mod records;
pub mod root;
pub mod seccomp;
pub mod user;

/// What a service is confined to, besides what every child is.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Whose system calls; `None` for a service that starts programs, of which no short list could be made.
    pub program: Option<Program>,
    /// Its executable, libraries and modules: read and executed.
    pub code: Vec<PathBuf>,
    /// Folders and files it reads.
    pub read: Vec<PathBuf>,
    /// Folders it writes.
    pub write: Vec<PathBuf>,
    /// Files of those folders that it does not get to see.
    pub hidden: Vec<PathBuf>,
    /// The machine's network instead of one of its own, which is empty.
    pub network: bool,
    /// With the machine's network: whether it may listen for connections and make some.
    pub connections: bool,
    /// Devices it opens; none without.
    pub devices: Vec<PathBuf>,
    /// A `/proc` with itself in it and nothing else.
    pub proc: bool,
    /// Size of a `/tmp` of its own, bytes; none without.
    pub temporary: Option<u64>,
    /// Bounds on what it uses up.
    pub limits: Limits,
    /// Whether it is not started unless every duty is in force.
    pub required: bool,
}

/// A duty for `status`.
pub(crate) fn duty(name: &str, outcome: Result<String, String>) -> DutyStatus {
    let in_force = outcome.is_ok();
    DutyStatus {
        duty: name.to_owned(),
        in_force,
        detail: outcome.unwrap_or_else(|why| why),
    }
}

/// A system call's result as one of Rust's.
pub(crate) fn check(result: nix::libc::c_long) -> std::io::Result<nix::libc::c_long> {
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
