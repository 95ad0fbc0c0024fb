//! Sums of exponentials over a whole vocabulary, fast enough to be done for every token.
//!
//! A vocabulary of 152 000 tokens costs the C library's `expf` most of a millisecond. The polynomial here has a
//! relative error below 2e-7 and is written so that the compiler turns it into vector code.

/// `e^x` for `x` ≤ 0 (0 below -87, where `f32` ends).
#[inline(always)]
fn exp_nonpositive(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that `x - n ln 2` loses no bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to the nearest whole number without a call.
    const ROUND: f32 = 12_582_912.0;
    let clamped = if x >= -87.0 { x } else { -87.0 };
    let n = (clamped * LOG2_E + ROUND) - ROUND;
    let r = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 0.166_666_65;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    #[expect(clippy::cast_possible_truncation, reason = "n lies between -126 and 0")]
    let scale = f32::from_bits((((n as i32) + 127) as u32) << 23);
    if x >= -87.0 { p * scale } else { 0.0 }
}

/// `Σ e^((l - max) · inverse)`; each term is also written to `terms` when there is room for it.
#[inline(always)]
fn sum_body<const KEEP: bool>(logits: &[f32], max: f32, inverse: f32, terms: &mut [f32]) -> f64 {
    const LANES: usize = 16;
    // Blocks keep the f32 lanes short, so that the f64 total stays exact to seven digits.
    const BLOCK: usize = LANES * 64;
    let mut total = 0.0_f64;
    for (at, block) in logits.chunks(BLOCK).enumerate() {
        let mut lanes = [0.0_f32; LANES];
        let chunks = block.chunks_exact(LANES);
        let rest = chunks.remainder();
        let offset = at * BLOCK;
        for (index, chunk) in chunks.enumerate() {
            let mut values = [0.0_f32; LANES];
            for lane in 0..LANES {
                values[lane] = exp_nonpositive((chunk[lane] - max) * inverse);
                lanes[lane] += values[lane];
            }
            if KEEP {
                terms[offset + index * LANES..][..LANES].copy_from_slice(&values);
            }
        }
        total += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
        let tail = offset + block.len() - rest.len();
        for (index, logit) in rest.iter().enumerate() {
            let value = exp_nonpositive((logit - max) * inverse);
            total += f64::from(value);
            if KEEP {
                terms[tail + index] = value;
            }
        }
    }
    total
}

#[target_feature(enable = "avx2,fma")]
fn sum_avx2<const KEEP: bool>(logits: &[f32], max: f32, inverse: f32, terms: &mut [f32]) -> f64 {
    sum_body::<KEEP>(logits, max, inverse, terms)
}

fn sum_any<const KEEP: bool>(logits: &[f32], max: f32, inverse: f32, terms: &mut [f32]) -> f64 {
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: both features were detected just above.
        unsafe { sum_avx2::<KEEP>(logits, max, inverse, terms) }
    } else {
        sum_body::<KEEP>(logits, max, inverse, terms)
    }
}

/// `Σ e^(l - max)`: the softmax denominator at temperature 1.
pub fn sum(logits: &[f32], max: f32) -> f64 {
    sum_any::<false>(logits, max, 1.0, &mut [])
}

/// As [`sum`] at a temperature whose inverse is given, with each term written to `terms` (same length).
///
/// # Panics
/// When `terms` is shorter than `logits`.
pub fn sum_and_terms(logits: &[f32], max: f32, inverse: f32, terms: &mut [f32]) -> f64 {
    sum_any::<true>(logits, max, inverse, &mut terms[..logits.len()])
}

/// The largest logit and its index (the first of equals); `None` when there is none or one is NaN or +∞.
pub fn largest(logits: &[f32]) -> Option<(usize, f32)> {
    // Two passes: the first is plain vector code, the second stops early.
    let mut max = f32::NEG_INFINITY;
    let mut sound = true;
    for &logit in logits {
        sound &= logit < f32::INFINITY;
        max = if logit > max { logit } else { max };
    }
    if !sound || max == f32::NEG_INFINITY {
        return None;
    }
    let index = logits.iter().position(|logit| *logit >= max)?;
    Some((index, max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_exponential_is_exact_to_seven_digits() {
        for step in 0..=870_000_u32 {
            let x = -(step as f32) / 10_000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp_nonpositive(x)) - exact).abs();
            assert!(error <= exact * 3e-7 + 1e-38, "e^{x} is off by {error}");
        }
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-1000.0), 0.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn what_is_not_a_number_is_noticed() {
        assert_eq!(largest(&[1.0, 3.0, 3.0]), Some((1, 3.0)));
        assert_eq!(largest(&[f32::NEG_INFINITY, 2.0]), Some((1, 2.0)));
        assert_eq!(largest(&[1.0, f32::NAN]), None);
        assert_eq!(largest(&[f32::NAN, 1.0]), None);
        assert_eq!(largest(&[1.0, f32::INFINITY]), None);
        assert_eq!(largest(&[f32::NEG_INFINITY]), None);
        assert_eq!(largest(&[]), None);
    }

    proptest! {
        #[test]
        fn the_sum_agrees_with_the_plain_way(logits in proptest::collection::vec(-40.0_f32..40.0, 1..3000)) {
            let (_, max) = largest(&logits).unwrap();
            let plain: f64 = logits.iter().map(|l| f64::from(l - max).exp()).sum();
            prop_assert!((sum(&logits, max) - plain).abs() < plain * 1e-5);
            let mut terms = vec![0.0; logits.len()];
            let kept = sum_and_terms(&logits, max, 1.0, &mut terms);
            prop_assert!((kept - plain).abs() < plain * 1e-5);
            let again: f64 = terms.iter().map(|t| f64::from(*t)).sum();
            prop_assert!((again - plain).abs() < plain * 1e-5);
            prop_assert!((sum_body::<false>(&logits, max, 1.0, &mut []) - plain).abs() < plain * 1e-5);
        }
    }
}
