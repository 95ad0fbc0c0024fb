//! One engine behind its Unix socket.
//!
//! Each generation has a connection of its own: closing it cancels the generation. The connection's first words ask
//! what is loaded, which an engine answers at once however busy it is. So a dead or stopped engine, whose socket
//! still takes connections because the supervisor keeps it, is told from a busy one within a second.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use sarai_reflection::{
    Alternative, Begun, Failure, FailureKind, Finish, Finished, Out, Piece, Refused, Scored, Source, Work,
};
use sarai_wire::adapter::{Adapter, Apply};
use sarai_wire::engine::{
    Count, Counted, Encode, Encoded, ErrorKind, Event, FinishReason, Generate, Info, Message, Request, Score,
    Token,
};
use sarai_wire::frame::{self, FrameError};
use tokio::net::UnixStream;

/// How an engine failed to answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Its socket takes no connection.
    #[error("connect to the engine: {0}")]
    Refused(#[source] io::Error),
    /// It ended the connection.
    #[error("hear the engine out: it closed the connection")]
    Closed,
    /// It does not even say what it runs.
    #[error("hear from the engine: it does not respond")]
    Unresponsive,
    /// It lives, but said nothing about this request for too long.
    #[error("hear from the engine: it has been silent for too long")]
    Silent,
    /// It says that it failed.
    #[error("generate: {0}")]
    Failed(String),
    /// It shuts down or reloads.
    #[error("generate: the engine is stopping")]
    Stopping,
    /// Its context was made smaller while the request ran, which needs more.
    #[error("generate: {0}")]
    Memory(String),
    /// It said something that cannot be understood.
    #[error("understand the engine: {0}")]
    Protocol(String),
    /// It refused this request; another engine would too.
    #[error("generate: {0}")]
    Request(Failure),
    /// The receiving side did not take the answer.
    #[error(transparent)]
    Out(#[from] Refused),
}

impl Trouble {
    /// Short stable name: the reason of a fallback in responses and metrics. `None` where another engine would
    /// not help.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused(_) => Some("refused"),
            Self::Closed => Some("closed"),
            Self::Unresponsive => Some("unresponsive"),
            Self::Silent => Some("silent"),
            Self::Failed(_) => Some("failed"),
            Self::Stopping => Some("stopping"),
            Self::Memory(_) => Some("memory"),
            Self::Protocol(_) => Some("protocol"),
            Self::Request(_) | Self::Out(_) => None,
        }
    }

    /// The failure a client hears of. An engine's own troubles stay in the log.
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Request(failure) => failure,
            Self::Out(refused) => refused.into(),
            Self::Memory(why) => Failure {
                kind: FailureKind::Unavailable,
                message: format!("The engine could not go on: {why}."),
            },
            other => {
                let reason = other.reason().unwrap_or("failed");
                let message = format!("The engine could not answer ({reason}). Try again in a moment.");
                Failure {
                    kind: FailureKind::Unavailable,
                    message,
                }
            }
        }
    }
}

impl From<FrameError> for Trouble {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed | FrameError::Io(_) => Self::Closed,
            FrameError::TooLarge(_) | FrameError::Decode(_) | FrameError::Encode(_) => {
                Self::Protocol(error.to_string())
            }
        }
    }
}

impl From<sarai_wire::engine::Error> for Trouble {
    fn from(error: sarai_wire::engine::Error) -> Self {
        let kind = match error.kind {
            ErrorKind::Failed => return Self::Failed(error.message),
            ErrorKind::Stopping => return Self::Stopping,
            ErrorKind::Memory => return Self::Memory(error.message),
            ErrorKind::Invalid => FailureKind::Invalid,
            ErrorKind::ContextLength => FailureKind::ContextLength,
            ErrorKind::Busy => FailureKind::Busy,
        };
        Self::Request(Failure {
            kind,
            message: error.message,
        })
    }
}

/// How long an engine is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until it says what it runs.
    pub hello: Duration,
    /// Between two events of a generation.
    pub silence: Duration,
    /// While it is silent: how often it is asked whether it lives, and how long the answer may take. `None` where
    /// no other engine could take over.
    pub probe: Option<(Duration, Duration)>,
}

/// Which adapter of an engine has a request: the one that its first generation began with, so that a draft and its
/// revisions are one model's, whatever is put to use meanwhile.
#[derive(Debug, Default)]
pub struct Pin(OnceLock<Option<String>>);

impl Pin {
    fn set(&self, adapter: Option<&Adapter>) {
        // The first one counts.
        let _ = self.0.set(adapter.map(|adapter| adapter.digest.clone()));
    }

    /// What to ask the engine for.
    pub fn apply(&self) -> Apply {
        self.0.get().map_or(Apply::InUse, |digest| Apply::Rather {
            digest: digest.clone(),
        })
    }
}

/// One engine.
#[derive(Debug)]
pub struct Engine {
    /// `primary` or `fallback`.
    pub name: &'static str,
    socket: PathBuf,
    last: Mutex<Option<Arc<Info>>>,
}

impl Engine {
    /// The engine that listens on `socket`.
    pub fn new(name: &'static str, socket: PathBuf) -> Self {
        Self {
            name,
            socket,
            last: Mutex::default(),
        }
    }

    /// What it last said it runs; `None` if it never said.
    pub fn last_info(&self) -> Option<Arc<Info>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it runs now, asked on a connection of its own.
    pub async fn info(&self, within: Duration) -> Result<Arc<Info>, Trouble> {
        self.greet(within).await.map(|(_, info)| info)
    }

    /// Whether it last said that it runs the model with this SHA-256.
    pub fn runs(&self, digest: &str) -> bool {
        self.last_info().is_some_and(|info| info.digest == digest)
    }

    /// What it runs, if it answers at all: one that is too busy to say so is as it last said.
    pub async fn seen(&self, within: Duration) -> Option<Arc<Info>> {
        match self.info(within).await {
            Ok(info) => Some(info),
            Err(Trouble::Request(_)) => self.last_info(),
            Err(_) => None,
        }
    }

    async fn greet(&self, within: Duration) -> Result<(UnixStream, Arc<Info>), Trouble> {
        let greeting = async {
            let mut stream = UnixStream::connect(&self.socket)
                .await
                .map_err(Trouble::Refused)?;
            frame::write_async(&mut stream, &Request::Info).await?;
            match frame::read_async::<Event>(&mut stream).await? {
                Event::Info(info) => Ok((stream, Arc::new(info))),
                Event::Error(error) => Err(error.into()),
                _ => Err(unasked()),
            }
        };
        let (stream, info) = tokio::time::timeout(within, greeting)
            .await
            .map_err(|_| Trouble::Unresponsive)??;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&info));
        Ok((stream, info))
    }

    /// Runs one generation. `fallback` says why this engine is asked although another is preferred; `pin` is told which
    /// adapter it is computed with.
    pub async fn generate<O: Out>(
        &self,
        request: Generate,
        patience: Patience,
        fallback: Option<&str>,
        pin: &Pin,
        out: &mut O,
    ) -> Result<Finished, Trouble> {
        let (mut stream, info) = self.greet(patience.hello).await?;
        let source = Source {
            model: info.model.clone(),
            digest: info.digest.clone(),
            adapter: None,
            fallback: fallback.map(str::to_owned),
        };
        send(&mut stream, &Request::Generate(request), patience).await?;
        loop {
            match self.next(&mut stream, patience).await? {
                Event::Started {
                    prompt_tokens,
                    cached_tokens,
                    adapter,
                } => {
                    pin.set(adapter.as_ref());
                    let adapter = adapter.map(|adapter| sarai_reflection::Adapter {
                        digest: adapter.digest,
                        version: adapter.version,
                    });
                    out.began(Begun {
                        source: Source {
                            adapter,
                            ..source.clone()
                        },
                        prompt_tokens,
                        cached_tokens,
                    })
                    .await?;
                }
                Event::Token(token) => out.piece(piece(token)).await?,
                Event::Done(done) => {
                    let finish = match done.finish_reason {
                        FinishReason::Stop => Finish::Stop,
                        FinishReason::Length => Finish::Length,
                    };
                    let work = Work {
                        prompt_tokens: done.prompt_tokens,
                        cached_tokens: done.cached_tokens,
                        completion_tokens: done.completion_tokens,
                        queue_ms: done.queue_ms,
                        prefill_ms: done.prefill_ms,
                        decode_ms: done.decode_ms,
                    };
                    return Ok(Finished { finish, work });
                }
                Event::Error(mut error) => {
                    if error.kind == ErrorKind::ContextLength {
                        error.message += &self.about_context(patience).await;
                    }
                    return Err(error.into());
                }
                Event::Info(_) | Event::Scored(_) | Event::Counted(_) | Event::Encoded(_) => {
                    return Err(unasked());
                }
            }
        }
    }

    /// What a client should know besides whose conversation does not fit.
    async fn about_context(&self, patience: Patience) -> String {
        // Asked again: it may have become smaller while the request waited.
        let short = match self.info(patience.hello).await {
            Ok(info) => short_of_memory(&info),
            Err(_) => String::new(),
        };
        short + ". With `truncation: \"auto\"` the oldest turns are left out"
    }

    /// How long a conversation is, and how long it may be.
    pub async fn count(&self, messages: Vec<Message>, within: Duration) -> Result<Counted, Trouble> {
        let counting = async {
            let (mut stream, _) = self.greet(within).await?;
            frame::write_async(&mut stream, &Request::Count(Count { messages })).await?;
            match frame::read_async::<Event>(&mut stream).await? {
                Event::Counted(counted) => Ok(counted),
                Event::Error(error) => Err(error.into()),
                _ => Err(unasked()),
            }
        };
        tokio::time::timeout(within, counting)
            .await
            .map_err(|_| Trouble::Unresponsive)?
    }

    /// A connection on which tokens are asked for, and what the engine runs as long as that connection lasts.
    pub async fn encoder(&self, within: Duration) -> Result<(Encoder, Arc<Info>), Trouble> {
        let (stream, info) = self.greet(within).await?;
        Ok((Encoder { stream, within }, info))
    }

    /// How likely a given answer is.
    pub async fn score(&self, score: Score, patience: Patience) -> Result<Vec<Scored>, Trouble> {
        let (mut stream, _) = self.greet(patience.hello).await?;
        send(&mut stream, &Request::Score(score), patience).await?;
        loop {
            match self.next(&mut stream, patience).await? {
                Event::Started { .. } => {}
                Event::Scored(scored) => {
                    let token = |token: sarai_wire::engine::Alternative| Scored {
                        bytes: token.bytes,
                        logprob: token.logprob,
                    };
                    return Ok(scored.tokens.into_iter().map(token).collect());
                }
                Event::Error(error) => return Err(error.into()),
                Event::Token(_) | Event::Done(_) | Event::Info(_) | Event::Counted(_) | Event::Encoded(_) => {
                    return Err(unasked());
                }
            }
        }
    }

    /// The next event, or the trouble that kept it away.
    async fn next(&self, stream: &mut UnixStream, patience: Patience) -> Result<Event, Trouble> {
        let probing = async {
            let Some((every, within)) = patience.probe else {
                return std::future::pending().await;
            };
            loop {
                tokio::time::sleep(every).await;
                // Other troubles of the probe, such as too many connections, say nothing about the generation.
                if let Err(trouble @ (Trouble::Unresponsive | Trouble::Refused(_))) = self.info(within).await
                {
                    return trouble;
                }
            }
        };
        // The read is not cancelled by the others: once one of them ends, the connection is given up.
        tokio::select! {
            biased;
            event = frame::read_async::<Event>(stream) => Ok(event?),
            () = tokio::time::sleep(patience.silence) => Err(Trouble::Silent),
            trouble = probing => Err(trouble),
        }
    }
}

/// A connection on which the tokens of one conversation after the other are asked for.
pub struct Encoder {
    stream: UnixStream,
    within: Duration,
}

impl Encoder {
    /// The tokens of a conversation that goes on with a given answer.
    pub async fn encode(&mut self, request: Encode) -> Result<Encoded, Trouble> {
        let encoding = async {
            frame::write_async(&mut self.stream, &Request::Encode(request)).await?;
            match frame::read_async::<Event>(&mut self.stream).await? {
                Event::Encoded(encoded) => Ok(encoded),
                Event::Error(error) => Err(error.into()),
                _ => Err(unasked()),
            }
        };
        tokio::time::timeout(self.within, encoding)
            .await
            .map_err(|_| Trouble::Unresponsive)?
    }
}

/// The memory ladder as the cause of a conversation that does not fit, if it is; goes on a sentence.
pub fn short_of_memory(info: &Info) -> String {
    if info.context >= info.configured {
        return String::new();
    }
    format!(
        ". Memory is short: the context holds {} tokens for the moment, {} are configured; try again later or send less",
        info.context, info.configured
    )
}

fn unasked() -> Trouble {
    Trouble::Protocol("an answer to a question that was not asked".to_owned())
}

async fn send(stream: &mut UnixStream, request: &Request, patience: Patience) -> Result<(), Trouble> {
    let sent = tokio::time::timeout(patience.silence, frame::write_async(stream, request)).await;
    match sent {
        Err(_elapsed) => Err(Trouble::Silent),
        Ok(Err(FrameError::TooLarge(_))) => {
            let message = "The conversation is larger than any context.".to_owned();
            Err(Trouble::Request(Failure {
                kind: FailureKind::ContextLength,
                message,
            }))
        }
        Ok(sent) => Ok(sent?),
    }
}

fn piece(token: Token) -> Piece {
    let alternative = |other: sarai_wire::engine::Alternative| Alternative {
        bytes: other.bytes,
        logprob: other.logprob,
    };
    Piece {
        text: token.text,
        bytes: token.bytes,
        logprob: token.logprob,
        top: token.top.into_iter().map(alternative).collect(),
    }
}
