//! What the trainer is started for: a night's training, or a merge.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sarai_wire::merge::{MergeOutcome, MergeStart, Merging};
use sarai_wire::night::NightStage;
use sarai_wire::training::{Outcome, Progress, ToTrainer, TrainerStart, TrainingConfig};

use super::stop::Stop;
use super::trainer::{self, Job};
use crate::app::{App, Shared};

/// What a merged model may have more than its base: the name, two keys, and the space up to the next tensor.
pub const MORE: u64 = 1 << 20;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// It trains.
    Train,
    /// It merges.
    Merge,
}

impl Task {
    /// What could not be done, before a colon.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Merge => "merge",
        }
    }
}

/// How far it is.
#[derive(Debug, Clone, Copy)]
pub enum Shown {
    /// With a training, after its first step.
    Training(Option<Progress>),
    /// With a merge.
    Merging(Merging),
}

impl Shown {
    /// Nothing is done.
    #[must_use]
    pub fn begin(task: Task) -> Self {
        match task {
            Task::Train => Self::Training(None),
            Task::Merge => Self::Merging(Merging::default()),
        }
    }

    /// Shows it to the admin.
    pub fn show(self, app: &Shared, paused: bool) {
        match self {
            Self::Training(progress) => app.night.at(NightStage::Training { progress, paused }),
            Self::Merging(progress) => app.merges.progress(progress, paused),
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Made {
    /// An adapter.
    Adapter(Outcome),
    /// A merged model.
    Model(MergeOutcome),
}

/// What is trained, from what, and how.
pub struct Training {
    /// The base, as verified.
    pub base: File,
    /// SHA-256 of it.
    pub sha256: String,
    /// The data set, read-only.
    pub data: File,
    /// The adapter's file, empty.
    pub output: File,
    /// Its checkpoints.
    pub checkpoints: [File; 2],
    /// The adapter in use, which it goes on from, as verified; and its SHA-256.
    pub initial: Option<(String, OwnedFd)>,
    /// How.
    pub config: TrainingConfig,
}

/// What is merged.
pub struct Merge {
    /// The base, as verified.
    pub base: File,
    /// The adapter, as verified.
    pub adapter: File,
    /// The merged model's file, empty.
    pub output: File,
    /// SHA-256 of base and adapter.
    pub sha256: [String; 2],
}

/// Compute threads that the trainer may have of those that are wanted.
fn threads(app: &Shared, wanted: u32) -> u32 {
    let cpus = u32::try_from(app.cores.house.len()).unwrap_or(u32::MAX);
    wanted.min(cpus.max(1))
}

fn size(file: &File) -> Result<u64, String> {
    let metadata = file.metadata();
    metadata
        .map(|metadata| metadata.len())
        .map_err(|e| format!("look at the base: {e}"))
}

/// Trains. Returns when the trainer has ended, with what it says of its adapter.
///
/// # Errors
/// Why there is no adapter; fits after "failed to".
pub async fn train(app: &App, training: Training, stop: &mut Stop) -> Result<Outcome, String> {
    let Training {
        base,
        sha256,
        data,
        output,
        checkpoints: [a, b],
        initial,
        mut config,
    } = training;
    config.threads = threads(app, config.threads);
    let job = Job {
        task: Task::Train,
        size: size(&base)?,
        largest: 0,
        budget: Duration::from_secs(config.time_budget_seconds.into()),
        start: ToTrainer::Start(Box::new(TrainerStart {
            base: sha256,
            config,
            initial: initial.as_ref().map(|(sha256, _)| sha256.clone()),
        })),
        files: [base, data, output, a, b]
            .map(OwnedFd::from)
            .into_iter()
            .chain(initial.map(|(_, file)| file))
            .collect(),
    };
    match trainer::run(app, job, stop).await? {
        Made::Adapter(outcome) => Ok(outcome),
        Made::Model(_) => Err("train: the trainer merged instead".to_owned()),
    }
}

/// Merges. Returns when the trainer has ended, with what it says of the merged model.
///
/// # Errors
/// Why there is none; fits after "failed to".
pub async fn merge(app: &App, merge: Merge, stop: &mut Stop) -> Result<MergeOutcome, String> {
    let Merge {
        base,
        adapter,
        output,
        sha256: [of_base, of_adapter],
    } = merge;
    let how = &app.config.training.how;
    let size = size(&base)?;
    let job = Job {
        task: Task::Merge,
        size,
        largest: size + MORE,
        budget: Duration::from_secs(how.time_budget_seconds.into()),
        start: ToTrainer::Merge(MergeStart {
            base: of_base,
            adapter: of_adapter,
            threads: threads(app, how.threads),
        }),
        files: [base, adapter, output].map(OwnedFd::from).into(),
    };
    match trainer::run(app, job, stop).await? {
        Made::Model(outcome) => Ok(outcome),
        Made::Adapter(_) => Err("merge: the trainer trained instead".to_owned()),
    }
}
