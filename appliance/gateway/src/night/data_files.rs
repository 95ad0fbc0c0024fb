//! The two files of a night's examples: the data set, which the trainer reads, and the gate's own.
//!
//! ```json
//! {"format":1,"base":"<SHA-256 of the base model>","vocabulary":49152}
//! {"id":"0a1b","split":"train","tokens":[1,2,3],"targets":[[1,3]]}
//! ```
//!
//! `split` is that of the example, or `anchor` for a general text, of which the model is to say what it said before.
//!
//! The gate's file has a line for each example that is held out: `{"messages":[{"role":…,"content":…}],"target":"…"}`.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use sarai_feedback::{Example, Message, Split};
use sarai_wire::engine::Encoded;
use sarai_wire::night::{DATA_SET_FILES, MAX_DATA_SET};
use serde::Serialize;

/// The format that is written.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Head<'a> {
    format: u32,
    base: &'a str,
    vocabulary: u32,
}

#[derive(Serialize)]
struct Line<'a, S> {
    id: &'a str,
    split: S,
    tokens: &'a [u32],
    targets: [(u32, usize); 1],
}

#[derive(Serialize)]
struct GateLine<'a> {
    messages: &'a [Message],
    target: &'a str,
}

/// A file of lines within a bound.
struct Bounded {
    to: BufWriter<File>,
    room: u64,
}

impl Bounded {
    fn new(file: File, most: u64) -> Self {
        Self {
            to: BufWriter::with_capacity(64 * 1024, file),
            room: most,
        }
    }

    fn holds(&self, line: &[u8]) -> bool {
        line.len() as u64 <= self.room
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        self.room = self.room.saturating_sub(line.len() as u64);
        self.to.write_all(line)
    }

    fn finish(mut self) -> io::Result<()> {
        self.to.flush()?;
        self.to.get_ref().sync_all()
    }
}

/// Both files while they are written.
pub struct DataFiles {
    data: Bounded,
    gate: Bounded,
    /// Tokens of the vocabulary, once the first line says so.
    vocabulary: Option<u32>,
}

impl DataFiles {
    /// In these files, in the order in which they come with the supervisor's order.
    ///
    /// # Errors
    /// When one is no empty file.
    pub fn new(files: [File; DATA_SET_FILES]) -> io::Result<Self> {
        for file in &files {
            let about = file.metadata()?;
            if !about.is_file() || about.len() != 0 {
                return Err(io::Error::other("it is no empty file"));
            }
        }
        Ok(Self::within(files, MAX_DATA_SET))
    }

    fn within([data, gate]: [File; DATA_SET_FILES], most: u64) -> Self {
        Self {
            data: Bounded::new(data, most),
            gate: Bounded::new(gate, most),
            vocabulary: None,
        }
    }

    /// Tokens of the vocabulary, if anything was written.
    pub fn vocabulary(&self) -> Option<u32> {
        self.vocabulary
    }

    /// Adds an example with its tokens; whether there was room for it. `base` is the SHA-256 of the model.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, base: &str, example: &Example, encoded: &Encoded) -> io::Result<bool> {
        let data = self.lines(base, &example.id, example.split, encoded)?;
        let mut gate = Vec::new();
        if example.split == Split::HeldOut {
            let line = GateLine {
                messages: &example.messages,
                target: &example.target,
            };
            put(&mut gate, &line)?;
        }
        self.put(encoded, &data, &gate)
    }

    /// Adds a general text; whether there was room for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn anchor(&mut self, base: &str, id: &str, encoded: &Encoded) -> io::Result<bool> {
        let data = self.lines(base, id, "anchor", encoded)?;
        self.put(encoded, &data, &[])
    }

    /// An example's line, after the first one if that was not written yet.
    fn lines(&self, base: &str, id: &str, split: impl Serialize, encoded: &Encoded) -> io::Result<Vec<u8>> {
        let mut lines = Vec::new();
        if self.vocabulary.is_none() {
            let head = Head {
                format: FORMAT,
                base,
                vocabulary: encoded.vocabulary,
            };
            put(&mut lines, &head)?;
        }
        let line = Line {
            id,
            split,
            tokens: &encoded.tokens,
            targets: [(encoded.answer, encoded.tokens.len())],
        };
        put(&mut lines, &line)?;
        Ok(lines)
    }

    fn put(&mut self, encoded: &Encoded, data: &[u8], gate: &[u8]) -> io::Result<bool> {
        if !self.data.holds(data) || !self.gate.holds(gate) {
            return Ok(false);
        }
        self.vocabulary = Some(encoded.vocabulary);
        self.data.write(data)?;
        self.gate.write(gate)?;
        Ok(true)
    }

    /// Sees to it that both are on the disk.
    ///
    /// # Errors
    /// When they are not.
    pub fn finish(self) -> io::Result<()> {
        self.data.finish()?;
        self.gate.finish()
    }
}

fn put(to: &mut Vec<u8>, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use sarai_feedback::Role;

    use super::*;

    fn example(id: &str, split: Split) -> Example {
        Example {
            id: id.into(),
            split,
            messages: vec![Message {
                role: Role::User,
                content: "line\nbreak \"quoted\"".into(),
            }],
            target: "yes".into(),
        }
    }

    fn encoded() -> Encoded {
        Encoded {
            tokens: vec![1, 2, 3, 4],
            answer: 2,
            vocabulary: 10,
        }
    }

    fn two() -> ([File; 2], [File; 2]) {
        let files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        let theirs = [files[0].try_clone().unwrap(), files[1].try_clone().unwrap()];
        (files, theirs)
    }

    fn text(mut file: &File) -> String {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn what_is_held_out_is_in_both_files_and_the_rest_in_one() {
        let (ours, theirs) = two();
        let mut files = DataFiles::new(theirs).unwrap();
        let splits = [
            ("a1", Split::Train),
            ("b2", Split::HeldOut),
            ("c3", Split::Replay),
        ];
        for (id, split) in splits {
            assert!(files.add("00ff", &example(id, split), &encoded()).unwrap());
        }
        assert_eq!(files.vocabulary(), Some(10));
        files.finish().unwrap();
        let line = |id, split| {
            format!("{{\"id\":\"{id}\",\"split\":\"{split}\",\"tokens\":[1,2,3,4],\"targets\":[[2,4]]}}\n")
        };
        let expected = "{\"format\":1,\"base\":\"00ff\",\"vocabulary\":10}\n".to_owned()
            + &line("a1", "train")
            + &line("b2", "held_out")
            + &line("c3", "replay");
        assert_eq!(text(&ours[0]), expected);
        let gate = "{\"messages\":[{\"role\":\"user\",\"content\":\"line\\nbreak \\\"quoted\\\"\"}],\"target\":\"yes\"}\n";
        assert_eq!(text(&ours[1]), gate);
    }

    #[test]
    fn what_does_not_fit_is_in_neither_file() {
        let (ours, theirs) = two();
        let mut files = DataFiles::within(theirs, 200);
        let added: Vec<bool> = (0..4)
            .map(|n| {
                let example = example(&format!("{n}"), Split::HeldOut);
                files.add("00ff", &example, &encoded()).unwrap()
            })
            .collect();
        assert_eq!(added, [true, true, false, false]);
        // What is shorter may still fit.
        let mut short = example("9", Split::HeldOut);
        short.messages.clear();
        let one = Encoded {
            tokens: vec![1, 2],
            answer: 1,
            vocabulary: 10,
        };
        let fits = files.add("00ff", &short, &one).unwrap();
        files.finish().unwrap();
        let (data, gate) = (text(&ours[0]), text(&ours[1]));
        assert!(data.len() <= 200 && gate.len() <= 200, "{data}{gate}");
        assert_eq!(data.lines().count(), 3 + usize::from(fits));
        assert_eq!(gate.lines().count(), 2 + usize::from(fits));
    }

    #[test]
    fn a_file_that_is_not_empty_or_none_is_refused() {
        let (_, theirs) = two();
        (&theirs[1]).write_all(b"x").unwrap();
        assert!(DataFiles::new(theirs).is_err());
        let (_, [data, _]) = two();
        assert!(DataFiles::new([data, File::options().write(true).open("/dev/null").unwrap()]).is_err());
    }

    #[test]
    fn a_full_disk_is_said_at_the_latest_at_the_end() {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let mut files = DataFiles::within([full(), full()], MAX_DATA_SET);
        files
            .add("00ff", &example("a", Split::Train), &encoded())
            .unwrap();
        let error = files.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
