//! What a request begins with in a slot: the tokens known beforehand, as far as possible those the slot holds.

use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::prefix::Cached;
use crate::prompt::{self, Markers};
use crate::shared::{Job, Task};

/// A request's beginning in one slot.
#[derive(Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The conversation, then the answer's prefix or the text to score.
    pub known: Vec<Token>,
    /// How many of them the slot holds and the request can use.
    pub common: usize,
}

/// How `job` would begin in a slot that holds `cached`. Where the slot holds the conversation and behind it tokens
/// that spell the beginning of the prefix, those very tokens are used: they are the draft's own, and the tokeniser
/// might have cut the same text otherwise.
pub fn beginning(
    job: &Job,
    cached: &Cached,
    vocab: Vocab<'_>,
    markers: &Markers,
    context: usize,
) -> Beginning {
    let with = |tail: &[Token]| [job.prompt.as_slice(), tail].concat();
    match &job.task {
        Task::Generate(generation) => {
            let mut known = with(&generation.prefix);
            let text = generation.request.prefix.as_str();
            let piece = |token, to: &mut Vec<u8>| vocab.piece(token, false, to);
            let (spelt, bytes) = cached.spells(&job.key, &job.prompt, text, piece);
            if spelt > 0 {
                let mut found = cached.tokens[..job.prompt.len() + spelt].to_vec();
                found.extend(prompt::plain(&text[bytes..], markers, &vocab));
                // The tokeniser's own cut was measured against the context; another may be longer.
                if found.len() < context {
                    known = found;
                }
            }
            Beginning {
                common: cached.reusable(&job.key, &known),
                known,
            }
        }
        // The logits behind the conversation are not kept, however much of the text is.
        Task::Score(text) => Beginning {
            known: with(text),
            common: cached.reusable(&job.key, &job.prompt),
        },
    }
}
