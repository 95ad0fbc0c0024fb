//! The objects a client gets, shaped as OpenAI shapes them.

use sarai_reflection::{Finish, Outcome, Piece, Report};
use serde::Serialize;

use super::request::Chat;
use super::truncate::Truncated;
use crate::ladder::Touched;

/// An answer, and what else happened to its request.
#[derive(Debug)]
pub struct Answered {
    /// What the loop did.
    pub outcome: Outcome,
    /// The memory ladder, where it was not at its first rung.
    pub memory: Option<Touched>,
    /// What was left out of the conversation.
    pub truncated: Option<Truncated>,
}

/// The `omni_loop` object.
#[derive(Debug, Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: Report<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<&'a Touched>,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated: Option<Truncated>,
}

impl Answered {
    fn told(&self) -> Told<'_> {
        Told {
            report: self.outcome.report(),
            memory: self.memory.as_ref(),
            truncated: self.truncated,
        }
    }
}

/// What every object of one response begins with.
#[derive(Debug, Clone)]
pub struct Head {
    /// Id of the completion.
    pub id: String,
    /// Unix seconds.
    pub created: u64,
    /// The model, as far as it is known before the answer.
    pub model: String,
}

/// The lowest log-probability that is shown; JSON has no minus infinity.
const LOWEST_LOGPROB: f32 = -9999.0;

/// One token with its probability.
#[derive(Debug, Serialize)]
pub struct TokenLogprob<'a> {
    token: String,
    logprob: f32,
    bytes: &'a [u8],
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<Vec<TokenLogprob<'a>>>,
}

impl<'a> TokenLogprob<'a> {
    fn new(bytes: &'a [u8], logprob: f32) -> Self {
        let logprob = if logprob.is_nan() {
            LOWEST_LOGPROB
        } else {
            logprob.clamp(LOWEST_LOGPROB, 0.0)
        };
        Self {
            token: String::from_utf8_lossy(bytes).into_owned(),
            logprob,
            bytes,
            top_logprobs: None,
        }
    }

    fn of(piece: &'a Piece) -> Self {
        let top = piece
            .top
            .iter()
            .map(|other| Self::new(&other.bytes, other.logprob))
            .collect();
        Self {
            top_logprobs: Some(top),
            ..Self::new(&piece.bytes, piece.logprob)
        }
    }
}

/// The `logprobs` member of a choice.
#[derive(Debug, Serialize)]
pub struct Logprobs<'a> {
    content: Vec<TokenLogprob<'a>>,
    refusal: Option<()>,
}

impl<'a> Logprobs<'a> {
    /// Of these tokens.
    pub fn of(pieces: &'a [Piece]) -> Self {
        Self {
            content: pieces.iter().map(TokenLogprob::of).collect(),
            refusal: None,
        }
    }
}

/// `stop` or `length`.
pub fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// Name of the weights that answered: changes when they change.
pub fn fingerprint(outcome: &Outcome) -> Option<String> {
    let source = &outcome.answer.source;
    let digest = source.digest.get(..12)?;
    let adapter = source
        .adapter
        .as_ref()
        .and_then(|adapter| adapter.digest.get(..12));
    Some(match adapter {
        Some(adapter) => format!("fp_{digest}_{adapter}"),
        None => format!("fp_{digest}"),
    })
}

/// The `usage` member.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Usage {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u32,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct PromptDetails {
    cached_tokens: u32,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
struct CompletionDetails {
    reasoning_tokens: u32,
}

impl Usage {
    /// The prompt is counted once, as the client sent it; completion tokens are those of every iteration.
    pub fn of(outcome: &Outcome) -> Self {
        let draft = outcome.steps.first().map(|step| step.work).unwrap_or_default();
        let (prompt_tokens, completion_tokens) = (draft.prompt_tokens, outcome.tokens());
        let answer = outcome.answer.work.completion_tokens;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: PromptDetails {
                cached_tokens: draft.cached_tokens,
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: completion_tokens.saturating_sub(answer),
            },
        }
    }
}

/// A whole completion.
#[derive(Debug, Serialize)]
pub struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    usage: Usage,
    system_fingerprint: Option<String>,
    omni_loop: Told<'a>,
}

#[derive(Debug, Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: &'static str,
}

#[derive(Debug, Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
}

/// The response in one piece.
pub fn completion<'a>(head: &'a Head, chat: &Chat, answered: &'a Answered) -> Completion<'a> {
    let outcome = &answered.outcome;
    let answer = &outcome.answer;
    Completion {
        id: &head.id,
        object: "chat.completion",
        created: head.created,
        model: &answer.source.model,
        choices: [Choice {
            index: 0,
            message: Message {
                role: "assistant",
                content: &answer.text,
                refusal: None,
                reasoning_content: outcome.reasoning(),
            },
            logprobs: chat.logprobs.then(|| Logprobs::of(&answer.pieces)),
            finish_reason: finish_reason(answer.finish),
        }],
        usage: Usage::of(outcome),
        system_fingerprint: fingerprint(outcome),
        omni_loop: answered.told(),
    }
}

/// One event of a stream.
#[derive(Debug, Serialize)]
pub struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    /// Empty in the event that carries the usage.
    choices: &'a [ChunkChoice<'a>],
    /// Absent unless asked for; then null in every event but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    omni_loop: Option<Told<'a>>,
}

/// The one choice of an event.
#[derive(Debug, Serialize)]
pub struct ChunkChoice<'a> {
    index: u32,
    delta: Delta<'a>,
    logprobs: Option<Logprobs<'a>>,
    finish_reason: Option<&'static str>,
}

/// What an event adds to the message.
#[derive(Debug, Default, Serialize)]
pub struct Delta<'a> {
    /// In the first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    /// More of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    /// More of what is not the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
}

/// The JSON of an event that adds `delta`.
pub fn delta_chunk(head: &Head, usage: bool, delta: Delta<'_>, logprobs: Option<Logprobs<'_>>) -> String {
    let choice = ChunkChoice {
        index: 0,
        delta,
        logprobs,
        finish_reason: None,
    };
    write(&chunk(head, &head.model, &[choice], usage.then_some(None)))
}

/// The JSON of the event that ends the answer.
pub fn last_chunk(head: &Head, usage: bool, answered: &Answered) -> String {
    let outcome = &answered.outcome;
    let finish_reason = Some(finish_reason(outcome.answer.finish));
    let choice = ChunkChoice {
        index: 0,
        delta: Delta::default(),
        logprobs: None,
        finish_reason,
    };
    let model = &outcome.answer.source.model;
    write(&Chunk {
        system_fingerprint: fingerprint(outcome),
        omni_loop: Some(answered.told()),
        ..chunk(head, model, &[choice], usage.then_some(None))
    })
}

/// The JSON of the event that carries the usage.
pub fn usage_chunk(head: &Head, outcome: &Outcome) -> String {
    write(&chunk(
        head,
        &outcome.answer.source.model,
        &[],
        Some(Some(Usage::of(outcome))),
    ))
}

fn chunk<'a>(
    head: &'a Head,
    model: &'a str,
    choices: &'a [ChunkChoice<'a>],
    usage: Option<Option<Usage>>,
) -> Chunk<'a> {
    Chunk {
        id: &head.id,
        object: "chat.completion.chunk",
        created: head.created,
        model,
        choices,
        usage,
        system_fingerprint: None,
        omni_loop: None,
    }
}

fn write(chunk: &Chunk<'_>) -> String {
    // Structs of strings and numbers always have a JSON form.
    serde_json::to_string(chunk).unwrap_or_default()
}
