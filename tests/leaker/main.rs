//! `sarai-leaker PROCS FIRST STEP PAUSE`: a process that leaks. Joins the cgroup whose `cgroup.procs` is PROCS, takes
//! FIRST MiB at once and then STEP MiB every PAUSE milliseconds, touches every page, and never gives any back. It ends
//! when somebody ends it.

use std::time::Duration;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let procs = arguments.next().unwrap_or_default();
    let mut number = || {
        let text = arguments.next().unwrap_or_default();
        text.parse::<usize>()
            .map_err(|e| std::io::Error::other(format!("{text:?} is no number: {e}")))
    };
    let (first, step, pause) = (number()?, number()?, number()?);
    std::fs::write(&procs, "0")?;
    let mut held = vec![taken(first)];
    loop {
        std::thread::sleep(Duration::from_millis(pause as u64));
        held.push(taken(step));
    }
}

/// So many MiB, each page of its own.
fn taken(mib: usize) -> Vec<u8> {
    let mut memory = vec![0; mib * MIB];
    for page in memory.chunks_mut(PAGE) {
        page[0] = 1;
    }
    std::hint::black_box(memory)
}
