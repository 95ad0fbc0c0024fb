//! The judgments that count, out of the log's files: the last of each answer, without what was to be forgotten. Whoever
//! reads holds no lock: the files end where they ended when they were opened.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::FEEDBACK;
use crate::forget::Tombstones;
use crate::lines::{Line, Lines, Part};
use crate::record::{Entry, Feedback, short_digest};

/// What the files hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Files.
    pub files: u64,
    /// Judgments that count.
    pub records: u64,
    /// Judgments that another of the same answer took the place of.
    pub replaced: u64,
    /// Judgments that are to be forgotten and are still in a file.
    pub forgotten: u64,
    /// Lines that cannot be read.
    pub damaged: u64,
    /// Files that were removed for their age or to keep the whole within its bound, as far as the log still says.
    pub pruned: u64,
}

/// The log, as it was when it was opened.
#[derive(Debug)]
pub struct Reader {
    /// With where each ended.
    files: Vec<(File, u64)>,
    /// Number of the line that counts of each answer, by a digest of its id.
    counting: HashMap<[u8; 16], u64>,
    counts: Counts,
}

impl Reader {
    /// The log in `folder`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Self::open_while(folder, &|| true)
    }

    /// The same, as long as `go_on` says so.
    ///
    /// # Errors
    /// When a file cannot be read; [`io::ErrorKind::Interrupted`] when it was not to go on.
    pub fn open_while(folder: &Path, go_on: &dyn Fn() -> bool) -> io::Result<Self> {
        let mut files = Vec::new();
        for number in FEEDBACK.list(folder)? {
            let file = File::options()
                .read(true)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(folder.join(FEEDBACK.name(number)));
            match file {
                Ok(file) => files.push(file),
                // Removed meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Self::read(files, go_on)
    }

    /// Of these files, in order. Everything in them is taken for hostile.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(files: Vec<File>) -> io::Result<Self> {
        Self::read(files, &|| true)
    }

    fn read(files: Vec<File>, go_on: &dyn Fn() -> bool) -> io::Result<Self> {
        let files = files
            .into_iter()
            .map(|file| file.metadata().map(|about| (file, about.len())))
            .collect::<io::Result<Vec<_>>>()?;
        let mut counts = Counts {
            files: files.len() as u64,
            ..Counts::default()
        };
        let mut tombstones = Tombstones::default();
        let mut counting = HashMap::new();
        let mut lines: Vec<(u64, [u8; 16])> = Vec::new();
        let mut whose: HashMap<[u8; 16], (String, String)> = HashMap::new();
        walk(&files, &mut |number, line| {
            if !go_on() {
                return ControlFlow::Break(());
            }
            match line.map(Entry::parse) {
                Some(Ok(Entry::Feedback(feedback))) => {
                    let digest = digest_of(&feedback);
                    lines.push((number, digest));
                    counting.insert(digest, number);
                    let completion = feedback.completion;
                    whose.insert(digest, (completion.id, completion.key));
                }
                Some(Ok(Entry::Forget { what, .. })) => tombstones.note(number, &what),
                Some(Ok(Entry::Pruned { .. })) => counts.pruned += 1,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => counts.damaged += 1,
            }
            ControlFlow::Continue(())
        })?;
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for (number, digest) in lines {
            let covered = whose
                .get(&digest)
                .is_some_and(|(id, key)| tombstones.cover(number, id, key));
            let last = counting.get(&digest) == Some(&number);
            match (covered, last) {
                (true, _) => counts.forgotten += 1,
                (false, true) => counts.records += 1,
                (false, false) => counts.replaced += 1,
            }
            if covered && last {
                counting.remove(&digest);
            }
        }
        Ok(Self {
            files,
            counting,
            counts,
        })
    }

    /// What there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Shows each judgment that counts, oldest first, until `each` breaks off. Texts are read one by one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn each(&self, each: &mut dyn FnMut(Feedback) -> ControlFlow<()>) -> io::Result<()> {
        walk(&self.files, &mut |number, line| {
            if let Some(Ok(Entry::Feedback(feedback))) = line.map(Entry::parse)
                && self.counting.get(&digest_of(&feedback)) == Some(&number)
            {
                return each(*feedback);
            }
            ControlFlow::Continue(())
        })
    }
}

fn digest_of(feedback: &Feedback) -> [u8; 16] {
    let completion = &feedback.completion;
    short_digest(&[completion.id.as_bytes(), completion.key.as_bytes()])
}

/// Is shown a line with its number over all files; `None` for one that is too long or does not end.
type EachLine<'e> = &'e mut dyn FnMut(u64, Option<&[u8]>) -> ControlFlow<()>;

fn walk(files: &[(File, u64)], each: EachLine<'_>) -> io::Result<()> {
    let mut number = 0;
    for (file, end) in files {
        let mut lines = Lines::new(Part::new(file, *end));
        while let Some((_, line)) = lines.next_line()? {
            let line = match line {
                Line::Whole(line) => Some(line),
                Line::TooLong { .. } | Line::Torn => None,
            };
            if each(number, line).is_break() {
                return Ok(());
            }
            number += 1;
        }
    }
    Ok(())
}
