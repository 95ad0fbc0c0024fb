//! The model with its low-rank adapter (Hu et al., "LoRA", 2021): a [`Learner`].

use std::ops::Range;
use std::sync::Arc;

use sarai_wire::training::Target;

use super::base::{Base, Shape};
use super::head::{Aim, Head};
use super::layer::Step;
use super::linear::{Linear, Update};
use super::memory::Memory;
use super::norm;
use super::rope::Angles;
use super::row::Row;
use crate::Error;
use crate::learner::{Anchor, Learner, Loss, Sequence};
use crate::random::Random;
use crate::threads::{Hold, Pool};
use crate::vector;

/// Highest rank of an adapter.
const MAX_RANK: usize = 1024;
/// What is kept of the forward passes of as many of the last layers as it suffices for, bytes.
const KEPT: usize = 384 << 20;
/// Most threads.
const MAX_THREADS: usize = 1024;

/// What an adapter looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Rank of each update.
    pub rank: usize,
    /// What is added to a weight is `alpha / rank` times the product of its two matrices.
    pub alpha: f32,
    /// Which weights of each layer get an update.
    pub targets: Vec<Target>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: Target::ALL.to_vec(),
        }
    }
}

/// Where the two matrices of an update are among the parameters.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub layer: usize,
    pub target: Target,
    /// `rank` rows as long as the weight's input.
    pub a: Range<usize>,
    /// As many rows as the weight's output is long, of `rank`.
    pub b: Range<usize>,
}

/// A base model with an adapter that can be learnt.
pub struct LoraModel {
    pub(super) base: Arc<Base>,
    pub(super) config: LoraConfig,
    /// Layer by layer, in the order of [`Target::ALL`].
    pub(super) slots: Vec<Slot>,
    parameters: usize,
    pool: Pool,
    /// Bytes of the forward pass that are kept.
    pub(super) budget: usize,
    memory: Memory,
}

impl LoraModel {
    /// An adapter of `base`, computed with `threads` threads. Results do not depend on their number.
    ///
    /// # Errors
    ///
    /// [`Error::Adapter`] when rank, scale, targets or threads are out of range, [`Error::Io`] when the system starts
    /// no more threads.
    pub fn new(base: &Arc<Base>, config: LoraConfig, threads: usize) -> Result<Self, Error> {
        let fail = |why: String| Err(Error::Adapter(why));
        if !(1..=MAX_RANK).contains(&config.rank) {
            return fail(format!("its rank {} is not from 1 to {MAX_RANK}", config.rank));
        }
        if !config.alpha.is_finite() || config.alpha <= 0.0 {
            return fail(format!("its alpha {} is no number above 0", config.alpha));
        }
        if config.targets.is_empty() {
            return fail("it has no targets".into());
        }
        if !(1..=MAX_THREADS).contains(&threads) {
            return fail(format!("{threads} threads are not from 1 to {MAX_THREADS}"));
        }
        let mut slots = Vec::new();
        let mut end = 0;
        for (number, layer) in base.layers.iter().enumerate() {
            for (target, matrix) in Target::ALL.into_iter().zip(&layer.matrices) {
                if config.targets.contains(&target) {
                    let a = end..end + config.rank * matrix.columns;
                    let b = a.end..a.end + config.rank * matrix.rows;
                    end = b.end;
                    slots.push(Slot {
                        layer: number,
                        target,
                        a,
                        b,
                    });
                }
            }
        }
        let pool = Pool::new(threads).map_err(|source| Error::Io {
            what: "start the compute threads",
            source,
        })?;
        Ok(Self {
            base: Arc::clone(base),
            config,
            slots,
            parameters: end,
            pool,
            budget: KEPT,
            memory: Memory::default(),
        })
    }

    /// What it is an adapter of.
    #[must_use]
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The weight that `slot` or, without one, `target` of `layer` is, with its update.
    fn linear<'p>(
        &'p self,
        parameters: &'p [f32],
        layer: usize,
        target: Target,
    ) -> (Linear<'p>, Option<&'p Slot>) {
        let weights = &self.base.layers[layer];
        let slot = self
            .slots
            .iter()
            .find(|slot| slot.layer == layer && slot.target == target);
        let update = slot.map(|slot| Update {
            rank: self.config.rank,
            a: &parameters[slot.a.clone()],
            b: &parameters[slot.b.clone()],
            scale: self.config.alpha / self.config.rank as f32,
        });
        let bias = weights.biases.get(target as usize).and_then(Option::as_deref);
        (
            Linear {
                file: self.base.bytes(),
                matrix: &weights.matrices[target as usize],
                bias,
                update,
            },
            slot,
        )
    }

    /// The layers' weights with these parameters.
    fn steps<'p>(&'p self, parameters: &'p [f32]) -> Vec<Step<'p>> {
        let step = |layer: usize| {
            let both = Target::ALL.map(|target| self.linear(parameters, layer, target));
            Step {
                base: &self.base,
                weights: &self.base.layers[layer],
                slots: both.map(|(_, slot)| slot.map(|slot| (slot.a.clone(), slot.b.clone()))),
                linear: both.map(|(linear, _)| linear),
            }
        };
        (0..self.base.layers.len()).map(step).collect()
    }

    fn check<'a>(&self, parameters: &[f32], sequence: &'a Sequence) -> Result<Row<'a>, Error> {
        if parameters.len() != self.parameters {
            return Err(Error::Input(format!(
                "{} parameters instead of {}",
                parameters.len(),
                self.parameters
            )));
        }
        Row::of(sequence, self.base.shape.vocabulary)
    }

    /// Does `work` on a sequence in the memory for it.
    fn within<T>(&mut self, row: &Row<'_>, gradients: bool, work: impl FnOnce(&Self, &mut Memory) -> T) -> T {
        let mut memory = std::mem::take(&mut self.memory);
        memory.fit(&self.base, row.tokens(), self.budget, gradients);
        let done = work(self, &mut memory);
        self.memory = memory;
        done
    }

    /// Goes over a sequence that has targets; see [`Self::pass`].
    fn run(
        &mut self,
        parameters: &[f32],
        row: &Row<'_>,
        aim: Aim<'_>,
        gradient: Option<(&mut [f32], f32)>,
    ) -> f64 {
        self.within(row, gradient.is_some(), |model, memory| {
            model.pass(parameters, row, memory, aim, gradient)
        })
    }

    fn loss_of(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: Option<(&mut [f32], f32)>,
    ) -> Result<Loss, Error> {
        let row = self.check(parameters, sequence)?;
        if row.targets.is_empty() {
            return Ok(Loss::default());
        }
        let nll = self.run(parameters, &row, Aim::Tokens(&row.targets), gradient);
        Ok(Loss {
            nll,
            tokens: row.targets.len(),
        })
    }

    fn fits(&self, gradient: &[f32]) -> Result<(), Error> {
        if gradient.len() == self.parameters {
            return Ok(());
        }
        Err(Error::Input(format!(
            "a gradient of {} instead of {}",
            gradient.len(),
            self.parameters
        )))
    }

    /// What the layers give at each place that a target is predicted from, normalised: the head's input. And what it was
    /// before it was normalised, which the gradient needs, and every layer's input, if there is to be one.
    fn forward(
        &self,
        steps: &[Step<'_>],
        row: &Row<'_>,
        angles: &Angles,
        memory: &mut Memory,
        gradients: bool,
    ) -> Forward {
        let Shape { width, epsilon, .. } = self.base.shape;
        let mut x = vec![0.0; row.tokens() * width];
        for (token, x) in row.sequence.tokens.iter().zip(x.chunks_exact_mut(width)) {
            self.base.embeddings.row(self.base.bytes(), *token as usize, x);
        }
        let mut inputs = Vec::new();
        for (layer, step) in steps.iter().enumerate() {
            if gradients {
                inputs.push(x.clone());
            }
            let place = memory.place(layer, steps.len());
            let Memory { room, kept, .. } = &mut *memory;
            step.forward(&self.pool, &row.segments, angles, &mut x, &mut kept[place], room);
        }
        // Of the last layer's output, what predicts a target.
        let mut last = Vec::with_capacity(row.from.len() * width);
        row.from
            .iter()
            .for_each(|&at| last.extend_from_slice(&x[at * width..][..width]));
        let mut normal = vec![0.0; last.len()];
        norm::forward(&self.pool, &last, &self.base.output_norm, epsilon, &mut normal);
        Forward {
            inputs,
            last,
            normal,
            x,
        }
    }

    fn head(&self) -> Head<'_> {
        Head {
            pool: &self.pool,
            file: self.base.bytes(),
            output: &self.base.output,
        }
    }

    /// The sum of the cross-entropies with `aim`, whose derivatives, times the number beside it, are added to
    /// `gradient`.
    fn pass(
        &self,
        parameters: &[f32],
        row: &Row<'_>,
        memory: &mut Memory,
        aim: Aim<'_>,
        gradient: Option<(&mut [f32], f32)>,
    ) -> f64 {
        let Shape { width, epsilon, .. } = self.base.shape;
        let steps = self.steps(parameters);
        let angles = &self.base.rotation.angles(&row.sequence.positions);
        let Forward {
            mut inputs,
            last,
            mut normal,
            x,
        } = self.forward(&steps, row, angles, memory, gradient.is_some());
        let Some((gradient, weight)) = gradient else {
            return self.head().loss(&normal, aim, None);
        };
        let mut by_normal = vec![0.0; last.len()];
        let nll = self.head().loss(&normal, aim, Some(&mut by_normal));
        vector::scale(&mut by_normal, weight);
        // The forward pass' memory becomes that of its gradient.
        let by_last = &mut normal;
        by_last.fill(0.0);
        norm::backward(
            &self.pool,
            &last,
            &self.base.output_norm,
            epsilon,
            &by_normal,
            by_last,
        );
        let mut by_x = x;
        by_x.fill(0.0);
        for (&at, by_last) in row.from.iter().zip(by_last.chunks_exact(width)) {
            by_x[at * width..][..width].copy_from_slice(by_last);
        }
        drop((last, normal, by_normal));
        for (number, step) in steps.iter().enumerate().rev() {
            let Some(input) = inputs.pop() else {
                unreachable!("each layer's input was kept");
            };
            let place = memory.place(number, steps.len());
            let Memory { room, kept, .. } = &mut *memory;
            let kept = &mut kept[place];
            if place == 0 {
                step.compute(&self.pool, &row.segments, angles, &input, kept, room);
            } else {
                step.restore(&self.pool, &input, kept, room);
            }
            let further = number > 0;
            step.backward(
                &self.pool,
                &row.segments,
                angles,
                &input,
                &mut by_x,
                kept,
                room,
                gradient,
                further,
            );
        }
        nll
    }
}

/// What a forward pass leaves.
struct Forward {
    /// Each layer's input, if there is to be a gradient.
    inputs: Vec<Vec<f32>>,
    /// Of the last layer's output, what predicts a target.
    last: Vec<f32>,
    /// The same, normalised.
    normal: Vec<f32>,
    /// The last layer's output.
    x: Vec<f32>,
}

impl Learner for LoraModel {
    fn parameters(&self) -> usize {
        self.parameters
    }

    fn hold(&mut self, hold: Hold) {
        self.pool.hold(hold);
    }

    /// A uniform within ±1 / √(length of the input), which is Kaiming's with a = √5; B zero.
    fn initial(&self, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        let mut parameters = vec![0.0; self.parameters];
        for slot in &self.slots {
            let inputs = slot.a.len() / self.config.rank;
            let bound = 1.0 / (inputs as f32).sqrt();
            for value in &mut parameters[slot.a.clone()] {
                *value = (2.0 * random.unit() - 1.0) * bound;
            }
        }
        parameters
    }

    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, Error> {
        self.loss_of(parameters, sequence, None)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        self.fits(gradient)?;
        self.loss_of(parameters, sequence, Some((gradient, 1.0)))
    }

    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, Error> {
        // With B zero, whatever A is, an update adds nothing.
        let nothing = vec![0.0; self.parameters];
        let row = self.check(&nothing, sequence)?;
        let tokens = row.targets.len();
        if tokens == 0 {
            return Ok(Anchor {
                values: Vec::new(),
                entropy: 0.0,
                tokens,
            });
        }
        let (values, entropy) = self.within(&row, false, |model, memory| {
            let angles = model.base.rotation.angles(&sequence.positions);
            let forward = model.forward(&model.steps(&nothing), &row, &angles, memory, false);
            model.head().mean(&forward.normal)
        });
        Ok(Anchor {
            values,
            entropy,
            tokens,
        })
    }

    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, Error> {
        self.fits(gradient)?;
        let row = self.check(parameters, sequence)?;
        let (found, expected) = (anchor.values.len(), row.targets.len() * self.base.shape.width);
        if found != expected {
            return Err(Error::Input(format!(
                "an anchor of {found} values instead of {expected}"
            )));
        }
        if row.targets.is_empty() {
            return Ok(0.0);
        }
        let aim = Aim::Means(&anchor.values);
        let crossed = self.run(parameters, &row, aim, Some((gradient, weight)));
        Ok(crossed - anchor.entropy)
    }
}
