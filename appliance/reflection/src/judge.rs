//! Findings and probabilities become one score, by which answers to the same request are compared.

use crate::checkers::{Checker, Finding, Subject};
use crate::confidence::{Signals, probability, sound};

/// How much better a revision must score to be taken, as a share of what it would replace: below that, the
/// difference is noise.
pub const MARGIN: f64 = 0.02;

/// What was found about one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// What the model thinks of it under the original request.
    pub signals: Signals,
    /// In [0, 1]: the geometric mean of its tokens' probabilities, less the share each finding takes away. Answers
    /// are compared by it.
    pub score: f64,
}

impl Judgement {
    /// Judges by findings and signals.
    pub fn new(findings: Vec<Finding>, signals: Signals) -> Self {
        let score = probability(probability(signals.mean.exp()) * sound(&findings));
        Self {
            findings,
            signals,
            score,
        }
    }

    /// Whether no checker found anything.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Whether this answer should be returned in place of one that was judged `other`: nothing new is wrong with
    /// it, and it scores better by a margin.
    pub fn replaces(&self, other: &Self) -> bool {
        nothing_new(&self.findings, &other.findings) && self.score > other.score * (1.0 + MARGIN)
    }
}

/// Everything the checkers find in an answer.
pub fn findings(checkers: &[Box<dyn Checker>], subject: &Subject<'_>) -> Vec<Finding> {
    checkers
        .iter()
        .flat_map(|checker| checker.check(subject))
        .collect()
}

/// Whether no checker finds more in one answer than in the other.
pub fn nothing_new(findings: &[Finding], others: &[Finding]) -> bool {
    let count = |all: &[Finding], checker: &str| all.iter().filter(|f| f.checker == checker).count();
    findings
        .iter()
        .all(|finding| count(findings, finding.checker) <= count(others, finding.checker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Place;

    fn judgement(mean: f64, weights: &[(&'static str, f64)]) -> Judgement {
        let findings = weights.iter().map(|(checker, weight)| Finding {
            checker,
            place: Place::Whole,
            sentence: "It is wrong.".into(),
            weight: *weight,
            repair: None,
        });
        Judgement::new(findings.collect(), Signals::of_logprobs([(mean, false)]))
    }

    #[test]
    fn each_finding_takes_its_share() {
        let score = |weights: &[f64]| {
            let weights: Vec<_> = weights.iter().map(|w| ("a", *w)).collect();
            judgement(0.8_f64.ln(), &weights).score
        };
        assert!((score(&[]) - 0.8).abs() < 1e-9);
        assert!((score(&[0.5]) - 0.4).abs() < 1e-9);
        assert!((score(&[0.5, 0.5]) - 0.2).abs() < 1e-9);
        assert!(score(&[1.0]).abs() < 1e-9);
    }

    #[test]
    fn no_number_leaves_the_range() {
        for mean in [f64::NAN, f64::INFINITY, -3.0, 7.0] {
            for weight in [f64::NAN, f64::NEG_INFINITY, 2.0, -1.0] {
                let score = judgement(mean, &[("a", weight)]).score;
                assert!((0.0..=1.0).contains(&score), "{mean} {weight} {score}");
            }
        }
    }

    #[test]
    fn a_revision_must_be_clearly_better_and_bring_nothing_new() {
        let draft = judgement(-0.5, &[("a", 0.5)]);
        assert!(judgement(-0.5, &[]).replaces(&draft));
        assert!(!draft.replaces(&draft));
        assert!(
            !judgement(-0.495, &[("a", 0.5)]).replaces(&draft),
            "within the margin"
        );
        assert!(!judgement(-0.01, &[("b", 0.1)]).replaces(&draft), "another error");
        assert!(
            !judgement(-0.01, &[("a", 0.1), ("a", 0.1)]).replaces(&draft),
            "one more"
        );
        assert!(!judgement(-3.0, &[]).replaces(&draft), "clean and unlikely");
    }
}
