//! The shipped client: one question to the gateway, over HTTPS like any other client on the network.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::AskOptions;
use crate::failure::Failure;
use crate::sse::Events;
use crate::target::{ApiError, Response, Target, not_understood, read_body};
use crate::text::{Paint, clean};

/// Longest question, bytes: the gateway's own bound on a body.
const MAX_QUESTION: u64 = 1024 * 1024;
/// Asks and prints: the answer on standard output, drafts, critiques and figures on standard error.
pub fn run(options: &AskOptions, socket: Option<&Path>) -> Result<(), Failure> {
    let text = question(&options.text)?;
    let target = Target::find(&options.server, socket)?;
    let streamed = !options.no_stream && !options.json;
    let start = Instant::now();
    let response = target.post(
        "/v1/chat/completions",
        &body(options, &text, streamed),
        "the question",
        Duration::from_secs(options.server.timeout),
    )?;
    if streamed && is_event_stream(&response) {
        let mut screen = Screen::new(options.reasoning);
        let mut end = read_stream(response.into_body().into_reader(), &mut screen, start)?;
        screen.line_end()?;
        end.total = start.elapsed();
        screen.figures(&end);
        return end.finish();
    }
    let text = read_body(response)?;
    if options.json {
        let value: Value = serde_json::from_str(&text).map_err(|e| not_understood(&e))?;
        return crate::print_json(&value);
    }
    let answer: Answer = serde_json::from_str(&text).map_err(|e| not_understood(&e))?;
    let mut screen = Screen::new(options.reasoning);
    let choice = answer.choices.into_iter().next().unwrap_or_default();
    let message = choice.message.unwrap_or_default();
    screen.reasoning(&message.reasoning_content.unwrap_or_default());
    screen.answer(&message.content.unwrap_or_default())?;
    screen.line_end()?;
    let end = End {
        id: answer.id,
        finish_reason: choice.finish_reason,
        omni_loop: answer.omni_loop,
        usage: answer.usage,
        first: None,
        total: start.elapsed(),
    };
    screen.figures(&end);
    end.finish()
}

fn question(words: &[String]) -> Result<String, Failure> {
    if words != ["-"] {
        return Ok(words.join(" "));
    }
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_QUESTION + 1)
        .read_to_string(&mut text)
        .map_err(|e| Failure::failed(format!("read the question from standard input: {e}")))?;
    if text.len() as u64 > MAX_QUESTION {
        return Err(Failure::usage(format!(
            "a question is at most {MAX_QUESTION} bytes"
        )));
    }
    Ok(text)
}

fn body(options: &AskOptions, text: &str, stream: bool) -> Value {
    let mut messages = Vec::new();
    if let Some(system) = &options.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    messages.push(json!({ "role": "user", "content": text }));
    let mut body = json!({ "model": "sarai", "messages": messages });
    if stream {
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(effort) = &options.effort {
        body["reasoning_effort"] = json!(effort);
    }
    if let Some(temperature) = options.temperature {
        body["temperature"] = json!(temperature);
    }
    if let Some(max) = options.max_tokens {
        body["max_completion_tokens"] = json!(max);
    }
    body
}

fn is_event_stream(response: &Response) -> bool {
    let kind = response
        .headers()
        .get("content-type")
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    kind.starts_with("text/event-stream")
}

/// A response that is not streamed.
#[derive(Debug, Default, Deserialize)]
struct Answer {
    id: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    omni_loop: Option<OmniLoop>,
    usage: Option<Usage>,
}

/// One event of a streamed response; also the shape of an error.
#[derive(Debug, Default, Deserialize)]
struct Chunk {
    id: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    omni_loop: Option<OmniLoop>,
    usage: Option<Usage>,
    error: Option<ApiError>,
}

#[derive(Debug, Default, Deserialize)]
struct Choice {
    message: Option<Text>,
    delta: Option<Text>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Text {
    content: Option<String>,
    reasoning_content: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    completion_tokens: Option<u64>,
}

/// What the Omni-Loop did. Every field may be missing: a newer appliance may say it otherwise, and a question that
/// was answered shall not fail over its figures.
#[derive(Debug, Default, Deserialize)]
struct OmniLoop {
    iterations: Option<u64>,
    corrected: Option<bool>,
    confidence: Option<f64>,
    model: Option<String>,
    #[serde(default)]
    fallback: Value,
    fallback_reason: Option<String>,
    memory: Option<Memory>,
}

/// The memory ladder, where it touched the answer.
#[derive(Debug, Default, Deserialize)]
struct Memory {
    rung: Option<String>,
}

impl OmniLoop {
    /// `None`: the primary engine answered.
    fn fallback(&self) -> Option<String> {
        let reason = || self.fallback_reason.clone().unwrap_or_default();
        match &self.fallback {
            Value::Bool(true) => Some(reason()),
            Value::String(why) => Some(why.clone()),
            Value::Object(what) => Some(
                what.get("reason")
                    .and_then(Value::as_str)
                    .map_or_else(reason, str::to_owned),
            ),
            _ => None,
        }
    }
}

/// How a response ended.
#[derive(Debug, Default)]
struct End {
    /// Of the completion.
    id: Option<String>,
    finish_reason: Option<String>,
    omni_loop: Option<OmniLoop>,
    usage: Option<Usage>,
    /// Until the first text of any kind.
    first: Option<Duration>,
    total: Duration,
}

impl End {
    fn figures(&self) -> String {
        let mut parts = Vec::new();
        let mut add = |text: String| parts.push(text);
        if let Some(done) = &self.omni_loop {
            if let Some(n) = done.iterations {
                add(format!("{n} {}", if n == 1 { "iteration" } else { "iterations" }));
            }
            if let Some(corrected) = done.corrected {
                add(if corrected { "corrected" } else { "not corrected" }.to_owned());
            }
            if let Some(confidence) = done.confidence {
                add(format!("confidence {confidence:.2}"));
            }
            if let Some(model) = &done.model {
                add(model.clone());
            }
            if let Some(why) = done.fallback() {
                add(if why.is_empty() {
                    "fallback".to_owned()
                } else {
                    format!("fallback: {why}")
                });
            }
            if let Some(rung) = done.memory.as_ref().and_then(|memory| memory.rung.as_ref()) {
                add(format!("memory is short: {}", rung.replace('_', " ")));
            }
        }
        if let Some(tokens) = self.usage.as_ref().and_then(|u| u.completion_tokens) {
            add(format!("{tokens} tokens"));
        }
        if let Some(first) = self.first {
            add(format!("first text {:.2} s", first.as_secs_f64()));
        }
        add(format!("{:.2} s", self.total.as_secs_f64()));
        if self.finish_reason.as_deref() == Some("length") {
            add("cut at the token limit".to_owned());
        }
        clean(&parts.join(", "), false)
    }

    /// How to say what one thinks of it.
    fn hint(&self) -> Option<String> {
        let id = self.id.as_ref().filter(|_| self.finish_reason.is_some())?;
        let id = clean(id, false);
        Some(format!(
            "[was it good? sarai feedback send {id} SCORE, from 0 to 1]"
        ))
    }

    /// A response that never ended properly is a failure, whatever was shown.
    fn finish(&self) -> Result<(), Failure> {
        match self.finish_reason {
            Some(_) => Ok(()),
            None => Err(Failure::failed("read the whole answer: it ended early")),
        }
    }
}

/// Shows the events of a stream until `[DONE]`.
fn read_stream(from: impl Read, screen: &mut Screen, start: Instant) -> Result<End, Failure> {
    let mut events = Events::new(from);
    let mut end = End::default();
    while let Some(data) = events.next().map_err(Failure::failed)? {
        if data.trim() == "[DONE]" {
            return Ok(end);
        }
        let chunk: Chunk = serde_json::from_str(&data).map_err(|e| not_understood(&e))?;
        if let Some(error) = chunk.error {
            screen.line_end()?;
            return Err(Failure::refused(format!(
                "the answer broke off: {}",
                error.text()
            )));
        }
        end.id = end.id.or(chunk.id);
        end.omni_loop = chunk.omni_loop.or(end.omni_loop);
        end.usage = chunk.usage.or(end.usage);
        let Some(choice) = chunk.choices.into_iter().next() else {
            continue;
        };
        end.finish_reason = choice.finish_reason.or(end.finish_reason);
        let delta = choice.delta.unwrap_or_default();
        for (text, is_answer) in [(delta.reasoning_content, false), (delta.content, true)] {
            let Some(text) = text.filter(|text| !text.is_empty()) else {
                continue;
            };
            end.first.get_or_insert_with(|| start.elapsed());
            if is_answer {
                screen.answer(&text)?
            } else {
                screen.reasoning(&text)
            }
        }
    }
    screen.line_end()?;
    Err(Failure::failed(
        "read the whole answer: the connection ended early",
    ))
}

/// Puts the answer on standard output and the rest on standard error, each on lines of its own.
struct Screen {
    show_reasoning: bool,
    paint: Paint,
    /// Text was written and no newline after it: on standard output, on standard error.
    open: (bool, bool),
    /// Standard output is a terminal: the text must not steer it.
    terminal: bool,
}

impl Screen {
    fn new(reasoning: bool) -> Self {
        Self {
            show_reasoning: reasoning || std::io::stderr().is_terminal(),
            paint: Paint::stderr(),
            open: (false, false),
            terminal: std::io::stdout().is_terminal(),
        }
    }

    fn answer(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        if self.open.1 {
            let _ = writeln!(std::io::stderr());
            self.open.1 = false;
        }
        crate::print(&if self.terminal {
            clean(text, true)
        } else {
            text.to_owned()
        })?;
        self.open.0 = !text.ends_with('\n');
        Ok(())
    }

    fn reasoning(&mut self, text: &str) {
        if !self.show_reasoning || text.is_empty() {
            return;
        }
        let text = clean(text, true);
        let _ = write!(std::io::stderr(), "{}", self.paint.dim(&text));
        self.open.1 = !text.ends_with('\n');
    }

    fn line_end(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.open.1) {
            let _ = writeln!(std::io::stderr());
        }
        if std::mem::take(&mut self.open.0) {
            crate::print("\n")
        } else {
            Ok(())
        }
    }

    fn figures(&self, end: &End) {
        let _ = writeln!(
            std::io::stderr(),
            "{}",
            self.paint.dim(&format!("[{}]", end.figures()))
        );
        if let Some(hint) = end.hint() {
            let _ = writeln!(std::io::stderr(), "{}", self.paint.dim(&hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        Screen {
            show_reasoning: false,
            paint: Paint::off(),
            open: (false, false),
            terminal: false,
        }
    }

    fn stream(text: &str) -> Result<End, Failure> {
        read_stream(text.as_bytes(), &mut screen(), Instant::now())
    }

    #[test]
    fn a_stream_gives_its_figures() {
        let end = stream(concat!(
            "data: {\"id\":\"c-1\",\"choices\":[{\"delta\":{\"role\":\"assistant\"},\"finish_reason\":null}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],\"omni_loop\":{\"iterations\":2,\
             \"corrected\":true,\"confidence\":0.912,\"model\":\"m\",\"fallback\":true,\
             \"fallback_reason\":\"primary silent\",\"memory\":{\"rung\":\"half_context\"}}}\n\n",
            "data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n",
            "data: [DONE]\n\n"
        ))
        .unwrap();
        let figures = end.figures();
        assert!(
            figures.starts_with(
                "2 iterations, corrected, confidence 0.91, m, fallback: primary silent, memory is short: half context, \
                 7 tokens, first text "
            ),
            "{figures}"
        );
        assert!(end.finish().is_ok());
        let hint = end.hint().unwrap();
        assert!(hint.contains("sarai feedback send c-1 SCORE"), "{hint}");
    }

    #[test]
    fn a_stream_that_breaks_off_is_a_failure() {
        let failure = stream("data: {\"choices\":[]}\n\n").unwrap_err();
        assert!(failure.message.contains("ended early"), "{}", failure.message);
        let failure =
            stream("data: {\"error\":{\"message\":\"engine died\",\"code\":\"engine_failed\"}}\n\n");
        assert!(
            failure
                .unwrap_err()
                .message
                .contains("engine died [engine_failed]")
        );
        assert!(
            stream("data: nonsense\n\n")
                .unwrap_err()
                .message
                .contains("understand")
        );
        assert!(stream("data: [DONE]\n\n").unwrap().finish().is_err());
    }

    #[test]
    fn the_fallback_shows_however_it_is_told() {
        let told = |json: &str| serde_json::from_str::<OmniLoop>(json).unwrap().fallback();
        assert_eq!(told("{}"), None);
        assert_eq!(told("{\"fallback\":null}"), None);
        assert_eq!(told("{\"fallback\":false,\"fallback_reason\":null}"), None);
        assert_eq!(told("{\"fallback\":true}").unwrap(), "");
        assert_eq!(told("{\"fallback\":{\"reason\":\"late\"}}").unwrap(), "late");
    }
}
