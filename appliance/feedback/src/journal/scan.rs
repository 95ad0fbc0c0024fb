//! What a file holds when it is opened.

use std::fs::File;
use std::io;

use super::{Found, Info, Place, Visit};
use crate::lines::{Line, Lines, Part};

/// Reads a file to its end. What follows the last line that ends is torn, and so are lines at the end that hold a zero
/// byte, which is what a power cut leaves of blocks that were never written; whatever else cannot be read is damage.
pub(super) fn scan(file: &File, number: u64, found: &mut Found, visit: Visit<'_>) -> io::Result<Info> {
    let mut info = Info::empty(number);
    // Of lines that are torn unless a sound one follows: bytes and number.
    let (mut torn, mut torn_lines) = (0, 0);
    let mut lines = Lines::new(Part::new(file, u64::MAX));
    while let Some((span, line)) = lines.next_line()? {
        let doubtful = match line {
            Line::Whole(line) => line.contains(&0),
            Line::TooLong { zeros } => zeros,
            Line::Torn => {
                torn += span.length;
                continue;
            }
        };
        if doubtful {
            torn += span.length;
            torn_lines += 1;
            continue;
        }
        if torn > 0 {
            info.length += torn;
            info.lines += torn_lines;
            found.damaged += torn_lines;
            found.lines += torn_lines;
            (torn, torn_lines) = (0, 0);
        }
        let time = match line {
            Line::Whole(line) => visit(found.lines, Place { file: number, span }, line),
            // It ends, so somebody wrote it: nobody's to cut off, though nobody can read it.
            Line::TooLong { .. } | Line::Torn => None,
        };
        found.damaged += u64::from(time.is_none());
        found.lines += 1;
        info.note(span.length, time);
    }
    Ok(info)
}
