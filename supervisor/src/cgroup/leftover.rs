//! What a supervisor that was killed left behind. Its children are told by the kernel to end with it, but what they
//! started themselves is not. It is ended, and named: it would be billed to a service that is not its own, and might
//! hold what the service needs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::groups::SUPERVISOR;
use super::{Tree, files};

/// Time for the kernel to end what was killed.
const LIMIT: Duration = Duration::from_secs(5);
/// Most processes that are named; the rest is a number.
const NAMED: usize = 8;

/// An error when somebody other than this process supervises the tree at `base`.
pub(super) fn refuse_a_second(base: &Path) -> io::Result<()> {
    let own = nix::unistd::getpid().as_raw();
    match members(&base.join(SUPERVISOR))
        .into_iter()
        .find(|pid| *pid != own)
    {
        None => Ok(()),
        Some(pid) => Err(io::Error::other(format!(
            "another supervisor, process {pid} ({}), uses the tree {}; end it first",
            name(pid),
            base.display()
        ))),
    }
}

impl Tree {
    /// Ends every process of the services' groups. The sentence names them; none when there were none.
    ///
    /// # Errors
    /// When some do not end.
    pub fn clear(&self) -> io::Result<Option<String>> {
        let services = self.services();
        let found = processes(&services);
        if found.is_empty() {
            return Ok(None);
        }
        let mut named: Vec<String> = found
            .iter()
            .take(NAMED)
            .map(|(pid, group)| format!("{} ({pid}) in {group}", name(*pid)))
            .collect();
        if found.len() > NAMED {
            named.push(format!("{} more", found.len() - NAMED));
        }
        let named = named.join(", ");
        let begun = Instant::now();
        loop {
            // One write ends them all, those that are forked meanwhile too; before Linux 5.14 one by one.
            if files::write(&services.join("cgroup.kill"), "1").is_err() {
                for (pid, _) in processes(&services) {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
            if processes(&services).is_empty() {
                return Ok(Some(named));
            }
            if begun.elapsed() > LIMIT {
                return Err(io::Error::other(format!("these do not end: {named}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Processes of a group and of all below it, with the group's name.
fn processes(group: &Path) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    let mut groups: Vec<PathBuf> = vec![group.to_owned()];
    while let Some(group) = groups.pop() {
        let called = group
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        found.extend(members(&group).into_iter().map(|pid| (pid, called.clone())));
        let below = fs::read_dir(&group).into_iter().flatten().flatten();
        groups.extend(
            below
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path()),
        );
    }
    found
}

fn members(group: &Path) -> Vec<i32> {
    let text = files::text(&group.join("cgroup.procs")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        // Whom this process cannot see (another namespace's) is shown as 0, and nobody to signal.
        .filter(|pid| *pid > 0)
        .collect()
}

fn name(pid: i32) -> String {
    files::text(Path::new(&format!("/proc/{pid}/comm"))).unwrap_or_else(|| "?".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{limits, made_by_the_kernel};
    use super::*;

    #[test]
    fn a_tree_that_somebody_else_supervises_is_refused() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let procs = root.path().join("sarai/supervisor/cgroup.procs");
        fs::write(&procs, format!("{}\n", std::process::id())).unwrap();
        assert!(Tree::make(root.path(), limits()).is_ok());
        fs::write(&procs, "1\n").unwrap();
        let error = Tree::make(root.path(), limits()).unwrap_err().to_string();
        assert!(error.contains("another supervisor, process 1 ("), "{error}");
    }

    #[test]
    fn an_empty_tree_has_nothing_to_clear() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, _) = Tree::make(root.path(), limits()).unwrap();
        assert_eq!(tree.clear().unwrap(), None);
    }

    #[test]
    fn what_is_found_is_killed_and_named_with_its_group() {
        let root = tempfile::tempdir().unwrap();
        made_by_the_kernel(root.path());
        let (tree, _) = Tree::make(root.path(), limits()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        // It has left its parent's memory before it has its own name.
        let pid = i32::try_from(child.id()).unwrap();
        let begun = Instant::now();
        while name(pid) != "sleep" {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", name(pid));
            std::thread::yield_now();
        }
        // The kernel takes a process out of the list once it has ended; here somebody has to.
        let procs = tree.folder("gateway").join("cgroup.procs");
        fs::write(&procs, format!("{}\n", child.id())).unwrap();
        let list = procs.clone();
        let waiter = std::thread::spawn(move || {
            let status = child.wait().unwrap();
            fs::write(list, "").unwrap();
            status
        });
        let named = tree.clear().unwrap().unwrap();
        assert_eq!(named, format!("sleep ({pid}) in gateway"));
        assert!(!waiter.join().unwrap().success());
    }
}
