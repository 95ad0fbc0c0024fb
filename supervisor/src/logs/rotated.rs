//! A file that is moved aside when it is full, and of which so many are kept.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Size at which the file is rotated, bytes.
pub(super) const ROTATE_AT: u64 = 1024 * 1024;

/// `NAME`, `NAME.1` …: the first is written, the others are what it was.
pub(crate) struct Rotated {
    path: PathBuf,
    keep: u32,
    file: Option<(File, u64)>,
}

impl Rotated {
    /// Files of this name in `folder`, which is looked for when something is written; `keep` beside the current one.
    pub(crate) fn new(folder: &Path, name: &str, keep: u32) -> Self {
        Self {
            path: folder.join(name),
            keep,
            file: None,
        }
    }

    /// Appends all of `bytes`, or as good as nothing.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if size + bytes.len() as u64 > ROTATE_AT {
            drop(file);
            self.rotate();
            (file, size) = open(&self.path)?;
        }
        match file.write_all(bytes) {
            Ok(()) => {
                self.file = Some((file, size + bytes.len() as u64));
                Ok(())
            }
            Err(e) => {
                // The part that still fitted would stand there twice. Where it cannot be taken back, the next one
                // to open the file begins a new line.
                let _ = file.set_len(size);
                Err(e)
            }
        }
    }

    /// Lets go of the file until the next write, so that its file system can be unmounted.
    pub(crate) fn rest(&mut self) {
        self.file = None;
    }

    fn rotate(&self) {
        for n in (1..=self.keep).rev() {
            let from = if n == 1 {
                self.path.clone()
            } else {
                self.numbered(n - 1)
            };
            // A gap in the row of old files is normal.
            let _ = std::fs::rename(from, self.numbered(n));
        }
    }

    fn numbered(&self, n: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }
}

/// Opens the file at its end, which is made the beginning of a line: a power cut may have left half a one.
fn open(path: &Path) -> io::Result<(File, u64)> {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o640)
        .open(path)?;
    let mut size = file.metadata()?.len();
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_let_go_of_after_each_line_is_rotated_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = Rotated::new(dir.path(), "x", 1);
        for n in 0..50u32 {
            file.write(format!("{n:03}{}\n", "x".repeat(100_000)).as_bytes())
                .unwrap();
            file.rest();
        }
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["x", "x.1"]);
        for name in names {
            let size = std::fs::metadata(dir.path().join(name)).unwrap().len();
            assert!((1..=ROTATE_AT).contains(&size), "{size}");
        }
    }
}
