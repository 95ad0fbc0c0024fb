//! Files that are there whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A file that is written beside its place, as `PLACE.part`, and put there once it is whole; gone otherwise. What a
/// killed process left of one is taken over by the next that writes to the same place, and two at once are refused.
pub struct Aside {
    /// What is written.
    pub file: File,
    at: PathBuf,
    to: PathBuf,
    done: bool,
}

impl Aside {
    /// Begins to write `to`.
    pub fn new(to: &Path) -> Result<Self> {
        let mut at = to.as_os_str().to_owned();
        at.push(".part");
        let at = PathBuf::from(at);
        let file = own(&at).with_context(|| format!("write {}", to.display()))?;
        Ok(Self {
            file,
            at,
            to: to.to_owned(),
            done: false,
        })
    }

    /// Puts it there, on disk when this returns.
    pub fn commit(mut self) -> Result<()> {
        let put = || {
            self.file.sync_all()?;
            fs::rename(&self.at, &self.to)?;
            let folder = self.to.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        };
        put().with_context(|| format!("write {}", self.to.display()))?;
        self.done = true;
        Ok(())
    }
}

/// Opens a file, empty, that nobody else writes.
fn own(at: &Path) -> io::Result<File> {
    loop {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = format!("another process is writing {}", at.display());
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Between the two calls its owner may have put it in its place: then that is what is open here.
        let (open, named) = (file.metadata()?, fs::metadata(at));
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn it_is_there_whole_or_not_at_all_and_leftovers_are_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("to");
        let part = folder.path().join("to.part");
        fs::write(&part, "what a killed process left").unwrap();
        let mut aside = Aside::new(&to).unwrap();
        let error = format!("{:#}", Aside::new(&to).err().unwrap());
        assert!(error.contains("another process is writing"), "{error}");
        aside.file.write_all(b"whole").unwrap();
        assert!(!to.exists());
        aside.commit().unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"whole");
        let mut given_up = Aside::new(&to).unwrap();
        given_up.file.write_all(b"half").unwrap();
        drop(given_up);
        assert_eq!(fs::read(&to).unwrap(), b"whole");
        assert!(!part.exists());
    }
}
