//! Everything that a training is at one moment: what the next step follows from, and nothing that a clock says.
//!
//! The order of the examples follows from the seed and the number of the step, so that the step is the place in the
//! data as well.

use super::adamw::Moments;

/// Loss of the epoch that is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct EpochLoss {
    /// Sum over the steps so far, nats.
    pub nll: f64,
    /// Over so many tokens.
    pub tokens: u64,
}

impl EpochLoss {
    /// Of one token.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer tokens than 2^52")]
    pub fn mean(self) -> f64 {
        self.nll / self.tokens.max(1) as f64
    }
}

/// Where to go back to when the numbers break.
#[derive(Debug, Clone, PartialEq)]
pub struct Good {
    /// Steps that had been done.
    pub step: u64,
    /// Loss of the epoch then.
    pub epoch: EpochLoss,
    /// Parameters then.
    pub parameters: Vec<f32>,
}

/// The best so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Best {
    /// Steps that had been done.
    pub step: u64,
    /// Held-out loss.
    pub loss: f64,
    /// Parameters.
    pub parameters: Vec<f32>,
}

/// A training at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Steps after which the measurement that is due was made.
    pub measured: Option<u64>,
    /// What is trained.
    pub parameters: Vec<f32>,
    /// The optimiser's memory.
    pub moments: Moments,
    /// Where to go back to.
    pub good: Good,
    /// The best measured after a step.
    pub best: Option<Best>,
    /// Steps that were refused; each halved the learning rate.
    pub refused: u64,
    /// Measurements since the best.
    pub without_gain: u64,
    /// Loss of the epoch so far.
    pub epoch: EpochLoss,
    /// Mean loss of the last step.
    pub loss: Option<f64>,
    /// Held-out loss before the first step.
    pub held_out_before: Option<f64>,
    /// Held-out loss as last measured.
    pub held_out: Option<f64>,
}

impl State {
    /// Before the first step.
    #[must_use]
    pub fn new(parameters: Vec<f32>) -> Self {
        Self {
            step: 0,
            measured: None,
            moments: Moments::new(parameters.len()),
            good: Good {
                step: 0,
                epoch: EpochLoss::default(),
                parameters: parameters.clone(),
            },
            parameters,
            best: None,
            refused: 0,
            without_gain: 0,
            epoch: EpochLoss::default(),
            loss: None,
            held_out_before: None,
            held_out: None,
        }
    }

    /// Makes this moment the one to go back to.
    pub fn keep(&mut self) {
        self.good.step = self.step;
        self.good.epoch = self.epoch;
        self.good.parameters.copy_from_slice(&self.parameters);
    }

    /// Goes back to the last good moment, with half the learning rate and without the optimiser's memory: what broke
    /// the numbers may be in it.
    pub fn back(&mut self) {
        self.refused += 1;
        self.step = self.good.step;
        self.measured = Some(self.good.step);
        self.epoch = self.good.epoch;
        self.parameters.copy_from_slice(&self.good.parameters);
        self.moments = Moments::new(self.parameters.len());
    }

    /// Takes a held-out loss that was measured now. Whether it is a new best.
    pub fn judge(&mut self, loss: f64) -> bool {
        self.held_out = Some(loss);
        if self.step == 0 {
            self.held_out_before = Some(loss);
            return false;
        }
        if self.best.as_ref().is_some_and(|best| best.loss <= loss) {
            self.without_gain += 1;
            return false;
        }
        self.without_gain = 0;
        let (step, parameters) = (self.step, &self.parameters);
        match &mut self.best {
            // Its memory is used again.
            Some(best) => {
                best.step = step;
                best.loss = loss;
                best.parameters.copy_from_slice(parameters);
            }
            None => {
                self.best = Some(Best {
                    step,
                    loss,
                    parameters: parameters.clone(),
                });
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_lowest_that_was_measured_after_a_step() {
        let mut state = State::new(vec![0.0]);
        assert!(!state.judge(1.0));
        for (step, loss, best) in [
            (1, 3.0, true),
            (2, 2.0, true),
            (3, 2.0, false),
            (4, 2.5, false),
            (5, 1.5, true),
        ] {
            state.step = step;
            state.parameters[0] = 10.0 - f32::from(u8::try_from(step).unwrap());
            assert_eq!(state.judge(loss), best, "{step}");
            assert_eq!(
                state.without_gain,
                [0, 0, 1, 2, 0][usize::try_from(step).unwrap() - 1]
            );
        }
        let best = state.best.unwrap();
        assert_eq!((best.step, best.parameters), (5, vec![5.0]));
        assert_eq!(state.held_out_before, Some(1.0));
    }

    #[test]
    fn going_back_halves_and_forgets() {
        let mut state = State::new(vec![1.0, 2.0]);
        state.step = 4;
        state.epoch = EpochLoss { nll: 2.0, tokens: 4 };
        state.keep();
        let good = state.clone();
        state.step = 6;
        state.parameters = vec![f32::NAN; 2];
        state.moments.first = vec![f32::INFINITY; 2];
        state.moments.count = 6;
        state.back();
        let expected = State {
            refused: 1,
            measured: Some(4),
            ..good
        };
        assert_eq!(state, expected);
    }
}
