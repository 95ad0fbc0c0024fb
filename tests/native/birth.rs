//! An engine that starts while memory is short.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::gguf::Tiny;
use sarai_tests::model::Artifact;
use sarai_tests::{process, tree};
use sarai_wire::control::{ServiceState, Status};
use sarai_wire::memory::Rung;

/// The smallest budget that can be set, bytes.
const BUDGET: u64 = 256 << 20;
/// Context of one request, tokens. Both slots of an engine take more than the whole budget.
const CONTEXT: u32 = 65_536;
/// KV cache of a token in both slots, bytes, at the layers below.
const KV: u64 = 2 * 2048;
/// Time for the ladder to come to its last rung: it has a minute for less, on a machine that is not busy.
const LADDER: Duration = Duration::from_secs(180);

/// The same model as primary and as fallback: stopping one of them would leave nothing else, so neither is stopped,
/// and as the fallback gives no context back, memory stays short.
fn twice(folder: &Path) -> Result<[Artifact; 2]> {
    let tiny = Tiny {
        layers: 16,
        context: CONTEXT,
        ..Tiny::default()
    };
    let one = |role: &str| {
        let path = folder.join(format!("{role}.gguf"));
        tiny.write(&path)?;
        Artifact::new(role, &format!("twice-{role}"), &path, CONTEXT)
    };
    Ok([one("primary")?, one("fallback")?])
}

/// The context in the last line by which the supervisor's log says that the primary is loaded.
fn loaded_with(log: &str) -> Result<u32> {
    let line = log
        .lines()
        .rfind(|line| line.contains("engine-primary: loaded "))
        .context("the primary was never loaded")?;
    let (_, after) = line.split_once("context ").context("no context")?;
    let digits = after.split(',').next().unwrap_or_default();
    digits.parse().with_context(|| format!("read {line:?}"))
}

#[test]
fn an_engine_that_starts_while_memory_is_short_never_takes_more_than_its_rung_allows() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("[memory]\nbudget = {BUDGET}\n[engine]\nslots = 2\n");
    let mut a = Appliance::prepare(&twice(folder.path()).unwrap(), &settings).unwrap();
    a.start().unwrap();
    let at_last = |s: &Status| {
        s.ladder.rung == Rung::Refusing
            // The move to it has been carried out.
            && s.ladder.moves.last().is_some_and(|m| m.to == Rung::Refusing)
            && s.services.iter().all(|s| s.state == ServiceState::Ready)
    };
    a.wait_status("the last rung", LADDER, at_last).unwrap();
    let before = a.service("engine-primary").unwrap();
    assert_eq!(loaded_with(&a.log()).unwrap(), CONTEXT, "it was born in calm");
    let whole = process::peak(before.pid.unwrap()).unwrap();

    process::signal(before.pid.unwrap(), Signal::SIGKILL).unwrap();
    let after = a
        .wait_status("the primary to be back", READY, |s| {
            at_last(s)
                && s.services
                    .iter()
                    .any(|s| s.name == "engine-primary" && s.restarts > before.restarts)
        })
        .unwrap();
    let pid = after
        .services
        .iter()
        .find(|s| s.name == "engine-primary")
        .and_then(|s| s.pid)
        .unwrap();
    assert_eq!(loaded_with(&a.log()).unwrap(), CONTEXT / 4);
    // Its peak says that it never was larger, however short the time.
    let small = process::peak(pid).unwrap();
    let kv = KV * u64::from(CONTEXT - CONTEXT / 4);
    println!(
        "peak {whole} bytes with the whole context, {small} with a quarter; {kv} bytes of KV cache between them"
    );
    assert!(small + kv / 10 * 9 <= whole, "{small} of {whole}");
    assert_eq!(a.zombies().unwrap(), []);
}
