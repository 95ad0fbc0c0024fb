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
    TooLong,
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
        if too_long {
            let (passed, ended) = self.pass()?;
            length += passed;
            ends = ended;
        }
        let span = Span {
            offset: self.offset,
            length,
        };
        self.offset += length;
        let line = match (ends, too_long) {
            (false, _) => Line::Torn,
            (true, true) => Line::TooLong,
            (true, false) => Line::Whole(&self.buffer[..self.buffer.len() - 1]),
        };
        Ok(Some((span, line)))
    }

    /// Reads to the line's end and keeps nothing; how much that was, and whether there was an end.
    fn pass(&mut self) -> io::Result<(u64, bool)> {
        let mut passed = 0;
        loop {
            let chunk = self.reader.fill_buf()?;
            if chunk.is_empty() {
                return Ok((passed, false));
            }
            let end = chunk.iter().position(|b| *b == b'\n');
            let used = end.map_or(chunk.len(), |at| at + 1);
            self.reader.consume(used);
            passed += used as u64;
            if end.is_some() {
                return Ok((passed, true));
            }
        }
    }
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
        assert_eq!(lines.next_line().unwrap(), Some((at(5, long), Line::TooLong)));
        assert_eq!(
            lines.next_line().unwrap(),
            Some((at(5 + long, 4), Line::Whole(b"two")))
        );
        assert_eq!(lines.next_line().unwrap(), Some((at(9 + long, 2), Line::Torn)));
        assert_eq!(lines.next_line().unwrap(), None);
        // A line of exactly the bound is whole.
        let mut bytes = vec![b'y'; MAX_LINE];
        bytes.push(b'\n');
        assert!(
            matches!(Lines::new(bytes.as_slice()).next_line().unwrap(), Some((_, Line::Whole(line))) if line.len() == MAX_LINE)
        );
    }
}
