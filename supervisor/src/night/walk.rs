//! The walk of one night: choose, train, measure, decide, put to use. Each step leaves something a later night can go
//! on from, or nothing.

use std::time::Duration;

use jiff::Timestamp;
use sarai_trust::{Digest, hash_file};
use sarai_wire::adapter::{Adapter, AdapterOrder, MAX_ADAPTER};
use sarai_wire::control::ServiceState;
use sarai_wire::night::{
    DataSetOrder, DataSetOutcome, Examples, GateFigures, MAX_DATA_SET, MeasureOrder, Measured, NightResult,
    NightStage, Sums,
};
use sarai_wire::training::Outcome;

use super::files::Files;
use super::jobs::{self, Training};
use super::state::{Ended, Unfinished, Watched};
use super::stop::Stop;
use super::watch::LEAST_ANSWERS;
use super::{Trigger, gate, remember};
use crate::adapters::store::{self, Label};
use crate::adapters::{self, engines};
use crate::app::{App, Shared};
use crate::models;
use crate::service::program::Hold;
use crate::service::{GATEWAY, PRIMARY};
use sarai_trust::manifest::Role;

/// How long the gateway and the primary may take to serve before a night gives up.
const SERVING: Duration = Duration::from_secs(180);
/// Longest wait for what is chosen.
const CHOICE: Duration = Duration::from_secs(1800);
/// Longest time a measurement may take, seconds.
const MEASURE_S: u32 = 3600;
/// Besides that, for the answer.
const MEASURE_SLACK: Duration = Duration::from_secs(60);
/// Nights that work on the same training before it is given up.
const MOST_NIGHTS: u32 = 3;
/// Free bytes of the disk below which nothing is begun.
pub(crate) const RESERVE: u64 = 64 * 1024 * 1024;

/// What a night works on.
struct Work {
    base: Digest,
    files: Files,
    unfinished: Unfinished,
}

/// Walks. What it did not get to is kept for another night, as far as it can be.
///
/// # Errors
/// Why it could not be done; fits after "failed to".
pub async fn walk(app: &App, trigger: Trigger, began: Timestamp, stop: &mut Stop) -> Result<Ended, String> {
    let files = Files::at(app.layout.training());
    let skipped = |reason: String| {
        Ok(Ended {
            result: NightResult::Skipped { reason },
            examples: None,
            figures: None,
        })
    };
    if let Some(free) = free(app)
        && free < RESERVE
    {
        return skipped(format!("the disk has {} MiB left", free >> 20));
    }
    let base = serving(app, stop).await?;
    let work = match goes_on(app, &files, base).await? {
        Some(work) => work,
        None => match choose(app, &files, base, began, stop).await? {
            Ok(work) => work,
            Err(reason) => return skipped(reason),
        },
    };
    let fingerprint = fingerprint(app, &work.unfinished);
    if trigger == Trigger::Clock
        && let Some((what, when)) = app.night.with(|state| state.rejected.clone())
        && what == fingerprint
    {
        return skipped(format!(
            "there is nothing new since the night of {when}, whose adapter was rejected"
        ));
    }
    let outcome = train(app, &work, stop).await?;
    app.night.at(NightStage::Measuring);
    let figures = measure(app, &work, &outcome, began, stop).await?;
    app.night.at(NightStage::Applying);
    let name = name(app, began);
    let decided = gate::decide(&app.config.training.margins, &figures);
    app.logs.say(&format!("night: {}", gate::shown(&figures)));
    let ended = |result| Ended {
        result,
        examples: Some(work.unfinished.examples),
        figures: Some(figures),
    };
    let adapter = name.clone();
    match decided {
        Ok(()) => {
            let ended = ended(NightResult::Applied { adapter });
            apply(app, &work, name.clone(), &outcome, began, ended.clone()).await?;
            app.logs
                .say(&format!("night: {name} is in use: {}", gate::shown(&figures)));
            Ok(ended)
        }
        Err(reason) => {
            drop_candidate(app, &outcome).await;
            let why = format!("{reason} ({})", gate::shown(&figures));
            adapters::reject(app, work.files.adapter()?, name, why).await?;
            let ended = ended(NightResult::Rejected { adapter, reason });
            let (began, decided) = (began.to_string(), ended.clone());
            remember(app, move |state| {
                state.rejected = Some((fingerprint, began));
                state.decide(decided);
            })
            .await?;
            Ok(ended)
        }
    }
}

/// Free bytes of the disk.
pub(crate) fn free(app: &Shared) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(&app.layout.data).ok()?;
    Some(found.blocks_available() as u64 * found.fragment_size() as u64)
}

/// What an adapter is made from and held to: the examples, the model, what was in use, how, and the gate.
fn fingerprint(app: &App, unfinished: &Unfinished) -> String {
    let Unfinished {
        base, data, before, ..
    } = unfinished;
    let how = serde_json::to_string(&app.config.training.how).unwrap_or_default();
    let margins = app.config.training.margins;
    Digest::of(format!("{base} {data} {before:?} {how} {margins:?}").as_bytes()).to_string()
}

/// The primary's model, once it and the gateway serve.
async fn serving(app: &App, stop: &mut Stop) -> Result<Digest, String> {
    let until = std::time::Instant::now() + SERVING;
    loop {
        let silent = [GATEWAY, PRIMARY]
            .into_iter()
            .find(|name| app.board.state_of(name) != Some(ServiceState::Ready));
        match (silent, adapters::primary_base(app)) {
            (None, Some(base)) => return Ok(base),
            (silent, _) if std::time::Instant::now() > until => {
                let who = silent.unwrap_or("a verified model");
                return Err(format!("begin: {who} is not there"));
            }
            _ => stop.unless(tokio::time::sleep(Duration::from_secs(1))).await?,
        }
    }
}

/// The training of an earlier night, where it can go on.
async fn goes_on(app: &App, files: &Files, base: Digest) -> Result<Option<Work>, String> {
    let Some(unfinished) = app.night.with(|state| state.unfinished.clone()) else {
        return Ok(None);
    };
    let before = engines::in_use(app, PRIMARY).map(|adapter| adapter.digest);
    let mut usable = unfinished.base == base.to_string()
        && unfinished.length == app.config.training.how.sequence_length
        && unfinished.before == before
        && unfinished.nights < MOST_NIGHTS
        && files.resumable();
    if usable {
        let (files, data) = (files.clone(), unfinished.data.clone());
        usable = away(move || Ok(files.chosen(MAX_DATA_SET).is_ok_and(|found| found == data))).await?;
    }
    if !usable {
        remember(app, |state| state.unfinished = None).await?;
        return Ok(None);
    }
    app.logs.say("night: goes on with the training of an earlier one");
    let files = files.clone();
    Ok(Some(Work {
        base,
        files,
        unfinished,
    }))
}

async fn away<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| format!("work on the night's files: {e}"))?
}

/// Has the gateway choose what is learnt. The inner error is why there is nothing to do.
async fn choose(
    app: &App,
    files: &Files,
    base: Digest,
    began: Timestamp,
    stop: &mut Stop,
) -> Result<Result<Work, String>, String> {
    app.night.at(NightStage::Choosing);
    let [data, gate] = {
        let files = files.clone();
        away(move || files.begin()).await?
    };
    let length = app.config.training.how.sequence_length;
    let order = DataSetOrder {
        since: app.night.with(|state| state.since.clone()),
        base: base.to_string(),
        length,
        choice: app.config.training.choice.clone(),
    };
    let chosen = stop
        .unless(
            app.orders
                .data_set(GATEWAY, order, vec![data.into(), gate.into()], CHOICE),
        )
        .await;
    let answer = given_up(app, chosen)??;
    let (at, examples) = match answer.outcome {
        DataSetOutcome::Made { at, examples, tally } => {
            app.logs
                .say(&format!("night: {}; {tally:.300}", chosen_of(&examples)));
            // What comes back is read as a time by nobody here, and goes back to who said it.
            let known = at.len() <= 64 && at.parse::<Timestamp>().is_ok();
            (if known { at } else { began.to_string() }, examples)
        }
        DataSetOutcome::Skipped { reason } => return Ok(Err(reason)),
        DataSetOutcome::Failed { reason } => return Err(reason),
    };
    let data = {
        let files = files.clone();
        away(move || files.chosen(MAX_DATA_SET)).await?
    };
    let before = engines::in_use(app, PRIMARY).map(|adapter| adapter.digest);
    let unfinished = Unfinished {
        base: base.to_string(),
        data,
        before,
        length,
        at,
        examples,
        nights: 0,
    };
    let kept = unfinished.clone();
    remember(app, move |state| state.unfinished = Some(kept)).await?;
    let files = files.clone();
    Ok(Ok(Work {
        base,
        files,
        unfinished,
    }))
}

/// What was chosen, for the log.
fn chosen_of(examples: &Examples) -> String {
    let Examples {
        train,
        held_out,
        replay,
        shortened,
        cut,
        long,
        refused,
    } = examples;
    format!(
        "{train} examples to learn, {held_out} held out, {replay} of earlier nights; {shortened} are shortened to a row, \
         {cut} of them with their answer, {long} left out as too long, {refused} refused by the model's template"
    )
}

/// What came of work for which the gateway was asked; where the night is to end, the gateway gives it up.
fn given_up<T>(app: &App, outcome: Result<T, String>) -> Result<T, String> {
    if outcome.is_err() {
        app.orders.wake(GATEWAY);
    }
    outcome
}

/// Trains, and holds what comes out to what the trainer says of it.
async fn train(app: &App, work: &Work, stop: &mut Stop) -> Result<Outcome, String> {
    app.night.at(NightStage::Training {
        progress: None,
        paused: false,
    });
    remember(app, |state| {
        if let Some(unfinished) = &mut state.unfinished {
            unfinished.nights += 1;
        }
    })
    .await?;
    let model = stop.unless(models::verify(app, Role::Primary)).await?;
    let model = model.map_err(|hold| match hold {
        Hold::NotYet(why) | Hold::Refused(why) | Hold::Failed(why) => format!("verify the base: {why}"),
    })?;
    if model.verified.attestation.sha256 != work.base {
        return Err("train: the primary's model was replaced in between".to_owned());
    }
    let (output, checkpoints) = {
        let files = work.files.clone();
        away(move || files.train()).await?
    };
    // What earlier nights taught is where this one begins; replay alone would not bring it back.
    let initial = adapters::for_birth(app, PRIMARY, work.base).await;
    let training = Training {
        base: model.verified.file,
        sha256: work.base.to_string(),
        data: work.files.data()?,
        output,
        checkpoints,
        initial: initial.map(|(adapter, file)| (adapter.digest, file)),
        config: app.config.training.how.clone(),
    };
    let outcome = jobs::train(app, training, stop).await?;
    let files = work.files.clone();
    let hashes = away(move || {
        let adapter = files.adapter()?;
        hash_file(&adapter, &mut |_, _| {}).map_err(|e| format!("read the adapter: {e}"))
    })
    .await?;
    if hashes.size == 0 || hashes.size > MAX_ADAPTER {
        return Err(format!(
            "use the adapter: it has {} bytes, must have 1 to {MAX_ADAPTER}",
            hashes.size
        ));
    }
    if hashes.sha256.to_string() != outcome.sha256 {
        return Err("use the adapter: it is not what the trainer says it wrote".to_owned());
    }
    app.logs.say(&format!(
        "night: trained {} of {} steps in {:.0} s at {:.0} tokens a second",
        outcome.step, outcome.steps, outcome.seconds, outcome.tokens_per_second
    ));
    Ok(outcome)
}

/// Measures what is in use and the new adapter, which the engine loads for that.
async fn measure(
    app: &App,
    work: &Work,
    outcome: &Outcome,
    began: Timestamp,
    stop: &mut Stop,
) -> Result<GateFigures, String> {
    let candidate = Adapter {
        digest: outcome.sha256.clone(),
        version: version(began),
    };
    let load = AdapterOrder::Load { adapter: candidate };
    {
        // Who changes adapters has finished before, or sees that one is measured.
        let _one = app.adapters.one.lock().await;
        if !engines::order(app, PRIMARY, load, Some(work.files.adapter()?.into())).await? {
            return Err(format!("measure: {PRIMARY} does not serve"));
        }
    }
    let both = async {
        let before = measured(app, work, work.unfinished.before.clone(), stop).await?;
        let after = measured(app, work, Some(outcome.sha256.clone()), stop).await?;
        Ok(GateFigures { before, after })
    }
    .await;
    if both.is_err() {
        drop_candidate(app, outcome).await;
    }
    both
}

/// Has the engine forget an adapter that is not to be used. One that cannot be dropped goes when another is loaded.
async fn drop_candidate(app: &App, outcome: &Outcome) {
    let digest = outcome.sha256.clone();
    let _ = engines::order(app, PRIMARY, AdapterOrder::Drop { digest }, None).await;
}

async fn measured(
    app: &App,
    work: &Work,
    adapter: Option<String>,
    stop: &mut Stop,
) -> Result<Measured, String> {
    let order = MeasureOrder {
        base: work.base.to_string(),
        adapter,
        within_s: MEASURE_S,
    };
    let limit = Duration::from_secs(MEASURE_S.into()) + MEASURE_SLACK;
    let examples = work.files.gate()?.into();
    let answer = stop
        .unless(app.orders.measure(GATEWAY, order, examples, limit))
        .await;
    given_up(app, answer)??.outcome
}

/// Signs, stores and puts to use, and begins to watch.
async fn apply(
    app: &App,
    work: &Work,
    name: String,
    outcome: &Outcome,
    began: Timestamp,
    ended: Ended,
) -> Result<(), String> {
    let sequence = app.night.with(|state| state.sequence) + 1;
    let label = Label {
        name: name.clone(),
        version: version(began),
        sequence,
        base: work.base,
    };
    remember(app, move |state| state.sequence = sequence).await?;
    adapters::accept(app, work.files.adapter()?, label).await?;
    adapters::put_to_use(app, &name).await?;
    let watched = Watched {
        name: name.clone(),
        sha256: outcome.sha256.clone(),
        from: Timestamp::now().as_second(),
        began: began.to_string(),
        before: Sums::default(),
        after: Sums::default(),
        looked: Sums::default(),
    };
    let (at, predecessor) = (work.unfinished.at.clone(), work.unfinished.before.clone());
    let today = app.config.zone.to_datetime(Timestamp::now()).date();
    remember(app, move |state| {
        let before = state.lately(today, predecessor.as_deref(), LEAST_ANSWERS);
        state.since = Some(at);
        state.rejected = None;
        state.watched = Some(Watched { before, ..watched });
        state.decide(ended);
    })
    .await?;
    app.problems.clear(super::TAKEN_BACK);
    Ok(())
}

/// Its adapter's version: what is measured is already called what it will be.
fn version(began: Timestamp) -> String {
    began.strftime("%Y.%m.%d-%H%M%S").to_string()
}

/// A name that nothing in the store has.
fn name(app: &App, began: Timestamp) -> String {
    let local = app.config.zone.to_datetime(began);
    let name = local.strftime("night-%Y%m%d-%H%M%S").to_string();
    let taken = |name: &str| {
        store::list(&app.layout.adapters()).is_ok_and(|all| all.iter().any(|found| found.name == name))
    };
    if !taken(&name) {
        return name;
    }
    let others = (2..1000).map(|n| format!("{name}-{n}"));
    others.into_iter().find(|name| !taken(name)).unwrap_or(name)
}
