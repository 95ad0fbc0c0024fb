//! The kernel's file systems.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// Source, target, type, flags, options.
type Mount = (&'static str, &'static str, &'static str, MsFlags, &'static str);

const SAFE: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const MOUNTS: [Mount; 8] = [
    ("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755"),
    ("proc", "/proc", "proc", SAFE, ""),
    ("sysfs", "/sys", "sysfs", SAFE, ""),
    (
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "mode=0620,gid=5,ptmxmode=0666",
    ),
    ("tmpfs", "/dev/shm", "tmpfs", SAFE, "mode=1777,size=16m"),
    ("tmpfs", "/run", "tmpfs", SAFE, "mode=0755,size=16m"),
    ("tmpfs", "/tmp", "tmpfs", SAFE, "mode=1777,size=64m"),
    ("cgroup2", crate::cgroup::ROOT, "cgroup2", SAFE, ""),
];

/// Mounts all of them; the error names those that failed.
pub fn all() -> Result<String, String> {
    let mut failed = Vec::new();
    for (source, target, kind, flags, options) in MOUNTS {
        let made = fs::create_dir_all(target).map_err(|e| e.to_string());
        let options = (!options.is_empty()).then_some(options);
        let mounted =
            made.and_then(
                |()| match mount(Some(source), Path::new(target), Some(kind), flags, options) {
                    // Mounted already, by the kernel or before `main`.
                    Ok(()) | Err(Errno::EBUSY) => Ok(()),
                    Err(e) => Err(e.to_string()),
                },
            );
        if let Err(e) = mounted {
            failed.push(format!("{target} ({e})"));
        }
    }
    if failed.is_empty() {
        Ok(format!("{} mounted", MOUNTS.len()))
    } else {
        Err(format!("not mounted: {}", failed.join(", ")))
    }
}
