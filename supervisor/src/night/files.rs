//! What a night works with: a few files in a folder of their own. They are made of what people said, so none stays
//! longer than it is needed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sarai_trust::hash_file;

/// Examples that are learnt.
const DATA: &str = "dataset.jsonl";
/// Examples by which the adapter is measured.
const GATE: &str = "gate.jsonl";
/// The new adapter.
const OUTPUT: &str = "adapter.gguf";
/// A training's checkpoints, which take turns.
const CHECKPOINTS: [&str; 2] = ["checkpoint-a", "checkpoint-b"];

/// The folder.
#[derive(Debug, Clone)]
pub struct Files(PathBuf);

impl Files {
    /// In this folder.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn wrong<'a>(&'a self, what: &'a str, name: &'a str) -> impl Fn(io::Error) -> String + 'a {
        move |e| format!("{what} {}: {e}", self.0.join(name).display())
    }

    /// An empty file for reading and writing, in place of whatever was there.
    fn empty(&self, name: &str) -> Result<File, String> {
        remove(&self.0.join(name)).map_err(self.wrong("remove", name))?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.0.join(name))
            .map_err(self.wrong("make", name))
    }

    fn read(&self, name: &str) -> Result<File, String> {
        OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(self.0.join(name))
            .map_err(self.wrong("open", name))
    }

    /// Two empty files for what is chosen: the data set, and the gate's examples. Nothing of an earlier night is left.
    ///
    /// # Errors
    /// When they cannot be made; fits after "failed to".
    pub fn begin(&self) -> Result<[File; 2], String> {
        self.clear()?;
        Ok([self.empty(DATA)?, self.empty(GATE)?])
    }

    /// The data set, read-only, from its beginning.
    ///
    /// # Errors
    /// When it is not there; fits after "failed to".
    pub fn data(&self) -> Result<File, String> {
        self.read(DATA)
    }

    /// The gate's examples, read-only, from their beginning.
    ///
    /// # Errors
    /// When they are not there; fits after "failed to".
    pub fn gate(&self) -> Result<File, String> {
        self.read(GATE)
    }

    /// The new adapter, read-only, from its beginning.
    ///
    /// # Errors
    /// When it is not there; fits after "failed to".
    pub fn adapter(&self) -> Result<File, String> {
        self.read(OUTPUT)
    }

    /// SHA-256 of the data set, where both files of the choice are there and not empty and none is larger than `most`.
    ///
    /// # Errors
    /// What is wrong with them; fits after "failed to".
    pub fn chosen(&self, most: u64) -> Result<String, String> {
        for name in [GATE, DATA] {
            let size = self
                .read(name)?
                .metadata()
                .map_err(self.wrong("look at", name))?
                .len();
            if size == 0 || size > most {
                return Err(format!("use {name}: it has {size} bytes, must have 1 to {most}"));
            }
        }
        let hashes = hash_file(&self.read(DATA)?, &mut |_, _| {}).map_err(self.wrong("read", DATA))?;
        Ok(hashes.sha256.to_string())
    }

    /// What a training writes: an empty file for the adapter, and the two checkpoints as they are.
    ///
    /// # Errors
    /// When they cannot be made; fits after "failed to".
    pub fn train(&self) -> Result<(File, [File; 2]), String> {
        let checkpoint = |name| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(self.0.join(name))
                .map_err(self.wrong("open", name))
        };
        let [a, b] = CHECKPOINTS;
        Ok((self.empty(OUTPUT)?, [checkpoint(a)?, checkpoint(b)?]))
    }

    /// Whether there is a checkpoint to go on from, and what it belongs to.
    #[must_use]
    pub fn resumable(&self) -> bool {
        let filled = |name: &str| {
            self.0
                .join(name)
                .metadata()
                .is_ok_and(|metadata| metadata.len() > 0)
        };
        [DATA, GATE].into_iter().all(filled) && CHECKPOINTS.into_iter().any(filled)
    }

    /// Removes everything.
    ///
    /// # Errors
    /// When something stays; fits after "failed to".
    pub fn clear(&self) -> Result<(), String> {
        let [a, b] = CHECKPOINTS;
        for name in [DATA, GATE, OUTPUT, a, b] {
            remove(&self.0.join(name)).map_err(self.wrong("remove", name))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_choice_counts_when_it_is_whole_and_a_training_when_there_is_a_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::at(folder.path().to_owned());
        assert!(files.chosen(100).is_err() && !files.resumable());
        let [mut data, mut gate] = files.begin().unwrap();
        assert!(files.chosen(100).unwrap_err().contains("0 bytes"));
        data.write_all(b"examples").unwrap();
        gate.write_all(b"questions").unwrap();
        let sha256 = files.chosen(100).unwrap();
        assert_eq!(sha256, sarai_trust::Digest::of(b"examples").to_string());
        assert!(files.chosen(8).unwrap_err().contains("9 bytes, must have 1 to 8"));
        assert!(!files.resumable());
        let (mut output, [mut a, _]) = files.train().unwrap();
        a.write_all(b"checkpoint").unwrap();
        output.write_all(b"half").unwrap();
        assert!(files.resumable());
        // The next night goes on from the checkpoint, into an empty file.
        let (output, [a, _]) = files.train().unwrap();
        assert_eq!(output.metadata().unwrap().len(), 0);
        assert_eq!(a.metadata().unwrap().len(), 10);
        files.begin().unwrap();
        assert!(!files.resumable());
        files.clear().unwrap();
        files.clear().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
