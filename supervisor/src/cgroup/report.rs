//! What `status` shows of the groups.

use sarai_wire::control::GroupStatus;

use super::groups;
use super::{Tree, files};

impl Tree {
    /// Every group that has processes of its own, and the subtree as a whole.
    #[must_use]
    pub fn report(&self) -> Vec<GroupStatus> {
        groups::all(&self.limits)
            .iter()
            .filter(|group| !group.inner || group.path.is_empty())
            .map(|group| {
                let folder = self.base.join(group.path);
                let number = |file: &str| files::number(&folder.join(file));
                let name = group.path.rsplit('/').next().filter(|name| !name.is_empty());
                GroupStatus {
                    name: name.unwrap_or("all").to_owned(),
                    memory: number("memory.current"),
                    most: number("memory.peak"),
                    limit: number("memory.max"),
                    oom_kills: files::keyed(&folder.join("memory.events"), "oom_kill"),
                    processes: number("pids.current"),
                    refused: files::keyed(&folder.join("pids.events"), "max"),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{limits, made_by_the_kernel};
    use super::*;

    #[test]
    fn every_service_is_shown_and_what_the_kernel_does_not_count_is_absent() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, _) = Tree::make(root.path(), limits()).unwrap();
        let trainer = tree.folder("trainer");
        std::fs::write(trainer.join("memory.current"), "123\n").unwrap();
        std::fs::write(trainer.join("pids.events"), "max 7\n").unwrap();
        let report = tree.report();
        let names: Vec<&str> = report.iter().map(|group| group.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "all",
                "supervisor",
                "engine-primary",
                "engine-fallback",
                "gateway",
                "house",
                "trainer",
                "updater"
            ]
        );
        let trainer = report.iter().find(|group| group.name == "trainer").unwrap();
        assert_eq!((trainer.memory, trainer.refused), (Some(123), Some(7)));
        assert_eq!(trainer.limit, Some(tree.limits().trainer));
        assert_eq!((trainer.oom_kills, trainer.most), (None, None));
    }
}
