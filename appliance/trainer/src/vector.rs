//! Elementary functions of rows of numbers, compiled for the best instructions of the machine.
//!
//! Sums are kept in [`LANES`] partial sums, so that they can be vectorised and are the same on every machine.

/// Partial sums of a sum.
const LANES: usize = 32;

/// e to the power of `x`, with a relative error below 3·10⁻⁷; numbers out of range give the nearest that single
/// precision has but not infinity or zero. Not-a-number stays what it is.
///
/// 2 to the power of the nearest integer of x·log₂e, times a polynomial of what remains (Cephes `expf`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// Adding it rounds to an integer, which is then in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons that leave not-a-number alone, other than `clamp` compiled with `min` and `max`.
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let whole = rounded - ROUND;
    let rest = x - whole * LN2_HIGH - whole * LN2_LOW;
    let mut polynomial = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        polynomial = polynomial * rest + coefficient;
    }
    let polynomial = polynomial * rest * rest + rest + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    polynomial * f32::from_bits(exponent)
}

/// The logistic function.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn vectorised<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Sum of `term(i)` for i below `len`.
#[inline(always)]
fn sum(len: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let whole = len / LANES * LANES;
    let mut at = 0;
    while at < whole {
        for (lane, sum) in lanes.iter_mut().enumerate() {
            *sum += term(at + lane);
        }
        at += LANES;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    (whole..len).fold(lanes[0], |sum, at| sum + term(at))
}

/// Sum of the products of two rows.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let len = a.len().min(b.len());
    let (a, b) = (&a[..len], &b[..len]);
    vectorised(
        #[inline(always)]
        || sum(len, |i| a[i] * b[i]),
    )
}

/// The largest element, or negative infinity. Not-a-number is passed over.
pub fn max(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    vectorised(
        #[inline(always)]
        || {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            let (chunks, rest) = row.as_chunks::<LANES>();
            for chunk in chunks {
                for (lane, &value) in lanes.iter_mut().zip(chunk) {
                    *lane = larger(*lane, value);
                }
            }
            lanes
                .iter()
                .chain(rest)
                .fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
        },
    )
}

/// Each element becomes e to the power of it less `shift`; returns their sum.
pub fn exp_shifted(row: &mut [f32], shift: f32) -> f32 {
    vectorised(
        #[inline(always)]
        || {
            for value in row.iter_mut() {
                *value = exp(*value - shift);
            }
            sum(row.len(), |i| row[i])
        },
    )
}

/// Multiplies each element.
pub fn scale(row: &mut [f32], factor: f32) {
    vectorised(
        #[inline(always)]
        || row.iter_mut().for_each(|value| *value *= factor),
    );
}

/// `to += factor · from`.
pub fn add_scaled(to: &mut [f32], factor: f32, from: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to += factor * from;
            }
        },
    );
}

/// `probabilities · (gradient − shift) · factor`, element by element, written to `gradient`: backwards through a
/// softmax whose gradient's mean is `shift`.
pub fn softmax_backward(gradient: &mut [f32], probabilities: &[f32], shift: f32, factor: f32) {
    vectorised(
        #[inline(always)]
        || {
            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                *gradient = probability * (*gradient - shift) * factor;
            }
        },
    );
}

/// `out = input · factor · weight`, element by element.
pub fn scaled_product(out: &mut [f32], input: &[f32], factor: f32, weight: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((out, input), weight) in out.iter_mut().zip(input).zip(weight) {
                *out = input * factor * weight;
            }
        },
    );
}

/// `to += factor · a · b`, element by element.
pub fn add_scaled_product(to: &mut [f32], factor: f32, a: &[f32], b: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
                *to += factor * a * b;
            }
        },
    );
}

/// Sum of `a · b · c`, element by element.
pub fn dot3(a: &[f32], b: &[f32], c: &[f32]) -> f32 {
    let len = a.len().min(b.len()).min(c.len());
    let (a, b, c) = (&a[..len], &b[..len], &c[..len]);
    vectorised(
        #[inline(always)]
        || sum(len, |i| a[i] * b[i] * c[i]),
    )
}

/// `out = gate · sigmoid(gate) · up`: the gated unit of the feed-forward part (`SwiGLU`).
pub fn swiglu(out: &mut [f32], gate: &[f32], up: &[f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
                *out = gate * sigmoid(gate) * up;
            }
        },
    );
}

/// Backwards through [`swiglu`]: `gate` and `up` become their own gradients.
pub fn swiglu_backward(gradient: &[f32], gate: &mut [f32], up: &mut [f32]) {
    vectorised(
        #[inline(always)]
        || {
            for ((&gradient, gate), up) in gradient.iter().zip(gate).zip(up) {
                let (g, u) = (*gate, *up);
                let sigmoid = sigmoid(g);
                *gate = gradient * u * sigmoid * (1.0 + g * (1.0 - sigmoid));
                *up = gradient * g * sigmoid;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::difference::assert_derivative;
    use crate::random::Random;

    #[test]
    fn exp_is_precise_over_its_range() {
        let mut worst = 0.0f64;
        for step in -870_000..880_000 {
            let x = step as f32 * 1e-4;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / expected - 1.0).abs());
        }
        assert!(worst < 3e-7, "{worst:e}");
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37 && exp(1e9).is_finite() && exp(f32::INFINITY) > 1e38);
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn sums_of_all_lengths() {
        let mut random = Random::new(2);
        for len in 0..100 {
            let (a, b) = (random.normals(len, 1.0), random.normals(len, 1.0));
            let expected: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(a * b)).sum();
            assert!((f64::from(dot(&a, &b)) - expected).abs() < 1e-5);
            assert!((dot3(&a, &b, &vec![2.0; len]) - 2.0 * dot(&a, &b)).abs() < 1e-5);
            assert_eq!(max(&a), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let mut row = a.clone();
            let expected: f64 = a.iter().map(|&x| f64::from(x - 0.5).exp()).sum();
            assert!(
                (f64::from(exp_shifted(&mut row, 0.5)) / expected.max(1e-30) - 1.0).abs() < 1e-5 || len == 0
            );
        }
        assert!(exp_shifted(&mut [f32::NAN], 0.0).is_nan());
    }

    #[test]
    fn the_gated_unit_and_its_derivatives() {
        let mut random = Random::new(3);
        let (gate, up, weight) = (
            random.normals(50, 2.0),
            random.normals(50, 1.0),
            random.normals(50, 1.0),
        );
        let loss = |gate: &[f32], up: &[f32]| {
            let mut out = vec![0.0; 50];
            swiglu(&mut out, gate, up);
            out.iter()
                .zip(&weight)
                .map(|(a, b)| f64::from(*a) * f64::from(*b))
                .sum()
        };
        let (mut by_gate, mut by_up) = (gate.clone(), up.clone());
        swiglu_backward(&weight, &mut by_gate, &mut by_up);
        assert_derivative("gate", &gate, &by_gate, |gate| loss(gate, &up));
        assert_derivative("up", &up, &by_up, |up| loss(&gate, up));
    }
}
