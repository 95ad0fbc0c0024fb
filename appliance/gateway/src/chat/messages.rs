//! The conversation of a chat request.

use sarai_reflection::{Speaker, Turn};
use serde_json::{Map, Value};

use crate::errors::ApiError;
use crate::params::{unsupported, wrong_type};

/// Most turns of a conversation; the context holds far fewer.
const MOST_MESSAGES: usize = 2048;
/// Most parts of one message.
const MOST_PARTS: usize = 256;

/// Reads `messages`.
pub fn parse(value: Value) -> Result<Vec<Turn>, ApiError> {
    let Value::Array(items) = value else {
        return Err(wrong_type("messages", "an array"));
    };
    if items.is_empty() || items.len() > MOST_MESSAGES {
        let message = format!("`messages` must have 1 to {MOST_MESSAGES} members.");
        return Err(ApiError::param("messages", "invalid_value", message));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| message(&format!("messages[{index}]"), item))
        .collect()
}

fn message(at: &str, value: Value) -> Result<Turn, ApiError> {
    let Value::Object(mut members) = value else {
        return Err(wrong_type(at, "an object"));
    };
    // What is null is not there; clients that send an answer back send its empty members too.
    members.retain(|_, value| !value.is_null());
    let speaker = speaker(at, members.remove("role"))?;
    let text = match members.remove("content") {
        Some(Value::String(text)) => text,
        Some(Value::Array(parts)) => join(at, parts)?,
        Some(_) => {
            return Err(wrong_type(
                &format!("{at}.content"),
                "a string or an array of parts",
            ));
        }
        None => {
            // Say what is really in the way: a message made of a tool call has no content.
            unknown_member(at, &members)?;
            let param = format!("{at}.content");
            let message = format!("`{param}` is required.");
            return Err(ApiError::param(param, "missing_required_parameter", message));
        }
    };
    // An answer that is sent back with its drafts: they were no part of the conversation then and are none now.
    if speaker == Speaker::Assistant && members.get("reasoning_content").is_some_and(Value::is_string) {
        members.remove("reasoning_content");
    }
    // So with the empty list an OpenAI client adds to an answer it was given.
    if speaker == Speaker::Assistant && members.get("annotations").is_some_and(is_empty_list) {
        members.remove("annotations");
    }
    unknown_member(at, &members)?;
    Ok(Turn { speaker, text })
}

fn is_empty_list(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

fn unknown_member(at: &str, members: &Map<String, Value>) -> Result<(), ApiError> {
    match members.keys().next() {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(64).collect();
            Err(unsupported(&format!("{at}.{name}"), ""))
        }
    }
}

fn speaker(at: &str, role: Option<Value>) -> Result<Speaker, ApiError> {
    let param = format!("{at}.role");
    let wrong = |message: String| Err(ApiError::param(param.clone(), "invalid_value", message));
    match role {
        Some(Value::String(role)) => match role.as_str() {
            "system" | "developer" => Ok(Speaker::System),
            "user" => Ok(Speaker::User),
            "assistant" => Ok(Speaker::Assistant),
            "tool" | "function" => wrong(format!("`{param}`: the role {role} is not supported.")),
            _ => {
                let role: String = role.chars().take(64).collect();
                wrong(format!(
                    "`{param}` must be system, developer, user or assistant, not {role:?}."
                ))
            }
        },
        Some(_) => Err(wrong_type(&param, "a string")),
        None => {
            let message = format!("`{param}` is required.");
            Err(ApiError::param(param, "missing_required_parameter", message))
        }
    }
}

/// The text of a content in parts.
fn join(at: &str, parts: Vec<Value>) -> Result<String, ApiError> {
    let param = format!("{at}.content");
    if parts.is_empty() || parts.len() > MOST_PARTS {
        let message = format!("`{param}` must have 1 to {MOST_PARTS} parts.");
        return Err(ApiError::param(param, "invalid_value", message));
    }
    let mut whole = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        let Value::Object(mut part) = part else {
            return Err(wrong_type(&param, "an object"));
        };
        match part.remove("type") {
            Some(Value::String(kind)) if kind == "text" => {}
            Some(Value::String(kind)) => {
                let kind: String = kind.chars().take(64).collect();
                let message =
                    format!("`{param}.type`: parts of type {kind:?} are not supported, only \"text\".");
                return Err(ApiError::param(
                    format!("{param}.type"),
                    "unsupported_parameter",
                    message,
                ));
            }
            _ => return Err(wrong_type(&format!("{param}.type"), "a string")),
        }
        match part.remove("text") {
            Some(Value::String(text)) => whole.push_str(&text),
            _ => return Err(wrong_type(&format!("{param}.text"), "a string")),
        }
        unknown_member(&param, &part)?;
    }
    Ok(whole)
}
