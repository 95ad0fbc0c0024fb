//! The life of one service as a pure state machine: what happened goes in, what to do next comes out. Time is a
//! [`Duration`] since the supervisor started.

use std::collections::VecDeque;
use std::time::Duration;

use sarai_wire::control::ServiceState;

/// Pause after the first failure that follows no healthy run.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A run that served at least this long makes the next restart immediate.
pub const HEALTHY: Duration = Duration::from_secs(10);
/// This many failures …
pub const CRASHES: usize = 5;
/// … within this time are a crash loop.
pub const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// A crash loop is tried again after this.
pub const CRASH_PAUSE: Duration = Duration::from_secs(60);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A child was started.
    Spawned,
    /// It serves.
    Ready,
    /// It ended, or could not be started.
    Ended,
    /// What it needs is refused for good.
    Refused,
    /// An admin or the shutdown wants it to end for good.
    Stop,
    /// An admin wants it to start anew.
    Restart,
    /// Time passed.
    Tick,
}

/// What the driver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Todo {
    /// Get what it needs and start it.
    Start,
    /// Watch the child.
    Watch,
    /// Ask the child to end and watch it do so.
    End,
    /// Nothing before this moment.
    SleepUntil(Duration),
    /// Nothing before an order comes.
    Rest,
}

/// One service's life.
#[derive(Debug, Clone)]
pub struct Machine {
    state: ServiceState,
    again: bool,
    ready_at: Option<Duration>,
    until: Duration,
    row: u32,
    failures: VecDeque<Duration>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            state: ServiceState::Waiting,
            again: false,
            ready_at: None,
            until: Duration::ZERO,
            row: 0,
            failures: VecDeque::new(),
        }
    }
}

impl Machine {
    /// Where it is.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        self.state
    }

    /// What to do now.
    #[must_use]
    pub fn todo(&self) -> Todo {
        match self.state {
            ServiceState::Waiting => Todo::Start,
            ServiceState::Starting | ServiceState::Ready => Todo::Watch,
            ServiceState::Stopping => Todo::End,
            ServiceState::Backoff | ServiceState::CrashLoop => Todo::SleepUntil(self.until),
            ServiceState::Stopped => Todo::Rest,
        }
    }

    /// Takes in an event.
    pub fn on(&mut self, now: Duration, event: Event) {
        use ServiceState::{Backoff, CrashLoop, Ready, Starting, Stopped, Stopping, Waiting};
        match (event, self.state) {
            (Event::Spawned, Waiting) => self.state = Starting,
            (Event::Ready, Starting) => {
                self.state = Ready;
                self.ready_at = Some(now);
            }
            (Event::Ended, Stopping) => {
                self.ready_at = None;
                self.state = if self.again { Waiting } else { Stopped };
                self.again = false;
            }
            (Event::Ended, Waiting | Starting | Ready) => self.failed(now),
            (Event::Refused, Waiting) => self.state = Stopped,
            (Event::Stop, Starting | Ready) => self.state = Stopping,
            (Event::Stop, Stopping) => self.again = false,
            (Event::Stop, _) => self.state = Stopped,
            (Event::Restart, Starting | Ready) => {
                self.forgive();
                self.again = true;
                self.state = Stopping;
            }
            (Event::Restart, Stopping) => self.again = true,
            (Event::Restart, _) => {
                self.forgive();
                self.state = Waiting;
            }
            (Event::Tick, Backoff | CrashLoop) if now >= self.until => self.state = Waiting,
            _ => {}
        }
    }

    fn forgive(&mut self) {
        self.failures.clear();
        self.row = 0;
    }

    fn failed(&mut self, now: Duration) {
        let healthy = self
            .ready_at
            .take()
            .is_some_and(|since| now.saturating_sub(since) >= HEALTHY);
        if healthy {
            self.row = 0;
        }
        self.row += 1;
        self.failures.push_back(now);
        while self
            .failures
            .front()
            .is_some_and(|at| now.saturating_sub(*at) > CRASH_WINDOW)
        {
            self.failures.pop_front();
        }
        if self.failures.len() >= CRASHES {
            // The next failure after the pause leads straight back here until a minute has gone well.
            while self.failures.len() >= CRASHES {
                self.failures.pop_front();
            }
            self.state = ServiceState::CrashLoop;
            self.until = now + CRASH_PAUSE;
        } else {
            self.state = ServiceState::Backoff;
            self.until = now + pause(self.row, healthy);
        }
    }
}

/// Pause before the next start: none after a healthy run, then doubling.
fn pause(row: u32, healthy: bool) -> Duration {
    if healthy {
        return Duration::ZERO;
    }
    FIRST_PAUSE
        .saturating_mul(1u32.checked_shl(row.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn run(machine: &mut Machine, now: Duration, ready: bool) {
        machine.on(now, Event::Tick);
        machine.on(now, Event::Spawned);
        if ready {
            machine.on(now, Event::Ready);
        }
    }

    #[test]
    fn a_service_that_served_well_starts_again_at_once() {
        let mut machine = Machine::default();
        run(&mut machine, at(0.0), true);
        machine.on(at(100.0), Event::Ended);
        assert_eq!(machine.todo(), Todo::SleepUntil(at(100.0)));
        machine.on(at(100.0), Event::Tick);
        assert_eq!(machine.todo(), Todo::Start);
    }

    #[test]
    fn pauses_double_and_the_fifth_failure_in_a_minute_is_a_crash_loop() {
        let mut machine = Machine::default();
        let mut now = at(0.0);
        for expected in [0.2, 0.4, 0.8, 1.6] {
            run(&mut machine, now, false);
            machine.on(now, Event::Ended);
            assert_eq!(machine.state(), ServiceState::Backoff);
            let Todo::SleepUntil(until) = machine.todo() else {
                panic!()
            };
            assert_eq!(until - now, at(expected));
            now = until;
        }
        run(&mut machine, now, false);
        machine.on(now, Event::Ended);
        assert_eq!(machine.state(), ServiceState::CrashLoop);
        assert_eq!(machine.todo(), Todo::SleepUntil(now + CRASH_PAUSE));
    }

    #[test]
    fn failures_far_apart_are_no_crash_loop() {
        let mut machine = Machine::default();
        for n in 0..50 {
            let now = at(f64::from(n) * 20.0);
            run(&mut machine, now, false);
            machine.on(now, Event::Ended);
            assert_eq!(machine.state(), ServiceState::Backoff, "failure {n}");
        }
    }

    #[test]
    fn an_admin_leaves_a_crash_loop_and_a_refusal_by_restart() {
        let mut machine = Machine::default();
        for n in 0..5 {
            run(&mut machine, at(f64::from(n) * 5.0), false);
            machine.on(at(f64::from(n) * 5.0), Event::Ended);
        }
        assert_eq!(machine.state(), ServiceState::CrashLoop);
        machine.on(at(21.0), Event::Restart);
        assert_eq!(machine.todo(), Todo::Start);
        machine.on(at(21.0), Event::Refused);
        assert_eq!(machine.todo(), Todo::Rest);
        machine.on(at(22.0), Event::Restart);
        assert_eq!(machine.todo(), Todo::Start);
    }

    #[test]
    fn a_restart_ends_the_child_first_and_counts_as_no_failure() {
        let mut machine = Machine::default();
        for n in 0..20 {
            let now = at(f64::from(n));
            run(&mut machine, now, true);
            machine.on(now, Event::Restart);
            assert_eq!(machine.todo(), Todo::End);
            machine.on(now, Event::Ended);
            assert_eq!(machine.todo(), Todo::Start, "round {n}");
        }
    }

    #[test]
    fn a_stop_during_a_restart_wins() {
        let mut machine = Machine::default();
        run(&mut machine, at(0.0), true);
        machine.on(at(1.0), Event::Restart);
        machine.on(at(1.0), Event::Stop);
        machine.on(at(2.0), Event::Ended);
        assert_eq!(machine.todo(), Todo::Rest);
    }

    fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
        let event = prop_oneof![
            Just(Event::Spawned),
            Just(Event::Ready),
            Just(Event::Ended),
            Just(Event::Refused),
            Just(Event::Restart),
            Just(Event::Tick),
        ];
        proptest::collection::vec((event, 0u64..30_000), 0..200)
    }

    proptest! {
        /// Whatever happens short of a stop, the service is never lost: left alone it starts again within a minute,
        /// except while its model is refused.
        #[test]
        fn it_always_comes_back(events in events()) {
            let mut machine = Machine::default();
            let mut now = Duration::ZERO;
            for (event, pass) in events {
                now += Duration::from_millis(pass);
                machine.on(now, event);
                prop_assert!(machine.failures.len() < CRASHES);
                if let Todo::SleepUntil(until) = machine.todo() {
                    prop_assert!(until <= now + CRASH_PAUSE);
                    let mut later = machine.clone();
                    later.on(until, Event::Tick);
                    prop_assert_eq!(later.todo(), Todo::Start);
                }
            }
        }

        /// Starts stay rare: no sequence of failures gets more than five starts into a minute without an admin, unless
        /// runs in between were healthy.
        #[test]
        fn starts_are_bounded(lives in proptest::collection::vec(0u64..9_000, 100)) {
            let mut machine = Machine::default();
            let mut now = Duration::ZERO;
            let mut starts: Vec<Duration> = Vec::new();
            for life in lives {
                if let Todo::SleepUntil(until) = machine.todo() {
                    now = now.max(until);
                    machine.on(now, Event::Tick);
                }
                machine.on(now, Event::Spawned);
                starts.push(now);
                machine.on(now, Event::Ready);
                now += Duration::from_millis(life);
                machine.on(now, Event::Ended);
            }
            for window in starts.windows(CRASHES + 2) {
                prop_assert!(window[CRASHES + 1] - window[0] >= CRASH_WINDOW / 2);
            }
        }
    }
}
