//! What people wait for their first token while a night trains on the same two CPUs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::{self, Client};
use sarai_tests::measure::figures::{Figure, Figures, Promise};
use sarai_tests::measure::{median, quantile};
use sarai_tests::model::{self, Artifact};
use sarai_tests::tree;
use sarai_wire::night::{NightStage, TrainingStatus};
use serde_json::json;

/// Requests with and without a training.
const REQUESTS: usize = 60;
/// Time between two: longer than a trainer that gave way waits before it goes on, so that each request meets one that
/// computes.
const BETWEEN: Duration = Duration::from_millis(4_000);
/// Most of what p99 may become.
const RATIO: f64 = 1.5;
/// Longest until a night is at its first step.
const NIGHT: Duration = Duration::from_secs(600);
/// A training that lasts as long as it is looked at.
const TRAINING: &str = "[training]\nepochs = 1000\npatience = 0\n";

/// Measures and adds the figures.
pub fn measure(figures: &mut Figures, model: &Path) -> Result<()> {
    let primary = Artifact::new("primary", "measured", model, 2048)?;
    let a = Appliance::start_with(&[primary, model::tiny("fallback")?], TRAINING)?;
    let clients: Result<Vec<Client>> = (0..4).map(|n| keyed(&a, &format!("client-{n}"))).collect();
    let clients = clients?;
    for (who, client) in clients.iter().enumerate() {
        (0..12).try_for_each(|n| teach(client, who, n))?;
    }
    let client = &clients[0];
    eprintln!("latency: {REQUESTS} requests without a training");
    let without = first_tokens(client, || Ok(()))?;
    a.sarai_ok(&["training", "run"])?;
    tree::wait_for("the training to begin", NIGHT, || {
        ensure!(trained(&a)?.is_some_and(|step| step > 0), "it trains not yet");
        Ok(())
    })?;
    let begun = trained(&a)?;
    eprintln!("latency: {REQUESTS} requests beside one");
    let with = first_tokens(client, || {
        trained(&a)?.map(drop).context("the training is over already")
    })?;
    let ended = trained(&a)?;
    ensure!(
        ended > begun,
        "the trainer did not get on: step {begun:?}, then {ended:?}"
    );
    a.sarai_ok(&["training", "off"])?;
    figures.say(format!(
        "latency: {}, first token of {REQUESTS} requests of some 60 tokens each, {:.0} s between two; the trainer made {} \
         steps meanwhile",
        model.file_name().unwrap_or_default().to_string_lossy(),
        BETWEEN.as_secs_f64(),
        ended.unwrap_or_default() - begun.unwrap_or_default(),
    ));
    let p99 = |seconds: &[f64]| quantile(seconds, 0.99);
    figures.push(
        Figure::new(
            "first token, p99, with ÷ without a training",
            p99(&with) / p99(&without),
            "×",
        )
        .promised(Promise::AtMost(RATIO))
        .noted(format!(
            "{:.0} and {:.0} ms",
            1e3 * p99(&with),
            1e3 * p99(&without)
        )),
    );
    figures.push(
        Figure::new(
            "first token, median, the same",
            median(&with) / median(&without),
            "×",
        )
        .noted(format!(
            "{:.0} and {:.0} ms",
            1e3 * median(&with),
            1e3 * median(&without)
        )),
    );
    Ok(())
}

/// A client with a key of its own.
fn keyed(a: &Appliance, name: &str) -> Result<Client> {
    let client = a.client()?.with_key(Some(&a.add_key(name)?));
    tree::wait_for("the key", READY, || client.get("/v1/models")?.ok().map(|_| ()))?;
    Ok(client)
}

fn teach(client: &Client, who: usize, n: usize) -> Result<()> {
    let answer = client.chat(&json!({
        "model": "sarai",
        "messages": [{"role": "user", "content": format!("Which colour has door {n} of house {who}?")}],
        "max_tokens": 1,
        "reasoning_effort": "none",
    }))?;
    let judgment = json!({
        "completion_id": answer.ok()?["id"],
        "score": 0.1,
        "correction": "It is painted in bright red.",
    });
    client.post("/v1/feedback", &judgment)?.ok()?;
    Ok(())
}

/// The step a training is at, if there is one.
fn trained(a: &Appliance) -> Result<Option<u64>> {
    let status: TrainingStatus = serde_json::from_str(&a.sarai_ok(&["training", "status", "--json"])?)?;
    Ok(match status.now {
        NightStage::Training { progress, .. } => Some(progress.map_or(0, |progress| progress.step)),
        _ => None,
    })
}

/// Seconds to the first token, request by request; `look` is asked before each.
fn first_tokens(client: &Client, look: impl Fn() -> Result<()>) -> Result<Vec<f64>> {
    (0..REQUESTS)
        .map(|n| {
            std::thread::sleep(BETWEEN);
            look()?;
            // None begins like another: nothing of it is in the cache.
            let question = format!(
                "{n} people want to know how a kettle, a lamp and a radio work, and which of the three needs the most power \
                 over a whole year. Tell them in a few plain words, and say what you assume."
            );
            let request = json!({
                "model": "sarai",
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 4,
                "reasoning_effort": "none",
            });
            let asked = Instant::now();
            let mut events = client.stream(&request)?.events()?;
            loop {
                let event = events.next_event()?.context("the stream ended before the first token")?;
                if !client::content(&[event]).is_empty() {
                    break;
                }
            }
            let seconds = asked.elapsed().as_secs_f64();
            events.rest()?;
            Ok(seconds)
        })
        .collect()
}
