//! Carries moves out: what the engines give back, who is stopped and started, what the gateway is told.

use std::time::{Duration, Instant};

use sarai_wire::control::ServiceState;
use sarai_wire::memory::{Ease, Rung};

use super::sensor::held;
use crate::app::App;
use crate::service::{FALLBACK, GATEWAY, Order, PRIMARY};

/// Time an engine has to give memory back; what runs in it may have to end first.
const EASE: Duration = Duration::from_secs(10);
/// Time the primary has to end: its own drain, and some.
const STOP: Duration = Duration::from_secs(8);
/// Besides the time its settings give it, for the primary to be verified and to serve again.
const START_SLACK: Duration = Duration::from_secs(60);
/// Time a driver has to take an order.
const TAKE: Duration = Duration::from_secs(2);
/// Time between two looks at a service that starts.
const LOOK: Duration = Duration::from_millis(50);

/// What is to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// From which rung; the same as `to` to have everything as that rung wants it.
    pub from: Rung,
    /// To which.
    pub to: Rung,
    /// Whether the rung that stops the primary is there.
    pub may_stop: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes given back, or taken, where that is known.
    pub measured: Option<u64>,
    /// What was not done, and why.
    pub trouble: Vec<String>,
}

/// Something that carries moves out.
pub trait Act: Send + Sync + 'static {
    /// Whether the fallback serves now.
    fn fallback_serves(&self) -> bool;
    /// Carries a plan out. Dropped in between, what was ordered is still done, and the next plan makes up for the rest.
    fn carry(&self, plan: Plan) -> impl Future<Output = Outcome> + Send;
    /// Tells the gateway where the ladder stands.
    fn tell(&self) -> impl Future<Output = ()> + Send;
}

/// The actuator of the house.
pub struct House(App);

impl House {
    /// Over the drivers of this appliance.
    #[must_use]
    pub fn new(app: &App) -> Self {
        Self(App::clone(app))
    }

    fn serves(&self, name: &str) -> bool {
        self.0.board.state_of(name) == Some(ServiceState::Ready)
    }

    /// Down: clients are told first, so that what comes meanwhile is already dealt with as the rung wants it.
    async fn step_back(&self, plan: Plan) -> Outcome {
        let ladder = &self.0.ladder;
        let stop = plan.to >= Rung::Fallback && plan.may_stop && !ladder.stopped();
        if stop {
            // Before anyone could start it again.
            ladder.set_stopped(true);
        }
        self.tell().await;
        let mut outcome = Outcome::default();
        if stop {
            outcome.add(held(&self.0, PRIMARY));
            if !self.0.orders.give(PRIMARY, Order::Stop, STOP).await {
                outcome
                    .trouble
                    .push(format!("{PRIMARY} did not end within {} s", STOP.as_secs()));
            }
            outcome.take_in(self.drop_fallbacks().await);
        } else {
            let (primary, fallback) = tokio::join!(self.ease_primary(plan), self.drop_fallbacks());
            outcome.take_in(primary);
            outcome.take_in(fallback);
        }
        outcome
    }

    async fn climb(&self, plan: Plan) -> Outcome {
        let ladder = &self.0.ladder;
        let mut outcome = Outcome::default();
        if plan.to < Rung::Fallback {
            if ladder.stopped() {
                ladder.set_stopped(false);
                self.start_primary(&mut outcome).await;
            } else {
                outcome.take_in(self.ease_primary(plan).await);
            }
        }
        self.tell().await;
        outcome
    }

    async fn start_primary(&self, outcome: &mut Outcome) {
        if self.0.ladder.ended() {
            return;
        }
        if !self.0.orders.give(PRIMARY, Order::Restart, TAKE).await {
            outcome
                .trouble
                .push(format!("{PRIMARY} did not take the order to start"));
            return;
        }
        let limit = Duration::from_secs(self.0.config.engine.startup_s.into()) + START_SLACK;
        let until = Instant::now() + limit;
        loop {
            match self.0.board.state_of(PRIMARY) {
                Some(ServiceState::Ready) => break,
                Some(ServiceState::Waiting | ServiceState::Starting | ServiceState::Stopping)
                    if Instant::now() < until => {}
                state => {
                    let state = state.map_or("gone".to_owned(), |s| format!("{s:?}").to_lowercase());
                    outcome
                        .trouble
                        .push(format!("{PRIMARY} does not serve again yet: it is {state}"));
                    return;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        outcome.add(held(&self.0, PRIMARY));
    }

    /// Gives the primary the context of the rung; where that does not change, it gives up what it keeps.
    async fn ease_primary(&self, plan: Plan) -> Result<Option<u64>, String> {
        let ladder = &self.0.ladder;
        let Some(tokens) = ladder.context_of_primary(plan.to) else {
            // Never verified so far: it is born with what the rung wants.
            return Ok(None);
        };
        let changes = plan.from == plan.to || ladder.context_of_primary(plan.from) != Some(tokens);
        match (changes, plan.to < plan.from) {
            (true, climbs) => self.ease(PRIMARY, Ease::Context { tokens }, climbs).await,
            (false, false) => self.ease(PRIMARY, Ease::DropCaches, false).await,
            (false, true) => Ok(None),
        }
    }

    async fn drop_fallbacks(&self) -> Result<Option<u64>, String> {
        self.ease(FALLBACK, Ease::DropCaches, false).await
    }

    /// Asks an engine that serves; one that does not is born as the rung wants it. Gives the bytes it gave or took.
    async fn ease(&self, name: &str, ease: Ease, takes: bool) -> Result<Option<u64>, String> {
        if !self.serves(name) {
            return Ok(None);
        }
        let eased = self.0.orders.ease(name, ease, EASE).await?;
        match eased.refused {
            Some(why) => Err(format!("{name} failed to {why}")),
            None if takes => Ok(Some(eased.after.saturating_sub(eased.before))),
            None => Ok(Some(eased.before.saturating_sub(eased.after))),
        }
    }
}

impl Act for House {
    fn fallback_serves(&self) -> bool {
        self.serves(FALLBACK)
    }

    async fn carry(&self, plan: Plan) -> Outcome {
        if self.0.ladder.ended() {
            return Outcome::default();
        }
        let stopped = self.0.ladder.stopped();
        let owed = plan.to < Rung::Fallback && stopped;
        // From refusing everything to this rung it is a step back all the same, while the primary still runs.
        let stops = plan.to == Rung::Fallback && plan.may_stop && !stopped;
        if !stops && plan.to < plan.from || owed && plan.to == plan.from {
            self.climb(plan).await
        } else {
            self.step_back(plan).await
        }
    }

    async fn tell(&self) {
        // A gateway that does not run is told at its birth.
        let _ = self.0.orders.send(GATEWAY, Order::Notice);
    }
}

impl Outcome {
    fn add(&mut self, bytes: Option<u64>) {
        if let Some(bytes) = bytes {
            self.measured = Some(self.measured.unwrap_or(0) + bytes);
        }
    }

    fn take_in(&mut self, eased: Result<Option<u64>, String>) {
        match eased {
            Ok(bytes) => self.add(bytes),
            Err(why) => self.trouble.push(why),
        }
    }
}
