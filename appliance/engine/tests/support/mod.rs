//! A real engine process under a test's hands: born with a socket pair, listening on a Unix socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on panics"
)]
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sarai_wire::adapter::{Adapter, AdapterAnswer, AdapterOrder, Apply};
use sarai_wire::birth::{self, EngineParams, EngineStart, FromEngine, ToEngine};
use sarai_wire::engine::{
    Constraint, Count, Done, Encode, Encoded, Error, ErrorKind, Event, Generate, Info, Message, Request,
    Role, Sampling, Score, Scored, Token,
};
use sarai_wire::frame::{self, FrameError};

pub mod adapters;
#[path = "../../../../tests/src/born.rs"]
mod born;
#[path = "../../../../tests/src/gguf.rs"]
pub mod gguf;
#[path = "../../../../tests/src/lora.rs"]
pub mod lora;
mod talk;

pub use gguf::{Arch, Flaw, Tiny};
pub use lora::{Lora, LoraFlaw};
pub use talk::{Outcome, Talk};

/// Longest any single answer of a healthy engine may take here.
const PATIENCE: Duration = Duration::from_secs(300);
/// The same for what it says to its supervisor.
const PATIENCE_TO_HEAR: TimeVal = TimeVal::new(300, 0);

/// A running engine; killed when dropped.
pub struct Engine {
    child: Child,
    birth: OwnedFd,
    socket: PathBuf,
    _folder: tempfile::TempDir,
    pub info: Info,
}

/// Why there is none.
#[derive(Debug)]
pub struct Failure {
    pub reason: String,
    /// Whether it is that bytes of the model cannot be read.
    pub unreadable: bool,
    pub status: ExitStatus,
}

/// Small enough to start in a blink.
pub fn small() -> EngineParams {
    EngineParams {
        context: 256,
        slots: 1,
        queue: 8,
        batch: 64,
        cpus: one_cpu(),
        ..EngineParams::default()
    }
}

/// One of the CPUs, in turn. Tests run side by side, and compute threads of several engines on one CPU would
/// mostly wait for each other; an appliance gives each its own.
pub fn one_cpu() -> Vec<u32> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mask = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let allowed: Vec<u32> = (0..nix::sched::CpuSet::count())
        .filter(|cpu| mask.is_set(*cpu).unwrap())
        .map(|cpu| u32::try_from(cpu).unwrap())
        .collect();
    vec![allowed[NEXT.fetch_add(1, Ordering::Relaxed) % allowed.len()]]
}

/// A model of some ten milliseconds a token: what a test does while an answer of thousands of tokens goes on is done
/// long before its end, on a machine that is ten times faster too, and where the test itself has to wait.
fn slow() -> File {
    static BYTES: OnceLock<File> = OnceLock::new();
    let file = BYTES.get_or_init(|| {
        let tiny = Tiny {
            layers: 8,
            feed_forward: 16_384,
            context: 131_072,
            ..Tiny::default()
        };
        descriptor(&tiny.bytes())
    });
    // Opened anew, so that each engine has an offset of its own.
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// How many tokens of an answer take about this long now.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive; saturates"
)]
pub fn tokens_in(engine: &Engine, time: Duration) -> u32 {
    let done = engine.ask(user("how fast?"));
    let done = done.done();
    let each = done.decode_ms / f64::from(done.completion_tokens - 1);
    (time.as_secs_f64() * 1000.0 / each).max(1.0) as u32
}

/// Costs of batches that make looking ahead pay.
const CHEAP: &str = "2:1.05,4:1.1,8:1.2,16:1.4,32:1.8";

/// A descriptor of `bytes`, standing at the end as after being hashed.
pub fn descriptor(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file
}

impl Engine {
    /// Starts an engine on a made-up model.
    pub fn tiny(tiny: &Tiny, params: EngineParams) -> Self {
        Self::start(&descriptor(&tiny.bytes()), params).unwrap()
    }

    /// Starts an engine on a model that takes its time.
    pub fn slow(params: EngineParams) -> Self {
        Self::start(&slow(), params).unwrap()
    }

    /// Starts an engine; the reason when it says that it failed.
    pub fn start(model: &File, params: EngineParams) -> Result<Self, Failure> {
        Self::start_with(model, params, &[])
    }

    /// An engine that looks ahead as if batches were cheap, however busy the machine is, where they are exact.
    pub fn eager(model: &File, params: EngineParams) -> Self {
        let costs = ("SARAI_ENGINE_BATCH_COSTS", CHEAP);
        Self::start_with(model, params, &[costs]).unwrap()
    }

    /// As [`Engine::eager`], and where batches are not exact too: for tests that allow for the difference.
    pub fn careless(model: &File, params: EngineParams) -> Self {
        let costs = format!("inexact,{CHEAP}");
        Self::start_with(model, params, &[("SARAI_ENGINE_BATCH_COSTS", &costs)]).unwrap()
    }

    fn start_with(model: &File, params: EngineParams, environment: &[(&str, &str)]) -> Result<Self, Failure> {
        Self::born(model, params, environment, None).map(|(engine, _)| engine)
    }

    /// Starts an engine with an adapter; what it says of that.
    pub fn adapted(
        model: &File,
        params: EngineParams,
        adapter: (&Adapter, &File),
    ) -> Result<(Self, AdapterAnswer), Failure> {
        let (engine, answer) = Self::born(model, params, &[], Some(adapter))?;
        Ok((engine, answer.unwrap()))
    }

    /// One that looks ahead, as [`Engine::eager`] does, with an adapter.
    pub fn eager_adapted(model: &File, params: EngineParams, adapter: (&Adapter, &File)) -> Self {
        let costs = ("SARAI_ENGINE_BATCH_COSTS", CHEAP);
        Self::born(model, params, &[costs], Some(adapter)).unwrap().0
    }

    fn born(
        model: &File,
        params: EngineParams,
        environment: &[(&str, &str)],
        adapter: Option<(&Adapter, &File)>,
    ) -> Result<(Self, Option<AdapterAnswer>), Failure> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sarai-engine"));
        // Cargo points the loader at its build folders; the image has no such help.
        command.env_remove("LD_LIBRARY_PATH");
        command.envs(environment.iter().copied());
        let (mut child, birth) = born::born(&mut command, &listener).unwrap();
        setsockopt(&birth, sockopt::ReceiveTimeout, &PATIENCE_TO_HEAR).unwrap();
        let start = EngineStart {
            model: "test".into(),
            digest: "ab".repeat(32),
            params,
            adapter: adapter.map(|(which, _)| which.clone()),
            batch_costs: None,
        };
        let mut files = vec![model.as_raw_fd() as RawFd];
        files.extend(adapter.map(|(_, file)| file.as_raw_fd()));
        birth::send(birth.as_fd(), &ToEngine::Start(start), &files).unwrap();
        let mut first = birth::recv::<FromEngine>(birth.as_fd());
        let mut told = None;
        if let Ok((FromEngine::Adapter(answer), _)) = first {
            told = Some(answer);
            first = birth::recv::<FromEngine>(birth.as_fd());
        }
        match first {
            Ok((FromEngine::Ready { info, .. }, _)) => {
                let engine = Self {
                    child,
                    birth,
                    socket,
                    _folder: folder,
                    info,
                };
                Ok((engine, told))
            }
            Ok((FromEngine::Failed { reason, unreadable }, _)) => Err(Failure {
                reason,
                unreadable,
                status: child.wait().unwrap(),
            }),
            other => panic!("neither ready nor failed: {other:?}, {:?}", child.try_wait()),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Processor time it has used: what a busy machine makes it wait is not in it.
    pub fn computed(&self) -> Duration {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        let clock = nix::time::clock_getcpuclockid(pid).unwrap();
        clock.now().unwrap().into()
    }

    pub fn connect(&self) -> Talk {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Talk { stream }
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: Generate) -> Outcome {
        let mut talk = self.connect();
        talk.send(request);
        talk.finish()
    }

    /// Scores `text` as the answer to `request`'s conversation.
    pub fn score(&self, request: &Generate, text: &str) -> Result<Scored, Error> {
        let mut talk = self.connect();
        talk.send_score(request, text);
        loop {
            match talk.next() {
                Event::Started { .. } => {}
                Event::Scored(scored) => return Ok(scored),
                Event::Error(error) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Tokens of `request`'s conversation, and the context now.
    pub fn count(&self, request: &Generate) -> Result<(u32, u32), Error> {
        let mut talk = self.connect();
        let messages = request.messages.clone();
        frame::write(&mut talk.stream, &Request::Count(Count { messages })).unwrap();
        match talk.next() {
            Event::Counted(counted) => Ok((counted.tokens, counted.context)),
            Event::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    /// The tokens of `request`'s conversation with `text` as its answer, if they are `most` at most.
    pub fn encode(&self, request: &Generate, text: &str, most: u32) -> Result<Encoded, Error> {
        self.encode_part(request, text, most, true)
    }

    /// The same; `ends` says whether the answer ends there.
    pub fn encode_part(
        &self,
        request: &Generate,
        text: &str,
        most: u32,
        ends: bool,
    ) -> Result<Encoded, Error> {
        let mut talk = self.connect();
        let encode = Encode {
            messages: request.messages.clone(),
            text: text.into(),
            most,
            ends,
        };
        frame::write(&mut talk.stream, &Request::Encode(encode)).unwrap();
        match talk.next() {
            Event::Encoded(encoded) => Ok(encoded),
            Event::Error(error) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    pub fn info(&self) -> Info {
        self.connect().info()
    }

    /// Waits until `queued` wait and `running` run.
    pub fn wait_for(&self, queued: u32, running: u32) {
        let begin = Instant::now();
        loop {
            let info = self.info();
            if (info.queued, info.running) == (queued, running) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "still {info:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn tell(&self, message: &ToEngine) {
        birth::send(self.birth.as_fd(), message, &[]).unwrap();
    }

    /// Orders something about adapters, with a file where one is needed, and waits for the answer.
    pub fn order(&self, order: AdapterOrder, file: Option<&File>) -> AdapterAnswer {
        static SEQ: AtomicUsize = AtomicUsize::new(1);
        let seq = SEQ.fetch_add(1, Ordering::Relaxed) as u64;
        let files: Vec<RawFd> = file.iter().map(|file| file.as_raw_fd()).collect();
        birth::send(self.birth.as_fd(), &ToEngine::Adapter { seq, order }, &files).unwrap();
        loop {
            match self.hear() {
                FromEngine::Adapter(answer) if answer.seq == seq => return answer,
                FromEngine::Pong { .. } | FromEngine::Adapter(_) | FromEngine::Eased(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What it says next, but that there is work.
    pub fn hear(&self) -> FromEngine {
        loop {
            match birth::recv::<FromEngine>(self.birth.as_fd()).unwrap().0 {
                FromEngine::Busy => {}
                other => return other,
            }
        }
    }

    /// Waits for the word that there is work.
    pub fn hear_of_work(&self) {
        while !matches!(
            birth::recv::<FromEngine>(self.birth.as_fd()).unwrap().0,
            FromEngine::Busy
        ) {}
    }

    /// Closes the birth socket, as a dying supervisor would, and waits.
    pub fn orphan(mut self) -> ExitStatus {
        let (replacement, _) = birth::pair().unwrap();
        drop(std::mem::replace(&mut self.birth, replacement));
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the engine does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of them for whom something came.
pub fn first_with_news(talks: &[&Talk]) -> Option<usize> {
    let time = PollTimeout::try_from(PATIENCE).unwrap();
    let mut waiting: Vec<_> = talks
        .iter()
        .map(|talk| PollFd::new(talk.stream.as_fd(), PollFlags::POLLIN))
        .collect();
    poll(&mut waiting, time).unwrap();
    waiting.iter().position(|talk| talk.any().unwrap())
}

/// A request of a single user message.
pub fn user(content: &str) -> Generate {
    talk(&[(Role::User, content)])
}

/// A request of several messages.
pub fn talk(messages: &[(Role, &str)]) -> Generate {
    Generate {
        id: "test".into(),
        client: "test".into(),
        messages: messages
            .iter()
            .map(|(role, content)| Message {
                role: *role,
                content: (*content).into(),
            })
            .collect(),
        max_tokens: Some(24),
        ..Generate::default()
    }
}

/// The real model, for tests that need sense.
pub fn real_model() -> File {
    let path = std::env::var("SARAI_TEST_MODEL")
        .expect("SARAI_TEST_MODEL must name SmolLM2-135M-Instruct.Q4_1.gguf for this test");
    File::open(Path::new(&path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
