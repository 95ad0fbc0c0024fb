//! The optimiser: Adam (Kingma, Ba, 2015, algorithm 1) with decoupled weight decay (Loshchilov, Hutter: *Decoupled
//! Weight Decay Regularization*, 2019, algorithm 2), whose decay is scaled by the learning rate as PyTorch's is.

/// Decay of the mean of gradients.
const BETA1: f64 = 0.9;
/// Decay of the mean of their squares.
const BETA2: f64 = 0.999;
/// Keeps the quotient finite.
const EPSILON: f64 = 1e-8;

/// What the optimiser remembers of the gradients so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Steps that are in them.
    pub count: u64,
    /// Mean of gradients, one for each parameter.
    pub first: Vec<f32>,
    /// Mean of their squares.
    pub second: Vec<f32>,
}

/// What a step is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Learning rate.
    pub rate: f64,
    /// Weight decay, before it is multiplied by the rate.
    pub weight_decay: f64,
    /// What each gradient is multiplied by: one over the number of tokens, and the clipping.
    pub scale: f64,
}

impl Moments {
    /// Of no gradients yet.
    #[must_use]
    pub fn new(parameters: usize) -> Self {
        Self {
            count: 0,
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
        }
    }

    /// Moves `parameters` against `gradient`. In place, in f32; the corrections of the step are computed in f64.
    #[expect(clippy::cast_possible_truncation, reason = "rounded to f32 on purpose")]
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32], step: Step) {
        self.count += 1;
        // Beyond 2^31 steps both corrections are 1.
        let count = i32::try_from(self.count).unwrap_or(i32::MAX);
        let first_correction = 1.0 - BETA1.powi(count);
        let second_correction = 1.0 - BETA2.powi(count);
        let (beta1, beta2) = (BETA1 as f32, BETA2 as f32);
        let (rest1, rest2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
        let rate = (step.rate / first_correction) as f32;
        let root = (1.0 / second_correction.sqrt()) as f32;
        let keep = (1.0 - step.rate * step.weight_decay) as f32;
        let (scale, epsilon) = (step.scale as f32, EPSILON as f32);
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in parameters.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * scale;
            *first = beta1 * *first + rest1 * gradient;
            *second = beta2 * *second + rest2 * gradient * gradient;
            *parameter = keep * *parameter - rate * *first / (second.sqrt() * root + epsilon);
        }
    }
}

/// Euclidean norm, summed in f64; not finite where a component is not.
#[must_use]
pub fn norm(gradient: &[f32]) -> f64 {
    // Sums of blocks, so that the compiler may add several at once; always in the same order.
    let blocks = gradient.chunks(16);
    let mut sums = [0.0_f64; 16];
    for block in blocks {
        for (sum, component) in sums.iter_mut().zip(block) {
            let component = f64::from(*component);
            *sum += component * component;
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// What a gradient of this norm is multiplied by so that its norm is at most `most`.
#[must_use]
pub fn clipping(norm: f64, most: f64) -> f64 {
    if norm > most { most / norm } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The algorithm as it is printed, in f64, one parameter.
    fn printed(mut theta: f64, gradients: &[f64], rate: f64, decay: f64) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for (t, g) in (1..).zip(gradients) {
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let m_hat = m / (1.0 - 0.9_f64.powi(t));
            let v_hat = v / (1.0 - 0.999_f64.powi(t));
            theta -= rate * decay * theta;
            theta -= rate * m_hat / (v_hat.sqrt() + 1e-8);
        }
        theta
    }

    #[test]
    fn it_is_the_printed_algorithm() {
        let gradients: [[f64; 3]; 5] = [
            [0.5, 1e-6, 0.0],
            [-0.25, 1e-6, 0.0],
            [1.0, -1e-6, 10.0],
            [3.0, 2e-6, 0.0],
            [-2.0, 0.0, 0.0],
        ];
        let begin = [1.0_f32, -2.0, 0.5];
        let mut parameters = begin;
        let mut moments = Moments::new(3);
        for gradient in gradients {
            #[expect(clippy::cast_possible_truncation, reason = "a test's numbers")]
            let gradient = gradient.map(|component| component as f32);
            let step = Step {
                rate: 0.01,
                weight_decay: 0.1,
                scale: 1.0,
            };
            moments.step(&mut parameters, &gradient, step);
        }
        for of in 0..3 {
            let expected = printed(f64::from(begin[of]), &gradients.map(|g| g[of]), 0.01, 0.1);
            let got = f64::from(parameters[of]);
            assert!((got - expected).abs() < 2e-6, "{of}: {got} instead of {expected}");
        }
    }

    #[test]
    fn decay_is_decoupled_from_the_gradient() {
        let mut moments = Moments::new(1);
        let mut parameters = [2.0];
        for _ in 0..10 {
            let step = Step {
                rate: 0.1,
                weight_decay: 0.5,
                scale: 1.0,
            };
            moments.step(&mut parameters, &[0.0], step);
        }
        assert!((parameters[0] - 2.0 * 0.95_f32.powi(10)).abs() < 1e-5);
        assert_eq!((moments.first[0], moments.second[0]), (0.0, 0.0));
    }

    #[test]
    fn a_scale_is_the_same_as_a_scaled_gradient() {
        let step = |scale| Step {
            rate: 0.1,
            weight_decay: 0.0,
            scale,
        };
        let (mut one, mut other) = (Moments::new(2), Moments::new(2));
        let (mut a, mut b) = ([1.0, 1.0], [1.0, 1.0]);
        one.step(&mut a, &[8.0, -4.0], step(0.25));
        other.step(&mut b, &[2.0, -1.0], step(1.0));
        assert_eq!((a, one), (b, other));
    }

    #[test]
    fn a_gradient_that_is_too_long_is_shortened_and_no_other() {
        assert!((norm(&[3.0, 4.0]) - 5.0).abs() < 1e-12);
        let long = [2.0; 100];
        assert!((norm(&long) - 20.0).abs() < 1e-12);
        assert!((norm(&long) * clipping(norm(&long), 1.0) - 1.0).abs() < 1e-12);
        assert!((clipping(0.5, 1.0) - 1.0).abs() < 1e-12);
        assert!((clipping(0.0, 1.0) - 1.0).abs() < 1e-12);
        // Squares of these do not fit f32.
        assert!(norm(&[1e30, 1e30]).is_finite());
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!norm(&[1.0, broken, 0.0]).is_finite());
        }
    }
}
