//! The output: how far what the model says is from what it is to say, and the gradient of that.
//!
//! The vocabulary is gone through once, a tile of the output matrix after another: the tile gives the logits, their
//! exponentials are summed with a running maximum (as in FlashAttention), and on the way back multiplied by the same
//! tile at once. The gradient of the input is Σ p(v)·W(v) − W(target). Logits of all tokens never exist.
//!
//! Where a whole distribution q is aimed at instead of a token, Σ q(v)·W(v) takes the place of W(target), in the
//! gradient and, times the input, in the cross-entropy: it is all that has to be known of q.

use super::linear::Matrix;
use crate::matrix::{Target, View};
use crate::threads::{Pool, with_scratch};
use crate::vector;

/// Parts of the vocabulary, each a task with its own sums. The number is fixed, so that results don't depend on that
/// of threads.
pub const PARTS: usize = 8;
/// Most rows that are computed at once.
pub const ROWS: usize = 512;
/// Most numbers of a tile.
const TILE: usize = 1 << 16;

/// Sums of a part of the vocabulary, for each row.
struct Part {
    /// Largest logit.
    largest: Vec<f32>,
    /// Sum of e to the power of the logits less the largest.
    sum: Vec<f32>,
    /// Sum of that times the row of the output matrix; empty without gradients.
    weighted: Vec<f32>,
    /// The target's logit, if it is in this part.
    target: Vec<Option<f32>>,
}

/// What each row of the input is to say.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// A token.
    Tokens(&'a [u32]),
    /// What a distribution says: for each row its [`mean`], as wide as the input.
    Means(&'a [f32]),
}

impl Aim<'_> {
    /// What the rows of a block aim at.
    fn block(self, rows: std::ops::Range<usize>, width: usize) -> Self {
        match self {
            Self::Tokens(tokens) => Self::Tokens(&tokens[rows]),
            Self::Means(means) => Self::Means(&means[rows.start * width..rows.end * width]),
        }
    }
}

/// The output matrix and who computes with it.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    pub pool: &'a Pool,
    /// The file that the matrix is in.
    pub file: &'a [u8],
    /// Of a row for each token.
    pub output: &'a Matrix,
}

impl Head<'_> {
    /// Sum over the rows of `input` of the cross-entropies with what they aim at, in nats: of tokens, their negative
    /// log-likelihood. If wanted, the gradient of `input`.
    pub fn loss(self, input: &[f32], aim: Aim<'_>, mut by_input: Option<&mut [f32]>) -> f64 {
        let width = self.output.columns;
        let mut nll = 0.0;
        for (block, input) in input.chunks(ROWS * width).enumerate() {
            let first = block * ROWS;
            let rows = first..first + input.len() / width;
            let by_input = by_input
                .as_mut()
                .map(|by_input| &mut by_input[rows.start * width..rows.end * width]);
            nll += self.block_loss(input, aim.block(rows, width), by_input);
        }
        nll
    }

    /// For each row of `input` the mean of the output matrix' rows, each as likely as the model says that token is; and
    /// the sum of the entropies of what it says, in nats.
    pub fn mean(self, input: &[f32]) -> (Vec<f32>, f64) {
        let width = self.output.columns;
        let (mut means, mut entropy) = (vec![0.0; input.len()], 0.0);
        for (input, means) in input.chunks(ROWS * width).zip(means.chunks_mut(ROWS * width)) {
            let rows = input.len() / width;
            let parts = self.parts(input, &[], true);
            let sums = sums(&parts, rows);
            self.means(&parts, &sums, means);
            let pairs = input.chunks_exact(width).zip(means.chunks_exact(width));
            for (sum, (input, mean)) in sums.iter().zip(pairs) {
                entropy += sum.logarithm() - f64::from(vector::dot(input, mean));
            }
        }
        (means, entropy)
    }

    fn block_loss(self, input: &[f32], aim: Aim<'_>, by_input: Option<&mut [f32]>) -> f64 {
        let width = self.output.columns;
        let rows = input.len() / width;
        let targets = match aim {
            Aim::Tokens(tokens) => tokens,
            Aim::Means(_) => &[],
        };
        let parts = self.parts(input, targets, by_input.is_some());
        let sums = sums(&parts, rows);
        let mut nll = 0.0;
        for (row, sum) in sums.iter().enumerate() {
            let aimed = match aim {
                Aim::Tokens(_) => parts.iter().find_map(|part| part.target[row]).unwrap_or(f32::NAN),
                Aim::Means(means) => {
                    let range = row * width..(row + 1) * width;
                    vector::dot(&input[range.clone()], &means[range])
                }
            };
            nll += sum.logarithm() - f64::from(aimed);
        }
        if let Some(by_input) = by_input {
            self.means(&parts, &sums, by_input);
            self.less_aimed(aim, by_input);
        }
        nll
    }

    /// The sums of each part of the vocabulary.
    fn parts(self, input: &[f32], targets: &[u32], weighted: bool) -> Vec<Part> {
        let size = self.output.rows.div_ceil(PARTS);
        let parts: Vec<_> = (0..PARTS).map(|_| std::sync::OnceLock::new()).collect();
        self.pool.run(PARTS, |number| {
            let tokens = (number * size).min(self.output.rows)..((number + 1) * size).min(self.output.rows);
            let part = part_sums(self.file, self.output, input, targets, tokens, weighted);
            // Each number is one task's, so nothing is there yet.
            let _ = parts[number].set(part);
        });
        parts
            .into_iter()
            .filter_map(std::sync::OnceLock::into_inner)
            .collect()
    }

    /// Puts the parts' weighted sums together.
    fn means(self, parts: &[Part], sums: &[Sum], means: &mut [f32]) {
        let (rows, width) = (sums.len(), self.output.columns);
        let means = Target::new(means, rows, width);
        self.pool.run_ranges(rows, 16, |range| {
            for row in range {
                // SAFETY: each row is in one range, and each range is one task's.
                let mean = unsafe { means.row(row) };
                mean.fill(0.0);
                for part in parts {
                    let factor = (part.largest[row] - sums[row].largest).exp() / sums[row].sum;
                    vector::add_scaled(mean, factor, &part.weighted[row * width..][..width]);
                }
            }
        });
    }

    /// Takes what is aimed at away from the means, which makes them gradients.
    fn less_aimed(self, aim: Aim<'_>, by_input: &mut [f32]) {
        let width = self.output.columns;
        match aim {
            Aim::Means(means) => vector::add_scaled(by_input, -1.0, means),
            Aim::Tokens(tokens) => {
                let rows = tokens.len();
                let by_input = Target::new(by_input, rows, width);
                self.pool.run_ranges(rows, 16, |range| {
                    let mut aimed = vec![0.0; width];
                    for row in range {
                        // SAFETY: each row is in one range, and each range is one task's.
                        let by_input = unsafe { by_input.row(row) };
                        self.output.row(self.file, tokens[row] as usize, &mut aimed);
                        vector::add_scaled(by_input, -1.0, &aimed);
                    }
                });
            }
        }
    }
}

/// Of a row's exponentials over the whole vocabulary.
struct Sum {
    /// Largest logit.
    largest: f32,
    /// Sum of e to the power of the logits less the largest.
    sum: f32,
}

impl Sum {
    /// Logarithm of the sum of e to the power of the logits.
    fn logarithm(&self) -> f64 {
        f64::from(self.sum).ln() + f64::from(self.largest)
    }
}

fn sums(parts: &[Part], rows: usize) -> Vec<Sum> {
    (0..rows)
        .map(|row| {
            let largest = parts
                .iter()
                .fold(f32::NEG_INFINITY, |max, part| max.max(part.largest[row]));
            let sum = parts.iter().map(|part| scaled(part, row, largest)).sum();
            Sum { largest, sum }
        })
        .collect()
}

/// A part's sum, as if its largest logit were `largest`.
fn scaled(part: &Part, row: usize, largest: f32) -> f32 {
    if part.sum[row] == 0.0 {
        0.0
    } else {
        part.sum[row] * (part.largest[row] - largest).exp()
    }
}

fn part_sums(
    file: &[u8],
    output: &Matrix,
    input: &[f32],
    targets: &[u32],
    tokens: std::ops::Range<usize>,
    gradients: bool,
) -> Part {
    let width = output.columns;
    let rows = input.len() / width;
    let mut part = Part {
        largest: vec![f32::NEG_INFINITY; rows],
        sum: vec![0.0; rows],
        weighted: vec![0.0; if gradients { rows * width } else { 0 }],
        target: vec![None; rows],
    };
    let height = (TILE / width / 16 * 16).clamp(16, 256);
    let input = View::new(input, rows, width);
    for start in tokens.clone().step_by(height) {
        let tokens = start..tokens.end.min(start + height);
        let size = tokens.len();
        with_scratch(size * (width + rows), |scratch| {
            let (tile, logits) = scratch.split_at_mut(size * width);
            output.tile(file, tokens.clone(), 0..width, tile);
            let tile = View::new(tile, size, width);
            crate::matrix::product(logits, false, 1.0, input, tile.transposed());
            for (row, logits) in logits.chunks_exact_mut(size).enumerate() {
                if let Some(target) = targets.get(row).map(|&target| target as usize)
                    && tokens.contains(&target)
                {
                    part.target[row] = Some(logits[target - start]);
                }
                let largest = vector::max(logits);
                if largest > part.largest[row] {
                    let factor = (part.largest[row] - largest).exp();
                    part.largest[row] = largest;
                    part.sum[row] *= factor;
                    if gradients {
                        vector::scale(&mut part.weighted[row * width..][..width], factor);
                    }
                }
                part.sum[row] += vector::exp_shifted(logits, part.largest[row]);
            }
            if gradients {
                let logits = View::new(logits, rows, size);
                crate::matrix::product(&mut part.weighted, true, 1.0, logits, tile);
            }
        });
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::quantised::Kind;
    use crate::random::Random;

    fn naive(input: &[f32], weights: &[f32], width: usize, targets: &[u32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>()
        };
        let rows = input.chunks(width).zip(targets);
        rows.map(|(row, target)| {
            let logits: Vec<f64> = weights.chunks(width).map(|weights| dot(row, weights)).collect();
            logits.iter().map(|logit| logit.exp()).sum::<f64>().ln() - logits[*target as usize]
        })
        .sum()
    }

    #[test]
    fn loss_and_derivative() {
        let (mut random, width) = (Random::new(7), 24);
        for (vocabulary, rows, deviation) in [(2, 3, 1.0), (9, 5, 1.0), (2500, 7, 1.0), (300, 600, 1.0)] {
            let weights = random.normals(vocabulary * width, deviation);
            let file: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let matrix = Matrix {
                kind: Kind::F32,
                rows: vocabulary,
                columns: width,
                bytes: 0..file.len(),
            };
            let input = random.normals(rows * width, 1.0);
            let bound = u32::try_from(vocabulary).unwrap();
            let targets: Vec<u32> = (0..rows).map(|_| random.below(bound)).collect();
            let pool = Pool::new(3).unwrap();
            let mut gradient = vec![f32::NAN; input.len()];
            let head = Head {
                pool: &pool,
                file: &file,
                output: &matrix,
            };
            let nll = head.loss(&input, Aim::Tokens(&targets), Some(&mut gradient));
            let expected = naive(&input, &weights, width, &targets);
            assert!(
                (nll / expected - 1.0).abs() < 1e-5,
                "{vocabulary}: {nll} {expected}"
            );
            assert_eq!(nll, head.loss(&input, Aim::Tokens(&targets), None));
            assert_derivative("head", &input, &gradient, |input| {
                naive(input, &weights, width, &targets)
            });
        }
    }

    /// Cross-entropy of what `input` says with what `aim` says.
    fn crossed(input: &[f32], aim: &[f32], weights: &[f32], width: usize) -> f64 {
        let logits = |row: &[f32]| -> Vec<f64> {
            let dot = |weights: &[f32]| row.iter().zip(weights).map(|(a, b)| f64::from(a * b)).sum();
            weights.chunks(width).map(dot).collect()
        };
        let sum = |logits: &[f64]| logits.iter().map(|logit| logit.exp()).sum::<f64>();
        let rows = input.chunks(width).zip(aim.chunks(width));
        rows.map(|(input, aim)| {
            let (input, aim) = (logits(input), logits(aim));
            let (all, all_aim) = (sum(&input).ln(), sum(&aim));
            let each = input.iter().zip(&aim);
            each.map(|(input, aim)| aim.exp() / all_aim * (all - input))
                .sum::<f64>()
        })
        .sum()
    }

    #[test]
    fn what_is_far_from_a_distribution_and_derivative() {
        let (mut random, width) = (Random::new(8), 24);
        let pool = Pool::new(3).unwrap();
        for (vocabulary, rows) in [(2, 3), (2500, 7), (300, 600)] {
            let weights = random.normals(vocabulary * width, 0.5);
            let file: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let matrix = Matrix {
                kind: Kind::F32,
                rows: vocabulary,
                columns: width,
                bytes: 0..file.len(),
            };
            let head = Head {
                pool: &pool,
                file: &file,
                output: &matrix,
            };
            let (input, aim) = (
                random.normals(rows * width, 1.0),
                random.normals(rows * width, 1.0),
            );
            let (means, entropy) = head.mean(&aim);
            let own = crossed(&aim, &aim, &weights, width);
            assert!(
                (entropy / own - 1.0).abs() < 1e-5,
                "{vocabulary}: {entropy} {own}"
            );
            let mut gradient = vec![f32::NAN; input.len()];
            let loss = head.loss(&input, Aim::Means(&means), Some(&mut gradient));
            let expected = crossed(&input, &aim, &weights, width);
            assert!(
                (loss / expected - 1.0).abs() < 1e-5,
                "{vocabulary}: {loss} {expected}"
            );
            assert_eq!(loss, head.loss(&input, Aim::Means(&means), None));
            assert_derivative("head", &input, &gradient, |input| {
                crossed(input, &aim, &weights, width)
            });
            // Where it says what it aims at, nothing pulls.
            let mut still = vec![f32::NAN; input.len()];
            let same = head.loss(&aim, Aim::Means(&means), Some(&mut still));
            assert!((same / entropy - 1.0).abs() < 1e-6);
            let largest = still.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
            assert!(largest < 1e-5, "{largest}");
        }
    }

    #[test]
    fn an_overflow_is_not_hidden() {
        let file: Vec<u8> = [1f32; 8].iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let matrix = Matrix {
            kind: Kind::F32,
            rows: 4,
            columns: 2,
            bytes: 0..32,
        };
        for value in [f32::NAN, f32::INFINITY] {
            let head = Head {
                pool: &Pool::new(1).unwrap(),
                file: &file,
                output: &matrix,
            };
            let nll = head.loss(&[value, 1.0], Aim::Tokens(&[1]), None);
            assert!(!nll.is_finite(), "{nll}");
        }
    }
}
