//! The clients of a soak: short and long requests, some who leave, some who ask what is wrong. Each request must end in
//! an answer or in a refusal that says why.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sarai_tests::client::{Answer, Client, Event, Streamed, stream_error};
use serde_json::{Value, json};

/// Longest a request may take: the loop's deadline, and a restart before it.
const PATIENCE: Duration = Duration::from_secs(150);
/// How long after a restart a connection may have been closed by it.
const RESTART: Duration = Duration::from_secs(3);
/// Lost requests that are told one by one.
const TOLD: usize = 20;

/// How the requests ended.
#[derive(Debug, Default)]
pub struct Tally {
    answered: AtomicUsize,
    refused: AtomicUsize,
    left: AtomicUsize,
    bad: AtomicUsize,
    lost: Mutex<Vec<String>>,
    begin: OnceLock<Instant>,
    retried: AtomicUsize,
    restarted: Mutex<Option<Instant>>,
}

impl Tally {
    /// Complete answers.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Good requests that were refused with a reason: busy, stopping, an engine that failed under them.
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// Streams that their client left.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Bad requests that were refused by name.
    pub fn bad(&self) -> usize {
        self.bad.load(Ordering::Relaxed)
    }

    /// Requests that were sent once more: their connection was closed by a restarting gateway before it had read them.
    pub fn retried(&self) -> usize {
        self.retried.load(Ordering::Relaxed)
    }

    /// The gateway is about to be restarted.
    pub fn restarting(&self) {
        if let Ok(mut restarted) = self.restarted.lock() {
            *restarted = Some(Instant::now());
        }
    }

    /// Whether this error is a connection that a restarting gateway closed without a response: what any client sends
    /// again.
    fn may_retry(&self, error: &anyhow::Error) -> bool {
        let unanswered = error.chain().any(|cause| {
            let text = cause.to_string();
            text.starts_with("post ") || text.starts_with("get ")
        });
        let restarted = self.restarted.lock().ok().and_then(|restarted| *restarted);
        unanswered && restarted.is_some_and(|at| at.elapsed() < RESTART)
    }

    /// What became of the lost ones.
    pub fn lost(&self) -> Vec<String> {
        self.lost.lock().map(|lost| lost.clone()).unwrap_or_default()
    }

    fn count(&self, what: &str, result: Result<End>) {
        let counter = match result {
            Ok(End::Answered) => &self.answered,
            Ok(End::Refused) => &self.refused,
            Ok(End::Left) => &self.left,
            Ok(End::Bad) => &self.bad,
            Err(error) => {
                if let Ok(mut lost) = self.lost.lock()
                    && lost.len() < TOLD
                {
                    let at = self.begin.get_or_init(Instant::now).elapsed().as_secs_f64();
                    lost.push(format!("{what} after {at:.1} s: {error:#}"));
                }
                return;
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a request ended that was not lost.
enum End {
    Answered,
    Refused,
    Left,
    Bad,
}

/// A short request: one iteration, few tokens.
pub fn short() -> Value {
    json!({
        "model": "sarai", "max_tokens": 8, "reasoning_effort": "none",
        "messages": [{"role": "user", "content": "hello there"}],
    })
}

fn long(number: usize) -> Value {
    json!({
        "model": "sarai", "max_tokens": 200, "temperature": 1.0, "seed": number,
        "messages": [{"role": "user", "content": format!("{number}: {}", "tell me everything about it. ".repeat(number % 40))}],
    })
}

/// Starts them; they end, each with its request, when it is over.
pub fn start<'scope>(
    scope: &'scope Scope<'scope, '_>,
    client: &Client,
    over: &'scope AtomicBool,
    tally: &'scope Tally,
) {
    type Ask = fn(&Client, usize) -> Result<End>;
    let kinds: [(&str, Ask, u64); 6] = [
        ("short", ask_short, 20),
        ("short, too", ask_short, 50),
        ("long", ask_long, 10),
        ("long stream", ask_stream, 10),
        ("leaver", leave, 100),
        ("bad", ask_badly, 100),
    ];
    tally.begin.get_or_init(Instant::now);
    for (name, ask, pause) in kinds {
        let client = client.within(PATIENCE);
        scope.spawn(move || {
            let client = match client {
                Ok(client) => client,
                Err(error) => return tally.count(name, Err(error)),
            };
            let mut number = 0;
            while !over.load(Ordering::Relaxed) {
                let mut result = ask(&client, number);
                if result.as_ref().is_err_and(|error| tally.may_retry(error)) {
                    tally.retried.fetch_add(1, Ordering::Relaxed);
                    result = ask(&client, number);
                }
                tally.count(name, result);
                number += 1;
                thread::sleep(Duration::from_millis(pause));
            }
        });
    }
}

/// A refusal is one that a program can read: a status that says whose fault it is, an error with a message.
fn judged(answer: &Answer) -> Result<End> {
    if answer.status == 200 {
        let choice = &answer.json()?["choices"][0];
        ensure!(
            choice["finish_reason"].is_string(),
            "an answer without an end: {}",
            answer.body
        );
        return Ok(End::Answered);
    }
    answer.error()?;
    match answer.status {
        500 | 503 | 504 => Ok(End::Refused),
        429 => {
            answer.header("retry-after").context("find retry-after")?;
            Ok(End::Refused)
        }
        other => bail!("get an answer: status {other}: {}", answer.body),
    }
}

fn ask_short(client: &Client, _number: usize) -> Result<End> {
    judged(&client.chat(&short())?)
}

fn ask_long(client: &Client, number: usize) -> Result<End> {
    judged(&client.chat(&long(number))?)
}

fn ask_stream(client: &Client, number: usize) -> Result<End> {
    let mut events = match client.stream(&long(number))? {
        Streamed::Answer(answer) => return judged(&answer),
        Streamed::Events(events) => events,
    };
    let seen = events.rest()?;
    if stream_error(&seen).is_some() {
        return Ok(End::Refused);
    }
    ensure!(
        seen.last() == Some(&Event::Done),
        "a stream that ends without [DONE]"
    );
    Ok(End::Answered)
}

fn leave(client: &Client, number: usize) -> Result<End> {
    match client.stream(&long(number))? {
        Streamed::Answer(answer) => judged(&answer),
        Streamed::Events(mut events) => {
            for _ in 0..number % 5 {
                if events.next_event()?.is_none() {
                    break;
                }
            }
            Ok(End::Left)
        }
    }
}

/// What is wrong is said by a status that blames the client.
fn ask_badly(client: &Client, number: usize) -> Result<End> {
    badly(client, number % 5).with_context(|| format!("ask badly in way {}", number % 5))
}

fn badly(client: &Client, way: usize) -> Result<End> {
    let answer = match way {
        0 => client.post_bytes("/v1/chat/completions", b"{\"model\": ")?,
        1 => client.chat(&json!({"model": "sarai", "messages": [], "logit_bias": {"1": 2}}))?,
        2 => client.with_key(Some("nobody's")).chat(&short())?,
        3 => client.get("/v1/nothing")?,
        _ => client.chat(&json!({
            "model": "sarai",
            "messages": [{"role": "user", "content": "too long ".repeat(4000)}],
        }))?,
    };
    // Who cannot be served at all is told that first.
    if matches!(answer.status, 429 | 500 | 503) {
        return judged(&answer);
    }
    answer.error()?;
    ensure!(
        (400..500).contains(&answer.status),
        "status {}: {}",
        answer.status,
        answer.body
    );
    Ok(End::Bad)
}
