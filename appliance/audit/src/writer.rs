//! The thread that writes the log. Whoever has a record hands it over and goes on: a full queue loses the record
//! instead of holding up a request, and the next record says how many were lost.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::log::{Head, Limits, Log, LogError};
use crate::record::Event;

/// Most records that wait.
const QUEUE: usize = 1024;
/// Most bytes of texts that wait.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Most records flushed together.
const BATCH: usize = 256;
/// Time between two tries on a disk that takes nothing.
const RETRY: Duration = Duration::from_secs(5);
/// Shortest time between two reports of a head that merely moved.
const REPORT: Duration = Duration::from_secs(60);

/// What the thread tells the one who started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where the chain ends on disk.
    pub head: Option<Head>,
    /// Why nothing can be written; fits after "failed to".
    pub trouble: Option<String>,
    /// Records lost since the start.
    pub lost: u64,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Stats {
    records: AtomicU64,
    lost: AtomicU64,
    waiting: AtomicUsize,
}

impl Stats {
    /// Records on disk.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Records that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A record on its way.
struct Item {
    time: Timestamp,
    size: usize,
    /// Runs on the thread: hashing is no work for the one who hands over.
    event: Box<dyn FnOnce() -> Event + Send>,
}

/// The way to the thread.
pub struct Writer {
    queue: Mutex<Option<SyncSender<Item>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stats: Arc<Stats>,
}

impl Writer {
    /// Starts the thread. It opens the log in `folder`, tries again while that fails, and calls `report` when the head
    /// moved (at most once in a minute), at each rotation, when trouble comes or goes, and at the end.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        folder: PathBuf,
        limits: Limits,
        version: &str,
        report: impl Fn(Report) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (to, from) = sync_channel(QUEUE);
        let stats = Arc::new(Stats::default());
        let keeper = Keeper::new(folder, limits, Arc::clone(&stats), version, Box::new(report));
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || keeper.run(&from))?;
        Ok(Self {
            queue: Mutex::new(Some(to)),
            thread: Mutex::new(Some(thread)),
            stats,
        })
    }

    /// Hands a record over. `size` is roughly what it holds in memory; `event` makes it, on the thread. Never waits:
    /// what does not fit is lost and counted.
    pub fn submit(&self, size: usize, event: impl FnOnce() -> Event + Send + 'static) {
        let item = Item {
            time: Timestamp::now(),
            size,
            event: Box::new(event),
        };
        let waiting = self.stats.waiting.fetch_add(size, Ordering::Relaxed) + size;
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = waiting <= QUEUE_BYTES && queue.as_ref().is_some_and(|to| to.try_send(item).is_ok());
        drop(queue);
        if !sent {
            self.stats.waiting.fetch_sub(size, Ordering::Relaxed);
            self.stats.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes no more records and lets the thread write those it has.
    pub fn end(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the thread has ended, everything written and reported.
    pub fn ended(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's own state.
struct Keeper {
    folder: PathBuf,
    limits: Limits,
    stats: Arc<Stats>,
    report: Box<dyn Fn(Report) + Send>,
    /// `None` while it cannot be opened.
    log: Option<Log>,
    /// Lost and not yet said in a record.
    unsaid: u64,
    /// How many of [`Stats::lost`] are in `unsaid` or were said.
    seen_lost: u64,
    /// When the disk was last tried and took nothing.
    tried: Option<Instant>,
    /// When the head was last reported, and which.
    reported: Option<Instant>,
    told: Option<Head>,
    trouble: Option<String>,
    /// Whether there may be more files than are kept.
    crowded: bool,
    /// Of this try: lines added since the last flush, items of the batch added, and how many of those are flushed.
    lines: u64,
    added: u64,
    safe: u64,
    /// Whether the record of the start is written.
    started: bool,
    version: String,
}

impl Keeper {
    fn new(
        folder: PathBuf,
        limits: Limits,
        stats: Arc<Stats>,
        version: &str,
        report: Box<dyn Fn(Report) + Send>,
    ) -> Self {
        Self {
            folder,
            limits,
            stats,
            report,
            log: None,
            unsaid: 0,
            seen_lost: 0,
            tried: None,
            reported: None,
            told: None,
            trouble: None,
            crowded: true,
            lines: 0,
            added: 0,
            safe: 0,
            started: false,
            version: version.to_owned(),
        }
    }

    fn run(mut self, queue: &Receiver<Item>) {
        self.write(Vec::new());
        loop {
            self.report_if_due();
            match queue.recv_timeout(self.pause()) {
                Ok(item) => {
                    let mut batch = vec![item];
                    batch.extend(queue.try_iter().take(BATCH - 1));
                    self.write(batch);
                }
                Err(RecvTimeoutError::Timeout) => self.write(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.tried = None;
        self.write(Vec::new());
        let mut saying = self.unsaid;
        self.lines = 0;
        if self.log.is_some() {
            let stopped = self
                .add(Timestamp::now().to_string(), &mut saying, Event::Stop)
                .and_then(|()| self.commit(saying));
            if stopped.is_ok() {
                self.tell(self.head());
            }
        }
    }

    /// How long nothing needs to be done.
    fn pause(&self) -> Duration {
        let retry = self
            .tried
            .map_or(REPORT, |tried| RETRY.saturating_sub(tried.elapsed()));
        let moved = self.head().is_some() && self.head() != self.told;
        let report = match self.reported {
            Some(at) if moved => REPORT.saturating_sub(at.elapsed()),
            _ => REPORT,
        };
        retry.min(report).max(Duration::from_millis(1))
    }

    fn head(&self) -> Option<Head> {
        self.log.as_ref().and_then(Log::head)
    }

    /// Writes a batch, and what is to be said besides.
    fn write(&mut self, batch: Vec<Item>) {
        let count = batch.len() as u64;
        for item in &batch {
            self.stats.waiting.fetch_sub(item.size, Ordering::Relaxed);
        }
        let lost = self.stats.lost();
        self.unsaid += lost - self.seen_lost;
        self.seen_lost = lost;
        // A disk that took nothing a moment ago is left alone: each try costs a scan of the newest file.
        if self.tried.is_some_and(|tried| tried.elapsed() < RETRY) {
            return self.lose(count);
        }
        (self.lines, self.added, self.safe) = (0, 0, 0);
        match self.try_write(batch) {
            Ok(()) => {
                self.tried = None;
                if self.trouble.take().is_some() {
                    self.tell(self.head());
                }
            }
            Err(e) => {
                // Opened anew at the next try, which also repairs whatever this one left.
                self.log = None;
                self.tried = Some(Instant::now());
                self.lose(count - self.safe);
                let text = e.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    self.trouble = Some(text);
                    self.tell(None);
                }
            }
        }
    }

    fn lose(&mut self, count: u64) {
        self.stats.lost.fetch_add(count, Ordering::Relaxed);
        self.seen_lost += count;
        self.unsaid += count;
    }

    /// What of the batch got to the disk is in `safe`, also when an error follows.
    fn try_write(&mut self, batch: Vec<Item>) -> Result<(), LogError> {
        let now = || Timestamp::now().to_string();
        let mut pending: Vec<(String, Event)> = Vec::new();
        if self.log.is_none() {
            let (log, repaired) = Log::open(&self.folder, self.limits)?;
            self.log = Some(log);
            self.crowded = true;
            pending.extend(repaired.map(|event| (now(), event)));
        }
        if !self.started {
            let version = self.version.clone();
            pending.push((now(), Event::Start { version }));
        }
        if batch.is_empty() && pending.is_empty() && self.unsaid > 0 {
            pending.push((now(), Event::Lost));
        }
        let mut saying = self.unsaid;
        for (time, event) in pending {
            self.add(time, &mut saying, event)?;
        }
        for item in batch {
            self.add(item.time.to_string(), &mut saying, (item.event)())?;
            self.added += 1;
        }
        self.commit(saying)?;
        self.started = true;
        self.prune()
    }

    fn add(&mut self, time: String, saying: &mut u64, event: Event) -> Result<(), LogError> {
        if self.log.as_ref().is_some_and(Log::is_full) {
            self.commit(*saying)?;
            // The last word of the old file is signed before the new one begins.
            self.tell(self.head());
            if let Some(log) = &mut self.log {
                log.rotate()?;
                self.crowded = true;
            }
        }
        let Some(log) = &mut self.log else { return Ok(()) };
        match log.add(time, *saying, event) {
            Ok(()) => {
                *saying = 0;
                self.lines += 1;
                Ok(())
            }
            // One record that cannot be written must not take the others with it.
            Err(LogError::TooLong | LogError::Encode(_)) => {
                self.stats.lost.fetch_add(1, Ordering::Relaxed);
                self.seen_lost += 1;
                *saying += 1;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn commit(&mut self, saying: u64) -> Result<(), LogError> {
        if let Some(log) = &mut self.log {
            log.commit()?;
            self.stats.records.fetch_add(self.lines, Ordering::Relaxed);
            (self.lines, self.safe, self.unsaid) = (0, self.added, saying);
        }
        Ok(())
    }

    /// Removes files that are too many, each after the record about it is on disk.
    fn prune(&mut self) -> Result<(), LogError> {
        while self.crowded {
            let surplus = self.log.as_ref().map(Log::surplus).transpose()?.flatten();
            let Some(Event::Pruned { file, last }) = surplus else {
                self.crowded = false;
                break;
            };
            let mut saying = self.unsaid;
            let time = Timestamp::now().to_string();
            self.add(time, &mut saying, Event::Pruned { file, last })?;
            self.commit(saying)?;
            if let Some(log) = &self.log {
                log.remove(file)?;
            }
        }
        Ok(())
    }

    fn report_if_due(&mut self) {
        let head = self.head();
        let due = self.reported.is_none_or(|at| at.elapsed() >= REPORT);
        if due && head.is_some() && head != self.told {
            self.tell(head);
        }
    }

    fn tell(&mut self, head: Option<Head>) {
        if head.is_some() {
            self.told = head;
            self.reported = Some(Instant::now());
        }
        (self.report)(Report {
            head,
            trouble: self.trouble.clone(),
            lost: self.stats.lost(),
        });
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
