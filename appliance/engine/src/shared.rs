//! What the threads of the engine share: the queue, the supervisor's wishes, and the counters.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sarai_wire::adapter::{Adapter, AdapterOrder, Apply};
use sarai_wire::engine::{Error, ErrorKind, Generate};
use sarai_wire::memory::Ease;

use crate::constraint::Matching;
use crate::llama::Token;
use crate::mailbox::Mailbox;
use crate::prefix::KvKey;
use crate::queue::FairQueue;
use crate::validate;

/// Most pings kept unanswered; a supervisor waits for one before it sends the next.
const MAX_PINGS: usize = 16;
/// Most orders kept; a supervisor waits for one to be done before it gives the next.
const MAX_ORDERS: usize = 16;

/// A request ready to run.
#[derive(Debug)]
pub struct Job {
    /// Whose it is.
    pub client: String,
    /// The rendered conversation.
    pub prompt: Vec<Token>,
    /// What its KV cache depends on besides the tokens; the adapter comes to it when the request leaves the queue.
    pub key: KvKey,
    /// Which adapter it is to be computed with.
    pub apply: Apply,
    /// What to do after the prompt.
    pub task: Task,
    /// Where its events go.
    pub mailbox: Arc<Mailbox>,
    /// When it came.
    pub queued: Instant,
}

/// What a request wants.
#[derive(Debug)]
pub enum Task {
    /// An answer.
    Generate(Box<Generation>),
    /// The log-probabilities of these tokens.
    Score(Vec<Token>),
}

/// An answer to generate.
#[derive(Debug)]
pub struct Generation {
    /// The request; its messages are already in the prompt.
    pub request: Generate,
    /// The tokens of its prefix, as the tokeniser makes them.
    pub prefix: Vec<Token>,
    /// Its constraint, which has seen the prefix.
    pub matching: Option<Matching>,
    /// The tokens of its guess.
    pub guess: Vec<Token>,
    /// Seed of the draw.
    pub seed: u64,
}

impl Job {
    /// Whether it fits a context of `context` tokens: the same check as when it came.
    ///
    /// # Errors
    /// [`ErrorKind::ContextLength`] with the counts.
    pub fn check(&self, context: u32) -> Result<(), Error> {
        match &self.task {
            Task::Generate(generation) => {
                validate::check_length(self.prompt.len() + generation.prefix.len(), context)
            }
            Task::Score(text) => validate::check_scored_length(self.prompt.len(), text.len(), context),
        }
    }
}

/// The supervisor's wish for memory back, or for more to be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// Number to repeat in the answer.
    pub seq: u64,
    /// What to do.
    pub ease: Ease,
    /// When it came.
    pub came: Instant,
}

/// The supervisor's wish about adapters.
#[derive(Debug)]
pub struct AdapterWish {
    /// Number to repeat in the answer.
    pub seq: u64,
    /// What to do.
    pub order: AdapterOrder,
    /// The file that came with it.
    pub file: Option<File>,
    /// When it came.
    pub came: Instant,
}

/// What waits for the decode thread.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Requests.
    pub queue: FairQueue<Job>,
    /// Numbers of pings to answer.
    pub pings: VecDeque<u64>,
    /// Orders to give memory back.
    pub orders: VecDeque<Order>,
    /// Orders about adapters.
    pub wishes: VecDeque<AdapterWish>,
    /// The adapter in use; changed by the decode thread.
    pub adapter: Option<Adapter>,
    /// Tokens of one request now; changed by the decode thread.
    pub context: u32,
    /// The supervisor asked to stop.
    pub stop: bool,
    /// Requests running; kept by the decode thread.
    pub running: usize,
    /// Requests whose last event is not written yet.
    open: usize,
}

/// Shared by all threads.
#[derive(Debug)]
pub struct Shared {
    inbox: Mutex<Inbox>,
    changed: Condvar,
    slots: usize,
    waiting: usize,
}

/// Counted as open until dropped.
#[derive(Debug)]
pub struct OpenRequest<'a>(&'a Shared);

impl Drop for OpenRequest<'_> {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// For `slots` requests of at most `context` tokens at the same time and `waiting` behind them.
    pub fn new(slots: usize, waiting: usize, context: u32) -> Self {
        Self {
            inbox: Mutex::new(Inbox {
                context,
                ..Inbox::default()
            }),
            changed: Condvar::new(),
            slots,
            waiting,
        }
    }

    /// The inbox, locked.
    pub fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it holds the lock in a half-done state.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changed.
    pub fn wait<'a>(&self, inbox: MutexGuard<'a, Inbox>) -> MutexGuard<'a, Inbox> {
        self.changed.wait(inbox).unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the decode thread, for example because a request was cancelled.
    pub fn wake(&self) {
        self.changed.notify_all();
    }

    /// Counts a request as open until the answer is dropped.
    pub fn open(&self) -> OpenRequest<'_> {
        self.lock().open += 1;
        OpenRequest(self)
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`ErrorKind::Stopping`] after [`Shared::stop`]; [`ErrorKind::ContextLength`] when the context was made smaller
    /// since the request was checked; [`ErrorKind::Busy`] when every slot is taken and the queue is full.
    pub fn submit(&self, job: Job) -> Result<(), Error> {
        let mut inbox = self.lock();
        if inbox.stop {
            return Err(stopping());
        }
        job.check(inbox.context)?;
        // A free slot takes a request out of the queue at once, so it adds to the room.
        let capacity = self.waiting + self.slots.saturating_sub(inbox.running);
        let client = job.client.clone();
        if inbox.queue.push(&client, job, capacity).is_err() {
            return Err(Error {
                kind: ErrorKind::Busy,
                message: format!("{} requests wait already; try again later", inbox.queue.len()),
            });
        }
        drop(inbox);
        self.wake();
        Ok(())
    }

    /// Asks the decode thread for a sign of life.
    pub fn ping(&self, seq: u64) {
        let mut inbox = self.lock();
        if inbox.pings.len() == MAX_PINGS {
            inbox.pings.pop_front();
        }
        inbox.pings.push_back(seq);
        drop(inbox);
        self.wake();
    }

    /// Asks the decode thread to give memory back, or to use more again.
    pub fn ease(&self, seq: u64, ease: Ease) {
        let mut inbox = self.lock();
        if inbox.orders.len() == MAX_ORDERS {
            inbox.orders.pop_front();
        }
        inbox.orders.push_back(Order {
            seq,
            ease,
            came: Instant::now(),
        });
        drop(inbox);
        self.wake();
    }

    /// Asks the decode thread to do something about adapters.
    pub fn wish(&self, seq: u64, order: AdapterOrder, file: Option<File>) {
        let mut inbox = self.lock();
        if inbox.wishes.len() == MAX_ORDERS {
            inbox.wishes.pop_front();
        }
        inbox.wishes.push_back(AdapterWish {
            seq,
            order,
            file,
            came: Instant::now(),
        });
        drop(inbox);
        self.wake();
    }

    /// The adapter in use now.
    pub fn adapter(&self) -> Option<Adapter> {
        self.lock().adapter.clone()
    }

    /// Tokens of one request now.
    pub fn context(&self) -> u32 {
        self.lock().context
    }

    /// Asks the decode thread to finish.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.wake();
    }

    /// Requests waiting and running now.
    pub fn counts(&self) -> (u32, u32) {
        let inbox = self.lock();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (count(inbox.queue.len()), count(inbox.running))
    }

    /// Waits, at most for `time`, until every connection has written what it owes.
    pub fn wait_written(&self, time: Duration) {
        let wait = self
            .changed
            .wait_timeout_while(self.lock(), time, |inbox| inbox.open > 0);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

/// The error for requests that come or wait while the engine stops.
pub fn stopping() -> Error {
    Error {
        kind: ErrorKind::Stopping,
        message: "the engine is stopping; try again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(client: &str) -> Job {
        Job {
            client: client.into(),
            prompt: vec![1],
            key: KvKey::text("m"),
            apply: Apply::InUse,
            task: Task::Score(vec![1]),
            mailbox: Arc::new(Mailbox::new().unwrap()),
            queued: Instant::now(),
        }
    }

    #[test]
    fn free_slots_add_to_the_room_and_a_full_house_is_busy() {
        let shared = Shared::new(1, 1, 128);
        shared.submit(job("a")).unwrap();
        shared.submit(job("b")).unwrap();
        assert_eq!(shared.submit(job("c")).unwrap_err().kind, ErrorKind::Busy);
        let mut inbox = shared.lock();
        inbox.queue.pop().unwrap();
        inbox.running = 1;
        drop(inbox);
        assert_eq!(shared.submit(job("c")).unwrap_err().kind, ErrorKind::Busy);
        assert_eq!(shared.counts(), (1, 1));
    }

    #[test]
    fn nothing_is_taken_after_a_stop() {
        let shared = Shared::new(1, 1, 128);
        shared.stop();
        assert_eq!(shared.submit(job("a")).unwrap_err().kind, ErrorKind::Stopping);
    }

    #[test]
    fn what_was_checked_before_the_context_shrank_is_refused_with_the_counts() {
        let shared = Shared::new(1, 1, 128);
        let mut long = job("a");
        long.prompt = vec![1; 100];
        shared.lock().context = 64;
        let error = shared.submit(long).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ContextLength);
        assert!(error.message.contains("100 tokens") && error.message.contains("holds 64"));
        shared.submit(job("a")).unwrap();
    }

    #[test]
    fn a_flood_of_pings_is_bounded_and_the_newest_stay() {
        let shared = Shared::new(1, 1, 128);
        for seq in 0..1000 {
            shared.ping(seq);
        }
        let inbox = shared.lock();
        assert_eq!(inbox.pings.len(), MAX_PINGS);
        assert_eq!(inbox.pings.back(), Some(&999));
    }

    #[test]
    fn the_end_waits_for_what_is_not_written_but_not_for_ever() {
        let shared = Shared::new(1, 1, 128);
        let open = shared.open();
        let begin = Instant::now();
        shared.wait_written(Duration::from_millis(30));
        assert!(begin.elapsed() >= Duration::from_millis(30));
        drop(open);
        shared.wait_written(Duration::from_secs(60));
    }
}
