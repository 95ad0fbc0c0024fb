//! Rotary positions: pairs of a head's elements are turned by an angle that grows with the token's position
//! (Su et al., "RoFormer", 2021). GGUF's weights are laid out for it, so nothing is permuted.

use crate::matrix::Target;
use crate::threads::Pool;

/// Which elements of a head make pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pairs {
    /// 2i and 2i + 1.
    Neighbours,
    /// i and i + half of the head.
    Halves,
}

/// How the heads of a model are turned.
#[derive(Debug, Clone)]
pub struct Rotation {
    pairs: Pairs,
    head: usize,
    /// Angle of each pair at position 1.
    frequencies: Vec<f64>,
}

/// Cosines and sines of a sequence's positions.
#[derive(Debug, Default)]
pub struct Angles {
    /// For each token, for each pair, cosine and sine.
    table: Vec<[f32; 2]>,
}

impl Rotation {
    /// Heads of `head` elements. Pair i turns by `base` to the power of −2i / `head` a position, divided by `scale`
    /// and, if there are any, by its factor.
    pub fn new(pairs: Pairs, head: usize, base: f64, scale: f64, factors: Option<&[f32]>) -> Self {
        let frequency = |pair: usize| {
            let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
            base.powf(-2.0 * pair as f64 / head as f64) / scale / factor
        };
        Self {
            pairs,
            head,
            frequencies: (0..head / 2).map(frequency).collect(),
        }
    }

    /// The angles of these positions.
    pub fn angles(&self, positions: &[u32]) -> Angles {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "cosines and sines are used in single precision"
        )]
        let turn = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
        let of = |position: &u32| {
            let position = f64::from(*position);
            self.frequencies
                .iter()
                .map(move |frequency| turn(position * frequency))
        };
        Angles {
            table: positions.iter().flat_map(of).collect(),
        }
    }

    /// Turns all heads of all rows.
    pub fn turn(&self, pool: &Pool, rows: &mut [f32], width: usize, angles: &Angles) {
        self.apply(pool, rows, width, angles, 1.0);
    }

    /// Turns them back, which is also how gradients go backwards.
    pub fn turn_back(&self, pool: &Pool, rows: &mut [f32], width: usize, angles: &Angles) {
        self.apply(pool, rows, width, angles, -1.0);
    }

    fn apply(&self, pool: &Pool, rows: &mut [f32], width: usize, angles: &Angles, direction: f32) {
        let pairs = self.head / 2;
        let count = rows.len() / width;
        let rows = Target::new(rows, count, width);
        pool.run_ranges(count, 64, |range| {
            for at in range {
                // SAFETY: each row is in one range, and each range is one task's.
                let row = unsafe { rows.row(at) };
                let angles = &angles.table[at * pairs..][..pairs];
                for head in row.chunks_exact_mut(self.head) {
                    for (pair, [cos, sin]) in angles.iter().enumerate() {
                        let (first, second) = match self.pairs {
                            Pairs::Neighbours => (2 * pair, 2 * pair + 1),
                            Pairs::Halves => (pair, pair + pairs),
                        };
                        let (x, y, sin) = (head[first], head[second], sin * direction);
                        head[first] = x * cos - y * sin;
                        head[second] = x * sin + y * cos;
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::random::Random;

    #[test]
    fn pairs_are_turned_by_their_angles() {
        let pool = Pool::new(1).unwrap();
        let factors = [1.0, 4.0];
        for (pairs, [a, b, c, d]) in [(Pairs::Neighbours, [0, 1, 2, 3]), (Pairs::Halves, [0, 2, 1, 3])] {
            let rotation = Rotation::new(pairs, 4, 100.0, 2.0, Some(&factors));
            let angles = rotation.angles(&[3]);
            let mut row = [0.0; 4];
            (row[a], row[b], row[c], row[d]) = (1.0, 0.0, 0.0, 2.0);
            rotation.turn(&pool, &mut row, 4, &angles);
            let (first, second) = (3.0f32 / 2.0, 3.0f32 / 10.0 / 2.0 / 4.0);
            let expected = [first.cos(), first.sin(), -2.0 * second.sin(), 2.0 * second.cos()];
            for (at, expected) in [a, b, c, d].into_iter().zip(expected) {
                assert!((row[at] - expected).abs() < 1e-6, "{pairs:?} {row:?}");
            }
        }
    }

    #[test]
    fn back_is_the_derivative() {
        let (pool, mut random) = (Pool::new(2).unwrap(), Random::new(5));
        let rotation = Rotation::new(Pairs::Halves, 6, 100.0, 1.0, None);
        let angles = rotation.angles(&[0, 1, 2, 0, 1]);
        let (x, weights) = (random.normals(5 * 12, 1.0), random.normals(5 * 12, 1.0));
        let loss = |x: &[f32]| {
            let mut x = x.to_vec();
            rotation.turn(&pool, &mut x, 12, &angles);
            x.iter()
                .zip(&weights)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let mut gradient = weights.clone();
        rotation.turn_back(&pool, &mut gradient, 12, &angles);
        assert_derivative("rotation", &x, &gradient, loss);
    }
}
