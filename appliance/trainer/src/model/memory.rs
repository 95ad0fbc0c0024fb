//! What a pass works in.

use super::base::Base;
use super::layer::{Kept, Room};

/// What is worked in, kept from one sequence to the next.
#[derive(Default)]
pub(super) struct Memory {
    pub room: Room,
    /// One that all layers share of which nothing is kept, then one for each of the others, which are the last.
    pub kept: Vec<Kept>,
    /// How many of the last layers are kept of the sequence at hand.
    keep: usize,
    /// Most tokens of a sequence so far.
    longest: usize,
}

impl Memory {
    /// Makes room for a sequence, of whose forward pass `budget` bytes are kept.
    pub fn fit(&mut self, base: &Base, tokens: usize, budget: usize, gradients: bool) {
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
    pub fn place(&self, layer: usize, layers: usize) -> usize {
        (1 + self.keep + layer).saturating_sub(layers)
    }
}
