//! A timing client for any OpenAI-compatible server: one streamed completion, clock on each event.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Longest stream read, bytes.
const MAX_STREAM: u64 = 16 * 1024 * 1024;

/// A server under measurement.
pub struct Server {
    /// Name in the table.
    pub name: &'static str,
    /// Its processes, for memory.
    pub pids: Vec<i32>,
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
}

/// What one streamed completion took.
pub struct Timing {
    /// Milliseconds from sending the request to the first piece of text.
    pub first_token_ms: f64,
    /// Milliseconds from the first piece to the last.
    pub decode_ms: f64,
    /// Tokens of the prompt, by the server's own count.
    pub prompt_tokens: f64,
    /// Tokens of the answer, by the server's own count.
    pub completion_tokens: f64,
}

impl Timing {
    /// Tokens after the first, per second.
    pub fn decode_tokens_per_second(&self) -> f64 {
        (self.completion_tokens - 1.0) / (self.decode_ms / 1000.0)
    }

    /// Prompt tokens per second until the first token.
    pub fn prefill_tokens_per_second(&self) -> f64 {
        self.prompt_tokens / (self.first_token_ms / 1000.0)
    }
}

fn agent(tls: Option<ureq::tls::TlsConfig>) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(300)));
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    config.build().new_agent()
}

impl Server {
    /// A server on plain HTTP.
    pub fn plain(name: &'static str, url: &str, pids: Vec<i32>) -> Self {
        Self {
            name,
            pids,
            agent: agent(None),
            url: url.to_owned(),
            key: None,
        }
    }

    /// A server on TLS with a certificate authority and a bearer key of its own.
    pub fn secured(name: &'static str, url: &str, ca: &Path, key: &str, pids: Vec<i32>) -> Result<Self> {
        let pem = std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?;
        let root = ureq::tls::Certificate::from_pem(&pem).context("read the certificate authority")?;
        let tls = ureq::tls::TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(ureq::tls::RootCerts::new_with_certs(&[root.to_owned()]))
            .build();
        Ok(Self {
            name,
            pids,
            agent: agent(Some(tls)),
            url: url.to_owned(),
            key: Some(key.to_owned()),
        })
    }

    /// Streams one greedy completion. `reasoning_effort: none` keeps the loop at its draft, which is what the
    /// peer does.
    pub fn ask(&self, prompt: &str, max_tokens: u32) -> Result<Timing> {
        let mut body = json!({
            "model": "sarai", "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens, "temperature": 0.0, "stream": true,
            "stream_options": {"include_usage": true},
        });
        let mut request = self.agent.post(format!("{}/v1/chat/completions", self.url));
        if let Some(key) = &self.key {
            body["reasoning_effort"] = json!("none");
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let start = Instant::now();
        let response = request
            .send_json(&body)
            .with_context(|| format!("ask {} at {}", self.name, self.url))?;
        let mut first = None;
        let mut last = start;
        let mut usage = Value::Null;
        for line in BufReader::new(response.into_body().into_reader().take(MAX_STREAM)).lines() {
            let line = line.with_context(|| format!("read the stream of {}", self.name))?;
            let Some(data) = line.strip_prefix("data: ").filter(|d| *d != "[DONE]") else {
                continue;
            };
            let event: Value = serde_json::from_str(data).context("read an event")?;
            if let Some(error) = event.get("error") {
                bail!("ask {}: {error}", self.name);
            }
            if event["choices"][0]["delta"]["content"]
                .as_str()
                .is_some_and(|text| !text.is_empty())
            {
                last = Instant::now();
                first.get_or_insert(last);
            }
            if event["usage"].is_object() {
                usage = event["usage"].clone();
            }
        }
        let first = first.with_context(|| format!("get any text from {}", self.name))?;
        let count = |name: &str| {
            usage[name]
                .as_f64()
                .with_context(|| format!("find {name} in the usage of {}", self.name))
        };
        Ok(Timing {
            first_token_ms: (first - start).as_secs_f64() * 1000.0,
            decode_ms: (last - first).as_secs_f64() * 1000.0,
            prompt_tokens: count("prompt_tokens")?,
            completion_tokens: count("completion_tokens")?,
        })
    }
}
