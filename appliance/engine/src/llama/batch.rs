//! Tokens of one step.

use llama_cpp_sys_2 as sys;

use super::Token;

/// Tokens to decode together, each at a position of a sequence. Storage is reused from step to step.
pub struct Batch {
    tokens: Vec<Token>,
    positions: Vec<sys::llama_pos>,
    sequences: Vec<sys::llama_seq_id>,
    counts: Vec<i32>,
    pointers: Vec<*mut sys::llama_seq_id>,
    outputs: Vec<i8>,
}

// SAFETY: the raw pointers point into `sequences` of the same value and are made anew by `as_raw`.
unsafe impl Send for Batch {}

impl Batch {
    /// An empty batch with room for `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        Self {
            tokens: Vec::with_capacity(capacity),
            positions: Vec::with_capacity(capacity),
            sequences: Vec::with_capacity(capacity),
            counts: Vec::with_capacity(capacity),
            pointers: Vec::with_capacity(capacity),
            outputs: Vec::with_capacity(capacity),
        }
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.counts.clear();
        self.outputs.clear();
    }

    /// Number of tokens in it.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Number of tokens whose logits are kept.
    pub fn rows(&self) -> usize {
        self.outputs.iter().filter(|output| **output != 0).count()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Adds a token at `position` of `sequence`; with `output`, its logits are kept. Returns its index.
    pub fn push(&mut self, token: Token, position: i32, sequence: i32, output: bool) -> usize {
        self.tokens.push(token);
        self.positions.push(position);
        self.sequences.push(sequence);
        self.counts.push(1);
        self.outputs.push(i8::from(output));
        self.tokens.len() - 1
    }

    /// The C view, valid until the batch is touched again.
    pub(super) fn as_raw(&mut self) -> sys::llama_batch {
        self.pointers.clear();
        self.pointers
            .extend(self.sequences.iter_mut().map(std::ptr::from_mut));
        sys::llama_batch {
            n_tokens: i32::try_from(self.tokens.len()).unwrap_or(i32::MAX),
            token: self.tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: self.positions.as_mut_ptr(),
            n_seq_id: self.counts.as_mut_ptr(),
            seq_id: self.pointers.as_mut_ptr(),
            logits: self.outputs.as_mut_ptr(),
        }
    }
}
