//! The queries and what one took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sarai_tests::client::{Client, Event, omni_loop, stream_error};
use serde_json::{Value, json};

/// Tokens of an answer.
pub const ANSWER: u32 = 48;
/// Longest a query may take: the loop's deadline and some.
const PATIENCE: Duration = Duration::from_secs(300);

/// What one query took; times in milliseconds.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// From sending to the last byte.
    pub total: f64,
    /// From sending to the first text.
    pub first: f64,
    /// In the engine's queue.
    pub queue: f64,
    /// From leaving the queue to the first token.
    pub prefill: f64,
    /// From the first token to the last.
    pub decode: f64,
    /// Tokens of the prompt.
    pub prompt: f64,
    /// Of those, found in the cache.
    pub cached: f64,
    /// Of those evaluated, how many this conversation had evaluated before.
    pub again: f64,
    /// Tokens of the answer.
    pub tokens: f64,
    /// When it ended.
    pub end: Option<Instant>,
}

impl Sample {
    /// Milliseconds of decoding for one token.
    pub fn per_token(&self) -> f64 {
        self.decode / (self.tokens - 1.0).max(1.0)
    }

    /// Milliseconds of reading a token of the prompt.
    pub fn per_prompt_token(&self) -> f64 {
        self.prefill / (self.prompt - self.cached).max(1.0)
    }

    /// Of the time of reading the prompt, the part that was spent on what had been read before.
    pub fn prefill_again(&self) -> f64 {
        self.prefill * self.again / (self.prompt - self.cached).max(1.0)
    }
}

/// A conversation of one client: every fourth query goes on from the one before.
pub struct Conversation {
    client: Client,
    number: usize,
    /// Tokens of the prompts: half short, a third middling, the rest long.
    longest: u32,
    messages: Vec<Value>,
    /// Tokens the engine has evaluated of it.
    held: f64,
}

impl Conversation {
    /// A client that begins with query `number`; `context` bounds its long prompts.
    pub fn new(client: &Client, number: usize, context: u32) -> Result<Self> {
        Ok(Self {
            client: client.within(PATIENCE)?,
            number,
            longest: context / 2,
            messages: Vec::new(),
            held: 0.0,
        })
    }

    /// Asks the next query.
    pub fn ask(&mut self) -> Result<Sample> {
        let turn = self.number % 4;
        if turn != 3 {
            self.messages.clear();
            self.held = 0.0;
        }
        let words = match self.number % 6 {
            0 | 2 | 3 => 16,
            1 | 4 => 70,
            _ => usize::try_from(self.longest)? / 3,
        };
        self.messages
            .push(json!({"role": "user", "content": text(self.number, words)}));
        self.number += 1;
        let (mut sample, answer) = self
            .send()
            .with_context(|| format!("ask query {}", self.number))?;
        sample.again = (self.held.min(sample.prompt) - sample.cached).max(0.0);
        self.held = sample.prompt + sample.tokens;
        self.messages
            .push(json!({"role": "assistant", "content": answer}));
        Ok(sample)
    }

    fn send(&self) -> Result<(Sample, String)> {
        let ask = json!({
            "model": "sarai", "messages": self.messages, "max_tokens": ANSWER, "temperature": 0.0,
            // One iteration: drafts of noise say nothing about revisions.
            "reasoning_effort": "none",
            "stream_options": {"include_usage": true},
        });
        let begin = Instant::now();
        let mut events = self.client.stream(&ask)?.events()?;
        let mut sample = Sample::default();
        let mut seen = Vec::new();
        while let Some(event) = events.next_event()? {
            let text = match &event {
                Event::Data(data) => data["choices"][0]["delta"]["content"]
                    .as_str()
                    .unwrap_or_default(),
                Event::Done => "",
            };
            if sample.first == 0.0 && !text.is_empty() {
                sample.first = milliseconds(begin);
            }
            seen.push(event);
        }
        sample.total = milliseconds(begin);
        sample.end = Some(Instant::now());
        if let Some(error) = stream_error(&seen) {
            bail!("get an answer: {error}");
        }
        let report = omni_loop(&seen).context("find omni_loop in the answer")?;
        let step = &report["timings"]["iterations"][0];
        let figure = |name: &str| {
            step[name]
                .as_f64()
                .with_context(|| format!("find {name} in {step}"))
        };
        sample.queue = figure("queue_ms")?;
        sample.prefill = figure("prefill_ms")?;
        sample.decode = figure("decode_ms")?;
        sample.prompt = figure("prompt_tokens")?;
        sample.cached = figure("cached_tokens")?;
        sample.tokens = figure("tokens")?;
        Ok((sample, sarai_tests::client::content(&seen)))
    }
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// About `words` words, different from the first on for each number.
fn text(number: usize, words: usize) -> String {
    const WORDS: [&str; 24] = [
        "river", "measures", "every", "morning", "the", "station", "writes", "down", "wind", "and", "rain",
        "then", "sends", "what", "it", "found", "to", "people", "who", "mend", "boats", "near", "old",
        "harbour",
    ];
    let mut text = format!("Report {number}:");
    for at in 0..words {
        text.push(' ');
        text.push_str(WORDS[(at * 7 + number * 5 + at * at % 11) % WORDS.len()]);
    }
    text.push_str(". Which figures were they?");
    text
}
