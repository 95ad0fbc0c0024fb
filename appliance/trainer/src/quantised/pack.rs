//! The way back: values into the blocks of a kind.
//!
//! A quantised block says of each run of its elements which values there are: a [`Grid`], of which each element names
//! one by its code. [`Grids`] takes a block's grids apart, puts codes into a block, and makes grids for values that
//! those of the block at hand do not reach. The layouts are those that the sibling modules read.

use super::floats::to_f16;
use super::nonlinear::VALUES;
use super::{Kind, half, k};

/// The values that the codes of a run stand for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grid {
    /// `origin + step · code`, for codes up to `top`.
    Line { origin: f32, step: f32, top: u8 },
    /// [`VALUES`] times a scale.
    Table { scale: f32 },
}

impl Grid {
    /// What a code stands for.
    #[inline]
    pub fn value(self, code: u8) -> f32 {
        match self {
            Self::Line { origin, step, .. } => origin + step * f32::from(code),
            Self::Table { scale } => scale * VALUES[usize::from(code & 0xf)],
        }
    }

    /// The code whose value is nearest.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the codes there are; what is no number becomes 0"
    )]
    pub fn nearest(self, value: f32) -> u8 {
        match self {
            Self::Line { step: 0.0, .. } => 0,
            Self::Line { origin, step, top } => {
                ((value - origin) / step + 0.5).clamp(0.0, f32::from(top)) as u8
            }
            Self::Table { scale: 0.0 } => 8,
            Self::Table { scale } => {
                let wanted = value / scale;
                let above = VALUES.partition_point(|&value| value < wanted).clamp(1, 15);
                let nearer_below = wanted - VALUES[above - 1] < VALUES[above] - wanted;
                (if nearer_below { above - 1 } else { above }) as u8
            }
        }
    }

    /// Whether a value lies beyond the ends of the grid, by more than what rounding costs within it.
    fn beyond(self, value: f32) -> bool {
        let step = match self {
            Self::Line { step, .. } => step.abs(),
            // The widest gap of the table.
            Self::Table { scale } => 24.0 * scale.abs(),
        };
        (value - self.value(self.nearest(value))).abs() > 0.51 * step
    }
}

/// The grids of a block, run by run.
#[derive(Debug, Clone, PartialEq)]
pub struct Grids {
    kind: Kind,
    runs: Vec<Grid>,
}

impl Grids {
    /// Those of a block. `None` for kinds that are no blocks: numbers of their own each.
    pub fn of(kind: Kind, block: &[u8]) -> Option<Self> {
        let scale = |at: usize| half_at(block, at);
        let line = |origin, step, top| vec![Grid::Line { origin, step, top }];
        let runs = match kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => return None,
            Kind::Q4_0 => line(-8.0 * scale(0), scale(0), 15),
            Kind::Q5_0 => line(-16.0 * scale(0), scale(0), 31),
            Kind::Q8_0 => line(-128.0 * scale(0), scale(0), 255),
            Kind::Q4_1 => line(scale(2), scale(0), 15),
            Kind::Q5_1 => line(scale(2), scale(0), 31),
            Kind::Iq4Nl => vec![Grid::Table { scale: scale(0) }],
            Kind::Q4K | Kind::Q5K => {
                let top = if kind == Kind::Q4K { 15 } else { 31 };
                let runs = k::scales(block).map(|(step, minimum)| Grid::Line {
                    origin: -minimum,
                    step,
                    top,
                });
                runs.to_vec()
            }
            Kind::Q6K => {
                let all = scale(208);
                let runs = block[192..208].iter().map(|&byte| {
                    let step = all * f32::from(byte.cast_signed());
                    Grid::Line {
                        origin: -32.0 * step,
                        step,
                        top: 63,
                    }
                });
                runs.collect()
            }
        };
        Some(Self { kind, runs })
    }

    /// The grid of an element.
    #[inline]
    pub fn at(&self, element: usize) -> Grid {
        self.runs[element * self.runs.len() / self.kind.block_len()]
    }

    /// Whether each value is as near to one of its grid as rounding allows.
    pub fn reach(&self, values: &[f32]) -> bool {
        !values
            .iter()
            .enumerate()
            .any(|(at, &value)| self.at(at).beyond(value))
    }

    /// Sum of the squares of what the nearest values are off by.
    pub fn error(&self, values: &[f32]) -> f32 {
        let off = |(at, &value): (usize, &f32)| {
            let grid = self.at(at);
            value - grid.value(grid.nearest(value))
        };
        values.iter().enumerate().map(off).map(|off| off * off).sum()
    }

    /// Makes the grids of `block` ones that span `values`, and returns them. Its codes are left as they are.
    pub fn span(kind: Kind, values: &[f32], block: &mut [u8]) -> Option<Self> {
        let extreme = extreme(values);
        let (low, high) = ends(values);
        let mut put = |at: usize, value: f32| block[at..at + 2].copy_from_slice(&to_f16(value).to_le_bytes());
        match kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => return None,
            Kind::Q4_0 => put(0, extreme / -8.0),
            Kind::Q5_0 => put(0, extreme / -16.0),
            Kind::Q8_0 => put(0, extreme.abs() / 127.0),
            Kind::Iq4Nl => put(0, extreme / VALUES[0]),
            Kind::Q4_1 | Kind::Q5_1 => {
                put(0, (high - low) / if kind == Kind::Q4_1 { 15.0 } else { 31.0 });
                put(2, low);
            }
            Kind::Q4K => span_k(values, 15.0, block),
            Kind::Q5K => span_k(values, 31.0, block),
            Kind::Q6K => {
                let steps: Vec<f32> = values
                    .chunks(16)
                    .map(|run| self::extreme(run).abs() / 31.0)
                    .collect();
                let scale = to_f16(steps.iter().copied().fold(0.0, f32::max) / 127.0);
                for (byte, step) in block[192..208].iter_mut().zip(steps) {
                    *byte = multiple(step, super::floats::from_f16(scale), 127);
                }
                block[208..210].copy_from_slice(&scale.to_le_bytes());
            }
        }
        Self::of(kind, block)
    }

    /// Puts the codes of a block's elements into it.
    pub fn put(&self, codes: &[u8], block: &mut [u8]) {
        match self.kind {
            Kind::F32 | Kind::F16 | Kind::Bf16 => {}
            Kind::Q4_0 | Kind::Iq4Nl => nibbles(codes, &mut block[2..]),
            Kind::Q4_1 => nibbles(codes, &mut block[4..]),
            Kind::Q5_0 | Kind::Q5_1 => {
                let at = if self.kind == Kind::Q5_0 { 2 } else { 4 };
                let fifth = codes
                    .iter()
                    .enumerate()
                    .fold(0u32, |bits, (at, code)| bits | u32::from(code >> 4) << at);
                block[at..at + 4].copy_from_slice(&fifth.to_le_bytes());
                nibbles(codes, &mut block[at + 4..]);
            }
            Kind::Q8_0 => {
                for (byte, code) in block[2..].iter_mut().zip(codes) {
                    *byte = code.wrapping_sub(128);
                }
            }
            Kind::Q4K | Kind::Q5K => {
                let at = if self.kind == Kind::Q4K { 16 } else { 48 };
                let (head, numbers) = block.split_at_mut(at);
                for (codes, bytes) in codes.chunks(64).zip(numbers.chunks_mut(32)) {
                    for (j, byte) in bytes.iter_mut().enumerate() {
                        *byte = codes[j] & 0xf | codes[j + 32] << 4;
                    }
                }
                if self.kind == Kind::Q5K {
                    for (j, byte) in head[16..].iter_mut().enumerate() {
                        *byte = (0..8).fold(0, |bits, run| bits | codes[32 * run + j] >> 4 << run);
                    }
                }
            }
            Kind::Q6K => {
                let (low, rest) = block.split_at_mut(128);
                for (half, codes) in codes.chunks(128).enumerate() {
                    for j in 0..32 {
                        let [a, b, c, d] = [0, 32, 64, 96].map(|run| codes[run + j]);
                        low[64 * half + j] = a & 0xf | c << 4;
                        low[64 * half + 32 + j] = b & 0xf | d << 4;
                        rest[32 * half + j] = a >> 4 | b >> 4 << 2 | c >> 4 << 4 | d >> 4 << 6;
                    }
                }
            }
        }
    }
}

/// Of each byte, the lower half is element j, the upper half element j + 16.
fn nibbles(codes: &[u8], bytes: &mut [u8]) {
    let (low, high) = codes.split_at(16);
    for ((byte, low), high) in bytes.iter_mut().zip(low).zip(high) {
        *byte = low & 0xf | high << 4;
    }
}

/// Scales and minima of the eight runs of a block of 256 whose codes go up to `top`.
fn span_k(values: &[f32], top: f32, block: &mut [u8]) {
    let runs: Vec<(f32, f32)> = values
        .chunks(32)
        .map(|run| {
            // A minimum is subtracted and never below zero.
            let (low, high) = ends(run);
            let low = low.min(0.0);
            ((high.max(low) - low) / top, -low)
        })
        .collect();
    let largest = |of: fn(&(f32, f32)) -> f32| runs.iter().map(of).fold(0.0, f32::max);
    let [scale, minimum] = [largest(|run| run.0), largest(|run| run.1)].map(|largest| to_f16(largest / 63.0));
    block[0..2].copy_from_slice(&scale.to_le_bytes());
    block[2..4].copy_from_slice(&minimum.to_le_bytes());
    let [scale, minimum] = [scale, minimum].map(super::floats::from_f16);
    let multiples: Vec<(u8, u8)> = runs
        .iter()
        .map(|&(step, low)| (multiple(step, scale, 63), multiple(low, minimum, 63)))
        .collect();
    k::put_scales(&multiples, block);
}

/// The least multiple of `unit`, at most `most` of them, that is no less than `value`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped before; what is no number becomes 0"
)]
fn multiple(value: f32, unit: f32, most: u8) -> u8 {
    // A little less: the unit was rounded itself.
    ((value / unit) - 1e-3).ceil().clamp(0.0, f32::from(most)) as u8
}

/// The value with the largest magnitude, or 0.
fn extreme(values: &[f32]) -> f32 {
    values.iter().copied().fold(
        0.0,
        |most: f32, value| if value.abs() > most.abs() { value } else { most },
    )
}

/// The smallest and the largest value.
fn ends(values: &[f32]) -> (f32, f32) {
    let first = values.first().copied().unwrap_or(0.0);
    values.iter().fold((first, first), |(low, high), &value| {
        (low.min(value), high.max(value))
    })
}

/// The half-precision number at `at`.
fn half_at(block: &[u8], at: usize) -> f32 {
    // Every caller's block is of its kind, which is longer.
    block[at..].first_chunk::<2>().map_or(0.0, |bytes| half(bytes, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn blocks() -> impl Iterator<Item = (Kind, Vec<u8>)> {
        Kind::ALL
            .into_iter()
            .filter(|kind| kind.block_len() > 1)
            .flat_map(|kind| {
                let mut random = Random::new(7);
                (0..20).map(move |_| {
                    (
                        kind,
                        crate::made_up::values(&mut random, kind, kind.block_len(), 0.3),
                    )
                })
            })
    }

    fn dequantised(kind: Kind, block: &[u8]) -> Vec<f32> {
        let mut values = vec![0.0; kind.block_len()];
        kind.dequantise(block, &mut values);
        values
    }

    #[test]
    fn a_block_that_is_taken_apart_is_the_same_put_together() {
        for (kind, block) in blocks() {
            let values = dequantised(kind, &block);
            let grids = Grids::of(kind, &block).unwrap();
            assert!(grids.reach(&values), "{kind:?}");
            let codes: Vec<u8> = (0..values.len())
                .map(|at| grids.at(at).nearest(values[at]))
                .collect();
            let mut again = block.clone();
            // The codes alone say what there is.
            let zeros = vec![0; codes.len()];
            grids.put(&zeros, &mut again);
            grids.put(&codes, &mut again);
            let same = dequantised(kind, &again);
            // A step that is zero has many codes for one value.
            for (value, same) in values.iter().zip(&same) {
                assert!(
                    (value - same).abs() <= 1e-6 * value.abs(),
                    "{kind:?}: {value} {same}"
                );
            }
        }
    }

    #[test]
    fn grids_that_are_made_span_the_values() {
        let mut random = Random::new(9);
        for (kind, block) in blocks() {
            for deviation in [1e-4, 0.1, 30.0] {
                let values = random.normals(kind.block_len(), deviation);
                let mut made = block.clone();
                let grids = Grids::span(kind, &values, &mut made).unwrap();
                assert_eq!(Some(&grids), Grids::of(kind, &made).as_ref());
                let codes: Vec<u8> = (0..values.len())
                    .map(|at| grids.at(at).nearest(values[at]))
                    .collect();
                grids.put(&codes, &mut made);
                let found = dequantised(kind, &made);
                let error: f32 = values.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum();
                let energy: f32 = values.iter().map(|value| value * value).sum();
                // A step of a sixteenth of the range of 32 normal numbers, or less.
                assert!(error < 0.02 * energy, "{kind:?} {deviation}: {error} of {energy}");
                assert!((error - grids.error(&values)).abs() <= 1e-3 * energy);
            }
        }
        for kind in Kind::ALL.into_iter().filter(|kind| kind.block_len() > 1) {
            let mut block = vec![0xff; kind.block_bytes()];
            let zeros = vec![0.0; kind.block_len()];
            let grids = Grids::span(kind, &zeros, &mut block).unwrap();
            let codes: Vec<u8> = zeros
                .iter()
                .enumerate()
                .map(|(at, &zero)| grids.at(at).nearest(zero))
                .collect();
            grids.put(&codes, &mut block);
            assert_eq!(dequantised(kind, &block), zeros, "{kind:?}");
        }
    }

    #[test]
    fn what_lies_beyond_is_seen() {
        let line = Grid::Line {
            origin: -8.0,
            step: 1.0,
            top: 15,
        };
        assert!(!line.beyond(7.5) && line.beyond(7.6) && line.beyond(-8.6));
        assert_eq!(
            [-20.0, -7.4, 6.6, 20.0].map(|value| line.nearest(value)),
            [0, 1, 15, 15]
        );
        let nothing = Grid::Line {
            origin: 0.0,
            step: 0.0,
            top: 15,
        };
        assert!(nothing.beyond(1e-9) && !nothing.beyond(0.0));
        let table = Grid::Table { scale: -1.0 };
        assert_eq!(table.value(table.nearest(104.0)), 104.0);
        assert_eq!(
            [-130.0, -1.0, 11.4, 200.0].map(|value| table.nearest(value)),
            [15, 8, 7, 0]
        );
    }
}
