//! The trainer's life under the supervisor: born with a socket, started with files, paused, resumed, stopped.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sarai_wire::birth::{self, BirthError};
use sarai_wire::training::{FILES, FromTrainer, ToTrainer, TrainerStart};

use crate::training::control::Control;
use crate::training::session::{Files, Open, session};

/// Least time between two reports of progress: tiny models make thousands of steps a second.
const REPORT: Duration = Duration::from_millis(200);
/// A reason longer than this would help nobody, and a packet has a bound.
const REASON: usize = 4096;

/// Trains as the supervisor says. Returns whether all went as it was told: there is an adapter, or it was stopped.
///
/// # Errors
/// When the first message is not a start, or the supervisor cannot be heard.
pub fn run(socket: OwnedFd, open: Open, control: Control) -> Result<bool> {
    let control = Arc::new(control);
    let socket = Arc::new(socket);
    let begin = Instant::now();
    let (start, files) = match receive(&socket) {
        Ok(Some(start)) => start,
        Ok(None) => return Ok(true),
        Err(error) => {
            say(&socket, &failed(&format!("{error:#}")));
            return Err(error);
        }
    };
    {
        let (socket, control) = (Arc::clone(&socket), Arc::clone(&control));
        std::thread::Builder::new()
            .name("orders".into())
            .spawn(move || obey(&socket, &control))
            .context("start the thread that hears orders")?;
    }
    let mut reported: Option<Instant> = None;
    let mut tell = |message: FromTrainer| {
        if let FromTrainer::Progress(progress) = &message {
            let early = reported.is_some_and(|at| at.elapsed() < REPORT);
            if early && progress.step < progress.steps {
                return;
            }
            reported = Some(Instant::now());
        }
        if !say(&socket, &message) {
            control.stop();
        }
    };
    // A panic must be heard as one: the supervisor would wait for progress.
    let end = catch_unwind(AssertUnwindSafe(|| {
        session(&start, files, open, &control, begin, &mut tell)
    }));
    let reason = match end {
        Ok(Ok(())) => return Ok(true),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "go on: a thread panicked".to_owned(),
    };
    crate::log(&format!("ERROR failed to {reason}"));
    say(&socket, &failed(&reason));
    Ok(false)
}

fn failed(reason: &str) -> FromTrainer {
    FromTrainer::Failed {
        reason: reason.chars().take(REASON).collect(),
    }
}

/// Sends a message. Whether there is still somebody to be told more.
fn say(socket: &OwnedFd, message: &FromTrainer) -> bool {
    match birth::send(socket.as_fd(), message, &[]) {
        Ok(()) => true,
        Err(BirthError::Closed) => false,
        Err(error) => {
            crate::log(&format!("WARN failed to {error}"));
            true
        }
    }
}

/// The start with its files; `None` when there is nothing to start any more.
fn receive(socket: &OwnedFd) -> Result<Option<(TrainerStart, Files)>> {
    let (start, descriptors) = match birth::recv::<ToTrainer>(socket.as_fd()) {
        Ok((ToTrainer::Start(start), descriptors)) => (*start, descriptors),
        Ok((ToTrainer::Stop, _)) | Err(BirthError::Closed) => return Ok(None),
        Ok((other, _)) => bail!("begin: the supervisor said {other:?} before it said start"),
        Err(error) => return Err(error).context("hear what to train"),
    };
    let (count, expected) = (descriptors.len(), FILES + usize::from(start.initial.is_some()));
    let mut files = descriptors.into_iter().map(File::from);
    let taken = std::array::from_fn(|_| files.next());
    let [Some(base), Some(data), Some(output), Some(a), Some(b), initial] = taken else {
        bail!("take the files: {count} descriptors came, {expected} were expected")
    };
    if count != expected {
        bail!("take the files: {count} descriptors came, {expected} were expected");
    }
    let named = [
        (&base, "base model"),
        (&data, "data set"),
        (&output, "adapter"),
        (&a, "checkpoint a"),
        (&b, "checkpoint b"),
    ];
    let named = named
        .into_iter()
        .chain(initial.as_ref().map(|file| (file, "adapter to go on from")));
    for (file, name) in named {
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            bail!("take the files: the descriptor of the {name} is not a file");
        }
    }
    let files = Files {
        base,
        data,
        output,
        checkpoints: Some([a, b]),
        initial,
    };
    Ok(Some((start, files)))
}

/// Hears orders until the supervisor is gone. Pings are answered from here: a row may take longer than the supervisor
/// waits for an answer, and the number of rows says whether there is progress.
fn obey(socket: &OwnedFd, control: &Control) {
    loop {
        match birth::recv::<ToTrainer>(socket.as_fd()) {
            Ok((ToTrainer::Ping { seq }, _)) => {
                let (rows, paused) = (control.rows(), control.paused());
                say(socket, &FromTrainer::Pong { seq, rows, paused });
            }
            Ok((ToTrainer::Pause, _)) => control.pause(true),
            Ok((ToTrainer::Resume, _)) => control.pause(false),
            Ok((ToTrainer::Stop, _)) => control.stop(),
            Ok((ToTrainer::Start(_), _)) => crate::log("WARN a second start was ignored"),
            Err(error @ (BirthError::Decode(_) | BirthError::Truncated)) => {
                crate::log(&format!("WARN failed to {error}"));
            }
            Err(error) => {
                if !matches!(error, BirthError::Closed) {
                    crate::log(&format!("ERROR failed to {error}"));
                }
                return control.stop();
            }
        }
    }
}

#[cfg(test)]
#[path = "birth_tests.rs"]
mod tests;
