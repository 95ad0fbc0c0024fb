//! Server-sent events from a reader: only what the gateway sends (`data:` fields and comments), every line, event
//! and stream bounded.

use std::io::{ErrorKind, Read};

/// Longest line and longest event, bytes.
const MAX_EVENT: usize = 1024 * 1024;
/// Longest stream, bytes.
const MAX_STREAM: usize = 64 * 1024 * 1024;

/// Reads the data of one event after the other.
pub struct Events<R> {
    from: R,
    buffer: Vec<u8>,
    /// Bytes of `buffer` already given out.
    taken: usize,
    /// Bytes of `buffer` already searched for a newline; at least `taken`.
    searched: usize,
    total: usize,
}

impl<R: Read> Events<R> {
    /// Events of `from`.
    pub fn new(from: R) -> Self {
        Self {
            from,
            buffer: Vec::new(),
            taken: 0,
            searched: 0,
            total: 0,
        }
    }

    /// The data of the next event; `None` at the end of the stream. An event that the end cut off is dropped, as
    /// the standard says. The error's text fits after "failed to".
    pub fn next(&mut self) -> Result<Option<String>, String> {
        let mut data: Option<String> = None;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if data.is_some() {
                    return Ok(data);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line.as_str(), ""));
            if field != "data" {
                continue; // comments (an empty name), event, id, retry: nothing this client uses
            }
            let value = value.strip_prefix(' ').unwrap_or(value);
            let data = data.get_or_insert_default();
            if data.len() + value.len() > MAX_EVENT {
                return Err(format!("read the stream: an event exceeds {MAX_EVENT} bytes"));
            }
            if !data.is_empty() {
                data.push('\n');
            }
            data.push_str(value);
        }
        Ok(None)
    }

    /// The next line without its end (`\n` or `\r\n`).
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let end = self.searched + length;
                let line = &self.buffer[self.taken..end];
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                (self.taken, self.searched) = (end + 1, end + 1);
                return String::from_utf8(line)
                    .map(Some)
                    .map_err(|_| "read the stream: a line is not UTF-8".to_owned());
            }
            self.buffer.drain(..self.taken);
            (self.taken, self.searched) = (0, self.buffer.len());
            if self.searched > MAX_EVENT {
                return Err(format!("read the stream: a line exceeds {MAX_EVENT} bytes"));
            }
            let mut chunk = [0; 8 * 1024];
            match self.from.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => {
                    self.total += n;
                    if self.total > MAX_STREAM {
                        return Err(format!("read the stream: it exceeds {MAX_STREAM} bytes"));
                    }
                    self.buffer.extend_from_slice(&chunk[..n]);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(format!("read the stream: {e}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut events = Events::new(bytes);
        std::iter::from_fn(|| events.next().unwrap()).collect()
    }

    #[test]
    fn events_comments_and_line_ends() {
        let text =
            b": hello\r\ndata: {\"a\":1}\r\n\r\ndata:two\ndata: lines\nid: 7\n\n\n\ndata\n\ndata: [DONE]\n\n";
        assert_eq!(all(text), ["{\"a\":1}", "two\nlines", "", "[DONE]"]);
    }

    #[test]
    fn an_event_cut_off_by_the_end_is_not_delivered() {
        assert_eq!(all(b"data: whole\n\ndata: half\n"), ["whole"]);
        assert_eq!(all(b"data: whole\n\ndata: ha"), ["whole"]);
    }

    #[test]
    fn what_exceeds_a_bound_is_refused() {
        let line = [b"data: ".to_vec(), vec![b'x'; MAX_EVENT + 9000]].concat();
        assert!(
            Events::new(&line[..])
                .next()
                .unwrap_err()
                .contains("a line exceeds")
        );
        let many = format!("data: {}\n", "y".repeat(1000)).repeat(1100);
        assert!(
            Events::new(many.as_bytes())
                .next()
                .unwrap_err()
                .contains("an event exceeds")
        );
        let endless = std::io::repeat(b'\n');
        assert!(Events::new(endless).next().unwrap_err().contains("it exceeds"));
        assert!(
            Events::new(&b"data: \xff\n\n"[..])
                .next()
                .unwrap_err()
                .contains("UTF-8")
        );
    }

    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else {
                return Ok(0);
            };
            to[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    proptest! {
        #[test]
        fn how_the_bytes_arrive_does_not_matter(texts in proptest::collection::vec("[^\r\n]{0,20}", 0..6)) {
            let stream: String = texts.iter().map(|t| format!("data: {t}\n\n")).collect();
            let mut slow = Events::new(Slow(stream.as_bytes()));
            let got: Vec<String> = std::iter::from_fn(|| slow.next().unwrap()).collect();
            prop_assert_eq!(got, texts);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut events = Events::new(&bytes[..]);
            while let Ok(Some(_)) = events.next() {}
        }
    }
}
