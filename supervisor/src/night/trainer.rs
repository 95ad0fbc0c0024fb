//! One run of the trainer: born, watched, paused while others need the machine, and ended. Whatever it does, it ends
//! with what it was to make or with a reason, and nobody else notices.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::Signal;
use sarai_wire::birth::{self, BirthError};
use sarai_wire::control::ServiceState;
use sarai_wire::memory::Rung;
use sarai_wire::training::{FromTrainer, ToTrainer};
use tokio::io::unix::AsyncFd;

use super::jobs::{Made, Shown, Task};
use super::stop::Stop;
use crate::app::App;
use crate::reaper::Exit;
use crate::sandbox::denied::Witness;
use crate::sandbox::policy;
use crate::service::running::{Computed, LOOK, PING, overdue, receive};
use crate::spawn::{self, Child, Spec};

/// Its name.
pub const TRAINER: &str = "trainer";
/// Time to read base and data set, besides what the base's size adds.
const STARTUP: Duration = Duration::from_secs(300);
/// Bytes of the base that are read in a second at the least.
const SLOWEST: u64 = 10 * 1024 * 1024;
/// Longest time without a row computed, unless it is paused. A row of the largest model on the slowest machine takes a
/// few minutes.
const STUCK: Duration = Duration::from_secs(1200);
/// Besides its time budget, for its last row and its adapter.
const SLACK: Duration = Duration::from_secs(900);
/// Time to end by order: the row at hand, and a checkpoint.
const STOP: Duration = Duration::from_secs(60);
/// Time to end by itself once it said that it does.
const LEAVE: Duration = Duration::from_secs(5);
/// How long nobody has asked anything before it goes on.
const QUIET: Duration = Duration::from_secs(3);
/// How long memory may be short before it is ended: what it holds is given back by that alone.
const SHORT: Duration = Duration::from_secs(60);
/// Most packets in one second before it counts as broken.
const MAX_PACKETS: u32 = 1_000;
/// Longest reason that is taken from it, characters.
const REASON: usize = 400;

/// What it is to do.
pub struct Job {
    /// Which of the two.
    pub task: Task,
    /// Its first message.
    pub start: ToTrainer,
    /// The files that go with it.
    pub files: Vec<OwnedFd>,
    /// Bytes of the base.
    pub size: u64,
    /// Bytes of the largest file that it writes, where that is more than an adapter's.
    pub largest: u64,
    /// How long it may take.
    pub budget: Duration,
}

/// A running trainer and what is known of it.
struct Running<'a> {
    app: &'a App,
    task: Task,
    child: Child,
    birth: AsyncFd<OwnedFd>,
    seq: u64,
    pinged: Instant,
    answered: Instant,
    computed: Computed,
    /// Rows it had computed, or parts it had written, and when that number last grew or it was last paused.
    rows: (u64, Instant),
    /// Until when it must be ready; none once it is.
    startup: Option<Instant>,
    /// Until when it must have ended by itself.
    end: Instant,
    paused: bool,
    short: Option<Instant>,
    shown: Shown,
    /// Why it was told to stop, and when.
    stopping: Option<(String, Instant)>,
    /// When it said that it ends, or was killed; nothing it says after that counts.
    leaving: Option<Instant>,
    said: Option<Result<Made, String>>,
    packets: (Instant, u32),
    silence: Duration,
}

/// Has it done. Returns when the trainer has ended, with what it says of what it made.
///
/// # Errors
/// Why there is nothing; fits after "failed to".
pub async fn run(app: &App, job: Job, stop: &mut Stop) -> Result<Made, String> {
    let word = job.task.word();
    let killed_before = oom_kills(app);
    // Opened before the child is born: what the kernel says of it comes after this.
    let witness = Witness::begin();
    let user = if app.layout.separate {
        spawn::TRAINER.name.to_owned()
    } else {
        crate::run::current_user()
    };
    app.board.enter(TRAINER, &user, &app.cores.house);
    let ended = match start(app, job) {
        Ok(running) => Ok(watch(running, stop).await),
        Err(e) => Err(format!("start the trainer: {e}")),
    };
    app.board.leave(TRAINER);
    let (said, stopping, exit, pid) = ended?;
    app.logs.say(&format!(
        "{TRAINER}: ended: {}",
        exit.map_or_else(|| "unknown".to_owned(), |exit| exit.to_string())
    ));
    let call = match exit {
        Some(Exit::Signal(libc::SIGSYS)) => witness.name_of(pid).await,
        _ => None,
    };
    End {
        word,
        said,
        stopping,
        exit,
        starved: (oom_kills(app) > killed_before).then(|| most(app)),
        call,
    }
    .outcome()
}

/// How a trainer ended.
struct End {
    /// What could not be done, before a colon.
    word: &'static str,
    /// What it said last, or why it was killed.
    said: Option<Result<Made, String>>,
    /// Why it was told to stop, where it did not say that it did.
    stopping: Option<String>,
    exit: Option<Exit>,
    /// Where the kernel ended something in its group for want of memory: the most that it might use, bytes.
    starved: Option<u64>,
    /// The system call that ended it, where one did that has a name.
    call: Option<String>,
}

impl End {
    /// What it came to: its own word counts where its status does not say more.
    fn outcome(self) -> Result<Made, String> {
        let word = self.word;
        if let Some(most) = self.starved {
            return Err(format!(
                "{word}: the trainer ran out of memory: it may use {} MiB (training.memory)",
                most >> 20
            ));
        }
        match (self.said, self.exit) {
            (Some(Ok(made)), Some(Exit::Code(0))) => Ok(made),
            (_, Some(Exit::Signal(libc::SIGSYS))) => {
                let call = self.call.unwrap_or_else(|| "not named".to_owned());
                Err(format!(
                    "{word}: the trainer tried what it may not: system call {call}"
                ))
            }
            (_, Some(exit @ Exit::Signal(libc::SIGBUS))) => Err(format!(
                "{word}: bytes of a file it was given cannot be read: {exit}"
            )),
            (Some(Err(why)), _) => Err(why),
            // How Rust ends where the kernel gives no memory.
            (_, Some(exit @ Exit::Signal(libc::SIGABRT))) => Err(format!(
                "{word}: the trainer gave up, most likely for want of memory: {exit}; see: sarai logs trainer"
            )),
            _ if self.stopping.is_some() => Err(self.stopping.unwrap_or_default()),
            (_, Some(exit)) => Err(format!("{word}: the trainer ended before it was done: {exit}")),
            (_, None) => Err(format!("{word}: the trainer ended before it was done")),
        }
    }
}

/// How often the kernel has ended something in its group for want of memory.
fn oom_kills(app: &App) -> Option<u64> {
    app.tree.as_ref()?.oom_kills(TRAINER)
}

/// Most memory that its group may use, bytes.
fn most(app: &App) -> u64 {
    app.tree.as_ref().map_or(0, |tree| tree.limits().trainer)
}

fn start<'a>(app: &'a App, job: Job) -> io::Result<Running<'a>> {
    let Job {
        task,
        start,
        files,
        size,
        largest,
        budget,
    } = job;
    let (ours, theirs) = birth::pair()?;
    nix::fcntl::fcntl(
        &ours,
        nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
    )?;
    let spec = Spec {
        user: app.layout.separate.then_some(spawn::TRAINER),
        cpus: app.cores.house.clone(),
        cgroup: app.tree.as_ref().map(|tree| tree.procs(TRAINER)).transpose()?,
        // Before everybody else: what it does can be done another night.
        oom_score_adj: 500,
        birth: Some(theirs.as_fd()),
        sandbox: Some(policy::trainer(&app.layout, largest)),
        site: app.layout.run.clone(),
        ..Spec::new(app.layout.programs.join("sarai-trainer"))
    };
    let mut child = spawn::spawn(&app.reaper, &spec)?;
    drop(theirs);
    // Before it is told what to do: the threads it makes then are as patient.
    after_everybody(child.pid.as_raw());
    if let Some(output) = child.output.take() {
        tokio::spawn(app.logs.clone().pump(TRAINER.to_owned(), output));
    }
    let files: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    birth::send(ours.as_fd(), &start, &files).map_err(io::Error::other)?;
    // SAFETY: an owned descriptor stays the same for as long as it lives, and only the `AsyncFd` has it.
    let birth = unsafe { AsyncFd::register(ours) }?;
    app.board.started(TRAINER, child.pid.as_raw(), None);
    app.board.confined(TRAINER, std::mem::take(&mut child.duties));
    app.board.state(TRAINER, ServiceState::Starting);
    app.logs.say(&format!("{TRAINER}: starting"));
    let (now, startup) = (Instant::now(), STARTUP + Duration::from_secs(size / SLOWEST));
    Ok(Running {
        app,
        task,
        child,
        birth,
        seq: 0,
        pinged: now,
        answered: now,
        computed: Computed::default(),
        rows: (0, now),
        startup: Some(now + startup),
        end: now + startup + budget + SLACK,
        paused: false,
        short: None,
        shown: Shown::begin(task),
        stopping: None,
        leaving: None,
        said: None,
        packets: (now, 0),
        silence: Duration::from_secs(app.config.engine.silence_s.into()),
    })
}

/// Nicest of all, and last at the disk. Where a group's weights say so too, this is for those without groups.
fn after_everybody(pid: i32) {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    // SAFETY: neither call takes a pointer; at worst they refuse.
    unsafe {
        libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, pid, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, pid, CLASS_IDLE);
    }
}

type Ended = (Option<Result<Made, String>>, Option<String>, Option<Exit>, i32);

/// Until it has been collected.
async fn watch(mut running: Running<'_>, stop: &mut Stop) -> Ended {
    let mut tick = crate::tasks::beat(LOOK);
    let exit = loop {
        tokio::select! {
            exit = &mut running.child.exit => break exit.ok(),
            message = receive::<FromTrainer>(&running.birth), if running.leaving.is_none() => running.heard(message),
            why = stop.wanted(), if running.stopping.is_none() => running.stop(why),
            _ = tick.tick() => running.tick(),
            () = running.app.night.busy.noted(), if running.gives_way() => running.yield_to_others(),
        }
    };
    // What it said last may explain its end better than its status.
    while running.leaving.is_none() {
        match birth::recv::<FromTrainer>(running.birth.get_ref().as_fd()) {
            Ok((message, _)) => running.heard(Ok(message)),
            Err(_) => break,
        }
    }
    let why = running.stopping.take().map(|(why, _)| why);
    (running.said.take(), why, exit, running.child.pid.as_raw())
}

impl Running<'_> {
    fn heard(&mut self, message: Result<FromTrainer, BirthError>) {
        if self.packets.0.elapsed() >= Duration::from_secs(1) {
            self.packets = (Instant::now(), 0);
        }
        self.packets.1 += 1;
        if self.packets.1 > MAX_PACKETS {
            return self.kill(&format!("more than {MAX_PACKETS} messages in a second"));
        }
        match message {
            Ok(FromTrainer::Ready(prepared)) => {
                self.startup = None;
                self.app.board.state(TRAINER, ServiceState::Ready);
                self.app.logs.say(&format!(
                    "{TRAINER}: {} numbers to learn from {} examples ({} held out, {} cut, {} left out) in {} steps{}{}",
                    prepared.parameters,
                    prepared.examples,
                    prepared.held_out,
                    prepared.cut,
                    prepared.dropped,
                    prepared.steps,
                    match prepared.anchors {
                        0 => String::new(),
                        tokens => format!(", held to the base at {tokens} tokens"),
                    },
                    match prepared.resumed {
                        0 => String::new(),
                        step => format!(", going on from step {step}"),
                    }
                ));
            }
            Ok(FromTrainer::Progress(progress)) => {
                self.shown = Shown::Training(Some(progress));
                self.show();
            }
            Ok(FromTrainer::Merging(merging)) => {
                if self.startup.take().is_some() {
                    self.app.board.state(TRAINER, ServiceState::Ready);
                }
                self.shown = Shown::Merging(merging);
                self.show();
            }
            Ok(FromTrainer::Note { text }) => {
                self.app.logs.say(&format!("{TRAINER}: {}", short(&text)));
            }
            Ok(FromTrainer::Pong { seq, rows, .. }) => {
                // An answer to a ping that was never sent proves nothing.
                if seq <= self.seq {
                    self.answered = Instant::now();
                }
                if rows > self.rows.0 {
                    self.rows = (rows, Instant::now());
                }
            }
            Ok(FromTrainer::Done(outcome)) => self.leave(Ok(Made::Adapter(outcome))),
            Ok(FromTrainer::Merged(outcome)) => self.leave(Ok(Made::Model(outcome))),
            Ok(FromTrainer::Stopped { step, saved }) => {
                let why = self
                    .stopping
                    .take()
                    .map_or("it was ended from outside".to_owned(), |(why, _)| why);
                let kept = if saved { "kept" } else { "not kept" };
                self.leave(Err(match self.task {
                    Task::Train => format!("{why}: {step} steps were done and are {kept}"),
                    Task::Merge => why,
                }));
            }
            Ok(FromTrainer::Failed { reason }) => self.leave(Err(short(&reason))),
            // Its end follows at once, and its status says more; see `tick` for one that stays.
            Err(BirthError::Closed) => self.leaving = Some(Instant::now()),
            Err(e) => self.kill(&format!("the trainer spoke wrongly: {e}")),
        }
    }

    fn leave(&mut self, said: Result<Made, String>) {
        self.said = Some(said);
        self.leaving = Some(Instant::now());
    }

    /// Ends it at once; why fits after the task's word and a colon.
    fn kill(&mut self, why: &str) {
        let word = self.task.word();
        self.kill_for(format!("{word}: {why}"));
    }

    fn kill_for(&mut self, why: String) {
        self.app.reaper.signal_group(self.child.pid, Signal::SIGKILL);
        self.said.get_or_insert(Err(why));
        self.leaving = Some(Instant::now());
    }

    /// Asks it to keep what it has and to end.
    fn stop(&mut self, why: String) {
        self.stopping = Some((why, Instant::now()));
        self.send(&ToTrainer::Stop);
    }

    /// A full socket means that it does not read: its silence will tell.
    fn send(&self, message: &ToTrainer) {
        let _ = birth::send(self.birth.get_ref().as_fd(), message, &[]);
    }

    fn show(&self) {
        self.shown.show(self.app, self.paused);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if let Some(since) = self.leaving {
            if since.elapsed() > LEAVE {
                self.kill("the trainer did not end");
            }
            return;
        }
        let silent = self.answered.elapsed();
        let computes = self.computed.moves(self.child.pid.as_raw(), self.answered);
        if self.paused {
            self.rows.1 = now;
        }
        if overdue(silent, self.silence, computes) {
            self.kill(&format!("the trainer gave no answer for {} s", silent.as_secs()));
        } else if let Some((why, since)) = &self.stopping {
            if since.elapsed() > STOP {
                let why = format!("{why}: it did not end in time and was killed");
                self.kill_for(why);
            }
        } else if self.startup.is_some_and(|until| now > until) {
            self.kill("the trainer was not ready in time");
        } else if self.startup.is_none() && self.rows.1.elapsed() > STUCK {
            self.kill(&format!("no progress for {} s", STUCK.as_secs()));
        } else if now > self.end {
            self.stop(format!("{}: it exceeded its time budget", self.task.word()));
        } else {
            self.yield_to_others();
        }
        if self.pinged.elapsed() >= PING {
            (self.seq, self.pinged) = (self.seq + 1, now);
            self.send(&ToTrainer::Ping { seq: self.seq });
        }
    }

    /// Whether it computes, and would have to stand still if somebody asked something.
    fn gives_way(&self) -> bool {
        self.leaving.is_none() && self.stopping.is_none() && self.startup.is_none() && !self.paused
    }

    /// Requests come first where they are computed on the same CPUs, and so does whoever needs memory.
    fn yield_to_others(&mut self) {
        let rung = self.app.ladder.notice().rung;
        if rung == Rung::Normal {
            self.short = None;
        } else if self.short.get_or_insert_with(Instant::now).elapsed() > SHORT {
            return self.stop(format!("{}: memory is short", self.task.word()));
        }
        let busy = self.app.cores.shared() && self.app.night.busy.idle() < QUIET;
        let pause = busy || rung != Rung::Normal;
        if pause != self.paused {
            self.paused = pause;
            self.send(if pause {
                &ToTrainer::Pause
            } else {
                &ToTrainer::Resume
            });
            self.show();
        }
    }
}

fn short(text: &str) -> String {
    text.chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sarai_wire::training::{Ended, Outcome};

    fn outcome() -> Outcome {
        Outcome {
            ended: Ended::Finished,
            step: 9,
            steps: 9,
            best_step: 9,
            loss: 1.0,
            held_out_before: None,
            held_out: None,
            refused: 0,
            tokens_per_second: 1.0,
            seconds: 1.0,
            size: 1,
            sha256: "ab".repeat(32),
        }
    }

    fn end(exit: Exit) -> End {
        End {
            word: Task::Train.word(),
            said: None,
            stopping: None,
            exit: Some(exit),
            starved: None,
            call: None,
        }
    }

    #[test]
    fn only_a_whole_end_has_an_adapter() {
        let done = |exit| End {
            said: Some(Ok(Made::Adapter(outcome()))),
            ..end(exit)
        };
        let made = done(Exit::Code(0)).outcome();
        assert!(matches!(made, Ok(Made::Adapter(adapter)) if adapter == outcome()));
        for exit in [
            Exit::Code(1),
            Exit::Signal(libc::SIGKILL),
            Exit::Signal(libc::SIGBUS),
            Exit::Signal(libc::SIGSYS),
        ] {
            assert!(done(exit).outcome().is_err(), "{exit}");
        }
        let starved = End {
            starved: Some(64 << 20),
            ..done(Exit::Code(0))
        };
        assert!(starved.outcome().is_err());
        assert!(end(Exit::Code(0)).outcome().is_err());
    }

    #[test]
    fn every_end_has_its_reason() {
        let gave_up = "train: the loss at step 5 is not finite, after 3 returns";
        let own = |exit| End {
            said: Some(Err(gave_up.to_owned())),
            ..end(exit)
        };
        let stopping = Some("go on: nights were turned off".to_owned());
        for (end, why) in [
            (own(Exit::Code(1)), gave_up),
            (
                End {
                    starved: Some(64 << 20),
                    ..end(Exit::Signal(libc::SIGKILL))
                },
                "ran out of memory: it may use 64 MiB",
            ),
            (end(Exit::Signal(libc::SIGKILL)), "signal SIGKILL"),
            (end(Exit::Signal(libc::SIGBUS)), "cannot be read: signal SIGBUS"),
            (own(Exit::Signal(libc::SIGBUS)), "cannot be read: signal SIGBUS"),
            (end(Exit::Signal(libc::SIGABRT)), "want of memory: signal SIGABRT"),
            (end(Exit::Signal(libc::SIGSYS)), "system call not named"),
            (
                End {
                    call: Some("socket".to_owned()),
                    ..end(Exit::Signal(libc::SIGSYS))
                },
                "system call socket",
            ),
            (
                End {
                    stopping: stopping.clone(),
                    ..end(Exit::Code(0))
                },
                "turned off",
            ),
            (
                End {
                    exit: None,
                    ..end(Exit::Code(0))
                },
                "ended before it was done",
            ),
        ] {
            let reason = end.outcome().unwrap_err();
            assert!(reason.contains(why), "{reason}");
        }
    }
}
