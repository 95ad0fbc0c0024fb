//! Numbered files of JSON lines that are one log: appended to, flushed, rotated, bounded as a whole, repaired where a
//! power cut tore the end, and rewritten without what is to be forgotten.
//!
//! Unlike the audit log's lines these are not chained: what may have to be taken out must not be part of a proof.

use std::collections::VecDeque;
mod rewrite;
mod scan;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use sarai_audit::folder::Series;

use crate::lines::{Line, Lines, Part, Span};
use crate::record::MAX_LINE;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of all files together; a rewrite takes up to one file more for a moment.
    pub bytes: u64,
    /// Bytes of a file, beyond which the next is begun.
    pub file: u64,
    /// Lines of a file; the same.
    pub lines: u64,
    /// Time from a file's first line to its last; the same.
    pub span: SignedDuration,
    /// Files.
    pub files: usize,
    /// Age of a file's newest line at which it goes.
    pub keep: SignedDuration,
    /// Bytes that are left free on the disk.
    pub reserve: u64,
}

/// What went wrong. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full, or as full as it may become.
    #[error("write to {}: the disk is full", .0.display())]
    Full(PathBuf),
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
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full(path),
        _ => JournalError::Io { action, path, source },
    }
}

/// A file of the series.
#[derive(Debug, Clone, Copy)]
struct Info {
    number: u64,
    length: u64,
    lines: u64,
    /// Oldest and newest time of its lines.
    times: Option<(Timestamp, Timestamp)>,
}

impl Info {
    fn empty(number: u64) -> Self {
        Self {
            number,
            length: 0,
            lines: 0,
            times: None,
        }
    }

    fn note(&mut self, length: u64, time: Option<Timestamp>) {
        self.length += length;
        self.lines += 1;
        if let Some(time) = time {
            let (first, last) = self.times.unwrap_or((time, time));
            self.times = Some((first.min(time), last.max(time)));
        }
    }
}

/// Where a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Number of the file.
    pub file: u64,
    /// Where in it.
    pub span: Span,
}

/// Is shown a line with its number in the whole series and its place; says when it was written, or `None` where it cannot
/// be read.
pub type Visit<'v> = &'v mut dyn FnMut(u64, Place, &[u8]) -> Option<Timestamp>;

/// Says whether a line stays: its number in the whole series, and the line, or `None` for one that cannot be read.
pub type Spare<'s> = &'s mut dyn FnMut(u64, Option<&[u8]>) -> bool;

/// A file that has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surplus {
    /// Its number.
    pub file: u64,
    /// Its lines.
    pub lines: u64,
}

/// What was found when it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    /// Number of the newest file, and bytes that were cut off its end.
    pub torn: Option<(u64, u64)>,
    /// Lines that cannot be read.
    pub damaged: u64,
    /// All lines.
    pub lines: u64,
}

/// A series that is open for appending, by one writer.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    series: Series,
    bounds: Bounds,
    /// In order; the newest, which is appended to, is the last and always there.
    files: VecDeque<Info>,
    newest: File,
    /// A disk that takes only half a line, for tests.
    #[cfg(test)]
    pub(crate) full: bool,
}

impl Journal {
    /// Opens the series in `folder`, or begins it. Each line is shown to `visit` with its number in the whole series,
    /// which says when it was written; `None`: it cannot be read. What is torn at the end of the newest file is cut off,
    /// what is left of a rewrite that did not end is removed.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub fn open(
        folder: &Path,
        series: Series,
        bounds: Bounds,
        visit: Visit<'_>,
    ) -> Result<(Self, Found), JournalError> {
        let mut numbers = series.list(folder).map_err(failed("list", folder))?;
        rewrite::remove_leftovers(folder, series).map_err(failed("clear", folder))?;
        if numbers.is_empty() {
            numbers.push(1);
        }
        let newest_number = numbers.last().copied().unwrap_or(1);
        let path = folder.join(series.name(newest_number));
        let newest = options()
            .create(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut found = Found::default();
        let mut files = VecDeque::new();
        for number in numbers {
            let path = folder.join(series.name(number));
            let file = open_to_read(&path).map_err(failed("open", &path))?;
            let mut info = scan::scan(&file, number, &mut found, visit).map_err(failed("read", &path))?;
            let about = file.metadata().map_err(failed("stat", &path))?;
            let length = about.len();
            if info.lines > 0 && info.times.is_none() {
                // Nothing in it says how old it is.
                let time = about.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
                info.times = time.map(|time| (time, time));
            }
            if number == newest_number && info.length < length {
                newest
                    .set_len(info.length)
                    .and_then(|()| newest.sync_all())
                    .map_err(failed("repair", &path))?;
                found.torn = Some((number, length - info.length));
            }
            files.push_back(info);
        }
        sync_folder(folder)?;
        let journal = Self {
            folder: folder.to_owned(),
            series,
            bounds,
            files,
            newest,
            #[cfg(test)]
            full: false,
        };
        Ok((journal, found))
    }

    /// Appends a line, and flushes it to the disk if `flush`. When that fails, the file is what it was before.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn append(&mut self, line: &[u8], time: Timestamp, flush: bool) -> Result<Place, JournalError> {
        self.require_space(line.len() as u64 + 1)?;
        if self.is_full(time) {
            self.rotate()?;
        }
        let path = self.path(self.last().number);
        let offset = self.last().length;
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        let written = self
            .write_at(&bytes, offset)
            .and_then(|()| if flush { self.newest.sync_data() } else { Ok(()) });
        if let Err(e) = written {
            // Half a line must not stay. Should even this fail, what is there is torn, and cut at the next opening.
            self.newest.set_len(offset).map_err(failed("repair", &path))?;
            return Err(failed("write to", &path)(e));
        }
        let length = bytes.len() as u64;
        if let Some(last) = self.files.back_mut() {
            last.note(length, Some(time));
        }
        Ok(Place {
            file: self.last().number,
            span: Span { offset, length },
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        if self.full {
            self.newest.write_all_at(&bytes[..bytes.len() / 2], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.newest.write_all_at(bytes, offset)
    }

    /// How many lines there are: the number of the next one.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.files.iter().map(|file| file.lines).sum()
    }

    /// Flushes what was appended without.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn flush(&self) -> Result<(), JournalError> {
        let path = self.path(self.last().number);
        self.newest.sync_data().map_err(failed("flush", &path))
    }

    /// The line at `place`, without its end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, place: Place) -> Result<Vec<u8>, JournalError> {
        let path = self.path(place.file);
        let length = usize::try_from(place.span.length)
            .unwrap_or(usize::MAX)
            .min(MAX_LINE + 1);
        let mut bytes = vec![0; length];
        open_to_read(&path)
            .and_then(|file| file.read_exact_at(&mut bytes, place.span.offset))
            .map_err(failed("read", &path))?;
        bytes.pop();
        Ok(bytes)
    }

    /// The next file that has to go before `more` bytes come at `now`: the oldest, where there is too much, or one
    /// whose newest line is too old. The newest file is never one.
    #[must_use]
    pub fn surplus(&self, more: u64, now: Timestamp) -> Option<Surplus> {
        let old = || self.files.iter().take(self.files.len().saturating_sub(1));
        let total: u64 = self.files.iter().map(|file| file.length).sum();
        let crowded = total + more > self.bounds.bytes || self.files.len() > self.bounds.files;
        let aged = |file: &&Info| match file.times {
            Some((_, last)) => now.duration_since(last) > self.bounds.keep,
            None => true,
        };
        old().find(|file| crowded || aged(file)).map(|file| Surplus {
            file: file.number,
            lines: file.lines,
        })
    }

    /// Removes a file that is not the newest.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn remove(&mut self, number: u64) -> Result<(), JournalError> {
        let path = self.path(number);
        std::fs::remove_file(&path).map_err(failed("remove", &path))?;
        self.files.retain(|file| file.number != number);
        sync_folder(&self.folder)
    }

    /// Begins the next file if the newest holds something that is too old, so that it can go.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn retire(&mut self, now: Timestamp) -> Result<(), JournalError> {
        match self.last().times {
            Some((first, _)) if now.duration_since(first) > self.bounds.span => self.rotate(),
            _ => Ok(()),
        }
    }

    /// Shows each line with its place.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn walk(&self, each: &mut dyn FnMut(Place, &[u8])) -> Result<(), JournalError> {
        for info in &self.files {
            let path = self.path(info.number);
            let walked = open_to_read(&path).and_then(|file| {
                let mut lines = Lines::new(Part::new(&file, info.length));
                while let Some((span, line)) = lines.next_line()? {
                    if let Line::Whole(line) = line {
                        let file = info.number;
                        each(Place { file, span }, line);
                    }
                }
                Ok(())
            });
            walked.map_err(failed("read", &path))?;
        }
        Ok(())
    }

    fn last(&self) -> Info {
        // The newest file is always there; without it this is one that nothing was written to.
        self.files.back().copied().unwrap_or_else(|| Info::empty(1))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(self.series.name(number))
    }

    fn is_full(&self, now: Timestamp) -> bool {
        let last = self.last();
        last.length >= self.bounds.file
            || last.lines >= self.bounds.lines
            || last
                .times
                .is_some_and(|(first, _)| now.duration_since(first) > self.bounds.span)
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        let number = self.last().number + 1;
        let path = self.path(number);
        self.newest = options()
            .create_new(true)
            .open(&path)
            .map_err(failed("begin", &path))?;
        self.files.push_back(Info::empty(number));
        sync_folder(&self.folder)
    }

    fn require_space(&self, more: u64) -> Result<(), JournalError> {
        let about = nix::sys::statvfs::statvfs(&self.folder)
            .map_err(|e| failed("look at the disk of", &self.folder)(e.into()))?;
        let free = about.blocks_available().saturating_mul(about.fragment_size());
        if free < self.bounds.reserve.saturating_add(more) {
            return Err(JournalError::Full(self.folder.clone()));
        }
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW);
    options
}

fn open_to_read(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(failed("flush", folder))
}

/// Everything that the files of a series hold.
#[cfg(test)]
pub(crate) fn text_of(folder: &Path, series: Series) -> String {
    let mut text = String::new();
    for number in series.list(folder).unwrap() {
        let bytes = std::fs::read(folder.join(series.name(number))).unwrap();
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    text
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
