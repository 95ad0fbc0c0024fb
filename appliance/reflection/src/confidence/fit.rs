//! Making a calibration from judged answers: logistic regression, and how good its probabilities are.

use super::calibration::{Calibration, FEATURES};

/// A judged answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Its features.
    pub features: [f64; FEATURES],
    /// Whether it was right.
    pub right: bool,
}

/// Steps of Newton's method; it converges in fewer than ten.
const STEPS: usize = 50;

/// Fits a logistic model by Newton's method with an L2 penalty of `ridge` on every weight but the constant's
/// (le Cessie and van Houwelingen 1992). `None` when there is nothing to tell apart.
pub fn fit(answers: &[Judged], ridge: f64) -> Option<Calibration> {
    if answers.iter().all(|a| a.right) || !answers.iter().any(|a| a.right) {
        return None;
    }
    let mut weights = [0.0; FEATURES];
    for _ in 0..STEPS {
        let mut gradient = [0.0; FEATURES];
        let mut hessian = [[0.0; FEATURES]; FEATURES];
        for answer in answers {
            let x = &answer.features;
            let sum: f64 = weights.iter().zip(x).map(|(w, x)| w * x).sum();
            let p = 1.0 / (1.0 + (-sum).exp());
            let error = f64::from(u8::from(answer.right)) - p;
            for row in 0..FEATURES {
                gradient[row] += error * x[row];
                for column in 0..FEATURES {
                    hessian[row][column] += p * (1.0 - p) * x[row] * x[column];
                }
            }
        }
        for at in 0..FEATURES {
            let penalty = if at == 0 { 1e-6 } else { ridge };
            gradient[at] -= penalty * weights[at];
            hessian[at][at] += penalty;
        }
        let step = solve(hessian, gradient)?;
        for (weight, step) in weights.iter_mut().zip(step) {
            *weight += step;
        }
        if step.iter().all(|step| step.abs() < 1e-9) {
            break;
        }
    }
    weights
        .iter()
        .all(|weight| weight.is_finite())
        .then(|| Calibration {
            weights,
            answers: u32::try_from(answers.len()).unwrap_or(u32::MAX),
            error: None,
            auroc: None,
            critiques: None,
        })
}

/// Gaussian elimination with row exchange; `None` if the matrix is singular.
fn solve(mut a: [[f64; FEATURES]; FEATURES], mut b: [f64; FEATURES]) -> Option<[f64; FEATURES]> {
    for at in 0..FEATURES {
        let pivot = (at..FEATURES).max_by(|i, j| a[*i][at].abs().total_cmp(&a[*j][at].abs()))?;
        if a[pivot][at].abs() < 1e-12 {
            return None;
        }
        a.swap(at, pivot);
        b.swap(at, pivot);
        let row = a[at];
        for below in at + 1..FEATURES {
            let factor = a[below][at] / row[at];
            for column in at..FEATURES {
                a[below][column] -= factor * row[column];
            }
            b[below] -= factor * b[at];
        }
    }
    let mut x = [0.0; FEATURES];
    for at in (0..FEATURES).rev() {
        let known: f64 = (at + 1..FEATURES).map(|column| a[at][column] * x[column]).sum();
        x[at] = (b[at] - known) / a[at][at];
    }
    Some(x)
}

/// Area under the ROC curve of probabilities against what was right: the chance that a right answer has a higher
/// one than a wrong answer, ties counting half (Mann-Whitney). `None` without both kinds.
pub fn auroc(answers: &[(f64, bool)]) -> Option<f64> {
    let mut pairs = 0.0;
    let mut won = 0.0;
    for (right, _) in answers.iter().filter(|(_, right)| *right) {
        for (wrong, _) in answers.iter().filter(|(_, right)| !*right) {
            pairs += 1.0;
            won += match right.total_cmp(wrong) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    (pairs > 0.0).then(|| won / pairs)
}

/// Expected calibration error over ten bins of equal width: the mean distance between a bin's probability and its
/// share of right answers, weighted by its size (Guo et al. 2017). `None` without answers.
pub fn calibration_error(answers: &[(f64, bool)]) -> Option<f64> {
    if answers.is_empty() {
        return None;
    }
    let mut bins = [(0.0, 0.0, 0.0); 10];
    for (probability, right) in answers {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a probability times ten, kept below ten"
        )]
        let bin = &mut bins[((probability * 10.0).max(0.0) as usize).min(9)];
        bin.0 += probability;
        bin.1 += f64::from(u8::from(*right));
        bin.2 += 1.0;
    }
    let total: f64 = bins.iter().map(|bin| bin.2).sum();
    Some(bins.iter().map(|bin| (bin.0 - bin.1).abs()).sum::<f64>() / total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(mean: f64, right: bool) -> Judged {
        let mut features = [0.0; FEATURES];
        features[0] = 1.0;
        features[1] = mean;
        Judged { features, right }
    }

    #[test]
    fn a_fit_finds_the_line_that_made_the_answers() {
        // One thousand answers for each of five signals, right as often as a logistic with weights (1, 2) says.
        let mut answers = Vec::new();
        for mean in [-2.0, -1.0, -0.5, 0.0, 0.5] {
            let p = 1.0 / (1.0 + (-(1.0_f64 + 2.0 * mean)).exp());
            for n in 0..1000 {
                answers.push(judged(mean, f64::from(n) < p * 1000.0));
            }
        }
        let found = fit(&answers, 1e-3).unwrap();
        assert!((found.weights[0] - 1.0).abs() < 0.05, "{:?}", found.weights);
        assert!((found.weights[1] - 2.0).abs() < 0.05, "{:?}", found.weights);
        assert_eq!(found.answers, 5000);
    }

    #[test]
    fn answers_that_can_be_told_apart_wholly_do_not_run_away() {
        let answers = [
            judged(-1.0, false),
            judged(-0.9, false),
            judged(-0.1, true),
            judged(-0.2, true),
        ];
        let found = fit(&answers, 1.0).unwrap();
        assert!(
            found.weights.iter().all(|w| w.abs() < 10.0),
            "{:?}",
            found.weights
        );
        assert!(found.weights[1] > 0.0);
    }

    #[test]
    fn without_both_kinds_there_is_nothing_to_fit() {
        assert_eq!(fit(&[judged(0.0, true)], 1.0), None);
        assert_eq!(fit(&[], 1.0), None);
    }

    #[test]
    fn the_area_is_the_share_of_pairs_in_order() {
        assert_eq!(auroc(&[(0.9, true), (0.1, false)]), Some(1.0));
        assert_eq!(auroc(&[(0.1, true), (0.9, false)]), Some(0.0));
        assert_eq!(auroc(&[(0.5, true), (0.5, false)]), Some(0.5));
        assert_eq!(
            auroc(&[(0.8, true), (0.6, false), (0.4, true), (0.2, false)]),
            Some(0.75)
        );
        assert_eq!(auroc(&[(0.8, true)]), None);
    }

    #[test]
    fn the_calibration_error_is_the_distance_to_the_truth() {
        let sure = [(0.95, true), (0.95, true), (0.95, true), (0.95, false)];
        assert!((calibration_error(&sure).unwrap() - 0.2).abs() < 1e-9);
        let exact = [(0.5, true), (0.5, false)];
        assert!(calibration_error(&exact).unwrap() < 1e-9);
        assert!((calibration_error(&[(1.0, false)]).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(calibration_error(&[]), None);
    }
}
