//! The data set: JSON lines that the gateway made of feedback. What they come from was written by people on the
//! network, so everything is bounded and held to the model before a number is computed.
//!
//! The first line says what the tokens belong to, each further one is an example:
//!
//! ```json
//! {"format":1,"base":"<SHA-256 of the base model>","vocabulary":49152}
//! {"id":"0a1b","split":"train","tokens":[1,2,3],"targets":[[1,3]]}
//! ```
//!
//! `targets` are spans of positions whose tokens are to be predicted. `split` is `train`, `held_out`, `replay` for
//! examples of earlier nights, which are trained on too, or `anchor` for texts of which the model is to say what it said
//! before, at the targets.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Largest data set, bytes.
pub const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most lines of one.
pub const MAX_LINES: usize = 100_000;
/// Most tokens of an example.
pub const MAX_TOKENS: usize = 4096;
/// Longest line, bytes: the most tokens with eleven digits and signs each, as many spans, and room for the rest.
pub const MAX_LINE: u64 = 256 * 1024;
/// Most tokens of all anchors together.
pub const MAX_ANCHORED: usize = sarai_wire::bounds::training::ANCHORED as usize;
/// Longest id of an example, hex digits.
const MAX_ID: usize = 64;
/// The format that is read.
const FORMAT: u32 = 1;

/// One example: tokens, and which of them are to be predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// At most [`MAX_TOKENS`].
    pub tokens: Vec<u32>,
    /// Positions to be predicted: in order, not empty, apart from each other, never the first.
    pub targets: Vec<Range<usize>>,
}

/// A data set in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// Examples to train on, those of earlier nights among them.
    pub train: Vec<Example>,
    /// Examples to judge by.
    pub held_out: Vec<Example>,
    /// Where the model is held to what it said before.
    pub anchors: Vec<Example>,
    /// SHA-256 over all bytes of the file.
    pub sha256: [u8; 32],
}

/// Why a data set is not used. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read.
    #[error("read the data set: {0}")]
    Read(#[from] io::Error),
    /// More bytes than allowed.
    #[error("read the data set: it has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// No first line.
    #[error("read the data set: it is empty")]
    Empty,
    /// Nothing to train on.
    #[error("read the data set: no example is there to be trained on")]
    NothingToTrain,
    /// A line has a defect.
    #[error("read the data set: line {line}: {defect}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        defect: Defect,
    },
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// Longer than allowed.
    #[error("it has more than {MAX_LINE} bytes")]
    TooLong,
    /// One line more than allowed.
    #[error("at most {MAX_LINES} lines are read")]
    TooMany,
    /// Not the JSON of such a line.
    #[error("{}", column(.0))]
    Json(serde_json::Error),
    /// Of another time.
    #[error("its format is {0}, known is {FORMAT}")]
    Format(u32),
    /// Made for another model.
    #[error("its tokens are those of the base {found}, given is {given}")]
    Base {
        /// SHA-256 in the line.
        found: String,
        /// SHA-256 of the model at hand.
        given: String,
    },
    /// Made with another vocabulary.
    #[error("its vocabulary has {found} tokens, the base's {given}")]
    Vocabulary {
        /// Tokens by the line.
        found: u32,
        /// Tokens of the model at hand.
        given: usize,
    },
    /// Too much to be held to.
    #[error("with it the anchors have more than {MAX_ANCHORED} tokens")]
    Anchors,
    /// An id that is none.
    #[error("its id must be 1 to {MAX_ID} lower-case hex digits")]
    Id,
    /// An id that was there before: the same example may not be trained on and judged by.
    #[error("its id is that of line {0}")]
    Repeated(usize),
    /// Too few or too many tokens.
    #[error("it has {0} tokens, must be 2 to {MAX_TOKENS}")]
    Length(usize),
    /// A token that the model does not have.
    #[error("token {token} at position {position} is not below {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// Where it is.
        position: usize,
        /// Tokens that there are.
        vocabulary: usize,
    },
    /// Nothing to be predicted.
    #[error("it has no targets")]
    NoTargets,
    /// A span that is none.
    #[error(
        "target [{start}, {end}) must begin at {least} or later, have a position, and end at {length} or earlier"
    )]
    Target {
        /// Its first position.
        start: usize,
        /// The one after its last.
        end: usize,
        /// Where it may begin: after the target before it, and never at the first token, which nothing predicts.
        least: usize,
        /// Tokens of the example.
        length: usize,
    },
}

/// Its text without the number of the line, which is always the first for it.
fn column(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    base: String,
    vocabulary: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    split: Split,
    tokens: Vec<u32>,
    targets: Vec<(usize, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Split {
    Train,
    HeldOut,
    Replay,
    Anchor,
}

/// The bytes of a file from its beginning, wherever its descriptor stands, and their sum.
struct Bytes<'a> {
    file: &'a File,
    at: u64,
    sum: Sha256,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = loop {
            match self.file.read_at(buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                got => break got?,
            }
        };
        self.sum.update(&buffer[..got]);
        self.at += got as u64;
        Ok(got)
    }
}

/// Reads the data set of `file` for the base with the SHA-256 `base` (lower-case hex) and `vocabulary` tokens.
///
/// # Errors
/// The first defect, with its line.
pub fn read(file: &File, base: &str, vocabulary: usize) -> Result<DataSet, DataError> {
    let bytes = Bytes {
        file,
        at: 0,
        sum: Sha256::new(),
    };
    let mut reader = BufReader::with_capacity(64 * 1024, bytes.take(MAX_BYTES + 1));
    let mut text = Vec::new();
    let (mut train, mut held_out, mut anchors) = (Vec::new(), Vec::new(), Vec::new());
    let mut anchored = 0;
    let mut ids = HashMap::new();
    let mut line = 0;
    loop {
        text.clear();
        let length = (&mut reader).take(MAX_LINE + 1).read_until(b'\n', &mut text)? as u64;
        if length == 0 {
            break;
        }
        line += 1;
        let flawed = |defect| DataError::Line { line, defect };
        if reader.get_ref().get_ref().at > MAX_BYTES {
            return Err(DataError::TooLarge);
        }
        if length > MAX_LINE {
            return Err(flawed(Defect::TooLong));
        }
        if line > MAX_LINES {
            return Err(flawed(Defect::TooMany));
        }
        if line == 1 {
            check_head(&text, base, vocabulary).map_err(flawed)?;
            continue;
        }
        let (id, split, example) = example(&text, vocabulary).map_err(flawed)?;
        if let Some(before) = ids.insert(id, line) {
            return Err(flawed(Defect::Repeated(before)));
        }
        match split {
            Split::Train | Split::Replay => train.push(example),
            Split::HeldOut => held_out.push(example),
            Split::Anchor => {
                anchored += example.tokens.len();
                if anchored > MAX_ANCHORED {
                    return Err(flawed(Defect::Anchors));
                }
                anchors.push(example);
            }
        }
    }
    match (line, train.is_empty()) {
        (0, _) => Err(DataError::Empty),
        (_, true) => Err(DataError::NothingToTrain),
        _ => Ok(DataSet {
            train,
            held_out,
            anchors,
            sha256: reader.into_inner().into_inner().sum.finalize().into(),
        }),
    }
}

fn check_head(text: &[u8], base: &str, vocabulary: usize) -> Result<(), Defect> {
    // What the format says comes first: another one may have other fields.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(text).map_err(Defect::Json)?;
    if format != FORMAT {
        return Err(Defect::Format(format));
    }
    let head: Head = serde_json::from_slice(text).map_err(Defect::Json)?;
    debug_assert_eq!(head.format, format);
    if head.base != base {
        return Err(Defect::Base {
            // A wrong one may be anything.
            found: head.base.chars().take(64).collect(),
            given: base.to_owned(),
        });
    }
    if usize::try_from(head.vocabulary) != Ok(vocabulary) {
        return Err(Defect::Vocabulary {
            found: head.vocabulary,
            given: vocabulary,
        });
    }
    Ok(())
}

fn example(text: &[u8], vocabulary: usize) -> Result<(String, Split, Example), Defect> {
    let line: Line = serde_json::from_slice(text).map_err(Defect::Json)?;
    let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if line.id.is_empty() || line.id.len() > MAX_ID || !line.id.bytes().all(hex) {
        return Err(Defect::Id);
    }
    let length = line.tokens.len();
    if !(2..=MAX_TOKENS).contains(&length) {
        return Err(Defect::Length(length));
    }
    for (position, token) in line.tokens.iter().copied().enumerate() {
        if usize::try_from(token).is_ok_and(|token| token >= vocabulary) {
            return Err(Defect::Token {
                token,
                position,
                vocabulary,
            });
        }
    }
    if line.targets.is_empty() {
        return Err(Defect::NoTargets);
    }
    let mut least = 1;
    for (start, end) in line.targets.iter().copied() {
        if start < least || end <= start || end > length {
            return Err(Defect::Target {
                start,
                end,
                least,
                length,
            });
        }
        least = end;
    }
    let example = Example {
        tokens: line.tokens,
        targets: line.targets.into_iter().map(|(start, end)| start..end).collect(),
    };
    Ok((line.id, line.split, example))
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
