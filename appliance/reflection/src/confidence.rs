//! How sure an answer is, from the model's own probabilities.

use crate::generate::{Answer, Phase};

/// A signal of how likely an answer is right.
pub trait Confidence: Send + Sync {
    /// A number in [0, 1]. Anything else is brought into that range, and a value that is no number counts as 0.
    fn confidence(&self, phase: Phase, answer: &Answer) -> f64;
}

/// The geometric mean of the tokens' probabilities: `exp(mean log-probability)`.
///
/// It costs nothing, because the engine reports each token's log-probability anyway. It is not calibrated: 0.85
/// means that the model gave its own words 85 % on average, not that 85 % of such answers are right.
#[derive(Debug, Clone, Copy, Default)]
pub struct MeanProbability;

/// What a revision's mean probability is multiplied with. Its tokens were predicted with the draft in sight, and
/// a model finds words it has just seen more likely; without this, a mere copy would outscore what it copies.
pub const REVISION_DISCOUNT: f64 = 0.95;

impl Confidence for MeanProbability {
    fn confidence(&self, phase: Phase, answer: &Answer) -> f64 {
        if answer.pieces.is_empty() {
            return 0.0;
        }
        let sum: f64 = answer
            .pieces
            .iter()
            .map(|piece| f64::from(piece.logprob).min(0.0))
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "a token count is far below 2^52")]
        let mean = (sum / answer.pieces.len() as f64).exp();
        match phase {
            Phase::Draft => mean,
            Phase::Revision => mean * REVISION_DISCOUNT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Finish, Piece, Source, Work};

    fn answer(logprobs: &[f32]) -> Answer {
        Answer {
            text: "x".repeat(logprobs.len()),
            pieces: logprobs
                .iter()
                .map(|&logprob| Piece {
                    text: "x".into(),
                    bytes: b"x".to_vec(),
                    logprob,
                    top: Vec::new(),
                })
                .collect(),
            finish: Finish::Stop,
            work: Work::default(),
            source: Source::default(),
        }
    }

    #[test]
    fn it_is_the_geometric_mean_of_the_probabilities() {
        let got = MeanProbability.confidence(Phase::Draft, &answer(&[0.5_f32.ln(), 0.125_f32.ln()]));
        assert!((got - 0.25).abs() < 1e-6, "{got}");
    }

    #[test]
    fn the_same_probabilities_count_less_in_a_revision() {
        let answer = answer(&[-0.1, -0.2]);
        let draft = MeanProbability.confidence(Phase::Draft, &answer);
        assert!(MeanProbability.confidence(Phase::Revision, &answer) < draft);
    }

    #[test]
    fn nothing_said_is_no_confidence() {
        assert!(MeanProbability.confidence(Phase::Draft, &answer(&[])).abs() < f64::EPSILON);
    }
}
