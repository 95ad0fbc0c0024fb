//! Numbers for shuffles: SplitMix64 (Steele, Lea, Flood: *Fast Splittable Pseudorandom Number Generators*, OOPSLA 2014).
//!
//! A shuffle is a function of the seed and its purpose alone, so that nothing of a generator has to be kept: where a
//! training goes on, it shuffles as it would have.

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed` for the purpose `stream`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        // Two rounds between the two numbers: neighbouring seeds and streams have nothing in common.
        let mut mixed = Self(seed);
        let first = mixed.bits();
        Self(
            first
                ^ mixed
                    .bits()
                    .wrapping_add(stream)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15),
        )
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, each equally likely (Lemire: *Fast Random Integer Generation in an Interval*, 2019). 0
    /// for no bound.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            let low = wide & u128::from(u64::MAX);
            if low >= u128::from(bound.wrapping_neg().checked_rem(bound).unwrap_or(0)) {
                // Below `bound`, which is one.
                return usize::try_from(wide >> 64).unwrap_or(0);
            }
        }
    }

    /// Puts `items` in an order of which each is equally likely (Fisher, Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first numbers of the seed 1234567, as its published implementations give them.
        let mut random = Random(1_234_567);
        let numbers = [random.bits(), random.bits(), random.bits()];
        assert_eq!(
            numbers,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn every_order_is_about_equally_likely() {
        let mut counts = std::collections::HashMap::new();
        for stream in 0..24_000 {
            let mut items = [0, 1, 2, 3];
            Random::new(7, stream).shuffle(&mut items);
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
    fn bounds_are_kept() {
        let mut random = Random::new(0, 0);
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        assert!((0..1000).all(|_| random.below(3) < 3));
    }
}
