//! Life of the services. [`machine`] decides, [`driver`] does it for children with a birth
//! socket, whose kinds are each a [`program`], [`plain`] for
//! those without one; [`board`] is what is known of all of them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sarai_wire::adapter::{AdapterAnswer, AdapterOrder};
use sarai_wire::feedback::{Forget, Forgotten};
use sarai_wire::memory::{Ease, Eased};
use sarai_wire::night::{DataSetAnswer, DataSetOrder, MeasureAnswer, MeasureOrder};
use tokio::sync::{mpsc, oneshot};

use crate::problems::lock;

pub mod announcer;
pub mod board;
pub mod driver;
mod ending;
pub mod engine;
pub mod gateway;
pub mod machine;
pub mod plain;
pub mod program;
pub mod running;
pub mod ssh;

/// Name of the engine that answers.
pub const PRIMARY: &str = "engine-primary";
/// Name of the engine that answers when the primary cannot.
pub const FALLBACK: &str = "engine-fallback";
/// Name of the gateway.
pub const GATEWAY: &str = "gateway";

/// An order to a driver; the sender is told once it has been carried out.
#[derive(Debug)]
pub enum Order {
    /// Start anew.
    Restart(oneshot::Sender<()>),
    /// End for good; told when the child is gone.
    Stop(oneshot::Sender<()>),
    /// Have the child read its files again; told when it has answered a ping sent after that.
    Reload(oneshot::Sender<()>),
    /// Have the child give memory back, or take it again; told what came of it. Dropped without a child that serves.
    Ease(Ease, oneshot::Sender<Eased>),
    /// Have the child forget what clients said of answers; told what came of it. Dropped without a child that serves.
    Forget(Forget, oneshot::Sender<Forgotten>),
    /// Have the child do something about adapters, with a file where one is needed; told what came of it. Dropped
    /// without a child that serves.
    Adapter(AdapterOrder, Option<OwnedFd>, oneshot::Sender<AdapterAnswer>),
    /// Have the child do something for a night of learning. Dropped without a child that serves.
    Night(NightOrder),
    /// Tell the child the news ([`program::Program::news`]).
    Notice,
}

/// What a night of learning wants of the gateway.
#[derive(Debug)]
pub enum NightOrder {
    /// Choose what is learnt, and write it into these files; told what came of it.
    DataSet(DataSetOrder, Vec<OwnedFd>, oneshot::Sender<DataSetAnswer>),
    /// Measure with an adapter, on the examples of this file; told what came of it.
    Measure(MeasureOrder, OwnedFd, oneshot::Sender<MeasureAnswer>),
    /// Give up what was ordered.
    Wake,
}

impl Order {
    /// Whether it is for a child that is there, and nothing without one.
    fn is_for_child(&self) -> bool {
        matches!(
            self,
            Self::Ease(..) | Self::Forget(..) | Self::Adapter(..) | Self::Night(_) | Self::Notice
        )
    }
}

/// Orders waiting for one driver.
const QUEUE: usize = 8;

/// The way to every driver; cheap to clone.
#[derive(Clone, Default)]
pub struct Orders(Arc<Mutex<BTreeMap<String, mpsc::Sender<Order>>>>);

impl Orders {
    /// A driver's own end.
    pub fn register(&self, name: &str) -> mpsc::Receiver<Order> {
        let (to, from) = mpsc::channel(QUEUE);
        lock(&self.0).insert(name.to_owned(), to);
        from
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        lock(&self.0).keys().cloned().collect()
    }

    /// Gives an order and waits at most `limit` until it has been carried out. False when it was not, or when there
    /// is no such service.
    pub async fn give(
        &self,
        name: &str,
        order: impl FnOnce(oneshot::Sender<()>) -> Order,
        limit: Duration,
    ) -> bool {
        let (tell, told) = oneshot::channel();
        self.send(name, order(tell)) && matches!(tokio::time::timeout(limit, told).await, Ok(Ok(())))
    }

    /// Gives an order without waiting for it. False when the driver has too many, or when there is no such service.
    pub fn send(&self, name: &str, order: Order) -> bool {
        let to = lock(&self.0).get(name).cloned();
        to.is_some_and(|to| to.try_send(order).is_ok())
    }

    /// Has a service give memory back, or take it again, and waits at most `limit` for what came of it.
    ///
    /// # Errors
    /// A sentence when it did not answer.
    pub async fn ease(&self, name: &str, ease: Ease, limit: Duration) -> Result<Eased, String> {
        let (tell, told) = oneshot::channel();
        if !self.send(name, Order::Ease(ease, tell)) {
            return Err(format!("{name} did not take the order"));
        }
        answered(name, told, limit).await
    }

    /// Has a service do something about adapters, and waits at most `limit` for what came of it.
    ///
    /// # Errors
    /// When it did not answer; fits after "failed to".
    pub async fn adapter(
        &self,
        name: &str,
        order: AdapterOrder,
        file: Option<OwnedFd>,
        limit: Duration,
    ) -> Result<AdapterAnswer, String> {
        let (tell, told) = oneshot::channel();
        if !self.send(name, Order::Adapter(order, file, tell)) {
            return Err(format!("give the order: {name} did not take it"));
        }
        let answer = answered(name, told, limit).await;
        answer.map_err(|why| format!("hear of the order: {why}"))
    }

    /// Has a service forget what clients said of answers, and waits at most `limit` for what came of it.
    ///
    /// # Errors
    /// A sentence when it did not answer.
    pub async fn forget(&self, name: &str, what: Forget, limit: Duration) -> Result<Forgotten, String> {
        let (tell, told) = oneshot::channel();
        if !self.send(name, Order::Forget(what, tell)) {
            return Err(format!("{name} did not take the order"));
        }
        answered(name, told, limit).await
    }

    /// Has a service choose what a night learns, and waits at most `limit` for what came of it.
    ///
    /// # Errors
    /// When it did not answer; fits after "failed to".
    pub async fn data_set(
        &self,
        name: &str,
        order: DataSetOrder,
        files: Vec<OwnedFd>,
        limit: Duration,
    ) -> Result<DataSetAnswer, String> {
        let (tell, told) = oneshot::channel();
        let order = NightOrder::DataSet(order, files, tell);
        self.for_the_night(name, order, told, limit).await
    }

    /// Has a service measure with an adapter, and waits at most `limit` for what came of it.
    ///
    /// # Errors
    /// When it did not answer; fits after "failed to".
    pub async fn measure(
        &self,
        name: &str,
        order: MeasureOrder,
        examples: OwnedFd,
        limit: Duration,
    ) -> Result<MeasureAnswer, String> {
        let (tell, told) = oneshot::channel();
        let order = NightOrder::Measure(order, examples, tell);
        self.for_the_night(name, order, told, limit).await
    }

    /// Has a service give up what was ordered for a night.
    pub fn wake(&self, name: &str) {
        self.send(name, Order::Night(NightOrder::Wake));
    }

    async fn for_the_night<T>(
        &self,
        name: &str,
        order: NightOrder,
        told: oneshot::Receiver<T>,
        limit: Duration,
    ) -> Result<T, String> {
        if !self.send(name, Order::Night(order)) {
            return Err(format!("give the order: {name} did not take it"));
        }
        let answer = answered(name, told, limit).await;
        if answer.is_err() {
            // Nobody waits for it any more.
            self.wake(name);
        }
        answer.map_err(|why| format!("hear of the order: {why}"))
    }
}

async fn answered<T>(name: &str, told: oneshot::Receiver<T>, limit: Duration) -> Result<T, String> {
    match tokio::time::timeout(limit, told).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(format!("{name} does not serve, or ended before it answered")),
        Err(_) => Err(format!("{name} did not answer within {} s", limit.as_secs())),
    }
}
