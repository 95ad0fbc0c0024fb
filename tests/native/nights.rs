//! Nights that teach, as a whole: real feedback over HTTPS from several keys, the real gateway choosing, the real trainer
//! in its sandbox, the real engine measured, and an adapter put to use, or not, with a reason.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::Client;
use sarai_tests::{process, tree};
use sarai_wire::adapter::{AdapterStatus, Standing};
use sarai_wire::control::{ServiceState, Status};
use sarai_wire::night::{Night, NightResult, NightStage, TrainingStatus};
use serde_json::{Value, json};

use crate::common::{omni_loop, pair, primary_answers, short};
use crate::disk::{Small, fill};

/// Longest any night of these tests may take on a slow machine.
const NIGHT: Duration = Duration::from_secs(300);
/// A training that ends soon, and a gate that lets through what gains anything at all: a made-up model answers no
/// question right, and its general loss moves with anything it learns.
pub const SHORT: &str = "[training]\nrank = 4\nepochs = 6\nleast_steps = 0\nlearning_rate = 0.01\nsequence_length = 256\npatience = 0\n\
                     [training.gate]\ngain = 0.0\ngeneral = 1.0\nwrong = 1000\n";
/// A training that lasts until somebody ends it, and keeps every step.
const LONG: &str =
    "[training]\nrank = 4\nepochs = 1000\nsequence_length = 64\npatience = 0\ncheckpoint_seconds = 0\n";

pub fn status(a: &Appliance) -> Result<TrainingStatus> {
    Ok(serde_json::from_str(
        &a.sarai_ok(&["training", "status", "--json"])?,
    )?)
}

/// The newest night.
pub fn last(a: &Appliance) -> Result<Night> {
    status(a)?.nights.into_iter().next().context("no night")
}

pub fn adapters(a: &Appliance) -> Result<Vec<AdapterStatus>> {
    Ok(serde_json::from_str(
        &a.sarai_ok(&["adapters", "list", "--json"])?,
    )?)
}

/// Starts it, and waits until every service is ready.
pub fn started_again(a: &mut Appliance) -> Status {
    a.start().unwrap();
    a.wait_status("every service to be ready", READY, |status| {
        status.ready && status.services.iter().all(|s| s.state == ServiceState::Ready)
    })
    .unwrap()
}

/// Runs a night to its end, and gives what it says besides.
pub fn run(a: &Appliance) -> Result<(Night, String)> {
    let output = a.sarai(&["training", "run", "--wait"])?;
    let night = last(a)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{}", said.trim());
    let failed = matches!(night.result, NightResult::Failed { .. });
    ensure!(
        output.status.success() != failed,
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok((night, said))
}

/// Waits until the night that runs is here.
pub fn wait_stage(a: &Appliance, what: &str, wanted: impl Fn(&NightStage) -> bool) {
    tree::wait_for(what, NIGHT, || {
        let status = status(a)?;
        ensure!(
            wanted(&status.now),
            "it is at {:?}, before that {:?}",
            status.now,
            status.nights.first()
        );
        Ok(())
    })
    .unwrap();
}

fn trains(stage: &NightStage, least: u64) -> bool {
    matches!(stage, NightStage::Training { progress: Some(progress), .. } if progress.step >= least)
}

/// A client with a key of its own.
fn client(a: &Appliance, name: &str) -> Result<Client> {
    let client = a.client()?.with_key(Some(&a.add_key(name)?));
    tree::wait_for("the key", READY, || client.get("/v1/models")?.ok().map(|_| ()))?;
    Ok(client)
}

/// Each of `clients` asks `count` questions of its own, and corrects each answer.
pub fn teach(clients: &[Client], round: usize, count: usize) -> Result<()> {
    judge(
        clients,
        round,
        count,
        &|id| json!({"completion_id": id, "score": 0.1, "correction": "It is painted in bright red."}),
    )
    .map(drop)
}

/// Each of `clients` asks `count` questions of its own, and judges each answer by its id. The ids of each.
pub fn judge(
    clients: &[Client],
    round: usize,
    count: usize,
    judgment: &dyn Fn(&str) -> Value,
) -> Result<Vec<Vec<String>>> {
    let mut ids = vec![Vec::new(); clients.len()];
    for (who, client) in clients.iter().enumerate() {
        for n in 0..count {
            let question = format!("{round}: which colour has door {n} of house {who}?");
            let request = json!({
                "model": "sarai",
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 4,
                "reasoning_effort": "none",
            });
            let answer = client.chat(&request)?.ok()?;
            let id = answer["id"].as_str().context("an id")?;
            client.post("/v1/feedback", &judgment(id))?.ok()?;
            ids[who].push(id.to_owned());
        }
    }
    Ok(ids)
}

/// An appliance that was taught by four clients.
fn taught(settings: &str) -> Result<(Appliance, Vec<Client>)> {
    let a = Appliance::start_with(&pair()?, settings)?;
    let clients = teachers(&a)?;
    Ok((a, clients))
}

/// Four clients that have taught.
fn teachers(a: &Appliance) -> Result<Vec<Client>> {
    let clients = four(a)?;
    teach(&clients, 0, 12)?;
    Ok(clients)
}

/// Four clients.
pub fn four(a: &Appliance) -> Result<Vec<Client>> {
    (0..4).map(|n| client(a, &format!("client-{n}"))).collect()
}

pub fn left(a: &Appliance) -> Vec<String> {
    fs::read_dir(a.path("data/training"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

pub fn adapter_of(answer: &Value) -> Result<Option<String>> {
    Ok(omni_loop(answer)?["adapter"]["version"]
        .as_str()
        .map(str::to_owned))
}

#[test]
fn a_night_learns_from_feedback_and_its_adapter_is_put_to_use_or_rejected_or_skipped_with_a_reason() {
    let _alone = tree::alone();
    // Nobody said anything: there is nothing to learn.
    let a = Appliance::start_with(&pair().unwrap(), SHORT).unwrap();
    let (night, said) = run(&a).unwrap();
    assert!(matches!(&night.result, NightResult::Skipped { .. }), "{night:?}");
    assert!(
        said.contains("skipped after") && said.contains("examples"),
        "{said}"
    );
    drop(a);

    let (mut a, clients) = taught(SHORT).unwrap();
    let before = clients[0].chat(&short()).unwrap().ok().unwrap();
    assert_eq!(adapter_of(&before).unwrap(), None);
    // While the new adapter is measured, nobody takes its place.
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "the measurement", |stage| *stage == NightStage::Measuring);
    let refused = a.sarai(&["adapters", "none", "primary"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("the night is measuring one"),
        "{said}"
    );
    wait_stage(&a, "the night to end", |stage| *stage == NightStage::Idle);
    let night = last(&a).unwrap();
    let NightResult::Applied { adapter } = &night.result else {
        panic!("{night:?}");
    };
    assert!(
        night
            .examples
            .is_some_and(|examples| examples.train > 0 && examples.held_out > 0),
        "{night:?}"
    );
    let figures = night.figures.unwrap();
    let (was, is) = (
        figures.before.held_out.mean().unwrap(),
        figures.after.held_out.mean().unwrap(),
    );
    assert!(is < was, "held-out loss {was} to {is}");
    // Signed by this machine, bound to its base, and what answers come from.
    let stored = adapters(&a).unwrap();
    let stored = stored.iter().find(|stored| stored.name == *adapter).unwrap();
    assert_eq!(stored.standing, Standing::InUse);
    assert!(stored.signer.is_some() && stored.base == a.status().unwrap().models[0].digest);
    let after = clients[0].chat(&short()).unwrap().ok().unwrap();
    assert_eq!(adapter_of(&after).unwrap(), stored.version);
    // Nothing that was said is left lying about.
    assert_eq!(left(&a), Vec::<String>::new());
    // Nothing new since.
    let (night, _) = run(&a).unwrap();
    assert!(matches!(&night.result, NightResult::Skipped { .. }), "{night:?}");

    // A gate that nothing passes: kept for a look, and what was in use stays.
    a.stop(Duration::from_secs(30)).unwrap();
    a.write_settings(&SHORT.replace("gain = 0.0", "gain = 0.9"))
        .unwrap();
    started_again(&mut a);
    teach(&clients, 1, 12).unwrap();
    let (night, _) = run(&a).unwrap();
    let NightResult::Rejected {
        adapter: rejected,
        reason,
    } = &night.result
    else {
        panic!("{night:?}");
    };
    assert!(reason.contains("must fall by 90 %"), "{reason}");
    let all = adapters(&a).unwrap();
    let standing = |name: &str| {
        all.iter()
            .find(|stored| stored.name == name)
            .map(|stored| stored.standing)
    };
    assert_eq!(standing(rejected), Some(Standing::Rejected));
    assert_eq!(standing(adapter), Some(Standing::InUse));
    assert_eq!(left(&a), Vec::<String>::new());
    // What was before the end of the supervisor is remembered after it.
    let told = status(&a).unwrap();
    assert_eq!((told.counts.applied, told.counts.rejected), (1, 1));
    assert_eq!(told.nights.len(), 3);
    assert_eq!(a.status().unwrap().problems, Vec::<String>::new());
    a.stop(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_trainer_that_is_killed_stopped_or_called_off_is_a_failed_night_that_the_next_one_goes_on_with() {
    let _alone = tree::alone();
    let (mut a, clients) = taught(LONG).unwrap();
    let failed = |a: &Appliance, why: &str, goes_on: bool| {
        wait_stage(a, "the night to end", |stage| *stage == NightStage::Idle);
        let night = last(a).unwrap();
        let NightResult::Failed { reason, resumes } = &night.result else {
            panic!("{night:?}");
        };
        assert!(reason.contains(why) && *resumes == goes_on, "{night:?}");
    };
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 5));
    // How far it is, is in the metrics.
    let shown = |line: &str| {
        tree::wait_for("the night in the metrics", READY, || {
            let text = clients[0].get("/metrics")?.body;
            ensure!(text.lines().any(|had| had.starts_with(line)), "{line} in {text}");
            Ok(())
        })
        .unwrap();
    };
    for line in [
        "sarai_night_stage{stage=\"training\"} 1",
        "sarai_training_step ",
        "sarai_training_loss{texts=\"trained\"} ",
        "sarai_training_eta_seconds ",
    ] {
        shown(line);
    }
    // It is confined, and one at a time.
    let service = a.service("trainer").unwrap();
    assert!(!service.sandbox.is_empty(), "{service:?}");
    let second = a.sarai(&["training", "run"]).unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("one runs"));
    let merge = a.sarai(&["adapters", "merge"]).unwrap();
    assert!(!merge.status.success());
    assert!(String::from_utf8_lossy(&merge.stderr).contains("a night runs"));
    process::signal(a.service_pid("trainer").unwrap(), Signal::SIGKILL).unwrap();
    failed(&a, "SIGKILL", true);
    shown("sarai_night_stage{stage=\"idle\"} 1");
    shown("sarai_night_last_timestamp_seconds{result=\"failed\"} ");
    // Nobody else noticed.
    let answer = clients[0].chat(&short()).unwrap().ok().unwrap();
    assert_eq!(omni_loop(&answer).unwrap()["fallback"], false);
    assert!(a.status().unwrap().services.iter().all(|s| s.restarts == 0));

    // The next one goes on, with the same examples, whatever came in between; standing still, it is ended.
    teach(&clients, 1, 1).unwrap();
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 5));
    assert!(a.log().contains("going on from step"), "{}", a.log());
    process::signal(a.service_pid("trainer").unwrap(), Signal::SIGSTOP).unwrap();
    failed(&a, "no answer for", true);

    // Turned off, it keeps what it has.
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 5));
    let said = a.sarai_ok(&["training", "off"]).unwrap();
    assert!(said.contains("is ending"), "{said}");
    failed(&a, "turned off", true);
    let told = status(&a).unwrap();
    assert!(!told.enabled && told.next.is_none());

    // A supervisor that is killed in the middle remembers, and so does one that is stopped. Three nights were given to
    // these examples: they are chosen anew.
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 1));
    a.kill().unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    failed(&a, "in the middle of it", true);
    assert!(!status(&a).unwrap().enabled, "off is remembered");
    a.sarai_ok(&["training", "on"]).unwrap();
    assert!(status(&a).unwrap().next.is_some());
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 1));

    // What is forgotten ends the night that learns from it, and nothing of it is kept.
    a.sarai_ok(&["feedback", "forget", "--everything"]).unwrap();
    failed(&a, "to be forgotten", false);
    assert_eq!(left(&a), Vec::<String>::new());
    a.stop(Duration::from_secs(30)).unwrap();
    assert!(a.processes().is_empty());
}

#[test]
fn a_disk_that_gets_full_in_a_night_fails_it_with_the_reason_and_what_was_remembered_stays() {
    let _alone = tree::alone();
    let models = pair().unwrap();
    let size: u64 = models
        .iter()
        .map(|model| fs::metadata(&model.source).unwrap().len())
        .sum();
    // Nothing is kept of the training before somebody ends it.
    let settings = LONG.replace("checkpoint_seconds = 0", "checkpoint_seconds = 3600");
    let mut a = Appliance::prepare(&models, &settings).unwrap();
    // More than a night wants free before it begins.
    let _small = Small::mount(&a.path("data"), size + (96 << 20)).unwrap();
    fs::create_dir_all(a.path("data/models")).unwrap();
    for artifact in &models {
        artifact.install(&a.path("data/models"), &a.publisher).unwrap();
    }
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    let clients = teachers(&a).unwrap();
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 1));
    let filler = fill(&a.path("data")).unwrap();

    // It goes on, and so does everything else; that it is off cannot be remembered, but it is.
    primary_answers(&clients[0]).unwrap();
    let refused = a.sarai(&["training", "off"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).to_lowercase();
    assert!(!refused.status.success() && said.contains("space"), "{said}");
    wait_stage(&a, "the night to end", |stage| *stage == NightStage::Idle);
    let night = last(&a).unwrap();
    let NightResult::Failed { reason, resumes } = &night.result else {
        panic!("{night:?}");
    };
    assert!(
        reason.contains("turned off") && reason.contains("are not kept") && !resumes,
        "{night:?}"
    );
    assert!(a.log().contains("cannot be written"), "{}", a.log());
    assert_eq!(left(&a), Vec::<String>::new());
    primary_answers(&clients[0]).unwrap();
    // Whatever of it could be written is whole.
    let remembered = || -> Value {
        let text = fs::read(a.path("data/state/training.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    };
    remembered();

    // On a disk with too little room none begins: it is skipped for that, or cannot even be noted down.
    let (night, _) = run(&a).unwrap();
    let why = match &night.result {
        NightResult::Skipped { reason } | NightResult::Failed { reason, .. } => reason.to_lowercase(),
        _ => panic!("{night:?}"),
    };
    assert!(why.contains("mib left") || why.contains("space"), "{why}");
    // With room again it is as if nothing had been.
    fs::remove_file(filler).unwrap();
    a.sarai_ok(&["training", "on"]).unwrap();
    let kept = remembered();
    assert_eq!(kept["nights"].as_array().map(Vec::len), Some(2), "{kept}");
    a.sarai_ok(&["training", "run"]).unwrap();
    wait_stage(&a, "steps", |stage| trains(stage, 1));
    a.stop(Duration::from_secs(30)).unwrap();
    assert!(a.processes().is_empty());
}
