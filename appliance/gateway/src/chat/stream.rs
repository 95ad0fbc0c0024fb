//! A chat as server-sent events.
//!
//! A task of its own runs the loop and writes events into a bounded channel; the response's body reads from it.
//! Should the client leave, the body is dropped, the task notices and the generation is cancelled. Should the
//! client not read, the channel fills, the task waits a while and then cancels too.
//!
//! The response's head is held back until the first event is there, so that a request that fails before gets its
//! proper status; but not for ever, so that a client behind a long queue sees that it is being served.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use hyper::body::Frame;
use sarai_reflection::{Event, Piece, Refused, Sink};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use super::Job;
use super::request::Effort;
use super::response::{Answered, Delta, Head, Logprobs, delta_chunk, last_chunk, usage_chunk};
use crate::errors::ApiError;

/// Events that may wait for a client to read them.
const CHANNEL: usize = 256;
/// How long the channel may stay full before the generation is cancelled.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Time without an event after which a comment is sent, so that nobody on the way takes the silence for the end.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the response's head is held back.
const HEAD_PATIENCE: Duration = KEEP_ALIVE;

/// Answers with a stream, or with an error if the request failed before its first event.
pub async fn respond(job: Job) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let (first, begun) = oneshot::channel();
    tokio::spawn(produce(job, sender, first));
    // The receiver is made before the wait, so that a client that leaves meanwhile drops it.
    let body = Events {
        receiver,
        quiet: Box::pin(tokio::time::sleep(KEEP_ALIVE)),
    };
    match tokio::time::timeout(HEAD_PATIENCE, begun).await {
        Ok(Ok(Err(error))) => return error.into_response(),
        // The task is gone without a word, which only a fault of the gateway's own explains.
        Ok(Err(_)) => return internal().into_response(),
        Ok(Ok(Ok(()))) | Err(_) => {}
    }
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn internal() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "The gateway failed; the admin's log has more.",
    )
}

type First = oneshot::Sender<Result<(), ApiError>>;

/// Runs the loop and writes its events.
async fn produce(job: Job, sender: mpsc::Sender<Bytes>, first: First) {
    let mut writer = Writer {
        head: job.head.clone(),
        direct: job.chat.effort == Effort::None,
        logprobs: job.chat.logprobs,
        usage: job.chat.include_usage,
        sender,
        first: Some(first),
        role_sent: false,
        answer_sent: false,
    };
    let gone = writer.sender.clone();
    let result = tokio::select! {
        result = job.run(&mut writer) => result,
        () = gone.closed() => {
            tracing::debug!(id = job.request_id, "the client left");
            return;
        }
    };
    let written = match result {
        Ok(answered) => writer.finish(&answered).await,
        Err(error) => writer.fail(error).await,
    };
    if written.is_err() {
        tracing::debug!(id = job.request_id, "the client left or does not read");
    }
}

/// Turns the loop's events into the stream's.
struct Writer {
    head: Head,
    /// Whether the draft is the answer, so that its tokens go out as such at once.
    direct: bool,
    logprobs: bool,
    usage: bool,
    sender: mpsc::Sender<Bytes>,
    /// Until the first event is written: where the waiting response hears of it.
    first: Option<First>,
    role_sent: bool,
    /// Whether any of the answer is out, after which nothing can be taken back.
    answer_sent: bool,
}

impl Writer {
    async fn send(&mut self, json: &str) -> Result<(), Refused> {
        if let Some(first) = self.first.take() {
            // The response may have stopped waiting; it reads the event either way.
            let _ = first.send(Ok(()));
        }
        let event = Bytes::from(format!("data: {json}\n\n"));
        self.sender
            .send_timeout(event, READ_PATIENCE)
            .await
            .map_err(|_| Refused::Gone)
    }

    async fn delta(&mut self, delta: Delta<'_>, logprobs: Option<Logprobs<'_>>) -> Result<(), Refused> {
        if !self.role_sent {
            self.role_sent = true;
            let role = Delta {
                role: Some("assistant"),
                content: Some(""),
                ..Delta::default()
            };
            let json = delta_chunk(&self.head, self.usage, role, None);
            self.send(&json).await?;
        }
        let json = delta_chunk(&self.head, self.usage, delta, logprobs);
        self.send(&json).await
    }

    async fn reasoning(&mut self, text: &str) -> Result<(), Refused> {
        if text.is_empty() {
            return Ok(());
        }
        self.delta(
            Delta {
                reasoning_content: Some(text),
                ..Delta::default()
            },
            None,
        )
        .await
    }

    async fn content(&mut self, piece: &Piece) -> Result<(), Refused> {
        // A token without text is still a token where their probabilities are wanted.
        if piece.text.is_empty() && !self.logprobs {
            return Ok(());
        }
        self.answer_sent = true;
        let logprobs = self.logprobs.then(|| Logprobs::of(std::slice::from_ref(piece)));
        self.delta(
            Delta {
                content: Some(&piece.text),
                ..Delta::default()
            },
            logprobs,
        )
        .await
    }

    async fn finish(&mut self, answered: &Answered) -> Result<(), Refused> {
        let outcome = &answered.outcome;
        if !self.direct {
            self.head.model.clone_from(&outcome.answer.source.model);
            for piece in &outcome.answer.pieces {
                self.content(piece).await?;
            }
        }
        if !self.role_sent {
            self.delta(
                Delta {
                    content: Some(""),
                    ..Delta::default()
                },
                None,
            )
            .await?;
        }
        self.send(&last_chunk(&self.head, self.usage, answered)).await?;
        if self.usage {
            self.send(&usage_chunk(&self.head, outcome)).await?;
        }
        self.send("[DONE]").await
    }

    /// The error as the response's status, if there is still time, else as the last event. A stream that ends so
    /// has no `[DONE]`: it is visibly not whole.
    async fn fail(&mut self, error: ApiError) -> Result<(), Refused> {
        let error = match self.first.take() {
            Some(first) => match first.send(Err(error)) {
                Ok(()) => return Ok(()),
                Err(Err(error)) => error,
                Err(Ok(())) => return Ok(()),
            },
            None => error,
        };
        self.send(&error.body()).await
    }
}

impl Sink for Writer {
    async fn event(&mut self, event: Event<'_>) -> Result<(), Refused> {
        match event {
            Event::Begun { begun, .. } => {
                self.head.model.clone_from(&begun.source.model);
                Ok(())
            }
            Event::Draft(piece) if self.direct => self.content(piece).await,
            Event::Draft(piece) | Event::Revision(piece) => self.reasoning(&piece.text).await,
            Event::Critique(text) => {
                let text = format!("\n\n{text}\n\n");
                self.reasoning(&text).await
            }
            Event::Restarted { .. } if self.answer_sent => Err(Refused::TooLate),
            // Nothing is out yet that would have to be taken back.
            Event::Restarted { .. } if !self.role_sent => Ok(()),
            Event::Restarted { reason, .. } => {
                let text =
                    format!("\n\n[The engine failed ({reason}); the fallback engine starts again.]\n\n");
                self.reasoning(&text).await
            }
        }
    }
}

/// The response's body: events as they come, and comments while none comes.
struct Events {
    receiver: mpsc::Receiver<Bytes>,
    quiet: Pin<Box<Sleep>>,
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.receiver.poll_recv(cx) {
            Poll::Ready(bytes) => bytes,
            Poll::Pending => {
                ready!(self.quiet.as_mut().poll(cx));
                Some(Bytes::from_static(b": keep-alive\n\n"))
            }
        };
        let again = tokio::time::Instant::now() + KEEP_ALIVE;
        self.quiet.as_mut().reset(again);
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
