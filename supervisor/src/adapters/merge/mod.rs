//! An adapter made part of its base, as a model of its own, for whoever wants no cost at run time. The trainer merges,
//! in the sandbox of a night's training and never beside one; what comes out is attested by the device and waits in a
//! folder of its own for an admin to take it away ([`folder`]). Nothing here loads it: the device key vouches for
//! adapters, and for no model that is served.

pub mod folder;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_trust::manifest::Role;
use sarai_trust::{Digest, is_id};
use sarai_wire::control::Reply;
use sarai_wire::merge::{MergeEnd, MergeNow, MergeOutcome, MergeResult, MergeStage, MergeStatus, Merging};

use super::state::State;
use super::{away, bases, hand_over, state_file, store};
use crate::app::{App, Shared};
use crate::models;
use crate::night::jobs::{self, MORE, Merge};
use crate::night::stop::{self, Stop, Stopper};
use crate::night::walk::{RESERVE, free};
use crate::problems::lock;
use crate::service::PRIMARY;
use crate::service::program::Hold;
use folder::{Folder, Label};

/// Longest wait, at the end of everything, for a merge to end.
const END: Duration = Duration::from_secs(4);
/// Longest version of an attestation, bytes.
const MAX_VERSION: usize = 128;

#[derive(Default)]
struct Inner {
    now: Option<MergeNow>,
    /// Ends the one that runs.
    stopper: Option<Stopper>,
    last: Option<MergeEnd>,
}

/// The merge that runs, and how the last one ended.
#[derive(Default)]
pub struct Merges(Mutex<Inner>);

impl Merges {
    /// Whether one runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        lock(&self.0).now.is_some()
    }

    /// The one that runs is here.
    fn at(&self, stage: MergeStage) {
        if let Some(now) = &mut lock(&self.0).now {
            now.stage = stage;
        }
    }

    /// The trainer of the one that runs is so far.
    pub fn progress(&self, progress: Merging, paused: bool) {
        self.at(MergeStage::Merging { progress, paused });
    }
}

/// What is merged, and as what.
struct Plan {
    adapter: String,
    id: String,
    version: String,
    base: Digest,
    sha256: Digest,
    expires: Option<Timestamp>,
    role: Role,
}

fn folder(app: &Shared) -> Folder {
    Folder::at(app.layout.merged())
}

/// Removes what a supervisor that ended in the midst of one has left.
pub fn tidy(app: &Shared) {
    if let Err(e) = folder(app).clear() {
        let text = format!("what is left of a merge stays: failed to {e}");
        app.problems.set("merge", text);
    }
}

/// Holds what is asked for to what there is: the adapter and its signature, the model it is for, the id, the disk.
fn plan(app: &Shared, name: Option<String>, id: Option<String>) -> Result<Plan, String> {
    let own = bases(app);
    let state = State::load(&state_file(app))?;
    let name = match name {
        Some(name) => name,
        None => {
            let primary = own.iter().find(|(service, _)| *service == PRIMARY);
            let in_use = primary.and_then(|(_, base)| state.in_use(&base.to_string()));
            let in_use = in_use.map(|named| named.name.clone());
            in_use.ok_or("merge: no adapter is in use over the primary's model; name one")?
        }
    };
    let refused = |why: String| format!("merge the adapter {name:?}: {why}");
    if !store::is_name(&name) {
        return Err(refused("that is no name of one".to_owned()));
    }
    if let Some(figures) = state.rejection(&name) {
        return Err(refused(format!("it was rejected: {figures}")));
    }
    let keyring = models::keyring(app).map_err(|e| refused(e.to_string()))?;
    let checked = store::attested(&app.layout.adapters(), &name, &keyring)
        .map_err(|e| refused(format!("{}: failed to {e}", e.name())))?;
    let adapter = checked.attestation;
    let service = own.iter().find(|(_, base)| Some(*base) == adapter.base);
    let Some((service, base)) = service else {
        return Err(refused("no engine has its base as a verified model".to_owned()));
    };
    let role = if *service == PRIMARY {
        Role::Primary
    } else {
        Role::Fallback
    };
    let shown = lock(&app.models)
        .iter()
        .find(|m| m.role == role.as_str())
        .cloned();
    let shown = shown.ok_or_else(|| refused("its base is not there any more".to_owned()))?;
    let id = id.unwrap_or_else(|| format!("{}-{name}", shown.model.unwrap_or_default()));
    if !is_id(&id) || !store::is_name(&id) {
        return Err(refused(format!(
            "{id:?} is no id of a model: 1 to {} characters of A-Z a-z 0-9 . _ + -; say another (--id)",
            store::MAX_NAME
        )));
    }
    folder(app).takes(&id)?;
    let file = app.layout.models().join(&shown.file);
    let size = file
        .metadata()
        .map_err(|e| refused(format!("{}: {e}", file.display())))?
        .len();
    room(size, free(app)).map_err(refused)?;
    let version = format!("{}+{}", shown.version.unwrap_or_default(), adapter.version);
    Ok(Plan {
        version: if version.len() > MAX_VERSION {
            adapter.version
        } else {
            version
        },
        adapter: name,
        id,
        base: *base,
        sha256: adapter.sha256,
        expires: adapter.expires,
        role,
    })
}

/// Whether the disk has room for a merged model of a base of this size, and as much left as nights ask for.
fn room(size: u64, free: Option<u64>) -> Result<(), String> {
    let needed = size.saturating_add(MORE).saturating_add(RESERVE);
    match free {
        Some(free) if free < needed => Err(format!(
            "the disk has {} MiB left, and {} MiB are needed: {} MiB for the model and {} MiB in reserve",
            free >> 20,
            needed.div_ceil(1 << 20),
            (size + MORE).div_ceil(1 << 20),
            RESERVE >> 20
        )),
        _ => Ok(()),
    }
}

/// Begins a merge, unless one runs or something else that must be alone.
async fn begin(app: &App, name: Option<String>, id: Option<String>) -> Result<(), String> {
    let (stopper, mut stop) = stop::pair();
    let began = Timestamp::now();
    // Taken before anything is looked at: a night that begins in between is refused.
    let alone = Arc::clone(&app.night.alone).try_lock_owned();
    let other = match (app.merges.runs(), app.night.runs()) {
        (true, _) => Some("one runs"),
        (_, true) => Some("a night runs"),
        _ => None,
    };
    let alone = match (alone, other) {
        (Ok(alone), None) => alone,
        (_, other) => {
            let why = other.unwrap_or("an update is being applied");
            return Err(format!("begin a merge: {why}"));
        }
    };
    {
        let mut inner = lock(&app.merges.0);
        inner.stopper = Some(stopper);
        inner.now = Some(MergeNow {
            id: id.clone(),
            adapter: name.clone().unwrap_or_default(),
            began: began.to_string(),
            stage: MergeStage::Verifying,
        });
    }
    let plan = match away(app, move |app| plan(app, name, id)).await {
        Ok(plan) => plan,
        Err(why) => {
            let mut inner = lock(&app.merges.0);
            (inner.now, inner.stopper) = (None, None);
            return Err(why);
        }
    };
    if let Some(now) = &mut lock(&app.merges.0).now {
        (now.id, now.adapter) = (Some(plan.id.clone()), plan.adapter.clone());
    }
    let app = App::clone(app);
    tokio::spawn(async move {
        let _alone = alone;
        let (worker, adapter) = (App::clone(&app), plan.adapter.clone());
        let walked = tokio::spawn(async move { walk(&worker, plan, &mut stop).await });
        let walked = walked.await.unwrap_or_else(|e| {
            let why = format!("go on: the supervisor's own task ended: {e}");
            Err(why)
        });
        end_of(&app, adapter, began, walked).await;
    });
    Ok(())
}

async fn end_of(
    app: &App,
    adapter: String,
    began: Timestamp,
    walked: Result<(String, MergeOutcome), String>,
) {
    let result = match walked {
        Ok((id, outcome)) => {
            app.logs.say(&format!(
                "merge: {id} is kept: {} weights updated, {:.1} % of the update lost by rounding",
                outcome.tensors,
                100.0 * outcome.lost
            ));
            MergeResult::Merged { id, outcome }
        }
        Err(reason) => {
            app.logs.say(&format!("merge: failed to {reason}"));
            let cleared = away(app, |app| folder(app).clear()).await;
            if let Err(e) = cleared {
                app.logs
                    .say(&format!("merge: what it wrote stays: failed to {e}"));
            }
            MergeResult::Failed { reason }
        }
    };
    let took = Timestamp::now().duration_since(began).as_secs();
    let mut inner = lock(&app.merges.0);
    inner.last = Some(MergeEnd {
        adapter,
        began: began.to_string(),
        seconds: u64::try_from(took).unwrap_or(0),
        result,
    });
    (inner.now, inner.stopper) = (None, None);
}

/// Verifies, has the trainer merge, and attests what it wrote.
async fn walk(app: &App, plan: Plan, stop: &mut Stop) -> Result<(String, MergeOutcome), String> {
    app.logs.say(&format!("merge: {} begins", plan.id));
    let base = stop.unless(models::verify(app, plan.role)).await?;
    let base = base.map_err(|hold| match hold {
        Hold::NotYet(why) | Hold::Refused(why) | Hold::Failed(why) => format!("verify the base: {why}"),
    })?;
    let base = base.verified;
    if base.attestation.sha256 != plan.base {
        return Err("merge: the base was replaced in between".to_owned());
    }
    let (name, of_base, sha256) = (plan.adapter.clone(), plan.base, plan.sha256);
    let verify = away(app, move |app| {
        let keyring = models::keyring(app).map_err(|e| e.to_string())?;
        let opened = store::open(&app.layout.adapters(), &name, &keyring, of_base, Some(sha256));
        let verified = opened.map_err(|why| format!("verify the adapter {name:?}: {why}"))?;
        hand_over(app, &verified.file);
        Ok(verified.file)
    });
    let adapter = stop.unless(verify).await??;
    let id = plan.id.clone();
    let output = away(app, move |app| folder(app).begin(&id)).await?;
    app.merges.progress(Merging::default(), false);
    let merge = Merge {
        base: base.file,
        adapter,
        output,
        sha256: [plan.base.to_string(), plan.sha256.to_string()],
    };
    let outcome = jobs::merge(app, merge, stop).await?;
    app.merges.at(MergeStage::Attesting);
    let expires = plan.expires.into_iter().chain(base.attestation.expires).min();
    let label = Label {
        id: plan.id.clone(),
        version: plan.version,
        // Of an id that was removed and made again, the later one counts more.
        sequence: u64::try_from(Timestamp::now().as_second()).unwrap_or(1).max(1),
        expires,
        memory: base.attestation.memory,
        base: base.attestation.size,
    };
    let written = outcome.clone();
    away(app, move |app| {
        let identity = lock(&app.identity).clone();
        let identity = identity.ok_or("sign the merged model: there is no device key yet")?;
        folder(app).put(&label, &written, &identity.device)
    })
    .await?;
    Ok((plan.id, outcome))
}

fn status(app: &Shared) -> Result<MergeStatus, String> {
    let identity = lock(&app.identity).clone();
    let models = match identity {
        Some(identity) => folder(app).list(&identity.device)?,
        None => Vec::new(),
    };
    let inner = lock(&app.merges.0);
    Ok(MergeStatus {
        now: inner.now.clone(),
        last: inner.last.clone(),
        models,
    })
}

/// The merge that runs.
#[must_use]
pub fn now(app: &Shared) -> Option<MergeNow> {
    lock(&app.merges.0).now.clone()
}

async fn show(app: &App) -> Reply {
    match away(app, status).await {
        Ok(status) => Reply::Merges(Box::new(status)),
        Err(why) => refused(&why),
    }
}

fn refused(why: &str) -> Reply {
    Reply::Error {
        message: format!("failed to {why}"),
    }
}

/// [`sarai_wire::control::Request::AdaptersMerge`].
pub async fn order(app: &App, name: Option<String>, id: Option<String>) -> Reply {
    match begin(app, name, id).await {
        Ok(()) => show(app).await,
        Err(why) => refused(&why),
    }
}

/// [`sarai_wire::control::Request::MergedList`].
pub async fn list(app: &App) -> Reply {
    show(app).await
}

/// [`sarai_wire::control::Request::MergedRemove`].
pub async fn remove(app: &App, id: String) -> Reply {
    match away(app, move |app| folder(app).remove(&id)).await {
        Ok(()) => show(app).await,
        Err(why) => refused(&why),
    }
}

/// Ends the merge that runs; the end of everything follows.
pub async fn end(app: &App) {
    if let Some(stopper) = &lock(&app.merges.0).stopper {
        stopper.stop("merge: the machine was shut down");
    }
    let until = Instant::now() + END;
    while app.merges.runs() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_model_and_reserve_is_said_with_the_counts() {
        let size = 100 << 20;
        let needed = size + MORE + RESERVE;
        assert_eq!(room(size, Some(needed)), Ok(()));
        assert_eq!(room(size, None), Ok(()));
        assert_eq!(
            room(size, Some(needed - 1)).unwrap_err(),
            "the disk has 164 MiB left, and 165 MiB are needed: 101 MiB for the model and 64 MiB in reserve"
        );
        assert!(room(u64::MAX - MORE, Some(1)).is_err());
    }
}
