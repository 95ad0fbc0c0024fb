//! What things took so far, and what is still to come.

use std::collections::VecDeque;
use std::time::Duration;

/// Rows whose times are remembered: a machine that was busy once is not slow for ever.
const RECENT: usize = 16;
/// Bytes a slow disk writes in a second.
const DISK: f64 = 20e6;
/// What the end takes besides.
const END: Duration = Duration::from_millis(500);

/// Times of rows and measurements.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    recent: VecDeque<Duration>,
    rows: u64,
    busy: Duration,
    tokens: u64,
    measurement: Duration,
}

impl Meter {
    /// A row was trained on.
    pub fn row(&mut self, tokens: usize, took: Duration) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(took);
        self.rows += 1;
        self.busy += took;
        self.tokens += tokens as u64;
    }

    /// The held-out loss was measured.
    pub fn measured(&mut self, took: Duration) {
        self.measurement = took;
    }

    /// What a row takes at most.
    #[must_use]
    pub fn longest_row(&self) -> Duration {
        self.recent.iter().copied().max().unwrap_or_default()
    }

    /// What a measurement takes.
    #[must_use]
    pub fn measurement(&self) -> Duration {
        self.measurement
    }

    /// Tokens trained on in a second of work.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer tokens than 2^52")]
    pub fn tokens_per_second(&self) -> f64 {
        if self.tokens == 0 {
            return 0.0;
        }
        self.tokens as f64 / self.busy.as_secs_f64().max(1e-9)
    }

    /// Time that `rows` more and `measurements` will take.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer rows than 2^52")]
    pub fn estimate(&self, rows: u64, measurements: u64) -> f64 {
        let row = self.busy.as_secs_f64() / self.rows.max(1) as f64;
        row * rows as f64 + self.measurement.as_secs_f64() * measurements as f64
    }
}

/// Time to be left for the last checkpoint and the adapter.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "far fewer bytes than 2^52")]
pub fn time_to_write(parameters: usize, checkpoints: bool) -> Duration {
    // A checkpoint has five such vectors, the adapter is one.
    let vectors = if checkpoints { 6 } else { 1 };
    END + Duration::from_secs_f64((vectors * 4 * parameters) as f64 / DISK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_row_is_forgotten_after_a_while() {
        let mut meter = Meter::default();
        assert_eq!(meter.longest_row(), Duration::ZERO);
        assert!(meter.tokens_per_second().abs() < f64::EPSILON);
        meter.row(100, Duration::from_secs(9));
        for _ in 0..15 {
            meter.row(100, Duration::from_secs(1));
        }
        assert_eq!(meter.longest_row(), Duration::from_secs(9));
        assert!((meter.tokens_per_second() - 1600.0 / 24.0).abs() < 1e-9);
        meter.row(100, Duration::from_secs(1));
        assert_eq!(meter.longest_row(), Duration::from_secs(1));
        meter.measured(Duration::from_secs(4));
        assert!((meter.estimate(17, 2) - (25.0 + 8.0)).abs() < 1e-9);
    }
}
