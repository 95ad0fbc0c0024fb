//! Engines and gateway die in every way a process can; clients are told and are served again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::{self, Client, Event, Events};
use sarai_tests::{process, tree};
use sarai_wire::control::ServiceState;

use crate::common::{PATIENCE, fallback_answers, long, pair, primary_answers, reason_of};

/// From the death of an engine to the next answer by it.
const BACK: Duration = Duration::from_secs(2);

/// Starts a long answer and reads until the model has spoken.
fn begin(client: &Client) -> Result<Events> {
    let mut events = client.within(PATIENCE)?.stream(&long())?.events()?;
    loop {
        match events
            .next_event()?
            .context("the stream ended before the first token")?
        {
            Event::Done => bail!("the stream was done before the first token"),
            event => {
                let first = [event];
                if !(client::content(&first) + &client::reasoning(&first)).is_empty() {
                    return Ok(events);
                }
            }
        }
    }
}

/// How often a blow that came after the last word of a draft is struck anew.
const BLOWS: u32 = 3;

/// What a client of an interrupted stream may be given: an answer that says the fallback made it, or an error
/// that says what happened; never silence, never an end without a word. Gives which. `None` when the primary had
/// finished its draft before: what was interrupted is a reflection, which takes nothing from the answer.
fn told(rest: &[Event]) -> Result<Option<String>> {
    if let Some(error) = client::stream_error(rest) {
        let message = error["message"].as_str().unwrap_or_default();
        ensure!(!message.is_empty(), "an error without a message: {error}");
        return Ok(Some(format!("error: {message}")));
    }
    ensure!(
        rest.last() == Some(&Event::Done),
        "the stream ended without [DONE] and without an error: {rest:?}"
    );
    let omni = client::omni_loop(rest).context("no omni_loop in the stream")?;
    Ok(reason_of(&omni)?.map(|reason| format!("fallback: {reason}")))
}

/// Asks until the primary answers; gives how long that took since `from`.
fn primary_is_back(client: &Client, from: Instant, deadline: Duration) -> Result<Duration> {
    tree::wait_for("the primary to answer again", deadline, || {
        primary_answers(client)
    })?;
    Ok(from.elapsed())
}

/// Ends a process by a signal: a fault is made to happen, others are sent.
fn strike(pid: i32, signal: Signal) -> Result<()> {
    let victim = process::process(pid)?;
    match signal {
        Signal::SIGSEGV => process::fault(pid)?,
        signal => process::signal(pid, signal)?,
    }
    tree::wait_for("the process to die", Duration::from_secs(1), || {
        ensure!(!process::lives(&victim), "{victim:?} survived {signal}");
        Ok(())
    })
}

fn dies_mid_stream(signal: Signal) {
    let _alone = tree::alone();
    let said = (0..BLOWS).find_map(|_| blow(signal));
    assert!(
        said.is_some(),
        "a dead primary is said to have answered, {BLOWS} times"
    );
}

/// Strikes a primary while it answers. What the client was told, if its answer was touched.
fn blow(signal: Signal) -> Option<String> {
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    primary_answers(&client).unwrap();
    let before = a.service("engine-primary").unwrap();
    let mut events = begin(&client).unwrap();
    strike(before.pid.unwrap(), signal).unwrap();
    let died = Instant::now();
    let rest = std::thread::spawn(move || events.rest());
    let took = primary_is_back(&client, died, Duration::from_secs(20)).unwrap();
    let told = told(&rest.join().unwrap().unwrap()).unwrap();
    println!("{signal}: client told {told:?}; primary back after {took:?}");
    assert!(took <= BACK, "the primary was back after {took:?}");

    let after = a.service("engine-primary").unwrap();
    assert_eq!(after.restarts, before.restarts + 1);
    assert_ne!(after.pid, before.pid);
    assert_eq!(
        after.last_exit.as_deref(),
        Some(format!("signal {signal}").as_str())
    );
    assert_eq!(a.zombies().unwrap(), []);
    // What batches cost was not measured again while others answered on the same cores.
    assert!(a.log().contains("(known from before)"), "{}", a.log());
    told
}

#[test]
fn an_engine_killed_mid_stream_is_back_within_two_seconds() {
    dies_mid_stream(Signal::SIGKILL);
}

#[test]
fn an_engine_that_faults_mid_stream_is_back_within_two_seconds() {
    dies_mid_stream(Signal::SIGSEGV);
}

#[test]
fn an_engine_that_hangs_mid_stream_is_replaced_and_the_client_is_told() {
    let _alone = tree::alone();
    let settings = "[engine]\nsilence_s = 2\n[gateway]\nprimary_silence_ms = 1000\n";
    let mut a = Appliance::start_with(&pair().unwrap(), settings).unwrap();
    let client = a.keyed().unwrap();
    let before = a.service("engine-primary").unwrap();
    let mut events = begin(&client).unwrap();
    process::signal(before.pid.unwrap(), Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let rest = std::thread::spawn(move || -> Result<(Vec<Event>, Duration)> {
        let (mut heard, mut silence, mut rest) = (stopped, Duration::ZERO, Vec::new());
        while let Some(event) = events.next_event()? {
            silence = silence.max(heard.elapsed());
            heard = Instant::now();
            rest.push(event);
        }
        Ok((rest, silence))
    });
    let took = primary_is_back(&client, stopped, Duration::from_secs(20)).unwrap();
    let (rest, silence) = rest.join().unwrap().unwrap();
    let told = told(&rest).unwrap().expect("the fallback answered, or nobody");
    println!("SIGSTOP: client told {told:?} after {silence:?} of silence; primary back after {took:?}");
    // One second without a sign is the limit; starting the answer anew elsewhere comes on top of it.
    assert!(
        silence < Duration::from_secs(1) + BACK,
        "the client heard nothing for {silence:?}"
    );
    // Two seconds without a pong, looked at each second, then as after any other death.
    assert!(
        took <= Duration::from_secs(2 + 1) + BACK,
        "the primary was back after {took:?}"
    );
    let after = a.service("engine-primary").unwrap();
    assert_ne!(after.pid, before.pid);
    assert!(
        after
            .last_exit
            .as_deref()
            .is_some_and(|e| e.starts_with("no answer")),
        "{after:?}"
    );
}

#[test]
fn with_the_primary_in_a_crash_loop_the_fallback_serves_and_restart_ends_it() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    let mut killed = 0;
    loop {
        let service = a.service("engine-primary").unwrap();
        match service.state {
            ServiceState::CrashLoop => break,
            ServiceState::Starting | ServiceState::Ready => {
                let _ = process::signal(service.pid.unwrap(), Signal::SIGKILL);
                killed += 1;
            }
            _ => {}
        }
        assert!(
            Instant::now() < end,
            "killed {killed} times and still {service:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("crash loop after {killed} kills");
    assert!(killed > 1, "one death is no crash loop");
    let why = fallback_answers(&client).unwrap();
    println!("the fallback says: {why}");
    let problems = a.status().unwrap().problems;
    assert!(
        problems.iter().any(|p| p.contains("engine-primary")),
        "{problems:?}"
    );
    a.sarai_ok(&["restart", "engine-primary"]).unwrap();
    tree::wait_for("the primary after restart", READY, || primary_answers(&client)).unwrap();
}

#[test]
fn with_both_engines_gone_the_client_gets_a_clear_error() {
    let _shared = tree::shared();
    let [primary, _] = pair().unwrap();
    let mut a = Appliance::start_with(&[primary], "").unwrap();
    let client = a.keyed().unwrap();
    let pid = a.service_pid("engine-primary").unwrap();
    process::signal(pid, Signal::SIGSTOP).unwrap();
    process::signal(pid, Signal::SIGKILL).unwrap();
    let asked = Instant::now();
    // There is no fallback: the answer is an error, or the primary's own if it was back soon enough.
    let answer = client
        .within(PATIENCE)
        .unwrap()
        .chat(&crate::common::short())
        .unwrap();
    if answer.status != 200 {
        assert!(
            matches!(answer.status, 500..=504),
            "status {}: {}",
            answer.status,
            answer.body
        );
        answer.error().unwrap();
    }
    assert!(asked.elapsed() < PATIENCE);
    tree::wait_for("the next request to be served", PATIENCE, || {
        primary_answers(&client)
    })
    .unwrap();
}

#[test]
fn a_killed_gateway_comes_back_and_connections_wait_for_it() {
    let _alone = tree::alone();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    let client = a.keyed().unwrap();
    let pid = a.service_pid("gateway").unwrap();
    let engine = a.service_pid("engine-primary").unwrap();
    let mut events = begin(&client).unwrap();
    process::signal(pid, Signal::SIGKILL).unwrap();
    let died = Instant::now();
    // The listening socket is the supervisor's: this connects, waits in the backlog and is served.
    primary_answers(&client).unwrap();
    let took = died.elapsed();
    println!("gateway back after {took:?}");
    assert!(took <= BACK, "served again after {took:?}");
    // The stream through the dead gateway ends as a broken connection, not as a complete answer.
    let rest = events.rest();
    assert!(
        rest.as_ref()
            .map_or(true, |events| events.last() != Some(&Event::Done)),
        "{rest:?}"
    );
    assert_ne!(a.service_pid("gateway").unwrap(), pid);
    assert_eq!(
        a.service_pid("engine-primary").unwrap(),
        engine,
        "the engine was restarted with the gateway"
    );
    assert_eq!(a.zombies().unwrap(), []);
}

#[test]
fn a_client_that_leaves_mid_stream_frees_the_engine() {
    let _shared = tree::shared();
    let mut a = Appliance::start_with(&pair().unwrap(), "[engine]\nslots = 1\n").unwrap();
    let client = a.keyed().unwrap();
    for _ in 0..8 {
        drop(begin(&client).unwrap());
    }
    let asked = Instant::now();
    primary_answers(&client).unwrap();
    println!("served {:?} after eight clients left", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}
