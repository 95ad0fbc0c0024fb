//! What a night of learning needs of the gateway, which alone may read what people said.
//!
//! | module | duty |
//! | --- | --- |
//! | [`data_set`], [`fit`], [`data_files`] | what is learnt, chosen and made tokens; within a row; as the trainer and the gate read it |
//! | [`measure`], [`examples`], [`suite`] | how well the engine does with an adapter, or without; on what |
//! | [`quality`], [`figures`] | how answers go by day; in the metrics |
//!
//! Orders are carried out one after the other, beside the requests of clients. Each is answered, also when the night ends
//! before it is done.

mod data_files;
pub mod data_set;
mod examples;
pub mod figures;
mod fit;
pub mod measure;
pub mod quality;
mod suite;

use std::fs::File;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use sarai_wire::birth::FromGateway;
use sarai_wire::night::{
    DATA_SET_FILES, DataSetAnswer, DataSetOrder, DataSetOutcome, MeasureAnswer, MeasureOrder,
};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::house::House;

/// Why an order is given up. Fits after "failed to".
pub const WOKEN: &str = "finish: the night was ended";

/// Why an order broke off: its task panicked.
const BROKEN: &str = "the gateway's task for it broke off; see: sarai logs gateway";

/// Says when an order is to be given up.
#[derive(Debug, Clone)]
pub struct Woken(watch::Receiver<()>);

impl Woken {
    /// Whether it is to be given up.
    pub fn now(&self) -> bool {
        // Without a sender the gateway ends.
        self.0.has_changed().unwrap_or(true)
    }

    /// Resolves once it is to be given up.
    pub async fn wait(&self) {
        let mut moved = self.0.clone();
        let _ = moved.changed().await;
    }

    /// What `work` comes to; `None` when the night ended before that.
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.wait() => None,
            done = work => Some(done),
        }
    }
}

/// The orders of the night.
pub struct Night {
    house: Arc<House>,
    orders: Queue,
    wake: watch::Sender<()>,
}

/// An order on its way to its answer, and the answer where it breaks off.
struct Order {
    work: Pin<Box<dyn Future<Output = FromGateway> + Send>>,
    broken: FromGateway,
}

/// What is ordered, to be done one after the other.
struct Queue(UnboundedSender<Order>);

impl Queue {
    /// Nothing is ordered yet; `told` hears the answers.
    fn new(told: UnboundedSender<FromGateway>) -> Self {
        let (orders, mut waiting) = unbounded_channel::<Order>();
        tokio::spawn(async move {
            while let Some(Order { work, broken }) = waiting.recv().await {
                // A task of its own: one that panics takes none of the others with it, and is answered all the same.
                let answer = tokio::spawn(work).await.unwrap_or_else(|error| {
                    tracing::error!("failed to carry out an order of the night: {error}");
                    broken
                });
                // Nobody listens any more at the very end.
                let _ = told.send(answer);
            }
        });
        Self(orders)
    }

    fn push(&self, broken: FromGateway, work: impl Future<Output = FromGateway> + Send + 'static) {
        // Whoever carries them out ends only with the runtime.
        let _ = self.0.send(Order {
            work: Box::pin(work),
            broken,
        });
    }
}

impl Night {
    /// Nothing is ordered yet; `told` hears the answers.
    pub fn new(house: Arc<House>, told: UnboundedSender<FromGateway>) -> Self {
        Self {
            house,
            orders: Queue::new(told),
            wake: watch::Sender::new(()),
        }
    }

    /// Has a data set made.
    pub fn data_set(&self, seq: u64, order: DataSetOrder, files: Vec<OwnedFd>) {
        let (house, woken) = (Arc::clone(&self.house), self.woken());
        let reason = format!("make the data set: {BROKEN}");
        let outcome = DataSetOutcome::Failed { reason };
        let broken = FromGateway::DataSet(DataSetAnswer { seq, outcome });
        self.orders.push(broken, async move {
            let outcome = match <[OwnedFd; DATA_SET_FILES]>::try_from(files) {
                Ok(files) => data_set::make(house, order, files.map(File::from), woken).await,
                Err(files) => DataSetOutcome::Failed {
                    reason: format!("take the files of the data set: {} came along", files.len()),
                },
            };
            match &outcome {
                DataSetOutcome::Made { examples, tally, .. } => {
                    tracing::info!(?examples, tally, "made the data set of a night")
                }
                DataSetOutcome::Skipped { reason } => tracing::info!("the night is skipped: {reason}"),
                DataSetOutcome::Failed { reason } => tracing::warn!("failed to {reason}"),
            }
            FromGateway::DataSet(DataSetAnswer { seq, outcome })
        });
    }

    /// Has an adapter measured.
    pub fn measure(&self, seq: u64, order: MeasureOrder, mut files: Vec<OwnedFd>) {
        let (house, woken) = (Arc::clone(&self.house), self.woken());
        let outcome = Err(format!("measure the engine: {BROKEN}"));
        let broken = FromGateway::Measured(MeasureAnswer { seq, outcome });
        self.orders.push(broken, async move {
            let outcome = match (files.pop(), files.len()) {
                (Some(file), 0) => match woken.or(measure::measure(&house, order, File::from(file))).await {
                    Some(outcome) => outcome,
                    None => Err(WOKEN.to_owned()),
                },
                _ => Err("take the file of the gate's examples: one must come along".to_owned()),
            };
            if let Err(reason) = &outcome {
                tracing::warn!("failed to {reason}");
            }
            FromGateway::Measured(MeasureAnswer { seq, outcome })
        });
    }

    /// Gives up whatever is ordered.
    pub fn wake(&self) {
        self.wake.send_replace(());
    }

    fn woken(&self) -> Woken {
        Woken(self.wake.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use sarai_wire::night::Measured;

    use super::*;

    #[tokio::test]
    async fn an_order_that_breaks_off_is_answered_and_the_next_is_carried_out() {
        let (told, mut answers) = unbounded_channel();
        let orders = Queue::new(told);
        let answer =
            |seq, outcome: Result<Measured, String>| FromGateway::Measured(MeasureAnswer { seq, outcome });
        orders.push(answer(1, Err("broken".into())), async { panic!("a defect") });
        let done = answer(2, Err("done".into()));
        orders.push(answer(2, Err("broken".into())), async move {
            tokio::task::yield_now().await;
            done
        });
        for (expected, why) in [(1, "broken"), (2, "done")] {
            let Some(FromGateway::Measured(MeasureAnswer { seq, outcome })) = answers.recv().await else {
                panic!("no answer to {expected}")
            };
            assert_eq!((seq, outcome.unwrap_err().as_str()), (expected, why));
        }
    }

    #[tokio::test]
    async fn whoever_is_ordered_after_the_end_of_a_night_is_not_given_up() {
        let wake = watch::Sender::new(());
        let before = Woken(wake.subscribe());
        assert!(!before.now());
        assert_eq!(before.or(std::future::ready(7)).await, Some(7));
        wake.send_replace(());
        let after = Woken(wake.subscribe());
        assert!(before.now() && !after.now());
        assert_eq!(before.or(std::future::pending::<u8>()).await, None);
        // It stays given up.
        assert_eq!(before.or(std::future::ready(7)).await, None);
        assert_eq!(after.or(std::future::ready(7)).await, Some(7));
        drop(wake);
        assert!(after.now());
        after.wait().await;
    }
}
