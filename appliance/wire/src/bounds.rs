//! Bounds of what an admin may set. The supervisor holds settings to them when it reads `sarai.toml`, engine,
//! gateway and trainer hold what they are started with to them: what the first lets through, the others take.

use std::ops::RangeInclusive;

/// [`crate::birth::EngineParams::context`], tokens.
pub const CONTEXT: RangeInclusive<u32> = 128..=131_072;
/// [`crate::birth::EngineParams::slots`].
pub const SLOTS: RangeInclusive<u32> = 1..=16;
/// [`crate::birth::EngineParams::queue`].
pub const QUEUE: RangeInclusive<u32> = 1..=1024;
/// [`crate::birth::EngineParams::batch`], tokens; the smallest leaves room for every slot.
pub const BATCH: RangeInclusive<u32> = 64..=4096;

/// [`crate::birth::GatewaySettings::max_body`], bytes. A body must still fit into a frame to the engine
/// ([`crate::frame::MAX_FRAME`]) once drafts and critiques are appended.
pub const MAX_BODY: RangeInclusive<u32> = 1024..=3 * 1024 * 1024;
/// [`crate::birth::GatewaySettings::max_connections`] and `max_connections_per_address`.
pub const CONNECTIONS: RangeInclusive<u32> = 1..=4096;
/// [`crate::birth::GatewaySettings::header_timeout_ms`].
pub const HEADER_TIMEOUT_MS: RangeInclusive<u32> = 100..=120_000;
/// [`crate::birth::GatewaySettings::body_timeout_ms`].
pub const BODY_TIMEOUT_MS: RangeInclusive<u32> = 100..=600_000;
/// [`crate::birth::GatewaySettings::max_requests`].
pub const MAX_REQUESTS: RangeInclusive<u32> = 1..=1024;
/// [`crate::birth::GatewaySettings::iteration_timeout_s`].
pub const ITERATION_TIMEOUT_S: RangeInclusive<u32> = 1..=600;
/// [`crate::birth::GatewaySettings::deadline_s`].
pub const DEADLINE_S: RangeInclusive<u32> = 1..=3600;
/// [`crate::birth::GatewaySettings::primary_silence_ms`].
pub const PRIMARY_SILENCE_MS: RangeInclusive<u32> = 500..=600_000;
/// [`crate::birth::GatewaySettings::early_exit`].
pub const EARLY_EXIT: RangeInclusive<f32> = 0.0..=1.0;
/// [`crate::birth::GatewaySettings::drain_s`].
pub const DRAIN_S: RangeInclusive<u32> = 0..=120;
/// [`crate::feedback::FeedbackSettings::keep_days`].
pub const KEEP_DAYS: RangeInclusive<u32> = 1..=365;
/// [`crate::feedback::FeedbackSettings::max_bytes`]: the smallest holds a dozen of the longest records, the largest still
/// has files that the gateway may write.
pub const FEEDBACK_BYTES: RangeInclusive<u64> = 16 << 20..=2 << 30;

/// Minutes without a key after which a prompt on a terminal of the machine locks; 0: never.
pub const IDLE_MINUTES: RangeInclusive<u32> = 0..=24 * 60;

/// Of [`crate::training::TrainingConfig`], setting by setting.
pub mod training {
    use std::ops::RangeInclusive;

    /// Rank of an update. More than 64 is no low rank for the models of this machine, and no longer fits its memory.
    pub const RANK: RangeInclusive<u32> = 1..=64;
    /// Scale of the updates.
    pub const ALPHA: RangeInclusive<f64> = 0.01..=1024.0;
    /// Highest learning rate.
    pub const LEARNING_RATE: RangeInclusive<f64> = 1e-7..=0.1;
    /// Part of the steps that is warm-up.
    pub const WARMUP: RangeInclusive<f64> = 0.0..=0.5;
    /// Part of the highest rate at the end.
    pub const FLOOR: RangeInclusive<f64> = 0.0..=1.0;
    /// Passes over the examples.
    pub const EPOCHS: RangeInclusive<u32> = 1..=1000;
    /// Norm of a gradient.
    pub const CLIP: RangeInclusive<f64> = 1e-3..=1e6;
    /// Weight decay.
    pub const WEIGHT_DECAY: RangeInclusive<f64> = 0.0..=1.0;
    /// Seed: what TOML's integers can say.
    pub const SEED: RangeInclusive<u64> = 0..=i64::MAX.cast_unsigned();
    /// Tokens of a row.
    pub const SEQUENCE_LENGTH: RangeInclusive<u32> = 16..=4096;
    /// Rows of a step.
    pub const ROWS_PER_STEP: RangeInclusive<u32> = 1..=1024;
    /// Steps between two measurements.
    pub const HELD_OUT_EVERY: RangeInclusive<u32> = 1..=100_000;
    /// Fewest steps.
    pub const LEAST_STEPS: RangeInclusive<u32> = 0..=100_000;
    /// Weight of the divergence on general texts.
    pub const ANCHOR: RangeInclusive<f64> = 0.0..=100.0;
    /// Tokens of all texts together where the model is held to what the base says: of each, a row as wide as the model is
    /// kept in memory.
    pub const ANCHORED: u32 = 8192;
    /// Measurements without a new best.
    pub const PATIENCE: RangeInclusive<u32> = 0..=1000;
    /// Seconds of a run: no more than a day.
    pub const TIME_BUDGET_SECONDS: RangeInclusive<u32> = 1..=86_400;
    /// Seconds between two checkpoints.
    pub const CHECKPOINT_SECONDS: RangeInclusive<u32> = 0..=3600;
    /// Compute threads.
    pub const THREADS: RangeInclusive<u32> = 1..=64;
}

/// Of a night besides its training: [`crate::night::ChoiceSettings`], and what the gate asks.
pub mod night {
    use std::ops::RangeInclusive;

    /// Fewest new examples of a night.
    pub const LEAST: RangeInclusive<u32> = 1..=10_000;
    /// Examples of older nights, as a part of the new ones' number.
    pub const REPLAY: RangeInclusive<f64> = 0.0..=1.0;
    /// Part by which the loss on held-out feedback must fall.
    pub const GAIN: RangeInclusive<f64> = 0.0..=0.9;
    /// Part by which the loss on general texts may rise.
    pub const GENERAL: RangeInclusive<f64> = 0.0..=1.0;
    /// Most memory of the trainer, bytes: below it no model of this machine can be trained.
    pub const MEMORY: RangeInclusive<u64> = 64 << 20..=1 << 40;
    /// Questions that may be answered wrong that were answered right before.
    pub const WRONG: RangeInclusive<u32> = 0..=1000;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::birth::{EngineParams, GatewaySettings};

    #[test]
    fn the_defaults_are_within_bounds() {
        let EngineParams {
            context,
            slots,
            queue,
            batch,
            ..
        } = EngineParams::default();
        let GatewaySettings {
            max_body,
            max_connections,
            max_connections_per_address,
            header_timeout_ms,
            body_timeout_ms,
            max_requests,
            iteration_timeout_s,
            deadline_s,
            primary_silence_ms,
            early_exit,
            drain_s,
        } = GatewaySettings::default();
        for (bounds, value) in [
            (CONTEXT, context),
            (SLOTS, slots),
            (QUEUE, queue),
            (BATCH, batch),
            (MAX_BODY, max_body),
            (CONNECTIONS, max_connections),
            (CONNECTIONS, max_connections_per_address),
            (HEADER_TIMEOUT_MS, header_timeout_ms),
            (BODY_TIMEOUT_MS, body_timeout_ms),
            (MAX_REQUESTS, max_requests),
            (ITERATION_TIMEOUT_S, iteration_timeout_s),
            (DEADLINE_S, deadline_s),
            (PRIMARY_SILENCE_MS, primary_silence_ms),
            (DRAIN_S, drain_s),
        ] {
            assert!(bounds.contains(&value), "{value} is not in {bounds:?}");
        }
        assert!(EARLY_EXIT.contains(&early_exit));
        let feedback = crate::feedback::FeedbackSettings::default();
        assert!(KEEP_DAYS.contains(&feedback.keep_days) && FEEDBACK_BYTES.contains(&feedback.max_bytes));
    }
}
