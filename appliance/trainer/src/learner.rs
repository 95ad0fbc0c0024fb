//! The seam between the course of a training (data, steps, checkpoints) and its mathematics.

use crate::Error;
use crate::threads::Hold;

/// One packed row: several examples one after another. Attention never crosses from one segment to another.
///
/// The four vectors have the same length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sequence {
    /// Tokens, each below the vocabulary's size.
    pub tokens: Vec<u32>,
    /// Place of each token in its segment, counted from 0: it starts again with each segment.
    pub positions: Vec<u32>,
    /// Which example a token belongs to. The tokens of one example are next to each other.
    pub segments: Vec<u32>,
    /// Whether a token is to be predicted from those before it in its segment. Never true of a segment's first.
    pub targets: Vec<bool>,
}

/// How surprised a model was.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// Sum of the negative log-likelihoods of the targets, in nats. Not finite when the parameters have run away.
    pub nll: f64,
    /// How many targets there were.
    pub tokens: usize,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.nll += other.nll;
        self.tokens += other.tokens;
    }
}

/// What the base model itself says at the targets of a sequence: what a training is held to there.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchor {
    /// For each target what its learner has to know of the distribution.
    pub values: Vec<f32>,
    /// Sum of the distributions' entropies, in nats.
    pub entropy: f64,
    /// How many targets there are.
    pub tokens: usize,
}

/// A model some of whose parameters can be learnt. They are handed in as one flat vector.
pub trait Learner {
    /// How many parameters can be learnt.
    fn parameters(&self) -> usize;

    /// From now on `hold` is called again and again while it computes, some milliseconds apart, and holds it up as long
    /// as it does not return. What is computed in no time needs none.
    fn hold(&mut self, _hold: Hold) {}

    /// Parameters to start from, the same for the same seed. They leave the model as it is.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// The loss over the sequence's targets.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the parameters or the sequence don't fit the model.
    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, Error>;

    /// The loss over the sequence's targets; the derivatives of [`Loss::nll`] by each parameter are added to
    /// `gradient`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the parameters, the gradient or the sequence don't fit the model.
    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error>;

    /// What the model says at the sequence's targets without anything learnt.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the sequence doesn't fit the model.
    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, Error>;

    /// How far the model has gone from `anchor`, which is that of the sequence: the sum over its targets of the
    /// Kullback-Leibler divergences of what it says now from what it said, in nats. `weight` times the derivatives by
    /// each parameter are added to `gradient`.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the parameters, the gradient, the sequence or the anchor don't fit.
    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, Error>;
}
