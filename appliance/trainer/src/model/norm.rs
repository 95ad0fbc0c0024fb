//! Root mean square normalisation (Zhang and Sennrich, 2019): y = x / √(mean x² + ε) · w.

use crate::matrix::Target;
use crate::threads::Pool;
use crate::vector;

/// Rows of a task.
const ROWS: usize = 32;

fn inverse_root(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (vector::dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

/// Normalises each row of `input`, of the width of `weight`.
pub fn forward(pool: &Pool, input: &[f32], weight: &[f32], epsilon: f32, output: &mut [f32]) {
    let width = weight.len();
    let count = input.len() / width;
    let output = Target::new(output, count, width);
    pool.run_ranges(count, ROWS, |range| {
        for at in range {
            let row = &input[at * width..][..width];
            // SAFETY: each row is in one range, and each range is one task's.
            let output = unsafe { output.row(at) };
            vector::scaled_product(output, row, inverse_root(row, epsilon), weight);
        }
    });
}

/// Adds to `by_input` the gradient of the input, of which `by_output` is the gradient of the output.
///
/// With r = 1 / √(mean x² + ε): dx = r·w·dy − x · r³ · mean(x·w·dy).
pub fn backward(
    pool: &Pool,
    input: &[f32],
    weight: &[f32],
    epsilon: f32,
    by_output: &[f32],
    by_input: &mut [f32],
) {
    let width = weight.len();
    let count = input.len() / width;
    let by_input = Target::new(by_input, count, width);
    pool.run_ranges(count, ROWS, |range| {
        for at in range {
            let (row, by_output) = (&input[at * width..][..width], &by_output[at * width..][..width]);
            // SAFETY: each row is in one range, and each range is one task's.
            let by_input = unsafe { by_input.row(at) };
            let root = inverse_root(row, epsilon);
            let mean = vector::dot3(row, weight, by_output) / width as f32;
            vector::add_scaled_product(by_input, root, weight, by_output);
            vector::add_scaled(by_input, -root * root * root * mean, row);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::random::Random;

    #[test]
    fn rows_have_the_weights_size() {
        let pool = Pool::new(2).unwrap();
        let mut output = [0.0; 4];
        forward(&pool, &[3.0, 4.0, 0.0, 0.0], &[1.0, 2.0], 0.0, &mut output);
        let root = 12.5f32.sqrt();
        assert!((output[0] - 3.0 / root).abs() < 1e-6 && (output[1] - 8.0 / root).abs() < 1e-6);
        assert!(output[2].is_nan(), "no ε, no value");
    }

    #[test]
    fn derivative() {
        let (pool, mut random) = (Pool::new(2).unwrap(), Random::new(6));
        let (x, weight, by_output) = (
            random.normals(40 * 37, 1.0),
            random.normals(37, 1.0),
            random.normals(40 * 37, 1.0),
        );
        let loss = |x: &[f32]| {
            let mut output = vec![0.0; x.len()];
            forward(&pool, x, &weight, 0.1, &mut output);
            output
                .iter()
                .zip(&by_output)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let start = random.normals(x.len(), 1.0);
        let mut gradient = start.clone();
        backward(&pool, &x, &weight, 0.1, &by_output, &mut gradient);
        gradient
            .iter_mut()
            .zip(&start)
            .for_each(|(gradient, start)| *gradient -= start);
        assert_derivative("norm", &x, &gradient, loss);
    }
}
