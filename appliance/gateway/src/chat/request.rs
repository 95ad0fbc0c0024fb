//! The parameters of a chat request. Each is accepted, within bounds, or refused by its name; none is ignored.

use sarai_reflection::{Constraint, ITERATION_LIMIT, Iterations, Settings, Turn, Worth};
use sarai_wire::engine::Sampling;
use serde_json::{Map, Value};

use super::messages;
use crate::errors::ApiError;
use crate::limits::Limits;
use crate::params::{Params, missing, out_of_range, unsupported, wrong_type};

/// Sampling where the client names none: small models wander at OpenAI's 1.0.
pub const DEFAULT_TEMPERATURE: f32 = 0.7;
/// The same for the nucleus.
pub const DEFAULT_TOP_P: f32 = 0.95;
/// Most tokens a client may ask for; the context is far smaller.
const MOST_TOKENS: u64 = 1_000_000;
/// Most stop texts.
const MOST_STOPS: usize = 4;
/// Longest stop text, bytes.
const LONGEST_STOP: usize = 256;
/// Score a draft needs to be returned at once when the client asks for high effort.
const HIGH_EARLY_EXIT: f64 = 0.95;

/// How much work an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// `none`, `minimal`: the draft is the answer.
    None,
    /// At most one reflection.
    Low,
    /// At most two reflections: the default.
    Medium,
    /// Two reflections unless the draft is very sure.
    High,
}

impl Effort {
    /// The loop's settings for this effort. How many reflections a request of this kind is worth decides where the
    /// client did not.
    pub fn settings(self, limits: &Limits, worth: Worth) -> Settings {
        let (iterations, early_exit, worth) = match self {
            Self::None => (Iterations::DRAFT_ONLY, limits.early_exit, worth),
            Self::Low => (Iterations::at_most(2), limits.early_exit, worth),
            Self::Medium => (Iterations::at_most(ITERATION_LIMIT), limits.early_exit, worth),
            Self::High => (
                Iterations::at_most(ITERATION_LIMIT),
                limits.early_exit.max(HIGH_EARLY_EXIT),
                Worth {
                    when_clean: 2,
                    when_found: 2,
                },
            ),
        };
        Settings {
            iterations,
            early_exit,
            worth,
            insist: self == Self::High,
            iteration_timeout: limits.iteration,
            deadline: limits.deadline,
            sampled: false,
        }
    }
}

/// A chat request whose every value is within its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Chat {
    /// The model the client named.
    pub model: String,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// At most this many new tokens in each iteration.
    pub max_tokens: Option<u32>,
    /// Sampling of the next token.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// Whether the client wants each token's log-probability.
    pub logprobs: bool,
    /// How many alternatives it wants with it.
    pub top_logprobs: u8,
    /// Whether it wants events instead of one object.
    pub stream: bool,
    /// Whether it wants the usage as a last event.
    pub include_usage: bool,
    /// How much work the answer is worth.
    pub effort: Effort,
    /// What the answer must match.
    pub constraint: Option<Constraint>,
    /// Whether the oldest turns may be left out where the conversation does not fit.
    pub truncate: bool,
    /// Whether the answer may be kept for a while to be judged.
    pub store: bool,
}

/// Parameters of OpenAI's interface the appliance does not have, so that the error can tell them from a slip of
/// the pen.
const KNOWN: &[&str] = &[
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "modalities",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "tool_choice",
    "tools",
    "verbosity",
    "web_search_options",
];

impl Chat {
    /// Reads the body's members.
    pub fn parse(body: Map<String, Value>) -> Result<Self, ApiError> {
        let mut params = Params(body);
        let model = match params.take("model") {
            Some(Value::String(model)) if !model.is_empty() && model.len() <= 256 => model,
            Some(Value::String(_)) => return Err(out_of_range("model", "a name of 1 to 256 bytes")),
            Some(_) => return Err(wrong_type("model", "a string")),
            None => return Err(missing("model")),
        };
        let turns = match params.take("messages") {
            Some(value) => messages::parse(value)?,
            None => return Err(missing("messages")),
        };
        let max_tokens = max_tokens(&mut params)?;
        let temperature = small(params.number("temperature", 0.0, 2.0)?, DEFAULT_TEMPERATURE);
        let top_p = small(params.number("top_p", 0.0, 1.0)?, DEFAULT_TOP_P);
        // Also what is so small that it became zero.
        if top_p <= 0.0 {
            return Err(out_of_range("top_p", "above 0 and at most 1"));
        }
        let seed = match params.take("seed") {
            None => None,
            Some(value) => Some(match (value.as_u64(), value.as_i64()) {
                (Some(seed), _) => seed,
                (None, Some(seed)) => seed.cast_unsigned(),
                (None, None) => return Err(wrong_type("seed", "a whole number of 64 bits")),
            }),
        };
        let stop = stop(params.take("stop"))?;
        if params.count("n", 1, 128)?.is_some_and(|n| n != 1) {
            return Err(unsupported("n", " above 1: one answer a request"));
        }
        let logprobs = params.flag("logprobs")?;
        let top_logprobs = params.count("top_logprobs", 0, 20)?;
        if top_logprobs.is_some() && !logprobs {
            return Err(ApiError::param(
                "top_logprobs",
                "invalid_value",
                "`top_logprobs` needs `logprobs` to be true.",
            ));
        }
        let stream = params.flag("stream")?;
        let include_usage = stream_options(params.take("stream_options"), stream)?;
        let effort = effort(params.take("reasoning_effort").as_ref())?;
        let truncate = truncation(params.take("truncation").as_ref())?;
        let store = store(params.take("store").as_ref())?;
        harmless(&mut params)?;
        let constraint = response_format(params.take("response_format"))?;
        if let Some((name, value)) = params.0.into_iter().next() {
            let known = KNOWN.contains(&name.as_str());
            if !(known && value.is_null()) {
                let shown: String = name.chars().take(64).collect();
                return Err(if known {
                    unsupported(&shown, " here")
                } else {
                    let message = format!("`{shown}` is not a parameter of chat completions.");
                    ApiError::param(shown, "unknown_parameter", message)
                });
            }
        }
        Ok(Self {
            model,
            turns,
            max_tokens,
            sampling: Sampling {
                temperature,
                top_p,
                seed,
            },
            stop,
            logprobs,
            top_logprobs: u8::try_from(top_logprobs.unwrap_or(0)).unwrap_or(0),
            stream,
            include_usage,
            effort,
            constraint,
            truncate,
            store,
        })
    }
}

/// A small number where f32 is precise enough, or its default.
#[expect(clippy::cast_possible_truncation, reason = "between 0 and 2")]
fn small(number: Option<f64>, default: f32) -> f32 {
    number.map_or(default, |number| number as f32)
}

/// The parameter as OpenAI's Responses API has it.
fn truncation(value: Option<&Value>) -> Result<bool, ApiError> {
    match value.map(Value::as_str) {
        None | Some(Some("disabled")) => Ok(false),
        Some(Some("auto")) => Ok(true),
        Some(Some(_)) => Err(out_of_range("truncation", "auto or disabled")),
        Some(None) => Err(wrong_type("truncation", "a string")),
    }
}

fn max_tokens(params: &mut Params) -> Result<Option<u32>, ApiError> {
    let old = params.count("max_tokens", 1, MOST_TOKENS)?;
    let new = params.count("max_completion_tokens", 1, MOST_TOKENS)?;
    if let (Some(old), Some(new)) = (old, new)
        && old != new
    {
        return Err(ApiError::param(
            "max_tokens",
            "invalid_value",
            "`max_tokens` and `max_completion_tokens` differ; send one of them.",
        ));
    }
    Ok(new.or(old).and_then(|count| u32::try_from(count).ok()))
}

fn stop(value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let texts = match value {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) if items.len() <= MOST_STOPS => items
            .into_iter()
            .map(|item| match item {
                Value::String(text) => Ok(text),
                _ => Err(wrong_type("stop", "a string or an array of strings")),
            })
            .collect::<Result<_, _>>()?,
        Some(Value::Array(_)) => return Err(out_of_range("stop", &format!("at most {MOST_STOPS} strings"))),
        Some(_) => return Err(wrong_type("stop", "a string or an array of strings")),
    };
    if texts
        .iter()
        .any(|text| text.is_empty() || text.len() > LONGEST_STOP)
    {
        return Err(out_of_range(
            "stop",
            &format!("made of strings of 1 to {LONGEST_STOP} bytes"),
        ));
    }
    Ok(texts)
}

fn stream_options(value: Option<Value>, stream: bool) -> Result<bool, ApiError> {
    let mut options = match value {
        None => return Ok(false),
        Some(Value::Object(options)) => Params(options),
        Some(_) => return Err(wrong_type("stream_options", "an object")),
    };
    if !stream {
        let message = "`stream_options` needs `stream` to be true.";
        return Err(ApiError::param("stream_options", "invalid_value", message));
    }
    let include_usage = match options.take("include_usage") {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => return Err(wrong_type("stream_options.include_usage", "true or false")),
    };
    match options.0.keys().next() {
        None => Ok(include_usage),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(unsupported(&format!("stream_options.{name}"), ""))
        }
    }
}

fn effort(value: Option<&Value>) -> Result<Effort, ApiError> {
    match value.map(Value::as_str) {
        None | Some(Some("medium")) => Ok(Effort::Medium),
        Some(Some("none" | "minimal")) => Ok(Effort::None),
        Some(Some("low")) => Ok(Effort::Low),
        Some(Some("high")) => Ok(Effort::High),
        Some(Some(_)) => Err(out_of_range(
            "reasoning_effort",
            "one of none, minimal, low, medium, high",
        )),
        Some(None) => Err(wrong_type("reasoning_effort", "a string")),
    }
}

/// Parameters that ask for what happens anyway.
fn harmless(params: &mut Params) -> Result<(), ApiError> {
    match params.take("user") {
        None | Some(Value::String(_)) => {}
        Some(_) => return Err(wrong_type("user", "a string")),
    }
    match params.take("metadata") {
        None => {}
        Some(Value::Object(map)) if map.values().all(Value::is_string) => {}
        Some(_) => return Err(wrong_type("metadata", "an object of strings")),
    }
    Ok(())
}

/// Whether the answer may be kept for a while to be judged. Kept in the sense of OpenAI's API, to be listed and read
/// back, none is.
fn store(value: Option<&Value>) -> Result<bool, ApiError> {
    match value {
        None => Ok(true),
        Some(Value::Bool(false)) => Ok(false),
        Some(Value::Bool(true)) => Err(unsupported(
            "store",
            " as true: answers are kept to be judged and for nothing else, and with false not even for that",
        )),
        Some(_) => Err(wrong_type("store", "true or false")),
    }
}

/// Largest schema, bytes of JSON.
const LARGEST_SCHEMA: usize = 64 * 1024;

/// What the answer must match; the engine enforces it while it writes.
fn response_format(value: Option<Value>) -> Result<Option<Constraint>, ApiError> {
    let mut format = match value {
        None => return Ok(None),
        Some(Value::Object(format)) => Params(format),
        Some(_) => return Err(wrong_type("response_format", "an object")),
    };
    let kind = match format.take("type") {
        Some(Value::String(kind)) => kind,
        _ => return Err(wrong_type("response_format.type", "a string")),
    };
    let schema = format.take("json_schema");
    if let Some(name) = format.0.keys().next() {
        let name: String = name.chars().take(64).collect();
        return Err(unsupported(&format!("response_format.{name}"), ""));
    }
    match (kind.as_str(), schema) {
        ("text", None) => Ok(None),
        ("json_object", None) => Ok(Some(Constraint::JsonObject)),
        ("json_schema", Some(Value::Object(schema))) => json_schema(schema).map(Some),
        ("json_schema", _) => Err(wrong_type("response_format.json_schema", "an object")),
        ("text" | "json_object", Some(_)) => {
            Err(unsupported("response_format.json_schema", " with this type"))
        }
        _ => Err(out_of_range(
            "response_format.type",
            "one of text, json_object, json_schema",
        )),
    }
}

/// The schema in OpenAI's wrapping. It is always enforced, whatever `strict` says.
fn json_schema(wrapping: Map<String, Value>) -> Result<Constraint, ApiError> {
    let mut wrapping = Params(wrapping);
    match wrapping.take("name") {
        None | Some(Value::String(_)) => {}
        Some(_) => return Err(wrong_type("response_format.json_schema.name", "a string")),
    }
    match wrapping.take("description") {
        None | Some(Value::String(_)) => {}
        Some(_) => return Err(wrong_type("response_format.json_schema.description", "a string")),
    }
    wrapping.flag("strict")?;
    let schema = match wrapping.take("schema") {
        Some(schema @ (Value::Object(_) | Value::Bool(_))) => schema,
        _ => return Err(wrong_type("response_format.json_schema.schema", "an object")),
    };
    if let Some(name) = wrapping.0.keys().next() {
        let name: String = name.chars().take(64).collect();
        return Err(unsupported(&format!("response_format.json_schema.{name}"), ""));
    }
    if schema.to_string().len() > LARGEST_SCHEMA {
        return Err(out_of_range(
            "response_format.json_schema.schema",
            &format!("at most {LARGEST_SCHEMA} bytes long"),
        ));
    }
    Ok(Constraint::JsonSchema(schema))
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
