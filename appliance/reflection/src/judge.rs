//! Findings and confidence become one score.

use crate::checkers::{Checker, Finding, Subject};
use crate::confidence::Confidence;
use crate::critique::Language;
use crate::generate::{Answer, Phase, Turn};

/// What was found about one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// In [0, 1]: the confidence signal, less the share each finding takes away. Answers are compared by it, and
    /// it is reported as the confidence of the answer.
    pub score: f64,
}

impl Judgement {
    /// Whether no checker found anything.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Judges `answer` to the conversation `request`.
pub fn judge(
    checkers: &[Box<dyn Checker>],
    confidence: &dyn Confidence,
    request: &[Turn],
    language: Language,
    phase: Phase,
    answer: &Answer,
) -> Judgement {
    let subject = Subject {
        request,
        text: &answer.text,
        finish: answer.finish,
        language,
    };
    let findings: Vec<Finding> = checkers
        .iter()
        .flat_map(|checker| checker.check(&subject))
        .collect();
    let kept: f64 = findings
        .iter()
        .map(|finding| 1.0 - in_range(finding.weight))
        .product();
    Judgement {
        findings,
        score: in_range(in_range(confidence.confidence(phase, answer)) * kept),
    }
}

/// Brings any number into [0, 1]; what is no number is 0.
fn in_range(value: f64) -> f64 {
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
    use crate::generate::{Finish, Source, Work};

    struct Says(f64);
    impl Confidence for Says {
        fn confidence(&self, _: Phase, _: &Answer) -> f64 {
            self.0
        }
    }

    struct Finds(Vec<f64>);
    impl Checker for Finds {
        fn name(&self) -> &'static str {
            "test"
        }
        fn check(&self, _: &Subject<'_>) -> Vec<Finding> {
            self.0
                .iter()
                .map(|&weight| Finding {
                    checker: "test",
                    place: Place::Whole,
                    sentence: "It is wrong.".into(),
                    weight,
                    repair: None,
                })
                .collect()
        }
    }

    fn score(confidence: f64, weights: &[f64]) -> f64 {
        let answer = Answer {
            text: "yes".into(),
            pieces: Vec::new(),
            finish: Finish::Stop,
            work: Work::default(),
            source: Source::default(),
        };
        let checkers: Vec<Box<dyn Checker>> = vec![Box::new(Finds(weights.to_vec()))];
        judge(
            &checkers,
            &Says(confidence),
            &[],
            Language::English,
            Phase::Draft,
            &answer,
        )
        .score
    }

    #[test]
    fn each_finding_takes_its_share() {
        assert!((score(0.8, &[]) - 0.8).abs() < 1e-9);
        assert!((score(0.8, &[0.5]) - 0.4).abs() < 1e-9);
        assert!((score(0.8, &[0.5, 0.5]) - 0.2).abs() < 1e-9);
        assert!(score(0.8, &[1.0]).abs() < 1e-9);
    }

    #[test]
    fn no_number_leaves_the_range() {
        for confidence in [f64::NAN, f64::INFINITY, -3.0, 7.0] {
            for weight in [f64::NAN, f64::NEG_INFINITY, 2.0, -1.0] {
                let score = score(confidence, &[weight]);
                assert!((0.0..=1.0).contains(&score), "{confidence} {weight} {score}");
            }
        }
    }
}
