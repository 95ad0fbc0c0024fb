//! What the supervisor itself costs while nothing happens.

use std::time::{Duration, Instant};

use anyhow::Result;
use sarai_tests::appliance::Appliance;
use sarai_tests::{process, tree};

use crate::common::{pair, primary_answers};

/// Most resident memory of the supervisor, bytes.
const RESIDENT: u64 = 15 * 1024 * 1024;
/// Most of one CPU's time that it uses at idle.
const IDLE: f64 = 0.002;
/// How long it is looked at.
const LOOKED_AT: Duration = Duration::from_secs(20);

/// Time that a process has run so far, threads that have ended included. By its CPU clock, because a clock tick is a
/// quarter of what is allowed here.
fn ran(pid: i32) -> Result<Duration> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid))?;
    Ok(clock.now()?.into())
}

#[test]
fn the_supervisor_is_small_and_idle_beside_two_engines() {
    let _alone = tree::alone();
    let mut a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    primary_answers(&a.keyed().unwrap()).unwrap();
    let pid = a.pid().unwrap();
    // What the start and the request above still cause.
    std::thread::sleep(Duration::from_secs(3));
    let (before, begun) = (ran(pid).unwrap(), Instant::now());
    std::thread::sleep(LOOKED_AT);
    let used = (ran(pid).unwrap() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (now, most) = (process::resident(pid).unwrap(), process::peak(pid).unwrap());
    println!(
        "supervisor: {:.1} MiB resident ({:.1} at most), {:.3} % of a CPU at idle",
        now as f64 / 1048576.0,
        most as f64 / 1048576.0,
        used * 100.0
    );
    assert!(most <= RESIDENT, "{most} bytes resident at most");
    assert!(used <= IDLE, "{:.3} % of a CPU at idle", used * 100.0);
}
