//! Orders that look random: a function of the seed and the purpose alone, so that nothing of a generator has to be
//! kept. Where a training goes on, it shuffles as it would have.

use crate::random::Random;

/// The numbers of `seed` for the purpose `stream`.
#[must_use]
pub(crate) fn stream(seed: u64, stream: u64) -> Random {
    // The generator's own numbers between the two: neighbouring seeds and streams have nothing in common.
    let mut of_seed = Random::new(seed);
    let first = of_seed.bits();
    let mut mixed = Random::new(first ^ of_seed.bits().wrapping_add(stream));
    Random::new(mixed.bits())
}

/// Puts `items`, at most 2³² of them, in an order of which each is as likely as 32 random bits a choice can make it
/// (Fisher, Yates).
pub(crate) fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for at in (1..items.len()).rev() {
        let below = u32::try_from(at + 1).unwrap_or(u32::MAX);
        items.swap(at, random.below(below) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_about_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for purpose in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            shuffle(&mut items, &mut stream(7, purpose));
            *counts.entry(items).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 24);
        // 1000 each; five standard deviations are 155.
        assert!(
            counts.values().all(|count| (count - 1000).abs() < 155),
            "{counts:?}"
        );
    }

    #[test]
    fn seeds_and_streams_are_apart() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..100 {
            for purpose in 0..100 {
                assert!(seen.insert(stream(seed, purpose).bits()));
            }
        }
    }
}
