//! What each engine has loaded, as it last said, and orders to it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::time::Duration;

use sarai_wire::adapter::{Adapter, AdapterAnswer, AdapterOrder};
use sarai_wire::control::ServiceState;

use crate::app::{App, Shared};
use crate::problems::lock;

/// Time an engine has to load an adapter and to try it. Below the admin's own patience.
const LOAD: Duration = Duration::from_secs(50);
/// Ends in a row before an engine serves, after which it is started without its adapter: one may have another cause.
const ENDS: u32 = 2;

/// Adapters in the engines.
#[derive(Default)]
pub struct Adapters {
    /// One change at a time.
    pub one: tokio::sync::Mutex<()>,
    engines: Mutex<BTreeMap<String, Engine>>,
}

#[derive(Default)]
struct Engine {
    /// What it said last, while it runs.
    told: Option<AdapterAnswer>,
    /// Digest of the one it was born with.
    born: Option<String>,
    /// How often it ended with that one before it served.
    ends: u32,
    /// Digest of one that it is not to be born with, until an admin wants it again.
    put_aside: Option<String>,
}

fn with<T>(app: &Shared, service: &str, work: impl FnOnce(&mut Engine) -> T) -> T {
    work(lock(&app.adapters.engines).entry(service.to_owned()).or_default())
}

fn topic(service: &str) -> String {
    format!("adapter of {service}")
}

/// An engine is about to be born with this one.
pub fn born(app: &Shared, service: &str, adapter: Option<&Adapter>) {
    with(app, service, |engine| {
        let digest = adapter.map(|adapter| adapter.digest.clone());
        if engine.born != digest {
            engine.ends = 0;
        }
        (engine.told, engine.born) = (None, digest);
    });
}

/// It said what it has loaded.
pub fn told(app: &Shared, service: &str, answer: &AdapterAnswer) {
    let refused = with(app, service, |engine| {
        engine.told = Some(answer.clone());
        let refused = answer.refused.as_ref().filter(|_| answer.seq == 0)?;
        engine.put_aside = engine.born.take();
        Some(refused.clone())
    });
    match refused {
        Some(why) => complain(app, service, &why),
        // It applies one, or it is meant to have none.
        None if answer.refused.is_none() && answer.in_use.is_some() => app.problems.clear(&topic(service)),
        None => {}
    }
}

/// It serves: whatever it was born with did not keep it from that.
pub fn serves(app: &Shared, service: &str) {
    with(app, service, |engine| {
        (engine.ends, engine.born) = (0, None);
    });
}

/// It is gone.
pub fn ended(app: &Shared, service: &str) {
    let given_up = with(app, service, |engine| {
        engine.told = None;
        engine.born.as_ref()?;
        engine.ends += 1;
        if engine.ends < ENDS {
            return None;
        }
        engine.ends = 0;
        engine.put_aside = engine.born.take();
        engine.put_aside.clone()
    });
    if let Some(digest) = given_up {
        let why =
            format!("load the adapter {digest:.12}…: its engine ended {ENDS} times while it was loaded");
        complain(app, service, &why);
    }
}

/// An engine goes on without its adapter; `why` fits after "failed to".
pub fn complain(app: &Shared, service: &str, why: &str) {
    let text = format!("{service} goes on without its adapter: failed to {why}");
    app.problems.set(&topic(service), text);
}

/// An admin changed what is in use: it is tried again.
pub fn forgive(app: &Shared, service: &str) {
    with(app, service, |engine| engine.put_aside = None);
    app.problems.clear(&topic(service));
}

/// Whether an engine is not to be born with this one.
pub fn is_put_aside(app: &Shared, service: &str, digest: &str) -> bool {
    with(app, service, |engine| engine.put_aside.as_deref() == Some(digest))
}

/// Whether an engine has it in memory.
pub fn keeps(app: &Shared, service: &str, digest: &str) -> bool {
    with(app, service, |engine| {
        let told = engine.told.as_ref();
        told.is_some_and(|told| told.loaded.iter().any(|loaded| loaded.adapter.digest == digest))
    })
}

/// What an engine applies.
pub fn in_use(app: &Shared, service: &str) -> Option<Adapter> {
    with(app, service, |engine| engine.told.as_ref()?.used().cloned())
}

/// Has an engine that serves do something; false where it does not serve.
///
/// # Errors
/// When it did not do it; fits after "failed to".
pub async fn order(
    app: &App,
    service: &str,
    order: AdapterOrder,
    file: Option<OwnedFd>,
) -> Result<bool, String> {
    if app.board.state_of(service) != Some(ServiceState::Ready) {
        return Ok(false);
    }
    let answer = app.orders.adapter(service, order, file, LOAD).await?;
    match answer.refused {
        Some(why) => Err(why),
        None => Ok(true),
    }
}
