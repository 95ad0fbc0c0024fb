//! A sequence as a pass goes over it.

use std::ops::Range;

use crate::Error;
use crate::learner::Sequence;

/// Most tokens of a sequence.
const MAX_TOKENS: usize = 1 << 16;

/// A sequence that was checked.
pub(super) struct Row<'a> {
    pub sequence: &'a Sequence,
    /// Tokens of each segment.
    pub segments: Vec<Range<usize>>,
    /// Tokens that a target is predicted from.
    pub from: Vec<usize>,
    /// What is predicted from each of them.
    pub targets: Vec<u32>,
}

impl<'a> Row<'a> {
    /// Checks a sequence for a model of `vocabulary` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when it contradicts itself or the model.
    pub fn of(sequence: &'a Sequence, vocabulary: usize) -> Result<Self, Error> {
        let fail = |why: String| Err(Error::Input(why));
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
        if let Some(token) = tokens.iter().find(|token| **token as usize >= vocabulary) {
            return fail(format!("token {token} is beyond the vocabulary"));
        }
        let mut row = Self {
            sequence,
            segments: Vec::new(),
            from: Vec::new(),
            targets: Vec::new(),
        };
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

    /// How many tokens it has.
    pub fn tokens(&self) -> usize {
        self.sequence.tokens.len()
    }
}
