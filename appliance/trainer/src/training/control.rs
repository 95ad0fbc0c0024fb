//! What a running training is told from outside, and what can be seen of it from there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time until a signal is seen that came while it stood still.
const LOOK: Duration = Duration::from_millis(100);

/// Set by SIGTERM and SIGINT: nothing more can be done in a signal handler.
static TERMINATED: AtomicBool = AtomicBool::new(false);

/// Orders to a training. It ends between two rows, and stands still within one too.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    standing: Mutex<Standing>,
    changed: Condvar,
    rows: AtomicU64,
    signals: bool,
}

/// Whether it is to stand still, and how long it has had to.
#[derive(Debug, Default)]
struct Standing {
    since: Option<Instant>,
    before: Duration,
}

impl Control {
    /// One that obeys SIGTERM and SIGINT too, once [`obey_signals`] was called.
    #[must_use]
    pub fn with_signals() -> Self {
        Self {
            signals: true,
            ..Self::default()
        }
    }

    /// Has it write a checkpoint and end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// Has it stand still, or go on.
    pub fn pause(&self, paused: bool) {
        let mut standing = self.standing();
        match (paused, standing.since) {
            (true, None) => standing.since = Some(Instant::now()),
            (false, Some(since)) => {
                standing.since = None;
                standing.before += since.elapsed();
            }
            _ => {}
        }
        drop(standing);
        self.changed.notify_all();
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has had to stand still so far.
    #[must_use]
    pub fn stood(&self) -> Duration {
        let standing = self.standing();
        standing.before + standing.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether it is to stand still.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.standing().since.is_some()
    }

    /// Whether it is to end.
    #[must_use]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || (self.signals && TERMINATED.load(Ordering::Relaxed))
    }

    /// Returns at once, or when it may go on, is to end, or `most` has passed.
    pub fn wait(&self, most: Duration) {
        let begin = Instant::now();
        let mut standing = self.standing();
        while standing.since.is_some() && !self.stopping() {
            let left = most.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(standing, left.min(LOOK));
            standing = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counts a row that was computed.
    pub fn count(&self) {
        self.rows.fetch_add(1, Ordering::Relaxed);
    }

    /// Rows computed so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }
}

extern "C" fn terminated(_signal: nix::libc::c_int) {
    TERMINATED.store(true, Ordering::Relaxed);
}

/// Has SIGTERM and SIGINT end the training in order. Without a handler, the first process of a namespace does not hear
/// SIGTERM at all.
///
/// # Errors
/// When the kernel refuses.
pub fn obey_signals() -> nix::Result<()> {
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
    let action = SigAction::new(
        SigHandler::Handler(terminated),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        // SAFETY: the handler stores to an atomic and does nothing else, which may be done at any moment.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn it_stands_still_until_it_may_go_on_or_is_to_end() {
        for order in [
            |control: &Control| control.pause(false),
            |control: &Control| control.stop(),
        ] {
            let control = Arc::new(Control::default());
            control.pause(true);
            let waiting = Arc::clone(&control);
            let thread = std::thread::spawn(move || waiting.wait(Duration::from_secs(3600)));
            order(&control);
            thread.join().unwrap();
        }
    }

    #[test]
    fn it_stands_still_no_longer_than_it_may() {
        let control = Control::default();
        control.wait(Duration::from_secs(3600));
        control.pause(true);
        let begin = Instant::now();
        control.wait(Duration::from_millis(250));
        assert!(begin.elapsed() >= Duration::from_millis(250));
        assert!(control.paused() && !control.stopping());
        assert!(control.stood() >= Duration::from_millis(250));
        control.pause(true);
        control.pause(false);
        let stood = control.stood();
        assert!(stood >= Duration::from_millis(250));
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(control.stood(), stood);
    }
}
