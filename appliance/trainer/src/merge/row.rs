//! One row of a weight and what an adapter adds to it, in the row's own kind of storage.
//!
//! What an adapter adds is mostly far smaller than the steps between the values that a quantised block has: rounding
//! each sum to the nearest value would give the base back, and the adapter would be gone. But an adapter is of low
//! rank: it answers to the few directions of the input that its matrix A looks along, and to nothing else. So the
//! error that rounding made so far, as A sees it, is carried along the row, and each element is rounded so that the
//! square of its own error and of that carried together are least. The few elements that this turns up or down by a
//! step add up to the update along A's directions, and look like rounding noise along all others. (In one direction
//! and with fixed weights this is the noise shaping of converters: Spang, Schultheiss, 1962.)
//!
//! The scales of the base's blocks are kept: whoever quantised the base may have known more than is known here. Only
//! where they don't reach the new values, and others do better, there are new ones.

use std::ops::AddAssign;

use crate::quantised::{Grids, Kind, write_floats};
use crate::vector;

/// How much the error that A sees counts, against that of an element alone.
const WEIGHT: f32 = 1.0;

/// The columns of A, one after another, so scaled that the mean square of their length is 1.
pub struct Columns {
    rank: usize,
    values: Vec<f32>,
}

impl Columns {
    /// Those of `a`, of `rank` rows.
    pub fn of(a: &[f32], rank: usize) -> Self {
        let columns = a.len() / rank;
        let energy: f64 = a.iter().map(|value| f64::from(*value).powi(2)).sum();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a scale near that of single precision numbers"
        )]
        let scale = (columns as f64 / energy.max(f64::MIN_POSITIVE)).sqrt() as f32;
        let mut values = vec![0.0; a.len()];
        for (row, a) in a.chunks_exact(columns).enumerate() {
            for (column, value) in a.iter().enumerate() {
                values[column * rank + row] = scale.min(f32::MAX) * value;
            }
        }
        Self { rank, values }
    }

    fn at(&self, column: usize) -> &[f32] {
        &self.values[column * self.rank..][..self.rank]
    }
}

/// What rounding took away of updates, in squares of lengths along A's directions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Lost {
    /// Of what was lost.
    lost: f64,
    /// Of the updates.
    whole: f64,
}

impl Lost {
    /// The part that was lost.
    pub fn part(self) -> f64 {
        if self.whole > 0.0 {
            (self.lost / self.whole).sqrt()
        } else {
            0.0
        }
    }
}

impl AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.whole += other.whole;
    }
}

/// What the rows of a weight have in common.
pub struct Row<'a> {
    pub kind: Kind,
    /// As many rows as the rank, as long as the weight's.
    pub a: &'a [f32],
    pub columns: &'a Columns,
    /// What the product of the two matrices is multiplied by.
    pub scale: f32,
}

impl Row<'_> {
    /// Writes the row of `base` with its update, whose part of B is `b`, to `out`. A row that is not changed is copied.
    /// `None` when a number is not finite.
    pub fn merge(&self, base: &[u8], b: &[f32], out: &mut [u8]) -> Option<Lost> {
        let rank = self.columns.rank;
        let length = self.a.len() / rank;
        let mut added = vec![0.0; length];
        for (b, a) in b.iter().zip(self.a.chunks_exact(length)) {
            vector::add_scaled(&mut added, self.scale * b, a);
        }
        out.copy_from_slice(base);
        if added.iter().all(|added| *added == 0.0) {
            return Some(Lost::default());
        }
        let mut values = vec![0.0; length];
        self.kind.dequantise(base, &mut values);
        vector::add_scaled(&mut values, 1.0, &added);
        if !values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let mut carried = Carried {
            columns: self.columns,
            error: vec![0.0; rank],
        };
        if write_floats(self.kind, &values, out) {
            let mut rounded = vec![0.0; length];
            self.kind.dequantise(out, &mut rounded);
            for (at, (value, rounded)) in values.iter().zip(&rounded).enumerate() {
                carried.take(at, rounded - value);
            }
        } else {
            let (len, size) = (self.kind.block_len(), self.kind.block_bytes());
            for (number, (values, block)) in values
                .chunks_exact(len)
                .zip(out.chunks_exact_mut(size))
                .enumerate()
            {
                requantise(self.kind, values, block, number * len, &mut carried);
            }
        }
        let mut whole = Carried {
            columns: self.columns,
            error: vec![0.0; rank],
        };
        for (at, added) in added.iter().enumerate() {
            whole.take(at, *added);
        }
        Some(Lost {
            lost: carried.square(),
            whole: whole.square(),
        })
    }
}

/// Writes the values of a block, which has those of the base; `first` is the column of its first element.
fn requantise(kind: Kind, values: &[f32], block: &mut [u8], first: usize, carried: &mut Carried<'_>) {
    // The longest block.
    let (mut codes, mut spanned) = ([0; 256], [0; 256]);
    let (codes, spanned) = (&mut codes[..values.len()], &mut spanned[..block.len()]);
    let Some(mut grids) = Grids::of(kind, block) else {
        return;
    };
    if !grids.reach(values) {
        spanned.copy_from_slice(block);
        if let Some(others) = Grids::span(kind, values, spanned)
            && others.error(values) < grids.error(values)
        {
            block.copy_from_slice(spanned);
            grids = others;
        }
    }
    for (at, (&value, code)) in values.iter().zip(codes.iter_mut()).enumerate() {
        let grid = grids.at(at);
        *code = grid.nearest(value + carried.wanted(first + at));
        carried.take(first + at, grid.value(*code) - value);
    }
    grids.put(codes, block);
}

/// The error so far, as A sees it.
struct Carried<'a> {
    columns: &'a Columns,
    error: Vec<f32>,
}

impl Carried<'_> {
    /// The error e of this column's element for which e² and the weighted square of what is carried then, together,
    /// are least: of e² + w·|s + e·a|² that is −w·(s·a) / (1 + w·|a|²).
    fn wanted(&self, column: usize) -> f32 {
        let a = self.columns.at(column);
        let (mut along, mut square) = (0.0, 0.0);
        for (a, error) in a.iter().zip(&self.error) {
            along += a * error;
            square += a * a;
        }
        -WEIGHT * along / (1.0 + WEIGHT * square)
    }

    fn take(&mut self, column: usize, error: f32) {
        let columns = self.columns;
        for (carried, a) in self.error.iter_mut().zip(columns.at(column)) {
            *carried += error * a;
        }
    }

    fn square(&self) -> f64 {
        self.error.iter().map(|error| f64::from(*error).powi(2)).sum()
    }
}
