//! Feedback: where the gateway keeps it, and what an admin has it forget.

use serde::{Deserialize, Serialize};

/// What the names of the files with judgments begin with.
pub const FILES: &str = "feedback";

/// Where feedback is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedbackStart {
    /// Its folder, which is the gateway's own.
    pub folder: std::path::PathBuf,
    /// Limits.
    pub settings: FeedbackSettings,
    /// Bytes of the disk that stay free.
    pub reserve: u64,
}

/// The admin's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeedbackSettings {
    /// Whether answers may be judged. Without, none is kept for that, and what was said before is still removed in time.
    pub enabled: bool,
    /// Days a judgment is kept.
    pub keep_days: u32,
    /// Most bytes of all judgments together.
    pub max_bytes: u64,
}

impl Default for FeedbackSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            keep_days: 90,
            max_bytes: 256 * 1024 * 1024,
        }
    }
}

/// What is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Forget {
    /// One answer and what was said of it.
    Completion {
        /// Its id: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
        id: String,
    },
    /// Everything that came with a key.
    Key {
        /// Its name; the same characters.
        name: String,
    },
    /// Everything.
    Everything,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// The number of the order.
    pub seq: u64,
    /// Lines of judgments that were taken out of the files.
    pub lines: u64,
    /// Why it is not, or not all, done; fits after "failed to".
    pub trouble: Option<String>,
}
