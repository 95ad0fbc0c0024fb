//! The tokens of a conversation and its answer, as a trainer needs them: those that a generation would read, those that a
//! scoring would report, and what ends the model's turn.

use sarai_wire::engine::{Encode, Encoded, Error, ErrorKind};

use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::prompt::{self, Markers};
use crate::server::Frontend;
use crate::slot::count;
use crate::template::{Rendered, Template};
use crate::validate;

/// What the model's turn ends with: what its template puts behind an answer, up to the first token at which a generation
/// stops. Where that cannot be told, the token that ends a text. Empty when the model has no end at all.
pub fn turn_end(template: &Template, markers: &Markers, vocab: Vocab<'_>) -> Vec<Token> {
    let mut tokens = template.after_answer().map_or_else(Vec::new, |text| {
        let contents = Vec::new();
        prompt::tokenise(&Rendered { text, contents }, markers, &vocab)
    });
    if let Some(end) = tokens.iter().position(|token| vocab.ends(*token)) {
        tokens.truncate(end + 1);
        return tokens;
    }
    vocab.eos().into_iter().collect()
}

impl Frontend {
    /// The tokens of a conversation, of its answer, and, where that ends, of the end of the model's turn.
    pub(crate) fn encode(&self, request: &Encode) -> Result<Encoded, Error> {
        validate::check_encode(request)?;
        let too_long = || Error {
            kind: ErrorKind::ContextLength,
            message: format!(
                "the conversation and its answer have more than {} tokens",
                request.most
            ),
        };
        if request.ends && self.turn_end.is_empty() {
            let message = "failed to end the model's turn: its vocabulary has no token for that".to_owned();
            let kind = ErrorKind::Failed;
            return Err(Error { kind, message });
        }
        let mut tokens = self
            .conversation(&request.messages, request.text.len(), request.most)
            .map_err(|error| match error.kind {
                ErrorKind::ContextLength => too_long(),
                _ => error,
            })?;
        let answer = count(tokens.len());
        tokens.extend(self.plain(&request.text));
        if request.ends {
            tokens.extend(&self.turn_end);
        }
        if tokens.len() > request.most as usize {
            return Err(too_long());
        }
        Ok(Encoded {
            // An id is never negative.
            tokens: tokens.into_iter().map(Token::cast_unsigned).collect(),
            answer,
            vocabulary: count(self.vocab.len()),
        })
    }
}
