//! Ends a prompt at which nothing was typed for long. Whoever keeps it starts another one, which is locked.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{gate, say};

/// Shortest time between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// What a prompt does and since when.
#[derive(Debug)]
struct State {
    limit: Duration,
    /// When a key was pressed last, since the beginning.
    touched: Duration,
    /// A command runs: what it is about to say is not cut off.
    busy: bool,
}

impl State {
    /// Time until the limit, if nothing is typed.
    fn left(&self, now: Duration) -> Duration {
        self.touched.saturating_add(self.limit).saturating_sub(now)
    }

    /// Whether the prompt ends now. While a command runs it does not, but the time counts.
    fn over(&self, now: Duration) -> bool {
        !self.busy && self.left(now).is_zero()
    }
}

/// Looks after a prompt.
#[derive(Debug, Clone)]
pub struct Idle {
    begun: Instant,
    state: Arc<Mutex<State>>,
}

impl Idle {
    /// One whose time begins now.
    pub fn new(limit: Duration) -> Self {
        let state = State {
            limit,
            touched: Duration::ZERO,
            busy: false,
        };
        Self {
            begun: Instant::now(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key was pressed.
    pub fn touch(&self) {
        self.lock().touched = self.begun.elapsed();
    }

    /// A command begins.
    pub fn busy(&self) {
        self.lock().busy = true;
    }

    /// It ended. True: nothing was typed for too long meanwhile.
    pub fn done(&self) -> bool {
        let mut state = self.lock();
        state.busy = false;
        let over = state.over(self.begun.elapsed());
        if over {
            say(&farewell(state.limit));
        }
        over
    }

    /// Ends this process, which only waits for keys, once nothing was typed for too long.
    pub fn watch(&self) {
        let me = self.clone();
        std::thread::spawn(move || {
            loop {
                let state = me.lock();
                let now = me.begun.elapsed();
                if state.over(now) {
                    // The editor that waits for a key has the terminal as it needs it. No command begins meanwhile:
                    // that takes the lock which is held here.
                    let _ = gate::obey(std::io::stdin());
                    say(&farewell(state.limit));
                    std::process::exit(0);
                }
                let left = state.left(now);
                drop(state);
                std::thread::sleep(left.max(LOOK));
            }
        });
    }
}

fn farewell(limit: Duration) -> String {
    let seconds = limit.as_secs();
    let long = if seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    };
    format!("\nNothing was typed for {long}.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_without_a_key_ends_it_and_a_command_only_puts_that_off() {
        let s = Duration::from_secs;
        let mut state = State {
            limit: s(900),
            touched: s(100),
            busy: false,
        };
        assert_eq!(state.left(s(100)), s(900));
        assert!(!state.over(s(999)));
        assert!(state.over(s(1000)) && state.over(s(5000)));
        state.touched = s(999);
        assert!(!state.over(s(1000)) && !state.over(s(1898)) && state.over(s(1899)));
        state.busy = true;
        assert!(!state.over(s(1_000_000)));
        state.busy = false;
        assert!(state.over(s(1_000_000)));
        // A clock that could not go back that did is no reason to end it.
        assert!(!state.over(s(0)));
    }

    #[test]
    fn keys_and_commands_are_noticed() {
        let idle = Idle::new(Duration::ZERO);
        idle.busy();
        assert!(!idle.lock().over(Duration::MAX));
        assert!(idle.done());
        let idle = Idle::new(Duration::MAX);
        idle.touch();
        assert!(!idle.done());
        assert!(idle.lock().touched > Duration::ZERO);
    }

    #[test]
    fn the_limit_is_said() {
        assert_eq!(
            farewell(Duration::from_secs(900)),
            "\nNothing was typed for 15 min.\n"
        );
        assert_eq!(farewell(Duration::from_secs(2)), "\nNothing was typed for 2 s.\n");
    }
}
