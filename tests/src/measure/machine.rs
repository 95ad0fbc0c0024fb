//! What this machine is: its processor, the CPUs that may be used, and how fast its memory is.

use std::fs;
use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Numbers in each of the three arrays of a thread: 64 MiB, which no cache of a core holds.
const LENGTH: usize = 8 << 20;
/// Passes, of which the best counts.
const PASSES: usize = 5;

/// The CPUs this process may use.
///
/// # Errors
/// When the kernel does not say.
pub fn cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("ask for the CPUs")?;
    Ok((0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect())
}

/// The processor by name.
#[must_use]
pub fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown processor".to_owned(), |(_, name)| name.to_owned())
}

/// How fast memory is, thousand million bytes a second.
#[derive(Debug, Clone, Copy)]
pub struct Bandwidth {
    /// Triad (`a = b + s · c`), counted as STREAM does: two arrays read, one written.
    pub triad: f64,
    /// One array read: what decoding does with weights.
    pub read: f64,
}

/// Measures with one thread on each of `cpus`. Takes a second or two and 192 MiB a thread.
///
/// # Errors
/// When a thread cannot be kept on its CPU.
pub fn bandwidth(cpus: &[usize]) -> Result<Bandwidth> {
    let barrier = Barrier::new(cpus.len());
    let each: Vec<Result<(f64, f64)>> = thread::scope(|scope| {
        let workers: Vec<_> = cpus
            .iter()
            .map(|cpu| scope.spawn(|| measure(*cpu, &barrier)))
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("measure: a thread panicked")))
            })
            .collect()
    });
    let mut sum = Bandwidth {
        triad: 0.0,
        read: 0.0,
    };
    for one in each {
        let (triad, read) = one?;
        sum.triad += triad;
        sum.read += read;
    }
    Ok(sum)
}

/// Both speeds of one thread while all others do the same.
fn measure(cpu: usize, barrier: &Barrier) -> Result<(f64, f64)> {
    let mut set = CpuSet::new();
    let pinned = set
        .set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
    let mut a = vec![0.0_f64; LENGTH];
    let b = vec![1.5_f64; LENGTH];
    let c = vec![2.5_f64; LENGTH];
    let words: Vec<u64> = (0..LENGTH as u64).collect();
    // All or none: a thread that leaves before the barrier would keep the others there for ever.
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..PASSES {
        barrier.wait();
        let begin = Instant::now();
        let s = black_box(3.0_f64);
        for ((a, b), c) in a.iter_mut().zip(&b).zip(&c) {
            *a = *b + s * *c;
        }
        black_box(&mut a);
        best.0 = best.0.min(begin.elapsed().as_secs_f64());
        barrier.wait();
        let begin = Instant::now();
        black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
        best.1 = best.1.min(begin.elapsed().as_secs_f64());
    }
    pinned.with_context(|| format!("keep a thread on CPU {cpu}"))?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of an array stay below 2^52")]
    let gigabytes = (LENGTH * 8) as f64 / 1e9;
    Ok((3.0 * gigabytes / best.0, gigabytes / best.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_speed_that_memory_can_have() {
        let speed = bandwidth(&cpus().unwrap()[..1]).unwrap();
        assert!(speed.triad > 0.5 && speed.triad < 2000.0, "{speed:?}");
        assert!(speed.read > 0.5 && speed.read < 2000.0, "{speed:?}");
    }
}
