//! One running child: what is known of it, and whether its silence is that of a child that is stuck.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use sarai_wire::adapter::AdapterAnswer;
use sarai_wire::birth::{self, BirthError};
use sarai_wire::feedback::Forgotten;
use sarai_wire::memory::Eased;
use sarai_wire::night::{DataSetAnswer, MeasureAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::NightOrder;
use crate::sandbox::denied::Witness;
use crate::spawn::Child;

/// Time between two pings.
pub(crate) const PING: Duration = Duration::from_secs(1);
/// Time between two looks at the clock: how much later than its bound a silence is noticed.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// How many times its bound a child may be silent while it demonstrably computes: on a slow machine one step of a
/// long prompt takes its time, and only a child that stands still is known to be stuck.
pub(super) const COMPUTING: u32 = 12;
/// A child whose processor time has not moved for this long stands still.
pub(super) const STILL: Duration = Duration::from_secs(1);

/// Who waits for the answers to orders of one kind, each by its order's number.
#[derive(Debug)]
pub(super) struct Waiting<T>(Vec<(u64, oneshot::Sender<T>)>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Waiting<T> {
    /// The order with this number was given; whoever gave an earlier one and waits no longer is forgotten.
    pub(super) fn enter(&mut self, seq: u64, told: oneshot::Sender<T>) {
        self.0.retain(|(_, told)| !told.is_closed());
        self.0.push((seq, told));
    }

    /// The order with this number was answered. An answer that nobody waits for is nothing.
    pub(super) fn tell(&mut self, seq: u64, answer: T) {
        if let Some(at) = self.0.iter().position(|(own, _)| *own == seq) {
            let _ = self.0.swap_remove(at).1.send(answer);
        }
    }
}

/// A running child and what is known of it.
pub(super) struct Running {
    pub(super) child: Child,
    pub(super) birth: AsyncFd<OwnedFd>,
    pub(super) deadline: Instant,
    pub(super) answered: Instant,
    pub(super) pinged: Instant,
    /// Whether it computes while it owes an answer.
    pub(super) computed: Computed,
    pub(super) seq: u64,
    /// Why it ended, where that says more than its exit status.
    pub(super) why: Option<String>,
    /// Whether it ends because it could not read what it was to work on.
    pub(super) unreadable: bool,
    /// When it was killed, or said that it is about to end; nothing it says after that counts.
    pub(super) leaving: Option<Instant>,
    /// Orders told when this ping, or a later one, is answered.
    pub(super) reloading: Vec<(u64, oneshot::Sender<()>)>,
    /// Who waits for memory to be given back.
    pub(super) easing: Waiting<Eased>,
    /// Who waits for feedback to be forgotten.
    pub(super) forgetting: Waiting<Forgotten>,
    /// Who waits for something about adapters to be done.
    pub(super) adapting: Waiting<AdapterAnswer>,
    /// Who waits for what a night learns to be chosen.
    pub(super) choosing: Waiting<DataSetAnswer>,
    /// Who waits for a night's measurement.
    pub(super) measuring: Waiting<MeasureAnswer>,
    /// Number of the last such order, of any kind.
    pub(super) ordered: u64,
    pub(super) second: Instant,
    pub(super) packets: u32,
    pub(super) asked_to_end: bool,
    /// Sees which system call ended it; taken once it has.
    pub(super) witness: Option<Witness>,
}

impl Running {
    /// It said that it cannot serve, and why.
    pub(super) fn cannot_serve(&mut self, reason: &str, unreadable: bool) {
        let reason: String = reason.chars().take(500).collect();
        self.why = Some(format!("failed to {reason}"));
        self.unreadable = unreadable;
        self.leaving = Some(Instant::now());
    }

    /// Gives an order, with the next number and the files that go with it. Gives the number, where there is such an order
    /// and the child takes it.
    pub(super) fn order<T: Serialize>(
        &mut self,
        message: impl FnOnce(u64) -> Option<T>,
        files: &[RawFd],
    ) -> Option<u64> {
        self.ordered += 1;
        let message = message(self.ordered)?;
        birth::send(self.birth.get_ref().as_fd(), &message, files).ok()?;
        Some(self.ordered)
    }

    /// Gives an order of a night.
    pub(super) fn order_night<T: Serialize>(
        &mut self,
        message: impl FnOnce(u64, &NightOrder) -> Option<T>,
        order: NightOrder,
    ) {
        let files: Vec<_> = match &order {
            NightOrder::DataSet(_, files, _) => files.iter().map(AsRawFd::as_raw_fd).collect(),
            NightOrder::Measure(_, examples, _) => vec![examples.as_raw_fd()],
            NightOrder::Wake => Vec::new(),
        };
        let Some(seq) = self.order(|seq| message(seq, &order), &files) else {
            return;
        };
        match order {
            NightOrder::DataSet(_, _, told) => self.choosing.enter(seq, told),
            NightOrder::Measure(_, _, told) => self.measuring.enter(seq, told),
            NightOrder::Wake => {}
        }
    }

    /// Whether its processor time moves. Looked at only once a ping is overdue.
    pub(super) fn computes(&mut self) -> bool {
        self.computed.moves(self.child.pid.as_raw(), self.answered)
    }
}

/// Whether a process that owes an answer computes.
#[derive(Debug, Default)]
pub(crate) struct Computed {
    /// Its processor time when it was last looked at, in the kernel's ticks.
    time: Option<u64>,
    /// When that last moved.
    moved: Option<Instant>,
}

impl Computed {
    /// Whether its processor time moves, where its last answer came at `answered`. Looked at only once a ping is overdue.
    pub(crate) fn moves(&mut self, pid: i32, answered: Instant) -> bool {
        if answered.elapsed() < PING + LOOK {
            *self = Self::default();
            return false;
        }
        let process = procfs::process::Process::new(pid);
        let now = process
            .and_then(|p| p.stat())
            .ok()
            .map(|stat| stat.utime + stat.stime);
        if let (Some(before), Some(now)) = (self.time, now)
            && now > before
        {
            self.moved = Some(Instant::now());
        }
        self.time = now;
        self.moved.is_some_and(|at| at.elapsed() < STILL)
    }
}

/// Whether a child that has been silent for so long is to be replaced.
pub(crate) fn overdue(silent: Duration, silence: Duration, computes: bool) -> bool {
    silent > if computes { silence * COMPUTING } else { silence }
}

/// One message; descriptors that came with it are closed.
pub(crate) async fn receive<T: DeserializeOwned>(birth: &AsyncFd<OwnedFd>) -> Result<T, BirthError> {
    loop {
        let mut guard = birth.readable().await?;
        match birth::recv::<T>(birth.get_ref().as_fd()) {
            Ok((message, _)) => return Ok(message),
            Err(BirthError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => guard.clear_ready(),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_stands_still_is_replaced_sooner_than_one_that_computes() {
        let seconds = Duration::from_secs;
        assert!(!overdue(seconds(10), seconds(10), false));
        assert!(overdue(seconds(11), seconds(10), false));
        assert!(!overdue(seconds(120), seconds(10), true));
        assert!(overdue(seconds(121), seconds(10), true));
    }
}
