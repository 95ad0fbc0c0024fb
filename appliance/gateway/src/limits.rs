//! The admin's settings, brought into the bounds that keep the gateway safe whatever they say.

use std::time::Duration;

use sarai_wire::birth::GatewaySettings;

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
    least: T,
    most: T,
) -> Result<T, OutOfBounds> {
    // Written so that a value that is no number is out of bounds too.
    if value >= least && value <= most {
        Ok(value)
    } else {
        let [value, least, most] = [value, least, most].map(|number| number.to_string());
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
        let ms = |name, value, least, most| {
            within(name, value, least, most).map(|ms: u32| Duration::from_millis(ms.into()))
        };
        let secs = |name, value, least, most| {
            within(name, value, least, most).map(|s: u32| Duration::from_secs(s.into()))
        };
        let connections = within("max_connections", s.max_connections, 1, 4096)? as usize;
        Ok(Self {
            // A body must still fit into a frame to the engine once drafts and critiques are appended.
            body: within("max_body", s.max_body, 1024, 3 * 1024 * 1024)? as usize,
            connections,
            connections_per_address: within(
                "max_connections_per_address",
                s.max_connections_per_address,
                1,
                4096,
            )? as usize,
            header: ms("header_timeout_ms", s.header_timeout_ms, 100, 120_000)?,
            body_time: ms("body_timeout_ms", s.body_timeout_ms, 100, 600_000)?,
            requests: within("max_requests", s.max_requests, 1, 1024)? as usize,
            iteration: secs("iteration_timeout_s", s.iteration_timeout_s, 1, 600)?,
            deadline: secs("deadline_s", s.deadline_s, 1, 3600)?,
            silence: ms("primary_silence_ms", s.primary_silence_ms, 100, 600_000)?,
            early_exit: f64::from(within("early_exit", s.early_exit, 0.0, 1.0)?),
            drain: secs("drain_s", s.drain_s, 0, 300)?,
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
