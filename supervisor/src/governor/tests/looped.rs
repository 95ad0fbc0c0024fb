//! The loop around the decision, with a scripted sensor and an actuator that only remembers.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sarai_wire::memory::Rung;

use super::world::MIB;
use crate::governor::actuator::{Act, Outcome, Plan};
use crate::governor::book::{Book, Which};
use crate::governor::govern;
use crate::governor::sample::{Own, Sample};
use crate::governor::sensor::Sense;
use crate::governor::terms::Model;
use crate::governor::trace::Trace;
use crate::logs::Logs;
use crate::problems::{Problems, lock};
use crate::tasks;

/// What both ends know: the load that is set, and the plans that were carried out.
#[derive(Default)]
struct Script {
    load: AtomicUsize,
    seconds: AtomicUsize,
    /// The next sample panics.
    panics: AtomicBool,
    /// Plans never end.
    stuck: AtomicBool,
    plans: Mutex<Vec<Plan>>,
}

struct Eyes(Arc<Script>);

struct Hands(Arc<Script>, Arc<Book>);

impl Sense for Eyes {
    async fn next(&mut self) -> Sample {
        // A second of the script passes in a millisecond.
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.seconds.fetch_add(1, Ordering::SeqCst);
        assert!(
            !self.0.panics.swap(false, Ordering::SeqCst),
            "the sensor is broken"
        );
        Sample {
            own: Some(Own {
                current: self.0.load.load(Ordering::SeqCst) as u64 * MIB,
                line: 960 * MIB,
                budget: 1024 * MIB,
                stalled: Some(Duration::ZERO),
                ..Own::default()
            }),
            total: 1 << 40,
            available: 1 << 39,
            passed: Duration::from_secs(1),
            primary: None,
        }
    }

    fn now(&self) -> Duration {
        Duration::from_secs(self.0.seconds.load(Ordering::SeqCst) as u64)
    }

    fn how(&self) -> String {
        "by a script".to_owned()
    }
}

impl Act for Hands {
    fn fallback_serves(&self) -> bool {
        true
    }

    async fn carry(&self, plan: Plan) -> Outcome {
        lock(&self.0.plans).push(plan);
        let stops = plan.to >= Rung::Fallback && (plan.may_stop || self.1.stopped());
        self.1.set_stopped(stops);
        if self.0.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Outcome {
            measured: Some(MIB),
            trouble: Vec::new(),
        }
    }

    async fn tell(&self) {}
}

struct Room {
    book: Arc<Book>,
    script: Arc<Script>,
    problems: Problems,
    logs: Logs,
}

fn start() -> Room {
    let logs = Logs::in_memory();
    let room = Room {
        book: Arc::default(),
        script: Arc::default(),
        problems: Problems::new(logs.clone()),
        logs,
    };
    for (which, digest) in [(Which::Primary, "a"), (Which::Fallback, "b")] {
        let model = Model {
            digest: digest.into(),
            context: 2048,
            ..Model::default()
        };
        room.book.born(which, model);
    }
    let (book, script, logs) = (
        Arc::clone(&room.book),
        Arc::clone(&room.script),
        room.logs.clone(),
    );
    tasks::guard("governor", room.problems.clone(), move || {
        let (book, script, logs) = (Arc::clone(&book), Arc::clone(&script), logs.clone());
        async move {
            let hands = Hands(Arc::clone(&script), Arc::clone(&book));
            govern(&book, &logs, Eyes(script), hands, Trace::off()).await;
        }
    });
    room
}

impl Room {
    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..4000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what}: {:?} {:?}", self.book.status(), lock(&self.script.plans));
    }

    fn load(&self, mib: usize) {
        self.script.load.store(mib, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn moves_are_carried_out_logged_and_shown() {
    let room = start();
    room.load(970);
    room.until("the last rung", || room.book.rung() == Rung::Refusing)
        .await;
    assert_eq!(room.book.notice().retry_after_s, Some(10));
    room.load(100);
    room.until("the first rung", || room.book.rung() == Rung::Normal)
        .await;
    room.until("the last move's end", || room.book.status().moves.len() == 10)
        .await;
    let status = room.book.status();
    assert_eq!(status.sensed, "by a script");
    let first = &status.moves[0];
    assert_eq!((first.from, first.to), (Rung::Normal, Rung::Caches));
    assert_eq!(first.reason, "970.0 MiB are needed, the line is 960.0 MiB");
    assert_eq!((first.measured, first.trouble.len()), (Some(MIB), 0));
    assert_eq!(status.rungs[Rung::Refusing as usize].reached, 1);
    let stops: Vec<bool> = lock(&room.script.plans)
        .iter()
        .filter(|plan| plan.to == Rung::Fallback)
        .map(|plan| plan.may_stop)
        .collect();
    assert_eq!(stops, [true, true]);
    let said = room.logs.newest(None, 100);
    for wanted in [
        "memory: normal -> caches: 970.0 MiB are needed, the line is 960.0 MiB; expected to free ",
        "memory: at caches: freed 1.0 MiB in 0.0 s",
        "memory: caches -> normal: no pressure for ",
    ] {
        assert!(
            said.iter().any(|line| line.text.contains(wanted)),
            "{wanted:?}: {said:#?}"
        );
    }
}

#[tokio::test]
async fn a_governor_that_panics_starts_again_where_it_stood() {
    let room = start();
    room.load(970);
    room.until("the second rung", || room.book.rung() >= Rung::HalfContext)
        .await;
    room.load(950);
    room.until("no move under way", || {
        room.book
            .status()
            .moves
            .last()
            .is_some_and(|m| m.to == room.book.rung())
    })
    .await;
    let stood = room.book.rung();
    room.script.panics.store(true, Ordering::SeqCst);
    room.until("the panic", || !room.problems.list().is_empty()).await;
    assert!(
        room.problems.list()[0].contains("task governor failed 1 time(s), last with: the sensor is broken"),
        "{:?}",
        room.problems.list()
    );
    let again = Plan {
        from: stood,
        to: stood,
        may_stop: false,
    };
    room.until("what the rung wants is ordered again", || {
        lock(&room.script.plans).contains(&again)
    })
    .await;
    assert_eq!(room.book.rung(), stood);
    room.load(100);
    room.until("the first rung", || room.book.rung() == Rung::Normal)
        .await;
}

#[tokio::test]
async fn a_move_that_does_not_end_is_replaced_while_there_is_pressure() {
    let room = start();
    room.script.stuck.store(true, Ordering::SeqCst);
    room.load(970);
    room.until("the last rung", || room.book.rung() == Rung::Refusing)
        .await;
    let moves = room.book.status().moves;
    assert!(!moves.is_empty());
    for made in moves {
        assert_eq!(made.measured, None);
        assert!(made.trouble[0].contains("took its place"), "{made:?}");
    }
    assert_eq!(lock(&room.script.plans).len(), 5);
}
