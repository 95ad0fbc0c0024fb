//! The memory ladder against a real leak: a process in one of the services' groups grows step by step to the last rung
//! and is slowed down there by the kernel while clients keep asking, and is then ended by its group's limit.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use sarai_tests::client::Client;
use sarai_tests::gguf::Tiny;
use sarai_tests::image::Image;
use sarai_tests::model::Artifact;
use sarai_tests::tree;
use sarai_tests::vm::RootShell;
use sarai_wire::control::{LadderStatus, MoveStatus, ServiceState, ServiceStatus, Status};
use sarai_wire::memory::Rung;
use serde_json::{Value, json};

use crate::askers::{self, Asked, End};
use crate::common::{BOOT, Booted, COMMAND, SETTINGS, ask_until_answered};

/// Little more than two tiny engines and a gateway need, so that a leak is soon through with it.
const BUDGET: u64 = 384 << 20;
/// Requests decoded at once, and the context of each. Models of two layers are quick where every instruction is emulated;
/// it takes this much of both for the context's rungs to have something to give: 32 MiB of KV cache.
const SLOTS: u32 = 16;
const CONTEXT: u32 = 8192;
const LAYERS: u32 = 2;
/// KV cache of one token in one layer, bytes: one head of 32, keys and values, 16 bits each.
const KV_PER_LAYER: u64 = 2 * 32 * 2;
/// How far below the line the leak begins to go by steps, MiB.
const NEAR: u64 = 16;
/// From the first step to the leak's end, on a machine that is slow and busy.
const LEAK: Duration = Duration::from_secs(400);
/// From the leak's end to the first rung, in the machine's own clock: what is promised.
const BACK: Duration = Duration::from_secs(60);
/// From the primary's end to the fallback's first token: what is promised. An emulated machine may take as much longer
/// as its ordinary answers do.
const FIRST_TOKEN: Duration = Duration::from_secs(2);

/// The group it happens in.
const LEAKS: &str = "/sys/fs/cgroup/sarai/services/trainer";
/// How long it goes on at the last rung.
const HELD: Duration = Duration::from_secs(10);

/// How the leak goes on: so many MiB each time, and a pause of so many milliseconds.
const STEP: (u32, u32) = (1, 250);

/// A tiny primary and a tiny fallback, made in `folder`.
fn models(folder: &Path) -> Result<[Artifact; 2]> {
    let one = |role: &str, seed| -> Result<Artifact> {
        let path = folder.join(format!("{role}.gguf"));
        Tiny {
            seed,
            layers: LAYERS,
            ..Tiny::default()
        }
        .write(&path)?;
        Ok(Artifact {
            kv_per_token: Some(u64::from(LAYERS) * KV_PER_LAYER),
            ..Artifact::new(role, &format!("made-up-{role}"), &path, CONTEXT)?
        })
    };
    Ok([one("primary", 1)?, one("fallback", 2)?])
}

fn settings() -> String {
    let engine = format!("[engine]\nslots = {SLOTS}\n");
    let settings = SETTINGS.replace("[engine]\n", &engine);
    format!("{settings}[memory]\nbudget = {BUDGET}\ntrace = true\n")
}

/// Begins to leak; what it takes at once leaves `NEAR` to the line.
fn begin_leak(root: &mut RootShell, ladder: &LadderStatus) -> Result<()> {
    let line = ladder.high.context("no line")?;
    let room = line.saturating_sub(ladder.needed.context("no need")?);
    let at_once = (room >> 20).saturating_sub(NEAR);
    println!("the line is {} MiB, the leak begins with {at_once}", line >> 20);
    let (step, pause) = STEP;
    // The shell that waits is not of the house, and never made to wait for memory.
    let leak = format!(
        "busybox setsid busybox sh -c 'echo 0 >/sys/fs/cgroup/cgroup.procs; /usr/lib/sarai/leaker \
         {LEAKS}/cgroup.procs {at_once} {step} {pause}; \
         echo \"$? $(busybox adjtimex)\" >/run/leak.new; busybox mv /run/leak.new /run/leak.end' \
         </dev/null >/run/leak.log 2>&1 &"
    );
    root.run(&leak, COMMAND).map(drop)
}

/// Has the kernel end the leak, by its own group's limit.
///
/// Above `memory.high` it is slowed down to some 128 KiB a second, whose purpose is that nobody reaches `memory.max`:
/// to wait for that takes minutes. What happens there is shown by the bombs.
fn end_leak(root: &mut RootShell) -> Result<()> {
    let lower = format!(
        "test -e /run/leak.limit || cat {LEAKS}/memory.max >/run/leak.limit; echo 1M >{LEAKS}/memory.max || true"
    );
    root.run(&lower, COMMAND).map(drop)
}

/// What `adjtimex` says of the machine's clock.
fn clock_of(said: &str) -> Result<Timestamp> {
    let field = |name: &str| -> Result<i64> {
        let value = said.lines().find_map(|line| line.trim().strip_prefix(name));
        let value = value.with_context(|| format!("no {name} in {said}"))?;
        Ok(value.trim().parse()?)
    };
    let (seconds, micros) = (field("time.tv_sec:")?, field("time.tv_usec:")?);
    Ok(Timestamp::new(seconds, i32::try_from(micros * 1000)?)?)
}

/// How the leak ended and when, by the machine's clock.
fn leak_end(root: &mut RootShell) -> Result<Option<(String, Timestamp)>> {
    let said = root.run("cat /run/leak.end 2>/dev/null || cat /run/leak.log", COMMAND)?;
    let Some((status, clock)) = said.trim().split_once(' ') else {
        ensure!(said.trim().is_empty(), "the leak said {said}");
        return Ok(None);
    };
    Ok(Some((status.to_owned(), clock_of(clock)?)))
}

/// This host's time of a machine's, and how far that may be off.
struct Clock {
    here: Instant,
    there: Timestamp,
    off: Duration,
}

impl Clock {
    /// The best of some readings.
    fn read(root: &mut RootShell) -> Result<Self> {
        let mut best: Option<Self> = None;
        for _ in 0..5 {
            let before = Instant::now();
            let there = clock_of(&root.run("busybox adjtimex", COMMAND)?)?;
            let off = before.elapsed() / 2;
            if best.as_ref().is_none_or(|best| off < best.off) {
                let here = before + off;
                best = Some(Self { here, there, off });
            }
        }
        best.context("no reading")
    }

    fn here(&self, there: Timestamp) -> Result<Instant> {
        let ahead = there.duration_since(self.there);
        let by = ahead.unsigned_abs();
        let here = if ahead.is_negative() {
            self.here.checked_sub(by)
        } else {
            self.here.checked_add(by)
        };
        here.context("a time out of range")
    }
}

fn begun(made: &MoveStatus) -> Result<Timestamp> {
    made.time.parse().with_context(|| format!("{made:?}"))
}

fn ended(made: &MoveStatus) -> Result<Timestamp> {
    Ok(begun(made)? + Duration::from_millis(made.took_ms))
}

fn service<'s>(status: &'s Status, name: &str) -> Result<&'s ServiceStatus> {
    let found = status.services.iter().find(|service| service.name == name);
    found.with_context(|| format!("no service {name} in {:#?}", status.services))
}

fn all_ready(status: &Status) -> bool {
    ["engine-primary", "engine-fallback", "gateway"]
        .iter()
        .all(|name| service(status, name).is_ok_and(|s| s.state == ServiceState::Ready))
}

/// An answer without chance in it: its text and who gave it.
fn plain_answer(client: &Client) -> Result<Value> {
    let answer = client.chat(&json!({
        "model": "sarai", "max_tokens": 12, "temperature": 0, "reasoning_effort": "none",
        "messages": [{"role": "user", "content": "the same as before"}],
    }))?;
    let answer = answer.ok()?;
    let omni = &answer["omni_loop"];
    ensure!(
        omni["fallback"] == false && omni.get("memory").is_none_or(Value::is_null),
        "{omni}"
    );
    Ok(json!([answer["choices"][0]["message"]["content"], omni["model"]]))
}

/// Down rung by rung, up rung by rung, each move with its figures in status and log. A leak that goes on while it is
/// slowed down may have the ladder climb into the room that was made, and come back, at most once; and it may have grown by
/// more than the last step of the context frees, which is then passed over.
fn moves_as_promised(booted: &mut Booted, ladder: &LadderStatus) -> Result<()> {
    let moves = &ladder.moves;
    let is_down = |made: &MoveStatus| made.to > made.from;
    let way_up = moves.iter().rev().take_while(|made| !is_down(made)).count();
    let (before, up) = moves.split_at(moves.len() - way_up);
    let taken_back = before.iter().filter(|made| !is_down(made)).count();
    ensure!(taken_back <= 1, "it flapped: {moves:#?}");
    ensure!(
        moves
            .first()
            .is_some_and(|made| made.from == Rung::Normal && made.to == Rung::Caches),
        "{moves:#?}"
    );
    for rung in [Rung::HalfContext, Rung::Fallback, Rung::Refusing] {
        ensure!(
            before.iter().any(|made| is_down(made) && made.to == rung),
            "no {}: {moves:#?}",
            rung.name()
        );
        ensure!(ladder.rungs[rung as usize].reached >= 1, "{:#?}", ladder.rungs);
    }
    // Up: each rung that is there, one after the other.
    let climbed: Vec<Rung> = up.iter().map(|made| made.to).collect();
    let wanted = [
        Rung::Fallback,
        Rung::QuarterContext,
        Rung::HalfContext,
        Rung::Caches,
        Rung::Normal,
    ];
    ensure!(climbed == wanted, "{moves:#?}");
    for made in before.iter().filter(|made| is_down(made)) {
        // What a smaller context frees is promised, unless the next move took its place, or the engine, which the kernel
        // slows down as well, had not made it when the ladder went on; nothing is freed by refusing.
        if made
            .trouble
            .iter()
            .any(|why| why.ends_with("did not answer within 10 s"))
        {
            continue;
        }
        let Some(freed) = made.measured else {
            let replaced = made.trouble.iter().any(|why| why.ends_with(" took its place"));
            ensure!(replaced, "{made:#?}");
            continue;
        };
        let least = match made.to {
            Rung::HalfContext | Rung::QuarterContext => made.predicted / 10 * 9,
            _ => 0,
        };
        ensure!(freed >= least && made.trouble.is_empty(), "{made:#?}");
    }
    let log = booted.sarai("logs supervisor -n 400")?;
    for made in moves {
        let (from, to) = (made.from.name(), made.to.name());
        for said in [
            format!("memory: {from} -> {to}: {}; expected to ", made.reason),
            format!("memory: at {to}: "),
        ] {
            ensure!(log.contains(&said), "no {said:?} in the log: {log}");
        }
    }
    ensure!(
        ladder
            .sensed
            .starts_with("at once by the kernel's pressure trigger (it fired ")
            && !ladder.sensed.contains("fired 0 "),
        "{}",
        ladder.sensed
    );
    Ok(())
}

/// The kernel has ended the leak and nobody else, and nobody but the primary, on purpose, has been away.
fn only_the_leak_was_ended(before: &Status, after: &Status) -> Result<()> {
    for (was, is) in before.groups.iter().zip(&after.groups) {
        ensure!(was.name == is.name, "{:?} and {:?}", before.groups, after.groups);
        let killed = is.oom_kills.unwrap_or(0) - was.oom_kills.unwrap_or(0);
        match was.name.as_str() {
            "trainer" => ensure!(killed >= 1, "the leak was not ended: {is:?}"),
            "all" => {}
            _ => ensure!(killed == 0, "{killed} ended in {is:?}"),
        }
    }
    for name in ["engine-fallback", "gateway"] {
        let (was, is) = (service(before, name)?, service(after, name)?);
        ensure!(
            was.pid == is.pid && was.restarts == is.restarts,
            "{was:?} and {is:?}"
        );
    }
    let primary = service(after, "engine-primary")?;
    ensure!(
        !primary
            .last_exit
            .as_deref()
            .unwrap_or_default()
            .contains("memory"),
        "{primary:?}"
    );
    ensure!(all_ready(after) && after.problems.is_empty(), "{after:#?}");
    Ok(())
}

/// None is lost; each rung that clients can notice was noticed.
fn requests_as_promised(all: &[Asked]) -> Result<()> {
    let lost: Vec<&Asked> = all.iter().filter(|asked| asked.how.is_err()).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} are lost: {lost:#?}",
        lost.len(),
        all.len()
    );
    let any = |what: &str, holds: &dyn Fn(&End) -> bool| {
        let found = all.iter().filter_map(|asked| asked.how.as_ref().ok()).any(holds);
        ensure!(found, "no request was {what}");
        Ok(())
    };
    any(
        "answered by the fallback for memory",
        &|end| matches!(end, End::Answered { fallback: Some(why), .. } if why == "memory"),
    )?;
    any("touched by a rung", &|end| {
        matches!(end, End::Answered { rung: Some(_), .. })
    })?;
    any(
        "refused at the last rung",
        &|end| matches!(end, End::Refused { status: 503, code } if code == "memory_pressure"),
    )?;
    // Whatever else was refused is one of these, each with its reason.
    for asked in all {
        if let Ok(End::Refused { status, code }) = &asked.how {
            let known = [
                (503, "memory_pressure"),
                // An emulated machine may be too slow for the probe that tells a dead engine from a busy one.
                (503, "engine_unavailable"),
                // A stream that was cut by the primary's end, with the word to ask again.
                (200, "engine_unavailable"),
            ];
            ensure!(known.contains(&(*status, code.as_str())), "{asked:?}");
        }
    }
    Ok(())
}

/// How long the fallback's first tokens took from the primary's end on, or from their request where that came later;
/// and how long first tokens take on this machine otherwise.
fn first_tokens(all: &[Asked], stopped: Instant) -> Result<(Vec<Duration>, Duration)> {
    let streamed = || all.iter().filter_map(|asked| Some((asked, asked.first?)));
    let mut usual: Vec<Duration> = streamed()
        .filter(|(asked, _)| {
            matches!(
                &asked.how,
                Ok(End::Answered {
                    fallback: None,
                    rung: None
                })
            )
        })
        .map(|(asked, first)| first - asked.sent)
        .collect();
    usual.sort_unstable();
    let median = *usual.get(usual.len() / 2).context("no stream was answered")?;
    let from_fallback = streamed()
        .filter(|(asked, first)| {
            matches!(
                &asked.how,
                Ok(End::Answered {
                    fallback: Some(_),
                    ..
                })
            ) && *first >= stopped
        })
        .map(|(asked, first)| first - asked.sent.max(stopped))
        .collect();
    Ok((from_fallback, median))
}

/// What the governor wrote of it: every look, and the moves of the status. Kept in `SARAI_TEST_TRACE` where that is set.
fn trace_as_promised(root: &mut RootShell, moves: usize) -> Result<()> {
    let text = root.run("cat /data/log/memory.jsonl", COMMAND)?;
    let mut counted = 0;
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).with_context(|| format!("trace: {line}"))?;
        ensure!(entry.get("lost").is_none(), "{entry}");
        counted += usize::from(entry.get("move").is_some());
    }
    println!(
        "the trace has {} lines, {} bytes",
        text.lines().count(),
        text.len()
    );
    if let Some(path) = std::env::var_os("SARAI_TEST_TRACE") {
        std::fs::write(path, &text)?;
    }
    ensure!(
        counted == moves,
        "{counted} moves in the trace, {moves} in the status"
    );
    Ok(())
}

/// Tells the clients that it is over when it goes.
struct Ender<'a>(&'a AtomicBool);

impl Drop for Ender<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// From a leak's beginning to its end, and the way back. Gives how it ended and the status after it.
fn leak(booted: &mut Booted, root: &mut RootShell) -> Result<(String, Timestamp, Status)> {
    begin_leak(root, &booted.status()?.ladder)?;
    let begun = Instant::now();
    let mut refusing: Option<Instant> = None;
    let (status, end) = loop {
        if let Some(end) = leak_end(root)? {
            break end;
        }
        let ladder = booted.status()?.ladder;
        let needed = ladder.needed.unwrap_or(0) >> 20;
        let passed = begun.elapsed();
        println!(
            "{:5.1} s: {needed} MiB needed, {}",
            passed.as_secs_f64(),
            ladder.rung.name()
        );
        ensure!(passed < LEAK, "the leak goes on: {ladder:#?}");
        if ladder.rung == Rung::Refusing {
            let since = *refusing.get_or_insert_with(Instant::now);
            if since.elapsed() >= HELD {
                end_leak(root)?;
            }
        }
        thread::sleep(Duration::from_secs(1));
    };
    root.run(&format!("cat /run/leak.limit >{LEAKS}/memory.max"), COMMAND)?;
    println!(
        "{:5.1} s: the leak ended with {status}",
        begun.elapsed().as_secs_f64()
    );
    // At the first rung, and no move under way.
    let after = booted.wait_status("the first rung", |s| {
        s.ladder.rung == Rung::Normal && s.ladder.moves.last().is_some_and(|m| m.to == Rung::Normal)
    })?;
    Ok((status, end, after))
}

#[test]
fn a_leak_is_met_rung_by_rung_loses_no_request_and_leaves_nothing_behind() {
    let _alone = tree::alone();
    let folder = tempfile::tempdir().unwrap();
    let image = Image::make(&models(folder.path()).unwrap(), &settings(), |_| Ok(())).unwrap();
    let machine = image.machine_with_leaker(Some(image.disk())).unwrap();
    let mut booted = Booted::new(&machine).unwrap();
    let (client, _, _) = booted.client("vm").unwrap();
    let before = booted.wait_status("everything to serve", all_ready).unwrap();
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    ask_until_answered(&client).unwrap();
    let said_before = plain_answer(&client).unwrap();
    let clock = Clock::read(&mut root).unwrap();
    println!("{}", booted.sarai("status").unwrap());

    let over = AtomicBool::new(false);
    let book = askers::Book::default();
    let ran = thread::scope(|scope| {
        let _ender = Ender(&over);
        askers::start(scope, &client, &over, &book);
        // Some of each kind, for what is usual.
        tree::wait_for("first answers", 2 * BOOT, || {
            ensure!(book.kinds() == askers::KINDS, "{:?}", book.table());
            Ok(())
        })?;
        leak(&mut booted, &mut root)
    });
    println!("{}", booted.sarai("status").unwrap());
    for (how, count) in book.table() {
        println!("{count:4} {how}");
    }
    let (status, end, after) = ran.unwrap();
    for made in &after.ladder.moves {
        println!("{made:?}");
    }
    assert_eq!(status, "137", "the kernel ends what is too much");
    moves_as_promised(&mut booted, &after.ladder).unwrap();
    let all = book.all();
    requests_as_promised(&all).unwrap();
    trace_as_promised(&mut root, after.ladder.moves.len()).unwrap();

    let back = ended(after.ladder.moves.last().unwrap())
        .unwrap()
        .duration_since(end);
    println!(
        "at the first rung {:.1} s after the leak's end",
        back.as_secs_f64()
    );
    assert!(back.unsigned_abs() <= BACK, "back after {back:?}");
    let stop = after
        .ladder
        .moves
        .iter()
        .find(|made| made.to >= Rung::Fallback)
        .unwrap();
    let stopped = clock.here(begun(stop).unwrap()).unwrap();
    let (mut from_fallback, usual) = first_tokens(&all, stopped).unwrap();
    from_fallback.sort_unstable();
    println!(
        "first tokens from the fallback: {from_fallback:?}, usual {usual:?} (clocks within {:?})",
        clock.off
    );
    let first = *from_fallback
        .first()
        .expect("no stream was answered by the fallback");
    assert!(first <= FIRST_TOKEN + usual + clock.off, "{first:?}");

    assert_eq!(plain_answer(&client).unwrap(), said_before);
    let last = booted.status().unwrap();
    only_the_leak_was_ended(&before, &last).unwrap();
}
