//! What a line of the log says.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// A SHA-256 value; 64 lower-case hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Before the first line of the first file.
    pub const ZERO: Self = Self([0; 32]);

    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From its text; one spelling only.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let nibble = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        Self::parse(&text)
            .ok_or_else(|| serde::de::Error::custom("a hash has 64 lower-case hexadecimal digits"))
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// SHA-256 of the line before, without its end.
    pub prev: Hash,
    /// When it happened, RFC 3339.
    pub time: String,
    /// How many records could not be written since the line before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// The gateway began to write. Without a [`Event::Stop`] before it, what was about to be written is missing.
    Start {
        /// Version of the program.
        version: String,
    },
    /// The gateway ended in order: nothing is missing.
    Stop,
    /// An Omni-Loop ended.
    Loop(Box<Loop>),
    /// Records were lost and nothing else has happened since; how many, the record says.
    Lost,
    /// The end of a file had been torn, by a power cut for example, and was cut off.
    Repaired {
        /// Number of the file.
        file: u64,
        /// How many bytes were cut.
        bytes: u64,
        /// SHA-256 of them.
        sha256: Hash,
    },
    /// A file is removed because there are too many.
    Pruned {
        /// Its number.
        file: u64,
        /// SHA-256 of its last line.
        last: Hash,
    },
}

/// What an Omni-Loop did. Texts are there as their SHA-256.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Loop {
    /// Id of the request.
    pub id: String,
    /// Name of the client's key.
    pub client: String,
    /// Of the conversation: of the compact JSON array of its messages, `[{"role":…,"content":…},…]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Hash>,
    /// Draft and revisions, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// Of the answer that was returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Hash>,
    /// Which iteration it came from; 1 is the draft.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<u8>,
    /// Why the loop ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// How sure the answer is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The model that gave the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// SHA-256 of its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The adapter applied to it: SHA-256 of its file, a space, its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The words that asked for revisions.
    pub prompts: Prompts,
    /// Why the fallback engine answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// Why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The texts themselves, where the admin wants them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
}

/// One iteration of a loop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// `draft` or `revision`.
    pub phase: String,
    /// `complete`, `timed_out` or `failed`.
    pub ended: String,
    /// Of what was written.
    pub sha256: Hash,
    /// What it scored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// What was found in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

/// A finding of a checker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The checker's name.
    pub checker: String,
    /// Of the sentence that names it.
    pub sha256: Hash,
}

/// A set of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prompts {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

/// The texts of a loop.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Content {
    /// The conversation.
    pub messages: Vec<Message>,
    /// Draft and revisions, in order.
    pub steps: Vec<String>,
    /// The answer.
    pub answer: String,
    /// Whether any of them was too long to be kept whole.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Its text.
    pub content: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_spelling() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Hash::of(b"").to_string(), text);
        assert_eq!(Hash::parse(text), Some(Hash::of(b"")));
        for wrong in [&text.to_uppercase(), &text[1..], ""] {
            assert_eq!(Hash::parse(wrong), None);
        }
    }

    #[test]
    fn a_record_is_one_flat_object_and_comes_back() {
        let record = Record {
            prev: Hash::ZERO,
            time: "2026-01-01T00:00:00Z".into(),
            lost: 0,
            event: Event::Loop(Box::new(Loop {
                id: "r".into(),
                answer: Some(Hash::of(b"Paris")),
                confidence: Some(0.9),
                ..Loop::default()
            })),
        };
        let line = serde_json::to_string(&record).unwrap();
        assert!(
            line.contains("\"kind\":\"loop\",\"id\":\"r\"") && !line.contains("lost"),
            "{line}"
        );
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
        assert!(serde_json::from_str::<Record>("{}").is_err());
    }
}
