//! A context's memory as [`crate::prefix`] sees it: slots for sequences, counts for positions.

use crate::llama::context::Context;
use crate::prefix::Memory;

/// A context's memory.
pub struct Kv<'a, 'model>(pub &'a mut Context<'model>);

/// A slot's number is its sequence's; there are at most 64.
pub fn sequence(slot: usize) -> i32 {
    i32::try_from(slot).unwrap_or(i32::MAX)
}

/// A position in a sequence; contexts are far smaller.
pub fn position(at: usize) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

impl Memory for Kv<'_, '_> {
    fn forget_from(&mut self, slot: usize, at: usize) -> bool {
        self.0.forget_from(sequence(slot), position(at))
    }

    fn restore(&mut self, slot: usize, state: &[u8]) -> bool {
        self.0.restore(sequence(slot), state)
    }

    fn forget(&mut self, slot: usize) {
        self.0.forget(sequence(slot));
    }
}
