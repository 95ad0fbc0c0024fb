//! The model with its low-rank adapter (Hu et al., "LoRA", 2021): a [`Learner`].

use std::ops::Range;
use std::sync::Arc;

use sarai_wire::training::Target;

use super::base::{Base, Shape};
use super::layer::{Kept, Room, Step};
use super::linear::{Linear, Update};
use super::rope::Angles;
use super::{head, norm};
use crate::Error;
use crate::learner::{Learner, Loss, Sequence};
use crate::random::Random;
use crate::threads::{Hold, Pool};

/// Most tokens of a sequence.
const MAX_TOKENS: usize = 1 << 16;
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

/// What is worked in, kept from one sequence to the next.
#[derive(Default)]
struct Memory {
    room: Room,
    /// One that all layers share of which nothing is kept, then one for each of the others, which are the last.
    kept: Vec<Kept>,
    /// How many of the last layers are kept of the sequence at hand.
    keep: usize,
    /// Most tokens of a sequence so far.
    longest: usize,
}

impl Memory {
    /// Makes room for a sequence, of whose forward pass `budget` bytes are kept.
    fn fit(&mut self, base: &Base, tokens: usize, budget: usize, gradients: bool) {
        let (shape, layers) = (&base.shape, base.layers.len());
        self.longest = self.longest.max(tokens);
        let size = size_of::<f32>() * Kept::size(shape) * self.longest;
        let most = (budget / size.max(1)).min(layers);
        // Of what was made for shorter sequences, no more than fits the longest.
        self.kept.truncate(1 + most);
        self.keep = if gradients { most } else { 0 };
        if self.kept.len() <= self.keep {
            self.kept.resize_with(1 + self.keep, Kept::default);
        }
        for kept in &mut self.kept[..=self.keep] {
            kept.fit(shape, tokens);
        }
        self.room.fit(shape, tokens, gradients);
    }

    /// Which of `layers` layers' is where in `kept`; 0 for those of which nothing is kept.
    fn place(&self, layer: usize, layers: usize) -> usize {
        (1 + self.keep + layer).saturating_sub(layers)
    }
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

    fn check(&self, parameters: &[f32], sequence: &Sequence) -> Result<Row, Error> {
        let fail = |why: String| Err(Error::Input(why));
        if parameters.len() != self.parameters {
            return fail(format!(
                "{} parameters instead of {}",
                parameters.len(),
                self.parameters
            ));
        }
        let Sequence {
            tokens,
            positions,
            segments,
            targets,
        } = sequence;
        let count = tokens.len();
        if [positions.len(), segments.len(), targets.len()] != [count; 3] || count > MAX_TOKENS {
            return fail(format!(
                "a sequence's vectors are not of one length of at most {MAX_TOKENS}"
            ));
        }
        if let Some(token) = tokens
            .iter()
            .find(|token| **token as usize >= self.base.shape.vocabulary)
        {
            return fail(format!("token {token} is beyond the vocabulary"));
        }
        let mut row = Row::default();
        for at in 0..count {
            let first = at == 0 || segments[at] != segments[at - 1];
            if first {
                row.segments.push(at..at);
            }
            let Some(segment) = row.segments.last_mut() else {
                unreachable!("the first token begins a segment");
            };
            segment.end = at + 1;
            if positions[at] as usize != at - segment.start {
                return fail(format!(
                    "token {at} is not at the position that it has in its segment"
                ));
            }
            if targets[at] {
                if first {
                    return fail(format!(
                        "token {at}, the first of its segment, can't be predicted"
                    ));
                }
                row.from.push(at - 1);
                row.targets.push(tokens[at]);
            }
        }
        Ok(row)
    }

    fn run(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: Option<&mut [f32]>,
    ) -> Result<Loss, Error> {
        let row = self.check(parameters, sequence)?;
        if row.targets.is_empty() {
            return Ok(Loss::default());
        }
        let mut memory = std::mem::take(&mut self.memory);
        memory.fit(&self.base, row.tokens(), self.budget, gradient.is_some());
        let angles = self.base.rotation.angles(&sequence.positions);
        let nll = self.pass(parameters, &sequence.tokens, &row, &angles, &mut memory, gradient);
        self.memory = memory;
        Ok(Loss {
            nll,
            tokens: row.targets.len(),
        })
    }

    fn pass(
        &self,
        parameters: &[f32],
        tokens: &[u32],
        row: &Row,
        angles: &Angles,
        memory: &mut Memory,
        gradient: Option<&mut [f32]>,
    ) -> f64 {
        let Shape { width, epsilon, .. } = self.base.shape;
        let steps = self.steps(parameters);
        let mut x = vec![0.0; tokens.len() * width];
        for (token, x) in tokens.iter().zip(x.chunks_exact_mut(width)) {
            self.base.embeddings.row(self.base.bytes(), *token as usize, x);
        }
        let mut inputs = Vec::new();
        let places: Vec<usize> = (0..steps.len())
            .map(|layer| memory.place(layer, steps.len()))
            .collect();
        let Memory { room, kept, .. } = memory;
        for (step, &place) in steps.iter().zip(&places) {
            if gradient.is_some() {
                inputs.push(x.clone());
            }
            step.forward(&self.pool, &row.segments, angles, &mut x, &mut kept[place], room);
        }
        // Of the last layer's output, what predicts a target.
        let mut last = Vec::with_capacity(row.from.len() * width);
        row.from
            .iter()
            .for_each(|&at| last.extend_from_slice(&x[at * width..][..width]));
        let mut normal = vec![0.0; last.len()];
        norm::forward(&self.pool, &last, &self.base.output_norm, epsilon, &mut normal);
        let output = &self.base.output;
        let Some(gradient) = gradient else {
            return head::loss(&self.pool, self.base.bytes(), output, &normal, &row.targets, None);
        };
        let mut by_normal = vec![0.0; last.len()];
        let by = Some(by_normal.as_mut_slice());
        let nll = head::loss(&self.pool, self.base.bytes(), output, &normal, &row.targets, by);
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
            let kept = &mut kept[places[number]];
            if places[number] == 0 {
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

/// A sequence that was checked.
#[derive(Default)]
struct Row {
    /// Tokens of each segment.
    segments: Vec<Range<usize>>,
    /// Tokens that a target is predicted from.
    from: Vec<usize>,
    /// What is predicted from each of them.
    targets: Vec<u32>,
}

impl Row {
    fn tokens(&self) -> usize {
        self.segments.last().map_or(0, |segment| segment.end)
    }
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
        self.run(parameters, sequence, None)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        if gradient.len() != self.parameters {
            return Err(Error::Input(format!(
                "a gradient of {} instead of {}",
                gradient.len(),
                self.parameters
            )));
        }
        self.run(parameters, sequence, Some(gradient))
    }
}
