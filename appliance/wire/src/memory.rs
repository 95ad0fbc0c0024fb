//! What supervisor, engine and gateway say to each other about memory: the rungs of the ladder, what an engine gives
//! back, and what clients are told.

use serde::{Deserialize, Serialize};

/// How far the appliance has stepped back to stay inside its memory budget. Ordered: a later one serves less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Both engines are warm, everything is kept.
    #[default]
    Normal,
    /// Caches and saved prefixes are given up.
    Caches,
    /// The primary's context is half of what was configured.
    HalfContext,
    /// The primary's context is a quarter of what was configured.
    QuarterContext,
    /// The projector is unloaded: text only.
    TextOnly,
    /// The primary is stopped; the fallback serves.
    Fallback,
    /// New work is refused with 503 and `Retry-After`.
    Refusing,
}

impl Rung {
    /// Every rung, from the first down to the last.
    pub const ALL: [Self; 7] = [
        Self::Normal,
        Self::Caches,
        Self::HalfContext,
        Self::QuarterContext,
        Self::TextOnly,
        Self::Fallback,
        Self::Refusing,
    ];

    /// Its name in status, metrics and responses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Caches => "caches",
            Self::HalfContext => "half_context",
            Self::QuarterContext => "quarter_context",
            Self::TextOnly => "text_only",
            Self::Fallback => "fallback",
            Self::Refusing => "refusing",
        }
    }
}

/// What an engine is asked to give back, or may take again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Ease {
    /// Forget every prefix and saved state that no running request uses, and return free memory to the kernel.
    DropCaches,
    /// Serve with this context from now on. What runs ends first with the context it began with; what waits and does
    /// not fit is refused with the counts.
    Context {
        /// Tokens of one request; never above what the engine was started with.
        tokens: u32,
    },
}

/// What came of an [`Ease`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eased {
    /// Number of the order.
    pub seq: u64,
    /// Tokens of one request from now on.
    pub context: u32,
    /// Resident anonymous memory before, bytes, by the kernel's count.
    pub before: u64,
    /// The same after.
    pub after: u64,
    /// Milliseconds from the order to its end, what had to be waited for included.
    pub took_ms: u64,
    /// Why it was not done; fits after "failed to". The engine serves as before.
    pub refused: Option<String>,
}

/// What the gateway is told, and tells clients, about the rung.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RungNotice {
    /// Where the ladder stands.
    pub rung: Rung,
    /// Why, in a sentence fragment; empty at the first rung.
    pub reason: String,
    /// Context of one request now, tokens, where it is less than configured.
    pub context: Option<u32>,
    /// Seconds after which refused clients may try again; only at [`Rung::Refusing`].
    pub retry_after_s: Option<u32>,
}
