//! The program as the supervisor starts it: born with a socket, sealed before it reads what others wrote.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod support;

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use nix::unistd::Pid;
use sarai_trainer::made_up::Shape;
use sarai_trainer::model::Architecture;
use sarai_wire::birth as socket;
use sarai_wire::merge::MergeStart;
use sarai_wire::training::{FILES, FromTrainer, Outcome, Prepared, ToTrainer, TrainerStart, TrainingConfig};
use support::{PATIENCE, World, sha256, trainer};

#[path = "../../../tests/src/born.rs"]
mod born;

struct Born {
    child: Child,
    socket: OwnedFd,
}

impl Drop for Born {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config() -> TrainingConfig {
    TrainingConfig {
        learning_rate: 0.02,
        epochs: 60,
        sequence_length: 64,
        held_out_every: 20,
        patience: 0,
        least_steps: 0,
        checkpoint_seconds: 0,
        ..TrainingConfig::default()
    }
}

impl Born {
    fn new() -> Self {
        // There is no listener for a trainer: something is at its number, as it may be.
        let null = File::open("/dev/null").unwrap();
        // With a clean environment: asked for a backtrace, the program would look for where it is, which it may not.
        let (child, socket) = born::born(trainer().env_clear(), &null).unwrap();
        let patience = TimeVal::new(PATIENCE.as_secs().try_into().unwrap(), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).unwrap();
        Self { child, socket }
    }

    fn start(world: &World, config: TrainingConfig) -> Self {
        let me = Self::new();
        let read = |name: &str| File::open(world.path(name)).unwrap();
        let write = |name: &str| {
            let mut options = File::options();
            options.read(true).write(true).create(true);
            options.open(world.path(name)).unwrap()
        };
        let files: [File; FILES] = [
            read("base.gguf"),
            read("data.jsonl"),
            write("adapter.gguf"),
            write("kept.a"),
            write("kept.b"),
        ];
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let start = ToTrainer::Start(Box::new(TrainerStart {
            base: sha256(&world.path("base.gguf")),
            config,
            initial: None,
        }));
        socket::send(me.socket.as_fd(), &start, &raw).unwrap();
        me
    }

    fn hear(&self) -> FromTrainer {
        socket::recv(self.socket.as_fd()).unwrap().0
    }

    /// What comes next besides progress and notes.
    fn news(&self) -> FromTrainer {
        loop {
            match self.hear() {
                FromTrainer::Progress(_) | FromTrainer::Note { .. } => {}
                news => return news,
            }
        }
    }

    fn ready(&self) -> Prepared {
        match self.news() {
            FromTrainer::Ready(prepared) => prepared,
            other => panic!("{other:?}"),
        }
    }

    fn done(&mut self) -> Outcome {
        let outcome = match self.news() {
            FromTrainer::Done(outcome) => outcome,
            other => panic!("{other:?}"),
        };
        assert!(self.child.wait().unwrap().success());
        outcome
    }

    fn rows(&self) -> u64 {
        socket::send(self.socket.as_fd(), &ToTrainer::Ping { seq: 1 }, &[]).unwrap();
        match self.news() {
            FromTrainer::Pong { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    /// Whether every thread of it has a filter.
    fn sealed(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        threads.count() > 2
            && fs::read_dir(format!("/proc/{}/task", self.child.id()))
                .unwrap()
                .all(|thread| {
                    let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
                    status.contains("Seccomp:\t2\n")
                })
    }
}

/// Long enough to be interrupted.
fn long() -> TrainingConfig {
    TrainingConfig {
        epochs: 1000,
        ..config()
    }
}

#[test]
fn sealed_from_its_start_to_an_adapter_on_disk() {
    let world = World::new();
    let mut trainer = Born::start(&world, long());
    trainer.ready();
    while trainer.rows() < 5 {}
    assert!(trainer.sealed());
    drop(trainer);
    trainer = Born::start(&world, config());
    let prepared = trainer.ready();
    let outcome = trainer.done();
    assert_eq!(outcome.step, prepared.steps);
    assert!(outcome.held_out.unwrap() < outcome.held_out_before.unwrap() * 0.2);
    assert_eq!(outcome.sha256, sha256(&world.path("adapter.gguf")));
    assert_eq!(
        outcome.size,
        fs::metadata(world.path("adapter.gguf")).unwrap().len()
    );
}

#[test]
fn whatever_ends_it_its_heir_ends_with_the_same_adapter() {
    let world = World::new();
    // Still going on when a busy machine gets round to ending it; those that nothing ends are not held up by their
    // checkpoints, which change nothing of what comes out.
    let config = long();
    let quick = TrainingConfig {
        checkpoint_seconds: 3600,
        ..long()
    };
    let whole = Born::start(&world, quick.clone()).done_after_ready();
    for name in ["kept.a", "kept.b", "adapter.gguf"] {
        fs::remove_file(world.path(name)).unwrap();
    }
    let mut resumed = 0;
    for life in 0..4 {
        let mut trainer = Born::start(&world, config.clone());
        let prepared = trainer.ready();
        assert!(
            prepared.resumed > resumed || life == 0,
            "life {life} from {}",
            prepared.resumed
        );
        resumed = prepared.resumed;
        let pid = Pid::from_raw(trainer.child.id().try_into().unwrap());
        while trainer.rows() < 10 {}
        match life {
            0 => kill(pid, Signal::SIGKILL).unwrap(),
            1 => kill(pid, Signal::SIGTERM).unwrap(),
            2 => socket::send(trainer.socket.as_fd(), &ToTrainer::Stop, &[]).unwrap(),
            _ => {
                // The supervisor is gone.
                let (other, _) = socket::pair().unwrap();
                drop(std::mem::replace(&mut trainer.socket, other));
            }
        }
        if matches!(life, 1 | 2) {
            assert!(matches!(trainer.news(), FromTrainer::Stopped { saved: true, .. }));
        }
        assert_eq!(trainer.child.wait().unwrap().success(), life != 0, "life {life}");
    }
    assert_eq!(Born::start(&world, quick).done_after_ready().sha256, whole.sha256);
}

impl Born {
    fn done_after_ready(mut self) -> Outcome {
        self.ready();
        self.done()
    }
}

#[test]
fn sealed_it_merges_or_says_why_not() {
    let world = World::new();
    Born::start(&world, config()).done_after_ready();
    let merging = |adapter: &str, files: usize| {
        let me = Born::new();
        let output = world.path("merged.gguf");
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true);
        let files = [
            File::open(world.path("base.gguf")).unwrap(),
            File::open(world.path("adapter.gguf")).unwrap(),
            options.open(&output).unwrap(),
        ]
        .map(OwnedFd::from)
        .into_iter()
        .take(files)
        .collect::<Vec<_>>();
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        let start = ToTrainer::Merge(MergeStart {
            base: sha256(&world.path("base.gguf")),
            adapter: adapter.to_owned(),
            threads: 2,
        });
        socket::send(me.socket.as_fd(), &start, &raw).unwrap();
        me
    };
    let last = |me: &Born| loop {
        match me.hear() {
            FromTrainer::Merging(_) => {}
            last => break last,
        }
    };
    let adapter = sha256(&world.path("adapter.gguf"));
    let mut trainer = merging(&adapter, 3);
    let FromTrainer::Merged(outcome) = last(&trainer) else {
        panic!("it did not merge")
    };
    assert!(trainer.child.wait().unwrap().success());
    assert_eq!(outcome.sha256, sha256(&world.path("merged.gguf")));
    assert!(outcome.size > 0 && outcome.tensors == 14);
    for (adapter, files, why) in [
        ("0".repeat(64), 3, "use the adapter: its SHA-256 is"),
        (adapter.clone(), 2, "2 descriptors came, 3 were expected"),
    ] {
        let mut trainer = merging(&adapter, files);
        let FromTrainer::Failed { reason } = last(&trainer) else {
            panic!("{why}: it did not fail")
        };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(trainer.child.wait().unwrap().code(), Some(1));
    }
}

#[test]
fn a_broken_base_is_a_reason() {
    let world = World::new();
    let whole = fs::read(world.path("base.gguf")).unwrap();
    fs::write(world.path("base.gguf"), &whole[..whole.len() / 2]).unwrap();
    let mut trainer = Born::start(&world, config());
    assert!(
        matches!(trainer.news(), FromTrainer::Failed { reason } if reason.starts_with("use the base model"))
    );
    assert_eq!(trainer.child.wait().unwrap().code(), Some(1));
    assert_eq!(fs::metadata(world.path("adapter.gguf")).unwrap().len(), 0);
}

#[test]
fn a_base_that_is_cut_under_it_ends_it_by_a_signal_and_leaves_no_adapter() {
    let world = World::new();
    let mut trainer = Born::start(&world, long());
    trainer.ready();
    while trainer.rows() < 5 {}
    let base = File::options().write(true).open(world.path("base.gguf")).unwrap();
    base.set_len(0).unwrap();
    let status = trainer.child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}");
    assert_eq!(fs::metadata(world.path("adapter.gguf")).unwrap().len(), 0);
}

/// Where no group of processes bounds its memory, the kernel gives none at some point, and Rust ends the program.
#[test]
fn without_memory_it_ends_by_the_signal_that_it_may_end_by() {
    let wide = Shape {
        embedding: 256,
        layers: 4,
        feed_forward: 1024,
        ..Shape::tiny(Architecture::Llama)
    };
    let world = World::of(&wide);
    let config = TrainingConfig {
        sequence_length: 256,
        ..long()
    };
    // One that stands still before its first row: what a row takes, it does not have yet.
    let mut trainer = loop {
        let trainer = Born::start(&world, config.clone());
        socket::send(trainer.socket.as_fd(), &ToTrainer::Pause, &[]).unwrap();
        trainer.ready();
        if trainer.rows() == 0 {
            // A row that had begun would be counted by now.
            std::thread::sleep(Duration::from_secs(1));
            if trainer.rows() == 0 {
                break trainer;
            }
        }
    };
    let pid = trainer.child.id().try_into().unwrap();
    let none = libc::rlimit {
        rlim_cur: 1,
        rlim_max: libc::RLIM_INFINITY,
    };
    for limit in [libc::RLIMIT_AS, libc::RLIMIT_DATA] {
        // SAFETY: the pointer is to a limit that lives as long as the call.
        let set = unsafe { libc::prlimit(pid, limit, &raw const none, std::ptr::null_mut()) };
        assert_eq!(set, 0);
    }
    socket::send(trainer.socket.as_fd(), &ToTrainer::Resume, &[]).unwrap();
    let status = trainer.child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
    assert_eq!(fs::metadata(world.path("adapter.gguf")).unwrap().len(), 0);
}

#[test]
fn started_by_nobody_it_says_so() {
    let output = trainer().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("started by sarai-supervisor, or by hand"), "{said}");
}
