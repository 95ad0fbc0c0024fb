//! The trainer's life under the supervisor: born with a socket, started with files to train or to merge, paused, resumed,
//! stopped.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sarai_wire::birth::{self, BirthError};
use sarai_wire::merge::{MERGE_FILES, MergeStart};
use sarai_wire::training::{FILES, FromTrainer, ToTrainer, TrainerStart};

use crate::merge::session as merging;
use crate::training::control::Control;
use crate::training::session::{Files, Open, session};

/// Least time between two reports of progress: tiny models make thousands of steps a second.
const REPORT: Duration = Duration::from_millis(200);
/// A reason longer than this would help nobody, and a packet has a bound.
const REASON: usize = 4096;

/// What it is started for.
enum Work {
    Train(TrainerStart, Files),
    Merge(MergeStart, merging::Files),
}

/// Trains or merges as the supervisor says. Returns whether all went as it was told: there is an adapter or a model, or
/// it was stopped.
///
/// # Errors
/// When the first message is not a start, or the supervisor cannot be heard.
pub fn run(socket: OwnedFd, open: Open, control: Control) -> Result<bool> {
    let control = Arc::new(control);
    let socket = Arc::new(socket);
    let begin = Instant::now();
    let work = match receive(&socket) {
        Ok(Some(work)) => work,
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
        let last = match &message {
            FromTrainer::Progress(progress) => Some(progress.step >= progress.steps),
            FromTrainer::Merging(merging) => Some(merging.written >= merging.all),
            _ => None,
        };
        if let Some(last) = last {
            if !last && reported.is_some_and(|at| at.elapsed() < REPORT) {
                return;
            }
            reported = Some(Instant::now());
        }
        if !say(&socket, &message) {
            control.stop();
        }
    };
    // A panic must be heard as one: the supervisor would wait for progress.
    let end = catch_unwind(AssertUnwindSafe(|| match work {
        Work::Train(start, files) => {
            session(&start, files, open, &control, begin, &mut tell).map_err(|error| error.to_string())
        }
        Work::Merge(start, files) => {
            merging::session(&start, &files, &control, &mut tell).map_err(|error| error.to_string())
        }
    }));
    let reason = match end {
        Ok(Ok(())) => return Ok(true),
        Ok(Err(reason)) => reason,
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
fn receive(socket: &OwnedFd) -> Result<Option<Work>> {
    let (message, descriptors) = match birth::recv::<ToTrainer>(socket.as_fd()) {
        Ok((ToTrainer::Stop, _)) | Err(BirthError::Closed) => return Ok(None),
        Ok(received) => received,
        Err(error) => return Err(error).context("hear what to do"),
    };
    let work = match message {
        ToTrainer::Start(start) => {
            let names = [
                "base model",
                "data set",
                "adapter",
                "checkpoint a",
                "checkpoint b",
            ];
            let (base, data, output, a, b, initial);
            if start.initial.is_some() {
                let last;
                [base, data, output, a, b, last] = take(
                    descriptors,
                    [
                        names[0],
                        names[1],
                        names[2],
                        names[3],
                        names[4],
                        "adapter to go on from",
                    ],
                )?;
                initial = Some(last);
            } else {
                [base, data, output, a, b] = take::<FILES>(descriptors, names)?;
                initial = None;
            }
            let checkpoints = Some([a, b]);
            let files = Files {
                base,
                data,
                output,
                checkpoints,
                initial,
            };
            Work::Train(*start, files)
        }
        ToTrainer::Merge(start) => {
            let names = ["base model", "adapter", "merged model"];
            let [base, adapter, output] = take::<MERGE_FILES>(descriptors, names)?;
            let files = merging::Files {
                base,
                adapter,
                output,
            };
            Work::Merge(start, files)
        }
        other => bail!("begin: the supervisor said {other:?} before it said start"),
    };
    Ok(Some(work))
}

/// The files that must have come, each of them one.
fn take<const COUNT: usize>(descriptors: Vec<OwnedFd>, names: [&str; COUNT]) -> Result<[File; COUNT]> {
    let count = descriptors.len();
    let files: Vec<File> = descriptors.into_iter().map(File::from).collect();
    let Ok(files) = <[File; COUNT]>::try_from(files) else {
        bail!("take the files: {count} descriptors came, {COUNT} were expected")
    };
    for (file, name) in files.iter().zip(names) {
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            bail!("take the files: the descriptor of the {name} is not a file");
        }
    }
    Ok(files)
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
            Ok((ToTrainer::Start(_) | ToTrainer::Merge(_), _)) => {
                crate::log("WARN a second start was ignored")
            }
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
