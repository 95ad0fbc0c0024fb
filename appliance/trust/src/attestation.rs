//! The attestation document: what it says, and the bounds of each field.
//!
//! [`Attestation::parse`] is for bytes whose signature has been verified; `check_document` is the way in.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, TrustError};

/// The format version this program reads and writes.
pub const FORMAT: u32 = 1;
/// Largest document, bytes. A real one has less than 2 KiB; the probe's texts are the only ones that vary.
pub const MAX_DOCUMENT: u64 = 64 * 1024;
/// Longest id and version, bytes.
const MAX_NAME: usize = 128;
/// Longest text of a probe, bytes.
const MAX_PROBE: usize = 8 * 1024;

/// What an attestation speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A base model.
    Model,
    /// A multimodal projector.
    Projector,
    /// A LoRA adapter, bound to one base model.
    Adapter,
    /// An update bundle.
    Bundle,
    /// Prompts of the reflection.
    Prompts,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Model,
        Self::Projector,
        Self::Adapter,
        Self::Bundle,
        Self::Prompts,
    ];

    /// The name that documents use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Projector => "projector",
            Self::Adapter => "adapter",
            Self::Bundle => "bundle",
            Self::Prompts => "prompts",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| {
                let known = Self::ALL.map(Self::as_str).join(", ");
                format!("{text:?} is no kind; there are {known}")
            })
    }
}

/// One artifact, as its publisher describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// [`FORMAT`].
    pub format: u32,
    /// What it is.
    pub kind: Kind,
    /// Which one: stays the same over versions. `a-z A-Z 0-9 . _ + -`, at most 128 bytes.
    pub id: String,
    /// Version for people, at most 128 bytes of visible ASCII.
    pub version: String,
    /// Counts up for one id, from 1; a machine never goes back.
    pub sequence: u64,
    /// From this moment on the attestation is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Size of the file, bytes.
    pub size: u64,
    /// SHA-256 of the file.
    pub sha256: Digest,
    /// fs-verity digest of the file: SHA-256, 4096-byte blocks, no salt.
    pub verity: Digest,
    /// Adapters, and only they: SHA-256 of the base model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// What the artifact needs in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryEnvelope>,
    /// Models only: a known answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// What a model needs in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryEnvelope {
    /// Weights, bytes.
    pub weights: u64,
    /// KV cache of one token at 16-bit floats, bytes.
    pub kv_per_token: u64,
}

/// A known answer: what greedy decoding says to a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is asked, at most 8 KiB.
    pub prompt: String,
    /// What the answer begins with, at most 8 KiB.
    pub expect: String,
}

impl Attestation {
    /// Parses and checks a document whose signature has been verified.
    pub fn parse(document: &[u8]) -> Result<Self, TrustError> {
        let size = document.len() as u64;
        if size > MAX_DOCUMENT {
            return Err(TrustError::DocumentTooLarge { size });
        }
        let not_toml = |reason: String| TrustError::NotToml { reason };
        let text = std::str::from_utf8(document).map_err(|e| not_toml(e.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|e: toml::de::Error| not_toml(e.message().into()))?;
        // The version comes first: fields of a format that is not known cannot be wrong.
        match table.get("format") {
            Some(toml::Value::Integer(n)) if *n == i64::from(FORMAT) => {}
            found => {
                let found = found.map_or_else(|| "none".into(), |v| v.to_string());
                return Err(TrustError::UnknownFormat {
                    found: found.chars().take(40).collect(),
                });
            }
        }
        let attestation: Self =
            toml::from_str(text).map_err(|e: toml::de::Error| TrustError::InvalidDocument {
                reason: e.message().into(),
            })?;
        attestation.check()?;
        Ok(attestation)
    }

    /// The document, ready to be signed. Errors where [`Attestation::parse`] would refuse the result.
    pub fn render(&self) -> Result<String, TrustError> {
        self.check()?;
        let text = toml::to_string(self).map_err(|e| TrustError::InvalidDocument {
            reason: e.to_string(),
        })?;
        if text.len() as u64 > MAX_DOCUMENT {
            return Err(TrustError::DocumentTooLarge {
                size: text.len() as u64,
            });
        }
        Ok(text)
    }

    fn check(&self) -> Result<(), TrustError> {
        let wrong = |reason: String| Err(TrustError::InvalidDocument { reason });
        if self.format != FORMAT {
            return Err(TrustError::UnknownFormat {
                found: self.format.to_string(),
            });
        }
        if !is_id(&self.id) {
            return wrong(format!(
                "id: 1 to {MAX_NAME} characters of A-Z a-z 0-9 . _ + -, a letter or digit first"
            ));
        }
        if self.version.is_empty()
            || self.version.len() > MAX_NAME
            || !self.version.bytes().all(|b| b.is_ascii_graphic())
        {
            return wrong(format!("version: 1 to {MAX_NAME} characters of visible ASCII"));
        }
        // TOML's integers are signed; 0 means "none seen" wherever sequences are kept.
        let integer = 1..=i64::MAX.unsigned_abs();
        if !integer.contains(&self.sequence) {
            return wrong("sequence: at least 1".into());
        }
        if !integer.contains(&self.size) {
            return wrong("size: at least 1".into());
        }
        if self.base.is_some() != (self.kind == Kind::Adapter) {
            return wrong("base: an adapter has one, nothing else does".into());
        }
        if self.memory.is_some() && !matches!(self.kind, Kind::Model | Kind::Projector) {
            return wrong("memory: only models and projectors have one".into());
        }
        if let Some(memory) = self.memory
            && !(integer.contains(&memory.weights) && memory.kv_per_token <= *integer.end())
        {
            return wrong("memory: weights must be at least 1".into());
        }
        if let Some(probe) = &self.probe {
            if self.kind != Kind::Model {
                return wrong("probe: only models have one".into());
            }
            for (name, text) in [("prompt", &probe.prompt), ("expect", &probe.expect)] {
                if text.trim().is_empty() || text.len() > MAX_PROBE {
                    return wrong(format!("probe.{name}: 1 to {MAX_PROBE} bytes, not only blanks"));
                }
            }
        }
        Ok(())
    }
}

/// Whether a text may be the id of an artifact.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

#[cfg(test)]
mod tests;
