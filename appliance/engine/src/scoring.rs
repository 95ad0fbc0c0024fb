//! How likely a given text is after a prompt, token by token.

use sarai_wire::engine::Alternative;

use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::sampling::{self, NotFinite};

/// Most tokens of a text: their scores fit one frame of the wire with room to spare.
pub const MAX_TOKENS: usize = 16_384;
/// Longest text, bytes; for the same reason.
pub const MAX_BYTES: usize = 256 * 1024;
/// Rows of logits a step may ask for beyond one a slot. A row is four bytes a token of the vocabulary: 600 kB for
/// 152 000 tokens, 20 MB for all of them.
pub const EXTRA_ROWS: usize = 32;

/// The scores so far.
#[derive(Debug, Default)]
pub struct Scoring {
    /// One entry a token, in order.
    pub tokens: Vec<Alternative>,
}

impl Scoring {
    /// Adds the score of `token`, which follows where `logits` were computed.
    ///
    /// # Errors
    /// [`NotFinite`] when the logits are missing or no distribution.
    pub fn add(&mut self, token: Token, logits: Option<&[f32]>, vocab: Vocab<'_>) -> Result<(), NotFinite> {
        let logprob = sampling::logprob(logits.ok_or(NotFinite)?, token)?;
        let mut bytes = Vec::new();
        vocab.piece(token, false, &mut bytes);
        self.tokens.push(Alternative { bytes, logprob });
        Ok(())
    }
}

/// How many of the next `share` tokens a step may take when it may ask for `rows` rows, and tokens from `first` on
/// need one each.
pub fn share(share: usize, at: usize, first: usize, rows: usize) -> usize {
    share.min(first.saturating_sub(at) + rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_the_prompt_at_once_and_the_text_in_pieces() {
        assert_eq!(share(100, 0, 200, 33), 100);
        assert_eq!(share(100, 0, 50, 33), 83);
        assert_eq!(share(10, 0, 50, 33), 10);
        assert_eq!(share(100, 60, 50, 33), 33);
        assert_eq!(share(100, 60, 50, 1), 1);
    }
}
