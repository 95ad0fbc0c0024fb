//! Whose turn it is when what waits cannot be computed together: a step computes with one adapter.

/// Who had the last turns.
#[derive(Debug)]
pub struct Turns<K> {
    /// Those who wait, and when each had its last turn.
    last: Vec<(K, u64)>,
    clock: u64,
}

impl<K> Default for Turns<K> {
    fn default() -> Self {
        Self {
            last: Vec::new(),
            clock: 0,
        }
    }
}

impl<K: Clone + PartialEq> Turns<K> {
    /// Whose turn it is among those who wait (one may be named several times): the one whose last turn is longest ago,
    /// of several the first named. `None` when nobody waits.
    pub fn next<'a>(&mut self, waiting: impl IntoIterator<Item = &'a K>) -> Option<K>
    where
        K: 'a,
    {
        let mut now: Vec<(K, u64)> = Vec::new();
        for key in waiting {
            if now.iter().all(|(known, _)| known != key) {
                let before = self.last.iter().find(|(known, _)| known == key);
                // Whoever is new comes behind those who wait already, and before the one who just had a turn.
                now.push((key.clone(), before.map_or(2 * self.clock, |(_, at)| *at)));
            }
        }
        self.clock += 1;
        let clock = self.clock;
        let chosen = now.iter_mut().min_by_key(|(_, at)| *at).map(|(key, at)| {
            *at = 2 * clock + 1;
            key.clone()
        });
        self.last = now;
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_alone_has_every_turn_and_several_take_turns() {
        let mut turns = Turns::default();
        assert_eq!(turns.next([]), None::<u8>);
        assert_eq!([1, 1].map(|_| turns.next(&[7])), [Some(7), Some(7)]);
        let order: Vec<_> = (0..6).filter_map(|_| turns.next(&[7, 8, 7, 9])).collect();
        assert_eq!(order, [8, 9, 7, 8, 9, 7]);
    }

    proptest! {
        #[test]
        fn whoever_waits_has_a_turn_before_anybody_has_two(rounds in proptest::collection::vec(
            proptest::collection::vec(0_u8..5, 1..6), 1..80)) {
            let mut turns = Turns::default();
            let mut waited = [0_u32; 5];
            for waiting in rounds {
                let chosen = turns.next(&waiting).unwrap();
                prop_assert!(waiting.contains(&chosen));
                for key in 0..5_u8 {
                    let waits = key != chosen && waiting.contains(&key);
                    let times = &mut waited[usize::from(key)];
                    *times = if waits { *times + 1 } else { 0 };
                    prop_assert!(*times < 5);
                }
            }
        }
    }
}
