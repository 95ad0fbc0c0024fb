//! What is known of every service: written by its driver, read by `status`, the watchdog and the shutdown.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sarai_wire::control::{DutyStatus, ServiceState, ServiceStatus};

use crate::problems::lock;

#[derive(Clone)]
struct Entry {
    name: String,
    state: ServiceState,
    pid: Option<i32>,
    starts: u32,
    last_exit: Option<String>,
    cpus: Vec<u32>,
    last_pong: Option<Instant>,
    silence: Option<Duration>,
    user: String,
    sandbox: Vec<DutyStatus>,
}

/// The list of services; cheap to clone.
#[derive(Clone, Default)]
pub struct Board(Arc<Mutex<Vec<Entry>>>);

impl Board {
    /// Enters a service, or changes the user and CPUs of one that is there.
    pub fn enter(&self, name: &str, user: &str, cpus: &[u32]) {
        let mut entries = lock(&self.0);
        if entries.iter().all(|e| e.name != name) {
            entries.push(Entry {
                name: name.to_owned(),
                state: ServiceState::Waiting,
                pid: None,
                starts: 0,
                last_exit: None,
                cpus: cpus.to_vec(),
                last_pong: None,
                silence: None,
                user: user.to_owned(),
                sandbox: Vec::new(),
            });
        }
    }

    /// Takes a service out that is there only now and then.
    pub fn leave(&self, name: &str) {
        lock(&self.0).retain(|e| e.name != name);
    }

    fn with(&self, name: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = lock(&self.0).iter_mut().find(|e| e.name == name) {
            change(entry);
        }
    }

    /// Its state changed. True if it really did.
    pub fn state(&self, name: &str, state: ServiceState) -> bool {
        let mut changed = false;
        self.with(name, |e| {
            changed = e.state != state;
            e.state = state;
        });
        changed
    }

    /// A child was started.
    pub fn started(&self, name: &str, pid: i32, silence: Option<Duration>) {
        self.with(name, |e| {
            e.pid = Some(pid);
            e.starts = e.starts.saturating_add(1);
            e.last_pong = None;
            e.silence = silence;
        });
    }

    /// What its child is confined by.
    pub fn confined(&self, name: &str, duties: Vec<DutyStatus>) {
        self.with(name, |e| e.sandbox = duties);
    }

    /// It answered a ping, or became ready.
    pub fn pong(&self, name: &str) {
        self.with(name, |e| e.last_pong = Some(Instant::now()));
    }

    /// Its child is gone.
    pub fn ended(&self, name: &str, how: &str) {
        self.with(name, |e| {
            e.pid = None;
            e.last_pong = None;
            e.last_exit = Some(how.to_owned());
        });
    }

    /// State of one service.
    #[must_use]
    pub fn state_of(&self, name: &str) -> Option<ServiceState> {
        lock(&self.0).iter().find(|e| e.name == name).map(|e| e.state)
    }

    /// The process of one service, while there is one.
    #[must_use]
    pub fn pid_of(&self, name: &str) -> Option<i32> {
        lock(&self.0).iter().find(|e| e.name == name).and_then(|e| e.pid)
    }

    /// The first service that says it serves but has not answered for its own bound and `slack`: its driver, which
    /// should have replaced it long ago, is not doing its work.
    #[must_use]
    pub fn neglected(&self, slack: Duration) -> Option<String> {
        lock(&self.0).iter().find_map(|e| {
            let silence = e.silence.filter(|_| e.state == ServiceState::Ready)?;
            let age = e.last_pong.map(|at| at.elapsed())?;
            (age > silence + slack).then(|| e.name.clone())
        })
    }

    /// For `status`.
    #[must_use]
    pub fn list(&self) -> Vec<ServiceStatus> {
        lock(&self.0)
            .iter()
            .map(|e| ServiceStatus {
                name: e.name.clone(),
                state: e.state,
                pid: e.pid,
                restarts: e.starts.saturating_sub(1),
                last_exit: e.last_exit.clone(),
                cpus: e.cpus.clone(),
                rss: None,
                last_pong_ms: e
                    .last_pong
                    .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
                user: e.user.clone(),
                sandbox: e.sandbox.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_starts_after_the_first() {
        let board = Board::default();
        board.enter("engine-primary", "engine", &[1, 2]);
        board.enter("engine-primary", "other", &[]);
        for _ in 0..3 {
            board.started("engine-primary", 42, None);
            board.ended("engine-primary", "signal SIGKILL");
        }
        let status = &board.list()[0];
        assert_eq!((status.restarts, status.pid, status.cpus.len()), (2, None, 2));
        assert_eq!(status.last_exit.as_deref(), Some("signal SIGKILL"));
    }

    #[test]
    fn who_left_is_not_shown() {
        let board = Board::default();
        for name in ["gateway", "trainer"] {
            board.enter(name, "u", &[]);
        }
        board.leave("trainer");
        assert_eq!(board.state_of("trainer"), None);
        assert_eq!(board.list().len(), 1);
    }

    #[test]
    fn only_a_ready_service_that_fell_silent_is_neglected() {
        let board = Board::default();
        board.enter("a", "u", &[]);
        board.started("a", 1, Some(Duration::ZERO));
        assert!(board.neglected(Duration::ZERO).is_none());
        board.state("a", ServiceState::Ready);
        board.pong("a");
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(board.neglected(Duration::ZERO).as_deref(), Some("a"));
        assert!(board.neglected(Duration::from_secs(60)).is_none());
        board.state("a", ServiceState::Backoff);
        assert!(board.neglected(Duration::ZERO).is_none());
    }
}
