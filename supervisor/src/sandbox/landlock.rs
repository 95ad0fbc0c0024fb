//! Landlock: what may be opened, by the kernel's own rules for it, whatever the root holds. It also forbids new TCP
//! connections and listeners, and signals and abstract sockets to anything outside, where the kernel knows how.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::libc;
use sarai_wire::control::DutyStatus;

use super::{Sandbox, check, duty};

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_REG: u64 = 1 << 8;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;

/// All rights over files by version of the interface (`LANDLOCK_ACCESS_FS_*`): the first has 13, later ones add
/// moving between folders, truncation and commands to devices.
const FILES: [u64; 5] = [0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff];
/// Binding and connecting TCP sockets, from version 4.
const NETWORK: u64 = 0b11;
/// Abstract Unix sockets and signals, from version 6.
const SCOPE: u64 = 0b11;

const CREATE_VERSION: libc::c_uint = 1;
const RULE_PATH_BENEATH: libc::c_int = 1;

/// `struct landlock_ruleset_attr`. Older kernels read less of it.
#[repr(C)]
struct RulesetAttributes {
    files: u64,
    network: u64,
    scope: u64,
}

/// `struct landlock_path_beneath_attr`, which has no padding.
#[repr(C, packed)]
struct PathBeneath {
    allowed: u64,
    parent: libc::c_int,
}

struct Rule {
    path: CString,
    allowed: u64,
}

/// A prepared set of rules.
pub struct Rules {
    attributes: RulesetAttributes,
    /// Bytes of the attributes that this kernel knows.
    size: usize,
    version: usize,
    rules: Vec<Rule>,
}

/// Name of the duty.
pub const DUTY: &str = "landlock";

/// The kernel's version of the interface; an error where there is none.
fn version() -> io::Result<usize> {
    let nothing = std::ptr::null::<RulesetAttributes>();
    // SAFETY: with this flag the pointer must be null and the size 0.
    let version =
        check(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, CREATE_VERSION) })?;
    usize::try_from(version).map_err(io::Error::other)
}

impl Rules {
    /// The rules of `sandbox`, as far as this kernel knows them. An error where it knows none.
    pub fn prepare(sandbox: &Sandbox) -> io::Result<Self> {
        let version = version()?;
        let files = FILES[version.clamp(1, FILES.len()) - 1];
        let (network, scope, size) = match version {
            ..=3 => (0, 0, 8),
            4 | 5 => (NETWORK, 0, 16),
            _ => (NETWORK, SCOPE, 24),
        };
        let network = if sandbox.connections { 0 } else { network };
        let mut rules = Vec::new();
        let mut add = |path: &Path, allowed: u64| -> io::Result<()> {
            let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
            rules.push(Rule {
                path,
                allowed: allowed & files,
            });
            Ok(())
        };
        for path in &sandbox.code {
            add(path, READ_FILE | READ_DIR | EXECUTE)?;
        }
        for path in &sandbox.read {
            add(path, READ_FILE | READ_DIR)?;
        }
        for path in &sandbox.write {
            add(
                path,
                READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE,
            )?;
        }
        for path in &sandbox.devices {
            add(path, READ_FILE | READ_DIR | WRITE_FILE | IOCTL_DEV)?;
        }
        if sandbox.proc {
            add(Path::new("/proc/self"), READ_FILE | READ_DIR)?;
        }
        if sandbox.temporary.is_some() {
            add(
                Path::new("/tmp"),
                READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | MAKE_REG | REMOVE_FILE,
            )?;
        }
        Ok(Self {
            attributes: RulesetAttributes {
                files,
                network,
                scope,
            },
            size,
            version,
            rules,
        })
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> DutyStatus {
        duty(DUTY, Ok(format!("version {}", self.version)))
    }

    /// In the child, once it is in its root: what is not named cannot be opened any more.
    pub fn enter(&self) -> io::Result<()> {
        // SAFETY: pointer and size are those of a structure that the kernel reads no further.
        let ruleset = check(unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const self.attributes,
                self.size,
                0,
            )
        })?;
        for rule in &self.rules {
            allow(ruleset, &rule.path, rule.allowed)?;
        }
        // SAFETY: plain system calls on a descriptor of our own.
        unsafe {
            check(libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0))?;
            libc::syscall(libc::SYS_close, ruleset);
        }
        Ok(())
    }
}

fn allow(ruleset: libc::c_long, path: &CStr, allowed: u64) -> io::Result<()> {
    // SAFETY: all zeroes is a valid `stat`; paths are terminated; pointers are to structures of the right size; the
    // descriptor is our own.
    unsafe {
        let parent = libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        if parent < 0 {
            // What is not there needs no rule.
            return Ok(());
        }
        let mut found: libc::stat = std::mem::zeroed();
        check(libc::fstat(parent, &raw mut found).into())?;
        let folder = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
        // The kernel refuses rights that a file cannot have.
        let rights = if folder {
            u64::MAX
        } else {
            EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
        };
        let beneath = PathBeneath {
            allowed: allowed & rights,
            parent,
        };
        let added = check(libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset,
            RULE_PATH_BENEATH,
            &raw const beneath,
            0,
        ));
        libc::close(parent);
        added.map(|_| ())
    }
}
