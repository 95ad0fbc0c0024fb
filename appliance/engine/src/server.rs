//! Connections of the gateway: one blocking thread each, bounded in number.
//!
//! A connection's thread reads a request, makes tokens of it, queues it, and then waits for two things at once:
//! events to write and the client to go away. Going away cancels.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sarai_wire::adapter::Apply;
use sarai_wire::engine::{Counted, Error, ErrorKind, Event, Generate, Info, Message, Request, Score};
use sarai_wire::frame::{self, FrameError};

use crate::constraint::{ConstraintError, Grammars};
use crate::llama::Token;
use crate::llama::vocab::Vocab;
use crate::mailbox::Mailbox;
use crate::prefix::KvKey;
use crate::prompt::{self, Markers};
use crate::shared::{Generation, Job, Shared, Task};
use crate::slot::count;
use crate::template::Template;
use crate::validate::{self, invalid};

/// Most connections at once.
pub const MAX_CONNECTIONS: usize = 64;
/// How long a started frame may take to arrive, and a written one to be taken.
const FRAME_TIME: Duration = Duration::from_secs(30);
/// Stack of a connection's thread: tokenisers of some models recurse over long words. Only touched pages count.
const STACK: usize = 8 * 1024 * 1024;

/// What connections need to make a job of a request.
pub struct Frontend {
    /// The loaded model's vocabulary.
    pub vocab: Vocab<'static>,
    /// Compiles constraints for it.
    pub grammars: Arc<Grammars>,
    /// Its chat template.
    pub template: Template,
    /// Tokens that only the template may write.
    pub markers: Arc<Markers>,
    /// What its turn ends with, by that template.
    pub turn_end: Vec<Token>,
    /// Bytes of the longest token.
    pub longest_piece: usize,
    /// What is loaded; the counts are filled in when asked.
    pub info: Info,
}

impl Frontend {
    /// The tokens of a conversation that goes on with a text of `more` bytes, all in a context of `context` tokens.
    pub(crate) fn conversation(
        &self,
        messages: &[Message],
        more: usize,
        context: u32,
    ) -> Result<Vec<Token>, Error> {
        let contents = messages.iter().map(|message| message.content.trim().len());
        let bytes = contents.sum::<usize>() + more;
        validate::check_least_length(bytes / self.longest_piece, context)?;
        let rendered = self
            .template
            .render(messages, &self.markers.texts())
            .map_err(|error| invalid(format!("failed to {error}")))?;
        let mut tokens = prompt::tokenise(&rendered, &self.markers, &self.vocab);
        if self.vocab.adds_bos()
            && let Some(bos) = self.vocab.bos()
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        if tokens.is_empty() {
            return Err(invalid("the conversation renders to an empty prompt"));
        }
        Ok(tokens)
    }

    /// How long a conversation is. What cannot fit `context` is not counted to its end.
    fn count(&self, messages: &[Message], context: u32) -> Result<Counted, Error> {
        validate::check_messages(messages)?;
        let contents = messages.iter().map(|message| message.content.trim().len());
        let least = contents.sum::<usize>() / self.longest_piece;
        let tokens = if least < context as usize {
            self.conversation(messages, 0, context)?.len()
        } else {
            least
        };
        Ok(Counted {
            tokens: count(tokens),
            context,
        })
    }

    pub(crate) fn plain(&self, text: &str) -> Vec<Token> {
        prompt::plain(text, &self.markers, &self.vocab)
    }

    /// The tokens of a guess: none where looking ahead never pays, and no more than an answer can have.
    fn guess(&self, text: &str, context: u32) -> Vec<Token> {
        if self.info.batch_costs.is_empty() {
            return Vec::new();
        }
        let mut tokens = self.plain(text);
        tokens.truncate(context as usize);
        tokens
    }

    /// The prompt and the task of a generation; `gone` says whether its client went away meanwhile.
    fn generation(
        &self,
        mut request: Generate,
        context: u32,
        gone: impl Fn() -> bool,
    ) -> Result<(Vec<Token>, Task), Error> {
        validate::check(&request)?;
        let prompt = self.conversation(&request.messages, request.prefix.len(), context)?;
        request.messages = Vec::new();
        let prefix = self.plain(&request.prefix);
        validate::check_length(prompt.len() + prefix.len(), context)?;
        let constraint = request.constraint.take();
        let matching = constraint
            .map(|constraint| self.grammars.compile(&constraint, &prefix, gone))
            .transpose()
            .map_err(|error| match error {
                ConstraintError::Full(_) => Error {
                    kind: ErrorKind::Busy,
                    message: format!("{error}; try again later"),
                },
                error => invalid(format!("failed to {error}")),
            })?;
        let seed = match request.sampling.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|e| failed(format!("failed to draw a seed: {e}")))?,
        };
        let guess = self.guess(&std::mem::take(&mut request.guess), context);
        let generation = Generation {
            request,
            prefix,
            matching,
            guess,
            seed,
        };
        Ok((prompt, Task::Generate(Box::new(generation))))
    }

    /// The prompt and the task of a scoring.
    fn scoring(&self, request: &Score, context: u32) -> Result<(Vec<Token>, Task), Error> {
        validate::check_score(request)?;
        let prompt = self.conversation(&request.messages, request.text.len(), context)?;
        let text = self.plain(&request.text);
        validate::check_scored_length(prompt.len(), text.len(), context)?;
        Ok((prompt, Task::Score(text)))
    }
}

/// Serves `listener` on a thread of its own, for as long as the process lives.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(listener: UnixListener, frontend: Arc<Frontend>, shared: Arc<Shared>) -> io::Result<()> {
    std::thread::Builder::new()
        .name("accept".into())
        .spawn(move || accept(&listener, &frontend, &shared))?;
    Ok(())
}

/// Counted as connected until dropped.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn accept(listener: &UnixListener, frontend: &Arc<Frontend>, shared: &Arc<Shared>) {
    let taken = Arc::new(AtomicUsize::new(0));
    loop {
        // The listener is shared with the supervisor, which may have made it non-blocking: wait first.
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut waiting, PollTimeout::NONE);
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if !matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) {
                    crate::warning!("failed to accept a connection: {error}");
                    // Out of descriptors, most likely: they come back when connections end.
                    std::thread::sleep(Duration::from_millis(50));
                }
                continue;
            }
        };
        if let Err(error) = seat(stream, &taken, frontend, shared) {
            crate::warning!("failed to serve a connection: {error}");
        }
    }
}

fn seat(
    mut stream: UnixStream,
    taken: &Arc<AtomicUsize>,
    frontend: &Arc<Frontend>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(FRAME_TIME))?;
    stream.set_write_timeout(Some(FRAME_TIME))?;
    if taken.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
        taken.fetch_sub(1, Ordering::AcqRel);
        let message = format!("{MAX_CONNECTIONS} connections are open already; try again later");
        // Fits the socket's buffer, so it does not block; if the client is gone, so be it.
        let _ = frame::write(
            &mut stream,
            &Event::Error(Error {
                kind: ErrorKind::Busy,
                message,
            }),
        );
        return Ok(());
    }
    let seat = Seat(Arc::clone(taken));
    let (frontend, shared) = (Arc::clone(frontend), Arc::clone(shared));
    std::thread::Builder::new()
        .name("connection".into())
        .stack_size(STACK)
        .spawn(move || {
            let _seat = seat;
            converse(&mut stream, &frontend, &shared);
        })?;
    Ok(())
}

/// Requests one after the other until the client goes away or stops making sense.
fn converse(stream: &mut UnixStream, frontend: &Frontend, shared: &Shared) {
    loop {
        let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        if let Err(error) = poll(&mut waiting, PollTimeout::NONE)
            && error != nix::errno::Errno::EINTR
        {
            return;
        }
        let written = match frame::read::<Request>(stream) {
            Ok(Request::Info) => frame::write(stream, &Event::Info(info(frontend, shared))),
            Ok(Request::Score(request)) => {
                let made = frontend.scoring(&request, shared.context());
                let whose = (request.client, request.apply);
                answer(stream, whose, made, frontend, shared)
            }
            Ok(Request::Count(request)) => {
                let counted = frontend.count(&request.messages, shared.context());
                frame::write(stream, &counted.map_or_else(Event::Error, Event::Counted))
            }
            Ok(Request::Encode(request)) => {
                let encoded = frontend.encode(&request);
                frame::write(stream, &encoded.map_or_else(Event::Error, Event::Encoded))
            }
            Ok(Request::Generate(request)) => {
                let whose = (request.client.clone(), request.apply.clone());
                let made = frontend.generation(request, shared.context(), || hung_up(stream));
                answer(stream, whose, made, frontend, shared)
            }
            // The frame was read to its end, so the next one can follow.
            Err(error @ FrameError::Decode(_)) => {
                frame::write(stream, &Event::Error(invalid(format!("failed to {error}"))))
            }
            Err(error @ FrameError::TooLarge(_)) => {
                let _ = frame::write(stream, &Event::Error(invalid(format!("failed to {error}"))));
                return;
            }
            Err(_) => return,
        };
        if written.is_err() {
            return;
        }
    }
}

/// What runs here, as of now.
pub fn info(frontend: &Frontend, shared: &Shared) -> Info {
    let (queued, running) = shared.counts();
    Info {
        queued,
        running,
        context: shared.context(),
        adapter: shared.adapter(),
        ..frontend.info.clone()
    }
}

/// Answers with the events of a request; `whose` it is, and with which adapter.
fn answer(
    stream: &mut UnixStream,
    whose: (String, Apply),
    made: Result<(Vec<Token>, Task), Error>,
    frontend: &Frontend,
    shared: &Shared,
) -> Result<(), FrameError> {
    let _open = shared.open();
    let mailbox = match made.and_then(|(prompt, task)| submit(whose, prompt, task, frontend, shared)) {
        Ok(mailbox) => mailbox,
        Err(error) => return frame::write(stream, &Event::Error(error)),
    };
    let result = pump(stream, &mailbox);
    if result.is_err() {
        mailbox.cancel();
        shared.wake();
    }
    result
}

fn failed(message: String) -> Error {
    Error {
        kind: ErrorKind::Failed,
        message,
    }
}

fn submit(
    (client, apply): (String, Apply),
    prompt: Vec<Token>,
    task: Task,
    frontend: &Frontend,
    shared: &Shared,
) -> Result<Arc<Mailbox>, Error> {
    let mailbox = Mailbox::new().map_err(|e| failed(format!("failed to make a mailbox: {e}")))?;
    let mailbox = Arc::new(mailbox);
    shared.submit(Job {
        client,
        prompt,
        key: KvKey::text(&frontend.info.digest),
        apply,
        task,
        mailbox: Arc::clone(&mailbox),
        queued: Instant::now(),
    })?;
    Ok(mailbox)
}

/// Whether the client is gone.
fn hung_up(stream: &UnixStream) -> bool {
    // Hang-up is reported unasked.
    let mut waiting = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Writes events until the last one. An error means that the client is gone.
fn pump(stream: &mut UnixStream, mailbox: &Mailbox) -> Result<(), FrameError> {
    loop {
        let mut waiting = [
            PollFd::new(mailbox.readiness(), PollFlags::POLLIN),
            // Hang-up is reported unasked; a next request that came early is none of our business yet.
            PollFd::new(stream.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut waiting, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(FrameError::Io(error.into())),
        }
        if waiting[1].any().unwrap_or(true) {
            return Err(FrameError::Closed);
        }
        for event in mailbox.take() {
            let last = matches!(event, Event::Done(_) | Event::Scored(_) | Event::Error(_));
            frame::write(stream, &event)?;
            if last {
                return Ok(());
            }
        }
    }
}

/// The inherited listener as the standard library's type.
pub fn listener(descriptor: OwnedFd) -> UnixListener {
    UnixListener::from(descriptor)
}
