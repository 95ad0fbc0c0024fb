//! A hundred thousand children, double forks included, under the reaper as it runs. A process of its own: the reaper
//! waits for every child there is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::libc;
use sarai_supervisor::reaper::{Exit, Reaper};

/// Children that the reaper is told of. Every tenth leaves a second one behind, which then is nobody's.
const CHILDREN: u64 = 100_000;
/// Children at a time.
const AT_ONCE: usize = 64;
/// Oldest a zombie may be.
const AGE: Duration = Duration::from_millis(100);
/// Time between two looks at all processes.
const LOOK: Duration = Duration::from_millis(20);

/// Forks a child that ends at once: with a code of its own, by a signal, or leaving a grandchild behind.
fn fork(n: u64) -> io::Result<u32> {
    // SAFETY: the child only makes system calls, each of which is allowed after the fork of a process with threads.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            if n % 10 == 3 {
                if libc::fork() == 0 {
                    // Until the parent is gone this one is no orphan yet.
                    libc::usleep(200);
                    libc::_exit(1);
                }
            } else if n % 10 == 7 {
                libc::kill(libc::getpid(), libc::SIGKILL);
            }
            libc::_exit(i32::try_from(n % 256).unwrap_or(0));
        }
        u32::try_from(pid).map_err(|_| io::Error::last_os_error())
    }
}

/// How child `n` must end.
fn wanted(n: u64) -> Exit {
    if n % 10 == 7 {
        Exit::Signal(libc::SIGKILL)
    } else {
        Exit::Code(i32::try_from(n % 256).unwrap())
    }
}

/// Children of this process that have ended and were not collected, as (process id, start time).
fn zombies() -> Vec<(i32, u64)> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let mut fields = stat[stat.rfind(')').unwrap() + 1..].split_ascii_whitespace();
        if fields.next() == Some("Z") && fields.next() == Some(own.as_str()) {
            found.push((pid, fields.nth(17).unwrap().parse().unwrap()));
        }
    }
    found
}

/// Looks again and again; gives the longest time that one zombie was seen, and how often it looked.
fn oldest_zombie(done: &AtomicBool) -> (Duration, u64) {
    let (mut seen, mut oldest, mut looks) = (HashMap::new(), Duration::ZERO, 0);
    while !done.load(Ordering::Relaxed) {
        let now = Instant::now();
        let old = std::mem::take(&mut seen);
        for zombie in zombies() {
            let since = *old.get(&zombie).unwrap_or(&now);
            oldest = oldest.max(now - since);
            seen.insert(zombie, since);
        }
        looks += 1;
        std::thread::sleep(LOOK);
    }
    (oldest, looks)
}

/// Starts all children and waits for each; gives how long the slowest took from before its fork to its status.
async fn all(reaper: Reaper) -> Duration {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let slowest = std::sync::Arc::new(AtomicU64::new(0));
    for n in 0..CHILDREN {
        let place = std::sync::Arc::clone(&places).acquire_owned().await.unwrap();
        let begun = Instant::now();
        let (_, told) = reaper.spawn(|| fork(n)).unwrap();
        let slowest = std::sync::Arc::clone(&slowest);
        tokio::spawn(async move {
            let exit = told
                .await
                .unwrap_or_else(|_| panic!("the status of child {n} is lost"));
            assert_eq!(exit, wanted(n), "child {n}");
            slowest.fetch_max(
                u64::try_from(begun.elapsed().as_millis()).unwrap(),
                Ordering::Relaxed,
            );
            drop(place);
        });
    }
    // Every place is free again once every child's status has come; a task that panicked left its own free as well,
    // which is why the count below is compared.
    let _all = places
        .acquire_many(u32::try_from(AT_ONCE).unwrap())
        .await
        .unwrap();
    Duration::from_millis(slowest.load(Ordering::Relaxed))
}

#[test]
fn of_a_hundred_thousand_children_no_exit_code_is_lost_and_no_zombie_grows_old() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    // A task that panics must fail the test and not only itself.
    let failed = std::sync::Arc::new(AtomicBool::new(false));
    let (hook, flag) = (std::panic::take_hook(), std::sync::Arc::clone(&failed));
    std::panic::set_hook(Box::new(move |info| {
        flag.store(true, Ordering::SeqCst);
        hook(info);
    }));
    let done = AtomicBool::new(false);
    let reaper = Reaper::default();
    let begun = Instant::now();
    let (slowest, (oldest, looks)) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| oldest_zombie(&done));
        // As the supervisor has it: one thread for everything.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let slowest = runtime.block_on(async {
            tokio::spawn(reaper.clone().run());
            let slowest = all(reaper.clone()).await;
            let until = Instant::now() + Duration::from_secs(10);
            while reaper.orphans() < CHILDREN / 10 && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            slowest
        });
        done.store(true, Ordering::Relaxed);
        (slowest, watcher.join().unwrap())
    });
    println!(
        "{CHILDREN} children in {:.1} s; slowest {} ms from before its fork; oldest zombie {} ms in {looks} looks",
        begun.elapsed().as_secs_f64(),
        slowest.as_millis(),
        oldest.as_millis()
    );
    assert!(!failed.load(Ordering::SeqCst), "see above");
    assert_eq!(reaper.orphans(), CHILDREN / 10);
    assert_eq!(reaper.living(), 0);
    assert!(looks > 100, "looked only {looks} times");
    assert!(oldest <= AGE, "a zombie was {} ms old", oldest.as_millis());
}
