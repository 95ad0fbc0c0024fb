//! What a line says, and its bounds. Everything in a line came from a client or from a model.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::forget::What;

/// Longest line, bytes, without its end: 1 MB.
pub const MAX_LINE: usize = 1_000_000;
/// Longest id and longest name of a key, bytes.
pub const MAX_NAME: usize = 64;
/// Longest name of a model or an adapter, bytes.
pub const MAX_MODEL: usize = 256;
/// Most messages of a conversation.
pub const MAX_MESSAGES: usize = 2048;
/// Longest correction, bytes.
pub const MAX_CORRECTION: usize = 64 * 1024;
/// Longest comment, bytes.
pub const MAX_COMMENT: usize = 8 * 1024;
/// Digits after the point that are kept of a score and of a confidence.
const DIGITS: f64 = 1e6;

/// A value that is not taken. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("take {field}: {why}")]
pub struct Invalid {
    /// Which; as in the request where it is from there.
    pub field: &'static str,
    /// Why not; never says what it was.
    pub why: String,
}

impl Invalid {
    fn new(field: &'static str, why: impl Into<String>) -> Self {
        Self {
            field,
            why: why.into(),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// An answer that may be judged.
    Completion(Box<Completion>),
    /// A judgment.
    Feedback(Box<Feedback>),
    /// What is before this line and matches does not count any more.
    Forget {
        /// When it was asked for.
        time: Timestamp,
        /// What matches.
        what: What,
    },
    /// What was to be forgotten at `time` is no longer in the files.
    Forgotten {
        /// That of [`Entry::Forget`].
        time: Timestamp,
        /// Lines that were removed.
        lines: u64,
    },
    /// A torn end was cut off.
    Repaired {
        /// When.
        time: Timestamp,
        /// Number of the file.
        file: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// A file is removed, for its age or to keep the whole within its bound.
    Pruned {
        /// When.
        time: Timestamp,
        /// Number of the file.
        file: u64,
        /// How many lines it had.
        lines: u64,
    },
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions above the conversation.
    System,
    /// Who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// An answer with its request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// Its id, as the client was told it.
    pub id: String,
    /// Name of the client's key; never the secret.
    pub key: String,
    /// When it was complete.
    pub time: Timestamp,
    /// Model id.
    pub model: String,
    /// SHA-256 of the model file, lower-case hex.
    pub digest: String,
    /// The adapter that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// How likely the answer is right, by the loop's own account: 0 to 1.
    pub confidence: f64,
    /// The conversation as it was sent.
    pub messages: Vec<Message>,
    /// The answer as the client got it.
    pub answer: String,
}

impl Completion {
    /// Holds it to its bounds.
    ///
    /// # Errors
    /// Which value is out of its bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        name("completion_id", &self.id)?;
        name("key", &self.key)?;
        bounded("model", &self.model, MAX_MODEL)?;
        bounded("adapter", self.adapter.as_deref().unwrap_or_default(), MAX_MODEL)?;
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if self.digest.len() > MAX_NAME || !self.digest.bytes().all(hex) {
            return Err(Invalid::new("digest", "it is no lower-case hex"));
        }
        unit("confidence", self.confidence)?;
        if self.messages.is_empty() || self.messages.len() > MAX_MESSAGES {
            let why = format!("it must have 1 to {MAX_MESSAGES} members");
            return Err(Invalid::new("messages", why));
        }
        Ok(())
    }
}

/// What somebody says of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgment {
    /// How good it is: 0 to 1.
    pub score: f64,
    /// What should have been answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// A judgment without its texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// How good the answer is: 0 to 1.
    pub score: f64,
    /// Whether there is a correction.
    pub corrected: bool,
}

impl Judgment {
    /// A judgment within its bounds; a blank text is none.
    ///
    /// # Errors
    /// Which value is out of its bounds.
    pub fn new(score: f64, correction: Option<String>, comment: Option<String>) -> Result<Self, Invalid> {
        let said = |text: &String| !text.trim().is_empty();
        let judgment = Self {
            // The sum makes no difference but to minus zero.
            score: (score * DIGITS).round() / DIGITS + 0.0,
            correction: correction.filter(said),
            comment: comment.filter(said),
        };
        unit("score", score)?;
        judgment.check()?;
        Ok(judgment)
    }

    fn check(&self) -> Result<(), Invalid> {
        unit("score", self.score)?;
        bounded(
            "correction",
            self.correction.as_deref().unwrap_or_default(),
            MAX_CORRECTION,
        )?;
        bounded(
            "comment",
            self.comment.as_deref().unwrap_or_default(),
            MAX_COMMENT,
        )
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict {
            score: self.score,
            corrected: self.correction.is_some(),
        }
    }

    /// Tells it from every other judgment.
    #[must_use]
    pub fn digest(&self) -> [u8; 16] {
        // A struct of numbers and strings always has a JSON form.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        short_digest(&[&bytes])
    }
}

/// The first half of the SHA-256 of these parts, each told from the next.
pub(crate) fn short_digest(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

/// A judgment with what it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// Its id.
    pub id: String,
    /// When it was given.
    pub time: Timestamp,
    /// What was said.
    pub judgment: Judgment,
    /// Of which answer.
    pub completion: Completion,
}

impl Feedback {
    /// Holds it to its bounds.
    ///
    /// # Errors
    /// Which value is out of its bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        name("id", &self.id)?;
        self.judgment.check()?;
        self.completion.check()
    }
}

impl Entry {
    /// Reads a line without its end.
    ///
    /// # Errors
    /// When it is too long, not UTF-8, not JSON, or holds a value out of its bounds. The error never quotes the line.
    pub fn parse(line: &[u8]) -> Result<Self, Invalid> {
        if line.len() > MAX_LINE {
            return Err(Invalid::new("the line", format!("it exceeds {MAX_LINE} bytes")));
        }
        let text = std::str::from_utf8(line)
            .map_err(|e| Invalid::new("the line", format!("byte {} is not UTF-8", e.valid_up_to())))?;
        let entry: Self = serde_json::from_str(text).map_err(|e| {
            let why = format!("{:?} at column {}", e.classify(), e.column()).to_lowercase();
            Invalid::new("the line", why)
        })?;
        match &entry {
            Self::Completion(completion) => completion.check()?,
            Self::Feedback(feedback) => feedback.check()?,
            Self::Forget { what, .. } => what.check()?,
            Self::Forgotten { .. } | Self::Repaired { .. } | Self::Pruned { .. } => {}
        }
        Ok(entry)
    }

    /// Its line, without its end.
    ///
    /// # Errors
    /// When it is too long.
    pub fn line(&self) -> Result<Vec<u8>, Invalid> {
        let line = serde_json::to_vec(self).map_err(|e| Invalid::new("the record", e.to_string()))?;
        if line.len() > MAX_LINE {
            let why = format!("it has {} bytes, at most {MAX_LINE} are kept", line.len());
            return Err(Invalid::new("the record", why));
        }
        Ok(line)
    }

    /// When it was written.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Completion(completion) => completion.time,
            Self::Feedback(feedback) => feedback.time,
            Self::Forget { time, .. }
            | Self::Forgotten { time, .. }
            | Self::Repaired { time, .. }
            | Self::Pruned { time, .. } => *time,
        }
    }
}

/// A number from 0 to 1, rounded to what is kept of it; a number that is none becomes 0.
#[must_use]
pub fn rounded(value: f64) -> f64 {
    if value.is_finite() {
        (value.clamp(0.0, 1.0) * DIGITS).round() / DIGITS
    } else {
        0.0
    }
}

fn unit(field: &'static str, value: f64) -> Result<(), Invalid> {
    // What is no number is in no range.
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Invalid::new(field, "it must be a number from 0 to 1"))
    }
}

fn bounded(field: &'static str, text: &str, most: usize) -> Result<(), Invalid> {
    if text.len() <= most {
        Ok(())
    } else {
        Err(Invalid::new(
            field,
            format!("it has {} bytes, at most {most} are kept", text.len()),
        ))
    }
}

/// An id, or the name of a key.
pub(crate) fn name(field: &'static str, text: &str) -> Result<(), Invalid> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain) {
        Ok(())
    } else {
        let why = format!("it must be 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ -");
        Err(Invalid::new(field, why))
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
