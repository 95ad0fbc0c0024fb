//! Trainings of a small learner on a clock of their own: what they learn, and every way they are interrupted.

use std::cell::{Cell, RefCell};

use super::*;
use crate::Error;
use crate::learner::Sequence;
use crate::training::data::Example;
use crate::training::testing::{Bigram, examples};

#[path = "run_interruptions.rs"]
mod interruptions;

/// Seconds that a row takes here.
const ROW: Duration = Duration::from_secs(1);

/// Something that is done at the row with this number, counted over losses and gradients.
type Event<'a> = Box<dyn FnMut(u64, &mut Loss, &mut [f32]) + 'a>;

/// A learner on a clock of its own, with events.
struct Timed<'a> {
    inner: Bigram,
    clock: &'a Cell<Duration>,
    rows: u64,
    event: Event<'a>,
}

impl Learner for Timed<'_> {
    fn parameters(&self) -> usize {
        self.inner.parameters()
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        self.inner.initial(seed)
    }

    fn loss(&mut self, parameters: &[f32], sequence: &Sequence) -> Result<Loss, Error> {
        let mut loss = self.inner.loss(parameters, sequence)?;
        self.clock.set(self.clock.get() + ROW);
        (self.event)(self.rows, &mut loss, &mut []);
        self.rows += 1;
        Ok(loss)
    }

    fn loss_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        gradient: &mut [f32],
    ) -> Result<Loss, Error> {
        let mut loss = self.inner.loss_and_gradient(parameters, sequence, gradient)?;
        self.clock.set(self.clock.get() + ROW);
        (self.event)(self.rows, &mut loss, gradient);
        self.rows += 1;
        Ok(loss)
    }

    fn anchor(&mut self, sequence: &Sequence) -> Result<Anchor, Error> {
        self.inner.anchor(sequence)
    }

    fn drift_and_gradient(
        &mut self,
        parameters: &[f32],
        sequence: &Sequence,
        anchor: &Anchor,
        weight: f32,
        gradient: &mut [f32],
    ) -> Result<f64, Error> {
        self.clock.set(self.clock.get() + ROW);
        self.inner
            .drift_and_gradient(parameters, sequence, anchor, weight, gradient)
    }
}

/// Every state that was kept.
#[derive(Default)]
struct Kept(Vec<State>);

impl Save for Kept {
    fn save(&mut self, state: &State) -> std::io::Result<()> {
        self.0.push(state.clone());
        Ok(())
    }
}

/// A disk that is always full.
struct Full;

impl Save for Full {
    fn save(&mut self, _state: &State) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

struct World {
    config: TrainingConfig,
    train: Vec<Example>,
    held_out: Vec<Example>,
    anchors: Vec<Sequence>,
    control: Control,
    clock: Cell<Duration>,
    told: RefCell<Vec<FromTrainer>>,
}

impl World {
    fn new() -> Self {
        Self {
            config: TrainingConfig {
                learning_rate: 0.05,
                epochs: 4,
                sequence_length: 32,
                rows_per_step: 2,
                least_steps: 0,
                held_out_every: 5,
                patience: 0,
                checkpoint_seconds: 0,
                time_budget_seconds: 86_400,
                seed: 3,
                ..TrainingConfig::default()
            },
            train: examples(40, 13, 1),
            held_out: examples(10, 13, 1),
            anchors: Vec::new(),
            control: Control::default(),
            clock: Cell::default(),
            told: RefCell::default(),
        }
    }

    fn state(&self) -> State {
        State::new(Bigram::new(13, 3).initial(self.config.seed))
    }

    fn go(&self, state: State, save: Option<&mut dyn Save>, event: Event<'_>) -> Result<End, RunError> {
        let length = self.config.sequence_length as usize;
        let (train, held_out) = (
            Pieces::new(&self.train, length),
            Pieces::new(&self.held_out, length),
        );
        let mut learner = Timed {
            inner: Bigram::new(13, 3),
            clock: &self.clock,
            rows: 0,
            event,
        };
        run(
            Run {
                learner: &mut learner,
                config: &self.config,
                train: &train,
                held_out: &held_out,
                anchors: &self.anchors,
                control: &self.control,
                elapsed: &|| self.clock.get(),
                tell: &mut |message| self.told.borrow_mut().push(message),
                // Coerced anew: its lifetime is longer than that of what is made here.
                save: match save {
                    Some(save) => Some(save),
                    None => None,
                },
            },
            state,
        )
    }

    fn trained(&self, event: Event<'_>) -> Trained {
        match self.go(self.state(), None, event).unwrap() {
            End::Trained(trained) => trained,
            End::Stopped { .. } => panic!("it stopped"),
        }
    }

    fn notes(&self) -> Vec<String> {
        let told = self.told.borrow();
        told.iter()
            .filter_map(|message| match message {
                FromTrainer::Note { text } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }
}

fn nothing() -> Event<'static> {
    Box::new(|_, _, _| {})
}

/// What does not depend on clocks.
fn timeless(mut trained: Trained) -> Trained {
    trained.tokens_per_second = 0.0;
    trained
}

#[test]
fn it_learns_a_rule_that_holds_for_what_it_never_saw() {
    let world = World::new();
    let trained = world.trained(nothing());
    let (before, after) = (trained.held_out_before.unwrap(), trained.held_out.unwrap());
    assert!(after < before * 0.7, "{before} -> {after}");
    assert!(trained.loss < before * 0.7);
    assert_eq!((trained.ended, trained.step), (Ended::Finished, trained.steps));
    // Steps are told one by one and end at the last.
    let told = world.told.borrow();
    let steps: Vec<Progress> = told
        .iter()
        .map(|message| match message {
            FromTrainer::Progress(progress) => *progress,
            other => panic!("{other:?}"),
        })
        .collect();
    let last = steps.last().unwrap();
    assert_eq!(
        (last.step, last.epoch, last.best),
        (trained.steps, 4, trained.held_out)
    );
    assert!(last.eta_seconds.abs() < 1e-9 && last.tokens_per_second > 0.0);
    assert!(steps.windows(2).all(|pair| pair[0].step <= pair[1].step));
}

/// A row of examples that follow another rule than what is learnt.
fn anchors() -> Vec<Sequence> {
    let all = examples(30, 13, 2);
    Pieces::new(&all, 64).sequences()
}

/// Mean divergence on `anchors` with these parameters.
fn drift(anchors: &[Sequence], parameters: &[f32]) -> f64 {
    let mut learner = Bigram::new(13, 3);
    let mut unused = vec![0.0; parameters.len()];
    let (mut drift, mut tokens) = (0.0, 0.0);
    for sequence in anchors {
        let anchor = learner.anchor(sequence).unwrap();
        drift += learner
            .drift_and_gradient(parameters, sequence, &anchor, 1.0, &mut unused)
            .unwrap();
        tokens += f64::from(u32::try_from(anchor.tokens).unwrap());
    }
    drift / tokens
}

#[test]
fn held_to_the_base_it_goes_less_far_from_it_and_still_learns() {
    let mut world = World::new();
    let free = world.trained(nothing());
    world.anchors = anchors();
    world.config.anchor = 0.0;
    assert_eq!(timeless(world.trained(nothing())), timeless(free.clone()));
    world.config.anchor = 1.0;
    let held = world.trained(nothing());
    let (far, near) = (
        drift(&world.anchors, &free.parameters),
        drift(&world.anchors, &held.parameters),
    );
    assert!(near < 0.7 * far, "{far} -> {near}");
    assert!(held.held_out.unwrap() < 0.9 * held.held_out_before.unwrap());
    let told = world.told.borrow();
    let Some(FromTrainer::Progress(last)) = told.last() else {
        panic!("nothing was told");
    };
    assert!(last.drift.is_some_and(|drift| drift > 0.0));
}

#[test]
fn a_small_set_is_gone_over_until_it_had_its_steps() {
    let mut world = World::new();
    let few = world.trained(nothing()).steps;
    world.config.least_steps = 2 * u32::try_from(few).unwrap() + 1;
    let trained = world.trained(nothing());
    assert_eq!((trained.steps, trained.step), (2 * few + 1, 2 * few + 1));
    world.config.least_steps = 1;
    assert_eq!(world.trained(nothing()).steps, few);
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_one_others() {
    let world = World::new();
    let first = world.trained(nothing());
    assert_eq!(first, World::new().trained(nothing()));
    let mut other = World::new();
    other.config.seed = 4;
    assert_ne!(first.parameters, other.trained(nothing()).parameters);
}

#[test]
fn the_best_is_kept_and_patience_ends_it() {
    let mut world = World::new();
    // Half of what it is judged by follows another rule: learning makes it better first, then worse.
    world.held_out.extend(examples(10, 13, 2));
    world.config.epochs = 40;
    world.config.patience = 3;
    let trained = world.trained(nothing());
    assert_eq!(trained.ended, Ended::Patience);
    assert_eq!(trained.step, trained.best_step + 3 * 5);
    assert!(trained.best_step > 5, "{}", trained.best_step);
    let measured: Vec<f64> = world
        .told
        .borrow()
        .iter()
        .filter_map(|message| match message {
            // Those before the first measurement after a step say what it was before.
            FromTrainer::Progress(progress) if progress.step > 5 => progress.held_out,
            _ => None,
        })
        .collect();
    assert_eq!(trained.held_out, measured.into_iter().reduce(f64::min));
    // The numbers are those that this loss belongs to.
    let pieces = Pieces::new(&world.held_out, 32);
    let mut loss = Loss::default();
    for row in pieces.in_order() {
        loss += Bigram::new(13, 3)
            .loss(&trained.parameters, &pieces.sequence(&row))
            .unwrap();
    }
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let mean = loss.nll / loss.tokens as f64;
    assert_eq!(Some(mean), trained.held_out);
}

#[test]
fn without_held_out_examples_the_last_step_counts() {
    let mut world = World::new();
    world.held_out.clear();
    world.config.patience = 1;
    let trained = world.trained(nothing());
    assert_eq!(
        (trained.ended, trained.best_step),
        (Ended::Finished, trained.steps)
    );
    assert_eq!((trained.held_out, trained.held_out_before), (None, None));
}

#[test]
fn what_is_not_finite_is_refused_and_training_goes_on_from_the_last_good_state() {
    let poisons: [fn(&mut Loss, &mut [f32]); 3] = [
        |loss, _| loss.nll = f64::NAN,
        |loss, _| loss.nll = f64::INFINITY,
        |_, gradient| gradient.iter_mut().for_each(|g| *g = f32::NAN),
    ];
    for poison in poisons {
        let world = World::new();
        let event = Box::new(move |row, loss: &mut Loss, gradient: &mut [f32]| {
            if row == 30 && !gradient.is_empty() {
                poison(loss, gradient);
            }
        });
        let trained = world.trained(event);
        assert_eq!((trained.refused, trained.ended), (1, Ended::Finished));
        assert!(trained.parameters.iter().all(|p| p.is_finite()));
        assert!(trained.held_out.unwrap() < trained.held_out_before.unwrap() * 0.8);
        let notes = world.notes();
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("back to step 10 with half the learning rate"),
            "{notes:?}"
        );
    }
}

#[test]
fn a_measurement_that_is_not_finite_goes_back_too() {
    let world = World::new();
    let mut once = true;
    let event = Box::new(move |row, loss: &mut Loss, gradient: &mut [f32]| {
        if gradient.is_empty() && row > 20 && std::mem::take(&mut once) {
            loss.nll = f64::NAN;
        }
    });
    assert_eq!(world.trained(event).refused, 1);
    assert!(world.notes()[0].starts_with("the held-out loss at step 10 is not finite: back to step 5"));
}

#[test]
fn what_breaks_again_and_again_is_given_up() {
    let world = World::new();
    let event = Box::new(|row, loss: &mut Loss, gradient: &mut [f32]| {
        if row > 20 && !gradient.is_empty() {
            loss.nll = f64::NAN;
        }
    });
    let error = world.go(world.state(), None, event).unwrap_err().to_string();
    assert!(
        error.starts_with("train: the loss at step 5 is not finite, after 3 returns"),
        "{error}"
    );
    assert_eq!(world.notes().len(), 3);
}

#[test]
fn a_base_that_is_broken_itself_is_said() {
    let world = World::new();
    let event = Box::new(|_, loss: &mut Loss, _: &mut [f32]| loss.nll = f64::NAN);
    let error = world.go(world.state(), None, event).unwrap_err();
    assert!(matches!(error, RunError::Base), "{error}");
}

#[test]
fn it_ends_within_its_time_with_the_best_so_far() {
    let mut world = World::new();
    let whole = world.trained(nothing()).steps;
    let rows = World::new().control.rows();
    assert_eq!(rows, 0);
    for budget in [20_u32, 21, 30, 47] {
        world.clock = Cell::default();
        world.config.time_budget_seconds = budget;
        let trained = world.trained(nothing());
        assert_eq!(trained.ended, Ended::Time);
        assert!(trained.step > 0 && trained.step < whole);
        // The last steps were measured, and nothing took more than there was.
        assert!(trained.held_out.is_some());
        let took = world.clock.get().as_secs();
        assert!(
            took <= u64::from(budget) && took + 8 >= u64::from(budget),
            "{took} of {budget}"
        );
    }
}

#[test]
fn a_time_in_which_nothing_can_be_done_is_said() {
    for budget in [1, 2, 3] {
        let mut world = World::new();
        world.config.time_budget_seconds = budget;
        let error = world.go(world.state(), None, nothing()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("time budget of {budget} s was used up")),
            "{error}"
        );
    }
}
