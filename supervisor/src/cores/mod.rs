//! Which CPUs the engines compute on and which the rest of the house lives on.
//!
//! [`topology`] reads what the kernel says of its CPUs, [`assign`] decides (pure), the rest asks the kernel for it.

pub mod topology;

mod assign;

pub use assign::{Assignment, assign};

/// The CPUs this process may use now.
#[must_use]
pub fn usable() -> Vec<u32> {
    let Ok(set) = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)) else {
        return vec![0];
    };
    (0..nix::sched::CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .filter_map(|cpu| u32::try_from(cpu).ok())
        .collect()
}

/// Keeps the calling thread, and threads it starts later, on `cpus`.
///
/// # Errors
/// When none of them may be used.
pub fn pin_self(cpus: &[u32]) -> nix::Result<()> {
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set_of(cpus))
}

/// The kernel's form of a list; numbers beyond what it holds are left out.
#[must_use]
pub fn set_of(cpus: &[u32]) -> nix::sched::CpuSet {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        let _ = set.set(*cpu as usize);
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_may_use_at_least_one_cpu() {
        assert!(!usable().is_empty());
    }

    #[test]
    fn this_machine_is_understood_and_divided() {
        let usable = usable();
        let topology = topology::read(std::path::Path::new("/sys"), &usable);
        let found: Vec<u32> = topology.cpus.iter().map(|cpu| cpu.id).collect();
        assert_eq!(found, usable);
        let split = assign(&topology);
        assert!(split.engine.iter().all(|cpu| usable.contains(cpu)));
        assert!(split.house.iter().all(|cpu| usable.contains(cpu)));
    }
}
