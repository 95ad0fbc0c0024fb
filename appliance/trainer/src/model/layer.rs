//! One layer, forwards and backwards.

use std::ops::Range;

use sarai_wire::training::Target;

use super::attention::{self, Attention, Inputs};
use super::base::{Base, Layer, Shape};
use super::linear::{Gradients, Linear, Saved};
use super::norm;
use super::rope::Angles;
use crate::matrix;
use crate::threads::Pool;
use crate::vector;

/// A layer's weights, with the updates of a step.
pub struct Step<'a> {
    pub base: &'a Base,
    pub weights: &'a Layer,
    /// In the order of [`Target::ALL`].
    pub linear: [Linear<'a>; 7],
    /// Where the updates' two matrices are among the parameters.
    pub slots: [Option<(Range<usize>, Range<usize>)>; 7],
}

/// What the way back needs of a layer's forward pass, and what costs a product to be computed again.
#[derive(Default)]
pub struct Kept {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// What the attention gathers.
    gathered: Vec<f32>,
    log_sums: Vec<f32>,
    /// Input of the feed-forward part before it is normalised.
    middle: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// Inputs of the updates, reduced to their rank.
    reduced: [Vec<f32>; 7],
}

impl Kept {
    /// Numbers a token, those of the updates left out.
    pub fn size(shape: &Shape) -> usize {
        2 * (shape.query() + shape.key() + shape.feed_forward) + shape.heads + shape.width
    }

    /// Makes room for so many tokens.
    pub fn fit(&mut self, shape: &Shape, tokens: usize) {
        for (vector, len) in [
            (&mut self.queries, shape.query()),
            (&mut self.keys, shape.key()),
            (&mut self.values, shape.key()),
            (&mut self.gathered, shape.query()),
            (&mut self.log_sums, shape.heads),
            (&mut self.middle, shape.width),
            (&mut self.gate, shape.feed_forward),
            (&mut self.up, shape.feed_forward),
        ] {
            vector.resize(len * tokens, 0.0);
        }
    }
}

/// Memory that one layer after another works in.
#[derive(Default)]
pub struct Room {
    /// Normalised input of the attention.
    normal: Vec<f32>,
    /// Normalised input of the feed-forward part.
    middle_normal: Vec<f32>,
    unit: Vec<f32>,
    by: BackwardRoom,
}

/// Gradients of what [`Kept`] and [`Room`] hold.
#[derive(Default)]
struct BackwardRoom {
    normal: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// Of keys and values, for each head of queries.
    each_keys: Vec<f32>,
    each_values: Vec<f32>,
    gathered: Vec<f32>,
    unit: Vec<f32>,
    reduced: Vec<f32>,
}

impl Room {
    /// Makes room for so many tokens.
    pub fn fit(&mut self, shape: &Shape, tokens: usize, gradients: bool) {
        let fit = |vector: &mut Vec<f32>, len: usize| vector.resize(len * tokens, 0.0);
        fit(&mut self.normal, shape.width);
        fit(&mut self.middle_normal, shape.width);
        fit(&mut self.unit, shape.feed_forward);
        if gradients {
            for (vector, len) in [
                (&mut self.by.normal, shape.width),
                (&mut self.by.queries, shape.query()),
                (&mut self.by.keys, shape.key()),
                (&mut self.by.values, shape.key()),
                (&mut self.by.each_keys, shape.query()),
                (&mut self.by.each_values, shape.query()),
                (&mut self.by.gathered, shape.query()),
                (&mut self.by.unit, shape.feed_forward),
            ] {
                fit(vector, len);
            }
        }
    }
}

impl Step<'_> {
    /// `x` becomes the layer's output.
    pub fn forward(
        &self,
        pool: &Pool,
        segments: &[Range<usize>],
        angles: &Angles,
        x: &mut [f32],
        kept: &mut Kept,
        room: &mut Room,
    ) {
        self.compute(pool, segments, angles, x, kept, room);
        let down = Target::FfnDown as usize;
        x.copy_from_slice(&kept.middle);
        self.linear[down].forward(pool, &room.unit, true, x, &mut kept.reduced[down]);
    }

    /// Computes of `x`, the layer's input, everything but the output and what only that needs.
    pub fn compute(
        &self,
        pool: &Pool,
        segments: &[Range<usize>],
        angles: &Angles,
        x: &[f32],
        kept: &mut Kept,
        room: &mut Room,
    ) {
        let shape = &self.base.shape;
        let Kept { reduced, .. } = kept;
        let mut apply = |target: Target, x: &[f32], add: bool, y: &mut [f32]| {
            self.linear[target as usize].forward(pool, x, add, y, &mut reduced[target as usize]);
        };
        let weight = &self.weights.attention_norm;
        norm::forward(pool, x, weight, shape.epsilon, &mut room.normal);
        apply(Target::AttnQ, &room.normal, false, &mut kept.queries);
        apply(Target::AttnK, &room.normal, false, &mut kept.keys);
        apply(Target::AttnV, &room.normal, false, &mut kept.values);
        self.base
            .rotation
            .turn(pool, &mut kept.queries, shape.query(), angles);
        self.base.rotation.turn(pool, &mut kept.keys, shape.key(), angles);
        let inputs = Inputs {
            queries: &kept.queries,
            keys: &kept.keys,
            values: &kept.values,
        };
        self.attention(segments)
            .forward(pool, inputs, &mut kept.gathered, &mut kept.log_sums);
        kept.middle.copy_from_slice(x);
        apply(Target::AttnOutput, &kept.gathered, true, &mut kept.middle);
        let weight = &self.weights.feed_forward_norm;
        norm::forward(pool, &kept.middle, weight, shape.epsilon, &mut room.middle_normal);
        apply(Target::FfnGate, &room.middle_normal, false, &mut kept.gate);
        apply(Target::FfnUp, &room.middle_normal, false, &mut kept.up);
        self.unit(pool, kept, room);
    }

    /// Computes again what was not kept of `x`, the layer's input, and is cheap.
    pub fn restore(&self, pool: &Pool, x: &[f32], kept: &Kept, room: &mut Room) {
        let epsilon = self.base.shape.epsilon;
        norm::forward(pool, x, &self.weights.attention_norm, epsilon, &mut room.normal);
        let weight = &self.weights.feed_forward_norm;
        norm::forward(pool, &kept.middle, weight, epsilon, &mut room.middle_normal);
        self.unit(pool, kept, room);
    }

    /// The gated unit of what is kept.
    fn unit(&self, pool: &Pool, kept: &Kept, room: &mut Room) {
        let size = self.base.shape.feed_forward;
        let count = room.unit.len() / size;
        let unit = matrix::Target::new(&mut room.unit, count, size);
        let (gate, up) = (&kept.gate, &kept.up);
        pool.run_ranges(count, 32, |range| {
            for at in range {
                let range = at * size..(at + 1) * size;
                // SAFETY: each row is in one range, and each range is one task's.
                vector::swiglu(unsafe { unit.row(at) }, &gate[range.clone()], &up[range]);
            }
        });
    }

    /// `by_x`, the gradient of the output, becomes that of the input `x`, unless that goes no `further`; the updates'
    /// gradients are added to `gradient`. What is kept and the room must be what [`Step::compute`], or [`Step::restore`]
    /// after it, left; of what is kept, gate and up are gone then.
    #[expect(
        clippy::too_many_arguments,
        reason = "the state of one pass, which only this module's caller has"
    )]
    pub fn backward(
        &self,
        pool: &Pool,
        segments: &[Range<usize>],
        angles: &Angles,
        x: &[f32],
        by_x: &mut [f32],
        kept: &mut Kept,
        room: &mut Room,
        gradient: &mut [f32],
        further: bool,
    ) {
        let shape = &self.base.shape;
        let Room { by, .. } = room;
        let Kept { reduced, .. } = kept;
        let down = Target::FfnDown as usize;
        self.linear[down].reduce(pool, &room.unit, &mut reduced[down]);
        let mut back = |target: Target, x: &[f32], by_y: &[f32], by_x: Option<(&mut [f32], bool)>| {
            let target = target as usize;
            let saved = Saved {
                x,
                reduced: &reduced[target],
            };
            let (a, b) = match &self.slots[target] {
                // B follows A.
                Some((a, b)) => gradient[a.start..b.end].split_at_mut(a.len()),
                None => Default::default(),
            };
            let by = Gradients {
                x: by_x,
                a,
                b,
                reduced: &mut by.reduced,
            };
            self.linear[target].backward(pool, saved, by_y, by);
        };
        back(Target::FfnDown, &room.unit, by_x, Some((&mut by.unit, false)));
        self.unit_backward(pool, &by.unit, &mut kept.gate, &mut kept.up);
        back(
            Target::FfnGate,
            &room.middle_normal,
            &kept.gate,
            Some((&mut by.normal, false)),
        );
        back(
            Target::FfnUp,
            &room.middle_normal,
            &kept.up,
            Some((&mut by.normal, true)),
        );
        let weight = &self.weights.feed_forward_norm;
        norm::backward(pool, &kept.middle, weight, shape.epsilon, &by.normal, by_x);
        back(
            Target::AttnOutput,
            &kept.gathered,
            by_x,
            Some((&mut by.gathered, false)),
        );
        let attention = self.attention(segments);
        let inputs = Inputs {
            queries: &kept.queries,
            keys: &kept.keys,
            values: &kept.values,
        };
        let gradients = attention::Gradients {
            queries: &mut by.queries,
            keys: &mut by.each_keys,
            values: &mut by.each_values,
        };
        attention.backward(
            pool,
            inputs,
            &kept.gathered,
            &kept.log_sums,
            &by.gathered,
            gradients,
        );
        attention.gather(pool, &by.each_keys, &mut by.keys);
        attention.gather(pool, &by.each_values, &mut by.values);
        self.base
            .rotation
            .turn_back(pool, &mut by.queries, shape.query(), angles);
        self.base
            .rotation
            .turn_back(pool, &mut by.keys, shape.key(), angles);
        let mut by_normal = further.then_some(by.normal.as_mut_slice());
        for (target, by_y) in [
            (Target::AttnQ, &by.queries),
            (Target::AttnK, &by.keys),
            (Target::AttnV, &by.values),
        ] {
            let add = target != Target::AttnQ;
            back(
                target,
                &room.normal,
                by_y,
                by_normal.as_deref_mut().map(|by_normal| (by_normal, add)),
            );
        }
        if let Some(by_normal) = by_normal {
            norm::backward(
                pool,
                x,
                &self.weights.attention_norm,
                shape.epsilon,
                by_normal,
                by_x,
            );
        }
    }

    fn attention<'s>(&self, segments: &'s [Range<usize>]) -> Attention<'s> {
        let Shape {
            heads,
            kv_heads,
            head,
            ..
        } = self.base.shape;
        Attention {
            heads,
            kv_heads,
            head,
            segments,
        }
    }

    /// `gate` and `up` become their gradients.
    fn unit_backward(&self, pool: &Pool, by_unit: &[f32], gate: &mut [f32], up: &mut [f32]) {
        let size = self.base.shape.feed_forward;
        let count = by_unit.len() / size;
        let (gate, up) = (
            matrix::Target::new(gate, count, size),
            matrix::Target::new(up, count, size),
        );
        pool.run_ranges(count, 32, |range| {
            for at in range {
                // SAFETY: each row is in one range, and each range is one task's.
                let (gate, up) = unsafe { (gate.row(at), up.row(at)) };
                vector::swiglu_backward(&by_unit[at * size..][..size], gate, up);
            }
        });
    }
}
