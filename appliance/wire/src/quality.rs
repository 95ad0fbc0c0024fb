//! How answers go, as sums: what the gateway tells of them, and what the supervisor compares from day to day. Numbers
//! only.

use serde::{Deserialize, Serialize};

/// How answers went with one adapter, or none: said by the gateway every few seconds while it moves, with the sums since
/// its start. Numbers only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// SHA-256 of the adapter; none for answers without one.
    pub adapter: Option<String>,
    /// What came of them.
    #[serde(flatten)]
    pub sums: Sums,
}

/// Sums over answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Answers with a confidence.
    pub answers: u64,
    /// Sum of their confidences.
    pub confidence: f64,
    /// Sum of the squares of their confidences.
    pub confidence_squared: f64,
    /// Judgments, those that took the place of another among them.
    pub judged: u64,
    /// Sum of their scores.
    pub score: f64,
    /// Sum of the squares of their scores.
    pub score_squared: f64,
    /// Those of them with a correction.
    pub corrected: u64,
    /// The judgments whose place others took. Kept apart, so that every sum only ever grows: what is counted since some
    /// moment may take the place of what was counted before it.
    #[serde(default, skip_serializing_if = "Judgments::is_empty")]
    pub replaced: Judgments,
}

/// Sums over judgments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Judgments {
    /// How many.
    pub judged: u64,
    /// Sum of their scores.
    pub score: f64,
    /// Sum of the squares of their scores.
    pub score_squared: f64,
    /// Those of them with a correction.
    pub corrected: u64,
}

impl Judgments {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.judged == 0
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            judged: self.judged + other.judged,
            score: self.score + other.score,
            score_squared: self.score_squared + other.score_squared,
            corrected: self.corrected + other.corrected,
        }
    }

    /// These without `others`, held to what sums of numbers from 0 to 1 can be: the others need not all be among these.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a count of answers is far below 2^53")]
    pub fn without(self, others: Self) -> Self {
        let judged = self.judged.saturating_sub(others.judged);
        // What is no number becomes zero.
        let score = (self.score - others.score).max(0.0).min(judged as f64);
        Self {
            judged,
            score,
            score_squared: (self.score_squared - others.score_squared).max(0.0).min(score),
            corrected: self.corrected.saturating_sub(others.corrected).min(judged),
        }
    }
}

impl Sums {
    /// All judgments, those whose place others took among them.
    #[must_use]
    pub fn judgments(&self) -> Judgments {
        Judgments {
            judged: self.judged,
            score: self.score,
            score_squared: self.score_squared,
            corrected: self.corrected,
        }
    }

    /// The judgments that hold: of each answer the newest.
    #[must_use]
    pub fn newest(&self) -> Judgments {
        self.judgments().without(self.replaced)
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            answers: self.answers + other.answers,
            confidence: self.confidence + other.confidence,
            confidence_squared: self.confidence_squared + other.confidence_squared,
            judged: self.judged + other.judged,
            score: self.score + other.score,
            score_squared: self.score_squared + other.score_squared,
            corrected: self.corrected + other.corrected,
            replaced: self.replaced.and(other.replaced),
        }
    }

    /// What came since `earlier`; all of it, where that was counted by somebody else.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        if self.answers < earlier.answers
            || self.judged < earlier.judged
            || self.corrected < earlier.corrected
            || self.replaced.judged < earlier.replaced.judged
        {
            return self;
        }
        Self {
            answers: self.answers - earlier.answers,
            confidence: (self.confidence - earlier.confidence).max(0.0),
            confidence_squared: (self.confidence_squared - earlier.confidence_squared).max(0.0),
            judged: self.judged - earlier.judged,
            score: (self.score - earlier.score).max(0.0),
            score_squared: (self.score_squared - earlier.score_squared).max(0.0),
            corrected: self.corrected - earlier.corrected,
            replaced: self.replaced.without(earlier.replaced),
        }
    }

    /// Whether there is anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.answers == 0 && self.judged == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(scores: &[f64], corrected: u64) -> Judgments {
        Judgments {
            judged: scores.len() as u64,
            score: scores.iter().sum(),
            score_squared: scores.iter().map(|score| score * score).sum(),
            corrected,
        }
    }

    fn sums(all: Judgments, replaced: Judgments) -> Sums {
        Sums {
            judged: all.judged,
            score: all.score,
            score_squared: all.score_squared,
            corrected: all.corrected,
            replaced,
            ..Sums::default()
        }
    }

    #[test]
    fn of_each_answer_the_newest_judgment_counts_whenever_it_was_counted() {
        let first = sums(judged(&[1.0, 0.5], 0), Judgments::default());
        // The first of the two is said to be bad after all, and corrected.
        let second = sums(judged(&[1.0, 0.5, 0.25], 1), judged(&[1.0], 0));
        assert_eq!(first.newest(), judged(&[1.0, 0.5], 0));
        assert_eq!(second.newest(), judged(&[0.5, 0.25], 1));
        let later = second.since(first);
        assert_eq!((later.judged, later.replaced.judged), (1, 1));
        assert!(!later.is_empty() && later.newest().is_empty());
        assert_eq!(first.and(later).newest(), second.newest());
        // A gateway that began anew knows what was replaced and not what replaced it was counted with.
        let anew = sums(judged(&[0.25], 1), judged(&[1.0], 0));
        assert_eq!(anew.since(second), anew);
        assert_eq!(first.and(anew).newest(), second.newest());
        assert_eq!(anew.newest(), Judgments::default());
        let odd = Judgments {
            score: f64::NAN,
            ..judged(&[1.0], 0)
        };
        assert_eq!(judged(&[1.0, 1.0], 0).without(odd).score, 0.0);
    }

    #[test]
    fn sums_of_a_gateway_that_replaces_nothing_read_as_they_were_always_written() {
        let plain = sums(judged(&[0.5], 0), Judgments::default());
        let quality = Quality {
            adapter: Some("a".into()),
            sums: plain,
        };
        let text = serde_json::to_string(&quality).unwrap();
        assert!(!text.contains("replaced"), "{text}");
        assert_eq!(serde_json::from_str::<Quality>(&text).unwrap(), quality);
        let quality = Quality {
            adapter: None,
            sums: sums(judged(&[0.5, 1.0], 0), judged(&[0.5], 0)),
        };
        let text = serde_json::to_string(&quality).unwrap();
        assert_eq!(serde_json::from_str::<Quality>(&text).unwrap(), quality);
    }
}
