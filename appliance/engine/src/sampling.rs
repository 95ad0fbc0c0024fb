//! The choice of the next token, and what the model thought of it.

use sarai_wire::engine::Sampling;

use crate::llama::Token;
use crate::softmax;

/// Width of a nucleus bucket: an eighth of a nat.
const BUCKETS_PER_NAT: f32 = 8.0;
/// Buckets; everything below 32 nats shares the last one.
const BUCKETS: usize = 256;

/// xoshiro256++, seeded with splitmix64: small, fast, and the same on every machine.
#[derive(Debug, Clone)]
pub struct Random([u64; 4]);

impl Random {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
        let whole = (self.next() >> 11) as f64;
        whole * (1.0 / 9_007_199_254_740_992.0)
    }
}

/// Storage that one decode thread reuses for all its requests, so that no token allocates.
#[derive(Debug, Default)]
pub struct Scratch {
    terms: Vec<f32>,
    nucleus: Vec<u32>,
    border: Vec<u32>,
    masked: Vec<f32>,
    /// The alternatives of the last [`choose`], best first.
    pub top: Vec<(Token, f32)>,
}

impl Scratch {
    /// Storage for a vocabulary of `size` tokens.
    pub fn new(size: usize) -> Self {
        Self {
            terms: vec![0.0; size],
            nucleus: Vec::with_capacity(size),
            border: Vec::with_capacity(size),
            masked: Vec::new(),
            top: Vec::with_capacity(32),
        }
    }
}

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// Its id.
    pub token: Token,
    /// Natural logarithm of its probability under the unmodified distribution.
    pub logprob: f32,
}

/// The logits hold a NaN or an infinity: the model or its file is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("choose a token: the model's logits are not finite numbers")]
pub struct NotFinite;

/// Which tokens may be chosen: bit `i % 32` of word `i / 32` is token `i`.
pub type Mask<'a> = Option<&'a [u32]>;

/// Chooses from `logits` what `mask` allows, and puts the `top` most likely tokens into `scratch.top`. The mask is
/// applied before temperature and nucleus; log-probabilities know nothing of it.
///
/// # Errors
/// [`NotFinite`] when the logits are no distribution, or nothing that is allowed can be chosen.
pub fn choose(
    logits: &[f32],
    mask: Mask<'_>,
    sampling: &Sampling,
    random: &mut Random,
    top: usize,
    scratch: &mut Scratch,
) -> Result<Choice, NotFinite> {
    let (best, max) = softmax::largest(logits).ok_or(NotFinite)?;
    let log_mass = log_mass(logits, max);
    let index = match mask {
        None => pick(logits, max, best, sampling, random, scratch),
        Some(mask) => {
            // Taken out and put back: the draw borrows the rest of the scratch.
            let mut masked = std::mem::take(&mut scratch.masked);
            apply(mask, logits, &mut masked);
            let index = softmax::largest(&masked)
                .map(|(best, max)| pick(&masked, max, best, sampling, random, scratch));
            scratch.masked = masked;
            index.ok_or(NotFinite)?
        }
    };
    let logprob = |index: usize| logits[index] - max - log_mass;
    find_top(logits, top, &mut scratch.top);
    for (_, value) in &mut scratch.top {
        *value = *value - max - log_mass;
    }
    Ok(Choice {
        token: id(index),
        logprob: logprob(index),
    })
}

/// The log-probability of `token` under the unmodified distribution.
///
/// # Errors
/// [`NotFinite`] when the logits are no distribution or the token is none of theirs.
pub fn logprob(logits: &[f32], token: Token) -> Result<f32, NotFinite> {
    let (_, max) = softmax::largest(logits).ok_or(NotFinite)?;
    let logit = usize::try_from(token).ok().and_then(|token| logits.get(token));
    Ok(logit.ok_or(NotFinite)? - max - log_mass(logits, max))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a logarithm of at most the vocabulary's size"
)]
fn log_mass(logits: &[f32], max: f32) -> f32 {
    softmax::sum(logits, max).ln() as f32
}

/// Copies `logits`, with -∞ for what `mask` forbids or does not mention.
fn apply(mask: &[u32], logits: &[f32], to: &mut Vec<f32>) {
    to.clear();
    to.reserve(logits.len());
    let words = mask.iter().copied().chain(std::iter::repeat(0));
    for (chunk, word) in logits.chunks(32).zip(words) {
        match word {
            0 => to.resize(to.len() + chunk.len(), f32::NEG_INFINITY),
            u32::MAX => to.extend_from_slice(chunk),
            word => to.extend(chunk.iter().enumerate().map(|(bit, logit)| {
                if word >> bit & 1 == 1 {
                    *logit
                } else {
                    f32::NEG_INFINITY
                }
            })),
        }
    }
}

fn pick(
    logits: &[f32],
    max: f32,
    best: usize,
    sampling: &Sampling,
    random: &mut Random,
    scratch: &mut Scratch,
) -> usize {
    if sampling.temperature <= 0.0 {
        return best;
    }
    scratch.terms.resize(logits.len(), 0.0);
    draw(logits, max, best, sampling, random, scratch)
}

/// Vocabularies are counted in `i32` by llama.cpp, so every index fits.
fn id(index: usize) -> Token {
    Token::try_from(index).unwrap_or(Token::MAX)
}

fn draw(
    logits: &[f32],
    max: f32,
    best: usize,
    sampling: &Sampling,
    random: &mut Random,
    scratch: &mut Scratch,
) -> usize {
    let inverse = 1.0 / sampling.temperature;
    let total = softmax::sum_and_terms(logits, max, inverse, &mut scratch.terms);
    let terms = &scratch.terms[..logits.len()];
    if sampling.top_p >= 1.0 {
        let mut left = random.unit() * total;
        for (index, term) in terms.iter().enumerate() {
            left -= f64::from(*term);
            if left < 0.0 {
                return index;
            }
        }
        // Rounding left a crumb of mass after the last term.
        return best;
    }

    // The nucleus without sorting the vocabulary: tokens fall into buckets by their distance from the best one,
    // whole buckets are taken until the mass is reached, and only the last bucket is sorted.
    let bucket = |logit: f32| -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates on purpose"
        )]
        let at = ((max - logit) * inverse * BUCKETS_PER_NAT) as usize;
        at.min(BUCKETS - 1)
    };
    let mut masses = [0.0_f64; BUCKETS];
    for (logit, term) in logits.iter().zip(terms) {
        masses[bucket(*logit)] += f64::from(*term);
    }
    let wanted = f64::from(sampling.top_p) * total;
    let mut kept = 0.0;
    let mut last = 0;
    for (at, mass) in masses.iter().enumerate() {
        last = at;
        if kept + mass >= wanted {
            break;
        }
        kept += mass;
    }
    scratch.nucleus.clear();
    scratch.border.clear();
    for (index, logit) in (0_u32..).zip(logits) {
        match bucket(*logit).cmp(&last) {
            std::cmp::Ordering::Less => scratch.nucleus.push(index),
            std::cmp::Ordering::Equal => scratch.border.push(index),
            std::cmp::Ordering::Greater => {}
        }
    }
    let term = |index: u32| terms[index as usize];
    scratch
        .border
        .sort_unstable_by(|a, b| term(*b).total_cmp(&term(*a)).then(a.cmp(b)));
    for &index in &scratch.border {
        if kept >= wanted && !scratch.nucleus.is_empty() {
            break;
        }
        kept += f64::from(term(index));
        scratch.nucleus.push(index);
    }
    let mut left = random.unit() * kept;
    for &index in &scratch.nucleus {
        left -= f64::from(term(index));
        if left < 0.0 {
            return index as usize;
        }
    }
    best
}

/// The `count` largest, best first; of equals the lower id.
fn find_top(logits: &[f32], count: usize, top: &mut Vec<(Token, f32)>) {
    top.clear();
    let count = count.min(logits.len());
    if count == 0 {
        return;
    }
    let mut floor = f32::NEG_INFINITY;
    for (index, &logit) in logits.iter().enumerate() {
        // Almost every token ends here: one comparison.
        if top.len() == count && logit <= floor {
            continue;
        }
        let at = top.partition_point(|(_, other)| *other >= logit);
        if top.len() == count {
            top.pop();
        }
        top.insert(at, (id(index), logit));
        floor = top.last().map_or(floor, |(_, logit)| *logit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pick(logits: &[f32], temperature: f32, top_p: f32, seed: u64) -> Choice {
        let sampling = Sampling {
            temperature,
            top_p,
            seed: None,
        };
        let mut scratch = Scratch::new(logits.len());
        choose(logits, None, &sampling, &mut Random::new(seed), 0, &mut scratch).unwrap()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let choice = pick(&[0.0, 2.0, 2.0, 1.0], 0.0, 1.0, 1);
        assert_eq!(choice.token, 1);
        let mass: f32 = [0.0_f32, 2.0, 2.0, 1.0].iter().map(|l| l.exp()).sum();
        assert!((choice.logprob - (2.0 - mass.ln())).abs() < 1e-5);
    }

    #[test]
    fn a_seed_repeats_itself_and_another_differs() {
        let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.37).sin()).collect();
        let draw = |seed| {
            let mut random = Random::new(seed);
            let mut scratch = Scratch::new(logits.len());
            let sampling = Sampling {
                temperature: 1.0,
                top_p: 0.9,
                seed: None,
            };
            (0..50)
                .map(|_| {
                    choose(&logits, None, &sampling, &mut random, 0, &mut scratch)
                        .unwrap()
                        .token
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.0_f32, 1.0, 2.0];
        let mass: f32 = logits.iter().map(|l| l.exp()).sum();
        let mut counts = [0_u32; 3];
        let mut random = Random::new(42);
        let mut scratch = Scratch::new(3);
        let sampling = Sampling {
            temperature: 1.0,
            top_p: 1.0,
            seed: None,
        };
        for _ in 0..30_000 {
            let choice = choose(&logits, None, &sampling, &mut random, 0, &mut scratch).unwrap();
            counts[usize::try_from(choice.token).unwrap()] += 1;
        }
        for (count, logit) in counts.iter().zip(logits) {
            let share = f64::from(*count) / 30_000.0;
            assert!(
                (share - f64::from(logit.exp() / mass)).abs() < 0.015,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn the_log_probability_ignores_temperature_and_nucleus() {
        let logits = [1.0_f32, 3.0, 2.0];
        let greedy = pick(&logits, 0.0, 1.0, 0);
        for seed in 0..20 {
            let choice = pick(&logits, 2.0, 0.5, seed);
            if choice.token == greedy.token {
                assert_eq!(choice.logprob, greedy.logprob);
            }
        }
    }

    #[test]
    fn a_mask_decides_what_is_chosen_and_not_what_is_reported() {
        let logits: Vec<f32> = (0..70).map(|i| (i as f32 * 0.7).sin() * 4.0).collect();
        // Tokens 3, 40 and 69.
        let mask = [1 << 3, 1 << (40 - 32), 1 << (69 - 64)];
        let mut scratch = Scratch::new(logits.len());
        let mut random = Random::new(5);
        for temperature in [0.0, 0.7, 2.0] {
            for top_p in [1.0, 0.9, 0.1] {
                let sampling = Sampling {
                    temperature,
                    top_p,
                    seed: None,
                };
                for _ in 0..200 {
                    let choice =
                        choose(&logits, Some(&mask), &sampling, &mut random, 2, &mut scratch).unwrap();
                    assert!([3, 40, 69].contains(&choice.token));
                    assert_eq!(choice.logprob, logprob(&logits, choice.token).unwrap());
                    assert!(scratch.top[0].1 > choice.logprob);
                }
            }
        }
        let none = choose(
            &logits,
            Some(&[0, 0]),
            &Sampling::default(),
            &mut random,
            0,
            &mut scratch,
        );
        assert_eq!(none, Err(NotFinite));
        assert_eq!(logprob(&logits, 70), Err(NotFinite));
    }

    #[test]
    fn broken_logits_are_an_error() {
        let sampling = Sampling::default();
        let mut scratch = Scratch::new(2);
        let broken = choose(
            &[0.0, f32::NAN],
            None,
            &sampling,
            &mut Random::new(0),
            0,
            &mut scratch,
        );
        assert_eq!(broken, Err(NotFinite));
    }

    #[test]
    fn a_temperature_next_to_zero_is_greedy() {
        assert_eq!(pick(&[1.0, 1.5, 0.2], 1e-6, 1.0, 3).token, 1);
        assert_eq!(pick(&[1.0, 1.5, 0.2], 1e-6, 0.3, 3).token, 1);
    }

    proptest! {
        #[test]
        fn the_nucleus_is_the_smallest_set_with_the_mass(
            logits in proptest::collection::vec(-12.0_f32..12.0, 2..400),
            temperature in 0.05_f32..2.0,
            top_p in 0.01_f32..1.0,
            seed in any::<u64>(),
        ) {
            let choice = pick(&logits, temperature, top_p, seed);
            let max = logits.iter().copied().fold(f32::MIN, f32::max);
            let mut sorted: Vec<(usize, f64)> = logits.iter().enumerate()
                .map(|(i, l)| (i, f64::from((l - max) / temperature).exp())).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            let total: f64 = sorted.iter().map(|(_, p)| p).sum();
            let rank = sorted.iter().position(|(i, _)| *i == usize::try_from(choice.token).unwrap()).unwrap();
            let above: f64 = sorted[..rank].iter().map(|(_, p)| p).sum();
            // The tokens above the chosen one do not reach the mass on their own.
            prop_assert!(above < f64::from(top_p) * total + total * 1e-4);
        }

        #[test]
        fn the_alternatives_are_the_best_in_order(
            logits in proptest::collection::vec(-12.0_f32..12.0, 1..300), count in 0_usize..21,
        ) {
            let mut scratch = Scratch::new(logits.len());
            let greedy = Sampling::default();
            let choice = choose(&logits, None, &greedy, &mut Random::new(0), count, &mut scratch).unwrap();
            let mut sorted: Vec<usize> = (0..logits.len()).collect();
            sorted.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
            let expected: Vec<Token> = sorted.iter().take(count).map(|i| id(*i)).collect();
            let found: Vec<Token> = scratch.top.iter().map(|(token, _)| *token).collect();
            prop_assert_eq!(found, expected);
            if count > 0 { prop_assert_eq!(scratch.top[0].1, choice.logprob); }
            let mass: f32 = scratch.top.iter().map(|(_, p)| p.exp()).sum();
            prop_assert!(mass <= 1.0 + 1e-4);
        }
    }
}
