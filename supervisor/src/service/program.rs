//! What the driver must know of a kind of service.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sarai_wire::adapter::{AdapterAnswer, AdapterOrder};
use sarai_wire::feedback::{Forget, Forgotten};
use sarai_wire::memory::{Ease, Eased};
use sarai_wire::night::{DataSetAnswer, MeasureAnswer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::NightOrder;
use crate::app::App;
use crate::spawn::Spec;

/// What a child said, as far as the driver cares.
pub enum Said {
    /// It serves; the text is for the log.
    Ready(String),
    /// It cannot serve, and ends.
    Failed {
        /// Why, fitting after "failed to".
        reason: String,
        /// Whether bytes of what it was to work on cannot be read.
        unreadable: bool,
    },
    /// It answered this ping.
    Pong(u64),
    /// It gave memory back, or took it again.
    Eased(Eased),
    /// It forgot, or could not.
    Forgotten(Forgotten),
    /// It did something about adapters, or did not.
    Adapter(AdapterAnswer),
    /// It chose what a night learns, or could not.
    Chosen(DataSetAnswer),
    /// It measured for a night, or could not.
    Measured(MeasureAnswer),
    /// Something that the kind of service has taken note of itself.
    Noted,
}

/// How a child ended, as far as it says something about what it worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By a system call it may not make.
    Denied(String),
    /// By a part of what it worked on that cannot be read, mapped or not.
    Unreadable,
    /// In any other way.
    Other,
}

/// Why a service is not started now.
pub enum Hold {
    /// What it needs is not there yet: asked for again after a while.
    NotYet(String),
    /// What it needs is refused: only an admin's restart tries again.
    Refused(String),
    /// What it needs could not be had: like a failed start.
    Failed(String),
}

/// Everything needed to start one child.
pub struct Launch<M> {
    /// The child.
    pub spec: Spec<'static>,
    /// Its listening socket, if it has one.
    pub listener: Option<Arc<OwnedFd>>,
    /// The first message.
    pub start: M,
    /// Descriptors attached to it.
    pub attached: Vec<OwnedFd>,
    /// Time it has until it serves.
    pub startup: Duration,
}

/// A kind of service.
pub trait Program: Send + 'static {
    /// Messages to the child.
    type To: Serialize + Send + 'static;
    /// Messages from the child.
    type From: DeserializeOwned + Send + 'static;

    /// The service's name.
    fn name(&self) -> &str;
    /// Gets what the child needs. Dropped and called again when an order comes in between.
    fn prepare(&mut self, app: &App) -> impl Future<Output = Result<Launch<Self::To>, Hold>> + Send;
    /// The child serves.
    fn serving(&mut self, app: &App);
    /// What a message means.
    fn said(&mut self, app: &App, message: Self::From) -> Said;
    /// The child ended. Runs away from the main loop's hurry, and before anything is prepared for the next one.
    fn ended(&mut self, app: &App, end: &End) -> impl Future<Output = ()> + Send;
    /// A ping.
    fn ping(seq: u64) -> Self::To;
    /// The order to end.
    fn stop() -> Self::To;
    /// The order to read files again, where there is one.
    fn reload() -> Option<Self::To>;
    /// An order to give memory back, or to take it again, where there is one.
    fn ease(seq: u64, ease: Ease) -> Option<Self::To>;
    /// An order to forget what clients said of answers, where there is one.
    fn forget(_seq: u64, _what: Forget) -> Option<Self::To> {
        None
    }
    /// An order about adapters, where there is one.
    fn adapter(_seq: u64, _order: AdapterOrder) -> Option<Self::To> {
        None
    }
    /// An order of a night of learning, where there is one; its files are attached by the driver.
    fn night(_seq: u64, _order: &NightOrder) -> Option<Self::To> {
        None
    }
    /// What the child is to be told besides what it was started with: at its birth, once it serves, and when there is
    /// something new.
    fn news(&mut self, app: &App, serves: bool) -> Vec<Self::To>;
    /// The service is not about to start: whoever wants something of it should learn that at once.
    fn resting(&mut self, app: &App);
    /// Longest time without an answer to a ping.
    fn silence(&self, app: &App) -> Duration;
    /// Time from the order to end until the child is killed.
    fn drain(&self, app: &App) -> Duration;
}
