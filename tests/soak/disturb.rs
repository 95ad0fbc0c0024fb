//! What disturbs the appliance: engines killed, services restarted, memory taken by somebody else in its group.

use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::Appliance;
use sarai_tests::measure::memory::Group;
use sarai_tests::process;

use crate::BUDGET;
use crate::clients::Tally;

/// Between two disturbances. Five deaths within a minute would be a crash loop, and rightly so.
const PAUSE: Duration = Duration::from_secs(6);
/// How long memory is held.
const HOLD: Duration = Duration::from_secs(4);
/// What the hog leaves of the budget: room for requests, none for caches.
const MARGIN: u64 = 48 << 20;
/// First argument of a hog.
const NAME: &str = "--hog";

/// How often each was done.
#[derive(Debug, Default, Clone, Copy)]
pub struct Done {
    /// Engines killed.
    pub kills: usize,
    /// Services restarted by the admin.
    pub restarts: usize,
    /// Times memory was taken.
    pub presses: usize,
}

/// Disturbs until it is over.
pub fn until(appliance: &Appliance, group: Option<&Group>, over: &AtomicBool, tally: &Tally) -> Result<Done> {
    let mut done = Done::default();
    for turn in 0.. {
        if !pause(over, PAUSE) {
            break;
        }
        match turn % 5 {
            // The engine may just be on its way back.
            0 | 3 => {
                if let Ok(pid) = appliance.service_pid("engine-primary") {
                    process::signal(pid, Signal::SIGKILL)?;
                    done.kills += 1;
                }
            }
            1 => {
                tally.restarting();
                appliance.sarai_ok(&["restart", "gateway"])?;
                done.restarts += 1;
            }
            4 => {
                appliance.sarai_ok(&["restart", "engine-fallback"])?;
                done.restarts += 1;
            }
            _ => {
                if let Some(group) = group {
                    press(group, over)?;
                    done.presses += 1;
                }
            }
        }
    }
    Ok(done)
}

/// Sleeps; `false` once it is over.
fn pause(over: &AtomicBool, length: Duration) -> bool {
    let end = Instant::now() + length;
    while Instant::now() < end {
        if over.load(Ordering::Relaxed) {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Takes memory in the group up to a margin below the budget, holds it, and lets go.
fn press(group: &Group, over: &AtomicBool) -> Result<()> {
    let room = BUDGET.saturating_sub(group.current()?);
    if room <= MARGIN {
        return Ok(());
    }
    let hog = Command::new("/bin/sh")
        .args(["-c", "echo $$ >\"$0\"; exec \"$@\""])
        .arg(group.procs())
        .arg(std::env::current_exe().context("find this program")?)
        .args([NAME, &(room - MARGIN).to_string()])
        .stdin(Stdio::null())
        .spawn()
        .context("start a hog")?;
    let mut hog = Hog(hog);
    pause(over, HOLD);
    ensure!(hog.0.try_wait()?.is_none(), "hold memory: the hog was ended");
    Ok(())
}

/// Ended on drop.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes memory where this process was started for that; it then ends only with its parent's signal.
pub fn began_as_hog() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, bytes] = words.as_slice() else {
        return None;
    };
    if name != NAME {
        return None;
    }
    let Ok(bytes) = bytes.parse::<usize>() else {
        return Some(ExitCode::from(2));
    };
    // Every page written, at a pace at which a real leak might go.
    let mut held: Vec<Vec<u8>> = Vec::new();
    while held.iter().map(Vec::len).sum::<usize>() < bytes {
        held.push(vec![1; (16 << 20).min(bytes)]);
        thread::sleep(Duration::from_millis(20));
    }
    loop {
        thread::sleep(Duration::from_secs(3600));
        std::hint::black_box(&held);
    }
}
