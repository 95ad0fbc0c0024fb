//! Whether answers became worse with an adapter: its own day compared with the one before. Pure.
//!
//! Three things are looked at: how sure the answers were, how they were judged, and how often they were corrected. A
//! difference counts as clear when it is large enough to matter and Welch's t (for corrections, the same of a share)
//! exceeds [`CLEAR`], which by chance happens less than once in four thousand looks. Looks are few: the numbers must
//! have grown by half since the last one.

use sarai_wire::night::{Judgments, Sums};

/// Answers with a confidence that there must be on both sides.
pub const LEAST_ANSWERS: u64 = 40;
/// Judgments that there must be on both sides.
pub const LEAST_JUDGED: u64 = 20;
/// Welch's t from which a difference is no chance.
const CLEAR: f64 = 3.5;
/// By how much the mean confidence must fall, of 1.
const CONFIDENCE: f64 = 0.05;
/// By how much the mean score must fall, of 1.
const SCORE: f64 = 0.15;
/// By how much the share of judgments that correct must rise, of 1.
const CORRECTED: f64 = 0.15;

/// What the gateway says, where it can be: it is the one who speaks with the LAN.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a count of answers is far below 2^53")]
pub fn credible(said: Sums) -> Option<Sums> {
    // A number from 0 to 1 is at least its square. A sum may be off by its rounding.
    let within = |sum: f64, squared: f64, count: u64| {
        let slack = 1e-6 * (count as f64 + 1.0);
        sum.is_finite() && squared >= 0.0 && squared <= sum + slack && sum <= count as f64 + slack
    };
    let judgments = |said: Judgments| {
        within(said.score, said.score_squared, said.judged) && said.corrected <= said.judged
    };
    let fits = within(said.confidence, said.confidence_squared, said.answers)
        && judgments(said.judgments())
        && judgments(said.replaced)
        // Whatever took the place of another was counted itself.
        && said.replaced.judged <= said.judged
        && said.answers.max(said.judged) < 1 << 50;
    fits.then_some(said)
}

fn confidences(sums: &Sums) -> Sample {
    Sample::of(sums.answers, sums.confidence, sums.confidence_squared)
}

fn scores(of: &Judgments) -> Sample {
    Sample::of(of.judged, of.score, of.score_squared)
}

/// A correction is a one, every other judgment a zero.
#[expect(clippy::cast_precision_loss, reason = "a count of answers is far below 2^53")]
fn corrections(of: &Judgments) -> Sample {
    let count = of.corrected as f64;
    Sample::of(of.judged, count, count)
}

/// Mean and variance of a sample.
#[derive(Debug, Clone, Copy)]
struct Sample {
    count: f64,
    mean: f64,
    /// Unbiased.
    variance: f64,
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "a count of answers is far below 2^53")]
    fn of(count: u64, sum: f64, squared: f64) -> Self {
        let count = count as f64;
        let mean = sum / count;
        let variance = ((squared - sum * mean) / (count - 1.0)).max(0.0);
        Self {
            count,
            mean,
            variance,
        }
    }

    /// Welch's t: how many standard errors `self` lies above `other`.
    fn above(&self, other: &Self) -> f64 {
        // A sample that happens to have no spread is not infinitely certain: one more number at the other end of the
        // scale would give it about this variance.
        let error = |sample: &Self| sample.variance.max(1.0 / (4.0 * sample.count)) / sample.count;
        (self.mean - other.mean) / (error(self) + error(other)).sqrt()
    }
}

/// Why an adapter whose answers were `after` is taken back, where those without it were `before`; none while nothing
/// speaks clearly against it.
#[must_use]
pub fn worse(before: &Sums, after: &Sums) -> Option<String> {
    if before.answers.min(after.answers) >= LEAST_ANSWERS {
        let (was, is) = (confidences(before), confidences(after));
        if was.mean - is.mean >= CONFIDENCE && was.above(&is) >= CLEAR {
            return Some(said("the mean confidence of answers fell", &was, &is));
        }
    }
    // Of each answer the newest judgment.
    let (before, after) = (&before.newest(), &after.newest());
    if before.judged.min(after.judged) >= LEAST_JUDGED {
        let (was, is) = (scores(before), scores(after));
        if was.mean - is.mean >= SCORE && was.above(&is) >= CLEAR {
            return Some(said("the mean score of answers fell", &was, &is));
        }
        let (was, is) = (corrections(before), corrections(after));
        if is.mean - was.mean >= CORRECTED && is.above(&was) >= CLEAR {
            return Some(said("the share of judgments with a correction rose", &was, &is));
        }
    }
    None
}

fn said(what: &str, was: &Sample, is: &Sample) -> String {
    format!(
        "{what} from {:.3} (of {}) to {:.3} (of {})",
        was.mean, was.count, is.mean, is.count
    )
}

/// Whether there is enough new to look at again, after a look at `looked`: a judgment in another's place is new, too.
#[must_use]
pub fn worth_a_look(looked: &Sums, now: &Sums) -> bool {
    let grown = |before: u64, now: u64, least: u64| now >= least.max(before + before / 2) && now > before;
    grown(looked.answers, now.answers, LEAST_ANSWERS) || grown(looked.judged, now.judged, LEAST_JUDGED)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Answers with these confidences, judged by these scores, each low one corrected.
    fn sums(confidences: &[f64], scores: &[f64]) -> Sums {
        let square = |all: &[f64]| all.iter().map(|x| x * x).sum();
        Sums {
            answers: confidences.len() as u64,
            confidence: confidences.iter().sum(),
            confidence_squared: square(confidences),
            judged: scores.len() as u64,
            score: scores.iter().sum(),
            score_squared: square(scores),
            corrected: scores.iter().filter(|score| **score < 0.3).count() as u64,
            replaced: Judgments::default(),
        }
    }

    /// `count` numbers around `mean`.
    fn around(mean: f64, count: usize) -> Vec<f64> {
        (0..count)
            .map(|n| (mean + [-0.2, -0.1, 0.0, 0.1, 0.2][n % 5]).clamp(0.0, 1.0))
            .collect()
    }

    #[test]
    fn a_clear_fall_is_seen_and_a_small_or_uncertain_one_is_not() {
        let before = sums(&around(0.7, 200), &[]);
        let said = worse(&before, &sums(&around(0.5, 100), &[])).unwrap();
        assert!(
            said.contains("confidence of answers fell from 0.700 (of 200) to 0.500 (of 100)"),
            "{said}"
        );
        // Certain, and too small to matter.
        let many = sums(&around(0.7, 100_000), &[]);
        assert_eq!(worse(&many, &sums(&around(0.67, 100_000), &[])), None);
        // Large, and of too few.
        assert_eq!(worse(&before, &sums(&around(0.3, 39), &[])), None);
        assert_eq!(
            worse(&sums(&around(0.9, 39), &[]), &sums(&around(0.3, 500), &[])),
            None
        );
        // Better.
        assert_eq!(worse(&before, &sums(&around(0.8, 500), &[])), None);
    }

    #[test]
    fn judgments_and_corrections_count_too() {
        let good = sums(&[], &around(0.7, 60));
        let bad = sums(&[], &around(0.2, 60));
        assert!(worse(&good, &bad).unwrap().contains("mean score"));
        assert_eq!(worse(&good, &sums(&[], &around(0.2, 19))), None);
        let corrected = Sums {
            corrected: 30,
            ..good
        };
        assert!(
            worse(&good, &corrected)
                .unwrap()
                .contains("with a correction rose from 0.000")
        );
        assert_eq!(worse(&corrected, &good), None);
    }

    #[test]
    fn of_each_answer_the_newest_judgment_counts() {
        let before = sums(&[], &around(0.8, 40));
        let good = sums(&[], &around(0.8, 25));
        assert_eq!(worse(&before, &good), None);
        // All of them are judged anew: they were bad after all.
        let bad = sums(&[], &around(0.2, 25));
        let anew = Sums {
            replaced: good.judgments(),
            ..good.and(bad)
        };
        assert!(credible(anew).is_some());
        assert!(worth_a_look(&good, &anew));
        let said = worse(&before, &anew).unwrap();
        assert!(said.contains("from 0.800 (of 40) to 0.200 (of 25)"), "{said}");
        // The other way round, nothing speaks against it any more.
        let better = Sums {
            replaced: bad.judgments(),
            ..bad.and(good)
        };
        assert_eq!(worse(&before, &better), None);
    }

    #[test]
    fn a_sample_without_spread_is_not_believed_blindly() {
        let before = sums(&vec![0.80; 40], &[]);
        let after = sums(&vec![0.74; 40], &[]);
        assert_eq!(worse(&before, &after), None, "forty equal numbers prove little");
    }

    #[test]
    fn looks_are_few() {
        let (mut looked, mut looks) = (Sums::default(), 0);
        for n in 0..10_000 {
            let now = Sums {
                answers: n,
                ..Sums::default()
            };
            if worth_a_look(&looked, &now) {
                (looked, looks) = (now, looks + 1);
            }
        }
        assert!((10..20).contains(&looks), "{looks}");
    }

    #[test]
    fn what_cannot_be_is_not_taken() {
        let good = Sums {
            answers: 10,
            confidence: 7.0,
            confidence_squared: 5.5,
            judged: 2,
            score: 1.5,
            score_squared: 1.25,
            corrected: 1,
            replaced: Judgments {
                judged: 1,
                score: 0.5,
                score_squared: 0.25,
                corrected: 1,
            },
        };
        let replaced = |replaced| Sums { replaced, ..good };
        assert!(credible(good).is_some());
        for wrong in [
            Sums {
                confidence: 11.0,
                ..good
            },
            Sums {
                confidence: f64::NAN,
                ..good
            },
            Sums {
                confidence_squared: 8.0,
                ..good
            },
            Sums { score: -1.0, ..good },
            Sums { corrected: 3, ..good },
            replaced(Judgments {
                judged: 3,
                ..good.replaced
            }),
            replaced(Judgments {
                score: 1.5,
                ..good.replaced
            }),
            replaced(Judgments {
                score: f64::NAN,
                ..good.replaced
            }),
            replaced(Judgments {
                corrected: 2,
                ..good.replaced
            }),
            Sums {
                answers: u64::MAX,
                ..good
            },
        ] {
            assert_eq!(credible(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_gateway_that_began_anew_is_counted_from_nothing() {
        let earlier = sums(&around(0.5, 50), &around(0.5, 10));
        let later = earlier.and(sums(&around(0.9, 5), &[]));
        let new = later.since(earlier);
        assert_eq!((new.answers, new.judged), (5, 0));
        // 0.7 to 1.0, and 1.1 cut to 1.
        assert!((new.confidence - 4.4).abs() < 1e-9);
        let anew = sums(&around(0.9, 5), &[]);
        assert_eq!(anew.since(earlier), anew);
    }

    proptest! {
        /// The same numbers in another order, or more of the same, never speak against an adapter.
        #[test]
        fn the_same_again_is_not_worse(values in proptest::collection::vec(0.0f64..1.0, 40..200)) {
            let one = sums(&values, &values);
            prop_assert_eq!(worse(&one, &one), None);
            prop_assert_eq!(worse(&one, &one.and(one)), None);
        }

        #[test]
        fn it_never_panics_and_never_takes_back_for_no_number(a in any::<(u32, u32, u32)>(), x in any::<f64>(), y in any::<f64>()) {
            let odd = Sums { answers: a.0.into(), judged: a.1.into(), corrected: a.2.into(), confidence: x, confidence_squared: y, score: y, score_squared: x, replaced: Judgments { judged: a.2.into(), score: x, score_squared: y, corrected: a.1.into() } };
            let _ = worse(&odd, &Sums::default());
            prop_assert_eq!(worse(&Sums::default(), &odd), None);
        }
    }
}
