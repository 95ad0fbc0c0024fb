//! Bounds of what an admin may set. The supervisor holds settings to them when it reads `sarai.toml`, engine and
//! gateway hold what they are started with to them: what the first lets through, the others take.

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
    }
}
