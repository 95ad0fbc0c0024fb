//! One running child: what is known of it, and whether its silence is that of a child that is stuck.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
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
    /// Who waits for the answer to an order to give memory back, by its number.
    pub(super) easing: Vec<(u64, oneshot::Sender<Eased>)>,
    /// Who waits for the answer to an order to forget, by its number.
    pub(super) forgetting: Vec<(u64, oneshot::Sender<Forgotten>)>,
    /// Who waits for the answer to an order about adapters, by its number.
    pub(super) adapting: Vec<(u64, oneshot::Sender<AdapterAnswer>)>,
    /// Who waits for the answer to an order to choose what a night learns, by its number.
    pub(super) choosing: Vec<(u64, oneshot::Sender<DataSetAnswer>)>,
    /// Who waits for the answer to an order to measure for a night, by its number.
    pub(super) measuring: Vec<(u64, oneshot::Sender<MeasureAnswer>)>,
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

    /// Gives an order to forget, with the next number. Dropped where there is none, or the child does not take it.
    pub(super) fn forget<T: Serialize>(
        &mut self,
        order: impl FnOnce(u64) -> Option<T>,
        told: oneshot::Sender<Forgotten>,
    ) {
        self.forgetting.retain(|(_, told)| !told.is_closed());
        self.ordered += 1;
        let order = order(self.ordered);
        let socket = self.birth.get_ref().as_fd();
        if order.is_some_and(|order| birth::send(socket, &order, &[]).is_ok()) {
            self.forgetting.push((self.ordered, told));
        }
    }

    /// It answered such an order.
    pub(super) fn forgotten(&mut self, forgotten: Forgotten) {
        let waits = |(seq, _): &(u64, _)| *seq == forgotten.seq;
        if let Some(at) = self.forgetting.iter().position(waits) {
            let _ = self.forgetting.swap_remove(at).1.send(forgotten);
        }
    }

    /// Gives an order of a night, with the next number and its files. Dropped where there is none, or the child does not
    /// take it.
    pub(super) fn order_night<T: Serialize>(
        &mut self,
        message: impl FnOnce(u64, &NightOrder) -> Option<T>,
        order: NightOrder,
    ) {
        self.choosing.retain(|(_, told)| !told.is_closed());
        self.measuring.retain(|(_, told)| !told.is_closed());
        self.ordered += 1;
        let seq = self.ordered;
        let Some(message) = message(seq, &order) else {
            return;
        };
        let files: Vec<_> = match &order {
            NightOrder::DataSet(_, files, _) => files.iter().map(AsRawFd::as_raw_fd).collect(),
            NightOrder::Measure(_, examples, _) => vec![examples.as_raw_fd()],
            NightOrder::Wake => Vec::new(),
        };
        if birth::send(self.birth.get_ref().as_fd(), &message, &files).is_err() {
            return;
        }
        match order {
            NightOrder::DataSet(_, _, told) => self.choosing.push((seq, told)),
            NightOrder::Measure(_, _, told) => self.measuring.push((seq, told)),
            NightOrder::Wake => {}
        }
    }

    /// It chose, or could not: who ordered that is told.
    pub(super) fn chosen(&mut self, answer: DataSetAnswer) {
        if let Some(at) = self.choosing.iter().position(|(seq, _)| *seq == answer.seq) {
            let _ = self.choosing.swap_remove(at).1.send(answer);
        }
    }

    /// It measured, or could not: who ordered that is told.
    pub(super) fn measured(&mut self, answer: MeasureAnswer) {
        if let Some(at) = self.measuring.iter().position(|(seq, _)| *seq == answer.seq) {
            let _ = self.measuring.swap_remove(at).1.send(answer);
        }
    }

    /// It gave memory back, or took it again: who ordered that is told.
    pub(super) fn eased(&mut self, eased: Eased) {
        if let Some(at) = self.easing.iter().position(|(seq, _)| *seq == eased.seq) {
            let _ = self.easing.swap_remove(at).1.send(eased);
        }
    }

    /// It did something about adapters: who ordered that is told.
    pub(super) fn adapted(&mut self, answer: AdapterAnswer) {
        if let Some(at) = self.adapting.iter().position(|(seq, _)| *seq == answer.seq) {
            let _ = self.adapting.swap_remove(at).1.send(answer);
        }
    }

    /// Sends an order about adapters, with a file where one is needed. Whoever waits for one that cannot be sent learns
    /// that at once.
    pub(super) fn order_adapter<T: Serialize>(
        &mut self,
        order: impl FnOnce(u64) -> Option<T>,
        file: Option<&OwnedFd>,
        told: oneshot::Sender<AdapterAnswer>,
    ) {
        self.ordered += 1;
        let files: Vec<_> = file.iter().map(|file| file.as_raw_fd()).collect();
        let socket = self.birth.get_ref().as_fd();
        if order(self.ordered).is_some_and(|order| birth::send(socket, &order, &files).is_ok()) {
            self.adapting.push((self.ordered, told));
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
