//! The control socket: one request a connection, JSON lines back, every line bounded, every wait limited.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sarai_wire::control::{LogLine, MAX_LINE, Reply, Request, Status};
use sarai_wire::descriptors;

use crate::failure::Failure;

/// Longest wait for an answer. A restart drains the gateway for 10 s first, so this is well above that.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for the supervisor to take the request.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// A way to the supervisor. Each request opens its own connection.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    /// The connection that proved the supervisor lives; used by the first request.
    ready: Option<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`.
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            ready: Some(UnixStream::connect(path)?),
        })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn send(&mut self, request: &Request) -> Result<Lines, Failure> {
        let path = self.path.display();
        let mut stream = match self.ready.take() {
            Some(stream) => stream,
            None => UnixStream::connect(&self.path)
                .map_err(|e| Failure::not_ready(format!("the supervisor at {path} does not answer: {e}")))?,
        };
        let mut line = serde_json::to_vec(request)
            .map_err(|e| Failure::failed(format!("turn the request into JSON: {e}")))?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(Failure::usage(format!("the request exceeds {MAX_LINE} bytes")));
        }
        stream
            .set_write_timeout(Some(WRITE_TIMEOUT))
            .and_then(|()| stream.write_all(&line))
            .map_err(|e| Failure::not_ready(format!("the supervisor at {path} takes no request: {e}")))?;
        Ok(Lines {
            stream,
            buffer: Vec::new(),
            files: Vec::new(),
        })
    }

    /// Sends `request` and returns its one answer; an error reply becomes a failure.
    pub fn request(&mut self, request: &Request) -> Result<Reply, Failure> {
        let mut lines = self.send(request)?;
        match lines.next(Some(Instant::now() + ANSWER_TIMEOUT))? {
            Some(Reply::Error { message }) => Err(Failure::refused(message)),
            Some(reply) => Ok(reply),
            None => Err(Failure::not_ready(
                "the supervisor closed the connection without an answer",
            )),
        }
    }

    /// The same for an answer that brings files with it.
    pub fn request_files(&mut self, request: &Request) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let mut lines = self.send(request)?;
        match lines.next(Some(Instant::now() + ANSWER_TIMEOUT))? {
            Some(Reply::Error { message }) => Err(Failure::refused(message)),
            Some(reply) => Ok((reply, lines.files)),
            None => Err(Failure::not_ready(
                "the supervisor closed the connection without an answer",
            )),
        }
    }

    /// Sends a request whose answer is [`Reply::Ok`].
    pub fn done(&mut self, request: &Request) -> Result<(), Failure> {
        match self.request(request)? {
            Reply::Ok => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// The whole state.
    pub fn status(&mut self) -> Result<Status, Failure> {
        match self.request(&Request::Status)? {
            Reply::Status(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    /// Sends a request whose answers are log lines and hands each to `each` until the supervisor closes. With
    /// `forever`, a silence is no failure.
    pub fn lines(
        &mut self,
        request: &Request,
        forever: bool,
        mut each: impl FnMut(&LogLine) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut lines = self.send(request)?;
        loop {
            let deadline = (!forever).then(|| Instant::now() + ANSWER_TIMEOUT);
            match lines.next(deadline)? {
                Some(Reply::Log(line)) => each(&line)?,
                Some(Reply::Ok) => {}
                Some(Reply::Error { message }) => return Err(Failure::refused(message)),
                Some(other) => return Err(unexpected(&other)),
                None => return Ok(()),
            }
        }
    }
}

/// The failure for an answer of the wrong kind.
pub fn unexpected(reply: &Reply) -> Failure {
    let kind = match reply {
        Reply::Ok => "ok",
        Reply::Error { .. } => "error",
        Reply::Status(_) => "status",
        Reply::Key { .. } => "key",
        Reply::Keys { .. } => "keys",
        Reply::SshKeys { .. } => "ssh_keys",
        Reply::Audit { .. } => "audit",
        Reply::Feedback { .. } => "feedback",
        Reply::Forgotten { .. } => "forgotten",
        Reply::Adapters { .. } => "adapters",
        Reply::AdapterChange(_) => "adapter_change",
        Reply::Files { .. } => "files",
        Reply::Merges(_) => "merges",
        Reply::Training(_) => "training",
        Reply::Log(_) => "log",
    };
    Failure::failed(format!(
        "understand the supervisor: it answered with {kind:?} to another question"
    ))
}

/// A closed pipe ends the program, as with any command in a pipeline; Rust's own default is an error that most
/// printing turns into a panic.
pub fn default_sigpipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: restores the kernel's default action before any thread exists; no handler code of ours runs.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// Bounded lines of a connection.
struct Lines {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// What came with them.
    files: Vec<OwnedFd>,
}

impl Lines {
    /// The next reply; `None` once the supervisor closed. Waits until `deadline`, or for ever.
    fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Reply>, Failure> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return decode(&line).map(Some);
            }
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(Failure::failed(format!(
                    "read the answer: a line exceeds {MAX_LINE} bytes"
                )));
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|l| l.is_zero()) {
                return Err(late());
            }
            self.stream
                .set_read_timeout(left)
                .map_err(|e| Failure::failed(format!("set the time limit of the answer: {e}")))?;
            match descriptors::receive(self.stream.as_fd(), CHUNK) {
                Ok((chunk, _)) if chunk.is_empty() && self.buffer.is_empty() => return Ok(None),
                Ok((chunk, _)) if chunk.is_empty() => {
                    return Err(Failure::failed(
                        "read the answer: the supervisor closed within a line",
                    ));
                }
                Ok((chunk, files)) => {
                    self.buffer.extend_from_slice(&chunk);
                    self.files.extend(files);
                    if self.files.len() > descriptors::MAX_FILES {
                        return Err(Failure::failed("read the answer: it brings too many files"));
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(late());
                }
                // The supervisor powers off, or restarts: the connection is simply gone.
                Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(e) => return Err(Failure::failed(format!("read the answer: {e}"))),
            }
        }
    }
}

fn late() -> Failure {
    Failure::not_ready(format!(
        "the supervisor did not answer within {} s",
        ANSWER_TIMEOUT.as_secs()
    ))
}

fn decode(line: &[u8]) -> Result<Reply, Failure> {
    serde_json::from_slice(line).map_err(|e| Failure::failed(format!("understand the answer: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    /// Feeds `bytes` to a reader and closes.
    fn lines(bytes: Vec<u8>) -> Lines {
        let (stream, mut other) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let _ = other.write_all(&bytes);
        });
        Lines {
            stream,
            buffer: Vec::new(),
            files: Vec::new(),
        }
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn several_lines_in_one_packet_come_one_by_one() {
        let mut lines = lines(b"{\"type\":\"ok\"}\n{\"type\":\"error\",\"message\":\"no\"}\n".to_vec());
        assert!(matches!(lines.next(soon()), Ok(Some(Reply::Ok))));
        assert!(matches!(lines.next(soon()), Ok(Some(Reply::Error { message })) if message == "no"));
        assert!(matches!(lines.next(soon()), Ok(None)));
    }

    #[test]
    fn a_line_above_the_bound_is_refused() {
        let failure = lines(vec![b'x'; MAX_LINE + 64 * 1024]).next(soon()).unwrap_err();
        assert!(failure.message.contains("exceeds"), "{}", failure.message);
    }

    #[test]
    fn an_end_within_a_line_is_told() {
        let failure = lines(b"{\"type\":".to_vec()).next(soon()).unwrap_err();
        assert!(failure.message.contains("within a line"), "{}", failure.message);
    }

    #[test]
    fn a_silent_supervisor_is_not_waited_for_beyond_the_deadline() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let mut lines = Lines {
            stream,
            buffer: Vec::new(),
            files: Vec::new(),
        };
        let failure = lines
            .next(Some(Instant::now() + Duration::from_millis(50)))
            .unwrap_err();
        assert_eq!(failure.kind, Kind::NotReady);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        assert!(decode(b"[]").is_err());
        assert!(decode(b"{\"type\":\"cake\"}").is_err());
        assert!(decode(b"\xff\xfe").is_err());
    }
}
