//! How answers go by day: counted by adapter, and a new adapter's first day compared with the one before.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sarai_wire::night::Quality;

use super::watch;
use super::{Inner, TAKEN_BACK, remember};
use crate::adapters::{self, engines};
use crate::app::{App, Shared};
use crate::problems::lock;
use crate::service::PRIMARY;

/// How long an adapter is watched.
const WATCHED: SignedDuration = SignedDuration::from_hours(36);
/// Least time between two times that counts of answers are written down.
const WRITE: Duration = Duration::from_secs(600);

/// A gateway begins to serve: it counts anew.
pub fn counts_anew(app: &Shared) {
    lock(&app.night.inner).seen.clear();
}

/// The gateway said how answers went.
pub fn quality(app: &App, adapters: Vec<Quality>) {
    let now = Timestamp::now();
    let today = app.config.zone.to_datetime(now).date();
    let mut inner = lock(&app.night.inner);
    let inner = &mut *inner;
    // Adapters that answered long ago and are named no more.
    inner
        .seen
        .retain(|adapter, _| adapters.iter().any(|said| said.adapter == *adapter));
    for said in adapters {
        let Some(sums) = watch::credible(said.sums) else {
            continue;
        };
        let new = sums.since(inner.seen.insert(said.adapter.clone(), sums).unwrap_or_default());
        if new.is_empty() {
            continue;
        }
        inner.state.count(today, said.adapter.as_deref(), new);
        if let Some(watched) = &mut inner.state.watched
            && said.adapter.as_deref() == Some(watched.sha256.as_str())
        {
            watched.after = watched.after.and(new);
        }
    }
    look(app, inner, now);
    if inner.written.is_none_or(|at| at.elapsed() >= WRITE) {
        inner.written = Some(Instant::now());
        let worker = App::clone(app);
        tokio::task::spawn_blocking(move || worker.night.save());
    }
}

/// Compares the watched adapter's day with the one before, where there is enough new.
fn look(app: &App, inner: &mut Inner, now: Timestamp) {
    let Some(watched) = &mut inner.state.watched else {
        return;
    };
    let age = now.duration_since(Timestamp::from_second(watched.from).unwrap_or(now));
    if age > WATCHED {
        app.logs
            .say(&format!("night: {} has stood its first day", watched.name));
        inner.state.watched = None;
        return;
    }
    if !watch::worth_a_look(&watched.looked, &watched.after) {
        return;
    }
    watched.looked = watched.after;
    if let Some(why) = watch::worse(&watched.before, &watched.after) {
        tokio::spawn(take_back(App::clone(app), watched.sha256.clone(), why));
    }
}

/// Goes back to what was in use before, and says so.
async fn take_back(app: App, sha256: String, why: String) {
    let watched = app.night.with(|state| state.watched.clone());
    let Some(watched) = watched.filter(|watched| watched.sha256 == sha256) else {
        return;
    };
    // An admin may have changed what is in use: that is nobody's to take back.
    let in_use = engines::in_use(&app, PRIMARY).is_some_and(|adapter| adapter.digest == sha256);
    let said = if in_use {
        match adapters::roll_back(&app, "primary").await {
            Ok(_) => format!("taken back by itself: {why}"),
            // The next look tries again.
            Err(e) => {
                return app.logs.say(&format!(
                    "night: {} was to be taken back: failed to {e}",
                    watched.name
                ));
            }
        }
    } else {
        format!("not in use any more when its day was found worse: {why}")
    };
    app.logs.say(&format!("night: {}: {said}", watched.name));
    if in_use {
        let text = format!(
            "the adapter {} was {said}; see: sarai training status",
            watched.name
        );
        app.problems.set(TAKEN_BACK, text);
    }
    let _ = remember(&app, move |state| {
        state.later(&watched.began, &said);
        state.watched = None;
        if in_use {
            state.counts.taken_back = state.counts.taken_back.saturating_add(1);
        }
    })
    .await;
}
