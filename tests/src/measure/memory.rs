//! Memory of a native appliance: `memory.current` of a cgroup made for it, or, where none can be made, the
//! proportional shares (PSS) of its processes together.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

/// How often a sampler looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// A memory cgroup below this process's own, removed on drop.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
    /// Version 2 of the interface.
    unified: bool,
}

impl Group {
    /// Makes a group with `limit` bytes, no swap: version 2 where the controller can be had there, else version 1.
    ///
    /// # Errors
    /// When neither can be made: not root, or no controller.
    pub fn make(name: &str, limit: u64) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("read this process's groups")?;
        let mut last = None;
        for (parent, unified) in places(&mounts, &own) {
            let me = Self {
                folder: parent.join(format!("{name}-{}", std::process::id())),
                unified,
            };
            match me.set_up(&parent, limit) {
                Ok(()) => return Ok(me),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error.context("make a memory group")),
            None => bail!("make a memory group: there is no memory controller"),
        }
    }

    fn set_up(&self, parent: &Path, limit: u64) -> Result<()> {
        if self.unified {
            // Refused where this process sits in the group itself; then it may be enabled already, or not.
            let _ = fs::write(parent.join("cgroup.subtree_control"), "+memory");
        }
        // Left by a run that was killed.
        let _ = fs::remove_dir(&self.folder);
        fs::create_dir(&self.folder).with_context(|| format!("make {}", self.folder.display()))?;
        let file = if self.unified {
            "memory.max"
        } else {
            "memory.limit_in_bytes"
        };
        fs::write(self.folder.join(file), limit.to_string()).with_context(|| format!("set {file}"))?;
        for no_swap in ["memory.swap.max", "memory.swappiness"] {
            let _ = fs::write(self.folder.join(no_swap), "0");
        }
        Ok(())
    }

    /// The file that takes process ids.
    #[must_use]
    pub fn procs(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    fn number(&self, unified: &str, legacy: &str) -> Result<u64> {
        let path = self.folder.join(if self.unified { unified } else { legacy });
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim()
            .parse()
            .with_context(|| format!("understand {text:?}"))
    }

    /// What is billed now, bytes.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn current(&self) -> Result<u64> {
        self.number("memory.current", "memory.usage_in_bytes")
    }

    /// The most that was ever billed, bytes, where the kernel keeps count.
    #[must_use]
    pub fn peak(&self) -> Option<u64> {
        self.number("memory.peak", "memory.max_usage_in_bytes").ok()
    }

    /// Processes the kernel ended here because memory ran out.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn oom_kills(&self) -> Result<u64> {
        let file = if self.unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        let text = fs::read_to_string(self.folder.join(file)).with_context(|| format!("read {file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok())
            .with_context(|| format!("find oom_kill in {text:?}"))
    }

    /// What its figures are called.
    #[must_use]
    pub fn source(&self) -> &'static str {
        if self.unified {
            "memory.current"
        } else {
            "memory.usage_in_bytes"
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Ended processes leave a moment after they were waited for.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Folders of this process's own group: version 2 first, if it has the controller, then version 1.
fn places(mounts: &str, own: &str) -> Vec<(PathBuf, bool)> {
    let mounted = |kind: &str, option: &str| {
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, found, options) = (fields.next()?, fields.next()?, fields.next()?);
            (found == kind && (option.is_empty() || options.split(',').any(|o| o == option)))
                .then(|| PathBuf::from(place))
        })
    };
    let path = |wanted: &dyn Fn(&str) -> bool| {
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let mut found = Vec::new();
    if let (Some(mount), Some(path)) = (mounted("cgroup2", ""), path(&str::is_empty)) {
        let folder = mount.join(path);
        let controllers = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_whitespace().any(|c| c == "memory") {
            found.push((folder, true));
        }
    }
    let legacy = |controllers: &str| controllers.split(',').any(|c| c == "memory");
    if let (Some(mount), Some(path)) = (mounted("cgroup", "memory"), path(&legacy)) {
        found.push((mount.join(path), false));
    }
    found
}

/// How memory is measured here.
#[derive(Debug, Clone)]
pub enum Meter {
    /// By a group of its own.
    Group(Arc<Group>),
    /// By the processes whose programs lie in this folder.
    Processes(PathBuf),
}

impl Meter {
    /// What its figures are, for people.
    #[must_use]
    pub fn source(&self) -> String {
        match self {
            Self::Group(group) => format!("{} of a group with the budget as its limit", group.source()),
            Self::Processes(_) => {
                "sum of the processes' proportional shares (PSS): no group could be made".to_owned()
            }
        }
    }

    /// Memory now, bytes.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn now(&self) -> Result<u64> {
        match self {
            Self::Group(group) => group.current(),
            Self::Processes(folder) => Ok(process::running_from(folder)
                .iter()
                .filter_map(|process| proportional(process.pid))
                .sum()),
        }
    }
}

/// A process's memory with its share of what it shares, bytes; `None` once it is gone.
#[must_use]
pub fn proportional(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// Makes the kernel forget the cached pages of a file, so that whoever reads it next is billed for them.
///
/// # Errors
/// When the file cannot be read or brought to the disk.
pub fn forget(path: &Path) -> Result<()> {
    let file = fs::File::open(path).with_context(|| format!("read {}", path.display()))?;
    file.sync_all()
        .with_context(|| format!("bring {} to the disk", path.display()))?;
    nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .with_context(|| format!("drop {} from the page cache", path.display()))
}

/// Looks at a meter ten times a second on a thread of its own.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Sampler {
    /// Begins.
    #[must_use]
    pub fn start(meter: Meter) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut samples = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                samples.extend(meter.now());
                thread::sleep(INTERVAL);
            }
            samples
        });
        Self { stop, thread }
    }

    /// Ends and gives what was seen, bytes.
    ///
    /// # Errors
    /// When nothing was.
    pub fn finish(self) -> Result<Vec<u64>> {
        self.stop.store(true, Ordering::Relaxed);
        let samples = self.thread.join().ok().filter(|samples| !samples.is_empty());
        samples.context("measure memory: no sample was taken")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_share_of_memory() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(proportional(me).unwrap() > 100_000);
    }

    #[test]
    fn the_own_group_is_found_in_either_version() {
        let mounts = "none /cg/memory cgroup rw,memory 0 0\nnone /cg/cpu cgroup rw,cpu 0 0\n";
        let own = "4:memory:/a/b\n3:cpu:/\n0::/\n";
        assert_eq!(places(mounts, own), [(PathBuf::from("/cg/memory/a/b"), false)]);
        assert_eq!(places("", own), []);
    }

    #[test]
    fn a_sampler_sees_what_its_meter_says() {
        let bin = std::env::current_exe().unwrap();
        let sampler = Sampler::start(Meter::Processes(bin.parent().unwrap().to_owned()));
        thread::sleep(INTERVAL);
        assert!(sampler.finish().unwrap().iter().any(|bytes| *bytes > 100_000));
    }
}
