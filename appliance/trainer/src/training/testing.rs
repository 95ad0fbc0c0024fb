//! A learner small enough to be checked by hand: which token follows which, with a low-rank update.

use crate::Error;
use crate::learner::{Anchor, Learner, Loss, Sequence};

use super::data::Example;
use super::shuffle::stream;
use crate::random::Random;

/// Softmax over `frozen[x] + b[x] · a`: logits of the token after `x`. The parameters are `a` (rank × vocabulary), then
/// `b` (vocabulary × rank).
#[derive(Debug, Clone)]
pub struct Bigram {
    pub vocabulary: usize,
    pub rank: usize,
    frozen: Vec<f32>,
}

impl Bigram {
    pub fn new(vocabulary: usize, rank: usize) -> Self {
        let mut random = stream(99, 0);
        let frozen = (0..vocabulary * vocabulary)
            .map(|_| uniform(&mut random))
            .collect();
        Self {
            vocabulary,
            rank,
            frozen,
        }
    }

    fn probabilities(&self, parameters: &[f32], token: usize) -> Vec<f64> {
        let (a, b) = parameters.split_at(self.rank * self.vocabulary);
        let logits: Vec<f64> = (0..self.vocabulary)
            .map(|next| {
                let update: f32 = (0..self.rank)
                    .map(|k| b[token * self.rank + k] * a[k * self.vocabulary + next])
                    .sum();
                f64::from(self.frozen[token * self.vocabulary + next] + update)
            })
            .collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|logit| (logit - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// Adds `weight` times the derivatives of the cross-entropy of what it says after `before` with `aim`.
    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    fn derive(
        &self,
        parameters: &[f32],
        before: usize,
        aim: impl Fn(usize) -> f64,
        weight: f32,
        gradient: &mut [f32],
    ) {
        let half = self.rank * self.vocabulary;
        for (next, probability) in self.probabilities(parameters, before).iter().enumerate() {
            let error = weight * (probability - aim(next)) as f32;
            for k in 0..self.rank {
                let (a, b) = (k * self.vocabulary + next, half + before * self.rank + k);
                gradient[a] += parameters[b] * error;
                gradient[b] += parameters[a] * error;
            }
        }
    }

    /// Token before and token, of each target.
    fn pairs(sequence: &Sequence) -> impl Iterator<Item = (usize, usize)> + '_ {
        let token = |at: usize| usize::try_from(sequence.tokens[at]).unwrap();
        (1..sequence.tokens.len())
            .filter(|at| sequence.targets[*at])
            .map(move |at| {
                assert_eq!(
                    sequence.segments[at],
                    sequence.segments[at - 1],
                    "a target has a token before it"
                );
                (token(at - 1), token(at))
            })
    }
}

/// Between -0.5 and 0.5.
fn uniform(random: &mut Random) -> f32 {
    random.unit() - 0.5
}

impl Learner for Bigram {
    fn parameters(&self) -> usize {
        2 * self.rank * self.vocabulary
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let mut random = stream(seed, u64::MAX);
        let half = self.rank * self.vocabulary;
        let mut parameters: Vec<f32> = (0..half).map(|_| uniform(&mut random)).collect();
        parameters.resize(2 * half, 0.0);
        parameters
    }

    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, Error> {
        let mut loss = Loss::default();
        for (before, token) in Self::pairs(sequence) {
            loss.nll -= self.probabilities(parameters, before)[token].ln();
            loss.tokens += 1;
        }
        Ok(loss)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        for (before, token) in Self::pairs(sequence) {
            let aim = |next| f64::from(u8::from(next == token));
            self.derive(parameters, before, aim, 1.0, gradient);
        }
        self.loss(parameters, sequence)
    }

    #[expect(clippy::cast_possible_truncation, reason = "anchors are f32")]
    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, Error> {
        let nothing = vec![0.0; self.parameters()];
        let mut anchor = Anchor {
            values: Vec::new(),
            entropy: 0.0,
            tokens: 0,
        };
        for (before, _) in Self::pairs(sequence) {
            let said = self.probabilities(&nothing, before);
            anchor.entropy -= said.iter().map(|p| p * p.ln()).sum::<f64>();
            anchor.values.extend(said.iter().map(|p| *p as f32));
            anchor.tokens += 1;
        }
        Ok(anchor)
    }

    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, Error> {
        let mut drift = -anchor.entropy;
        let aims = anchor.values.chunks(self.vocabulary);
        for ((before, _), aim) in Self::pairs(sequence).zip(aims) {
            let said = self.probabilities(parameters, before);
            drift -= said
                .iter()
                .zip(aim)
                .map(|(p, aim)| f64::from(*aim) * p.ln())
                .sum::<f64>();
            self.derive(parameters, before, |next| f64::from(aim[next]), weight, gradient);
        }
        Ok(drift)
    }
}

/// Examples of one rule: after `x` comes `3x + shift`.
pub fn examples(count: usize, vocabulary: u32, shift: u32) -> Vec<Example> {
    let mut random = stream(5, shift.into());
    (0..count)
        .map(|_| {
            let length = 3 + random.below(12) as usize;
            let mut token = random.below(vocabulary);
            let tokens = (0..length)
                .map(|_| {
                    token = (3 * token + shift) % vocabulary;
                    token
                })
                .collect();
            Example {
                tokens,
                targets: std::iter::once(1..length).collect(),
            }
        })
        .collect()
}

#[test]
fn its_gradient_is_that_of_its_loss() {
    let mut learner = Bigram::new(7, 2);
    let mut random = stream(1, 1);
    let parameters: Vec<f32> = (0..learner.parameters()).map(|_| uniform(&mut random)).collect();
    let all = examples(4, 7, 1);
    let pieces = super::packing::Pieces::new(&all, 64);
    let sequence = pieces.sequence(&pieces.in_order()[0]);
    let mut gradient = vec![0.0; parameters.len()];
    let loss = learner
        .loss_and_gradient(&parameters, &sequence, &mut gradient)
        .unwrap();
    assert_eq!(loss, learner.loss(&parameters, &sequence).unwrap());
    for at in 0..parameters.len() {
        let shifted = |by: f32| {
            let mut parameters = parameters.clone();
            parameters[at] += by;
            learner.clone().loss(&parameters, &sequence).unwrap().nll
        };
        let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
        let given = f64::from(gradient[at]);
        assert!(
            (slope - given).abs() < 1e-2 * (1.0 + given.abs()),
            "{at}: {given}, by differences {slope}"
        );
    }
}

#[test]
fn its_drift_is_none_at_the_base_and_has_its_gradient() {
    let mut learner = Bigram::new(7, 2);
    let mut random = stream(1, 2);
    let parameters: Vec<f32> = (0..learner.parameters()).map(|_| uniform(&mut random)).collect();
    let all = examples(4, 7, 1);
    let pieces = super::packing::Pieces::new(&all, 64);
    let sequence = pieces.sequence(&pieces.in_order()[0]);
    let anchor = learner.anchor(&sequence).unwrap();
    let mut drift = |parameters: &[f32], gradient: &mut [f32]| {
        learner
            .drift_and_gradient(parameters, &sequence, &anchor, 2.0, gradient)
            .unwrap()
    };
    let mut gradient = vec![0.0; parameters.len()];
    assert!(drift(&vec![0.0; parameters.len()], &mut gradient).abs() < 1e-5);
    assert!(gradient.iter().all(|value| value.abs() < 1e-5));
    gradient.fill(0.0);
    assert!(drift(&parameters, &mut gradient) > 0.01);
    let mut unused = vec![0.0; parameters.len()];
    for at in 0..parameters.len() {
        let mut shifted = |by: f32| {
            let mut parameters = parameters.clone();
            parameters[at] += by;
            drift(&parameters, &mut unused)
        };
        let slope = 2.0 * (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
        let given = f64::from(gradient[at]);
        assert!(
            (slope - given).abs() < 1e-2 * (1.0 + given.abs()),
            "{at}: {given}, by differences {slope}"
        );
    }
}
