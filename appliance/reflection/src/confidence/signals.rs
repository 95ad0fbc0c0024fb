//! An answer's token log-probabilities as a few numbers.

use serde::{Deserialize, Serialize};

/// Length of the window whose lowest mean counts, tokens.
const WINDOW: usize = 4;
/// A token that was certain says no more than this many nats below zero; one that was impossible, no less.
const LOWEST: f64 = -20.0;

/// What the log-probabilities of an answer say, all in nats.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Signals {
    /// Mean over all tokens.
    pub mean: f64,
    /// Lowest mean over a window of four tokens (over all, if there are fewer).
    pub lowest: f64,
    /// Mean over the tokens that carry the answer: numbers and names; over all, if there are none.
    pub span: f64,
    /// The first token's.
    pub first: f64,
    /// How many tokens there were.
    pub tokens: u32,
}

impl Default for Signals {
    /// Nothing was said: no sign of being right.
    fn default() -> Self {
        Self {
            mean: LOWEST,
            lowest: LOWEST,
            span: LOWEST,
            first: LOWEST,
            tokens: 0,
        }
    }
}

impl Signals {
    /// Of log-probabilities, each with whether its token carries the answer.
    pub fn of_logprobs(tokens: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut all = Mean::default();
        let mut span = Mean::default();
        let mut window = std::collections::VecDeque::with_capacity(WINDOW);
        let mut lowest = f64::INFINITY;
        let mut first = None;
        for (logprob, carries) in tokens {
            let value = if logprob.is_nan() {
                LOWEST
            } else {
                logprob.clamp(LOWEST, 0.0)
            };
            first.get_or_insert(value);
            all.add(value);
            if carries {
                span.add(value);
            }
            if window.len() == WINDOW {
                window.pop_front();
            }
            window.push_back(value);
            if window.len() == WINDOW {
                let mean = window.iter().sum::<f64>() / f64::from(4_u32);
                lowest = lowest.min(mean);
            }
        }
        let Some(mean) = all.mean() else {
            return Self::default();
        };
        Self {
            mean,
            lowest: if lowest.is_finite() { lowest } else { mean },
            span: span.mean().unwrap_or(mean),
            first: first.unwrap_or(mean),
            tokens: all.count,
        }
    }
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count = self.count.saturating_add(1);
    }

    fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / f64::from(self.count))
    }
}

/// Whether a token is part of a number or begins a name.
pub(crate) fn carries(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut letters = text.trim_start().chars();
    text.chars().any(|c| c.is_ascii_digit()) || letters.next().is_some_and(char::is_uppercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_what_it_says() {
        let tokens = [-1.0, -0.5, -3.0, -3.0, -0.5, -1.0].map(|value| (value, false));
        let mut tokens = tokens.to_vec();
        tokens[1].1 = true;
        let signals = Signals::of_logprobs(tokens);
        assert!((signals.mean + 1.5).abs() < 1e-9);
        assert!((signals.lowest + 1.875).abs() < 1e-9, "{signals:?}");
        assert!((signals.span + 0.5).abs() < 1e-9);
        assert!((signals.first + 1.0).abs() < 1e-9);
        assert_eq!(signals.tokens, 6);
    }

    #[test]
    fn nothing_said_and_no_numbers_are_no_sign_of_being_right() {
        assert_eq!(Signals::of_logprobs([]), Signals::default());
        let broken = Signals::of_logprobs([(f64::NAN, true), (f64::NEG_INFINITY, false)]);
        assert!((broken.mean - LOWEST).abs() < 1e-9);
        let certain = Signals::of_logprobs([(3.0, true)]);
        assert!(certain.mean.abs() < 1e-9 && certain.lowest.abs() < 1e-9);
    }

    #[test]
    fn numbers_and_names_carry_an_answer() {
        for (text, expected) in [
            (" Paris", true),
            ("42", true),
            (" the", false),
            ("", false),
            ("é", false),
        ] {
            assert_eq!(carries(text.as_bytes()), expected, "{text}");
        }
    }
}
