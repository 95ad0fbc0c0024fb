//! The engine's life: born with a socket, started with a model, asked for signs of life, told to stop.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sarai_confine::SealError;
use sarai_wire::birth::{self, BirthError, EngineParams, EngineStart, FromEngine, ToEngine};
use sarai_wire::engine::Info;

use crate::constraint::Grammars;
use crate::easing::Easing;
use crate::llama::LlamaError;
use crate::llama::backend::Backend;
use crate::llama::context::{Context, ContextParams};
use crate::llama::model::Model;
use crate::llama::threadpool::{Threadpool, choose_cpus};
use crate::probe::{Batches, Findings};
use crate::prompt::Markers;
use crate::resident::Resident;
use crate::scoring::EXTRA_ROWS;
use crate::server::{self, Frontend};
use crate::shared::Shared;
use crate::template::Template;
use crate::worker::Worker;
use crate::{config, easing, encoding, info, probe};

/// Stack of the decode thread: a constraint may be deeply nested. Only touched pages count.
const STACK: usize = 64 * 1024 * 1024;
/// Compiled constraints that may wait for a slot; each may hold megabytes.
const WAITING_GRAMMARS: usize = 4;
/// How long connections have at the end to write what they owe.
const WRITE_TIME: Duration = Duration::from_secs(1);

/// Takes from this process what it needs no longer once its last library is loaded.
pub type Confine = fn() -> Result<(), SealError>;

/// Runs the engine on its two inherited sockets. Returns when the supervisor is gone; every other end is an
/// exit of the process from the decode thread. `confine` is called before a byte of the model is read.
///
/// # Errors
/// When the first message is not a start, or the birth socket fails.
pub fn run(socket: OwnedFd, listener: UnixListener, confine: Confine) -> Result<()> {
    let socket = Arc::new(socket);
    let (start, model, adapter) = receive_start(&socket)?;
    if let Err(bad) = config::check(&start) {
        announce_failure(&socket, &bad.to_string());
        bail!("failed to {bad}");
    }
    let slots = start.params.slots as usize;
    let queue = start.params.queue as usize;
    let shared = Arc::new(Shared::new(slots, queue, born_with(&start.params)));
    {
        let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
        std::thread::Builder::new()
            .name("decode".into())
            .stack_size(STACK)
            .spawn(move || {
                let status = live(&start, (model, adapter), listener, &socket, &shared, confine);
                std::process::exit(status);
            })
            .context("failed to start the decode thread")?;
    }
    loop {
        match birth::recv::<ToEngine>(socket.as_fd()) {
            Ok((ToEngine::Ping { seq }, _)) => shared.ping(seq),
            Ok((ToEngine::Stop, _)) => shared.stop(),
            Ok((ToEngine::Ease { seq, ease }, _)) => shared.ease(seq, ease),
            Ok((ToEngine::Adapter { seq, order }, mut files)) => {
                shared.wish(seq, order, files.pop().map(File::from));
            }
            Ok((ToEngine::Start(_), _)) => crate::warning!("a second start was ignored"),
            Err(BirthError::Closed) => {
                info!("the supervisor is gone; leaving");
                return Ok(());
            }
            Err(error @ (BirthError::Decode(_) | BirthError::Truncated)) => {
                crate::warning!("failed to {error}");
            }
            Err(error) => return Err(error).context("failed to hear the supervisor"),
        }
    }
}

/// Tokens of one request to begin with: all that are configured, or fewer where memory is short. It may grow to them
/// later.
fn born_with(params: &EngineParams) -> u32 {
    params.reduced.unwrap_or(params.context)
}

/// What to start with, the model, and the adapter if there is one.
fn receive_start(socket: &OwnedFd) -> Result<(EngineStart, File, Option<File>)> {
    let (message, mut descriptors) =
        birth::recv::<ToEngine>(socket.as_fd()).context("failed to receive the start")?;
    let ToEngine::Start(start) = message else {
        bail!("the first message is not a start")
    };
    let expected = 1 + usize::from(start.adapter.is_some());
    if descriptors.len() != expected {
        let reason = format!(
            "take the model: {} descriptors came, {expected} expected",
            descriptors.len()
        );
        announce_failure(socket, &reason);
        bail!("failed to {reason}");
    }
    let adapter = start.adapter.as_ref().and_then(|_| descriptors.pop());
    let model = File::from(descriptors.remove(0));
    let regular = model.metadata().is_ok_and(|metadata| metadata.is_file());
    if !regular {
        announce_failure(socket, "take the model: its descriptor is not a file");
        bail!("failed to take the model: its descriptor is not a file");
    }
    Ok((start, model, adapter.map(File::from)))
}

fn announce_failure(socket: &OwnedFd, reason: &str) {
    announce(socket, reason, false);
}

/// Says why it cannot serve, and whether that is because bytes of the model cannot be read.
fn announce(socket: &OwnedFd, reason: &str, unreadable: bool) {
    crate::error!("failed to {reason}");
    // A packet has a bound; a reason this long would help nobody either.
    let reason = reason.chars().take(4096).collect();
    if let Err(error) = birth::send(socket.as_fd(), &FromEngine::Failed { reason, unreadable }, &[]) {
        crate::error!("failed to {error}");
    }
}

/// The decode thread: loads, announces, works. Returns the exit status.
fn live(
    start: &EngineStart,
    files: (File, Option<File>),
    listener: UnixListener,
    socket: &Arc<OwnedFd>,
    shared: &Arc<Shared>,
    confine: Confine,
) -> i32 {
    // A panic here must end the process, or the engine would hang with its socket open.
    let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        work(start, files, listener, socket, shared, confine)
    }));
    match end {
        Ok(Ok(())) => {
            shared.wait_written(WRITE_TIME);
            info!("stopped");
            0
        }
        Ok(Err(error)) => {
            let unreadable = matches!(error.downcast_ref(), Some(LlamaError::Unreadable { .. }));
            announce(socket, &format!("{error:#}"), unreadable);
            1
        }
        Err(_) => {
            announce_failure(socket, "go on: the decode thread panicked");
            70
        }
    }
}

/// Everything between start and stop. Errors fit after "failed to".
fn work(
    start: &EngineStart,
    (file, adapter): (File, Option<File>),
    listener: UnixListener,
    socket: &Arc<OwnedFd>,
    shared: &Arc<Shared>,
    confine: Confine,
) -> Result<()> {
    let begin = Instant::now();
    let params = &start.params;
    let resident = Resident::open();
    // These live as long as the process; connections' threads refer to them until its last moment.
    let backend: &'static Backend = Box::leak(Box::new(Backend::start()?));
    // The last library is loaded. What comes now reads bytes that others wrote: from here on, nothing is opened,
    // connected, started or made executable by any thread of this process.
    confine()?;
    let cpus = choose_cpus(&params.cpus)?;
    let model: &'static Model = Box::leak(Box::new(Model::load(backend, file)?));
    config::check_trained(params.context, model.trained_context())?;
    let vocab = model.vocab();
    let mut frontend = frontend(start, backend, model)?;
    // The pool pins the thread that makes it: this one, which computes with the others.
    let threads = Threadpool::start(backend, &cpus)?;
    let configured = ContextParams {
        context: params.context,
        slots: params.slots,
        batch: params.batch,
        rows: params.slots + u32::try_from(EXTRA_ROWS)?,
        kv_type: params.kv_type,
    };
    let begun = easing::sized(configured, born_with(params));
    let mut context = Context::new(model, &threads, begun)?;
    let findings = probe::probe(
        &mut context,
        vocab.bos().unwrap_or(0),
        begun.batch as usize,
        start.batch_costs.as_deref(),
    )?;
    say_costs(&findings, start.batch_costs.is_some());
    let found = findings.batches.told();
    frontend.info.batch_costs = found.clone().unwrap_or_default();
    let frontend = Arc::new(frontend);
    let answers = Arc::clone(socket);
    let tell = Box::new(move |message: &FromEngine| {
        if let Err(error) = birth::send(answers.as_fd(), message, &[]) {
            crate::warning!("failed to {error}");
        }
    });
    let mut worker = Worker::new(
        context,
        vocab,
        Arc::clone(&frontend.markers),
        findings,
        Easing::new(resident, Arc::clone(&frontend.grammars), configured),
        Arc::clone(shared),
        tell,
    );
    if let (Some(which), Some(file)) = (&start.adapter, adapter) {
        worker.born_with(which, file);
    }
    server::start(listener, Arc::clone(&frontend), Arc::clone(shared)).context("serve the socket")?;
    let load_ms = begin.elapsed().as_secs_f64() * 1000.0;
    info!(
        "{} ready in {load_ms:.0} ms: variant {}, {} threads on CPUs {cpus:?}, {} slots of {} tokens",
        start.model,
        backend.variant(),
        cpus.len(),
        params.slots,
        begun.context
    );
    birth::send(
        socket.as_fd(),
        &FromEngine::Ready {
            info: server::info(&frontend, shared),
            load_ms,
            batch_costs: found,
        },
        &[],
    )
    .context("announce readiness")?;
    worker.run().context("change the context")
}

/// What was found out of batches, for the log.
fn say_costs(findings: &Findings, known: bool) {
    let said = match &findings.batches {
        Batches::Unmeasured if !findings.forgets => "not measured, the model cannot take tokens back".into(),
        Batches::Unmeasured => "not measured, the machine is too slow".into(),
        Batches::Inexact => "no matter, its sums differ from those of single tokens".into(),
        Batches::Costs(costs) => {
            let words = costs
                .iter()
                .map(|(tokens, ratio)| format!("{tokens}: {ratio:.2}"));
            words.collect::<Vec<_>>().join(", ")
        }
    };
    let known = if known { " (known from before)" } else { "" };
    info!("time of a batch over that of a token: {said}{known}");
}

fn frontend(start: &EngineStart, backend: &Backend, model: &'static Model) -> Result<Frontend> {
    let vocab = model.vocab();
    let source = model.chat_template();
    if source.is_none() {
        info!("the model brings no chat template; ChatML is used");
    }
    let text = |token: Option<i32>| token.map(|token| vocab.raw_text(token)).unwrap_or_default();
    let template = Template::new(source, text(vocab.bos()), text(vocab.eos()))?;
    let markers = Arc::new(Markers::new(vocab.specials(), template.source()));
    Ok(Frontend {
        vocab,
        turn_end: encoding::turn_end(&template, &markers, vocab),
        grammars: Arc::new(Grammars::new(
            vocab,
            start.params.slots as usize + WAITING_GRAMMARS,
        )),
        markers,
        longest_piece: vocab.longest_piece(),
        info: Info {
            model: start.model.clone(),
            digest: start.digest.clone(),
            adapter: None,
            context: born_with(&start.params),
            configured: start.params.context,
            slots: start.params.slots,
            cpu_variant: backend.variant().to_owned(),
            queued: 0,
            running: 0,
            batch_costs: Vec::new(),
        },
        template,
    })
}
