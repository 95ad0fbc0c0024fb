//! A learner small enough to be checked by hand: which token follows which, with a low-rank update.

use crate::Error;
use crate::learner::{Learner, Loss, Sequence};

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

    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        let half = self.rank * self.vocabulary;
        for (before, token) in Self::pairs(sequence) {
            let probabilities = self.probabilities(parameters, before);
            for (next, probability) in probabilities.iter().enumerate() {
                let error = (probability - f64::from(u8::from(next == token))) as f32;
                for k in 0..self.rank {
                    let (a, b) = (k * self.vocabulary + next, half + before * self.rank + k);
                    gradient[a] += parameters[b] * error;
                    gradient[b] += parameters[a] * error;
                }
            }
        }
        self.loss(parameters, sequence)
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
