//! Which CPUs the engines compute on and which the rest of the house lives on. Pure.

/// The split of the machine's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// One compute thread on each.
    pub engine: Vec<u32>,
    /// Supervisor, gateway and everything else.
    pub house: Vec<u32>,
}

/// Splits `cpus` (those the supervisor may use, any order).
///
/// With four or more the first is the house's and the engines get all others: a compute thread that shares its CPU
/// holds up every other compute thread at each barrier. With fewer, keeping a CPU back would cost a third or half of
/// the speed, so everyone shares all of them.
#[must_use]
pub fn assign(cpus: &[u32]) -> Assignment {
    let mut all = cpus.to_vec();
    all.sort_unstable();
    all.dedup();
    if all.len() >= 4 {
        Assignment {
            engine: all[1..].to_vec(),
            house: vec![all[0]],
        }
    } else {
        Assignment {
            engine: all.clone(),
            house: all,
        }
    }
}

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
    use proptest::prelude::*;

    #[test]
    fn four_cpus_leave_the_first_to_the_house_and_three_are_shared() {
        assert_eq!(
            assign(&[3, 1, 0, 2]),
            Assignment {
                engine: vec![1, 2, 3],
                house: vec![0]
            }
        );
        assert_eq!(
            assign(&[4, 6, 8]),
            Assignment {
                engine: vec![4, 6, 8],
                house: vec![4, 6, 8]
            }
        );
        assert_eq!(
            assign(&[5]),
            Assignment {
                engine: vec![5],
                house: vec![5]
            }
        );
    }

    #[test]
    fn this_process_may_use_at_least_one_cpu() {
        assert!(!usable().is_empty());
    }

    proptest! {
        #[test]
        fn every_cpu_is_used_and_none_is_invented(cpus in proptest::collection::vec(0u32..256, 1..64)) {
            let split = assign(&cpus);
            prop_assert!(!split.engine.is_empty() && !split.house.is_empty());
            let distinct: std::collections::BTreeSet<u32> = cpus.iter().copied().collect();
            let used: std::collections::BTreeSet<u32> =
                split.engine.iter().chain(&split.house).copied().collect();
            prop_assert_eq!(&used, &distinct);
            if distinct.len() >= 4 {
                prop_assert!(split.house.iter().all(|cpu| !split.engine.contains(cpu)));
            }
        }
    }
}
