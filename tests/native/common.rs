//! What several of the native tests say in the same words.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sarai_tests::client::Client;
use sarai_tests::model::{self, Artifact};
use serde_json::{Value, json};

/// Longest any single request of these tests may take: the deadline of the loop (90 s), and some.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// A primary and a fallback, both tiny and made up, told apart by their ids.
pub fn pair() -> Result<[Artifact; 2]> {
    Ok([model::tiny("primary")?, model::tiny("fallback")?])
}

/// A short request: one iteration, few tokens.
pub fn short() -> Value {
    json!({
        "model": "sarai",
        "messages": [{"role": "user", "content": "hello there"}],
        "max_tokens": 4,
        "reasoning_effort": "none",
    })
}

/// A request that runs as long as a tiny model can be made to: most of its context.
pub fn long() -> Value {
    json!({
        "model": "sarai",
        "messages": [{"role": "user", "content": "tell me everything"}],
        "max_tokens": 1800,
        "temperature": 1.0,
        "reasoning_effort": "high",
    })
}

/// The `omni_loop` object of a complete answer.
pub fn omni_loop(answer: &Value) -> Result<&Value> {
    answer
        .get("omni_loop")
        .filter(|o| o.is_object())
        .with_context(|| format!("no omni_loop in {answer}"))
}

/// Why the fallback answered; `None` when the primary did.
pub fn fallback_reason(answer: &Value) -> Result<Option<String>> {
    reason_of(omni_loop(answer)?)
}

/// The same from an `omni_loop` object.
pub fn reason_of(omni: &Value) -> Result<Option<String>> {
    match omni
        .get("fallback")
        .and_then(Value::as_bool)
        .with_context(|| format!("no fallback in {omni}"))?
    {
        false => Ok(None),
        true => {
            let reason = omni["fallback_reason"].as_str().unwrap_or_default();
            ensure!(
                !reason.is_empty(),
                "the fallback answered and nobody says why: {omni}"
            );
            Ok(Some(reason.to_owned()))
        }
    }
}

/// A short request must be answered by the primary.
pub fn primary_answers(client: &Client) -> Result<Value> {
    let answer = client.chat(&short())?.ok()?;
    let reason = fallback_reason(&answer)?;
    ensure!(reason.is_none(), "the fallback answered: {reason:?}");
    Ok(answer)
}

/// A short request must be answered by the fallback, which says why.
pub fn fallback_answers(client: &Client) -> Result<String> {
    let answer = client.chat(&short())?.ok()?;
    fallback_reason(&answer)?.with_context(|| format!("the primary answered: {answer}"))
}
