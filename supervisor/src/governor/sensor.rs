//! When to look, and at what: once in a while, and at once when the kernel says that somebody stood still.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::Interval;

use super::files::{Counters, Files};
use super::psi::Trigger;
use super::sample::{Own, Sample};
use crate::app::App;
use crate::service::PRIMARY;
use crate::{status, tasks};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Time after which a trigger that could not be set is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Something that takes samples.
pub trait Sense: Send {
    /// Waits until it is time, and takes one. Dropped in between, nothing is lost.
    fn next(&mut self) -> impl Future<Output = Sample> + Send;
    /// The time of the last one.
    fn now(&self) -> Duration;
    /// How pressure is sensed, and what is missing for that.
    fn how(&self) -> String;
}

/// Wakes at intervals, and earlier when the trigger of a group fires.
pub struct Pulse {
    tick: Interval,
    trigger: Option<Trigger>,
    /// How often it fired.
    fired: u64,
    /// Why there is no trigger, and since when.
    without: Option<(String, Instant)>,
}

impl Pulse {
    /// With a trigger on this `memory.pressure`, where it can be had.
    #[must_use]
    pub fn new(pressure: Option<&Path>) -> Self {
        let mut me = Self {
            tick: tasks::beat(LOOK),
            trigger: None,
            fired: 0,
            without: None,
        };
        if let Some(path) = pressure {
            me.set(path);
        }
        me
    }

    fn set(&mut self, path: &Path) {
        match Trigger::open(path) {
            Ok(trigger) => (self.trigger, self.without) = (Some(trigger), None),
            Err(e) => {
                self.trigger = None;
                self.without = Some((format!("{}: {e}", path.display()), Instant::now()));
            }
        }
    }

    /// Waits for the next look.
    pub async fn wait(&mut self) {
        match &self.trigger {
            Some(trigger) => tokio::select! {
                _ = self.tick.tick() => {}
                () = trigger.fired() => self.fired += 1,
            },
            None => {
                self.tick.tick().await;
            }
        }
    }

    /// After each look: a file that vanished takes its trigger with it, and one that is back gets one again.
    pub fn check(&mut self, path: &Path, readable: bool) {
        if self.trigger.is_some() && !readable {
            self.trigger = None;
            let text = format!("{} cannot be read any more", path.display());
            self.without = Some((text, Instant::now()));
        } else if self.without.as_ref().is_some_and(|(_, at)| at.elapsed() >= AGAIN) {
            self.set(path);
        }
    }

    /// How it wakes.
    #[must_use]
    pub fn how(&self) -> String {
        match (&self.trigger, &self.without) {
            (Some(_), _) => format!(
                "at once by the kernel's pressure trigger (it fired {} time(s)), and every second",
                self.fired
            ),
            (None, Some((why, _))) => format!("every second; no pressure trigger: {why}"),
            (None, None) => "every second".to_owned(),
        }
    }
}

/// The sensor of the house: the subtree where there is one, else the services' resident memory.
pub struct House {
    app: App,
    files: Option<Files>,
    counters: Option<Counters>,
    pulse: Pulse,
    last: Instant,
}

impl House {
    /// Over the appliance's own subtree, or without one over its processes.
    #[must_use]
    pub fn new(app: &App) -> Self {
        let files = app.tree.as_ref().map(|tree| Files::of(&tree.services()));
        let pressure = files.as_ref().map(Files::pressure);
        Self {
            app: App::clone(app),
            files,
            counters: None,
            pulse: Pulse::new(pressure.as_deref()),
            last: Instant::now(),
        }
    }

    fn look(&mut self) -> Sample {
        let own = match &self.files {
            Some(files) => {
                let own = files.own(&mut self.counters);
                let readable = own.is_some_and(|own| own.stalled.is_some());
                self.pulse.check(&files.pressure(), readable);
                own
            }
            None => Some(resident(&self.app)),
        };
        let (total, available) = status::machine_memory();
        let passed = self.last.elapsed();
        self.last = Instant::now();
        Sample {
            own,
            total,
            available,
            passed,
            primary: held(&self.app, PRIMARY),
        }
    }
}

impl Sense for House {
    async fn next(&mut self) -> Sample {
        self.pulse.wait().await;
        self.look()
    }

    fn now(&self) -> Duration {
        self.app.started.elapsed()
    }

    fn how(&self) -> String {
        match &self.files {
            Some(files) if !files.exist() => {
                "every second; the subtree has no memory files, only the machine's are left".to_owned()
            }
            Some(_) => self.pulse.how(),
            None => "every second, by resident memory: natively nothing enforces the budget".to_owned(),
        }
    }
}

/// What a service holds, bytes: what its group needs, or its resident memory; `None` when it does not run.
#[must_use]
pub fn held(app: &App, service: &str) -> Option<u64> {
    let pid = app.board.pid_of(service)?;
    match &app.tree {
        Some(tree) => Files::of(&tree.folder(service)).needed(),
        None => status::rss(pid),
    }
}

fn resident(app: &App) -> Own {
    let services = app.board.list();
    let current = services
        .iter()
        .filter_map(|service| service.pid.and_then(status::rss))
        .sum();
    let budget = app.config.budget;
    Own {
        current,
        line: budget - budget / 32,
        budget,
        ..Own::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_pressure_file_it_samples_and_tries_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.pressure");
        let mut pulse = Pulse::new(Some(&path));
        assert!(
            pulse.how().contains("no pressure trigger: ") && pulse.how().contains("memory.pressure"),
            "{}",
            pulse.how()
        );
        pulse.wait().await;
        let before = Instant::now();
        pulse.wait().await;
        assert!(before.elapsed() > LOOK / 2, "{:?}", before.elapsed());
        pulse.check(&path, false);
        assert!(pulse.trigger.is_none());
    }
}
