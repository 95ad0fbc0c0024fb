//! Who is confined to what.

use std::path::{Path, PathBuf};

use sarai_confine::Program;

use super::Sandbox;
use super::limits::Limits;
use crate::layout::{Layout, Mode};

/// Where a system keeps its shared libraries and what the loader knows of them.
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
/// Stack of a program's first thread, and of threads that ask for none in particular, bytes.
const STACK: u64 = 8 << 20;
/// Threads of one user: both engines, each with its compute threads and one a connection.
const ENGINE_THREADS: u64 = 512;
/// The gateway has a handful.
const GATEWAY_THREADS: u64 = 64;
/// The trainer has one a CPU, and a few.
const TRAINER_THREADS: u64 = 64;
/// The announcer has two.
const ANNOUNCER_THREADS: u64 = 16;
/// The admin's processes and threads: SSH sessions, what they run, and the prompts on the terminals.
const ADMIN_THREADS: u64 = 256;
/// Largest file of the audit log is 8 MiB, of feedback 32 MiB, each and a record more.
const GATEWAY_FILE: u64 = 64 << 20;
/// Largest adapter.
const TRAINER_FILE: u64 = 2 << 30;
/// The trainer's own `/tmp`, in memory and charged to it.
const TRAINER_TEMPORARY: u64 = 64 << 20;

/// What every program needs to be loaded.
fn base(layout: &Layout, program: Program) -> Sandbox {
    let mut code = vec![layout.programs.clone()];
    // Natively these may be links to a build's own folders.
    for name in ["lib", "backends"] {
        let folder = layout.programs.join(name);
        if let Ok(real) = folder.canonicalize()
            && real != folder
        {
            code.push(real);
        }
    }
    code.extend(LIBRARIES.iter().map(PathBuf::from));
    // A folder of another one needs no mount of its own: the other is mounted with all that is in it.
    let all = code.clone();
    code.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    code.dedup();
    Sandbox {
        program: Some(program),
        code,
        read: Vec::new(),
        write: Vec::new(),
        hidden: Vec::new(),
        network: false,
        connections: false,
        devices: Vec::new(),
        proc: false,
        temporary: None,
        limits: Limits {
            stack: Some(STACK),
            ..Limits::NONE
        },
        required: layout.mode == Mode::Pid1,
    }
}

/// An engine: nothing but its own code, and the kernel's account of itself, opened before the model is read. The model
/// comes as a descriptor.
#[must_use]
pub fn engine(layout: &Layout) -> Sandbox {
    let base = base(layout, Program::Engine);
    Sandbox {
        proc: true,
        limits: Limits {
            processes: layout.separate.then_some(ENGINE_THREADS),
            file: Some(0),
            ..base.limits
        },
        ..base
    }
}

/// The gateway: its credentials, the folders that are its own, and the folder of the engines' sockets without the admin's.
#[must_use]
pub fn gateway(layout: &Layout) -> Sandbox {
    let base = base(layout, Program::Gateway);
    Sandbox {
        read: vec![layout.gateway(), layout.run.clone()],
        write: vec![layout.audit(), layout.feedback()],
        hidden: vec![layout.control_socket()],
        proc: true,
        limits: Limits {
            processes: layout.separate.then_some(GATEWAY_THREADS),
            file: Some(GATEWAY_FILE),
            ..base.limits
        },
        ..base
    }
}

/// The trainer: nothing but its own code and a `/tmp` of its own. Model, data set and adapter come as descriptors. It
/// writes files of the largest adapter's size, or of `largest` bytes where that is more.
#[must_use]
pub fn trainer(layout: &Layout, largest: u64) -> Sandbox {
    let base = base(layout, Program::Trainer);
    Sandbox {
        temporary: Some(TRAINER_TEMPORARY),
        limits: Limits {
            processes: layout.separate.then_some(TRAINER_THREADS),
            file: Some(TRAINER_FILE.max(largest)),
            ..base.limits
        },
        ..base
    }
}

/// The announcer: the machine's network, and nothing but its own code.
#[must_use]
pub fn announcer(layout: &Layout) -> Sandbox {
    let base = base(layout, Program::Announcer);
    Sandbox {
        network: true,
        limits: Limits {
            processes: layout.separate.then_some(ANNOUNCER_THREADS),
            file: Some(0),
            ..base.limits
        },
        ..base
    }
}

/// The SSH server and the prompts it starts: programs, the names of users, the control socket, terminals, and the
/// machine's network. Other files are not there for them.
#[must_use]
pub fn ssh(layout: &Layout) -> Sandbox {
    let base = base(layout, Program::Gateway);
    let file = |path: &str| PathBuf::from(path);
    Sandbox {
        program: None,
        code: [
            base.code,
            vec![file(crate::service::ssh::SERVER), file("/usr/bin/sarai")],
        ]
        .concat(),
        read: vec![
            layout.run.clone(),
            file("/etc/passwd"),
            file("/etc/group"),
            file("/etc/shells"),
            file("/etc/hosts"),
        ],
        network: true,
        connections: true,
        devices: ["null", "zero", "urandom", "random", "tty", "ptmx", "pts"]
            .iter()
            .map(|name| Path::new("/dev").join(name))
            .collect(),
        proc: true,
        limits: Limits {
            processes: layout.separate.then_some(ADMIN_THREADS),
            file: Some(0),
            ..base.limits
        },
        ..base
    }
}
