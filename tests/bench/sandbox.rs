//! What the sandbox costs: the appliance's engine beside the same one without any, in turn, over the same protocol.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use sarai_tests::appliance::Appliance;
use sarai_tests::born::born;
use sarai_tests::measure::arguments::Arguments;
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::{machine, median, quantile};
use sarai_tests::model::Artifact;
use sarai_tests::tree;
use sarai_wire::birth::{self, EngineParams, EngineStart, FromEngine, ToEngine};
use sarai_wire::engine::{Done, Event, Generate, Message, Request, Role};
use sarai_wire::frame;

/// Context of one request, tokens.
const CONTEXT: u32 = 2048;
/// Tokens of an answer.
const TOKENS: u32 = 192;
/// Time for an engine to load, and for one answer.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the sandbox must leave of the speed without it.
const LEFT: f64 = 0.97;

/// Measures and publishes. Gives whether what is promised holds.
pub fn run(mut given: Arguments) -> Result<bool> {
    let model: PathBuf = given.need("--model")?;
    let rounds: usize = given.need("--rounds")?;
    let json: Option<PathBuf> = given.take("--json")?;
    given.end()?;
    ensure!(rounds >= 3, "read --rounds: a median wants at least 3");

    let artifact = Artifact::new("primary", "decoder", &model, CONTEXT)?;
    let file = artifact.file.clone();
    let mut appliance = Appliance::prepare(&[artifact], "")?;
    appliance.start()?;
    appliance.wait_ready(PATIENCE)?;
    let service = appliance.service("engine-primary")?;
    let missing: Vec<String> = service
        .sandbox
        .iter()
        .filter(|duty| !duty.in_force)
        .map(|duty| duty.duty.clone())
        .collect();
    let confined = appliance.path("run/engine-primary.sock");
    // The very same file: its pages are in memory once.
    let file = appliance.path("data/models").join(&file);
    let free = Free::start(&file, &service.cpus)?;
    // Caches, and the frequency a processor settles at.
    for socket in [&confined, &free.socket] {
        ask(socket, usize::MAX)?;
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // Which of them first changes from round to round; an idle engine uses no processor time.
        for first in [true, false] {
            let sandboxed = first == round.is_multiple_of(2);
            let socket = if sandboxed { &confined } else { &free.socket };
            let done = ask(socket, round)?;
            if sandboxed { &mut ours } else { &mut theirs }.push(done);
        }
    }
    let mut figures = Figures::default();
    figures.say(format!(
        "{}: {} threads on each side, {rounds} rounds of {TOKENS} tokens; duties that are not in force here: {}",
        machine::processor(),
        service.cpus.len(),
        if missing.is_empty() { "none".to_owned() } else { missing.join(", ") }
    ));
    compare(&mut figures, "decode", &ours, &theirs, decode, Some(LEFT));
    compare(&mut figures, "prefill", &ours, &theirs, prefill, None);
    figures.publish(json.as_deref())
}

fn compare(
    figures: &mut Figures,
    name: &str,
    ours: &[Done],
    theirs: &[Done],
    speed: fn(&Done) -> f64,
    promised: Option<f64>,
) {
    let speeds = |of: &[Done]| of.iter().map(speed).collect::<Vec<f64>>();
    let (ours, theirs) = (speeds(ours), speeds(theirs));
    let ratios: Vec<f64> = std::iter::zip(&ours, &theirs).map(|(a, b)| a / b).collect();
    let range = |of: &[f64], digits: usize| {
        format!("{:.digits$} to {:.digits$}", quantile(of, 0.0), quantile(of, 1.0))
    };
    let figure = Figure::new(format!("{name}, in the sandbox / without"), median(&ratios), "x");
    let figure = figure.noted(format!("of the pairs {}", range(&ratios, 3)));
    figures.push(match promised {
        Some(least) => figure.promised(Promise::AtLeast(least)),
        None => figure,
    });
    for (side, speeds) in [("in the sandbox", &ours), ("without", &theirs)] {
        figures.push(Figure::new(format!("{name}, {side}"), median(speeds), "tok/s").noted(range(speeds, 1)));
    }
}

/// Tokens after the first, a second, by the engine's own clock.
fn decode(done: &Done) -> f64 {
    (f64::from(done.completion_tokens) - 1.0) / done.decode_ms * 1000.0
}

/// Tokens of the prompt a second.
fn prefill(done: &Done) -> f64 {
    f64::from(done.prompt_tokens - done.cached_tokens) / done.prefill_ms * 1000.0
}

/// The engine without a sandbox; ended when dropped.
struct Free {
    child: Child,
    birth: OwnedFd,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Free {
    /// On the CPUs of the other one, with the appliance's own parameters.
    fn start(model: &Path, cpus: &[u32]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket)?;
        let program = tree::program("sarai-engine-unsealed")?;
        let (child, birth) = born(Command::new(&program).env_clear(), &listener)
            .with_context(|| format!("start {}", program.display()))?;
        let me = Self {
            child,
            birth,
            socket,
            _folder: folder,
        };
        setsockopt(&me.birth, sockopt::ReceiveTimeout, &TimeVal::new(300, 0))?;
        let file = File::open(model).with_context(|| format!("open {}", model.display()))?;
        let start = EngineStart {
            model: "decoder".to_owned(),
            digest: "0".repeat(64),
            params: EngineParams {
                context: CONTEXT,
                cpus: cpus.to_vec(),
                ..EngineParams::default()
            },
            adapter: None,
            batch_costs: None,
        };
        birth::send(me.birth.as_fd(), &ToEngine::Start(start), &[file.as_raw_fd()])?;
        match birth::recv::<FromEngine>(me.birth.as_fd())?.0 {
            FromEngine::Ready { .. } => Ok(me),
            other => bail!("load the model without a sandbox: it said {other:?}"),
        }
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One answer.
fn ask(socket: &Path, round: usize) -> Result<Done> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let content = format!(
        "Story number {round}. Write a long story about a sailor who finds an old map in a bottle, sets out with a \
         small crew, meets a storm, and learns what the map was really for."
    );
    let generate = Generate {
        id: "sandbox".to_owned(),
        client: "sandbox".to_owned(),
        messages: vec![Message {
            role: Role::User,
            content,
        }],
        max_tokens: Some(TOKENS),
        ..Generate::default()
    };
    frame::write(&mut stream, &Request::Generate(generate))?;
    loop {
        match frame::read(&mut stream)? {
            Event::Done(done) => {
                let tokens = done.completion_tokens;
                ensure!(
                    tokens > 16,
                    "get an answer of some length: it has {tokens} tokens"
                );
                return Ok(done);
            }
            Event::Error(error) => bail!("get an answer: {}", error.message),
            _ => {}
        }
    }
}
