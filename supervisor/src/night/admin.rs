//! What an admin sees of the nights and orders about them.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_wire::control::Reply;
use sarai_wire::night::TrainingStatus;

use super::{Trigger, begin, clear, clock, enabled, remember};
use crate::adapters::merge;
use crate::app::{App, Shared};
use crate::problems::lock;

/// Longest wait, at the end of everything, for a night to keep what it has.
const END: Duration = Duration::from_secs(4);

/// An admin had something forgotten: what is kept of trainings is made of it, perhaps.
pub async fn forget(app: &App) {
    {
        let mut inner = lock(&app.night.inner);
        inner.forget = true;
        if let Some(stopper) = &inner.stopper {
            stopper.stop("go on: some of what it learns from was to be forgotten");
            return;
        }
    }
    clear(app).await;
    let _ = remember(app, |state| state.unfinished = None).await;
}

/// What an admin is told.
#[must_use]
pub fn status(app: &Shared) -> TrainingStatus {
    let (enabled, merge) = (enabled(app), merge::now(app));
    let inner = lock(&app.night.inner);
    let next = enabled
        .then(|| {
            clock::next(
                Timestamp::now(),
                &app.config.zone,
                app.config.night_hour,
                inner.state.last,
            )
        })
        .flatten();
    TrainingStatus {
        enabled,
        next,
        now: inner.stage.clone(),
        nights: inner.state.nights.clone(),
        counts: inner.state.counts,
        merge,
    }
}

fn refused(why: &str) -> Reply {
    Reply::Error {
        message: format!("failed to {why}"),
    }
}

/// [`sarai_wire::control::Request::TrainingStatus`].
#[must_use]
pub fn show(app: &Shared) -> Reply {
    Reply::Training(Box::new(status(app)))
}

/// [`sarai_wire::control::Request::TrainingRun`].
#[must_use]
pub fn run_now(app: &App) -> Reply {
    match begin(app, Trigger::Admin) {
        Ok(()) => show(app),
        Err(why) => refused(&why),
    }
}

/// [`sarai_wire::control::Request::TrainingOn`] and `TrainingOff`, which also ends the night that runs.
pub async fn turn(app: &App, on: bool) -> Reply {
    let remembered = remember(app, |state| state.enabled = Some(on)).await;
    // Also where a full disk cannot remember it.
    if !on && let Some(stopper) = &lock(&app.night.inner).stopper {
        stopper.stop("go on: nights were turned off");
    }
    match remembered {
        Ok(()) => show(app),
        Err(why) => refused(&why),
    }
}

/// Ends the night that runs, and has it keep what it has; the end of everything follows.
pub async fn end(app: &App) {
    if let Some(stopper) = &lock(&app.night.inner).stopper {
        stopper.stop("go on: the machine was shut down");
    }
    let until = Instant::now() + END;
    while app.night.runs() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let worker = App::clone(app);
    let _ = tokio::task::spawn_blocking(move || worker.night.save()).await;
}
