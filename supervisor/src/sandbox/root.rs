//! A root that holds what the child needs and nothing else: an empty file system in memory, into which the few
//! folders are mounted under the paths they have outside, read-only unless they are its own.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::libc;
use sarai_wire::control::DutyStatus;

use super::{Sandbox, check, duty};

/// Most mounts; their descriptors are kept where no allocation is needed.
const MAX_MOUNTS: usize = 24;
/// A file that hides others, in the new root.
const NOTHING: &CStr = c".nothing";
/// `open_tree`: a copy of the mount, not the mount itself.
const OPEN_TREE_CLONE: libc::c_uint = 1;
/// `move_mount`: what is moved is the descriptor itself.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;

/// `struct mount_attr`.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

struct Mount {
    source: CString,
    target: CString,
    attributes: u64,
}

/// The plan of a root.
pub struct Root {
    /// A folder that exists, over which it is built.
    site: CString,
    folders: Vec<CString>,
    files: Vec<CString>,
    links: Vec<(CString, CString)>,
    mounts: Vec<Mount>,
    hidden: Vec<CString>,
    proc: bool,
    temporary: Option<CString>,
}

/// Name of the duty.
pub const DUTY: &str = "root";

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// The same path below the new root, which is the current folder then.
fn below(path: &Path) -> io::Result<CString> {
    text(path.strip_prefix("/").unwrap_or(path))
}

impl Root {
    /// Plans the root of `sandbox`, built over the folder `site`. What is not there is left out.
    pub fn prepare(sandbox: &Sandbox, site: &Path) -> io::Result<Self> {
        let mut me = Self {
            site: text(site)?,
            folders: Vec::new(),
            files: Vec::new(),
            links: Vec::new(),
            mounts: Vec::new(),
            hidden: Vec::new(),
            proc: sandbox.proc,
            temporary: None,
        };
        for path in &sandbox.code {
            me.mount(path, RDONLY | NOSUID | NODEV)?;
        }
        for path in &sandbox.read {
            me.mount(path, RDONLY | NOSUID | NODEV | NOEXEC)?;
        }
        for path in &sandbox.write {
            me.mount(path, NOSUID | NODEV | NOEXEC)?;
        }
        if !sandbox.devices.is_empty() {
            // As a whole: a terminal's multiplexer looks for its terminals beside itself.
            me.mount(Path::new("/dev"), NOSUID | NOEXEC)?;
        }
        for path in &sandbox.hidden {
            me.hidden.push(below(path)?);
        }
        if let Some(bytes) = sandbox.temporary {
            let options = format!("mode=1777,size={bytes},nr_inodes=4096");
            me.temporary = Some(CString::new(options).map_err(io::Error::other)?);
        }
        if me.mounts.len() > MAX_MOUNTS {
            return Err(io::Error::other(format!("more than {MAX_MOUNTS} mounts")));
        }
        Ok(me)
    }

    fn mount(&mut self, path: &Path, attributes: u64) -> io::Result<()> {
        let Ok(kind) = path.symlink_metadata() else {
            return Ok(());
        };
        self.parents(path)?;
        if kind.is_symlink() {
            // A system's folder that is a link to another one, as `/lib` is: the same link in here.
            self.links.push((text(&std::fs::read_link(path)?)?, below(path)?));
            return Ok(());
        }
        if kind.is_dir() {
            self.folder(path)?;
        } else {
            self.files.push(below(path)?);
        }
        self.mounts.push(Mount {
            source: text(path)?,
            target: below(path)?,
            attributes,
        });
        Ok(())
    }

    fn parents(&mut self, path: &Path) -> io::Result<()> {
        let mut at = PathBuf::new();
        for part in path.parent().into_iter().flat_map(Path::components) {
            if let Component::Normal(name) = part {
                at.push::<&OsStr>(name);
                self.folder(&at.clone())?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, path: &Path) -> io::Result<()> {
        let folder = below(path)?;
        // One mount may lie inside another: its folder is there already, and read-only.
        let inside = |mount: &Mount| {
            folder.to_bytes().starts_with(mount.target.to_bytes())
                && folder.to_bytes().get(mount.target.to_bytes().len()) == Some(&b'/')
        };
        if !self.folders.contains(&folder) && !self.mounts.iter().any(inside) {
            self.folders.push(folder);
        }
        Ok(())
    }

    /// For `status`.
    #[must_use]
    pub fn status(&self) -> DutyStatus {
        let detail = format!("empty but for {} mounts", self.mounts.len());
        duty(DUTY, Ok(detail))
    }

    /// Enters it. The child is alone in its mount namespace and may mount in there.
    pub fn enter(&self) -> io::Result<()> {
        let nothing = std::ptr::null::<libc::c_char>();
        let none = std::ptr::null();
        // SAFETY: every pointer below is to a terminated string or null where the call allows that.
        unsafe {
            let mask = libc::umask(0);
            // Nothing that is mounted in here shows outside.
            check(
                libc::mount(
                    nothing,
                    c"/".as_ptr(),
                    nothing,
                    libc::MS_REC | libc::MS_PRIVATE,
                    none,
                )
                .into(),
            )?;
            let mut copies: [RawFd; MAX_MOUNTS] = [-1; MAX_MOUNTS];
            for (copy, mount) in copies.iter_mut().zip(&self.mounts) {
                *copy = copy_of(mount)?;
            }
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            let options = c"mode=0755,size=1m,nr_inodes=512";
            check(
                libc::mount(
                    c"root".as_ptr(),
                    self.site.as_ptr(),
                    c"tmpfs".as_ptr(),
                    flags,
                    options.as_ptr().cast(),
                )
                .into(),
            )?;
            check(libc::chdir(self.site.as_ptr()).into())?;
            if self.proc {
                folder(c"proc")?;
                // Where a container hides parts of its own, there is none, and what it would say is not said.
                let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
                let options = c"subset=pid,hidepid=invisible";
                libc::mount(
                    c"proc".as_ptr(),
                    c"proc".as_ptr(),
                    c"proc".as_ptr(),
                    flags,
                    options.as_ptr().cast(),
                );
            }
            if let Some(options) = &self.temporary {
                folder(c"tmp")?;
                let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
                check(
                    libc::mount(
                        c"tmp".as_ptr(),
                        c"tmp".as_ptr(),
                        c"tmpfs".as_ptr(),
                        flags,
                        options.as_ptr().cast(),
                    )
                    .into(),
                )?;
            }
            for path in &self.folders {
                folder(path)?;
            }
            for file in self.files.iter().map(CString::as_c_str).chain([NOTHING]) {
                let fd = libc::open(file.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0);
                check(fd.into())?;
                libc::close(fd);
            }
            for (target, link) in &self.links {
                check(libc::symlink(target.as_ptr(), link.as_ptr()).into())?;
            }
            for (copy, mount) in copies.iter().zip(&self.mounts) {
                check(libc::syscall(
                    libc::SYS_move_mount,
                    *copy,
                    c"".as_ptr(),
                    libc::AT_FDCWD,
                    mount.target.as_ptr(),
                    MOVE_MOUNT_F_EMPTY_PATH,
                ))?;
            }
            for hidden in &self.hidden {
                let hid = libc::mount(NOTHING.as_ptr(), hidden.as_ptr(), nothing, libc::MS_BIND, none);
                allow(hid, libc::ENOENT)?;
            }
            set(libc::AT_FDCWD, c".", 0, RDONLY | NOSUID | NODEV)?;
            switch()?;
            libc::umask(mask);
        }
        Ok(())
    }
}

/// Makes a folder of the new root.
fn folder(path: &CStr) -> io::Result<()> {
    // SAFETY: the path is terminated.
    allow(unsafe { libc::mkdir(path.as_ptr(), 0o755) }, libc::EEXIST)
}

/// A result, with one error that is none.
fn allow(result: libc::c_int, harmless: libc::c_int) -> io::Result<()> {
    match check(result.into()) {
        Err(e) if e.raw_os_error() != Some(harmless) => Err(e),
        _ => Ok(()),
    }
}

/// A copy of a mount and all below it, not mounted anywhere yet.
fn copy_of(mount: &Mount) -> io::Result<RawFd> {
    const FLAGS: libc::c_uint =
        OPEN_TREE_CLONE | libc::O_CLOEXEC.unsigned_abs() | libc::AT_RECURSIVE.unsigned_abs();
    // SAFETY: the path is terminated.
    let copy =
        check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, mount.source.as_ptr(), FLAGS) })?;
    // Descriptors are small numbers.
    let copy = RawFd::try_from(copy).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    set(
        copy,
        c"",
        libc::AT_EMPTY_PATH.unsigned_abs() | libc::AT_RECURSIVE.unsigned_abs(),
        mount.attributes,
    )?;
    Ok(copy)
}

/// Adds attributes to a mount; those it has stay.
fn set(fd: RawFd, path: &CStr, flags: libc::c_uint, attributes: u64) -> io::Result<()> {
    let wanted = MountAttributes {
        set: attributes,
        clear: 0,
        propagation: 0,
        user_namespace: 0,
    };
    // SAFETY: the path is terminated, and pointer and size are those of a structure as the kernel reads it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path.as_ptr(),
            flags,
            &raw const wanted,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Makes the current folder, which is a mount, the root.
fn switch() -> io::Result<()> {
    // SAFETY: every pointer is to a terminated string or null where the call allows that.
    unsafe {
        let dot = c".".as_ptr();
        if check(libc::syscall(libc::SYS_pivot_root, dot, dot)).is_ok() {
            check(libc::umount2(dot, libc::MNT_DETACH).into())?;
        } else {
            // The root of an initramfs cannot be put aside. It is covered instead: no path leads below what is mounted
            // over a root, and the right to change roots goes with the capabilities.
            let nothing = std::ptr::null::<libc::c_char>();
            check(libc::mount(dot, c"/".as_ptr(), nothing, libc::MS_MOVE, std::ptr::null()).into())?;
            check(libc::chroot(dot).into())?;
        }
        check(libc::chdir(c"/".as_ptr()).into())?;
    }
    Ok(())
}
