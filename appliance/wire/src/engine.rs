//! Gateway → engine: one request at a time on a connection of the engine's Unix socket, events back.
//!
//! Frames are [`crate::frame`]s. The client sends a [`Request`]; the engine answers with [`Event`]s, the last
//! of which is [`Event::Done`], [`Event::Scored`], [`Event::Counted`], [`Event::Encoded`], [`Event::Info`] or
//! [`Event::Error`]; then the next request may follow on the same connection. Closing the connection cancels the request that runs on it.

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, Apply};

/// What the gateway asks of an engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Generate an answer.
    Generate(Generate),
    /// Say how likely a given answer is; generates nothing. Answered with [`Event::Started`], then
    /// [`Event::Scored`].
    Score(Score),
    /// Say how long a conversation is; answered at once with [`Event::Counted`].
    Count(Count),
    /// Say which tokens a conversation and its answer are; answered at once with [`Event::Encoded`].
    Encode(Encode),
    /// Which model is loaded and how it is configured; answered at once, even while the engine is busy.
    Info,
}

/// One generation. Sampling fields are already validated by the gateway; the engine validates again and
/// answers [`ErrorKind::Invalid`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Generate {
    /// Request id, for logs.
    pub id: String,
    /// Whose request this is: the queue is fair between clients, first come first served within one.
    pub client: String,
    /// The conversation, oldest first, rendered with the model's own chat template.
    pub messages: Vec<Message>,
    /// At most this many new tokens; `None` means as many as the context still holds.
    pub max_tokens: Option<u32>,
    /// Sampling of the next token.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    #[serde(default)]
    pub stop: Vec<String>,
    /// How many alternatives to report per token (0 to 20).
    #[serde(default)]
    pub top_logprobs: u8,
    /// Text the answer begins with, as if the model had said it. It is evaluated (or found in the KV cache) like
    /// the prompt, counts as `prompt_tokens`, and does not come back as [`Event::Token`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// What the whole answer, `prefix` included, must match: enforced token by token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<Constraint>,
    /// A text that what comes after `prefix` probably resembles. It makes decoding faster where it is right and
    /// never changes the answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub guess: String,
    /// Which adapter to compute it with. Clients of the appliance have no say in it.
    #[serde(default, skip_serializing_if = "Apply::is_in_use")]
    pub apply: Apply,
}

/// What an answer must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Constraint {
    /// Any JSON object.
    JsonObject,
    /// JSON that satisfies this schema.
    JsonSchema {
        /// The schema.
        schema: serde_json::Value,
    },
    /// The whole answer matches this regular expression (Rust's syntax; no look-around, no anchors needed).
    Regex {
        /// The expression.
        pattern: String,
    },
    /// The whole answer is a sentence of this grammar, in Lark's notation with the rule `start`.
    Lark {
        /// The grammar.
        grammar: String,
    },
}

/// A question for how likely an answer is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Score {
    /// Request id, for logs.
    pub id: String,
    /// Whose request this is, as in [`Generate::client`].
    pub client: String,
    /// The conversation the answer would follow.
    pub messages: Vec<Message>,
    /// The answer.
    pub text: String,
    /// Which adapter to compute it with, as in [`Generate::apply`].
    #[serde(default, skip_serializing_if = "Apply::is_in_use")]
    pub apply: Apply,
}

/// A question for how many tokens a conversation has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Count {
    /// The conversation.
    pub messages: Vec<Message>,
}

/// A question for the tokens of a conversation that goes on with a given answer, as a trainer needs them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encode {
    /// The conversation, rendered with the model's own chat template.
    pub messages: Vec<Message>,
    /// The answer.
    pub text: String,
    /// Most tokens of both together; more are answered with [`ErrorKind::ContextLength`].
    pub most: u32,
    /// Whether the answer ends here, so that the end of the model's turn follows; else it was cut off.
    pub ends: bool,
}

/// Answer to [`Request::Encode`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoded {
    /// Those of the conversation, those of the answer, and, where that ends, what ends the model's turn.
    pub tokens: Vec<u32>,
    /// Where the answer begins: what is before it is not to be learnt, everything from here on is.
    pub answer: u32,
    /// Tokens of the model's vocabulary.
    pub vocabulary: u32,
}

/// How long a conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Tokens of the rendered prompt. For one that is far too long only that it has at least so many, which are too
    /// many.
    pub tokens: u32,
    /// Context of one request now, tokens.
    pub context: u32,
}

/// One turn of the conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who speaks in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions above the conversation.
    System,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
}

/// How the next token is chosen: temperature, then nucleus (top-p), then a draw with the seed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 is greedy; at most 2.
    pub temperature: f32,
    /// Nucleus mass in (0, 1]; 1 keeps every token.
    pub top_p: f32,
    /// Seed of the draw; `None` draws one from the kernel.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            seed: None,
        }
    }
}

/// What an engine says while it works.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The request left the queue and its prompt is about to be evaluated.
    Started {
        /// Tokens of the rendered prompt.
        prompt_tokens: u32,
        /// How many of them were already in the KV cache.
        cached_tokens: u32,
        /// The adapter it is computed with, from here to its end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adapter: Option<Adapter>,
    },
    /// The next piece of the answer.
    Token(Token),
    /// The answer is complete.
    Done(Done),
    /// Answer to [`Request::Score`].
    Scored(Scored),
    /// Answer to [`Request::Count`].
    Counted(Counted),
    /// Answer to [`Request::Encode`].
    Encoded(Encoded),
    /// The request ended without a complete answer.
    Error(Error),
    /// Answer to [`Request::Info`].
    Info(Info),
}

/// One sampled token. `text` may be empty while the bytes of a character are still incomplete, or while a
/// possible stop text is held back; it then arrives with a later token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// Text to append to the answer.
    pub text: String,
    /// The token's own bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of the token's probability under the model's unmodified distribution
    /// (temperature 1, no truncation).
    pub logprob: f32,
    /// The most likely alternatives, best first, as many as were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Alternative>,
}

/// How likely an answer is, token by token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Scored {
    /// The answer's tokens, in order; their bytes together are its text.
    pub tokens: Vec<Alternative>,
    /// Tokens of the rendered prompt, without the answer.
    pub prompt_tokens: u32,
    /// How many of the prompt's tokens came from the KV cache.
    pub cached_tokens: u32,
    /// Milliseconds spent in the queue.
    pub queue_ms: f64,
    /// Milliseconds from leaving the queue to the end.
    pub score_ms: f64,
}

/// A token and how likely it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Alternative {
    /// The token's own bytes.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended its turn or a stop text was met.
    Stop,
    /// `max_tokens` or the context's end was reached.
    Length,
}

/// Figures of a finished generation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// How many of them came from the KV cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
    /// Milliseconds spent in the queue.
    pub queue_ms: f64,
    /// Milliseconds from leaving the queue to the first token.
    pub prefill_ms: f64,
    /// Milliseconds from the first token to the last.
    pub decode_ms: f64,
    /// Tokens of [`Generate::guess`] that were decoded ahead.
    #[serde(default)]
    pub drafted: u32,
    /// How many of those were right and are part of the answer.
    #[serde(default)]
    pub accepted: u32,
}

/// A request the engine did not answer.
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Which kind; decides the HTTP status.
    pub kind: ErrorKind,
    /// What is wrong and what to do, for the client.
    pub message: String,
}

/// The kinds of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong: 400.
    Invalid,
    /// The prompt does not fit the context: 400, counts in the message.
    ContextLength,
    /// Too many requests wait: 503 with `Retry-After`.
    Busy,
    /// The engine failed: 500, or the fallback answers.
    Failed,
    /// The engine shuts down or reloads: 503, or the fallback answers.
    Stopping,
    /// The context was made smaller while the request ran, and it needs more: the fallback answers, or 503.
    Memory,
}

/// What an engine runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Model id of the attestation.
    pub model: String,
    /// SHA-256 of the model file, lower-case hex.
    pub digest: String,
    /// The adapter that requests are computed with now, if one is in use.
    #[serde(default)]
    pub adapter: Option<Adapter>,
    /// Context of one request now, tokens.
    pub context: u32,
    /// Context of one request the engine was started with, tokens; `context` is less while memory is short.
    #[serde(default)]
    pub configured: u32,
    /// Requests served at the same time.
    pub slots: u32,
    /// ggml CPU variant in use, for example `zen4`.
    pub cpu_variant: String,
    /// Requests waiting now.
    pub queued: u32,
    /// Requests running now.
    pub running: u32,
    /// What decoding several tokens of one sequence together costs here, measured at start. Empty where it was not
    /// measured: on a machine too slow, or for a model that cannot take tokens back or whose tokens do not come out
    /// of a batch bit for bit as they come out alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub batch_costs: Vec<BatchCost>,
}

/// The cost of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BatchCost {
    /// Tokens decoded together.
    pub tokens: u32,
    /// Their time over that of a single token.
    pub ratio: f32,
}
