//! Bounds of a request. The gateway checked them before; the engine does not rely on it.

use sarai_wire::adapter::{Apply, is_digest};
use sarai_wire::engine::{Encode, Error, ErrorKind, Generate, Message, Score};

use crate::scoring;

/// Most messages in a conversation.
pub const MAX_MESSAGES: usize = 1024;
/// Most stop texts, and the longest one, bytes.
pub const MAX_STOPS: usize = 16;
/// Longest stop text, bytes.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most alternatives a token.
pub const MAX_TOP: u8 = 20;
/// Longest guess, bytes; as with a prompt, what exceeds the context helps nobody.
pub const MAX_GUESS: usize = 1024 * 1024;
/// Longest request id and client name, bytes.
pub const MAX_NAME: usize = 256;

/// An [`ErrorKind::Invalid`] error.
pub fn invalid(message: impl Into<String>) -> Error {
    Error {
        kind: ErrorKind::Invalid,
        message: message.into(),
    }
}

/// Checks everything that needs no model.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the field and its bounds.
pub fn check(request: &Generate) -> Result<(), Error> {
    let Generate {
        id,
        client,
        messages,
        max_tokens,
        sampling,
        stop,
        top_logprobs,
        // Bounded by the context.
        prefix: _,
        // Checked where it is compiled.
        constraint: _,
        guess,
        apply,
    } = request;
    check_conversation(id, client, messages)?;
    check_apply(apply)?;
    if *max_tokens == Some(0) {
        return Err(invalid("max_tokens is 0; it must be at least 1"));
    }
    if !(0.0..=2.0).contains(&sampling.temperature) {
        return Err(invalid(format!(
            "temperature is {}; it must be 0 to 2",
            sampling.temperature
        )));
    }
    if !(sampling.top_p > 0.0 && sampling.top_p <= 1.0) {
        return Err(invalid(format!(
            "top_p is {}; it must be above 0 and at most 1",
            sampling.top_p
        )));
    }
    if stop.len() > MAX_STOPS {
        return Err(invalid(format!(
            "{} stop texts are more than {MAX_STOPS}",
            stop.len()
        )));
    }
    if stop
        .iter()
        .any(|text| text.is_empty() || text.len() > MAX_STOP_BYTES)
    {
        return Err(invalid(format!(
            "a stop text must be 1 to {MAX_STOP_BYTES} bytes long"
        )));
    }
    if guess.len() > MAX_GUESS {
        return Err(invalid(format!(
            "a guess of {} bytes is longer than {MAX_GUESS}",
            guess.len()
        )));
    }
    if *top_logprobs > MAX_TOP {
        return Err(invalid(format!(
            "top_logprobs is {top_logprobs}; it must be 0 to {MAX_TOP}"
        )));
    }
    Ok(())
}

/// As [`check`] for a text to score.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the field and its bounds.
pub fn check_score(request: &Score) -> Result<(), Error> {
    let Score {
        id,
        client,
        messages,
        text,
        apply,
    } = request;
    check_conversation(id, client, messages)?;
    check_apply(apply)?;
    if text.is_empty() || text.len() > scoring::MAX_BYTES {
        return Err(invalid(format!(
            "a text to score of {} bytes is not 1 to {} bytes long",
            text.len(),
            scoring::MAX_BYTES
        )));
    }
    Ok(())
}

/// As [`check_score`] for a conversation and its answer whose tokens are wanted.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the field and its bounds.
pub fn check_encode(request: &Encode) -> Result<(), Error> {
    let Encode {
        messages,
        text,
        most,
        ends: _,
    } = request;
    check_messages(messages)?;
    if text.is_empty() || text.len() > scoring::MAX_BYTES {
        return Err(invalid(format!(
            "an answer to encode of {} bytes is not 1 to {} bytes long",
            text.len(),
            scoring::MAX_BYTES
        )));
    }
    if !(1..=scoring::MAX_TOKENS).contains(&(*most as usize)) {
        return Err(invalid(format!(
            "most is {most}; it must be 1 to {}",
            scoring::MAX_TOKENS
        )));
    }
    Ok(())
}

fn check_apply(apply: &Apply) -> Result<(), Error> {
    match apply.digest() {
        Some(digest) if !is_digest(digest) => Err(invalid(
            "an adapter is named by the 64 lower-case hex digits of its digest",
        )),
        _ => Ok(()),
    }
}

fn check_conversation(id: &str, client: &str, messages: &[Message]) -> Result<(), Error> {
    if id.len() > MAX_NAME || client.len() > MAX_NAME {
        return Err(invalid(format!(
            "id and client are at most {MAX_NAME} bytes long"
        )));
    }
    check_messages(messages)
}

/// Checks a conversation alone.
///
/// # Errors
/// [`ErrorKind::Invalid`] when it is empty or has too many messages.
pub fn check_messages(messages: &[Message]) -> Result<(), Error> {
    if messages.is_empty() {
        return Err(invalid("messages is empty; at least one message is needed"));
    }
    if messages.len() > MAX_MESSAGES {
        return Err(invalid(format!(
            "{} messages are more than {MAX_MESSAGES}",
            messages.len()
        )));
    }
    if messages.iter().all(|message| message.content.is_empty()) {
        return Err(invalid("every message is empty; at least one needs content"));
    }
    Ok(())
}

/// Whether a prompt of `tokens` leaves room for an answer in `context`.
///
/// # Errors
/// [`ErrorKind::ContextLength`] with the counts. A prompt is never cut.
pub fn check_length(tokens: usize, context: u32) -> Result<(), Error> {
    let context = context as usize;
    if tokens < context {
        return Ok(());
    }
    Err(Error {
        kind: ErrorKind::ContextLength,
        message: format!(
            "prompt has {tokens} tokens, context holds {context}; shorten it by {}: at least one token must be \
             left for the answer",
            tokens - context + 1
        ),
    })
}

/// Whether a prompt of `prompt` tokens and a text of `text` to score fit `context` together.
///
/// # Errors
/// [`ErrorKind::ContextLength`] with the counts; [`ErrorKind::Invalid`] for more than [`scoring::MAX_TOKENS`].
pub fn check_scored_length(prompt: usize, text: usize, context: u32) -> Result<(), Error> {
    if text == 0 || text > scoring::MAX_TOKENS {
        return Err(invalid(format!(
            "a text to score of {text} tokens is not 1 to {} tokens long",
            scoring::MAX_TOKENS
        )));
    }
    if prompt + text <= context as usize {
        return Ok(());
    }
    Err(Error {
        kind: ErrorKind::ContextLength,
        message: format!(
            "prompt has {prompt} tokens and text {text}, context holds {context}; shorten them by {}",
            prompt + text - context as usize
        ),
    })
}

/// As [`check_length`] for a text so long that counting its tokens would be a waste: it has `at_least` many.
///
/// # Errors
/// [`ErrorKind::ContextLength`] with the counts.
pub fn check_least_length(at_least: usize, context: u32) -> Result<(), Error> {
    if at_least < context as usize {
        return Ok(());
    }
    Err(Error {
        kind: ErrorKind::ContextLength,
        message: format!(
            "prompt has at least {at_least} tokens, context holds {context}; shorten it by at least {}",
            at_least - context as usize + 1
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::engine::{Message, Role};

    fn good() -> Generate {
        Generate {
            id: "1".into(),
            client: "c".into(),
            messages: vec![Message {
                role: Role::User,
                content: "hi".into(),
            }],
            ..Generate::default()
        }
    }

    fn refused(change: impl FnOnce(&mut Generate)) -> String {
        let mut request = good();
        change(&mut request);
        let error = check(&request).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        error.message
    }

    #[test]
    fn a_sound_request_passes() {
        check(&good()).unwrap();
    }

    #[test]
    fn each_field_has_its_bounds() {
        assert!(refused(|r| r.messages.clear()).contains("messages"));
        assert!(refused(|r| r.messages[0].content.clear()).contains("empty"));
        assert!(refused(|r| r.messages = vec![r.messages[0].clone(); MAX_MESSAGES + 1]).contains("messages"));
        assert!(refused(|r| r.max_tokens = Some(0)).contains("max_tokens"));
        for value in [f32::NAN, f32::INFINITY, -0.1, 2.1] {
            assert!(refused(|r| r.sampling.temperature = value).contains("temperature"));
        }
        for value in [f32::NAN, 0.0, -1.0, 1.1] {
            assert!(refused(|r| r.sampling.top_p = value).contains("top_p"));
        }
        assert!(refused(|r| r.stop = vec![String::new()]).contains("stop"));
        assert!(refused(|r| r.stop = vec!["x".repeat(MAX_STOP_BYTES + 1)]).contains("stop"));
        assert!(refused(|r| r.stop = vec!["x".into(); MAX_STOPS + 1]).contains("stop"));
        let exactly = |digest: &str| Apply::Exactly {
            digest: Some(digest.into()),
        };
        assert!(refused(|r| r.apply = exactly("../x")).contains("digest"));
        assert!(refused(|r| r.top_logprobs = 21).contains("top_logprobs"));
        assert!(refused(|r| r.guess = "x".repeat(MAX_GUESS + 1)).contains("guess"));
        assert!(refused(|r| r.client = "x".repeat(MAX_NAME + 1)).contains("client"));
    }

    #[test]
    fn a_text_to_score_has_its_bounds() {
        let score = |text: String| {
            check_score(&Score {
                id: "1".into(),
                client: "c".into(),
                messages: good().messages,
                text,
                apply: Apply::InUse,
            })
        };
        score("hi".into()).unwrap();
        for text in [String::new(), "x".repeat(scoring::MAX_BYTES + 1)] {
            assert!(score(text).unwrap_err().message.contains("bytes"));
        }
        check_scored_length(1000, 1048, 2048).unwrap();
        let error = check_scored_length(1000, 1050, 2048).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ContextLength);
        assert!(error.message.ends_with("shorten them by 2"));
        let many = check_scored_length(1, scoring::MAX_TOKENS + 1, u32::MAX).unwrap_err();
        assert_eq!(many.kind, ErrorKind::Invalid);
    }

    #[test]
    fn what_is_to_be_encoded_has_its_bounds() {
        let good = || Encode {
            messages: good().messages,
            text: "hi".into(),
            most: 4096,
            ends: true,
        };
        check_encode(&good()).unwrap();
        let refused = |change: &dyn Fn(&mut Encode)| {
            let mut request = good();
            change(&mut request);
            let error = check_encode(&request).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid);
            error.message
        };
        assert!(refused(&|r| r.messages.clear()).contains("messages"));
        assert!(refused(&|r| r.text.clear()).contains("bytes"));
        assert!(refused(&|r| r.text = "x".repeat(scoring::MAX_BYTES + 1)).contains("bytes"));
        assert!(refused(&|r| r.most = 0).contains("most is 0"));
        assert!(refused(&|r| r.most = 1 << 20).contains("most is"));
    }

    #[test]
    fn a_prompt_must_leave_room_for_a_token() {
        check_length(2047, 2048).unwrap();
        let error = check_length(3000, 2048).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ContextLength);
        assert!(
            error
                .message
                .starts_with("prompt has 3000 tokens, context holds 2048; shorten it by 953")
        );
        assert!(
            check_length(2048, 2048)
                .unwrap_err()
                .message
                .contains("shorten it by 1")
        );
        assert!(check_least_length(2048, 2048).is_err() && check_least_length(2047, 2048).is_ok());
    }
}
