//! Life of the services. [`machine`] decides, [`driver`] does it for children with a birth
//! socket, whose kinds are each a [`program`], [`plain`] for
//! those without one; [`board`] is what is known of all of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::problems::lock;

pub mod board;
pub mod driver;
pub mod engine;
pub mod gateway;
pub mod machine;
pub mod plain;
pub mod program;
mod running;

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
        let Some(to) = lock(&self.0).get(name).cloned() else {
            return false;
        };
        let (tell, told) = oneshot::channel();
        to.try_send(order(tell)).is_ok() && matches!(tokio::time::timeout(limit, told).await, Ok(Ok(())))
    }
}
