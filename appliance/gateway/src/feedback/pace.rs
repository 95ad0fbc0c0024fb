//! How often a key may give feedback: so many at once, and then one a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most at once.
pub const BURST: u32 = 60;
/// Time after which one more may come.
const EACH: Duration = Duration::from_secs(1);
/// Most keys that are remembered: more than there can be at a time.
const KEYS: usize = 2048;

/// By key, when all that it had may be had again.
#[derive(Debug, Default)]
pub struct Pace(Mutex<HashMap<String, Instant>>);

impl Pace {
    /// Takes one for `key` at `now`, or says after how many seconds there is one.
    pub fn take(&self, key: &str, now: Instant) -> Result<(), u32> {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if until.len() >= KEYS {
            until.retain(|_, whole| *whole > now);
        }
        let whole = until.get(key).copied().unwrap_or(now).max(now) + EACH;
        let above = whole.saturating_duration_since(now).saturating_sub(EACH * BURST);
        if above > Duration::ZERO {
            return Err(u32::try_from(above.as_secs() + u64::from(above.subsec_nanos() > 0)).unwrap_or(1));
        }
        until.insert(key.to_owned(), whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_so_many_at_once_and_then_one_a_second_whatever_others_do() {
        let (pace, now) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            pace.take("a", now).unwrap();
        }
        assert_eq!(pace.take("a", now), Err(1));
        pace.take("b", now).unwrap();
        let later = now + Duration::from_millis(2500);
        pace.take("a", later).unwrap();
        pace.take("a", later).unwrap();
        assert_eq!(pace.take("a", later), Err(1));
        let rested = now + Duration::from_secs(1000);
        for _ in 0..BURST {
            pace.take("a", rested).unwrap();
        }
        assert!(pace.take("a", rested).is_err());
    }

    #[test]
    fn keys_that_are_long_gone_are_not_remembered() {
        let (pace, now) = (Pace::default(), Instant::now());
        for n in 0..3 * KEYS {
            pace.take(&n.to_string(), now + Duration::from_secs(n as u64))
                .unwrap();
        }
        assert!(pace.0.lock().unwrap().len() <= KEYS);
    }
}
