//! A small HTTPS client that trusts one certificate authority and nothing else, and reads event streams.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// Where to ask, whom to trust, who asks.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    ca: Vec<u8>,
    url: String,
    key: Option<String>,
}

/// A complete response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What a request for an event stream was answered with.
#[derive(Debug)]
pub enum Streamed {
    /// Events follow.
    Events(Events),
    /// An ordinary response, as errors are.
    Answer(Answer),
}

/// Events of a running stream.
pub struct Events {
    lines: Box<dyn BufRead + Send>,
}

/// One step of an event stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A `data:` line with JSON.
    Data(Value),
    /// `data: [DONE]`.
    Done,
}

/// Makes aws-lc-rs the process's TLS provider, once.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that another part of the process chose one already; rustls then uses that.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

impl Client {
    /// A client of `url` (`https://HOST:PORT`) that trusts the PEM certificate in `ca`. Each call may take
    /// 60 s; see [`Client::within`].
    pub fn new(url: &str, ca: &Path, key: Option<&str>) -> Result<Self> {
        let ca = std::fs::read(ca).with_context(|| format!("read {}", ca.display()))?;
        Self::of_pem(url, &ca, key)
    }

    /// The same with the certificate itself.
    pub fn of_pem(url: &str, ca: &[u8], key: Option<&str>) -> Result<Self> {
        Self::build(url, ca.to_vec(), key.map(str::to_owned), Duration::from_secs(60))
    }

    fn build(url: &str, ca: Vec<u8>, key: Option<String>, deadline: Duration) -> Result<Self> {
        install_tls();
        let root = Certificate::from_pem(&ca).context("read the CA's certificate")?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[root]))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(deadline))
            .max_idle_connections(0)
            .proxy(None)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            ca,
            url: url.trim_end_matches('/').to_owned(),
            key,
        })
    }

    /// The same with another limit for each call, from connecting to the last byte.
    pub fn within(&self, deadline: Duration) -> Result<Self> {
        Self::build(&self.url, self.ca.clone(), self.key.clone(), deadline)
    }

    /// The same with another key, or none.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self {
            key: key.map(str::to_owned),
            ..self.clone()
        }
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Result<Answer> {
        let mut request = self.agent.get(format!("{}{path}", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        answer(request.call().with_context(|| format!("get {path}"))?)
    }

    /// `POST path` with these very bytes as `application/json`.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Result<Answer> {
        answer(self.send(path, body)?)
    }

    /// `POST path` with JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// A chat completion.
    pub fn chat(&self, body: &Value) -> Result<Answer> {
        self.post("/v1/chat/completions", body)
    }

    /// A streamed chat completion; `stream` is set here.
    pub fn stream(&self, body: &Value) -> Result<Streamed> {
        let mut body = body.clone();
        body["stream"] = true.into();
        let response = self.send("/v1/chat/completions", body.to_string().as_bytes())?;
        let kind = response
            .headers()
            .get("content-type")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            let lines = Box::new(BufReader::new(response.into_body().into_reader()));
            Ok(Streamed::Events(Events { lines }))
        } else {
            Ok(Streamed::Answer(answer(response)?))
        }
    }

    fn send(&self, path: &str, body: &[u8]) -> Result<ureq::http::Response<ureq::Body>> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        request.send(body).with_context(|| format!("post {path}"))
    }
}

fn answer(mut response: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .read_to_string()
        .context("read the response's body")?;
    Ok(Answer {
        status,
        headers,
        body,
    })
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("status {}: {:?}", self.status, self.body))
    }

    /// A header field.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// The JSON of a 200; anything else is an error that shows it.
    pub fn ok(&self) -> Result<Value> {
        if self.status != 200 {
            bail!("status {}: {}", self.status, self.body);
        }
        self.json()
    }

    /// `error` of an OpenAI-shaped error; fails when the body is not one.
    pub fn error(&self) -> Result<Value> {
        let body = self.json()?;
        let error = body
            .get("error")
            .with_context(|| format!("no error in {}", self.body))?;
        for field in ["message", "type", "param", "code"] {
            error
                .get(field)
                .with_context(|| format!("no error.{field} in {}", self.body))?;
        }
        if error["message"].as_str().is_none_or(str::is_empty) {
            bail!("an error without a message: {}", self.body);
        }
        Ok(error.clone())
    }
}

impl Streamed {
    /// The events, or an error that shows what came instead.
    pub fn events(self) -> Result<Events> {
        match self {
            Self::Events(events) => Ok(events),
            Self::Answer(answer) => bail!("no event stream but status {}: {}", answer.status, answer.body),
        }
    }
}

impl Events {
    /// The next event; `None` at the end of the body. Comment lines (keep-alives) are passed over. An error is
    /// a broken connection or the deadline.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).context("read the event stream")? == 0 {
                return Ok(None);
            }
            let Some(data) = line.trim_end().strip_prefix("data:") else {
                continue;
            };
            let data = data.trim_start();
            if data == "[DONE]" {
                return Ok(Some(Event::Done));
            }
            let value =
                serde_json::from_str(data).with_context(|| format!("understand the event {data:?}"))?;
            return Ok(Some(Event::Data(value)));
        }
    }

    /// Everything to the end of the body.
    pub fn rest(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while let Some(event) = self.next_event()? {
            events.push(event);
        }
        Ok(events)
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

/// All `delta.content` of these events, joined.
#[must_use]
pub fn content(events: &[Event]) -> String {
    deltas(events, "content")
}

/// All `delta.reasoning_content` of these events, joined.
#[must_use]
pub fn reasoning(events: &[Event]) -> String {
    deltas(events, "reasoning_content")
}

fn deltas(events: &[Event], field: &str) -> String {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Data(data) => data["choices"][0]["delta"][field].as_str(),
            Event::Done => None,
        })
        .collect()
}

/// The `omni_loop` object of these events: the last one that any carries.
#[must_use]
pub fn omni_loop(events: &[Event]) -> Option<Value> {
    events.iter().rev().find_map(|event| match event {
        Event::Data(data) => data.get("omni_loop").filter(|o| o.is_object()).cloned(),
        Event::Done => None,
    })
}

/// The `error` object of these events, if one came.
#[must_use]
pub fn stream_error(events: &[Event]) -> Option<Value> {
    events.iter().find_map(|event| match event {
        Event::Data(data) => data.get("error").filter(|e| e.is_object()).cloned(),
        Event::Done => None,
    })
}
