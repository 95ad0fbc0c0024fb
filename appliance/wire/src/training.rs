//! Supervisor ↔ trainer: what a night's training is started with, what it is told, and what it says.
//!
//! The trainer is born like an engine (see [`crate::birth`]): one packet is one JSON message. It opens no path; with
//! [`ToTrainer::Start`] come [`FILES`] descriptors. One that is to merge instead hears [`ToTrainer::Merge`]
//! ([`crate::merge`]).

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::bounds::training as bounds;
use crate::merge::{MergeOutcome, MergeStart, Merging};

/// Descriptors attached to [`ToTrainer::Start`], in this order: the base model (read), the data set (read), the
/// adapter (read and write, empty), checkpoint a and checkpoint b (read and write). Where [`TrainerStart::initial`]
/// names one, the adapter to go on from (read) is the sixth.
pub const FILES: usize = 5;

/// Supervisor → trainer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToTrainer {
    /// Train. [`FILES`] descriptors are attached, and one more with [`TrainerStart::initial`].
    Start(Box<TrainerStart>),
    /// Merge. [`crate::merge::MERGE_FILES`] descriptors are attached.
    Merge(MergeStart),
    /// Prove that you live; answered by [`FromTrainer::Pong`] with the same number.
    Ping {
        /// Number to repeat.
        seq: u64,
    },
    /// Stop computing after the row at hand, or the rows of a merge, until [`ToTrainer::Resume`].
    Pause,
    /// Go on.
    Resume,
    /// Write a checkpoint after the row at hand, answer [`FromTrainer::Stopped`], exit with status 0. SIGTERM and the
    /// end of the supervisor do the same. Of a merge nothing is kept.
    Stop,
}

/// Everything a trainer needs besides its descriptors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerStart {
    /// SHA-256 of the base model, lower-case hex, as verified on the descriptor that is attached.
    pub base: String,
    /// How to train.
    pub config: TrainingConfig,
    /// SHA-256 of the adapter that the training begins from, lower-case hex, as verified on the descriptor that is
    /// attached; without, it begins from an adapter that changes nothing. One that does not fit the base or the
    /// settings is named in a [`FromTrainer::Note`] and not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<String>,
}

/// A weight matrix of every layer that an adapter may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Queries of the attention.
    AttnQ,
    /// Keys of the attention.
    AttnK,
    /// Values of the attention.
    AttnV,
    /// What the attention gives back.
    AttnOutput,
    /// The gate of the feed-forward part.
    FfnGate,
    /// Its widening.
    FfnUp,
    /// Its narrowing.
    FfnDown,
}

impl Target {
    /// Every target.
    pub const ALL: [Self; 7] = [
        Self::AttnQ,
        Self::AttnK,
        Self::AttnV,
        Self::AttnOutput,
        Self::FfnGate,
        Self::FfnUp,
        Self::FfnDown,
    ];

    /// Its name in settings and, between the layer's number and `weight`, in a GGUF file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AttnQ => "attn_q",
            Self::AttnK => "attn_k",
            Self::AttnV => "attn_v",
            Self::AttnOutput => "attn_output",
            Self::FfnGate => "ffn_gate",
            Self::FfnUp => "ffn_up",
            Self::FfnDown => "ffn_down",
        }
    }
}

/// How to train. What is left out has its default; the bounds are those of [`crate::bounds::training`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingConfig {
    /// Rank of each low-rank update.
    pub rank: u32,
    /// Scale of the updates: what is added to a weight is `alpha / rank` times the product of the two matrices.
    pub alpha: f32,
    /// Which weights get an update; at least one, each at most once.
    pub targets: Vec<Target>,
    /// Highest learning rate, after the warm-up.
    pub learning_rate: f64,
    /// Part of all steps in which the rate rises from zero to the highest.
    pub warmup: f64,
    /// Part of the highest rate at which the cosine ends.
    pub floor: f64,
    /// Passes over the training examples.
    pub epochs: u32,
    /// Largest Euclidean norm of a step's gradient (of the mean loss of a token); longer ones are scaled down to it.
    pub clip: f64,
    /// Decoupled weight decay, times the learning rate, of each step.
    pub weight_decay: f64,
    /// Seed of the initial values and of the examples' order.
    pub seed: u64,
    /// Most tokens of a packed row; longer examples are cut at their end.
    pub sequence_length: u32,
    /// Packed rows whose gradients make one step. They are computed one after another, in the memory of one.
    pub rows_per_step: u32,
    /// Steps between two measurements of the held-out loss.
    pub held_out_every: u32,
    /// Steps that are done at least: a small set is gone over more often than [`Self::epochs`].
    pub least_steps: u32,
    /// How strongly the model is held to what the base says of general texts: this times the mean divergence of a token
    /// there is added to the mean loss of a token. 0 does not hold it.
    pub anchor: f64,
    /// Measurements in a row without a new best after which training ends; 0 never ends it early.
    pub patience: u32,
    /// Seconds this run may take, from its start to the adapter's last byte. What a checkpoint brings does not count.
    pub time_budget_seconds: u32,
    /// Seconds between two checkpoints; 0 writes one after each step.
    pub checkpoint_seconds: u32,
    /// Compute threads.
    pub threads: u32,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 16.0,
            targets: Target::ALL.to_vec(),
            learning_rate: 1e-3,
            warmup: 0.05,
            floor: 0.1,
            epochs: 8,
            clip: 1.0,
            weight_decay: 0.01,
            seed: 0,
            sequence_length: 512,
            rows_per_step: 1,
            least_steps: 100,
            anchor: 1.0,
            held_out_every: 10,
            patience: 5,
            time_budget_seconds: 4 * 3600,
            checkpoint_seconds: 180,
            threads: 2,
        }
    }
}

/// A setting of the training is out of its bounds. Fits after "failed to".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("use the training's settings: {0}")]
pub struct BadTraining(String);

impl TrainingConfig {
    /// Holds every setting to its bounds.
    ///
    /// # Errors
    /// [`BadTraining`], naming the setting, its value and its bounds.
    pub fn check(&self) -> Result<(), BadTraining> {
        for (name, value, bounds) in [
            ("rank", self.rank, bounds::RANK),
            ("epochs", self.epochs, bounds::EPOCHS),
            ("sequence_length", self.sequence_length, bounds::SEQUENCE_LENGTH),
            ("rows_per_step", self.rows_per_step, bounds::ROWS_PER_STEP),
            ("least_steps", self.least_steps, bounds::LEAST_STEPS),
            ("held_out_every", self.held_out_every, bounds::HELD_OUT_EVERY),
            ("patience", self.patience, bounds::PATIENCE),
            (
                "time_budget_seconds",
                self.time_budget_seconds,
                bounds::TIME_BUDGET_SECONDS,
            ),
            (
                "checkpoint_seconds",
                self.checkpoint_seconds,
                bounds::CHECKPOINT_SECONDS,
            ),
            ("threads", self.threads, bounds::THREADS),
        ] {
            within(name, value, &bounds)?;
        }
        // What is no number is in no range.
        for (name, value, bounds) in [
            ("alpha", f64::from(self.alpha), bounds::ALPHA),
            ("learning_rate", self.learning_rate, bounds::LEARNING_RATE),
            ("warmup", self.warmup, bounds::WARMUP),
            ("floor", self.floor, bounds::FLOOR),
            ("clip", self.clip, bounds::CLIP),
            ("weight_decay", self.weight_decay, bounds::WEIGHT_DECAY),
            ("anchor", self.anchor, bounds::ANCHOR),
        ] {
            within(name, value, &bounds)?;
        }
        // A seed beyond it could not be written in TOML.
        within("seed", self.seed, &bounds::SEED)?;
        if self.targets.is_empty() {
            return Err(BadTraining("targets is empty, must name at least one".into()));
        }
        for (at, target) in self.targets.iter().enumerate() {
            if self.targets[..at].contains(target) {
                return Err(BadTraining(format!("targets names {} twice", target.name())));
            }
        }
        Ok(())
    }
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    name: &str,
    value: T,
    bounds: &RangeInclusive<T>,
) -> Result<(), BadTraining> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (least, most) = (bounds.start(), bounds.end());
    Err(BadTraining(format!(
        "{name} is {value}, must be {least} to {most}"
    )))
}

/// Trainer → supervisor. Numbers are finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromTrainer {
    /// Base and data set were read; steps begin.
    Ready(Prepared),
    /// After each step, and after each measurement of the held-out loss.
    Progress(Progress),
    /// Something the log should have: a checkpoint that was not used, a step that was refused.
    Note {
        /// One sentence.
        text: String,
    },
    /// Answer to [`ToTrainer::Ping`].
    Pong {
        /// The number of the ping.
        seq: u64,
        /// Rows computed, or parts of a merge written, since the start of the process: it moves as long as there is
        /// progress.
        rows: u64,
        /// Whether it stands still by order.
        paused: bool,
    },
    /// The adapter is whole and on disk; the trainer exits with status 0 after this.
    Done(Outcome),
    /// Told to stop; it exits with status 0 after this.
    Stopped {
        /// Steps done.
        step: u64,
        /// Whether a checkpoint holds them.
        saved: bool,
    },
    /// How far a merge is.
    Merging(Merging),
    /// The merged model is whole and on disk; the trainer exits with status 0 after this.
    Merged(MergeOutcome),
    /// No adapter, or no merged model; the trainer exits with status 1 after this.
    Failed {
        /// Why, fitting after "failed to".
        reason: String,
    },
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Numbers that are trained.
    pub parameters: u64,
    /// Training examples in use, those of earlier nights among them.
    pub examples: u64,
    /// Held-out examples in use.
    pub held_out: u64,
    /// Examples that were cut to the sequence length.
    pub cut: u64,
    /// Examples that are left out: cut, they had nothing to be predicted any more.
    pub dropped: u64,
    /// Tokens to be predicted in one epoch.
    pub targets: u64,
    /// Tokens at which the model is held to what the base says.
    #[serde(default)]
    pub anchors: u64,
    /// Steps of the whole training.
    pub steps: u64,
    /// Step it goes on from; 0 from the beginning.
    pub resumed: u64,
    /// Whether it began from [`TrainerStart::initial`].
    #[serde(default)]
    pub continued: bool,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps of the whole training.
    pub steps: u64,
    /// Epoch that is trained, from 1.
    pub epoch: u32,
    /// Mean loss of a predicted token in the last step, nats.
    pub loss: Option<f64>,
    /// The same over the held-out examples, as last measured.
    pub held_out: Option<f64>,
    /// The lowest of those that were measured after a step.
    pub best: Option<f64>,
    /// Mean Kullback-Leibler divergence of a token, nats, of what the base says of general texts from what the model says
    /// now, in the last step.
    #[serde(default)]
    pub drift: Option<f64>,
    /// Tokens trained on in a second, pauses left out.
    pub tokens_per_second: f64,
    /// Seconds to the end, when it goes on like this.
    pub eta_seconds: f64,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// Every step was done.
    Finished,
    /// The held-out loss found no new best for [`TrainingConfig::patience`] measurements.
    Patience,
    /// The time budget was used up.
    Time,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Why it ended.
    pub ended: Ended,
    /// Steps done.
    pub step: u64,
    /// Steps there would have been.
    pub steps: u64,
    /// The step whose values the adapter has: the one with the lowest held-out loss, or the last without held-out
    /// examples.
    pub best_step: u64,
    /// Mean loss of a predicted token over the last epoch, or as much of it as was trained, nats.
    pub loss: f64,
    /// The same over the held-out examples before the first step.
    pub held_out_before: Option<f64>,
    /// The same with the adapter.
    pub held_out: Option<f64>,
    /// Steps refused because a loss or a gradient was not finite.
    pub refused: u32,
    /// Tokens trained on in a second, pauses left out.
    pub tokens_per_second: f64,
    /// Seconds this run took.
    pub seconds: f64,
    /// The adapter's size, bytes.
    pub size: u64,
    /// SHA-256 of the adapter, lower-case hex.
    pub sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut TrainingConfig)) -> String {
        let mut config = TrainingConfig::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_pass_and_each_setting_has_its_bounds() {
        TrainingConfig::default().check().unwrap();
        assert_eq!(
            refused(|c| c.rank = 65),
            "use the training's settings: rank is 65, must be 1 to 64"
        );
        assert!(refused(|c| c.rank = 0).contains("rank"));
        assert!(refused(|c| c.alpha = 0.0).contains("alpha"));
        assert!(refused(|c| c.alpha = f32::INFINITY).contains("alpha"));
        assert!(refused(|c| c.learning_rate = f64::NAN).contains("learning_rate is NaN"));
        assert!(refused(|c| c.learning_rate = -1e-3).contains("learning_rate"));
        assert!(refused(|c| c.warmup = 1.0).contains("warmup"));
        assert!(refused(|c| c.floor = 1.5).contains("floor"));
        assert!(refused(|c| c.epochs = 0).contains("epochs"));
        assert!(refused(|c| c.clip = 0.0).contains("clip"));
        assert!(refused(|c| c.weight_decay = -0.1).contains("weight_decay"));
        assert!(refused(|c| c.seed = u64::MAX).contains("seed"));
        assert!(refused(|c| c.sequence_length = 4097).contains("sequence_length"));
        assert!(refused(|c| c.rows_per_step = 0).contains("rows_per_step"));
        assert!(refused(|c| c.held_out_every = 0).contains("held_out_every"));
        assert!(refused(|c| c.patience = 1001).contains("patience"));
        assert!(refused(|c| c.time_budget_seconds = 0).contains("time_budget_seconds"));
        assert!(refused(|c| c.checkpoint_seconds = 86_400).contains("checkpoint_seconds"));
        assert!(refused(|c| c.threads = 0).contains("threads"));
        assert!(refused(|c| c.targets.clear()).contains("targets is empty"));
        assert!(refused(|c| c.targets.push(Target::FfnUp)).contains("names ffn_up twice"));
    }

    #[test]
    fn a_target_is_called_the_same_in_settings_and_in_a_model() {
        for target in Target::ALL {
            assert_eq!(serde_json::to_value(target).unwrap(), target.name());
        }
    }

    #[test]
    fn what_is_left_out_has_its_default_and_what_is_unknown_is_refused() {
        let config: TrainingConfig = serde_json::from_str(r#"{"rank": 4}"#).unwrap();
        assert_eq!(
            config,
            TrainingConfig {
                rank: 4,
                ..TrainingConfig::default()
            }
        );
        assert!(serde_json::from_str::<TrainingConfig>(r#"{"rnak": 4}"#).is_err());
        assert!(serde_json::from_str::<TrainingConfig>(r#"{"targets": ["output"]}"#).is_err());
    }

    #[test]
    fn its_files_fit_one_packet() {
        const { assert!(FILES < crate::birth::MAX_FDS) }
    }
}
