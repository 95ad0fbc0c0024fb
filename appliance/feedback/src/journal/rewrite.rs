//! Files written anew without what is not spared.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sarai_audit::folder::Series;

use super::{Info, Journal, JournalError, Spare, failed, open_to_read, options, sync_folder};
use crate::lines::{Line, Lines, Part};

/// Ending of a file that is being rewritten.
const ASIDE: &str = ".new";

impl Journal {
    /// Writes each file anew without the lines that `spare` does not spare: it is given a line's number in the whole
    /// series and the line, or `None` for one that cannot be read. A file without such lines is left alone. Returns how
    /// many lines went. Every [`Place`] is void after that.
    ///
    /// # Errors
    /// When a file cannot be read or written; each file is then as it was, or without those lines.
    pub fn rewrite(&mut self, spare: Spare<'_>) -> Result<u64, JournalError> {
        let (mut number, mut removed) = (0, 0);
        for at in 0..self.files.len() {
            let before = self.files[at];
            let path = self.path(before.number);
            let gone = self
                .rewrite_file(at, number, spare)
                .map_err(failed("rewrite", &path))?;
            number += before.lines;
            removed += gone;
        }
        for file in self.files.clone() {
            if file.lines == 0 && file.number != self.last().number {
                self.remove(file.number)?;
            }
        }
        sync_folder(&self.folder)?;
        Ok(removed)
    }

    fn rewrite_file(&mut self, at: usize, first: u64, spare: Spare<'_>) -> io::Result<u64> {
        let info = self.files[at];
        let path = self.path(info.number);
        let file = open_to_read(&path)?;
        let mut stays = Vec::new();
        let mut lines = Lines::new(Part::new(&file, info.length));
        while let Some((_, line)) = lines.next_line()? {
            let number = first + stays.len() as u64;
            stays.push(match line {
                Line::Whole(line) => spare(number, Some(line)),
                Line::TooLong { .. } | Line::Torn => spare(number, None),
            });
        }
        // What follows the last line that can be read is nobody's.
        let tail = u64::from(file.metadata()?.len() > info.length);
        let gone = tail + stays.iter().filter(|stays| !**stays).count() as u64;
        if gone == 0 {
            return Ok(0);
        }
        let aside = aside(&path);
        let mut to = io::BufWriter::new(options().create_new(true).open(&aside)?);
        let mut after = Info {
            times: info.times,
            ..Info::empty(info.number)
        };
        let mut lines = Lines::new(Part::new(&file, info.length));
        for stays in stays {
            let Some((span, line)) = lines.next_line()? else {
                break;
            };
            if let (true, Line::Whole(line)) = (stays, line) {
                to.write_all(line)?;
                to.write_all(b"\n")?;
                after.note(span.length, None);
            }
        }
        let to = to.into_inner().map_err(io::IntoInnerError::into_error)?;
        to.sync_all()?;
        std::fs::rename(&aside, &path)?;
        self.files[at] = after;
        if at + 1 == self.files.len() {
            self.newest = to;
        }
        Ok(gone)
    }
}

pub(super) fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ASIDE);
    name.into()
}

pub(super) fn remove_leftovers(folder: &Path, series: Series) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)?.take(100_000) {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name
            .to_str()
            .and_then(|name| name.strip_suffix(ASIDE))
            .is_some_and(|name| series.number(name).is_some());
        if ours {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
