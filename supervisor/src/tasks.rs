//! Tasks that come back: a panic in one is logged, and the task starts again. It never ends the supervisor. And the
//! beat that they keep.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::problems::Problems;

/// Pause before a task that panicked starts again.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs what `make` makes until it ends by itself; after a panic it is made again.
pub fn guard<F, T>(name: &str, problems: Problems, mut make: F)
where
    F: FnMut() -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let name = name.to_owned();
    tokio::spawn(async move {
        let mut panics = 0u32;
        while let Err(e) = tokio::spawn(make()).await {
            if !e.is_panic() {
                return;
            }
            panics += 1;
            let payload = e.into_panic();
            let text = payload
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            problems.set(
                &format!("task {name}"),
                format!("the supervisor's task {name} failed {panics} time(s), last with: {text}; it was restarted"),
            );
            tokio::time::sleep(PAUSE).await;
        }
    });
}

/// A beat at the multiples of `period` since the first one was asked for: tasks with periods that divide each other
/// wake together, and an idle machine sleeps in between. Waking up costs more than what is then done. A beat that was
/// missed is left out.
#[must_use]
pub fn beat(period: Duration) -> Interval {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let begun = *BEGUN.get_or_init(Instant::now);
    let now = Instant::now();
    let into = now.duration_since(begun).as_nanos() % period.as_nanos().max(1);
    // The rest of a division by the period is no longer than the period.
    let left = period.saturating_sub(Duration::from_nanos(u64::try_from(into).unwrap_or(0)));
    let mut beat = interval_at(now + left, period);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    beat
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Logs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn beats_that_began_at_different_times_fall_together() {
        let period = Duration::from_millis(40);
        let one = beat(period).tick().await;
        tokio::time::sleep(period / 3).await;
        let (mut second, mut slow) = (beat(period), beat(4 * period));
        let apart = |later: Instant| (later - one).as_nanos() % period.as_nanos();
        assert_eq!((apart(second.tick().await), apart(slow.tick().await)), (0, 0));
        // What was missed is left out, and what follows still falls on the beat.
        std::thread::sleep(period * 5 / 2);
        second.tick().await;
        assert_eq!(apart(second.tick().await), 0);
    }

    #[tokio::test]
    async fn a_task_that_panics_starts_again_and_status_says_so() {
        let problems = Problems::new(Logs::in_memory());
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        guard("test", problems.clone(), move || {
            let counted = Arc::clone(&counted);
            async move {
                let run = counted.fetch_add(1, Ordering::SeqCst);
                assert!(run >= 2, "run {run}");
            }
        });
        tokio::time::sleep(4 * PAUSE).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        assert!(
            problems.list()[0].contains("failed 2 time(s), last with: run 1"),
            "{:?}",
            problems.list()
        );
    }
}
