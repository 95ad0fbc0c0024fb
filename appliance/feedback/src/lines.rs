//! The lines of a file that holds anything: bounded, and never taken in whole.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use crate::record::MAX_LINE;

/// A part of a file, read without moving anybody's place in it.
#[derive(Debug)]
pub struct Part<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl<'f> Part<'f> {
    /// The bytes from the beginning to `end`.
    #[must_use]
    pub fn new(file: &'f File, end: u64) -> Self {
        Self { file, at: 0, end }
    }
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.end - self.at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let got = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// A line's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Of its first byte.
    pub offset: u64,
    /// With its end.
    pub length: u64,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'b> {
    /// Without its end.
    Whole(&'b [u8]),
    /// Longer than [`MAX_LINE`]; it was passed over.
    TooLong {
        /// Whether it holds a zero byte, which nobody writes.
        zeros: bool,
    },
    /// The file ends before the line does.
    Torn,
}

/// The lines of a reader, one after the other.
pub struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
    offset: u64,
}

impl<R: Read> Lines<R> {
    /// Of `reader`, from where it stands.
    pub fn new(reader: R) -> Self {
        Self {
            reader: BufReader::with_capacity(256 * 1024, reader),
            buffer: Vec::new(),
            offset: 0,
        }
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_line(&mut self) -> io::Result<Option<(Span, Line<'_>)>> {
        self.buffer.clear();
        (&mut self.reader)
            .take(MAX_LINE as u64 + 1)
            .read_until(b'\n', &mut self.buffer)?;
        let mut length = self.buffer.len() as u64;
        let mut ends = self.buffer.last() == Some(&b'\n');
        if length == 0 {
            return Ok(None);
        }
        let too_long = !ends && self.buffer.len() > MAX_LINE;
        let mut zeros = false;
        if too_long {
            let passed = self.pass()?;
            length += passed.length;
            ends = passed.ends;
            zeros = passed.zeros || self.buffer.contains(&0);
        }
        let span = Span {
            offset: self.offset,
            length,
        };
        self.offset += length;
        let line = match (ends, too_long) {
            (false, _) => Line::Torn,
            (true, true) => Line::TooLong { zeros },
            (true, false) => Line::Whole(&self.buffer[..self.buffer.len() - 1]),
        };
        Ok(Some((span, line)))
    }

    /// Reads to the line's end and keeps nothing.
    fn pass(&mut self) -> io::Result<Passed> {
        let mut passed = Passed::default();
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok(passed);
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let used = end.map_or(chunk.len(), |at| at + 1);
            passed.zeros |= chunk[..used].contains(&0);
            self.reader.consume(used);
            passed.length += used as u64;
            passed.ends = end.is_some();
            if passed.ends {
                return Ok(passed);
            }
        }
    }
}

/// The rest of a line that was passed over.
#[derive(Default)]
struct Passed {
    length: u64,
    /// Whether there was an end.
    ends: bool,
    zeros: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_with_their_places_and_long_ones_are_passed_over() {
        let mut bytes = b"one\n\n".to_vec();
        bytes.extend(vec![b'x'; 3 * MAX_LINE]);
        bytes.extend(b"\ntwo\nto");
        let mut lines = Lines::new(bytes.as_slice());
        let at = |offset, length| Span { offset, length };
        assert_eq!(lines.next_line().unwrap(), Some((at(0, 4), Line::Whole(b"one"))));
        assert_eq!(lines.next_line().unwrap(), Some((at(4, 1), Line::Whole(b""))));
        let long = 3 * MAX_LINE as u64 + 1;
        let passed = Line::TooLong { zeros: false };
        assert_eq!(lines.next_line().unwrap(), Some((at(5, long), passed)));
        assert_eq!(
            lines.next_line().unwrap(),
            Some((at(5 + long, 4), Line::Whole(b"two")))
        );
        assert_eq!(lines.next_line().unwrap(), Some((at(9 + long, 2), Line::Torn)));
        assert_eq!(lines.next_line().unwrap(), None);
        // Zeros are seen wherever they are.
        for zero in [0, MAX_LINE, 2 * MAX_LINE] {
            let mut bytes = vec![b'x'; 3 * MAX_LINE];
            bytes[zero] = 0;
            bytes.push(b'\n');
            let mut lines = Lines::new(bytes.as_slice());
            let line = lines.next_line().unwrap().map(|(_, line)| line);
            assert_eq!(line, Some(Line::TooLong { zeros: true }), "{zero}");
        }
        // A line of exactly the bound is whole.
        let mut bytes = vec![b'y'; MAX_LINE];
        bytes.push(b'\n');
        assert!(
            matches!(Lines::new(bytes.as_slice()).next_line().unwrap(), Some((_, Line::Whole(line))) if line.len() == MAX_LINE)
        );
    }
}
