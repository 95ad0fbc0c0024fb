//! Derivatives checked against finite differences; tests only.

use crate::random::Random;

/// The shorter of two steps: short enough for the curvature, long enough for single precision.
const STEP: f32 = 5e-3;

/// Asserts that `gradient` is the derivative of `loss` at `at`: along random directions and, of each of up to twelve
/// coordinates, alone.
pub fn assert_derivative(what: &str, at: &[f32], gradient: &[f32], loss: impl Fn(&[f32]) -> f64) {
    assert_eq!(at.len(), gradient.len(), "{what}");
    let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    assert!(
        norm > 0.0 && norm.is_finite(),
        "{what}: a gradient of length {norm}"
    );
    let mut random = Random::new(at.len() as u64);
    let count = at.len();
    for _ in 0..4 {
        let direction = random.normals(count, 1.0 / (count as f32).sqrt());
        assert_slope(
            what,
            at,
            gradient,
            &direction,
            norm / (count as f64).sqrt(),
            &loss,
        );
    }
    for _ in 0..12.min(count) {
        let mut direction = vec![0.0; count];
        direction[random.below(u32::try_from(count).unwrap()) as usize] = 1.0;
        assert_slope(
            what,
            at,
            gradient,
            &direction,
            norm / (count as f64).sqrt(),
            &loss,
        );
    }
}

/// Asserts that the loss rises along `direction` as the gradient says, within 1 % of that or of `typical`.
fn assert_slope(
    what: &str,
    at: &[f32],
    gradient: &[f32],
    direction: &[f32],
    typical: f64,
    loss: &impl Fn(&[f32]) -> f64,
) {
    let expected: f64 = gradient
        .iter()
        .zip(direction)
        .map(|(g, d)| f64::from(*g) * f64::from(*d))
        .sum();
    let slope = |step: f32| {
        let moved = |step: f32| -> Vec<f32> { at.iter().zip(direction).map(|(x, d)| x + step * d).collect() };
        (loss(&moved(step)) - loss(&moved(-step))) / (2.0 * f64::from(step))
    };
    // Richardson's extrapolation: what is left is of the fourth order of the step.
    let found = (4.0 * slope(STEP) - slope(2.0 * STEP)) / 3.0;
    let allowed = 0.01 * expected.abs().max(typical);
    assert!(
        (found - expected).abs() <= allowed,
        "{what}: slope {found}, gradient says {expected}"
    );
}
