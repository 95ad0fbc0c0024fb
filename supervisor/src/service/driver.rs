//! Drives one service whose child is born with a birth socket: gets what it needs, starts it, pings it, replaces it
//! when it ends or falls silent, and carries out orders.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use sarai_wire::birth::{self, BirthError};
use sarai_wire::control::ServiceState;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::machine::{Event, Machine, Todo};
use super::program::{End, Hold, Launch, Program, Said};
use super::running::{COMPUTING, Computed, LOOK, PING, Running, Waiting, overdue, receive};
use super::{Order, ending};
use crate::app::App;
use crate::sandbox::denied::Witness;
use crate::spawn::{self, Spec};

/// Time a child has to end by itself once it said that it does.
const LEAVE: Duration = Duration::from_secs(2);
/// Most packets a child may send in one second before it counts as broken.
const MAX_PACKETS: u32 = 1_000;

/// What can interrupt a wait.
enum Woken {
    Order(Order),
    Time,
}

/// The driver's own state.
pub struct Driver<P: Program> {
    app: App,
    program: P,
    machine: Machine,
    /// Told when the service has stopped.
    stopping: Vec<oneshot::Sender<()>>,
}

/// Runs one service until the supervisor ends. `orders` outlives a panic of this task.
pub async fn drive<P: Program>(app: App, program: P, orders: Arc<Mutex<mpsc::Receiver<Order>>>) {
    let mut orders = orders.lock().await;
    let mut driver = Driver {
        app,
        program,
        machine: Machine::default(),
        stopping: Vec::new(),
    };
    loop {
        driver.post();
        match driver.machine.todo() {
            Todo::Start => driver.start(&mut orders).await,
            Todo::SleepUntil(until) => {
                let pause = until.saturating_sub(driver.now());
                match wait(&mut orders, pause).await {
                    Woken::Order(order) => driver.order_without_child(order),
                    Woken::Time => driver.event(Event::Tick),
                }
            }
            // `start` returns only when there is no child: these two are states without one.
            Todo::Watch | Todo::End => driver.event(Event::Ended),
            Todo::Rest => {
                for told in driver.stopping.drain(..) {
                    let _ = told.send(());
                }
                match orders.recv().await {
                    Some(order) => driver.order_without_child(order),
                    None => return,
                }
            }
        }
    }
}

async fn wait(orders: &mut mpsc::Receiver<Order>, limit: Duration) -> Woken {
    match tokio::time::timeout(limit, orders.recv()).await {
        Ok(Some(order)) => Woken::Order(order),
        Ok(None) => std::future::pending().await,
        Err(_) => Woken::Time,
    }
}

/// The next order that is not for a child, while there is none: verifying a model is not begun anew for the others.
async fn not_for_child(orders: &mut mpsc::Receiver<Order>) -> Order {
    loop {
        match orders.recv().await {
            Some(order) if order.is_for_child() => {}
            Some(order) => return order,
            None => std::future::pending().await,
        }
    }
}

impl<P: Program> Driver<P> {
    fn now(&self) -> Duration {
        self.app.started.elapsed()
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        self.machine.on(now, event);
        self.post();
    }

    /// Shows the state, and logs it when it changed.
    fn post(&mut self) {
        let state = self.machine.state();
        if matches!(state, ServiceState::Stopped | ServiceState::CrashLoop) {
            self.program.resting(&self.app);
        }
        let name = self.program.name();
        if self.app.board.state(name, state) {
            let word = match state {
                ServiceState::Waiting => return,
                ServiceState::Starting => "starting",
                ServiceState::Ready => "ready",
                ServiceState::Stopping => "stopping",
                ServiceState::Backoff => "ended; starting again",
                ServiceState::CrashLoop => "ended too often; trying again in a minute",
                ServiceState::Stopped => "stopped",
            };
            self.app.logs.say(&format!("{name}: {word}"));
            let topic = format!("service {name}");
            if state == ServiceState::CrashLoop {
                let hint = format!("{name} keeps ending; see: sarai logs {name}");
                self.app.problems.set(&topic, hint);
            } else if state == ServiceState::Ready {
                self.app.problems.clear(&topic);
                self.app.problems.clear(&format!("start {name}"));
            }
        }
    }

    fn order_without_child(&mut self, order: Order) {
        match order {
            Order::Restart(told) => {
                self.event(Event::Restart);
                let _ = told.send(());
            }
            Order::Stop(told) => {
                self.stopping.push(told);
                self.event(Event::Stop);
            }
            // A child that starts later reads the files anyway.
            Order::Reload(told) => drop(told.send(())),
            // It is born as things are then.
            Order::Ease(..) | Order::Forget(..) | Order::Adapter(..) | Order::Night(_) | Order::Notice => {}
        }
    }

    /// Prepares, starts and watches one child until it is gone.
    async fn start(&mut self, orders: &mut mpsc::Receiver<Order>) {
        let prepared = tokio::select! {
            prepared = self.program.prepare(&self.app) => Ok(prepared),
            order = not_for_child(orders) => Err(order),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(order) => return self.order_without_child(order),
        };
        let topic = format!("start {}", self.program.name());
        match prepared {
            Ok(launch) => match self.launch(launch) {
                Ok(running) => self.watch(running, orders).await,
                Err(e) => {
                    self.app
                        .board
                        .ended(self.program.name(), &format!("failed to start: {e}"));
                    self.app
                        .problems
                        .set(&topic, format!("{} cannot be started: {e}", self.program.name()));
                    self.event(Event::Ended);
                }
            },
            Err(Hold::NotYet(reason)) => {
                self.program.resting(&self.app);
                self.app
                    .problems
                    .set(&topic, format!("{} waits: {reason}", self.program.name()));
                if let Woken::Order(order) = wait(orders, Duration::from_secs(2)).await {
                    self.order_without_child(order);
                }
            }
            Err(Hold::Refused(reason)) => {
                self.app.problems.set(
                    &topic,
                    format!("{} is not started: {reason}", self.program.name()),
                );
                self.event(Event::Refused);
            }
            Err(Hold::Failed(reason)) => {
                self.app.problems.set(
                    &topic,
                    format!("{} is not started: {reason}", self.program.name()),
                );
                self.event(Event::Ended);
            }
        }
    }

    fn launch(&mut self, launch: Launch<P::To>) -> io::Result<Running> {
        let name = self.program.name().to_owned();
        let (ours, theirs) = birth::pair()?;
        nix::fcntl::fcntl(
            &ours,
            nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
        )?;
        let spec = Spec {
            birth: Some(theirs.as_fd()),
            listener: launch.listener.as_ref().map(|listener| listener.as_fd()),
            ..launch.spec
        };
        // Opened before the child is born: what the kernel says of it comes after this.
        let witness = Some(Witness::begin());
        let mut child = spawn::spawn(&self.app.reaper, &spec)?;
        drop(theirs);
        if let Some(output) = child.output.take() {
            tokio::spawn(self.app.logs.clone().pump(name.clone(), output));
        }
        let attached: Vec<_> = launch.attached.iter().map(AsRawFd::as_raw_fd).collect();
        birth::send(ours.as_fd(), &launch.start, &attached).map_err(io::Error::other)?;
        for news in self.program.news(&self.app, false) {
            birth::send(ours.as_fd(), &news, &[]).map_err(io::Error::other)?;
        }
        // SAFETY: an owned descriptor stays the same for as long as it lives, and only the `AsyncFd` has it.
        let birth = unsafe { AsyncFd::register(ours) }?;
        self.app.board.started(
            &name,
            child.pid.as_raw(),
            Some(self.program.silence(&self.app) * COMPUTING),
        );
        self.app.board.confined(&name, std::mem::take(&mut child.duties));
        self.event(Event::Spawned);
        let now = Instant::now();
        Ok(Running {
            child,
            birth,
            deadline: now + launch.startup,
            answered: now,
            pinged: now,
            computed: Computed::default(),
            seq: 0,
            why: None,
            unreadable: false,
            leaving: None,
            reloading: Vec::new(),
            easing: Waiting::default(),
            forgetting: Waiting::default(),
            choosing: Waiting::default(),
            measuring: Waiting::default(),
            adapting: Waiting::default(),
            ordered: 0,
            second: now,
            packets: 0,
            asked_to_end: false,
            witness,
        })
    }

    /// Until the child has been collected.
    async fn watch(&mut self, mut running: Running, orders: &mut mpsc::Receiver<Order>) {
        let killed_before = self.oom_kills();
        let mut tick = crate::tasks::beat(LOOK);
        let exit = loop {
            tokio::select! {
                exit = &mut running.child.exit => break exit.ok(),
                message = receive::<P::From>(&running.birth), if running.leaving.is_none() => {
                    self.message(&mut running, message);
                }
                _ = tick.tick() => self.tick(&mut running),
                order = orders.recv() => match order {
                    Some(order) => self.order(&mut running, order),
                    None => std::future::pending().await,
                },
            }
        };
        // What it said last may explain its end better than its status.
        while running.leaving.is_none() && running.why.is_none() {
            match birth::recv::<P::From>(running.birth.get_ref().as_fd()) {
                Ok((message, _)) => {
                    if let Said::Failed { reason, unreadable } = self.program.said(&self.app, message) {
                        running.cannot_serve(&reason, unreadable);
                    }
                }
                Err(_) => break,
            }
        }
        let end = ending::of(&self.app, self.program.name(), &mut running, exit).await;
        let how = match (&end, running.why.take(), exit) {
            (End::Denied(call), ..) => format!("denied system call: {call}"),
            (_, Some(why), _) => why,
            (_, None, Some(exit)) => exit.to_string(),
            (_, None, None) => "unknown".to_owned(),
        };
        let how = if self.oom_kills() > killed_before {
            format!("{how}: out of memory")
        } else {
            how
        };
        // Remembered before it is shown: who sees the end sees what follows from it.
        self.program.ended(&self.app, &end).await;
        self.app.board.ended(self.program.name(), &how);
        self.app
            .logs
            .say(&format!("{}: ended: {how}", self.program.name()));
        // Stays until the service is ready once: a restart alone solves nothing.
        if self.machine.state() == ServiceState::Starting && !running.asked_to_end {
            let name = self.program.name();
            self.app.problems.set(
                &format!("start {name}"),
                format!("{name} ended before it was ready: {how}"),
            );
        }
        self.event(Event::Ended);
        if self.machine.state() == ServiceState::Stopped {
            for told in self.stopping.drain(..) {
                let _ = told.send(());
            }
        }
    }

    /// How often the kernel has ended something in this service's group for want of memory.
    fn oom_kills(&self) -> Option<u64> {
        self.app.tree.as_ref()?.oom_kills(self.program.name())
    }

    fn message(&mut self, running: &mut Running, message: Result<P::From, BirthError>) {
        if running.second.elapsed() >= Duration::from_secs(1) {
            (running.second, running.packets) = (Instant::now(), 0);
        }
        running.packets += 1;
        if running.packets > MAX_PACKETS {
            return self.kill(running, format!("more than {MAX_PACKETS} messages in a second"));
        }
        match message.map(|message| self.program.said(&self.app, message)) {
            Ok(Said::Ready(detail)) => {
                if self.machine.state() == ServiceState::Starting {
                    self.app.logs.say(&format!("{}: {detail}", self.program.name()));
                    running.answered = Instant::now();
                    self.app.board.pong(self.program.name());
                    self.event(Event::Ready);
                    self.program.serving(&self.app);
                    self.tell_news(running);
                }
            }
            Ok(Said::Failed { reason, unreadable }) => running.cannot_serve(&reason, unreadable),
            Ok(Said::Eased(eased)) => running.easing.tell(eased.seq, eased),
            Ok(Said::Adapter(answer)) => running.adapting.tell(answer.seq, answer),
            Ok(Said::Forgotten(forgotten)) => running.forgetting.tell(forgotten.seq, forgotten),
            Ok(Said::Chosen(answer)) => running.choosing.tell(answer.seq, answer),
            Ok(Said::Measured(answer)) => running.measuring.tell(answer.seq, answer),
            Ok(Said::Noted) => {}
            Ok(Said::Pong(seq)) => {
                // An answer to a ping that was never sent proves nothing.
                if seq <= running.seq {
                    running.answered = Instant::now();
                    self.app.board.pong(self.program.name());
                    let (done, waiting) = running.reloading.drain(..).partition(|(at, _)| *at <= seq);
                    running.reloading = waiting;
                    let done: Vec<(u64, oneshot::Sender<()>)> = done;
                    for (_, told) in done {
                        let _ = told.send(());
                    }
                }
            }
            // Its end follows at once, and its status says more; see `tick` for one that stays.
            Err(BirthError::Closed) => running.leaving = Some(Instant::now()),
            Err(e) => self.kill(running, format!("it spoke wrongly: {e}")),
        }
    }

    fn tick(&mut self, running: &mut Running) {
        if let Some(since) = running.leaving {
            let grace = if running.asked_to_end {
                self.program.drain(&self.app)
            } else {
                LEAVE
            };
            if since.elapsed() > grace {
                self.kill(running, "closed its birth socket without ending".to_owned());
            }
            return;
        }
        let silence = self.program.silence(&self.app);
        match self.machine.state() {
            ServiceState::Ready if overdue(running.answered.elapsed(), silence, running.computes()) => {
                let seconds = running.answered.elapsed().as_secs();
                self.kill(running, format!("no answer for {seconds} s"));
            }
            ServiceState::Ready if running.pinged.elapsed() >= PING => self.ping(running),
            ServiceState::Starting if Instant::now() > running.deadline => {
                self.kill(running, "not ready in time".to_owned());
            }
            ServiceState::Stopping if running.asked_to_end && Instant::now() > running.deadline => {
                self.kill(running, "did not end in time".to_owned());
            }
            _ => {}
        }
    }

    fn ping(&mut self, running: &mut Running) {
        running.seq += 1;
        running.pinged = Instant::now();
        // A full socket means that the child does not read: its silence will tell.
        let _ = birth::send(running.birth.get_ref().as_fd(), &P::ping(running.seq), &[]);
    }

    fn order(&mut self, running: &mut Running, order: Order) {
        match order {
            Order::Restart(told) => {
                self.event(Event::Restart);
                self.end(running);
                let _ = told.send(());
            }
            Order::Stop(told) => {
                self.stopping.push(told);
                self.event(Event::Stop);
                self.end(running);
            }
            Order::Notice => self.tell_news(running),
            // Whoever waits for one that is dropped, or cannot be sent, learns that at once.
            Order::Ease(..) | Order::Forget(..) | Order::Adapter(..) | Order::Night(_)
                if self.machine.state() != ServiceState::Ready => {}
            Order::Ease(ease, told) => {
                if let Some(seq) = running.order(|seq| P::ease(seq, ease), &[]) {
                    running.easing.enter(seq, told);
                }
            }
            Order::Forget(what, told) => {
                if let Some(seq) = running.order(|seq| P::forget(seq, what), &[]) {
                    running.forgetting.enter(seq, told);
                }
            }
            Order::Adapter(order, file, told) => {
                let files: Vec<_> = file.iter().map(AsRawFd::as_raw_fd).collect();
                if let Some(seq) = running.order(|seq| P::adapter(seq, order), &files) {
                    running.adapting.enter(seq, told);
                }
            }
            Order::Night(order) => running.order_night(P::night, order),
            Order::Reload(told) => {
                if let Some(reload) = P::reload() {
                    let _ = birth::send(running.birth.get_ref().as_fd(), &reload, &[]);
                    self.ping(running);
                    running.reloading.push((running.seq, told));
                } else {
                    let _ = told.send(());
                }
            }
        }
    }

    /// A full socket means that the child does not read: its silence will tell.
    fn tell_news(&mut self, running: &mut Running) {
        let serves = self.machine.state() == ServiceState::Ready;
        for news in self.program.news(&self.app, serves) {
            let _ = birth::send(running.birth.get_ref().as_fd(), &news, &[]);
        }
    }

    fn end(&mut self, running: &mut Running) {
        if running.asked_to_end {
            return;
        }
        running.asked_to_end = true;
        running.deadline = Instant::now() + self.program.drain(&self.app);
        if birth::send(running.birth.get_ref().as_fd(), &P::stop(), &[]).is_err() {
            self.kill(running, "could not be asked to end".to_owned());
        }
    }

    fn kill(&mut self, running: &mut Running, why: String) {
        self.app.reaper.signal_group(running.child.pid, Signal::SIGKILL);
        running.why.get_or_insert(why);
        running.leaving = Some(Instant::now());
    }
}
