//! The thread that keeps feedback. An answer is handed over and not waited for; a judgment is answered once it is on disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::forget::What;
use crate::journal::JournalError;
use crate::record::{Completion, Judgment};
use crate::store::{Given, JudgeError, Opened, Settings, Store, StoreError};

/// Most jobs that wait.
const QUEUE: usize = 256;
/// Most bytes of answers that wait.
const QUEUE_BYTES: usize = 16 * 1024 * 1024;
/// Time between two tries on a folder that cannot be used.
const RETRY: Duration = Duration::from_secs(5);
/// Time between two looks for what is too old.
const TIDY: Duration = Duration::from_secs(600);

/// Why a job was not done. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The thread has too much to do, or ends.
    #[error("take the feedback: too much waits")]
    Busy,
    /// The folder cannot be used now.
    #[error("use the folder of the feedback: {0}")]
    Away(String),
    /// The judgment is not kept.
    #[error(transparent)]
    Judge(#[from] JudgeError),
    /// It is not forgotten, or not yet out of the files.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Refused {
    /// Whether the disk is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Judge(JudgeError::Journal(JournalError::Full(_)))
                | Self::Store(StoreError::Journal(JournalError::Full(_)))
        )
    }
}

/// Told what came of a job, on the thread.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Refused>) + Send>;

/// A judgment on its way.
pub struct Judging {
    /// Name of the key it came with.
    pub key: String,
    /// Of which answer.
    pub completion: String,
    /// What is said.
    pub judgment: Judgment,
    /// Id of the feedback, if it is new.
    pub id: String,
}

enum Job {
    Remember(Box<Completion>, usize),
    Judge(Judging, Reply<Given>),
    Forget(What, Reply<u64>),
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Stats {
    lost: AtomicU64,
    waiting: AtomicUsize,
}

impl Stats {
    /// Answers that could not be kept to be judged.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// The way to the thread.
pub struct Keeper {
    queue: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    stats: Arc<Stats>,
}

/// What the thread says for a log: sentences without anybody's text.
pub type Say = Box<dyn Fn(String) + Send>;

impl Keeper {
    /// Starts the thread. It opens the folder, and tries again while that fails.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(settings: Settings, say: Say) -> std::io::Result<Self> {
        let (to, from) = sync_channel(QUEUE);
        let stats = Arc::new(Stats::default());
        let worker = Worker {
            settings,
            say,
            stats: Arc::clone(&stats),
            store: Err((Instant::now(), String::new())),
            full: false,
            said: VecDeque::new(),
        };
        let thread = std::thread::Builder::new()
            .name("feedback".to_owned())
            .spawn(move || worker.run(&from))?;
        Ok(Self {
            queue: Mutex::new(Some(to)),
            thread: Mutex::new(Some(thread)),
            stats,
        })
    }

    /// Hands over an answer that may be judged. Never waits: what does not fit is lost and counted.
    pub fn remember(&self, completion: Completion) {
        let texts: usize = completion.messages.iter().map(|m| m.content.len() + 64).sum();
        let size = texts + completion.answer.len() + 512;
        let waiting = self.stats.waiting.fetch_add(size, Ordering::Relaxed) + size;
        if waiting > QUEUE_BYTES || self.send(Job::Remember(Box::new(completion), size)).is_some() {
            self.stats.waiting.fetch_sub(size, Ordering::Relaxed);
            self.stats.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps a judgment; `reply` is told what came of it once it is on disk.
    pub fn judge(&self, judging: Judging, reply: Reply<Given>) {
        if let Some(Job::Judge(_, reply)) = self.send(Job::Judge(judging, reply)) {
            reply(Err(Refused::Busy));
        }
    }

    /// Forgets; `reply` is told how many lines of judgments went once they are out of the files.
    pub fn forget(&self, what: What, reply: Reply<u64>) {
        if let Some(Job::Forget(_, reply)) = self.send(Job::Forget(what, reply)) {
            reply(Err(Refused::Busy));
        }
    }

    /// The job, if it is not taken.
    fn send(&self, job: Job) -> Option<Job> {
        use std::sync::mpsc::TrySendError::{Disconnected, Full};
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        match queue.as_ref() {
            None => Some(job),
            Some(to) => match to.try_send(job) {
                Ok(()) => None,
                Err(Full(job) | Disconnected(job)) => Some(job),
            },
        }
    }

    /// Counts since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Takes no more jobs and lets the thread do those it has.
    pub fn end(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Whether the thread has ended.
    pub fn ended(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    settings: Settings,
    say: Say,
    stats: Arc<Stats>,
    /// Or when it was last tried and why it is not.
    store: Result<Store, (Instant, String)>,
    /// Whether the disk took no answer when one came last.
    full: bool,
    /// The last sentences, so that no trouble is said over and over.
    said: VecDeque<String>,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        self.open();
        let mut tidied = Instant::now();
        loop {
            match queue.recv_timeout(TIDY) {
                Ok(job) => self.job(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if tidied.elapsed() >= TIDY {
                tidied = Instant::now();
                self.with(|store| store.tidy(Timestamp::now()).map_err(Refused::Store))
                    .unwrap_or_default();
            }
        }
        if let Ok(store) = &self.store
            && let Err(e) = store.flush()
        {
            self.tell(format!("failed to {e}"));
        }
    }

    fn job(&mut self, job: Job) {
        match job {
            Job::Remember(completion, size) => {
                self.stats.waiting.fetch_sub(size, Ordering::Relaxed);
                let kept = self.with(|store| store.remember(*completion).map_err(Refused::Store));
                self.full = kept.as_ref().is_err_and(Refused::is_full);
                if kept.is_err() {
                    self.stats.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            Job::Judge(judging, reply) => {
                let Judging {
                    key,
                    completion,
                    judgment,
                    id,
                } = judging;
                let now = Timestamp::now();
                let given = self.with(|store| {
                    store
                        .judge(&key, &completion, judgment, &id, now)
                        .map_err(Refused::Judge)
                });
                reply(match given {
                    // Most likely it is not known because the disk took none.
                    Err(Refused::Judge(JudgeError::Unknown)) if self.full => {
                        let folder = self.settings.folder.clone();
                        Err(Refused::Judge(JudgeError::Journal(JournalError::Full(folder))))
                    }
                    given => given,
                });
            }
            Job::Forget(what, reply) => {
                let lines = self.with(|store| store.forget(&what, Timestamp::now()).map_err(Refused::Store));
                if lines.is_err() && self.store.is_ok() {
                    // What is noted and not carried out is known to who opens it.
                    self.store = Err((Instant::now(), String::new()));
                    self.open();
                }
                reply(lines);
            }
        }
    }

    /// Does something with the store, which is opened anew after trouble with its files.
    fn with<T>(&mut self, work: impl FnOnce(&mut Store) -> Result<T, Refused>) -> Result<T, Refused> {
        self.open();
        let done = match &mut self.store {
            Ok(store) => work(store),
            Err((_, why)) => return Err(Refused::Away(why.clone())),
        };
        if let Err(refused) = &done {
            let journal = match refused {
                Refused::Judge(JudgeError::Journal(e)) | Refused::Store(StoreError::Journal(e)) => Some(e),
                _ => None,
            };
            if let Some(e) = journal {
                let text = e.to_string();
                if !matches!(e, JournalError::Full(_)) {
                    self.store = Err((Instant::now(), text.clone()));
                }
                self.tell(format!("failed to {text}"));
            }
        } else {
            self.said.clear();
        }
        done
    }

    fn open(&mut self) {
        match &self.store {
            Ok(_) => return,
            // An empty reason: it was not tried yet.
            Err((tried, why)) if !why.is_empty() && tried.elapsed() < RETRY => return,
            Err(_) => {}
        }
        match Store::open(&self.settings, Timestamp::now()) {
            Ok((store, opened)) => {
                self.store = Ok(store);
                self.tell_found(opened);
            }
            Err(e) => {
                let text = e.to_string();
                self.store = Err((Instant::now(), text.clone()));
                self.tell(format!("failed to {text}"));
            }
        }
    }

    fn tell_found(&mut self, opened: Opened) {
        for (what, found) in [("feedback", opened.log), ("answers", opened.recent)] {
            if let Some((file, bytes)) = found.torn {
                self.tell(format!(
                    "{bytes} torn bytes were cut off file {file} of the {what}"
                ));
            }
            if found.damaged > 0 {
                self.tell(format!(
                    "{} of {} lines of the {what} cannot be read and are passed over",
                    found.damaged, found.lines
                ));
            }
        }
    }

    fn tell(&mut self, sentence: String) {
        if self.said.contains(&sentence) {
            return;
        }
        if self.said.len() == 16 {
            self.said.pop_front();
        }
        self.said.push_back(sentence.clone());
        (self.say)(sentence);
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
