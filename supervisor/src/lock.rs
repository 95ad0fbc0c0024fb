//! One supervisor a folder: a lock file held for the life of the process.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

/// How long a lock that is held is waited for. A child that a killed supervisor had not finished starting has that one's
/// lock until it runs its own program, or ends.
const PATIENCE: Duration = Duration::from_secs(3);

/// The lock could not be had. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another supervisor runs on this folder.
    #[error("lock {0}: another supervisor runs on this folder; stop it first")]
    Held(PathBuf),
    /// The file could not be opened or locked.
    #[error("lock {path}: {source}")]
    Io {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Holds the folder until dropped (or until the process ends, however it ends).
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of `run`, or says who holds it.
    pub fn take(run: &Path) -> Result<Self, LockError> {
        let path = run.join("supervisor.lock");
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LockError::Io {
                path: path.clone(),
                source,
            })?;
        let begun = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => return Ok(Self { _file: file }),
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if begun.elapsed() >= PATIENCE => {
                    return Err(LockError::Held(path));
                }
                Err((held, nix::errno::Errno::EWOULDBLOCK)) => file = held,
                Err((_, e)) => {
                    return Err(LockError::Io {
                        path,
                        source: e.into(),
                    });
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_is_told_and_a_stale_file_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        assert!(matches!(Lock::take(dir.path()), Err(LockError::Held(_))));
        drop(first);
        Lock::take(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_one_leaves_for_a_moment_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(first);
        });
        Lock::take(dir.path()).unwrap();
        letting_go.join().unwrap();
    }
}
