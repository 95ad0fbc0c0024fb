//! The course of a training: steps, measurements, checkpoints, and every way it can end.

use std::time::Duration;

use sarai_wire::training::{Ended, FromTrainer, Progress, TrainingConfig};

use crate::learner::{Anchor, Learner, Loss, Sequence};

use super::adamw::{Step, clipping, norm};
use super::checkpoint::{Checkpoints, Medium};
use super::control::Control;
use super::meter::{Meter, time_to_write};
use super::packing::{Pieces, Row};
use super::schedule;
use super::state::State;

/// Times the numbers may break before it is given up.
pub const RECOVERIES: u64 = 3;

/// Where states are kept.
pub trait Save {
    /// Keeps one; when that fails, the one before is as it was.
    ///
    /// # Errors
    /// The medium's own.
    fn save(&mut self, state: &State) -> std::io::Result<()>;
}

impl<M: Medium> Save for Checkpoints<M> {
    fn save(&mut self, state: &State) -> std::io::Result<()> {
        Checkpoints::save(self, state)
    }
}

/// What a training works with.
pub struct Run<'a> {
    /// What learns.
    pub learner: &'a mut dyn Learner,
    /// How.
    pub config: &'a TrainingConfig,
    /// What it learns.
    pub train: &'a Pieces<'a>,
    /// What it is judged by; may be empty.
    pub held_out: &'a Pieces<'a>,
    /// Where it is held to what the base says; may be empty.
    pub anchors: &'a [Sequence],
    /// What it is told meanwhile.
    pub control: &'a Control,
    /// Time since the start that the time budget counts from. Does not go back.
    pub elapsed: &'a dyn Fn() -> Duration,
    /// Where its progress goes.
    pub tell: &'a mut dyn FnMut(FromTrainer),
    /// Where its states are kept, if anywhere.
    pub save: Option<&'a mut dyn Save>,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// There is an adapter.
    Trained(Trained),
    /// It was told to stop.
    Stopped {
        /// Steps done.
        step: u64,
        /// Whether a checkpoint holds them.
        saved: bool,
    },
}

/// What was trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The adapter's numbers: those of the best step.
    pub parameters: Vec<f32>,
    /// Why it ended.
    pub ended: Ended,
    /// Steps done.
    pub step: u64,
    /// Steps there would have been.
    pub steps: u64,
    /// The step that the numbers are from.
    pub best_step: u64,
    /// Mean loss over the last epoch so far.
    pub loss: f64,
    /// Held-out loss before the first step.
    pub held_out_before: Option<f64>,
    /// Held-out loss of the best step.
    pub held_out: Option<f64>,
    /// Steps refused.
    pub refused: u64,
    /// Tokens trained on in a second of work.
    pub tokens_per_second: f64,
}

/// Why there is no adapter. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The mathematics failed.
    #[error(transparent)]
    Learner(#[from] crate::Error),
    /// The base itself is broken, or no example suits it.
    #[error("train: the held-out loss of the base model itself is not finite")]
    Base,
    /// Nothing came of the time there was.
    #[error("train: the time budget of {0} s was used up before the first step was done")]
    TooShort(u32),
    /// The numbers broke too often.
    #[error(
        "train: {what} at step {step} is not finite, after {RECOVERIES} returns to a good state with half the learning rate each"
    )]
    GaveUp {
        /// What is not finite.
        what: &'static str,
        /// Steps done before.
        step: u64,
    },
}

/// Why it goes no further.
#[derive(Clone, Copy)]
enum Break {
    Stop,
    Time,
}

/// Steps of a training over `train`.
#[must_use]
pub fn steps(config: &TrainingConfig, train: &Pieces<'_>) -> u64 {
    (steps_per_epoch(config, train) * u64::from(config.epochs)).max(config.least_steps.into())
}

fn steps_per_epoch(config: &TrainingConfig, train: &Pieces<'_>) -> u64 {
    (train.rows() as u64).div_ceil(config.rows_per_step.into())
}

/// Trains from `state` to an end.
///
/// # Errors
/// [`RunError`]; the last checkpoint stays.
pub fn run(run: Run<'_>, state: State) -> Result<End, RunError> {
    let budget = Duration::from_secs(run.config.time_budget_seconds.into());
    let writing = time_to_write(state.parameters.len(), run.save.is_some());
    let mut runner = Runner {
        steps: steps(run.config, run.train),
        per_epoch: steps_per_epoch(run.config, run.train).max(1),
        gradient: vec![0.0; state.parameters.len()],
        order: (u64::MAX, Vec::new()),
        to_measure: run.held_out.in_order(),
        anchored: vec![None; run.anchors.len()],
        drift: None,
        meter: Meter::default(),
        latest: budget.saturating_sub(writing),
        saved: (run.elapsed)(),
        run,
        state,
    };
    let stopped = runner.course()?;
    runner.end(stopped)
}

struct Runner<'a> {
    run: Run<'a>,
    state: State,
    steps: u64,
    per_epoch: u64,
    gradient: Vec<f32>,
    /// An epoch and its rows.
    order: (u64, Vec<Row>),
    to_measure: Vec<Row>,
    /// What the base says of each anchor, once it was asked.
    anchored: Vec<Option<Anchor>>,
    /// Mean divergence of a token of the last anchor.
    drift: Option<f64>,
    meter: Meter,
    /// When writing has to begin.
    latest: Duration,
    /// When a state was kept last.
    saved: Duration,
}

impl Runner<'_> {
    /// Steps and measurements, until there is nothing more to do or somebody says so.
    fn course(&mut self) -> Result<Result<Ended, Break>, RunError> {
        loop {
            let step = self.state.step;
            let due = step.is_multiple_of(self.run.config.held_out_every.into()) || step >= self.steps;
            if due && self.state.measured != Some(step) {
                if let Err(end) = self.measure()? {
                    return Ok(Err(end));
                }
                continue;
            }
            if step >= self.steps {
                return Ok(Ok(Ended::Finished));
            }
            let patience = u64::from(self.run.config.patience);
            if patience > 0 && self.state.without_gain >= patience {
                return Ok(Ok(Ended::Patience));
            }
            let every = Duration::from_secs(self.run.config.checkpoint_seconds.into());
            if (self.run.elapsed)().saturating_sub(self.saved) >= every {
                self.save();
            }
            if let Err(end) = self.step()? {
                return Ok(Err(end));
            }
        }
    }

    /// Waits while it is paused; breaks off where it is told to, or where `need` more time is not there.
    fn gate(&self, need: Duration) -> Result<(), Break> {
        loop {
            if self.run.control.stopping() {
                return Err(Break::Stop);
            }
            let left = self.latest.checked_sub((self.run.elapsed)() + need);
            let Some(left) = left.filter(|left| !left.is_zero()) else {
                return Err(Break::Time);
            };
            if !self.run.control.paused() {
                return Ok(());
            }
            self.run.control.wait(left);
        }
    }

    /// Time so far in which it did not have to stand still.
    fn worked(&self) -> Duration {
        (self.run.elapsed)().saturating_sub(self.run.control.stood())
    }

    fn step(&mut self) -> Result<Result<(), Break>, RunError> {
        let step = self.state.step;
        let epoch = step / self.per_epoch;
        if self.order.0 != epoch {
            self.order = (epoch, self.run.train.epoch(self.run.config.seed, epoch));
        }
        let per_step = self.run.config.rows_per_step as usize;
        let first = usize::try_from(step % self.per_epoch).unwrap_or(0) * per_step;
        let last = (first + per_step).min(self.order.1.len());
        self.gradient.fill(0.0);
        let mut loss = Loss::default();
        // What a measurement at the end takes is kept too.
        let reserve = self.meter.measurement();
        for row in first..last {
            if let Err(end) = self.gate(self.meter.longest_row() + reserve) {
                return Ok(Err(end));
            }
            let sequence = self.run.train.sequence(&self.order.1[row]);
            let begin = self.worked();
            let of_row =
                self.run
                    .learner
                    .loss_and_gradient(&self.state.parameters, &sequence, &mut self.gradient)?;
            let took = self.worked().saturating_sub(begin);
            self.meter.row(sequence.tokens.len(), took);
            self.run.control.count();
            loss += of_row;
            if !loss.nll.is_finite() {
                return self.refuse("the loss").map(Ok);
            }
        }
        if let Err(end) = self.pull_back(loss.tokens)? {
            return Ok(Err(end));
        }
        self.apply(loss).map(Ok)
    }

    /// Whether it is held to what the base says.
    fn is_held(&self) -> bool {
        !self.run.anchors.is_empty() && self.run.config.anchor > 0.0
    }

    /// Adds the pull towards what the base says, of one anchor in each step: its mean divergence counts
    /// [`TrainingConfig::anchor`] times as much as the mean loss of the step's `tokens`.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "far fewer tokens than 2^52; gradients are f32"
    )]
    fn pull_back(&mut self, tokens: usize) -> Result<Result<(), Break>, RunError> {
        if !self.is_held() {
            return Ok(Ok(()));
        }
        if let Err(end) = self.gate(self.meter.longest_row() + self.meter.measurement()) {
            return Ok(Err(end));
        }
        let at = (self.state.step % self.run.anchors.len() as u64) as usize;
        let sequence = &self.run.anchors[at];
        let begin = self.worked();
        let anchor = match &mut self.anchored[at] {
            Some(anchor) => anchor,
            none => none.insert(self.run.learner.anchor(sequence)?),
        };
        let share = tokens as f64 / anchor.tokens.max(1) as f64;
        let drift = self.run.learner.drift_and_gradient(
            &self.state.parameters,
            sequence,
            anchor,
            (self.run.config.anchor * share) as f32,
            &mut self.gradient,
        )? / anchor.tokens.max(1) as f64;
        // What is not finite is in the gradient too, and refused there.
        self.drift = drift.is_finite().then_some(drift);
        let took = self.worked().saturating_sub(begin);
        self.meter.row(sequence.tokens.len(), took);
        self.run.control.count();
        Ok(Ok(()))
    }

    /// Moves the parameters by the gradient that was gathered.
    #[expect(clippy::cast_precision_loss, reason = "far fewer tokens than 2^52")]
    fn apply(&mut self, loss: Loss) -> Result<(), RunError> {
        let config = self.run.config;
        let tokens = loss.tokens.max(1) as f64;
        let length = norm(&self.gradient) / tokens;
        if !length.is_finite() {
            return self.refuse("the gradient");
        }
        let halved = 0.5_f64.powi(i32::try_from(self.state.refused).unwrap_or(i32::MAX));
        let step = Step {
            rate: schedule::rate(config, self.state.step, self.steps) * halved,
            weight_decay: config.weight_decay,
            scale: clipping(length, config.clip) / tokens,
        };
        let state = &mut self.state;
        state.moments.step(&mut state.parameters, &self.gradient, step);
        if state.step.is_multiple_of(self.per_epoch) {
            state.epoch = super::state::EpochLoss::default();
        }
        state.epoch.nll += loss.nll;
        state.epoch.tokens += loss.tokens as u64;
        state.loss = Some(loss.nll / tokens);
        state.step += 1;
        self.tell_progress();
        Ok(())
    }

    /// Something is not finite: back to the last good state, or the end.
    fn refuse(&mut self, what: &'static str) -> Result<(), RunError> {
        let step = self.state.step;
        if self.state.refused >= RECOVERIES {
            return Err(RunError::GaveUp { what, step });
        }
        self.state.back();
        let text = format!(
            "{what} at step {step} is not finite: back to step {} with half the learning rate",
            self.state.step
        );
        (self.run.tell)(FromTrainer::Note { text });
        Ok(())
    }

    /// Measures the held-out loss, and makes this moment the one to go back to.
    #[expect(clippy::cast_precision_loss, reason = "far fewer tokens than 2^52")]
    fn measure(&mut self) -> Result<Result<(), Break>, RunError> {
        let begin = self.worked();
        let mut loss = Loss::default();
        let mut longest = Duration::ZERO;
        for row in &self.to_measure {
            if let Err(end) = self.gate(longest) {
                return Ok(Err(end));
            }
            let before = self.worked();
            let sequence = self.run.held_out.sequence(row);
            loss += self.run.learner.loss(&self.state.parameters, &sequence)?;
            longest = longest.max(self.worked().saturating_sub(before));
            self.run.control.count();
        }
        if !loss.nll.is_finite() {
            if self.state.step == 0 {
                return Err(RunError::Base);
            }
            return self.refuse("the held-out loss").map(Ok);
        }
        self.state.measured = Some(self.state.step);
        self.state.keep();
        if loss.tokens > 0 {
            self.meter.measured(self.worked().saturating_sub(begin));
            self.state.judge(loss.nll / loss.tokens as f64);
            self.tell_progress();
        }
        Ok(Ok(()))
    }

    fn tell_progress(&mut self) {
        let config = self.run.config;
        let left = self.steps.saturating_sub(self.state.step);
        let rows = left * (u64::from(config.rows_per_step) + u64::from(self.is_held()));
        let estimate = self
            .meter
            .estimate(rows, left.div_ceil(config.held_out_every.into()));
        let most = self.latest.saturating_sub((self.run.elapsed)()).as_secs_f64();
        let epoch = (self.state.step.saturating_sub(1) / self.per_epoch).saturating_add(1);
        (self.run.tell)(FromTrainer::Progress(Progress {
            step: self.state.step,
            steps: self.steps,
            epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
            loss: self.state.loss,
            held_out: self.state.held_out,
            best: self.state.best.as_ref().map(|best| best.loss),
            drift: self.drift,
            tokens_per_second: self.meter.tokens_per_second(),
            eta_seconds: estimate.min(most),
        }));
    }

    /// Keeps the state. Training goes on without: a disk may have room again before it matters.
    fn save(&mut self) -> bool {
        let Some(save) = &mut self.run.save else {
            return false;
        };
        self.saved = (self.run.elapsed)();
        match save.save(&self.state) {
            Ok(()) => true,
            Err(error) => {
                let text = format!(
                    "the checkpoint of step {} cannot be written: {error}",
                    self.state.step
                );
                (self.run.tell)(FromTrainer::Note { text });
                false
            }
        }
    }

    fn end(mut self, ended: Result<Ended, Break>) -> Result<End, RunError> {
        let ended = match ended {
            Ok(ended) => ended,
            Err(Break::Stop) => return Ok(self.stopped()),
            Err(Break::Time) => {
                // The last steps count only if they are seen to be better.
                if self.state.step > 0
                    && self.state.measured != Some(self.state.step)
                    && let Err(Break::Stop) = self.measure()?
                {
                    return Ok(self.stopped());
                }
                if self.state.step == 0 {
                    return Err(RunError::TooShort(self.run.config.time_budget_seconds));
                }
                Ended::Time
            }
        };
        // What is interrupted from here on finds everything done.
        self.save();
        let state = self.state;
        let (parameters, best_step, held_out) = match state.best {
            Some(best) => (best.parameters, best.step, Some(best.loss)),
            None => (state.parameters, state.step, None),
        };
        Ok(End::Trained(Trained {
            parameters,
            ended,
            step: state.step,
            steps: self.steps,
            best_step,
            loss: state.epoch.mean(),
            held_out_before: state.held_out_before,
            held_out,
            refused: state.refused,
            tokens_per_second: self.meter.tokens_per_second(),
        }))
    }

    fn stopped(mut self) -> End {
        let saved = self.save();
        End::Stopped {
            step: self.state.step,
            saved,
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
