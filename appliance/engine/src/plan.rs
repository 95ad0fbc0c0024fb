//! What one step decodes: a token for everyone who is generating, and a piece of the prompts that wait.

use std::time::Duration;

/// How long a step may take while someone else is generating: their next token waits for it.
const SHARED_STEP: Duration = Duration::from_millis(150);
/// How long a step may take when nobody else is: a ping and a cancellation wait for it.
const LONE_STEP: Duration = Duration::from_millis(1000);
/// Prompt tokens a step takes however slow the machine is.
const LEAST_CHUNK: usize = 16;

/// Where a slot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing to do.
    Idle,
    /// This many prompt tokens are left.
    Prefill(usize),
    /// The next token is due.
    Generate,
}

/// Tokens each slot gets in the next step; never more than `batch` together.
///
/// Generating slots come first. What `chunk` allows goes to the prompts in equal parts, so that a short prompt
/// does not wait for a long one; what one does not need goes to the others.
pub fn step(states: &[State], chunk: usize, batch: usize) -> Vec<usize> {
    let mut shares: Vec<usize> = states
        .iter()
        .map(|s| usize::from(*s == State::Generate))
        .collect();
    let generating: usize = shares.iter().sum();
    let mut room = chunk.min(batch.saturating_sub(generating));
    let mut hungry: Vec<(usize, usize)> = states
        .iter()
        .enumerate()
        .filter_map(|(slot, state)| match state {
            State::Prefill(left) if *left > 0 => Some((slot, *left)),
            _ => None,
        })
        .collect();
    // The smallest first: what it leaves over is shared by the rest.
    hungry.sort_by_key(|(slot, left)| (*left, *slot));
    let mut waiting = hungry.len();
    for (slot, left) in hungry {
        let share = left.min(room.div_ceil(waiting));
        shares[slot] = share;
        room -= share;
        waiting -= 1;
    }
    shares
}

/// Learns how fast prompts are evaluated and says how much of one a step may take.
#[derive(Debug, Clone)]
pub struct Pace {
    batch: usize,
    /// Prompt tokens a second, smoothed; `None` before the first measurement.
    rate: Option<f64>,
}

impl Pace {
    /// For steps of at most `batch` tokens.
    pub fn new(batch: usize) -> Self {
        Self { batch, rate: None }
    }

    /// From now on steps are of at most `batch` tokens.
    pub fn bound(&mut self, batch: usize) {
        self.batch = batch;
    }

    /// Prompt tokens the next step may take; `shared` when someone is generating.
    pub fn chunk(&self, shared: bool) -> usize {
        let Some(rate) = self.rate else {
            return self.batch.min(64);
        };
        let time = if shared { SHARED_STEP } else { LONE_STEP };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; saturates"
        )]
        let tokens = (rate * time.as_secs_f64()) as usize;
        tokens.clamp(LEAST_CHUNK.min(self.batch), self.batch)
    }

    /// A step of `tokens` prompt tokens (and few others) took `time`.
    pub fn measured(&mut self, tokens: usize, time: Duration) {
        // Small steps say more about the fixed cost of a step than about the rate.
        if tokens < LEAST_CHUNK || time.is_zero() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most a batch")]
        let rate = tokens as f64 / time.as_secs_f64();
        self.rate = Some(self.rate.map_or(rate, |old| old * 0.7 + rate * 0.3));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Generate, Idle, Prefill};
    use proptest::prelude::*;

    #[test]
    fn generation_goes_on_while_a_long_prompt_is_read() {
        assert_eq!(step(&[Generate, Prefill(5000), Idle], 64, 512), [1, 64, 0]);
        assert_eq!(step(&[Generate, Prefill(5000), Generate], 512, 512), [1, 510, 1]);
    }

    #[test]
    fn a_short_prompt_does_not_wait_for_a_long_one() {
        assert_eq!(step(&[Prefill(5000), Prefill(20)], 100, 512), [80, 20]);
        assert_eq!(step(&[Prefill(5000), Prefill(5000)], 100, 512), [50, 50]);
    }

    #[test]
    fn the_chunk_follows_the_measured_rate() {
        let mut pace = Pace::new(512);
        assert_eq!(pace.chunk(false), 64);
        pace.measured(512, Duration::from_secs(4));
        assert_eq!(pace.chunk(false), 128);
        assert_eq!(pace.chunk(true), 19);
        for _ in 0..50 {
            pace.measured(512, Duration::from_millis(50));
        }
        assert_eq!(pace.chunk(false), 512);
        for _ in 0..50 {
            pace.measured(16, Duration::from_secs(100));
        }
        assert_eq!(pace.chunk(false), 16);
        pace.measured(3, Duration::from_secs(1000));
        assert_eq!(pace.chunk(true), 16);
    }

    proptest! {
        #[test]
        fn a_step_fits_the_batch_and_always_gets_on(
            kinds in proptest::collection::vec((0_u8..3, 1_usize..3000), 1..16),
            chunk in 1_usize..600, batch in 32_usize..600,
        ) {
            let states: Vec<State> = kinds.iter().map(|(kind, left)| match kind {
                0 => Idle, 1 => Prefill(*left), _ => Generate,
            }).collect();
            let shares = step(&states, chunk, batch);
            prop_assert!(shares.iter().sum::<usize>() <= batch);
            for (state, share) in states.iter().zip(&shares) {
                match state {
                    Idle => prop_assert_eq!(*share, 0),
                    Generate => prop_assert_eq!(*share, 1),
                    Prefill(left) => prop_assert!(share <= left),
                }
            }
            let waiting: usize = states.iter().map(|s| if let Prefill(n) = s { *n } else { 0 }).sum();
            let given: usize = states.iter().zip(&shares).map(|(s, n)| if matches!(s, Prefill(_)) { *n } else { 0 }).sum();
            let room = chunk.min(batch - states.iter().filter(|s| **s == Generate).count());
            prop_assert_eq!(given, waiting.min(room));
        }
    }
}
