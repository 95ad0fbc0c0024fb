//! The output: how surprised the model is by each target, and the gradient of that.
//!
//! The vocabulary is gone through once, a tile of the output matrix after another: the tile gives the logits, their
//! exponentials are summed with a running maximum (as in FlashAttention), and on the way back multiplied by the same
//! tile at once. The gradient of the input is Σ p(v)·W(v) − W(target). Logits of all tokens never exist.

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

/// Sum of the negative log-likelihoods, in nats, of the targets, each of a row of `input`; if wanted, the gradient of
/// `input`.
pub fn loss(
    pool: &Pool,
    file: &[u8],
    output: &Matrix,
    input: &[f32],
    targets: &[u32],
    mut by_input: Option<&mut [f32]>,
) -> f64 {
    let width = output.columns;
    let mut nll = 0.0;
    for (block, targets) in targets.chunks(ROWS).enumerate() {
        let range = block * ROWS * width..(block * ROWS + targets.len()) * width;
        let by_input = by_input.as_mut().map(|by_input| &mut by_input[range.clone()]);
        nll += block_loss(pool, file, output, &input[range], targets, by_input);
    }
    nll
}

fn block_loss(
    pool: &Pool,
    file: &[u8],
    output: &Matrix,
    input: &[f32],
    targets: &[u32],
    by_input: Option<&mut [f32]>,
) -> f64 {
    let (rows, width) = (targets.len(), output.columns);
    let gradients = by_input.is_some();
    let size = output.rows.div_ceil(PARTS);
    let parts: Vec<_> = (0..PARTS).map(|_| std::sync::OnceLock::new()).collect();
    pool.run(PARTS, |number| {
        let tokens = (number * size).min(output.rows)..((number + 1) * size).min(output.rows);
        let part = part_sums(file, output, input, targets, tokens, gradients);
        // Each number is one task's, so nothing is there yet.
        let _ = parts[number].set(part);
    });
    let parts: Vec<Part> = parts
        .into_iter()
        .filter_map(std::sync::OnceLock::into_inner)
        .collect();
    let mut nll = 0.0;
    let factors: Vec<(f32, f32)> = (0..rows)
        .map(|row| {
            let largest = parts
                .iter()
                .fold(f32::NEG_INFINITY, |max, part| max.max(part.largest[row]));
            let sum = parts.iter().map(|part| scaled(part, row, largest)).sum::<f32>();
            let target = parts.iter().find_map(|part| part.target[row]).unwrap_or(f32::NAN);
            nll += f64::from(sum).ln() + f64::from(largest) - f64::from(target);
            (largest, sum)
        })
        .collect();
    if let Some(by_input) = by_input {
        let by_input = Target::new(by_input, rows, width);
        pool.run_ranges(rows, 16, |range| {
            for row in range {
                // SAFETY: each row is in one range, and each range is one task's.
                let by_input = unsafe { by_input.row(row) };
                output.row(file, targets[row] as usize, by_input);
                vector::scale(by_input, -1.0);
                let (largest, sum) = factors[row];
                for part in &parts {
                    let factor = (part.largest[row] - largest).exp() / sum;
                    vector::add_scaled(by_input, factor, &part.weighted[row * width..][..width]);
                }
            }
        });
    }
    nll
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
    let (rows, width) = (targets.len(), output.columns);
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
                let target = targets[row] as usize;
                if tokens.contains(&target) {
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
            let nll = loss(&pool, &file, &matrix, &input, &targets, Some(&mut gradient));
            let expected = naive(&input, &weights, width, &targets);
            assert!(
                (nll / expected - 1.0).abs() < 1e-5,
                "{vocabulary}: {nll} {expected}"
            );
            assert_eq!(nll, loss(&pool, &file, &matrix, &input, &targets, None));
            assert_derivative("head", &input, &gradient, |input| {
                naive(input, &weights, width, &targets)
            });
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
            let nll = loss(&Pool::new(1).unwrap(), &file, &matrix, &[value, 1.0], &[1], None);
            assert!(!nll.is_finite(), "{nll}");
        }
    }
}
