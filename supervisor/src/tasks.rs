//! Tasks that come back: a panic in one is logged, and the task starts again. It never ends the supervisor.

use std::future::Future;
use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Logs;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

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
