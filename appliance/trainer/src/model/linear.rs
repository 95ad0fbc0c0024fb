//! Products with a quantised matrix, with or without a low-rank update, forwards and backwards.
//!
//! y = x·Wᵀ + s·(x·Aᵀ)·Bᵀ + b, a row a token. W stays quantised: a task dequantises one tile of it after another
//! into a buffer of the core's cache. Tiles and tasks do not depend on the number of threads, nor do the results.

use std::ops::Range;

use crate::matrix::{Target, View};
use crate::quantised::Kind;
use crate::threads::{Pool, with_scratch};

/// Most numbers of a tile: 256 KiB, half of a small second-level cache.
const TILE: usize = 1 << 16;
/// Most columns of a tile that is multiplied forwards.
const DEPTH: usize = 1024;
/// Columns of W that a task multiplies backwards, unless a block of W is longer.
const STRIPE: usize = 96;
/// Tokens of a task that multiplies by A or B alone.
const TOKENS: usize = 64;
/// Rows of B that a task computes the gradient of.
const ROWS: usize = 256;

/// A matrix of the base model's file.
#[derive(Debug, Clone)]
pub struct Matrix {
    pub kind: Kind,
    pub rows: usize,
    /// Whole blocks.
    pub columns: usize,
    /// Where it is in the file.
    pub bytes: Range<usize>,
}

impl Matrix {
    /// Dequantises some rows of some columns, which must be whole blocks, to `tile`, row after row.
    pub fn tile(&self, file: &[u8], rows: Range<usize>, columns: Range<usize>, tile: &mut [f32]) {
        let stride = self.kind.row_bytes(self.columns);
        let part = self.kind.row_bytes(columns.start)..self.kind.row_bytes(columns.end);
        let bytes = &file[self.bytes.clone()];
        if columns == (0..self.columns) {
            return self
                .kind
                .dequantise(&bytes[rows.start * stride..rows.end * stride], tile);
        }
        for (row, values) in rows.zip(tile.chunks_exact_mut(columns.len())) {
            self.kind.dequantise(&bytes[row * stride..][part.clone()], values);
        }
    }

    /// Dequantises a row.
    pub fn row(&self, file: &[u8], row: usize, values: &mut [f32]) {
        self.tile(file, row..row + 1, 0..self.columns, values);
    }

    /// Columns of a task backwards: about as many in each, and whole blocks.
    fn stripe(&self) -> usize {
        let block = self.kind.block_len();
        let stripes = self.columns.div_ceil(STRIPE.max(block));
        self.columns.div_ceil(stripes).next_multiple_of(block)
    }
}

/// A matrix with its bias and the low-rank update that is learnt.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    pub file: &'a [u8],
    pub matrix: &'a Matrix,
    pub bias: Option<&'a [f32]>,
    pub update: Option<Update<'a>>,
}

/// A low-rank update.
#[derive(Clone, Copy)]
pub struct Update<'a> {
    /// Rank.
    pub rank: usize,
    /// `rank` rows as long as the input.
    pub a: &'a [f32],
    /// As many rows as the output is long, of `rank` each.
    pub b: &'a [f32],
    /// What the product of both is multiplied by.
    pub scale: f32,
}

impl Linear<'_> {
    /// Computes x·Aᵀ, if there is an update.
    pub fn reduce(&self, pool: &Pool, x: &[f32], reduced: &mut Vec<f32>) {
        let Some(update) = &self.update else {
            return;
        };
        let (rank, inputs) = (update.rank, self.matrix.columns);
        let tokens = x.len() / inputs;
        reduced.resize(tokens * rank, 0.0);
        let (x, a) = (View::new(x, tokens, inputs), View::new(update.a, rank, inputs));
        let reduced = Target::new(reduced, tokens, rank);
        pool.run_ranges(tokens, TOKENS, |range| {
            // SAFETY: each row is in one range, and each range is one task's.
            unsafe {
                reduced
                    .rows(range.clone())
                    .product(false, 1.0, x.rows(range), a.transposed())
            };
        });
    }

    /// Computes y of the rows of `x`, or adds it to what `y` was. `reduced` becomes x·Aᵀ, which the way back needs.
    pub fn forward(&self, pool: &Pool, x: &[f32], add: bool, y: &mut [f32], reduced: &mut Vec<f32>) {
        let Matrix {
            rows: outputs,
            columns: inputs,
            ..
        } = *self.matrix;
        let tokens = x.len() / inputs;
        self.reduce(pool, x, reduced);
        let x = View::new(x, tokens, inputs);
        let y = Target::new(y, tokens, outputs);
        let depth = inputs.min(DEPTH);
        // Tasks of about one size, so that two threads have about as much to do.
        let most = (TILE / depth / 16 * 16).clamp(16, 256);
        let height = outputs.div_ceil(outputs.div_ceil(most)).next_multiple_of(16);
        pool.run_ranges(outputs, height, |rows| {
            let y = y.columns(rows.clone());
            with_scratch(rows.len() * depth, |tile| {
                for start in (0..inputs).step_by(depth) {
                    let columns = start..inputs.min(start + depth);
                    let tile = &mut tile[..rows.len() * columns.len()];
                    self.matrix.tile(self.file, rows.clone(), columns.clone(), tile);
                    let tile = View::new(tile, rows.len(), columns.len());
                    // SAFETY: these columns of y are this task's.
                    unsafe { y.product(add || start > 0, 1.0, x.columns(columns), tile.transposed()) };
                }
            });
            if let Some(update) = &self.update {
                let b = View::new(update.b, outputs, update.rank).rows(rows.clone());
                let reduced = View::new(reduced, tokens, update.rank);
                // SAFETY: as above.
                unsafe { y.product(true, update.scale, reduced, b.transposed()) };
            }
            if let Some(bias) = self.bias {
                for token in 0..tokens {
                    // SAFETY: as above; the slice ends before the next begins.
                    crate::vector::add_scaled(unsafe { y.row(token) }, 1.0, &bias[rows.clone()]);
                }
            }
        });
    }

    /// The way back: from `by_y`, the gradient of y, to those of A and B, which are added to, and to that of x, unless
    /// nobody needs it.
    pub fn backward(&self, pool: &Pool, saved: Saved<'_>, by_y: &[f32], by: Gradients<'_>) {
        let Matrix {
            rows: outputs,
            columns: inputs,
            ..
        } = *self.matrix;
        let tokens = by_y.len() / outputs;
        let by_y = View::new(by_y, tokens, outputs);
        let rank = self.update.map_or(0, |update| update.rank);
        let Gradients {
            x: by_x,
            a: by_a,
            b: by_b,
            reduced: by_reduced,
        } = by;
        by_reduced.resize(tokens * rank, 0.0);
        if let Some(update) = &self.update {
            let b = View::new(update.b, outputs, rank);
            let by_reduced = Target::new(by_reduced, tokens, rank);
            pool.run_ranges(tokens, TOKENS, |range| {
                // SAFETY: each row is in one range, and each range is one task's.
                unsafe {
                    by_reduced
                        .rows(range.clone())
                        .product(false, update.scale, by_y.rows(range), b)
                };
            });
        }
        let by_reduced = View::new(by_reduced, tokens, rank);
        let x = View::new(saved.x, tokens, inputs);
        let reduced = View::new(&saved.reduced[..tokens * rank], tokens, rank);
        let by_x = by_x.map(|(by_x, add)| (Target::new(by_x, tokens, inputs), add));
        let (by_a, by_b) = (Target::new(by_a, rank, inputs), Target::new(by_b, outputs, rank));
        let stripe = self.matrix.stripe();
        let stripes = inputs.div_ceil(stripe);
        let blocks = if rank == 0 { 0 } else { outputs.div_ceil(ROWS) };
        pool.run(stripes + blocks, |task| {
            if let Some(block) = task.checked_sub(stripes) {
                let rows = block * ROWS..outputs.min((block + 1) * ROWS);
                let scale = self.update.map_or(0.0, |update| update.scale);
                let by_b = by_b.rows(rows.clone());
                // SAFETY: each row of B's gradient is one task's.
                unsafe { by_b.product(true, scale, by_y.columns(rows).transposed(), reduced) };
                return;
            }
            let columns = task * stripe..inputs.min((task + 1) * stripe);
            if let Some((by_x, add)) = by_x {
                // SAFETY: each column of x's gradient is one task's.
                unsafe { self.stripe_backward(by_y, by_x.columns(columns.clone()), columns.clone(), add) };
                if let Some(update) = &self.update {
                    let a = View::new(update.a, rank, inputs).columns(columns.clone());
                    // SAFETY: as above.
                    unsafe { by_x.columns(columns.clone()).product(true, 1.0, by_reduced, a) };
                }
            }
            if rank > 0 {
                let by_a = by_a.columns(columns.clone());
                // SAFETY: each column of A's gradient is one task's.
                unsafe { by_a.product(true, 1.0, by_reduced.transposed(), x.columns(columns)) };
            }
        });
    }

    /// `by_x = by_y · W`, or with `add` that much more, for some columns of W.
    ///
    /// # Safety
    ///
    /// Nobody else may use `by_x` meanwhile.
    unsafe fn stripe_backward(&self, by_y: View<'_>, by_x: Target<'_>, columns: Range<usize>, add: bool) {
        let height = (TILE / columns.len()).max(1);
        let outputs = self.matrix.rows;
        with_scratch(outputs.min(height) * columns.len(), |tile| {
            for start in (0..outputs).step_by(height) {
                let rows = start..outputs.min(start + height);
                let tile = &mut tile[..rows.len() * columns.len()];
                self.matrix.tile(self.file, rows.clone(), columns.clone(), tile);
                let tile = View::new(tile, rows.len(), columns.len());
                // SAFETY: by this function's own demand.
                unsafe { by_x.product(add || start > 0, 1.0, by_y.columns(rows), tile) };
            }
        });
    }
}

/// What of the forward pass the way back needs.
#[derive(Clone, Copy)]
pub struct Saved<'a> {
    /// The input.
    pub x: &'a [f32],
    /// x·Aᵀ, as [`Linear::reduce`] gives it.
    pub reduced: &'a [f32],
}

/// Where gradients go.
pub struct Gradients<'a> {
    /// Of the input, and whether it is added to.
    pub x: Option<(&'a mut [f32], bool)>,
    /// Of A, added to; empty without an update.
    pub a: &'a mut [f32],
    /// Of B, added to; empty without an update.
    pub b: &'a mut [f32],
    /// Of x·Aᵀ; room to work in.
    pub reduced: &'a mut Vec<f32>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::random::Random;

    /// A product in double precision.
    fn naive(linear: &Linear<'_>, weights: &[f32], x: &[f32], y: &[f32]) -> f64 {
        let Matrix { rows, columns, .. } = *linear.matrix;
        let dot = |a: &[f32], b: &[f32]| {
            a.iter()
                .zip(b)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum::<f64>()
        };
        let mut sum = 0.0;
        for (x, y) in x.chunks(columns).zip(y.chunks(rows)) {
            let reduced: Option<Vec<f64>> = linear
                .update
                .map(|update| update.a.chunks(columns).map(|a| dot(a, x)).collect());
            for row in 0..rows {
                let mut value = dot(x, &weights[row * columns..][..columns]);
                value += linear.bias.map_or(0.0, |bias| f64::from(bias[row]));
                if let (Some(update), Some(reduced)) = (&linear.update, &reduced) {
                    let b = &update.b[row * update.rank..][..update.rank];
                    let product: f64 = b.iter().zip(reduced).map(|(b, r)| f64::from(*b) * r).sum();
                    value += f64::from(update.scale) * product;
                }
                sum += value * f64::from(y[row]);
            }
        }
        sum
    }

    #[test]
    fn values_and_derivatives() {
        let (pool, mut random) = (Pool::new(2).unwrap(), Random::new(10));
        for (outputs, inputs, tokens, rank) in
            [(20, 32, 5, 3), (300, 1152, 70, 2), (33, 64, 66, 0), (1, 96, 1, 1)]
        {
            let deviation = 1.0 / (inputs as f32).sqrt();
            let weights = random.normals(outputs * inputs, deviation);
            let file: Vec<u8> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
            let matrix = Matrix {
                kind: Kind::F32,
                rows: outputs,
                columns: inputs,
                bytes: 0..file.len(),
            };
            let (a, b) = (
                random.normals(rank * inputs, deviation),
                random.normals(outputs * rank, 1.0),
            );
            let bias = random.normals(outputs, 1.0);
            let update = (rank > 0).then_some(Update {
                rank,
                a: &a,
                b: &b,
                scale: 0.7,
            });
            let linear = Linear {
                file: &file,
                matrix: &matrix,
                bias: (rank != 2).then_some(&bias),
                update,
            };
            let (x, by_y) = (
                random.normals(tokens * inputs, 1.0),
                random.normals(tokens * outputs, 1.0),
            );

            let before = random.normals(tokens * outputs, 1.0);
            let mut reduced = Vec::new();
            for add in [false, true] {
                let mut y = before.clone();
                linear.forward(&pool, &x, add, &mut y, &mut reduced);
                for (at, value) in y.iter().enumerate() {
                    let mut unit = vec![0.0; y.len()];
                    unit[at] = 1.0;
                    let token = at / outputs;
                    let (x, unit) = (
                        &x[token * inputs..][..inputs],
                        &unit[token * outputs..][..outputs],
                    );
                    let expected =
                        naive(&linear, &weights, x, unit) + if add { f64::from(before[at]) } else { 0.0 };
                    assert!(
                        (f64::from(*value) - expected).abs() < 1e-4,
                        "{outputs} {at}: {value} {expected}"
                    );
                    if at > 300 {
                        break;
                    }
                }
            }

            let mut by_x = random.normals(x.len(), 1.0);
            let start = by_x.clone();
            let (mut by_a, mut by_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for add in [true, false] {
                by_a.fill(0.0);
                by_b.fill(0.0);
                let by = Gradients {
                    x: Some((&mut by_x, add)),
                    a: &mut by_a,
                    b: &mut by_b,
                    reduced: &mut Vec::new(),
                };
                linear.backward(
                    &pool,
                    Saved {
                        x: &x,
                        reduced: &reduced,
                    },
                    &by_y,
                    by,
                );
                let start = if add {
                    start.as_slice()
                } else {
                    &vec![0.0; x.len()]
                };
                let gradient: Vec<f32> = by_x.iter().zip(start).map(|(by, start)| by - start).collect();
                assert_derivative("x", &x, &gradient, |x| naive(&linear, &weights, x, &by_y));
            }
            if let Some(update) = update {
                let with = |update: Update<'_>| {
                    naive(
                        &Linear {
                            update: Some(update),
                            ..linear
                        },
                        &weights,
                        &x,
                        &by_y,
                    )
                };
                assert_derivative("A", &a, &by_a, |a| with(Update { a, ..update }));
                assert_derivative("B", &b, &by_b, |b| with(Update { b, ..update }));
            }
        }
    }

    #[test]
    fn tiles_of_every_kind_are_parts_of_the_matrix() {
        let mut random = Random::new(11);
        for kind in Kind::ALL {
            let columns = 3 * kind.block_len().max(2);
            let file: Vec<u8> = match kind {
                // Any bits are numbers but for scales, whose exponents must not be the highest.
                Kind::F32 | Kind::F16 | Kind::Bf16 => vec![0x3f; 5 * kind.row_bytes(columns)],
                _ => (0..5 * kind.row_bytes(columns))
                    .map(|_| random.bits().to_le_bytes()[0] & 0x3f)
                    .collect(),
            };
            let matrix = Matrix {
                kind,
                rows: 5,
                columns,
                bytes: 0..file.len(),
            };
            let mut whole = vec![0.0; 5 * columns];
            matrix.tile(&file, 0..5, 0..columns, &mut whole);
            let third = columns / 3;
            let mut tile = vec![0.0; 2 * third];
            matrix.tile(&file, 2..4, third..2 * third, &mut tile);
            for row in 0..2 {
                let expected = &whole[(2 + row) * columns + third..][..third];
                assert_eq!(&tile[row * third..][..third], expected, "{kind:?}");
            }
        }
    }
}
