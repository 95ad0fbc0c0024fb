//! ggml's own thread pool: one thread pinned to each CPU, asleep while there is nothing to compute.

use std::mem::transmute;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use super::LlamaError;
use super::backend::Backend;

/// How long a thread spins for the next graph before it sleeps: about 10 ms, enough to bridge the sampling
/// between two tokens and nothing that an idle engine would show.
const POLL: u32 = 10;

type New = unsafe extern "C" fn(*mut sys::ggml_threadpool_params) -> *mut sys::ggml_threadpool;
type Free = unsafe extern "C" fn(*mut sys::ggml_threadpool);

/// A running pool. The thread that makes it is its first worker and gets pinned with the others.
pub struct Threadpool {
    pool: NonNull<sys::ggml_threadpool>,
    free: Free,
    threads: usize,
}

impl Threadpool {
    /// Starts one thread for each of `cpus`, which [`choose_cpus`] made.
    ///
    /// # Errors
    /// [`LlamaError::Threads`] when the module has no pool or it could not be made.
    pub fn start(backend: &Backend, cpus: &[usize]) -> Result<Self, LlamaError> {
        let new = backend.function(c"ggml_threadpool_new");
        let free = backend.function(c"ggml_threadpool_free");
        if new.is_null() || free.is_null() {
            return Err(LlamaError::Threads("the CPU module has no thread pool".into()));
        }
        // SAFETY: the module registers these two names for functions of exactly these types (ggml-cpu.h).
        let (new, free) = unsafe { (transmute::<*mut _, New>(new), transmute::<*mut _, Free>(free)) };
        let count = i32::try_from(cpus.len())
            .map_err(|_| LlamaError::Threads(format!("{} CPUs are too many", cpus.len())))?;
        // SAFETY: returns a plain struct by value.
        let mut params = unsafe { sys::ggml_threadpool_params_default(count) };
        params.cpumask.fill(false);
        for &cpu in cpus {
            let Some(bit) = params.cpumask.get_mut(cpu) else {
                return Err(LlamaError::Threads(format!("ggml cannot pin to CPU {cpu}")));
            };
            *bit = true;
        }
        params.strict_cpu = true;
        params.poll = POLL;
        params.paused = false;
        // SAFETY: `params` is valid and only read during the call.
        let pool = unsafe { new(&raw mut params) };
        let pool = NonNull::new(pool).ok_or_else(|| LlamaError::Threads("ggml refused".into()))?;
        Ok(Self {
            pool,
            free,
            threads: cpus.len(),
        })
    }

    /// Threads in the pool.
    pub fn threads(&self) -> usize {
        self.threads
    }

    pub(super) fn as_ptr(&self) -> *mut sys::ggml_threadpool {
        self.pool.as_ptr()
    }
}

impl Drop for Threadpool {
    fn drop(&mut self) {
        // SAFETY: the pool came from the matching `new`, is freed once, and no graph is running: whoever runs
        // graphs borrows this value.
        unsafe { (self.free)(self.pool.as_ptr()) }
    }
}

/// The CPUs to compute on: `wanted`, or every CPU the process may use when that is empty.
///
/// # Errors
/// [`LlamaError::Threads`] when one is named twice or is not allowed to this process.
pub fn choose_cpus(wanted: &[u32]) -> Result<Vec<usize>, LlamaError> {
    let mask = sched_getaffinity(Pid::from_raw(0))
        .map_err(|e| LlamaError::Threads(format!("the kernel does not tell the allowed CPUs: {e}")))?;
    let allowed: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| mask.is_set(*cpu).unwrap_or(false))
        .collect();
    select(wanted, &allowed)
}

fn select(wanted: &[u32], allowed: &[usize]) -> Result<Vec<usize>, LlamaError> {
    if wanted.is_empty() {
        return Ok(allowed.to_vec());
    }
    let mut chosen = Vec::with_capacity(wanted.len());
    for &cpu in wanted {
        let cpu = cpu as usize;
        if !allowed.contains(&cpu) {
            return Err(LlamaError::Threads(format!(
                "CPU {cpu} is not among those this process may use ({allowed:?})"
            )));
        }
        if chosen.contains(&cpu) {
            return Err(LlamaError::Threads(format!("CPU {cpu} is named twice")));
        }
        chosen.push(cpu);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wish_means_every_allowed_cpu() {
        assert_eq!(select(&[], &[1, 3]).unwrap(), [1, 3]);
        assert!(!choose_cpus(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_cpu_that_is_not_allowed_or_named_twice_is_refused() {
        assert_eq!(select(&[3, 1], &[1, 2, 3]).unwrap(), [3, 1]);
        assert!(
            select(&[4], &[1, 2, 3])
                .unwrap_err()
                .to_string()
                .contains("CPU 4 is not among")
        );
        assert!(
            select(&[1, 1], &[1, 2, 3])
                .unwrap_err()
                .to_string()
                .contains("named twice")
        );
    }
}
