//! What supervisor, engine and gateway say to each other about LoRA adapters: which there are, which one an engine
//! applies, and which one a request wants.

use serde::{Deserialize, Serialize};

/// Largest adapter that is handed to an engine, bytes: rank 64 on every matrix of a model of 8 B parameters is half of
/// that.
pub const MAX_ADAPTER: u64 = 1024 * 1024 * 1024;
/// Most adapters that an engine keeps loaded: the one in use and one besides, so that going back is immediate.
pub const MOST_LOADED: usize = 2;

/// Which adapter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adapter {
    /// SHA-256 of its file, lower-case hex, as attested.
    pub digest: String,
    /// Version of its attestation.
    pub version: String,
}

impl Adapter {
    /// The digits of its digest that are enough for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.digest.get(..12).unwrap_or(&self.digest)
    }
}

/// What a running engine is to do about adapters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum AdapterOrder {
    /// Have this one ready. One descriptor is attached: the verified file, read-only. Where [`MOST_LOADED`] are, the
    /// one that is not in use makes room.
    Load {
        /// Which.
        adapter: Adapter,
    },
    /// Apply this loaded one, or none, to every request that begins from now on; what runs ends as it began.
    Use {
        /// SHA-256 of its file.
        digest: Option<String>,
    },
    /// Forget one that is not in use. Its memory is given back when the last request that began with it has ended.
    Drop {
        /// SHA-256 of its file.
        digest: String,
    },
}

/// What came of an [`AdapterOrder`], and of the adapter an engine was born with (whose number is 0).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterAnswer {
    /// Number of the order.
    pub seq: u64,
    /// Every adapter that is loaded now.
    pub loaded: Vec<LoadedAdapter>,
    /// SHA-256 of the one that is in use now.
    pub in_use: Option<String>,
    /// Milliseconds from the order to its end.
    pub took_ms: u64,
    /// Why it was not done; fits after "failed to". The engine serves as before.
    pub refused: Option<String>,
}

impl AdapterAnswer {
    /// The one in use.
    #[must_use]
    pub fn used(&self) -> Option<&Adapter> {
        let digest = self.in_use.as_ref()?;
        let mut loaded = self.loaded.iter().map(|loaded| &loaded.adapter);
        loaded.find(|adapter| adapter.digest == *digest)
    }
}

/// An adapter in an engine's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedAdapter {
    /// Which.
    pub adapter: Adapter,
    /// Bytes of its matrices.
    pub bytes: u64,
}

/// Which adapter a request is to be computed with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "which", rename_all = "snake_case")]
pub enum Apply {
    /// The one in use when the request leaves the queue, if there is one.
    #[default]
    InUse,
    /// This one, or none; where it is not loaded any more, the one in use. So that what belongs to one answer is
    /// computed with one adapter.
    Rather {
        /// SHA-256 of its file.
        digest: Option<String>,
    },
    /// This one, or none, and nothing else: a request for one that is not loaded is refused.
    Exactly {
        /// SHA-256 of its file.
        digest: Option<String>,
    },
}

impl Apply {
    /// Whether nothing was wished for.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        *self == Self::InUse
    }

    /// The digest that is named, if one is.
    #[must_use]
    pub fn digest(&self) -> Option<&str> {
        match self {
            Self::InUse => None,
            Self::Rather { digest } | Self::Exactly { digest } => digest.as_deref(),
        }
    }
}

/// Where an adapter of the store stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Engines of its base apply it.
    InUse,
    /// It was in use before the present one, or before none: what a rollback brings back.
    Previous,
    /// Kept, and can be put to use.
    Archived,
    /// What it was measured by spoke against it: kept for a look, never loaded.
    Rejected,
    /// It is not what was signed, or nobody who may has signed it.
    Refused,
}

impl Standing {
    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Previous => "previous",
            Self::Archived => "archived",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
        }
    }
}

/// One adapter of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterStatus {
    /// Its name: of its file without the ending.
    pub name: String,
    /// Where it stands.
    pub standing: Standing,
    /// Bytes of its file.
    pub size: u64,
    /// Version of its attestation, where that holds; so the next three.
    pub version: Option<String>,
    /// SHA-256 of its file, as attested.
    pub digest: Option<String>,
    /// SHA-256 of the model it is for.
    pub base: Option<String>,
    /// Fingerprint of the certificate that signed.
    pub signer: Option<String>,
    /// Services that run its base now.
    pub engines: Vec<String>,
    /// Why it is refused, or by which figures it was rejected.
    pub note: Option<String>,
}

/// What came of a change of the adapter in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterChange {
    /// Name of the one in use from now on.
    pub in_use: Option<String>,
    /// Services that apply it already; others do from their start on.
    pub engines: Vec<String>,
    /// Milliseconds from the request to the last engine's answer.
    pub took_ms: u64,
}

/// Whether a text is a digest as it is written here.
#[must_use]
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_says_nothing_takes_what_is_in_use() {
        let apply: Apply = serde_json::from_str(r#"{"which":"in_use"}"#).unwrap();
        assert!(apply.is_in_use() && apply.digest().is_none());
        let exactly = Apply::Exactly { digest: None };
        let text = serde_json::to_string(&exactly).unwrap();
        assert_eq!(serde_json::from_str::<Apply>(&text).unwrap(), exactly);
    }

    #[test]
    fn the_one_in_use_is_among_the_loaded_ones() {
        let adapter = |digit: &str| Adapter {
            digest: digit.repeat(64),
            version: digit.to_owned(),
        };
        let mut answer = AdapterAnswer {
            seq: 1,
            loaded: ["a", "b"]
                .map(|digit| LoadedAdapter {
                    adapter: adapter(digit),
                    bytes: 1,
                })
                .to_vec(),
            in_use: Some("b".repeat(64)),
            took_ms: 0,
            refused: None,
        };
        assert_eq!(answer.used(), Some(&adapter("b")));
        assert_eq!(answer.used().map(Adapter::short), Some("bbbbbbbbbbbb"));
        answer.in_use = None;
        assert_eq!(answer.used(), None);
    }

    #[test]
    fn a_digest_has_64_lower_case_digits() {
        assert!(is_digest(&"0a".repeat(32)));
        for wrong in ["", &"0A".repeat(32), &"0".repeat(63), &"g".repeat(64)] {
            assert!(!is_digest(wrong));
        }
    }
}
