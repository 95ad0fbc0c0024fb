//! One training from its files to its adapter, whoever started it.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sarai_wire::training::{BadTraining, FromTrainer, Outcome, Prepared, TrainerStart, TrainingConfig};
use sha2::{Digest, Sha256};

use crate::learner::Learner;
use crate::lora_file;

use super::checkpoint::{Binding, Checkpoints};
use super::config::fingerprint;
use super::control::Control;
use super::data::{self, DataError, Example};
use super::output::{self, OutputError};
use super::packing::Pieces;
use super::run::{self, End, Run, RunError, Save, Trained};
use super::state::State;
use super::{hex, unhex};

/// Steps that an epoch has at least, if there are as many examples: a small set whose gradients all go into a few
/// steps is hardly learnt.
const STEPS_PER_EPOCH: usize = 8;
/// Most tokens of an anchor's row: there is one in each step, beside rows that are often short themselves.
const ANCHOR_LENGTH: usize = 256;

/// A learner that is an adapter on a base model.
pub trait Adapter: Learner {
    /// Tokens of the base's vocabulary.
    fn vocabulary(&self) -> usize;

    /// Writes the adapter with these numbers.
    ///
    /// # Errors
    /// What could not be written.
    fn write(&self, parameters: &[f32], to: &mut dyn Write) -> Result<(), crate::Error>;

    /// The numbers of an adapter that was written before.
    ///
    /// # Errors
    /// Why the bytes are none that fits.
    fn read(&self, bytes: &[u8]) -> Result<Vec<f32>, crate::Error>;
}

/// Opens the base and puts an adapter on it.
pub type Open = fn(&File, &TrainingConfig) -> Result<Box<dyn Adapter>, crate::Error>;

/// What a training reads and writes.
#[derive(Debug)]
pub struct Files {
    /// The base model.
    pub base: File,
    /// The data set.
    pub data: File,
    /// The adapter.
    pub output: File,
    /// Two checkpoints; without, a training that is interrupted begins anew.
    pub checkpoints: Option<[File; 2]>,
    /// The adapter to go on from, which [`TrainerStart::initial`] names.
    pub initial: Option<File>,
}

/// Why there is no adapter. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] BadTraining),
    /// What is given as the base's digest is none.
    #[error("use the base model: its digest must be 64 lower-case hex digits")]
    Digest,
    /// The base, or the adapter on it.
    #[error(transparent)]
    Base(#[from] crate::Error),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Rows are too short for any example.
    #[error("pack the data set: no example has a target among its first {0} tokens")]
    TooLong(u32),
    /// The training itself.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The adapter's file.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Trains, writes the adapter, and says all of it: first [`FromTrainer::Ready`], last [`FromTrainer::Done`] or
/// [`FromTrainer::Stopped`]. The time budget counts from `begin`.
///
/// # Errors
/// Why there is no adapter; the last checkpoint stays.
pub fn session(
    start: &TrainerStart,
    files: Files,
    open: Open,
    control: &Arc<Control>,
    begin: Instant,
    tell: &mut dyn FnMut(FromTrainer),
) -> Result<(), SessionError> {
    let config = &start.config;
    config.check()?;
    let base = unhex(&start.base).ok_or(SessionError::Digest)?;
    let mut adapter = open(&files.base, config)?;
    let held_up = Arc::clone(control);
    adapter.hold(Arc::new(move || held_up.wait(Duration::MAX)));
    let data = data::read(&files.data, &start.base, adapter.vocabulary())?;
    let train = Pieces::new(&data.train, row_length(config, &data.train));
    let held_out = Pieces::new(&data.held_out, config.sequence_length as usize);
    let anchors = Pieces::new(&data.anchors, ANCHOR_LENGTH);
    if train.is_empty() {
        return Err(SessionError::TooLong(config.sequence_length));
    }
    let parameters = adapter.parameters();
    let initial = match start.initial.as_ref().zip(files.initial) {
        Some((digest, file)) => match begin_from(&*adapter, &file, digest) {
            Ok(initial) => Some(initial),
            Err(error) => {
                let text =
                    format!("the adapter to go on from is not used, it begins from none: failed to {error}");
                tell(FromTrainer::Note { text });
                None
            }
        },
        None => None,
    };
    let binding = Binding {
        base,
        data: data.sha256,
        settings: fingerprint(
            config,
            parameters,
            initial.as_ref().map(|initial| &initial.digest),
        ),
    };
    let mut found = None;
    let mut checkpoints = files.checkpoints.map(|media| {
        let (checkpoints, on_disk) = Checkpoints::open(media, binding, parameters);
        for text in on_disk.notes {
            tell(FromTrainer::Note { text });
        }
        found = on_disk.state;
        checkpoints
    });
    let continued = initial.is_some();
    let state = found.unwrap_or_else(|| {
        State::new(initial.map_or_else(|| adapter.initial(config.seed), |initial| initial.parameters))
    });
    tell(FromTrainer::Ready(Prepared {
        parameters: parameters as u64,
        examples: train.len() as u64,
        held_out: held_out.len() as u64,
        cut: (train.cut + held_out.cut) as u64,
        dropped: (train.dropped + held_out.dropped) as u64,
        targets: train.targets() as u64,
        anchors: anchors.targets() as u64,
        steps: run::steps(config, &train),
        resumed: state.step,
        continued,
    }));
    let end = run::run(
        Run {
            learner: &mut *adapter,
            config,
            train: &train,
            held_out: &held_out,
            anchors: &anchors.sequences(),
            control,
            elapsed: &|| begin.elapsed(),
            tell,
            save: checkpoints
                .as_mut()
                .map(|checkpoints| checkpoints as &mut dyn Save),
        },
        state,
    )?;
    let last = match end {
        End::Stopped { step, saved } => FromTrainer::Stopped { step, saved },
        End::Trained(trained) => {
            let written = output::write(&files.output, |to| adapter.write(&trained.parameters, to))?;
            FromTrainer::Done(outcome(&trained, written, begin))
        }
    };
    tell(last);
    Ok(())
}

/// How long the rows of a training are: as long as allowed, but shorter where an epoch would otherwise have few steps.
/// None that fits is cut for it.
pub(crate) fn row_length(config: &TrainingConfig, examples: &[Example]) -> usize {
    let most = config.sequence_length as usize;
    let lengths = || examples.iter().map(|example| example.tokens.len().min(most));
    let each = lengths().sum::<usize>() / (STEPS_PER_EPOCH * config.rows_per_step as usize);
    each.clamp(lengths().max().unwrap_or(most), most)
}

/// An adapter to begin from.
struct Initial {
    parameters: Vec<f32>,
    digest: [u8; 32],
}

fn begin_from(adapter: &dyn Adapter, file: &File, digest: &str) -> Result<Initial, crate::Error> {
    let most = 4 * adapter.parameters() as u64 + lora_file::MAX_HEAD;
    let bytes = lora_file::bytes(file, most)?;
    let found: [u8; 32] = Sha256::digest(&bytes).into();
    if unhex(digest) != Some(found) {
        let found = hex(&found);
        return Err(crate::Error::AdapterFile(format!(
            "its SHA-256 is {found}, not {digest:.64}"
        )));
    }
    Ok(Initial {
        parameters: adapter.read(&bytes)?,
        digest: found,
    })
}

fn outcome(trained: &Trained, written: output::Written, begin: Instant) -> Outcome {
    Outcome {
        ended: trained.ended,
        step: trained.step,
        steps: trained.steps,
        best_step: trained.best_step,
        loss: trained.loss,
        held_out_before: trained.held_out_before,
        held_out: trained.held_out,
        refused: u32::try_from(trained.refused).unwrap_or(u32::MAX),
        tokens_per_second: trained.tokens_per_second,
        seconds: begin.elapsed().as_secs_f64(),
        size: written.size,
        sha256: written.sha256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(lengths: &[usize]) -> Vec<Example> {
        let of = |length: &usize| Example {
            tokens: vec![0; *length],
            targets: std::iter::once(1..*length).collect(),
        };
        lengths.iter().map(of).collect()
    }

    #[test]
    fn rows_are_short_enough_for_some_steps_and_cut_nothing_for_it() {
        let config = TrainingConfig {
            sequence_length: 512,
            rows_per_step: 1,
            ..TrainingConfig::default()
        };
        let length = |lengths: &[usize]| row_length(&config, &examples(lengths));
        assert_eq!(length(&[30; 40]), 150);
        assert_eq!(length(&[30; 4]), 30);
        assert_eq!(length(&[30, 200]), 200);
        assert_eq!(length(&[30, 9000]), 512);
        assert_eq!(length(&[100; 1000]), 512);
        let all = examples(&[30; 40]);
        assert_eq!(Pieces::new(&all, length(&[30; 40])).rows(), 8);
        let two = TrainingConfig {
            rows_per_step: 2,
            ..config.clone()
        };
        assert_eq!(row_length(&two, &all), 75);
    }
}
