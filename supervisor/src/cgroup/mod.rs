//! The cgroup v2 tree of the appliance: one budget for everything, one group a service.
//!
//! ```text
//! sarai                   the budget: memory.max, no swap
//! ├── supervisor          PID 1; its own part of the budget is kept for it (memory.min, here and above)
//! └── services            what is left of the budget; memory.high below it: what the governor watches
//!     ├── engines         the engines' CPUs
//!     │   ├── engine-primary
//!     │   └── engine-fallback
//!     ├── gateway
//!     ├── house           console, DHCP, and whatever else has no group of its own
//!     ├── trainer
//!     └── updater
//! ```
//!
//! PID 1 is no member of `services`: the kernel slows down whoever allocates while a group is above its
//! `memory.high`, and the governor, which has to bring it down again, must not be slowed down with it.
//!
//! `groups` says what is set in each group, `files` reads and writes, `leftover` ends what a supervisor that was killed
//! left behind, `cpuset` gives groups their CPUs, `report` is what `status` shows.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

mod cpuset;
pub(crate) mod files;
mod groups;
mod leftover;
mod report;

pub use cpuset::Kept;
pub use groups::Limits;
use groups::SUPERVISOR;

/// Where cgroup v2 is mounted in the image.
pub const ROOT: &str = "/sys/fs/cgroup";
/// Name of the subtree below the folder it is made in.
const BASE: &str = "sarai";

/// The subtree.
#[derive(Debug, Clone)]
pub struct Tree {
    base: PathBuf,
    limits: Limits,
}

impl Tree {
    /// Makes the subtree below `root` with these limits. The sentences name what could not be set; everything else is
    /// set all the same.
    ///
    /// # Errors
    /// When a group cannot be made at all, or another supervisor uses the tree.
    pub fn make(root: &Path, limits: Limits) -> io::Result<(Self, Vec<String>)> {
        let base = root.join(BASE);
        let mut problems = Vec::new();
        leftover::refuse_a_second(&base)?;
        fs::create_dir_all(&base)?;
        for folder in [root.to_owned(), base.clone()] {
            files::enable(&folder, &mut problems);
        }
        for group in groups::all(&limits) {
            let folder = base.join(group.path);
            fs::create_dir_all(&folder)?;
            for (file, value) in &group.settings {
                files::set(&folder.join(file), value, &mut problems);
            }
            if group.inner {
                files::enable(&folder, &mut problems);
            }
        }
        Ok((Self { base, limits }, problems))
    }

    /// Moves this process, with all its threads, into the group that is kept for it. What it has allocated before
    /// stays billed to where it was.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> io::Result<()> {
        files::write(&self.folder(SUPERVISOR).join("cgroup.procs"), "0")
    }

    /// The group of everything: `memory.max` is the budget, `memory.current` what counts against it.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The group of everything but the supervisor. `memory.high` is set here, and pressure, events and statistics of
    /// this group are those of the services alone.
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.base.join(groups::SERVICES)
    }

    /// The group of one service; `house` for one that has none of its own.
    #[must_use]
    pub fn folder(&self, service: &str) -> PathBuf {
        self.base.join(groups::path_of(service))
    }

    /// What was set, bytes.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// `cgroup.procs` of a service's group, for a child to enter by writing `0`.
    ///
    /// # Errors
    /// When the group has no such file.
    pub fn procs(&self, service: &str) -> io::Result<File> {
        OpenOptions::new()
            .write(true)
            .open(self.folder(service).join("cgroup.procs"))
    }

    /// Memory charged to the subtree, bytes.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        files::number(&self.base.join("memory.current"))
    }

    /// How often the kernel has ended a process of this service's group because memory ran out.
    #[must_use]
    pub fn oom_kills(&self, service: &str) -> Option<u64> {
        files::keyed(&self.folder(service).join("memory.events"), "oom_kill")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a machine with more than the budget.
    pub(super) fn limits() -> Limits {
        Limits::of(1 << 30, 4 << 30, 128 << 20)
    }

    /// A folder with the files that the kernel would make in it.
    pub(super) fn made_by_the_kernel(root: &Path) {
        let limits = limits();
        for folder in [root.to_owned(), root.join(BASE)] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.subtree_control"), "").unwrap();
        }
        for group in groups::all(&limits) {
            let folder = root.join(BASE).join(group.path);
            fs::create_dir_all(&folder).unwrap();
            for file in ["cgroup.subtree_control", "cgroup.procs"] {
                fs::write(folder.join(file), "").unwrap();
            }
            for (file, _) in group.settings {
                fs::write(folder.join(file), "").unwrap();
            }
        }
    }

    fn holds(tree: &Tree, group: &str, file: &str, value: &str) {
        let path = tree.base().join(group).join(file);
        let found = fs::read_to_string(&path).unwrap();
        assert_eq!(found, value, "{}", path.display());
    }

    #[test]
    fn every_group_gets_its_limits_and_the_supervisor_what_every_ancestor_grants() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, problems) = Tree::make(root.path(), limits()).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        let limits = tree.limits();
        holds(&tree, "", "memory.max", &(1u64 << 30).to_string());
        holds(&tree, "", "memory.swap.max", "0");
        for group in ["", "supervisor"] {
            holds(&tree, group, "memory.min", &limits.supervisor.to_string());
        }
        holds(&tree, "services", "memory.high", &limits.high.to_string());
        holds(&tree, "services/trainer", "cpu.max", "200000 100000");
        holds(
            &tree,
            "services/trainer",
            "memory.max",
            &(128u64 << 20).to_string(),
        );
        for service in [
            "engine-primary",
            "engine-fallback",
            "gateway",
            "trainer",
            "updater",
        ] {
            let folder = tree.folder(service);
            assert!(folder.ends_with(service), "{}", folder.display());
            assert_eq!(fs::read_to_string(folder.join("memory.oom.group")).unwrap(), "1");
            assert_eq!(fs::read_to_string(folder.join("memory.swap.max")).unwrap(), "0");
            assert!(tree.procs(service).is_ok());
        }
        assert!(tree.folder("console-ttyS0").ends_with("house"));
        tree.enter().unwrap();
        holds(&tree, "supervisor", "cgroup.procs", "0");
    }

    #[test]
    fn what_the_kernel_refuses_is_named_and_the_rest_is_set() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let base = root.path().join(BASE);
        fs::remove_file(base.join("services/memory.high")).unwrap();
        fs::remove_file(base.join("services/gateway/cpu.weight")).unwrap();
        fs::remove_file(base.join("services/gateway/memory.swap.max")).unwrap();
        let (tree, problems) = Tree::make(root.path(), limits()).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("services/memory.high to "), "{problems:?}");
        assert!(
            problems[1].contains("services/gateway/cpu.weight to "),
            "{problems:?}"
        );
        holds(&tree, "", "memory.max", &(1u64 << 30).to_string());
        holds(
            &tree,
            "services/gateway",
            "memory.max",
            &tree.limits().gateway.to_string(),
        );
    }

    #[test]
    fn a_folder_that_is_no_cgroup_is_named_file_by_file() {
        let root = tempfile::tempdir().unwrap();
        let (tree, problems) = Tree::make(root.path(), limits()).unwrap();
        assert!(
            problems.iter().any(|p| p.contains("memory.max to 1073741824")),
            "{problems:?}"
        );
        assert!(tree.current().is_none() && tree.oom_kills("gateway").is_none());
        assert!(tree.procs("gateway").is_err() && tree.enter().is_err());
    }

    #[test]
    fn events_are_read_by_their_name() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, _) = Tree::make(root.path(), limits()).unwrap();
        fs::write(
            tree.folder("gateway").join("memory.events"),
            "low 0\nhigh 3\nmax 9\noom 2\noom_kill 5\noom_group_kill 1\n",
        )
        .unwrap();
        fs::write(tree.base().join("memory.current"), "4096\n").unwrap();
        assert_eq!(tree.oom_kills("gateway"), Some(5));
        assert_eq!(tree.current(), Some(4096));
    }
}
