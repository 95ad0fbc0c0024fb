//! One supervisor a folder: a lock file held for the life of the process.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

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
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| LockError::Io {
                path: path.clone(),
                source,
            })?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(LockError::Held(path)),
            Err((_, e)) => Err(LockError::Io {
                path,
                source: e.into(),
            }),
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
}
