//! The cgroup v2 tree of the appliance: one budget for everything, one group a service. Natively there is none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup v2 is mounted in the image.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Memory left to the kernel and the supervisor when the machine has less than the budget, bytes.
const RESERVE: u64 = 256 * 1024 * 1024;

/// Groups of the services, with the most processes of each and its share of the CPU under contention. The gateway
/// gets more than an engine: it needs little, and every client waits for it.
const GROUPS: [(&str, u32, u32); 4] = [
    ("engine-primary", 256, 100),
    ("engine-fallback", 256, 100),
    ("gateway", 128, 400),
    ("house", 128, 200),
];

/// The subtree.
#[derive(Debug, Clone)]
pub struct Tree {
    base: PathBuf,
}

impl Tree {
    /// Makes the subtree below `root` with `budget` bytes, less when the machine has less. The sentences name what
    /// could not be set; the tree is used all the same.
    pub fn make(root: &Path, budget: u64, machine: u64) -> io::Result<(Self, Vec<String>)> {
        let base = root.join("sarai");
        let mut problems = Vec::new();
        let mut set = |file: PathBuf, value: &str| {
            if let Err(e) = write(&file, value) {
                // A kernel without swap has no file to forbid it in.
                if file.ends_with("memory.swap.max") && e.kind() == io::ErrorKind::NotFound {
                    return;
                }
                problems.push(format!("cannot set {} to {value}: {e}", file.display()));
            }
        };
        fs::create_dir_all(&base)?;
        set(root.join("cgroup.subtree_control"), "+cpu +memory +pids");
        set(base.join("cgroup.subtree_control"), "+cpu +memory +pids");
        set(base.join("memory.max"), &limit(budget, machine).to_string());
        set(base.join("memory.swap.max"), "0");
        set(base.join("pids.max"), "1024");
        for (name, processes, weight) in GROUPS {
            let group = base.join(name);
            fs::create_dir_all(&group)?;
            set(group.join("memory.oom.group"), "1");
            set(group.join("memory.swap.max"), "0");
            set(group.join("pids.max"), &processes.to_string());
            set(group.join("cpu.weight"), &weight.to_string());
        }
        Ok((Self { base }, problems))
    }

    /// `cgroup.procs` of a service's group, for a child to enter by writing `0`.
    pub fn procs(&self, service: &str) -> io::Result<File> {
        let name = if GROUPS.iter().any(|(name, ..)| *name == service) {
            service
        } else {
            "house"
        };
        OpenOptions::new()
            .write(true)
            .open(self.base.join(name).join("cgroup.procs"))
    }

    /// Memory charged to the subtree, bytes.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        fs::read_to_string(self.base.join("memory.current"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

/// The budget, or what the machine can give.
fn limit(budget: u64, machine: u64) -> u64 {
    budget.min(machine.saturating_sub(RESERVE).max(RESERVE))
}

fn write(file: &Path, value: &str) -> io::Result<()> {
    // Files of a cgroup are there or not; making one would hide that a controller is missing.
    let mut file = OpenOptions::new().write(true).open(file)?;
    io::Write::write_all(&mut file, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_budget_or_what_the_machine_can_give() {
        assert_eq!(limit(10 << 30, 16 << 30), 10 << 30);
        assert_eq!(limit(10 << 30, 4 << 30), (4 << 30) - RESERVE);
        assert_eq!(limit(10 << 30, 0), RESERVE);
    }

    #[test]
    fn missing_controllers_are_named_one_by_one() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.subtree_control"), "").unwrap();
        let (tree, problems) = Tree::make(root.path(), 1 << 30, 1 << 31).unwrap();
        assert!(
            problems.iter().any(|p| p.contains("memory.max to 1073741824")),
            "{problems:?}"
        );
        assert!(
            !problems
                .iter()
                .any(|p| p.contains("subtree_control") && !p.contains("/sarai/")),
            "{problems:?}"
        );
        assert!(tree.current().is_none());
        assert!(tree.procs("gateway").is_err());
    }
}
