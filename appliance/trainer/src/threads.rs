//! A pool of threads that sleep when there is nothing to do: the trainer shares its cores with others.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Threads that work together on one run of tasks at a time; the caller is one of them.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held during a run, so that there is one at a time.
    turn: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
    /// Called before each task: where whoever computes is held up.
    before: Option<Hold>,
}

/// Returns when whoever calls it may compute.
pub type Hold = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Counts the runs, so that a worker joins each at most once.
    run: u64,
    /// Workers that have joined the run and not left it.
    working: usize,
    panic: Option<Box<dyn Any + Send>>,
    stop: bool,
}

/// A run of tasks, for as long as [`Pool::run`] is in it.
#[derive(Clone, Copy)]
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    next: *const AtomicUsize,
    tasks: usize,
}

// SAFETY: what the pointers lead to may be shared between threads (`Sync`), and `Pool::run` keeps it alive until the
// job has been taken back and no worker is in it.
unsafe impl Send for Job {}

impl Job {
    /// Takes one task after another until none is left.
    ///
    /// # Safety
    ///
    /// The [`Pool::run`] that made the job must not have returned.
    unsafe fn work(self) {
        // SAFETY: by this function's own demand the call that lent both is still there.
        let (task, next) = unsafe { (&*self.task, &*self.next) };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= self.tasks {
                return;
            }
            task(at);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn worker(&self) {
        let mut seen = 0;
        let mut state = self.state();
        loop {
            if state.stop {
                return;
            }
            match state.job {
                Some(job) if state.run != seen => {
                    seen = state.run;
                    state.working += 1;
                    drop(state);
                    // SAFETY: `working` was raised while the job was there; `Pool::run` waits for it to fall to 0.
                    let result = catch_unwind(AssertUnwindSafe(|| unsafe { job.work() }));
                    state = self.state();
                    state.working -= 1;
                    if let Err(panic) = result {
                        state.panic = Some(panic);
                    }
                    if state.working == 0 {
                        self.done.notify_all();
                    }
                }
                _ => state = self.start.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them.
    ///
    /// # Errors
    ///
    /// The system's, when it starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            start: Condvar::new(),
            done: Condvar::new(),
        });
        let mut pool = Self {
            shared,
            turn: Mutex::new(()),
            workers: Vec::new(),
            before: None,
        };
        for number in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let worker = std::thread::Builder::new()
                .name(format!("train-{number}"))
                .spawn(move || shared.worker())?;
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// From now on `hold` is called before each task.
    pub fn hold(&mut self, hold: Hold) {
        self.before = Some(hold);
    }

    /// Calls `task` with each number below `tasks`, in no particular order, and returns when all are done. A task's
    /// panic is the caller's. A task must not run others on the same pool.
    pub fn run(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let before = self.before.as_ref();
        let task = |at| {
            if let Some(hold) = before {
                hold();
            }
            task(at);
        };
        if self.workers.is_empty() || tasks <= 1 {
            return (0..tasks).for_each(task);
        }
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let next = AtomicUsize::new(0);
        let task: &(dyn Fn(usize) + Sync) = &task;
        // SAFETY: only the lifetime changes. The pointer is used in the job alone, which is taken back below, after
        // which nobody is in it any more, before `task` ends.
        let task: *const (dyn Fn(usize) + Sync + 'static) =
            unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), _>(task) };
        let job = Job {
            task,
            next: &raw const next,
            tasks,
        };
        {
            let mut state = self.shared.state();
            state.job = Some(job);
            state.run += 1;
        }
        self.shared.start.notify_all();
        // SAFETY: this is the call that made the job.
        let mine = catch_unwind(AssertUnwindSafe(|| unsafe { job.work() }));
        let mut state = self.shared.state();
        state.job = None;
        while state.working > 0 {
            state = self
                .shared
                .done
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let theirs = state.panic.take();
        drop(state);
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        if let Some(panic) = theirs {
            resume_unwind(panic);
        }
    }

    /// Calls `task` with the ranges that `len` things fall into, at most `size` in each.
    pub fn run_ranges(&self, len: usize, size: usize, task: impl Fn(std::ops::Range<usize>) + Sync) {
        self.run(len.div_ceil(size), |at| task(at * size..len.min((at + 1) * size)));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.start.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches its tasks' panics.
            let _ = worker.join();
        }
    }
}

/// Calls `work` with `len` numbers of scratch memory that the thread keeps for the next call. What is in them is left
/// from before. Must not be nested.
pub fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
    }
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        work(&mut scratch[..len])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_waits_until_it_may_be_computed() {
        for threads in [1, 3] {
            let mut pool = Pool::new(threads).unwrap();
            let (held, may) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (count, until) = (Arc::clone(&held), Arc::clone(&may));
            pool.hold(Arc::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
                while until.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            }));
            let done = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    pool.run(10, |_| {
                        done.fetch_add(1, Ordering::SeqCst);
                    });
                });
                while held.load(Ordering::SeqCst) < threads {
                    std::thread::yield_now();
                }
                assert_eq!(done.load(Ordering::SeqCst), 0);
                may.store(1, Ordering::SeqCst);
            });
            assert_eq!(
                (done.load(Ordering::SeqCst), held.load(Ordering::SeqCst)),
                (10, 10)
            );
        }
    }

    #[test]
    fn each_task_is_done_once() {
        for threads in 1..5 {
            let pool = Pool::new(threads).unwrap();
            for tasks in [0, 1, 2, 3, 7, 100] {
                let done: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |at| {
                    done[at].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    done.iter().all(|done| done.load(Ordering::Relaxed) == 1),
                    "{threads} {tasks}"
                );
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(3).unwrap();
        for _ in 0..20 {
            let result = catch_unwind(AssertUnwindSafe(|| pool.run(9, |at| assert!(at != 5, "five"))));
            assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "five");
            let sum = AtomicUsize::new(0);
            pool.run_ranges(10, 4, |range| {
                sum.fetch_add(range.sum(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }
}
