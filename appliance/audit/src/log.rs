//! Appends records: chained, flushed together, rotated, pruned; and repairs what a power cut tore.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::record::{Event, Hash, Record};
use crate::{MAX_LINE, folder};

/// When a file is full, and how many are kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of a file.
    pub file: u64,
    /// Files.
    pub files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file: 8 * 1024 * 1024,
            files: 64,
        }
    }
}

/// Where the chain ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the file.
    pub file: u64,
    /// Line of it, from 1.
    pub line: u64,
    /// SHA-256 of that line.
    pub sha256: Hash,
}

/// What went wrong. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record is longer than a line may be.
    #[error("write a record: it exceeds {MAX_LINE} bytes")]
    TooLong,
    /// A record is not JSON's.
    #[error("write a record: {0}")]
    Encode(#[from] serde_json::Error),
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { action, path, source }
}

/// What is committed of the newest file.
#[derive(Debug, Clone, Copy)]
struct Position {
    length: u64,
    lines: u64,
    last: Hash,
}

/// A log that is open for appending. Lines are collected by [`Log::add`] and on disk after [`Log::commit`].
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    limits: Limits,
    number: u64,
    file: File,
    committed: Position,
    /// With what was added.
    position: Position,
    added: Vec<u8>,
    /// A disk that is full, for tests.
    #[cfg(test)]
    pub(crate) full: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Log {
    /// Opens the newest file of `folder`, or begins the first. What is torn at its end is cut off; the returned event
    /// says so, and is to be added.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(folder: &Path, limits: Limits) -> Result<(Self, Option<Event>), LogError> {
        let numbers = folder::list(folder).map_err(io_error("list", folder))?;
        let number = numbers.last().copied().unwrap_or(1);
        let path = folder.join(folder::name(number));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let scanned = scan(&file).map_err(io_error("read", &path))?;
        let mut repaired = None;
        if scanned.torn > 0 {
            file.set_len(scanned.length)
                .and_then(|()| file.sync_all())
                .map_err(io_error("repair", &path))?;
            repaired = Some(Event::Repaired {
                file: number,
                bytes: scanned.torn,
                sha256: scanned.torn_sha256,
            });
        }
        let mut last = scanned.last;
        if scanned.lines == 0 && number > 1 {
            // Begun and not written to: the chain goes on from the file before.
            last = last_of(folder, number - 1)?;
        }
        file.seek(SeekFrom::Start(scanned.length))
            .map_err(io_error("seek in", &path))?;
        sync_folder(folder)?;
        let position = Position {
            length: scanned.length,
            lines: scanned.lines,
            last,
        };
        let log = Self {
            folder: folder.to_owned(),
            limits,
            number,
            file,
            committed: position,
            position,
            added: Vec::new(),
            #[cfg(test)]
            full: std::sync::Arc::default(),
        };
        Ok((log, repaired))
    }

    /// Adds a record to those that the next [`Log::commit`] writes.
    ///
    /// # Errors
    /// When it is too long; nothing is added then.
    pub fn add(&mut self, time: String, lost: u64, event: Event) -> Result<(), LogError> {
        let record = Record {
            prev: self.position.last,
            time,
            lost,
            event,
        };
        let line = serde_json::to_vec(&record)?;
        if line.len() > MAX_LINE {
            return Err(LogError::TooLong);
        }
        self.position.last = Hash::of(&line);
        self.position.lines += 1;
        self.position.length += line.len() as u64 + 1;
        self.added.extend_from_slice(&line);
        self.added.push(b'\n');
        Ok(())
    }

    /// Writes and flushes what was added. When that fails, the file is what it was before, and what was added is
    /// dropped.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn commit(&mut self) -> Result<(), LogError> {
        let path = self.path();
        let added = std::mem::take(&mut self.added);
        let written = self.write(&added).and_then(|()| self.file.sync_data());
        if let Err(e) = written {
            self.position = self.committed;
            // Half a line must not stay: the next one would be appended to it. Should even this fail, the file is
            // opened anew, which repairs it.
            let undone = self
                .file
                .set_len(self.committed.length)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.committed.length)));
            return Err(match undone {
                Ok(_) => io_error("write", &path)(e),
                Err(e) => io_error("repair", &path)(e),
            });
        }
        self.committed = self.position;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)
    }

    /// Whether the file has no room for another record.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.position.length >= self.limits.file
    }

    /// Begins the next file, whose first record goes on from the last of this one. What was added is committed before.
    ///
    /// # Errors
    /// When that cannot be done; the log then goes on in the file it has.
    pub fn rotate(&mut self) -> Result<(), LogError> {
        let path = self.folder.join(folder::name(self.number + 1));
        let file = OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o640)
            .custom_flags(nix::libc::O_NOFOLLOW)
            .open(&path)
            .map_err(io_error("begin", &path))?;
        sync_folder(&self.folder)?;
        self.file = file;
        self.number += 1;
        self.committed.length = 0;
        self.committed.lines = 0;
        self.position = self.committed;
        Ok(())
    }

    /// The oldest file, where there are more than are to be kept; removed by [`Log::remove`] once the record about it is
    /// on disk, so that a power cut in between leaves a file too many and never a gap that nobody speaks of.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn surplus(&self) -> Result<Option<Event>, LogError> {
        let numbers = folder::list(&self.folder).map_err(io_error("list", &self.folder))?;
        if numbers.len() <= self.limits.files {
            return Ok(None);
        }
        let file = numbers[0];
        let last = last_of(&self.folder, file)?;
        Ok(Some(Event::Pruned { file, last }))
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn remove(&self, number: u64) -> Result<(), LogError> {
        let path = self.folder.join(folder::name(number));
        std::fs::remove_file(&path).map_err(io_error("remove", &path))?;
        sync_folder(&self.folder)
    }

    /// Where the chain ends on disk; `None` before the first record of a file.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        (self.committed.lines > 0).then_some(Head {
            file: self.number,
            line: self.committed.lines,
            sha256: self.committed.last,
        })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(folder::name(self.number))
    }
}

fn sync_folder(folder: &Path) -> Result<(), LogError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(io_error("flush", folder))
}

/// What a file holds.
struct Scanned {
    /// Bytes of the lines up to the last sound one.
    length: u64,
    lines: u64,
    last: Hash,
    /// Bytes after it.
    torn: u64,
    torn_sha256: Hash,
}

/// Reads a file to its end. What follows the last sound line is torn: it does not end, or holds a zero byte, which is
/// what a power cut leaves of blocks that were never written. A line before that counts, whatever is in it: judging it
/// is not the writer's business, and cutting there would take what is sound with it.
fn scan(file: &File) -> io::Result<Scanned> {
    let mut reader = BufReader::with_capacity(256 * 1024, file);
    let (mut length, mut lines, mut last) = (0, 0, Hash::ZERO);
    let (mut torn, mut torn_lines, mut hash) = (0, 0, Sha256::new());
    let (mut line, mut goes_on) = (Vec::new(), false);
    loop {
        line.clear();
        let mut limited = io::Read::take(&mut reader, MAX_LINE as u64 + 1);
        if limited.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let ends = line.last() == Some(&b'\n');
        if ends && !goes_on && !line.contains(&0) {
            length += torn + line.len() as u64;
            lines += torn_lines + 1;
            last = Hash::of(&line[..line.len() - 1]);
            (torn, torn_lines, hash) = (0, 0, Sha256::new());
        } else {
            torn += line.len() as u64;
            torn_lines += u64::from(ends);
            hash.update(&line);
        }
        goes_on = !ends;
    }
    Ok(Scanned {
        length,
        lines,
        last,
        torn,
        torn_sha256: Hash::new(hash.finalize().into()),
    })
}

/// SHA-256 of the last whole line of a file.
fn last_of(folder: &Path, number: u64) -> Result<Hash, LogError> {
    let path = folder.join(folder::name(number));
    File::open(&path)
        .and_then(|file| scan(&file))
        .map(|scanned| scanned.last)
        .map_err(io_error("read", &path))
}
