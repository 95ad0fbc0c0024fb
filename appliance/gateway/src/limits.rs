//! The admin's settings, brought into the bounds that keep the gateway safe whatever they say.

use std::ops::RangeInclusive;
use std::time::Duration;

use sarai_wire::birth::GatewaySettings;
use sarai_wire::bounds;

/// Settings within their bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Largest request body, bytes.
    pub body: usize,
    /// Most connections at once.
    pub connections: usize,
    /// Most connections from one address at once.
    pub connections_per_address: usize,
    /// Time for the TLS handshake, and again for a request's head.
    pub header: Duration,
    /// Time for a request's body.
    pub body_time: Duration,
    /// Most chat requests at once.
    pub requests: usize,
    /// Time of one iteration of the loop.
    pub iteration: Duration,
    /// Time of the whole loop.
    pub deadline: Duration,
    /// Longest silence of the primary engine.
    pub silence: Duration,
    /// Confidence above which the draft is returned.
    pub early_exit: f64,
    /// Time requests in flight have at shutdown.
    pub drain: Duration,
}

/// A setting out of its bounds. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("use the setting {name} = {value}: it must be between {least} and {most}")]
pub struct OutOfBounds {
    name: &'static str,
    value: String,
    least: String,
    most: String,
}

fn within<T: PartialOrd + Copy + ToString>(
    name: &'static str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<T, OutOfBounds> {
    // A value that is no number is out of bounds too.
    if bounds.contains(&value) {
        Ok(value)
    } else {
        let [value, least, most] = [value, *bounds.start(), *bounds.end()].map(|number| number.to_string());
        Err(OutOfBounds {
            name,
            value,
            least,
            most,
        })
    }
}

impl TryFrom<&GatewaySettings> for Limits {
    type Error = OutOfBounds;

    fn try_from(s: &GatewaySettings) -> Result<Self, OutOfBounds> {
        let ms =
            |name, value, bounds| within(name, value, bounds).map(|ms: u32| Duration::from_millis(ms.into()));
        let secs =
            |name, value, bounds| within(name, value, bounds).map(|s: u32| Duration::from_secs(s.into()));
        let count = |name, value, bounds| within(name, value, bounds).map(|n: u32| n as usize);
        Ok(Self {
            body: count("max_body", s.max_body, bounds::MAX_BODY)?,
            connections: count("max_connections", s.max_connections, bounds::CONNECTIONS)?,
            connections_per_address: count(
                "max_connections_per_address",
                s.max_connections_per_address,
                bounds::CONNECTIONS,
            )?,
            header: ms(
                "header_timeout_ms",
                s.header_timeout_ms,
                bounds::HEADER_TIMEOUT_MS,
            )?,
            body_time: ms("body_timeout_ms", s.body_timeout_ms, bounds::BODY_TIMEOUT_MS)?,
            requests: count("max_requests", s.max_requests, bounds::MAX_REQUESTS)?,
            iteration: secs(
                "iteration_timeout_s",
                s.iteration_timeout_s,
                bounds::ITERATION_TIMEOUT_S,
            )?,
            deadline: secs("deadline_s", s.deadline_s, bounds::DEADLINE_S)?,
            silence: ms(
                "primary_silence_ms",
                s.primary_silence_ms,
                bounds::PRIMARY_SILENCE_MS,
            )?,
            early_exit: f64::from(within("early_exit", s.early_exit, bounds::EARLY_EXIT)?),
            drain: secs("drain_s", s.drain_s, bounds::DRAIN_S)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_within_bounds() {
        let limits = Limits::try_from(&GatewaySettings::default()).unwrap();
        assert_eq!(limits.iteration, Duration::from_secs(30));
        assert_eq!(limits.body, 1024 * 1024);
    }

    #[test]
    fn whatever_the_supervisor_lets_through_is_taken() {
        let at = |end: fn(&RangeInclusive<u32>) -> &u32, early_exit: f32| GatewaySettings {
            max_body: *end(&bounds::MAX_BODY),
            max_connections: *end(&bounds::CONNECTIONS),
            max_connections_per_address: *end(&bounds::CONNECTIONS),
            header_timeout_ms: *end(&bounds::HEADER_TIMEOUT_MS),
            body_timeout_ms: *end(&bounds::BODY_TIMEOUT_MS),
            max_requests: *end(&bounds::MAX_REQUESTS),
            iteration_timeout_s: *end(&bounds::ITERATION_TIMEOUT_S),
            deadline_s: *end(&bounds::DEADLINE_S),
            primary_silence_ms: *end(&bounds::PRIMARY_SILENCE_MS),
            early_exit,
            drain_s: *end(&bounds::DRAIN_S),
        };
        Limits::try_from(&at(RangeInclusive::start, *bounds::EARLY_EXIT.start())).unwrap();
        Limits::try_from(&at(RangeInclusive::end, *bounds::EARLY_EXIT.end())).unwrap();
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (settings, name) in [
            (
                GatewaySettings {
                    max_body: 0,
                    ..Default::default()
                },
                "max_body",
            ),
            (
                GatewaySettings {
                    max_body: u32::MAX,
                    ..Default::default()
                },
                "max_body",
            ),
            (
                GatewaySettings {
                    max_connections: 0,
                    ..Default::default()
                },
                "max_connections",
            ),
            (
                GatewaySettings {
                    early_exit: f32::NAN,
                    ..Default::default()
                },
                "early_exit",
            ),
            (
                GatewaySettings {
                    early_exit: 1.5,
                    ..Default::default()
                },
                "early_exit",
            ),
            (
                GatewaySettings {
                    iteration_timeout_s: 0,
                    ..Default::default()
                },
                "iteration_timeout_s",
            ),
            (
                GatewaySettings {
                    header_timeout_ms: 1,
                    ..Default::default()
                },
                "header_timeout_ms",
            ),
        ] {
            let text = Limits::try_from(&settings).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
    }
}
