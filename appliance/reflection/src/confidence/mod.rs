//! How sure an answer is: a probability that it is right, from what the model's own probabilities and the checkers
//! say of it.
//!
//! | module | duty |
//! | --- | --- |
//! | [`signals`] | the answer's token log-probabilities as a few numbers, for free |
//! | [`calibration`] | those numbers as a probability: a logistic model for each model file |
//! | [`fit`] | how such a model is made from judged answers, and how good it is |

pub mod calibration;
pub mod fit;
pub mod signals;

use crate::checkers::Finding;
use crate::critique::Language;
pub use calibration::{Calibration, Calibrations};
pub use signals::Signals;

/// What a confidence is judged from.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The answer's log-probabilities under the original request.
    pub signals: &'a Signals,
    /// What the checkers found in it.
    pub findings: &'a [Finding],
    /// The kind of request, as the router names it.
    pub kind: &'a str,
    /// The language of the request.
    pub language: Language,
    /// Whether it is a revision.
    pub revised: bool,
    /// SHA-256 of the model file, lower-case hex.
    pub digest: &'a str,
}

/// Says how likely an answer is right.
pub trait Confidence: Send + Sync {
    /// A probability. Anything outside [0, 1] is brought into it, and what is no number counts as 0.
    fn confidence(&self, evidence: &Evidence<'_>) -> f64;

    /// Whether a critique in words is worth its time with this model (SHA-256 of its file, lower-case hex). It is
    /// until it was measured not to be.
    fn critiques_help(&self, _digest: &str) -> bool {
        true
    }
}

/// The geometric mean of the tokens' probabilities, uncalibrated: 0.85 means that the model gave its own words 85 %
/// on average. For tests and for callers that want no calibration.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeanProbability;

impl Confidence for MeanProbability {
    fn confidence(&self, evidence: &Evidence<'_>) -> f64 {
        evidence.signals.mean.exp() * sound(evidence.findings)
    }
}

/// The share of an answer's worth that its findings leave, in [0, 1].
pub fn sound(findings: &[Finding]) -> f64 {
    findings
        .iter()
        .map(|finding| 1.0 - probability(finding.weight))
        .product()
}

/// Brings any number into [0, 1]; what is no number is 0.
pub fn probability(value: f64) -> f64 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Place;

    fn evidence<'a>(signals: &'a Signals, findings: &'a [Finding]) -> Evidence<'a> {
        Evidence {
            signals,
            findings,
            kind: "closed",
            language: Language::English,
            revised: false,
            digest: "",
        }
    }

    #[test]
    fn the_mean_probability_is_geometric_and_findings_take_their_share() {
        let signals = Signals::of_logprobs([(0.5_f64.ln(), false), (0.125_f64.ln(), false)]);
        let got = MeanProbability.confidence(&evidence(&signals, &[]));
        assert!((got - 0.25).abs() < 1e-6, "{got}");
        let finding = Finding {
            checker: "test",
            place: Place::Whole,
            sentence: String::new(),
            weight: 0.5,
            repair: None,
        };
        let got = MeanProbability.confidence(&evidence(&signals, &[finding]));
        assert!((got - 0.125).abs() < 1e-6, "{got}");
    }

    #[test]
    fn no_number_is_no_probability() {
        for (value, expected) in [(f64::NAN, 0.0), (-3.0, 0.0), (7.0, 1.0), (0.4, 0.4)] {
            assert!((probability(value) - expected).abs() < f64::EPSILON);
        }
    }
}
