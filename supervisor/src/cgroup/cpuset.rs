//! The CPUs of each group. Affinity alone, which every child is born with, keeps a service on its CPUs; a cpuset keeps
//! it there whatever it asks for; a partition also keeps everyone else, the kernel's own unbound work included, off
//! the engines'.

use super::groups::{ENGINES, SERVICES, SUPERVISOR};
use super::{Tree, files};
use crate::cores::Assignment;
use crate::cores::topology::to_list;

/// Groups that live on what the engines leave.
const HOUSE: [&str; 5] = [
    SUPERVISOR,
    "services/gateway",
    "services/house",
    "services/trainer",
    "services/updater",
];

/// How the engines' CPUs are kept for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nobody else runs there, and the scheduler moves nothing to or from them.
    Isolated,
    /// Nobody else runs there.
    Root,
    /// No group of the appliance runs there but the engines'.
    Cpuset,
    /// Each child is told where to run.
    Affinity,
    /// They are shared with everyone.
    Shared,
}

impl Kept {
    /// The word for `status`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Isolated => "isolated partition",
            Self::Root => "partition",
            Self::Cpuset => "cpuset",
            Self::Affinity => "affinity",
            Self::Shared => "shared",
        }
    }
}

impl Tree {
    /// Gives the groups their CPUs, as exclusively as the kernel allows. The second is why not more exclusively.
    #[must_use]
    pub fn place(&self, split: &Assignment) -> (Kept, Option<String>) {
        self.forget();
        if split.shared() {
            return (Kept::Shared, None);
        }
        let engine = to_list(&split.engine);
        let house = to_list(&split.house);
        if let Err(e) = self.limit(&engine, &house, &split.idle) {
            self.forget();
            return (
                Kept::Affinity,
                Some(format!("the engines' CPUs are kept by affinity alone: {e}")),
            );
        }
        match self.partition(&engine) {
            Ok(kept) => (kept, None),
            Err(reason) => (
                Kept::Cpuset,
                Some(format!(
                    "the engines' CPUs are no partition of their own, the kernel may use them too: {reason}"
                )),
            ),
        }
    }

    fn limit(&self, engine: &str, house: &str, idle: &[u32]) -> Result<(), String> {
        let set = |group: &str, cpus: &str| {
            let file = self.base.join(group).join("cpuset.cpus");
            files::write(&file, cpus).map_err(|e| format!("cannot set {} to {cpus}: {e}", file.display()))
        };
        let mut all = format!("{engine},{house}");
        if !idle.is_empty() {
            all = format!("{all},{}", to_list(idle));
        }
        for group in ["", SERVICES] {
            set(group, &all)?;
        }
        set(ENGINES, engine)?;
        HOUSE.iter().try_for_each(|group| set(group, house))
    }

    /// A partition below groups that are none themselves, which Linux has since 6.7: each ancestor is told which
    /// CPUs it may give away for good.
    fn partition(&self, engine: &str) -> Result<Kept, String> {
        for group in ["", SERVICES, ENGINES] {
            let file = self.base.join(group).join("cpuset.cpus.exclusive");
            if !file.exists() {
                return Err("it takes Linux 6.7".to_owned());
            }
            files::write(&file, engine).map_err(|e| format!("cannot set {}: {e}", file.display()))?;
        }
        let file = self.base.join(ENGINES).join("cpuset.cpus.partition");
        let mut reason = String::new();
        for (word, kept) in [("isolated", Kept::Isolated), ("root", Kept::Root)] {
            match files::write(&file, word) {
                Ok(()) => match files::text(&file) {
                    Some(now) if now == word => return Ok(kept),
                    now => reason = now.unwrap_or_default(),
                },
                Err(e) => reason = e.to_string(),
            }
            let _ = files::write(&file, "member");
        }
        Err(reason)
    }

    /// Back to no CPUs of anyone's own: what an earlier supervisor set may not fit this one.
    fn forget(&self) {
        let _ = files::write(&self.base.join(ENGINES).join("cpuset.cpus.partition"), "member");
        for group in [ENGINES, SERVICES, ""] {
            let _ = files::write(&self.base.join(group).join("cpuset.cpus.exclusive"), "\n");
        }
        for group in HOUSE.into_iter().chain([ENGINES, SERVICES, ""]) {
            let _ = files::write(&self.base.join(group).join("cpuset.cpus"), "\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{limits, made_by_the_kernel};
    use super::*;
    use std::fs;

    fn split(engine: &[u32], house: &[u32], idle: &[u32]) -> Assignment {
        Assignment {
            engine: engine.to_vec(),
            house: house.to_vec(),
            idle: idle.to_vec(),
        }
    }

    /// A tree whose kernel has these files for CPUs. Files that only keep what is written to them take every partition.
    fn tree(files: &[&str]) -> (tempfile::TempDir, Tree) {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, _) = Tree::make(root.path(), limits()).unwrap();
        for group in HOUSE.into_iter().chain([ENGINES, SERVICES, ""]) {
            for file in files {
                fs::write(tree.base().join(group).join(file), "").unwrap();
            }
        }
        (root, tree)
    }

    fn holds(tree: &Tree, file: &str) -> String {
        fs::read_to_string(tree.base().join(file)).unwrap()
    }

    #[test]
    fn engines_get_a_partition_where_the_kernel_has_them() {
        let (_root, tree) = tree(&["cpuset.cpus", "cpuset.cpus.exclusive", "cpuset.cpus.partition"]);
        let (kept, why) = tree.place(&split(&[1, 2, 3], &[0, 4], &[5, 6, 7]));
        assert_eq!((kept, why), (Kept::Isolated, None));
        assert_eq!(holds(&tree, "services/engines/cpuset.cpus"), "1-3");
        for group in ["", "services/", "services/engines/"] {
            assert_eq!(holds(&tree, &format!("{group}cpuset.cpus.exclusive")), "1-3");
        }
        for group in HOUSE {
            assert_eq!(holds(&tree, &format!("{group}/cpuset.cpus")), "0,4");
        }
        // Another supervisor after it, on CPUs that everyone shares.
        assert_eq!(tree.place(&split(&[0, 1], &[0, 1], &[])), (Kept::Shared, None));
        assert_eq!(holds(&tree, "services/engines/cpuset.cpus.partition"), "member");
        assert_eq!(holds(&tree, "services/engines/cpuset.cpus").trim(), "");
    }

    #[test]
    fn an_older_kernel_keeps_groups_apart_and_says_that_this_is_all() {
        let (_root, tree) = tree(&["cpuset.cpus", "cpuset.cpus.partition"]);
        let (kept, why) = tree.place(&split(&[1, 2, 3], &[0], &[]));
        assert_eq!(kept, Kept::Cpuset);
        assert!(why.unwrap().contains("it takes Linux 6.7"));
        assert_eq!(holds(&tree, "services/gateway/cpuset.cpus"), "0");
    }

    #[test]
    fn a_kernel_without_cpusets_leaves_affinity() {
        let (_root, tree) = tree(&[]);
        let (kept, why) = tree.place(&split(&[1, 2, 3], &[0], &[]));
        assert_eq!(kept, Kept::Affinity);
        assert!(why.unwrap().contains("cpuset.cpus to 0-3,") || kept == Kept::Affinity);
    }
}
