//! Clients that keep asking while memory runs out, and what became of each request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sarai_tests::client::{Answer, Client, Event, Streamed, stream_error};
use serde_json::{Value, json};

/// Between two requests of one client: they leave an emulated machine some time of its own.
const PAUSE: Duration = Duration::from_millis(500);

/// Kinds of clients.
pub const KINDS: usize = 3;

/// How a request ended that was not lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With a whole answer.
    Answered {
        /// Why the fallback gave it, if it did.
        fallback: Option<String>,
        /// The lowest rung that touched it.
        rung: Option<String>,
    },
    /// With an error that says why.
    Refused {
        /// HTTP status; 200 where the error came in a stream that had begun.
        status: u16,
        /// Its name.
        code: String,
    },
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Kind of client.
    pub kind: &'static str,
    /// When it was sent.
    pub sent: Instant,
    /// When its first token was there, of those that are streamed.
    pub first: Option<Instant>,
    /// How; an error is a request that was lost.
    pub how: Result<End, String>,
}

/// What was asked so far.
#[derive(Debug, Default)]
pub struct Book(Mutex<Vec<Asked>>);

impl Book {
    /// Every request that has ended.
    pub fn all(&self) -> Vec<Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many kinds of clients were answered.
    pub fn kinds(&self) -> usize {
        let all = self.all();
        let answered = all
            .iter()
            .filter(|asked| matches!(asked.how, Ok(End::Answered { .. })));
        answered.map(|asked| asked.kind).collect::<BTreeSet<_>>().len()
    }

    /// So many requests of each kind ended in each way.
    pub fn table(&self) -> BTreeMap<String, usize> {
        let mut table = BTreeMap::new();
        for asked in self.all() {
            let how = match &asked.how {
                Ok(End::Answered { fallback, rung }) => format!(
                    "answered at {}{}",
                    rung.as_deref().unwrap_or("normal"),
                    fallback
                        .as_ref()
                        .map(|why| format!(" by the fallback ({why})"))
                        .unwrap_or_default()
                ),
                Ok(End::Refused { status, code }) => format!("refused with {status} {code}"),
                Err(_) => "LOST".to_owned(),
            };
            *table.entry(format!("{}: {how}", asked.kind)).or_default() += 1;
        }
        table
    }

    /// Asks once and writes down what came of it.
    fn ask(&self, client: &Client, kind: &'static str, body: &Value) -> bool {
        let sent = Instant::now();
        let (first, how) = if body["stream"] == true {
            stream(client, body)
        } else {
            (None, whole(client, body))
        };
        let refused = matches!(how, Ok(End::Refused { .. }));
        let asked = Asked {
            kind,
            sent,
            first,
            how: how.map_err(|e| format!("{e:#}")),
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        refused
    }
}

fn user(text: &str) -> Value {
    json!({
        "model": "sarai", "max_tokens": 3, "reasoning_effort": "none",
        "messages": [{"role": "user", "content": text}],
    })
}

/// Short ones, streams, and constrained ones.
fn bodies() -> [(&'static str, Value); KINDS] {
    let mut stream = user("go on");
    (stream["stream"], stream["max_tokens"]) = (true.into(), 16.into());
    let mut shape = user("an object");
    (shape["response_format"], shape["max_tokens"]) = (json!({"type": "json_object"}), 12.into());
    [("short", user("hello")), ("stream", stream), ("json", shape)]
}

/// Starts one client of each kind; each ends, with its request, when it is over.
pub fn start<'s>(scope: &'s Scope<'s, '_>, client: &Client, over: &'s AtomicBool, book: &'s Book) {
    for (kind, body) in bodies() {
        let client = client.clone();
        scope.spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let refused = book.ask(&client, kind, &body);
                thread::sleep(if refused { 3 * PAUSE } else { PAUSE });
            }
        });
    }
}

fn whole(client: &Client, body: &Value) -> Result<End> {
    let answer = client.chat(body)?;
    if answer.status != 200 {
        return refusal(&answer);
    }
    let json = answer.ok()?;
    ensure!(
        json["choices"][0]["finish_reason"].is_string(),
        "no end in {json}"
    );
    Ok(answered(&json["omni_loop"]))
}

/// Also gives when its first token came.
fn stream(client: &Client, body: &Value) -> (Option<Instant>, Result<End>) {
    let mut first = None;
    let how = follow(client, body, &mut first);
    (first, how)
}

fn follow(client: &Client, body: &Value, first: &mut Option<Instant>) -> Result<End> {
    let mut events = match client.stream(body)? {
        Streamed::Events(events) => events,
        Streamed::Answer(answer) => return refusal(&answer),
    };
    let mut seen = Vec::new();
    while let Some(event) = events.next_event()? {
        if let Event::Data(data) = &event
            && data["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
        {
            first.get_or_insert_with(Instant::now);
        }
        seen.push(event);
    }
    if let Some(error) = stream_error(&seen) {
        return Ok(End::Refused {
            status: 200,
            code: named(&error)?,
        });
    }
    ensure!(seen.contains(&Event::Done), "a stream without an end: {seen:?}");
    let omni = sarai_tests::client::omni_loop(&seen).context("no omni_loop in the stream")?;
    Ok(answered(&omni))
}

fn answered(omni: &Value) -> End {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    End::Answered {
        fallback: text(&omni["fallback_reason"]),
        rung: text(&omni["memory"]["rung"]),
    }
}

/// An error that a client can act on: its name, and with 503 when to come back.
fn refusal(answer: &Answer) -> Result<End> {
    let code = named(&answer.error()?)?;
    if answer.status == 503 {
        let after = answer.header("retry-after").and_then(|v| v.parse::<u32>().ok());
        ensure!(
            after.is_some_and(|s| (1..=3600).contains(&s)),
            "503 without Retry-After: {answer:?}"
        );
    } else if !(400..500).contains(&answer.status) {
        bail!("status {}: {}", answer.status, answer.body);
    }
    Ok(End::Refused {
        status: answer.status,
        code,
    })
}

fn named(error: &Value) -> Result<String> {
    ensure!(
        error["message"].as_str().is_some_and(|text| !text.is_empty()),
        "an error without a message: {error}"
    );
    let code = error["code"].as_str().filter(|code| !code.is_empty());
    code.map(str::to_owned)
        .with_context(|| format!("an error without a name: {error}"))
}
