//! An adapter made part of its base: what the trainer is started with for that and says of it, and what an admin is
//! told.

use serde::{Deserialize, Serialize};

/// Descriptors attached to [`crate::training::ToTrainer::Merge`], in this order: the base model (read), the adapter
/// (read), the merged model (read and write, empty).
pub const MERGE_FILES: usize = 3;

/// Everything a trainer needs for a merge besides its descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeStart {
    /// SHA-256 of the base model, lower-case hex, as verified on the descriptor that is attached.
    pub base: String,
    /// SHA-256 of the adapter, in the same way; one that differs is refused.
    pub adapter: String,
    /// Compute threads: [`crate::bounds::training::THREADS`]. What is written does not depend on them.
    pub threads: u32,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merging {
    /// Bytes written.
    pub written: u64,
    /// Bytes there will be.
    pub all: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeOutcome {
    /// Weights that were updated.
    pub tensors: u64,
    /// Part of the update, along the adapter's own directions, that rounding took away: 0 of nothing lost, 1 of
    /// everything.
    pub lost: f64,
    /// Size of the merged model, bytes.
    pub size: u64,
    /// SHA-256 of it, lower-case hex.
    pub sha256: String,
}

/// What a merge is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum MergeStage {
    /// Base and adapter are verified.
    #[default]
    Verifying,
    /// The trainer is started, or merges.
    Merging {
        /// How far it is.
        progress: Merging,
        /// Whether it stands still because requests are answered, or memory is short.
        paused: bool,
    },
    /// What was written is read again, signed and put in its place.
    Attesting,
}

/// A merge that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeNow {
    /// Id that the merged model will have; none while it is not known.
    pub id: Option<String>,
    /// Name of the adapter.
    pub adapter: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// What it is at.
    #[serde(flatten)]
    pub stage: MergeStage,
}

/// How a merge ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum MergeResult {
    /// The merged model is in its folder, attested.
    Merged {
        /// Its id.
        id: String,
        /// What was merged.
        #[serde(flatten)]
        outcome: MergeOutcome,
    },
    /// There is none. Fits after "failed to".
    Failed {
        /// Why.
        reason: String,
    },
}

/// A merge that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeEnd {
    /// Name of the adapter.
    pub adapter: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// Seconds it took.
    pub seconds: u64,
    /// How it ended.
    #[serde(flatten)]
    pub result: MergeResult,
}

/// A merged model that is kept until an admin removes it. Nothing here loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergedModel {
    /// Its id, and the name of its files.
    pub id: String,
    /// Version of its attestation: the base's and the adapter's.
    pub version: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as attested.
    pub digest: String,
    /// Fingerprint of the device's certificate, which is among its files.
    pub signer: String,
}

/// What an admin is told of merges.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MergeStatus {
    /// The one that runs.
    pub now: Option<MergeNow>,
    /// The last one since the supervisor's start.
    pub last: Option<MergeEnd>,
    /// Merged models that are kept.
    pub models: Vec<MergedModel>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_admin_is_told_reads_as_it_was_written() {
        let status = MergeStatus {
            now: Some(MergeNow {
                id: Some("m-a".into()),
                adapter: "a".into(),
                began: "2026-01-02T02:00:00Z".into(),
                stage: MergeStage::Merging {
                    progress: Merging { written: 1, all: 2 },
                    paused: true,
                },
            }),
            last: Some(MergeEnd {
                adapter: "a".into(),
                began: "2026-01-02T01:00:00Z".into(),
                seconds: 3,
                result: MergeResult::Merged {
                    id: "m-a".into(),
                    outcome: MergeOutcome {
                        tensors: 14,
                        lost: 0.015_625,
                        size: 7,
                        sha256: "0a".repeat(32),
                    },
                },
            }),
            models: Vec::new(),
        };
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains(r#""stage":"merging""#) && text.contains(r#""result":"merged""#));
        assert_eq!(serde_json::from_str::<MergeStatus>(&text).unwrap(), status);
    }

    #[test]
    fn its_files_fit_one_packet() {
        const { assert!(MERGE_FILES <= crate::birth::MAX_FDS) }
    }
}
