//! Nights in the emulated machine: the power goes while one trains, the kernel ends one's trainer for want of memory, the
//! next goes on with what they left, and by moving the machine's clock several follow one another. All in one machine:
//! each begins with what the one before left behind.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use sarai_tests::client::Client;
use sarai_tests::gguf::Tiny;
use sarai_tests::image::Image;
use sarai_tests::model::Artifact;
use sarai_tests::tree;
use sarai_tests::vm::RootShell;
use sarai_wire::control::Status;
use sarai_wire::night::{Night, NightResult, NightStage, TrainingStatus};
use serde_json::{Value, json};

use crate::common::{BOOT, Booted, COMMAND, SETTINGS, ask, ask_until_primary};

/// How many nights by the clock, where there are to be more or fewer.
const NIGHTS: &str = "SARAI_TEST_NIGHTS";
/// Longest wait for one to end on a machine that is emulated, and slow and busy besides.
const NIGHT: Duration = Duration::from_secs(1200);
/// What PID 1 may have more after the last night than after the first, KiB: what is remembered of the others, and the
/// allocator's holes.
const GROWN: u64 = 1024;
/// What the disk may hold more for each night, KiB: an adapter and its document, feedback, logs.
const KEPT: u64 = 512;
/// The group of the trainer.
const GROUP: &str = "/sys/fs/cgroup/sarai/services/trainer";
/// What it may have, bytes.
const MEMORY: u64 = 256 << 20;

/// A training that keeps every step and ends by its time, and a gate that lets through what gains anything at all; no
/// night of its own accord before the test has moved the clock.
fn settings() -> String {
    let hour = Timestamp::now().as_second().rem_euclid(86_400) / 3600;
    format!(
        "{SETTINGS}[night]\nhour = {}\n[training]\nmemory = {MEMORY}\nrank = 2\nepochs = 1000\nlearning_rate = 0.01\n\
         sequence_length = 128\nheld_out_every = 5\npatience = 0\ntime_budget_seconds = 30\ncheckpoint_seconds = 0\n\
         [training.gate]\ngain = 0.0\ngeneral = 1.0\nwrong = 1000\n",
        (hour + 12) % 24
    )
}

/// A tiny primary and a tiny fallback of one layer, made in `folder`: quick where every instruction is emulated.
fn models(folder: &Path) -> Result<[Artifact; 2]> {
    let one = |role: &str, seed| -> Result<Artifact> {
        let path = folder.join(format!("{role}.gguf"));
        Tiny {
            seed,
            layers: 1,
            ..Tiny::default()
        }
        .write(&path)?;
        // Of the general texts, which are read token by token, some fit.
        Artifact::new(role, &format!("made-up-{role}"), &path, 512)
    };
    Ok([one("primary", 1)?, one("fallback", 2)?])
}

fn told(booted: &mut Booted) -> Result<TrainingStatus> {
    let text = booted.sarai("training status --json")?;
    let json = text
        .find('{')
        .zip(text.rfind('}'))
        .and_then(|(from, to)| text.get(from..=to));
    let json = json.with_context(|| format!("no JSON in {text:?}"))?;
    serde_json::from_str(json).with_context(|| format!("understand {json}"))
}

/// Twelve questions, each answer corrected.
fn teach(client: &Client, round: usize) -> Result<()> {
    for n in 0..12 {
        let answer = client
            .chat(&json!({
                "model": "sarai",
                "messages": [{"role": "user", "content": format!("Colour of door {n} in {round}?")}],
                "max_tokens": 2,
                "reasoning_effort": "none",
            }))?
            .ok()?;
        let judgment = json!({"completion_id": answer["id"], "score": 0.1, "correction": "Red."});
        client.post("/v1/feedback", &judgment)?.ok()?;
    }
    Ok(())
}

/// Waits until the night that runs has done so many steps; what it shows then.
fn trains(booted: &mut Booted, least: u64) -> Result<u64> {
    tree::wait_for("steps of the training", NIGHT, || {
        let status = told(booted)?;
        let NightStage::Training {
            progress: Some(progress),
            ..
        } = &status.now
        else {
            anyhow::bail!(
                "it is at {:?}, before that {:?}",
                status.now,
                status.nights.first()
            );
        };
        ensure!(progress.step >= least, "step {}", progress.step);
        Ok(progress.step)
    })
}

/// Waits until so many nights have ended and none runs; the newest.
fn ended(booted: &mut Booted, count: usize) -> Result<Night> {
    tree::wait_for("the night to end", NIGHT, || {
        let status = told(booted)?;
        // Asking takes the emulated machine's time, too.
        std::thread::sleep(Duration::from_secs(2));
        ensure!(
            status.now == NightStage::Idle && status.nights.len() == count,
            "it is at {:?}, {} of {count} have ended",
            status.now,
            status.nights.len()
        );
        status.nights.into_iter().next().context("a night")
    })
}

/// The newest night has failed for this and is gone on with.
fn failed(night: &Night, why: &str) {
    let NightResult::Failed { reason, resumes } = &night.result else {
        panic!("{night:?}");
    };
    assert!(reason.contains(why) && *resumes, "{night:?}");
}

/// What is remembered of the nights, as it is on the disk.
fn remembered(root: &mut RootShell) -> Result<Value> {
    let text = root.run("cat /data/state/training.json", COMMAND)?;
    serde_json::from_str(&text).with_context(|| format!("understand {text}"))
}

/// Every service but those of a night runs since the start.
fn undisturbed(status: &Status) {
    assert!(
        status.ready && status.services.iter().all(|s| s.restarts == 0),
        "{status:#?}"
    );
}

/// The kernel ends the trainer at its group's limit, which is made too small for it while it trains. Everybody else
/// answers meanwhile.
fn starve(booted: &mut Booted, root: &mut RootShell, client: &Client) -> Result<()> {
    let limit = root.run(&format!("cat {GROUP}/memory.max"), COMMAND)?;
    ensure!(limit.trim() == MEMORY.to_string(), "the limit is {limit}");
    booted.sarai("training run")?;
    trains(booted, 1)?;
    ask(client).context("while it trains")?;
    root.run(&format!("echo 1M >{GROUP}/memory.max || true"), COMMAND)?;
    ask(client).context("while its trainer is ended")?;
    let night = ended(booted, 2)?;
    failed(&night, "ran out of memory: it may use 256 MiB (training.memory)");
    root.run(&format!("echo {MEMORY} >{GROUP}/memory.max"), COMMAND)?;
    ask(client).context("after that")?;
    let status = booted.status()?;
    undisturbed(&status);
    let group = status.groups.iter().find(|group| group.name == "trainer");
    let kills = group.context("no group of the trainer")?.oom_kills;
    ensure!(kills.is_some_and(|kills| kills > 0), "{:?}", status.groups);
    Ok(())
}

/// Descriptors of PID 1, KiB of its own memory (pages of its program come and go, and are no leak), and KiB that the
/// data partition holds.
fn held(root: &mut RootShell) -> Result<[u64; 3]> {
    let said = root.run(
        "echo $(ls /proc/1/fd | wc -l) $(grep RssAnon /proc/1/status | tr -dc 0-9) $(du -sk /data | cut -f1)",
        COMMAND,
    )?;
    let numbers: Result<Vec<u64>, _> = said.split_whitespace().map(str::parse).collect();
    let numbers = numbers.with_context(|| format!("understand {said:?}"))?;
    <[u64; 3]>::try_from(numbers).map_err(|other| anyhow::anyhow!("not three numbers: {other:?}"))
}

/// How many nights by the clock: two, or as many as somebody wants to see.
fn nights() -> usize {
    let wanted = std::env::var(NIGHTS).map_or(Ok(2), |wanted| wanted.parse());
    let wanted = wanted.unwrap_or_else(|e| panic!("{NIGHTS}: {e}"));
    assert!((1..=20).contains(&wanted), "{NIGHTS} must be 1 to 20");
    wanted
}

#[test]
fn a_night_goes_on_after_a_power_cut_and_the_end_of_its_memory_and_others_follow_it() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let image = Image::make(&models(folder.path()).unwrap(), &settings(), |_| Ok(())).unwrap();
    let machine = image.machine_with_root_shell(Some(image.disk())).unwrap();
    let mut booted = Booted::new(&machine).unwrap();
    let (client, ca, secret) = booted.client("vm").unwrap();
    ask_until_primary(&client).unwrap();
    teach(&client, 0).unwrap();
    println!("{:?}: taught", booted.vm.age());
    booted.sarai("training run").unwrap();
    // Each step is followed by a checkpoint: most likely the power goes while one is written.
    let seen = trains(&mut booted, 4).unwrap();
    println!("{:?}: the power goes after step {seen}", booted.vm.age());
    booted.vm.cut_power().unwrap();

    // It failed, and what it leaves is whole.
    let mut booted = Booted::new(&machine).unwrap();
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    let client = booted.client_with(&ca, &secret).unwrap();
    ask_until_primary(&client).unwrap();
    let status = booted.status().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());
    let told_first = told(&mut booted).unwrap();
    assert_eq!(told_first.nights.len(), 1);
    failed(&told_first.nights[0], "in the middle of it");
    assert!(
        remembered(&mut root).unwrap()["unfinished"].is_object(),
        "the training can go on"
    );
    starve(&mut booted, &mut root, &client).unwrap();
    // The one after the cut went on from a step that was on the disk whole.
    let log = booted.sarai("logs -n 400").unwrap();
    let from = log.split("going on from step ").nth(1);
    let from = from.and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let from: u64 = from
        .and_then(|step| step.parse().ok())
        .unwrap_or_else(|| panic!("{log}"));
    assert!(from >= 1, "{log}");
    println!("{:?}: starved; it had gone on from step {from}", booted.vm.age());

    // By the clock: the first look counts its date as done.
    let first: Timestamp = told(&mut booted).unwrap().next.unwrap().parse().unwrap();
    tree::wait_for("the first look at the clock", BOOT, || {
        let state = remembered(&mut root)?;
        ensure!(state["last"].is_string(), "{state}");
        Ok(())
    })
    .unwrap();
    let nights = nights();
    let (mut before, mut after) = (None, [0; 3]);
    for n in 0..nights {
        if n > 0 && n % 2 == 0 {
            teach(&client, n).unwrap();
        }
        let hour = first + SignedDuration::from_hours(24 * i64::try_from(n).unwrap());
        root.run(&format!("busybox date -u -s @{}", hour.as_second() + 5), COMMAND)
            .unwrap();
        // Before them were the one that was cut and the one that was starved. Whatever comes besides would be one more.
        let night = ended(&mut booted, n + 3).unwrap();
        println!("{:?}: {}: {:?}", booted.vm.age(), night.began, night.result);
        let began: Timestamp = night.began.parse().unwrap();
        assert!(began >= hour, "{began} is before {hour}");
        match &night.result {
            NightResult::Applied { adapter } => {
                let figures = night.figures.unwrap();
                let loss = |measured: sarai_wire::night::Measured| measured.held_out.mean().unwrap();
                assert!(
                    !adapter.is_empty() && loss(figures.after) <= loss(figures.before),
                    "{figures:?}"
                );
            }
            NightResult::Rejected { reason, .. } => assert!(night.figures.is_some() && !reason.is_empty()),
            NightResult::Skipped { reason } => {
                assert!(n % 2 == 1 && reason.contains("new examples"), "{night:?}")
            }
            NightResult::Failed { .. } => panic!("{night:?}"),
        }
        let left = root.run("ls /data/training | wc -l", COMMAND).unwrap();
        assert_eq!(left.trim(), "0");
        let held = held(&mut root).unwrap();
        println!("PID 1: descriptors, KiB of its own; KiB of data: {held:?}");
        before.get_or_insert(held);
        after = held;
    }
    let before = before.unwrap();
    assert!(after[0] <= before[0], "descriptors: {before:?}, then {after:?}");
    assert!(
        after[1] <= before[1] + GROWN,
        "memory: {before:?}, then {after:?}"
    );
    assert!(
        after[2] <= before[2] + KEPT * nights as u64,
        "disk: {before:?}, then {after:?}"
    );
    undisturbed(&booted.status().unwrap());
    ask_until_primary(&client).unwrap();
}
