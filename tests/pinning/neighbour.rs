//! The neighbour: this program once more, computing and resting by turns on several threads, as builds and backups do.

use std::hint::black_box;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// First argument of a neighbour.
const NAME: &str = "--neighbour";
/// Longest stretch of computing or resting, milliseconds: longer than a run, so that runs differ.
const STRETCH: u64 = 3000;

/// A running neighbour; ended on drop.
pub struct Neighbour(Child);

impl Neighbour {
    /// Starts one with this many threads on these CPUs; the same seed makes the same stretches.
    pub fn start(threads: usize, seed: usize, cpus: &[usize]) -> Result<Self> {
        let list: Vec<String> = cpus.iter().map(usize::to_string).collect();
        let child = Command::new("taskset")
            .args(["-c", &list.join(",")])
            .arg(std::env::current_exe().context("find this program")?)
            .args([NAME, &threads.to_string(), &seed.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("start a neighbour (taskset is of the package util-linux)")?;
        Ok(Self(child))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does the neighbour's work where this process was started as one; it then ends only with its parent's signal.
pub fn began_as_one() -> Option<ExitCode> {
    let words: Vec<String> = std::env::args().collect();
    let [_, name, threads, seed] = words.as_slice() else {
        return None;
    };
    if name != NAME {
        return None;
    }
    let (Ok(threads), Ok(seed)) = (threads.parse::<u64>(), seed.parse::<u64>()) else {
        return Some(ExitCode::from(2));
    };
    let workers: Vec<_> = (0..threads)
        .map(|number| thread::spawn(move || by_turns(seed * 1000 + number)))
        .collect();
    for worker in workers {
        let _ = worker.join();
    }
    Some(ExitCode::SUCCESS)
}

/// Computes and rests for stretches drawn from the seed. Within the caches: what memory's speed costs is another
/// matter.
fn by_turns(seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    loop {
        let end = Instant::now() + Duration::from_millis(draw() % STRETCH);
        while Instant::now() < end {
            let mut value = black_box(1.0_f64);
            for _ in 0..10_000 {
                value = value * 1.000_000_1 + 1e-9;
            }
            black_box(value);
        }
        thread::sleep(Duration::from_millis(draw() % (STRETCH / 2)));
    }
}
