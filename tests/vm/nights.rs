//! Seven nights in a row, by moving the machine's clock: each ends with a result and a reason, and none leaves anything
//! behind.

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
use sarai_wire::night::{NightResult, NightStage, TrainingStatus};
use serde_json::json;

use crate::common::{BOOT, Booted, COMMAND, SETTINGS, ask_until_primary};

/// Nights in a row.
const NIGHTS: usize = 7;
/// Longest wait for one to end on a machine that is emulated, and slow and busy besides.
const NIGHT: Duration = Duration::from_secs(600);
/// What PID 1 may have more at the end than after the first night, KiB: what is remembered of the others, and the
/// allocator's holes.
const GROWN: u64 = 1024;
/// A training of a few steps.
const TRAINING: &str = "[training]\nrank = 2\nepochs = 1\nsequence_length = 128\npatience = 0\n\
                        time_budget_seconds = 120\n";

/// A tiny primary and a tiny fallback of two layers, made in `folder`: quick where every instruction is emulated.
fn models(folder: &Path) -> Result<[Artifact; 2]> {
    let one = |role: &str, seed| -> Result<Artifact> {
        let path = folder.join(format!("{role}.gguf"));
        Tiny {
            seed,
            ..Tiny::default()
        }
        .write(&path)?;
        Artifact::new(role, &format!("made-up-{role}"), &path, 2048)
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
fn teach(client: &Client) -> Result<()> {
    for n in 0..12 {
        let answer = client
            .chat(&json!({
                "model": "sarai",
                "messages": [{"role": "user", "content": format!("Colour of door {n}?")}],
                "max_tokens": 2,
                "reasoning_effort": "none",
            }))?
            .ok()?;
        let judgment = json!({"completion_id": answer["id"], "score": 0.1, "correction": "Red."});
        client.post("/v1/feedback", &judgment)?.ok()?;
    }
    Ok(())
}

/// Descriptors and resident KiB of PID 1, and KiB that the data partition holds.
fn held(root: &mut RootShell) -> Result<(u64, u64, u64)> {
    let said = root.run(
        "echo $(ls /proc/1/fd | wc -l) $(grep VmRSS /proc/1/status | tr -dc 0-9) $(du -sk /data | cut -f1)",
        COMMAND,
    )?;
    let mut numbers = said
        .split_whitespace()
        .filter_map(|word| word.parse::<u64>().ok());
    let mut next = || {
        numbers
            .next()
            .with_context(|| format!("three numbers in {said:?}"))
    };
    Ok((next()?, next()?, next()?))
}

#[test]
fn seven_nights_in_a_row_end_with_a_reason_and_leave_nothing_behind() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("{SETTINGS}{TRAINING}");
    let image = Image::make(&models(folder.path()).unwrap(), &settings, |_| Ok(())).unwrap();
    let machine = image.machine_with_root_shell(Some(image.disk())).unwrap();
    let mut booted = Booted::new(&machine).unwrap();
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    let (client, _, _) = booted.client("vm").unwrap();
    ask_until_primary(&client).unwrap();
    teach(&client).unwrap();
    // The first look at the clock counts a date as done.
    let next = tree::wait_for("the next night to be known", BOOT, || {
        told(&mut booted)?.next.context("none")
    })
    .unwrap();
    let first: Timestamp = next.parse().unwrap();
    tree::wait_for("the first look at the clock", BOOT, || {
        let said = root.run("cat /data/state/training.json", COMMAND)?;
        ensure!(said.contains("\"last\":\""), "{said}");
        Ok(())
    })
    .unwrap();
    let mut after_first = None;
    for n in 0..NIGHTS {
        let hour = first + SignedDuration::from_hours(24 * i64::try_from(n).unwrap());
        let set = hour.as_second() + 5;
        root.run(&format!("busybox date -u -s @{set}"), COMMAND).unwrap();
        let night = tree::wait_for("the night to end", NIGHT, || {
            let status = told(&mut booted)?;
            ensure!(
                status.now == NightStage::Idle && status.nights.len() == n + 1,
                "night {n} is at {:?}, {} ended",
                status.now,
                status.nights.len()
            );
            status.nights.into_iter().next().context("a night")
        })
        .unwrap();
        println!("{}: {:?}", night.began, night.result);
        let began: Timestamp = night.began.parse().unwrap();
        assert!(began >= hour, "{began} is before {hour}");
        match &night.result {
            NightResult::Applied { adapter } => assert!(!adapter.is_empty()),
            NightResult::Rejected { reason, .. } | NightResult::Skipped { reason } => {
                assert!(!reason.is_empty())
            }
            NightResult::Failed { .. } => panic!("{night:?}"),
        }
        if n == 0 {
            assert!(
                night.figures.is_some(),
                "the first one has something to learn: {night:?}"
            );
            after_first = Some(held(&mut root).unwrap());
        }
        // Once a date, also when the clock is set back.
        root.run(&format!("busybox date -u -s @{}", set - 3600), COMMAND)
            .unwrap();
        root.run(&format!("busybox date -u -s @{set}"), COMMAND).unwrap();
    }
    let (first, last) = (after_first.unwrap(), held(&mut root).unwrap());
    println!("PID 1: descriptors, KiB; data, KiB: {first:?}, then {last:?}");
    assert!(last.0 <= first.0, "descriptors: {first:?}, then {last:?}");
    assert!(last.1 <= first.1 + GROWN, "memory: {first:?}, then {last:?}");
    // One adapter more at the most: a rejected night is not repeated with the same examples.
    assert!(last.2 <= first.2 + GROWN, "disk: {first:?}, then {last:?}");
    let left = root.run("ls /data/training | wc -l", COMMAND).unwrap();
    assert_eq!(left.trim(), "0");
    let status = booted.status().unwrap();
    assert!(status.services.iter().all(|s| s.restarts == 0), "{status:#?}");
    ask_until_primary(&client).unwrap();
}
