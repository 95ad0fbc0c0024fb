//! Nights that teach: when one begins, what it does, what is remembered of it, and what comes of it by day. Nothing here
//! reads what people said, nor what is in an adapter.
//!
//! | module | duty |
//! | --- | --- |
//! | [`clock`] | when a night is due |
//! | [`walk`] | its steps, from the choice to the swap |
//! | [`trainer`], [`jobs`] | one run of the trainer: born, watched, paused, ended; what for |
//! | [`gate`] | whether what was learnt helps |
//! | [`watch`] | whether answers became worse afterwards |
//! | [`state`], [`files`] | what is remembered, and what a night works with |
//! | [`stop`] | how one that runs is ended |
//! | [`admin`] | what an admin sees and orders |
//! | [`notice`] | what the gateway shows in its metrics |
//! | [`day`] | how answers go by day |

pub mod admin;
pub mod clock;
pub mod day;
pub mod files;
pub mod gate;
pub mod jobs;
pub mod notice;
pub mod state;
pub mod stop;
pub mod trainer;
pub mod walk;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_wire::memory::Rung;
use sarai_wire::night::{Night, NightResult, NightStage, Sums};

use crate::app::{App, Shared};
use crate::problems::{Problems, lock};
use clock::Look;
use files::Files;
use state::{Ended, State};
use stop::{Stop, Stopper};

/// Topic of an adapter that was taken back.
const TAKEN_BACK: &str = "night taken back";
/// Topic of what cannot be remembered.
const MEMORY: &str = "night memory";
/// How long nothing may have been asked before a night that was missed is caught up.
const IDLE: Duration = Duration::from_secs(300);

/// Time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(10);

/// What had a night begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The hour, or a missed one.
    Clock,
    /// An admin.
    Admin,
}

/// When the engines last had something to do.
pub struct Busy {
    begun: Instant,
    /// Milliseconds after that.
    last: AtomicU64,
    /// Told each time.
    noted: tokio::sync::Notify,
}

impl Default for Busy {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            last: AtomicU64::new(0),
            noted: tokio::sync::Notify::new(),
        }
    }
}

impl Busy {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// They have.
    pub fn note(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
        self.noted.notify_waiters();
    }

    /// Until they have something to do.
    pub async fn noted(&self) {
        self.noted.notified().await;
    }

    /// How long they have had nothing to do; at most since the start.
    #[must_use]
    pub fn idle(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Ordering::Relaxed)))
    }
}

#[derive(Default)]
struct Inner {
    state: State,
    stage: NightStage,
    /// Ends the night that runs.
    stopper: Option<Stopper>,
    /// Whether what the night that runs works with must not outlive it: some of it was forgotten.
    forget: bool,
    /// What the gateway counted when it last said so, since its start.
    seen: BTreeMap<Option<String>, Sums>,
    /// When counts of answers were last written down.
    written: Option<Instant>,
}

/// The nights.
pub struct Nights {
    /// When the engines last had something to do.
    pub busy: Busy,
    /// Held by a night that runs, and by whoever must not run beside one: a merge, an update.
    pub alone: Arc<tokio::sync::Mutex<()>>,
    path: PathBuf,
    inner: Mutex<Inner>,
    /// One write at a time, in order.
    write: Mutex<()>,
    /// There is something to say of them.
    moved: tokio::sync::Notify,
}

impl Nights {
    /// What is remembered in this folder. A night that was cut off before its end is remembered as one that failed.
    #[must_use]
    pub fn open(folder: &std::path::Path, problems: &Problems) -> Self {
        let path = folder.join("training.json");
        let (mut state, wrong) = State::load(&path);
        if let Some(wrong) = wrong {
            problems.set(MEMORY, wrong);
        }
        if state.found() {
            let _ = state.save(&path);
        }
        Self {
            busy: Busy::default(),
            alone: Arc::default(),
            path,
            inner: Mutex::new(Inner {
                state,
                ..Inner::default()
            }),
            write: Mutex::default(),
            moved: tokio::sync::Notify::default(),
        }
    }

    /// Reads what is remembered.
    pub fn with<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&lock(&self.inner).state)
    }

    /// The night that runs is here.
    pub fn at(&self, stage: NightStage) {
        let mut inner = lock(&self.inner);
        if inner.stopper.is_some() {
            inner.stage = stage;
            self.moved.notify_one();
        }
    }

    /// Whether one has the primary keep its adapter and measures it.
    #[must_use]
    pub fn measures(&self) -> bool {
        lock(&self.inner).stage == NightStage::Measuring
    }

    /// Whether one runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        lock(&self.inner).stopper.is_some()
    }

    /// Writes down what is remembered now.
    fn save(&self) -> Result<(), String> {
        let _one = lock(&self.write);
        let state = lock(&self.inner).state.clone();
        state.save(&self.path)
    }
}

/// Changes what is remembered, and writes it down before it goes on.
async fn remember(app: &App, change: impl FnOnce(&mut State)) -> Result<(), String> {
    change(&mut lock(&app.night.inner).state);
    app.night.moved.notify_one();
    let worker = App::clone(app);
    let done = tokio::task::spawn_blocking(move || worker.night.save()).await;
    let done = done.unwrap_or_else(|e| Err(format!("write down the nights: {e}")));
    match &done {
        Ok(()) => app.problems.clear(MEMORY),
        Err(e) => app
            .problems
            .set(MEMORY, format!("the nights are not remembered: failed to {e}")),
    }
    done
}

fn enabled(app: &Shared) -> bool {
    app.night
        .with(|state| state.enabled)
        .unwrap_or(app.config.training.enabled)
}

/// Begins a night at each hour, and catches a missed one up, until the supervisor ends.
pub async fn run(app: App) {
    let mut beat = crate::tasks::beat(LOOK);
    loop {
        beat.tick().await;
        let last = app.night.with(|state| state.last);
        let (zone, hour) = (&app.config.zone, app.config.night_hour);
        let date = match clock::look(Timestamp::now(), app.oldest, zone, hour, last) {
            Look::Nothing => continue,
            Look::Count(date) => {
                let _ = remember(&app, |state| state.last = Some(date)).await;
                continue;
            }
            // Turned on again later that day, one is not missed.
            Look::Due(date) | Look::Missed(date) if !enabled(&app) => {
                let _ = remember(&app, |state| state.last = Some(date)).await;
                continue;
            }
            Look::Missed(_) if !idle(&app) => continue,
            // It begins when that is over.
            Look::Due(_) | Look::Missed(_) if app.merges.runs() => continue,
            Look::Due(date) | Look::Missed(date) => date,
        };
        // Before it does anything: whatever ends it, this date has had its night.
        if remember(&app, |state| state.last = Some(date)).await.is_ok()
            && let Err(why) = begin(&app, Trigger::Clock)
        {
            app.logs.say(&format!("night: failed to {why}"));
        }
    }
}

/// Whether nobody has asked anything for a while, and memory is not short.
fn idle(app: &Shared) -> bool {
    app.night.busy.idle() >= IDLE && app.ladder.notice().rung == Rung::Normal
}

/// Begins a night, unless one runs or something else that must be alone.
///
/// # Errors
/// Why not; fits after "failed to".
pub fn begin(app: &App, trigger: Trigger) -> Result<(), String> {
    let (stopper, stop) = stop::pair();
    {
        let mut inner = lock(&app.night.inner);
        if inner.stopper.is_some() {
            return Err("begin a night: one runs".to_owned());
        }
        if app.night.alone.try_lock().is_err() {
            let other = if app.merges.runs() {
                "an adapter is being merged"
            } else {
                "an update is being applied"
            };
            return Err(format!("begin a night: {other}"));
        }
        (inner.stopper, inner.stage, inner.forget) = (Some(stopper), NightStage::Choosing, false);
        app.night.moved.notify_one();
    }
    let app = App::clone(app);
    tokio::spawn(async move {
        let began = Timestamp::now();
        let worker = App::clone(&app);
        let walked = tokio::spawn(async move { walked(&worker, trigger, began, stop).await });
        let ended = walked.await.unwrap_or_else(|e| {
            failed(
                &app,
                format!("go on: the supervisor's own task ended: {e}"),
                false,
            )
        });
        end_of(&app, began, ended).await;
    });
    Ok(())
}

/// Runs one, alone.
async fn walked(app: &App, trigger: Trigger, began: Timestamp, mut stop: Stop) -> Ended {
    let _alone = app.night.alone.lock().await;
    let why = match trigger {
        Trigger::Clock => "its hour",
        Trigger::Admin => "an admin's order",
    };
    app.logs.say(&format!("night: begins by {why}"));
    let noted = remember(app, |state| state.running = Some(began.to_string())).await;
    let walked = match noted {
        Ok(()) => walk::walk(app, trigger, began, &mut stop).await,
        Err(e) => Err(e),
    };
    walked.unwrap_or_else(|reason| {
        let kept = app.night.with(|state| state.unfinished.is_some());
        let resumes = kept && Files::at(app.layout.training()).resumable();
        failed(app, reason, resumes)
    })
}

/// The end of one that could not be done.
fn failed(app: &App, reason: String, resumes: bool) -> Ended {
    let of = |state: &State| state.unfinished.as_ref().map(|unfinished| unfinished.examples);
    Ended {
        result: NightResult::Failed { reason, resumes },
        examples: app.night.with(of),
        figures: None,
    }
}

async fn end_of(app: &App, began: Timestamp, ended: Ended) {
    let Ended {
        mut result,
        examples,
        figures,
    } = ended;
    let forget = lock(&app.night.inner).forget;
    if let NightResult::Failed { resumes, .. } = &mut result
        && forget
    {
        *resumes = false;
    }
    let resumes = matches!(result, NightResult::Failed { resumes: true, .. });
    if !resumes {
        clear(app).await;
    }
    let text = match &result {
        NightResult::Applied { adapter } => format!("applied: {adapter}"),
        NightResult::Rejected { adapter, reason } => format!("rejected: {adapter}: {reason}"),
        NightResult::Skipped { reason } => format!("skipped: {reason}"),
        NightResult::Failed {
            reason,
            resumes: true,
        } => format!("failed to {reason}; the next one goes on"),
        NightResult::Failed { reason, .. } => format!("failed to {reason}"),
    };
    let took = Timestamp::now().duration_since(began).as_secs();
    let night = Night {
        began: began.to_string(),
        seconds: u64::try_from(took).unwrap_or(0),
        result,
        examples,
        figures,
        later: None,
    };
    let _ = remember(app, move |state| {
        if !resumes {
            state.unfinished = None;
        }
        state.ended(night);
    })
    .await;
    app.logs.say(&format!("night: {text}"));
    let mut inner = lock(&app.night.inner);
    (inner.stopper, inner.stage) = (None, NightStage::Idle);
    app.night.moved.notify_one();
}

/// Removes what a night works with.
async fn clear(app: &App) {
    let files = Files::at(app.layout.training());
    let cleared = tokio::task::spawn_blocking(move || files.clear()).await;
    if let Ok(Err(e)) = cleared {
        app.logs
            .say(&format!("night: what it worked with stays: failed to {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::Logs;

    #[test]
    fn a_night_that_was_cut_off_is_remembered_as_one_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let problems = Problems::new(Logs::in_memory());
        let open = || Nights::open(folder.path(), &problems);
        assert!(open().with(|state| state.nights.is_empty()));
        let mut state = State::default();
        state.running = Some("2026-01-02T02:00:00Z".into());
        state.save(&folder.path().join("training.json")).unwrap();
        for _ in 0..2 {
            let nights = open().with(|state| state.nights.clone());
            assert_eq!(nights.len(), 1);
            assert_eq!(nights[0].began, "2026-01-02T02:00:00Z");
            assert!(matches!(
                &nights[0].result,
                NightResult::Failed { reason, resumes: false } if reason.contains("in the middle")
            ));
        }
        // It had come to its end: what follows from that was remembered with it.
        let path = folder.path().join("training.json");
        let (mut state, _) = State::load(&path);
        state.running = Some("2026-01-03T02:00:00Z".into());
        let applied = NightResult::Applied {
            adapter: "night-1".into(),
        };
        state.decide(Ended {
            result: applied.clone(),
            examples: None,
            figures: None,
        });
        state.save(&path).unwrap();
        for _ in 0..2 {
            let state = open().with(State::clone);
            assert_eq!((state.nights.len(), state.counts.applied), (2, 1));
            assert_eq!(state.nights[0].result, applied);
            assert_eq!(
                (state.running, state.decided, state.unfinished),
                (None, None, None)
            );
        }
        assert!(problems.list().is_empty());
        std::fs::write(path, "{").unwrap();
        open();
        assert!(problems.list()[0].contains("nights is lost"));
    }

    #[test]
    fn idle_is_since_the_last_request() {
        let busy = Busy::default();
        std::thread::sleep(Duration::from_millis(30));
        assert!(busy.idle() >= Duration::from_millis(25));
        busy.note();
        assert!(busy.idle() < Duration::from_millis(25));
    }
}
