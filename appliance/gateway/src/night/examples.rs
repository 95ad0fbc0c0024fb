//! The gate's examples, read again: what was held out of a night's data set. The file is the gateway's own, but it lies on
//! a disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use sarai_feedback::lines::Part;
use sarai_wire::engine::Message;
use sarai_wire::night::MAX_DATA_SET;
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Most examples that are measured.
pub const MOST: usize = 200;
/// Most bytes of their lines together: about as many tokens as a small machine reads in half an hour.
const MOST_BYTES: usize = 256 * 1024;
/// Longest line that is measured, bytes.
const MOST_LINE: usize = 64 * 1024;
/// Longest line that is read, bytes: a record of feedback is at most half of that.
const MAX_LINE: u64 = 2 * 1024 * 1024;
/// Most messages of a conversation: what the engine takes.
const MOST_MESSAGES: usize = 1024;

/// What was held out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateExample {
    /// The conversation.
    pub messages: Vec<Message>,
    /// What should have been answered.
    pub target: String,
}

/// Why the examples cannot be read. Fits after "failed to". It has no word of them.
#[derive(Debug, thiserror::Error)]
pub enum ExamplesError {
    /// The file is none, or too large.
    #[error("read the gate's examples: it is no file of at most {MAX_DATA_SET} bytes")]
    File,
    /// It cannot be read.
    #[error("read the gate's examples: {0}")]
    Io(#[from] io::Error),
    /// A line is none of the gateway's.
    #[error("read the gate's examples: line {0} is no example")]
    Line(usize),
    /// There is none.
    #[error("read the gate's examples: there are none that can be measured")]
    None,
}

/// Reads all, checks all, and keeps those that are measured: at most [`MOST`], chosen by the hash of their line, so that
/// the same file brings the same ones.
///
/// # Errors
/// When the file is not as the gateway wrote it.
pub fn read(file: &File) -> Result<Vec<GateExample>, ExamplesError> {
    let about = file.metadata()?;
    if !about.is_file() || about.len() > MAX_DATA_SET {
        return Err(ExamplesError::File);
    }
    let mut lines = BufReader::with_capacity(64 * 1024, Part::new(file, about.len()));
    let mut chosen: BTreeMap<[u8; 32], (usize, GateExample)> = BTreeMap::new();
    let mut bytes = 0;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let example = parse(&line).ok_or(ExamplesError::Line(number))?;
        if line.len() > MOST_LINE {
            continue;
        }
        let hash = Sha256::digest(&line).into();
        if chosen.insert(hash, (line.len(), example)).is_none() {
            bytes += line.len();
        }
        while chosen.len() > MOST || bytes > MOST_BYTES {
            bytes -= chosen.pop_last().map_or(bytes, |(_, (length, _))| length);
        }
    }
    if chosen.is_empty() {
        return Err(ExamplesError::None);
    }
    Ok(chosen.into_values().map(|(_, example)| example).collect())
}

/// A whole line.
fn parse(line: &[u8]) -> Option<GateExample> {
    let line = line.strip_suffix(b"\n")?;
    let example: GateExample = serde_json::from_slice(line).ok()?;
    let sound = (1..=MOST_MESSAGES).contains(&example.messages.len()) && !example.target.is_empty();
    sound.then_some(example)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    fn line(question: &str, target: &str) -> String {
        let message = serde_json::json!({"role": "user", "content": question});
        serde_json::json!({"messages": [message], "target": target}).to_string() + "\n"
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read_wherever_the_file_stands_and_once() {
        let text = line("a", "1") + &line("b", "2") + &line("a", "1");
        let mut file = file(&text);
        let first = read(&file).unwrap();
        assert_eq!(first.len(), 2);
        file.seek(SeekFrom::Start(5)).unwrap();
        assert_eq!(read(&file).unwrap(), first);
    }

    #[test]
    fn a_line_that_is_none_is_named_and_not_shown() {
        let good = line("secret", "1");
        for bad in [
            "{}\n",
            "\n",
            "{\"messages\":[],\"target\":\"secret\"}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"target\":\"\"}\n",
            "{\"messages\":[{\"role\":\"robot\",\"content\":\"secret\"}],\"target\":\"1\"}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"target\":\"1\",\"secret\":1}\n",
            good.trim_end(),
            &good[..20],
        ] {
            let error = read(&file(&(good.clone() + bad))).unwrap_err().to_string();
            assert_eq!(error, "read the gate's examples: line 2 is no example", "{bad}");
        }
        let long = format!("{}\n", " ".repeat(3 << 20));
        assert!(matches!(read(&file(&long)), Err(ExamplesError::Line(1))));
    }

    #[test]
    fn of_many_the_same_few_are_chosen_within_the_bounds() {
        let many: Vec<String> = (0..1000).map(|n| line(&format!("question {n}"), "yes")).collect();
        let chosen = read(&file(&many.concat())).unwrap();
        assert_eq!(chosen.len(), MOST);
        let turned: String = many.iter().rev().map(String::as_str).collect();
        assert_eq!(read(&file(&turned)).unwrap(), chosen);
        let wide: String = (0..100)
            .map(|n| line(&format!("{n}"), &"x".repeat(50_000)))
            .collect();
        assert_eq!(read(&file(&wide)).unwrap().len(), MOST_BYTES / 50_060);
        // One that is too long for a measurement is passed over, whatever else there is.
        let long = line("q", &"x".repeat(MOST_LINE));
        assert_eq!(read(&file(&(long.clone() + &many[0]))).unwrap().len(), 1);
        assert!(matches!(read(&file(&long)), Err(ExamplesError::None)));
    }

    #[test]
    fn what_is_no_file_or_an_empty_one_is_refused() {
        assert!(matches!(read(&file("")), Err(ExamplesError::None)));
        let device = File::open("/dev/zero").unwrap();
        assert!(matches!(read(&device), Err(ExamplesError::File)));
        let large = tempfile::tempfile().unwrap();
        large.set_len(MAX_DATA_SET + 1).unwrap();
        assert!(matches!(read(&large), Err(ExamplesError::File)));
    }
}
