//! Decoding with a guess: the tokens that a given text would bring next are decoded together with the current one,
//! and kept as far as the model would have chosen them.
//!
//! A batch of a few tokens costs little more than one token, because most of the time goes into reading the weights.
//! How much more is measured at start; together with how often the guess was right lately it says how far to look
//! ahead, and whether at all.

use crate::llama::Token;

/// Most tokens of one batch: what was measured ends there, and so do the rows of logits.
pub const MOST: usize = 32;
/// How much the newest token counts in the estimate of how often the guess is right.
const WEIGHT: f64 = 0.15;
/// The estimate before anything is known.
const HOPE: f64 = 0.8;
/// What must be expected: below it, what is measured wrongly outweighs what is gained.
const LEAST_GAIN: f64 = 1.05;
/// Tokens that must agree before the guess is followed again somewhere.
const LEAST_MATCH: usize = 2;
/// Tokens compared when several places of the guess are in question.
const MOST_MATCH: usize = 16;

/// What batches cost: time for `n` tokens over time for one.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// Measured sizes and their cost, ascending, from (1, 1.0) on.
    measured: Vec<(usize, f64)>,
}

impl Costs {
    /// From measured sizes above 1, ascending. Empty: nothing is ever worth while.
    pub fn new(measured: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut costs = vec![(1, 1.0)];
        for (size, cost) in measured {
            // A larger batch is never cheaper; a clock that says so was disturbed.
            let least = costs.last().map_or(1.0, |(_, cost)| *cost);
            costs.push((size, cost.max(least)));
        }
        Self { measured: costs }
    }

    /// Whether anything was measured.
    pub fn are_known(&self) -> bool {
        self.measured.len() > 1
    }

    /// The cost of `size` tokens, between measured sizes on the line between them; `None` beyond them.
    fn of(&self, size: usize) -> Option<f64> {
        let after = self.measured.iter().position(|(measured, _)| *measured >= size)?;
        let (large, high) = self.measured[after];
        let Some((small, low)) = after.checked_sub(1).map(|before| self.measured[before]) else {
            return Some(high);
        };
        #[expect(clippy::cast_precision_loss, reason = "at most a few dozen")]
        let share = (size - small) as f64 / (large - small) as f64;
        Some(low + (high - low) * share)
    }

    /// How many of `available` tokens to look ahead when each is right with probability `rate`; 0 when decoding one
    /// by one is as fast.
    pub fn look_ahead(&self, rate: f64, available: usize) -> usize {
        let (mut best, mut most) = (0, LEAST_GAIN);
        // One token always comes out, and one more for each that is right in a row.
        let (mut expected, mut right) = (1.0, 1.0);
        for ahead in 1..=available.min(MOST - 1) {
            let Some(cost) = self.of(ahead + 1) else { break };
            right *= rate;
            expected += right;
            if expected / cost > most {
                (best, most) = (ahead, expected / cost);
            }
        }
        best
    }
}

/// One answer's guess and where it stands in it.
#[derive(Debug, Default)]
pub struct Speculation {
    guess: Vec<Token>,
    /// The answer so far.
    said: Vec<Token>,
    /// Where in the guess the next token is expected.
    at: Option<usize>,
    /// How often the guess was right lately.
    rate: f64,
}

impl Speculation {
    /// An answer that probably resembles `guess`.
    pub fn new(guess: Vec<Token>) -> Self {
        Self {
            at: (!guess.is_empty()).then_some(0),
            guess,
            rate: HOPE,
            ..Self::default()
        }
    }

    /// Tokens worth decoding ahead, at most `most`.
    pub fn propose(&self, costs: &Costs, most: usize) -> &[Token] {
        let Some(at) = self.at else { return &[] };
        let rest = &self.guess[at..];
        &rest[..costs.look_ahead(self.rate, rest.len().min(most))]
    }

    /// Learns the answer's next token, decoded ahead or not: while looking ahead does not pay, the guess is still
    /// compared, and followed again when it is right again.
    pub fn said(&mut self, token: Token) {
        if self.guess.is_empty() {
            return;
        }
        self.said.push(token);
        if let Some(at) = self.at {
            let right = self.guess.get(at) == Some(&token);
            self.rate += WEIGHT * (f64::from(u8::from(right)) - self.rate);
            if right {
                self.at = (at + 1 < self.guess.len()).then_some(at + 1);
                return;
            }
        }
        self.at = self.find();
    }

    /// The place in the guess where the end of the answer fits best: the longest match, of equals the first.
    fn find(&self) -> Option<usize> {
        let last = *self.said.last()?;
        let mut best = None;
        for (index, _) in self.guess.iter().enumerate().filter(|(_, token)| **token == last) {
            let ends = self.guess[..=index].iter().rev().zip(self.said.iter().rev());
            let length = ends.take(MOST_MATCH).take_while(|(a, b)| a == b).count();
            if length >= LEAST_MATCH && best.is_none_or(|(longest, _)| length > longest) {
                best = Some((length, index + 1));
            }
        }
        best.map(|(_, at)| at).filter(|at| *at < self.guess.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cheap() -> Costs {
        Costs::new([(2, 1.1), (4, 1.2), (8, 1.5), (16, 2.5), (32, 5.0)])
    }

    #[test]
    fn it_looks_ahead_as_far_as_it_pays() {
        let costs = cheap();
        assert!(costs.look_ahead(0.99, 100) >= 15);
        assert!((1..8).contains(&costs.look_ahead(0.6, 100)));
        assert_eq!(costs.look_ahead(0.05, 100), 0);
        assert_eq!(costs.look_ahead(0.99, 3), 3);
        assert_eq!(costs.look_ahead(0.99, 0), 0);
        // Where batches cost as much as their tokens, or nothing was measured, never.
        let dear = Costs::new([(2, 2.0), (4, 4.0), (8, 8.0)]);
        assert_eq!(dear.look_ahead(0.99, 100), 0);
        assert_eq!(Costs::default().look_ahead(0.99, 100), 0);
        assert_eq!(Costs::new([]).look_ahead(0.99, 100), 0);
    }

    #[test]
    fn costs_lie_between_what_was_measured_and_never_fall() {
        let costs = Costs::new([(2, 1.4), (4, 1.2), (8, 2.0)]);
        assert_eq!(costs.of(1), Some(1.0));
        assert_eq!(costs.of(3), Some(1.4));
        assert!((costs.of(6).unwrap() - 1.7).abs() < 1e-9);
        assert_eq!(costs.of(9), None);
    }

    #[test]
    fn it_follows_the_guess_leaves_it_and_finds_it_again() {
        let costs = cheap();
        let mut speculation = Speculation::new(vec![1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(speculation.propose(&costs, 31).starts_with(&[1, 2]));
        speculation.said(1);
        assert_eq!(speculation.propose(&costs, 1), [2]);
        // Another word instead of 2, then the guess again from 3 on: found once two tokens agree.
        speculation.said(9);
        assert!(speculation.propose(&costs, 31).is_empty());
        speculation.said(3);
        assert!(speculation.propose(&costs, 31).is_empty());
        speculation.said(4);
        assert_eq!(speculation.at, Some(4));
        for token in 5..=8 {
            speculation.said(token);
        }
        assert!(speculation.propose(&costs, 31).is_empty());
        speculation.said(1);
        speculation.said(2);
        assert_eq!(speculation.at, Some(2));
    }

    #[test]
    fn of_several_places_the_longest_match_is_taken() {
        let mut speculation = Speculation::new(vec![5, 1, 2, 7, 6, 1, 2, 8]);
        speculation.said(6);
        speculation.said(1);
        speculation.said(2);
        assert_eq!(speculation.at, Some(7));
    }

    #[test]
    fn a_guess_that_is_wrong_again_and_again_is_left_alone_until_it_is_right_again() {
        let costs = cheap();
        let guess: Vec<Token> = (0..400).collect();
        let mut speculation = Speculation::new(guess);
        speculation.said(0);
        for round in 1..40 {
            // Two tokens right, then one wrong.
            speculation.said(10 * round);
            speculation.said(10 * round + 1);
            speculation.said(999);
        }
        speculation.rate = 0.1;
        speculation.said(40);
        speculation.said(41);
        assert!(speculation.propose(&costs, 31).is_empty());
        for token in 42..60 {
            speculation.said(token);
        }
        assert!(!speculation.propose(&costs, 31).is_empty());
        let nothing = Speculation::new(Vec::new());
        assert!(nothing.propose(&costs, 31).is_empty());
    }
}
