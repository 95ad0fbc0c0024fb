//! LoRA adapters: verified like models, handed to the engines of their base, put to use and taken back without anybody
//! waiting. Nothing here reads what is in one.
//!
//! | module | duty |
//! | --- | --- |
//! | [`store`] | the files: listed, verified, kept, removed |
//! | [`state`] | which one is in use, which was before, which were rejected |
//! | [`engines`] | what each engine has loaded, and orders to them |
//! | [`merge`] | one made part of its base, to be taken away |

pub mod engines;
pub mod merge;
pub mod state;
pub mod store;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Instant;

use sarai_trust::Digest;
use sarai_trust::manifest::Role;
use sarai_wire::adapter::{Adapter, AdapterChange, AdapterOrder, AdapterStatus, Standing};

use crate::app::{App, Shared};
use crate::models;
use crate::problems::lock;
use crate::service::{FALLBACK, PRIMARY};
use state::{Named, State};

/// Topic of the problem with what is remembered.
const TOPIC: &str = "adapters";

fn state_file(app: &Shared) -> std::path::PathBuf {
    app.layout.state().join("adapters.toml")
}

/// Each engine that has a verified model, and that model.
fn bases(app: &Shared) -> Vec<(&'static str, Digest)> {
    let models = lock(&app.models);
    [(PRIMARY, Role::Primary), (FALLBACK, Role::Fallback)]
        .into_iter()
        .filter_map(|(service, role)| {
            let model = models.iter().find(|model| model.role == role.as_str())?;
            Some((service, model.digest.as_ref()?.parse().ok()?))
        })
        .collect()
}

/// The primary's verified model.
#[must_use]
pub fn primary_base(app: &Shared) -> Option<Digest> {
    let found = bases(app).into_iter().find(|(name, _)| *name == PRIMARY);
    found.map(|(_, base)| base)
}

/// The model of the engine that an admin calls `primary` or `fallback`.
fn base_of(app: &Shared, engine: &str) -> Result<Digest, String> {
    let service = match engine {
        "primary" | PRIMARY => PRIMARY,
        "fallback" | FALLBACK => FALLBACK,
        _ => return Err("find the engine: there are primary and fallback".to_owned()),
    };
    let found = bases(app).into_iter().find(|(name, _)| *name == service);
    found
        .map(|(_, base)| base)
        .ok_or_else(|| format!("find the model of {service}: none is verified"))
}

fn services(app: &Shared, base: Digest) -> Vec<&'static str> {
    let all = bases(app).into_iter();
    all.filter(|(_, own)| *own == base)
        .map(|(name, _)| name)
        .collect()
}

/// A verified adapter, a descriptor for each engine that is to have it.
struct Opened {
    which: Adapter,
    base: Digest,
    files: Vec<(&'static str, OwnedFd)>,
}

/// Verifies an adapter once for each engine of its base: each gets a descriptor that nobody else reads from.
fn open(app: &Shared, name: &str) -> Result<Opened, String> {
    if !store::is_name(name) {
        return Err(format!("use the adapter {name:?}: that is no name of one"));
    }
    if let Some(figures) = State::load(&state_file(app))?.rejection(name) {
        return Err(format!("use the adapter {name:?}: it was rejected: {figures}"));
    }
    let refused = |why: String| format!("use the adapter {name:?}: {why}");
    let keyring = models::keyring(app).map_err(|e| e.to_string())?;
    let folder = app.layout.adapters();
    let checked = store::attested(&folder, name, &keyring)
        .map_err(|e| refused(format!("{}: failed to {e}", e.name())))?;
    let own = bases(app);
    // One of a base that nobody runs is refused by the base that somebody does.
    let base = checked
        .attestation
        .base
        .filter(|base| own.iter().any(|(_, own)| own == base));
    let Some(base) = base.or_else(|| own.first().map(|(_, base)| *base)) else {
        return Err(refused("no engine has a verified model".to_owned()));
    };
    let mut which = None;
    let mut files = Vec::new();
    for service in services(app, base) {
        let verified = store::open(&folder, name, &keyring, base, None).map_err(refused)?;
        hand_over(app, &verified.file);
        which = Some(Adapter {
            digest: verified.attestation.sha256.to_string(),
            version: verified.attestation.version,
        });
        files.push((service, verified.file.into()));
    }
    let which = which.ok_or_else(|| refused("no engine runs its base".to_owned()))?;
    Ok(Opened { which, base, files })
}

/// Runs what reads and writes files away from the main loop.
async fn away<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Shared) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let worker = App::clone(app);
    let done = tokio::task::spawn_blocking(move || work(&worker)).await;
    done.map_err(|e| format!("work on the adapters: {e}"))?
}

/// Changes what is remembered, and keeps the store within its bounds.
fn change(app: &Shared, work: impl FnOnce(&mut State)) -> Result<(), String> {
    let path = state_file(app);
    let mut state = State::load(&path)?;
    work(&mut state);
    state.save(&path)?;
    app.problems.clear(TOPIC);
    tidy(app, &mut state);
    Ok(())
}

fn tidy(app: &Shared, state: &mut State) {
    let needed: Vec<&str> = state.needed().collect();
    let pruned = store::prune(
        &app.layout.adapters(),
        |name| needed.contains(&name),
        |name| state.rejection(name).is_some(),
    );
    match pruned {
        Ok(removed) => {
            for name in &removed {
                app.logs.say(&format!(
                    "adapters: {name} was removed: {} newer ones are kept",
                    store::KEPT
                ));
            }
            if state.forget_rejected(|name| !removed.iter().any(|gone| gone == name)) {
                // What was forgotten in vain is forgotten next time.
                let _ = state.save(&state_file(app));
            }
        }
        Err(e) => app
            .problems
            .set(TOPIC, format!("old adapters are not removed: failed to {e}")),
    }
}

/// Puts an adapter to use in every engine of its base.
///
/// # Errors
/// Why not, as while a night measures one; everything is as before. Fits after "failed to".
pub async fn put_to_use(app: &App, name: &str) -> Result<AdapterChange, String> {
    let begun = Instant::now();
    let _one = app.adapters.one.lock().await;
    let wanted = name.to_owned();
    let opened = away(app, move |app| open(app, &wanted)).await?;
    let Opened { which, base, files } = opened;
    undisturbed(app, base)?;
    for (service, file) in files {
        let load = AdapterOrder::Load {
            adapter: which.clone(),
        };
        engines::order(app, service, load, Some(file)).await?;
    }
    let named = Named {
        name: name.to_owned(),
        sha256: which.digest,
    };
    finish(app, base, Some(named), begun, State::put_to_use).await
}

/// Goes back to what was in use before over this engine's model.
///
/// # Errors
/// As [`put_to_use`].
pub async fn roll_back(app: &App, engine: &str) -> Result<AdapterChange, String> {
    let begun = Instant::now();
    let _one = app.adapters.one.lock().await;
    let base = base_of(app, engine)?;
    undisturbed(app, base)?;
    let previous = away(app, move |app| {
        let state = State::load(&state_file(app))?;
        let previous = state.previous(&base.to_string()).map(Option::<&Named>::cloned);
        previous.ok_or_else(|| "go back: nothing was in use before".to_owned())
    })
    .await?;
    if let Some(named) = previous.clone() {
        make_ready(app, base, named).await?;
    }
    let back = |state: &mut State, base: &str, _: Option<Named>| state.roll_back(base);
    finish(app, base, previous, begun, back).await
}

/// Uses no adapter over this engine's model.
///
/// # Errors
/// As [`put_to_use`].
pub async fn use_none(app: &App, engine: &str) -> Result<AdapterChange, String> {
    let begun = Instant::now();
    let _one = app.adapters.one.lock().await;
    let base = base_of(app, engine)?;
    undisturbed(app, base)?;
    finish(app, base, None, begun, State::put_to_use).await
}

/// Whether nothing over this model is being measured: what an engine keeps besides what is in use is the adapter of the
/// night, which another one would push out. Asked while [`engines::Adapters::one`] is held, as the night holds it when
/// its adapter is loaded.
fn undisturbed(app: &Shared, base: Digest) -> Result<(), String> {
    if app.night.measures() && primary_base(app) == Some(base) {
        return Err(
            "change the adapter: the night is measuring one; try again when it has ended (sarai training status)"
                .to_owned(),
        );
    }
    Ok(())
}

/// Has every engine of the base load an adapter that it does not keep.
async fn make_ready(app: &App, base: Digest, named: Named) -> Result<(), String> {
    for service in services(app, base) {
        if engines::keeps(app, service, &named.sha256) {
            continue;
        }
        let (which, file) = {
            let named = named.clone();
            away(app, move |app| verified(app, base, &named)).await?
        };
        let load = AdapterOrder::Load { adapter: which };
        engines::order(app, service, load, Some(file)).await?;
    }
    Ok(())
}

/// Remembers what is in use from now on, and then has the engines apply it: one that ends in between is born with it.
async fn finish(
    app: &App,
    base: Digest,
    named: Option<Named>,
    begun: Instant,
    how: impl FnOnce(&mut State, &str, Option<Named>) + Send + 'static,
) -> Result<AdapterChange, String> {
    let digest = named.as_ref().map(|named| named.sha256.clone());
    let in_use = named.as_ref().map(|named| named.name.clone());
    away(app, move |app| {
        change(app, |state| how(state, &base.to_string(), named))
    })
    .await?;
    let mut done = Vec::new();
    for service in services(app, base) {
        engines::forgive(app, service);
        let order = AdapterOrder::Use {
            digest: digest.clone(),
        };
        match engines::order(app, service, order, None).await {
            Ok(true) => done.push(service.to_owned()),
            // It does not run now, and is born with it.
            Ok(false) => {}
            Err(why) => app.logs.say(&format!("adapters: failed to {why}")),
        }
    }
    let name = in_use.as_deref().unwrap_or("none");
    app.logs.say(&format!(
        "adapters: in use over {:.12}…: {name}",
        base.to_string()
    ));
    Ok(AdapterChange {
        in_use,
        engines: done,
        took_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// What hashing brought into memory is billed to whoever reads it next.
fn hand_over(app: &Shared, file: &File) {
    if app.tree.is_some() {
        models::hand_over(file);
    }
}

/// Verifies one that is remembered.
fn verified(app: &Shared, base: Digest, named: &Named) -> Result<(Adapter, OwnedFd), String> {
    let refused = |why: String| format!("use the adapter {:?}: {why}", named.name);
    let keyring = models::keyring(app).map_err(|e| refused(e.to_string()))?;
    let sha256 = named.sha256.parse().ok();
    let verified =
        store::open(&app.layout.adapters(), &named.name, &keyring, base, sha256).map_err(refused)?;
    hand_over(app, &verified.file);
    let which = Adapter {
        digest: verified.attestation.sha256.to_string(),
        version: verified.attestation.version,
    };
    Ok((which, verified.file.into()))
}

/// What an engine of this model is to be born with. What cannot be used is a problem that status shows, and the engine
/// is born without.
pub async fn for_birth(app: &App, service: &'static str, base: Digest) -> Option<(Adapter, OwnedFd)> {
    let found = away(app, move |app| {
        let state = State::load(&state_file(app))?;
        let Some(named) = state.in_use(&base.to_string()) else {
            return Ok(None);
        };
        if engines::is_put_aside(app, service, &named.sha256) {
            return Ok(None);
        }
        verified(app, base, named).map(Some)
    })
    .await;
    match found {
        Ok(found) => found,
        Err(why) => {
            engines::complain(app, service, &why);
            None
        }
    }
}

/// Makes an engine that serves apply what is remembered: it may have been prepared before that was changed.
pub async fn reconcile(app: App, service: &'static str) {
    let _one = app.adapters.one.lock().await;
    let Some((_, base)) = bases(&app).into_iter().find(|(name, _)| *name == service) else {
        return;
    };
    let wanted = away(&app, move |app| {
        Ok(State::load(&state_file(app))?.in_use(&base.to_string()).cloned())
    });
    let Ok(wanted) = wanted.await else { return };
    let digest = wanted.as_ref().map(|named| named.sha256.clone());
    let put_aside = digest
        .as_ref()
        .is_some_and(|digest| engines::is_put_aside(&app, service, digest));
    if put_aside || engines::in_use(&app, service).map(|used| used.digest) == digest {
        return;
    }
    if let Some(named) = wanted
        && let Err(why) = make_ready(&app, base, named).await
    {
        return engines::complain(&app, service, &why);
    }
    if let Err(why) = engines::order(&app, service, AdapterOrder::Use { digest }, None).await {
        engines::complain(&app, service, &why);
    }
}

/// Every adapter of the store, the newest first.
///
/// # Errors
/// When the store or what is remembered cannot be read; fits after "failed to".
pub fn list(app: &Shared) -> Result<Vec<AdapterStatus>, String> {
    let state = State::load(&state_file(app))?;
    let keyring = models::keyring(app).map_err(|e| e.to_string())?;
    let folder = app.layout.adapters();
    let all = store::list(&folder)?.into_iter().map(|found| {
        let mut shown = AdapterStatus {
            name: found.name.clone(),
            standing: Standing::Archived,
            size: found.size,
            version: None,
            digest: None,
            base: None,
            signer: None,
            engines: Vec::new(),
            note: None,
        };
        match store::attested(&folder, &found.name, &keyring) {
            Ok(checked) => {
                let attestation = checked.attestation;
                if let Some(base) = attestation.base {
                    let own = services(app, base).into_iter();
                    shown.engines = own.map(str::to_owned).collect();
                    let base = base.to_string();
                    let is = |named: Option<&Named>| named.is_some_and(|named| named.name == found.name);
                    if is(state.in_use(&base)) {
                        shown.standing = Standing::InUse;
                    } else if is(state.previous(&base).flatten()) {
                        shown.standing = Standing::Previous;
                    }
                    shown.base = Some(base);
                }
                shown.version = Some(attestation.version);
                shown.digest = Some(attestation.sha256.to_string());
                shown.signer = Some(checked.signer);
            }
            Err(e) => {
                shown.standing = Standing::Refused;
                shown.note = Some(format!("{}: failed to {e}", e.name()));
            }
        }
        if let Some(figures) = state.rejection(&found.name) {
            shown.standing = Standing::Rejected;
            shown.note = Some(figures.to_owned());
        }
        shown
    });
    Ok(all.collect())
}

/// Keeps an adapter that was made here and accepted, signed with the device key; not yet in use.
///
/// # Errors
/// When it cannot be signed or written; fits after "failed to".
pub async fn accept(app: &App, content: File, label: store::Label) -> Result<(), String> {
    let _one = app.adapters.one.lock().await;
    away(app, move |app| {
        let identity = lock(&app.identity).clone();
        let identity = identity.ok_or("sign the adapter: there is no device key yet")?;
        store::add(&app.layout.adapters(), &content, &label, &identity.device)?;
        change(app, |_| {})
    })
    .await
}

/// Keeps an adapter that was made here and measured too bad, with the figures that say so.
///
/// # Errors
/// When it cannot be written; fits after "failed to".
pub async fn reject(app: &App, content: File, name: String, figures: String) -> Result<(), String> {
    let _one = app.adapters.one.lock().await;
    away(app, move |app| {
        // Remembered first: whatever a power cut leaves of the file is not loaded.
        change(app, |state| state.reject(&name, &figures))?;
        store::add_unsigned(&app.layout.adapters(), &content, &name)?;
        change(app, |_| {})
    })
    .await
}
