//! The decision: who gets which CPUs. Pure.
//!
//! 1. Fewer than four CPUs are shared by everyone: keeping one back would cost a third or half of the speed.
//! 2. The engines get whole physical cores and one thread on each. Two threads of one core share its vector units and
//!    its way to memory, which is all a compute thread uses; a second one makes nothing faster and each of both
//!    slower, and at every barrier all threads wait for the slowest. The sibling therefore stays idle, unless there
//!    is no other place for the house.
//! 3. The engines' cores are of one kind, performance cores: at a barrier a performance core waits for an efficiency
//!    core. Only where there is but one performance core and at least four efficiency cores, those compute: one of
//!    the former is worth two and a half of the latter.
//! 4. They are of one NUMA node: weights that lie on the other are read at half the speed. They share one last-level
//!    cache where that costs at most a quarter of the cores.
//! 5. The house (supervisor, gateway, trainer) has what is left. If nothing is, it takes one core when there are at
//!    least four, else the siblings of the engines' cores: of two or three cores, one is too much to give.

use std::collections::{BTreeMap, BTreeSet};

use super::topology::{Cpu, Kind, Topology};

/// Below this many CPUs everyone shares all.
const TOO_FEW: usize = 4;
/// With this many cores or more, one can be given to the house.
const ENOUGH_CORES: usize = 4;

/// The split of the machine's CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// One compute thread on each.
    pub engine: Vec<u32>,
    /// Supervisor, gateway and everything else.
    pub house: Vec<u32>,
    /// Nobody's: siblings of the engines' CPUs.
    pub idle: Vec<u32>,
}

impl Assignment {
    /// Whether engines and house share their CPUs.
    #[must_use]
    pub fn shared(&self) -> bool {
        self.engine.iter().any(|cpu| self.house.contains(cpu))
    }
}

/// A physical core: its CPUs, lowest first.
struct Core {
    cpus: Vec<u32>,
    kind: Kind,
    node: u32,
    /// Unknown: as if those that do not say so shared one.
    cache: Option<u32>,
}

/// Decides.
#[must_use]
pub fn assign(topology: &Topology) -> Assignment {
    let all: Vec<u32> = topology.cpus.iter().map(|cpu| cpu.id).collect();
    if all.len() < TOO_FEW {
        return Assignment {
            engine: all.clone(),
            house: all,
            idle: Vec::new(),
        };
    }
    let cores = cores(&topology.cpus);
    let mut chosen = same_cache(same_node(one_kind(&cores)));
    let taken: BTreeSet<u32> = chosen.iter().flat_map(|core| core.cpus.clone()).collect();
    let mut house: Vec<u32> = all.iter().copied().filter(|cpu| !taken.contains(cpu)).collect();
    let mut siblings: Vec<u32> = chosen.iter().flat_map(|core| core.cpus[1..].to_vec()).collect();
    if house.is_empty() && chosen.len() >= ENOUGH_CORES {
        let given = chosen.remove(cheapest(&chosen));
        siblings.retain(|cpu| !given.cpus.contains(cpu));
        house = given.cpus.clone();
    } else if house.is_empty() {
        house = std::mem::take(&mut siblings);
    }
    let mut engine: Vec<u32> = chosen.iter().map(|core| core.cpus[0]).collect();
    for list in [&mut engine, &mut house, &mut siblings] {
        list.sort_unstable();
    }
    Assignment {
        engine,
        house,
        idle: siblings,
    }
}

fn cores(cpus: &[Cpu]) -> Vec<Core> {
    let mut cores: BTreeMap<u32, Core> = BTreeMap::new();
    for cpu in cpus {
        let core = cores.entry(cpu.core).or_insert_with(|| Core {
            cpus: Vec::new(),
            kind: cpu.kind,
            node: cpu.node,
            cache: cpu.cache,
        });
        core.cpus.push(cpu.id);
    }
    cores.into_values().collect()
}

fn one_kind(cores: &[Core]) -> Vec<&Core> {
    let (fast, slow): (Vec<&Core>, Vec<&Core>) =
        cores.iter().partition(|core| core.kind == Kind::Performance);
    if fast.is_empty() || (fast.len() == 1 && slow.len() >= 4) {
        slow
    } else {
        fast
    }
}

/// The cores of the node that has most of them; of several, the first.
fn same_node(cores: Vec<&Core>) -> Vec<&Core> {
    largest(&cores, |core| core.node).unwrap_or(cores)
}

fn same_cache(cores: Vec<&Core>) -> Vec<&Core> {
    match largest(&cores, |core| core.cache) {
        Some(some) if some.len() * 4 >= cores.len() * 3 => some,
        _ => cores,
    }
}

fn largest<'c, N: Ord>(cores: &[&'c Core], name: impl Fn(&Core) -> N) -> Option<Vec<&'c Core>> {
    let mut groups: BTreeMap<N, Vec<&Core>> = BTreeMap::new();
    for core in cores {
        groups.entry(name(core)).or_default().push(core);
    }
    groups
        .into_values()
        .reduce(|most, next| if next.len() > most.len() { next } else { most })
}

/// The core to give away: the first (interrupts go there) of the cache with the fewest, so that what is left is as
/// whole as it can be.
fn cheapest(cores: &[&Core]) -> usize {
    let sharing = |core: &Core| cores.iter().filter(|other| other.cache == core.cache).count();
    (0..cores.len())
        .min_by_key(|&n| (sharing(cores[n]), cores[n].cpus[0]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// CPUs as (core, kind, node, cache); their number is their place.
    fn machine(cpus: &[(u32, Kind, u32, u32)]) -> Topology {
        let cpus = cpus
            .iter()
            .enumerate()
            .map(|(id, &(core, kind, node, cache))| Cpu {
                id: u32::try_from(id).unwrap(),
                core,
                kind,
                node,
                cache: Some(cache),
            });
        Topology {
            cpus: cpus.collect(),
            notes: Vec::new(),
        }
    }

    /// `cores` equal cores with `threads` each, numbered as Intel does: all first threads, then all second ones.
    fn equal(cores: u32, threads: u32) -> Topology {
        let cpus: Vec<_> = (0..cores * threads)
            .map(|id| (id % cores, Kind::Performance, 0, 0))
            .collect();
        machine(&cpus)
    }

    fn split(topology: &Topology) -> (Vec<u32>, Vec<u32>, Vec<u32>) {
        let Assignment { engine, house, idle } = assign(topology);
        (engine, house, idle)
    }

    const P: Kind = Kind::Performance;
    const E: Kind = Kind::Efficiency;

    #[test]
    fn one_two_and_three_cpus_are_shared() {
        for count in 1..=3 {
            let all: Vec<u32> = (0..count).collect();
            assert_eq!(split(&equal(count, 1)), (all.clone(), all, vec![]));
        }
        assert!(assign(&equal(1, 2)).shared());
    }

    #[test]
    fn of_four_cores_the_first_is_the_houses() {
        assert_eq!(split(&equal(4, 1)), (vec![1, 2, 3], vec![0], vec![]));
        assert!(!assign(&equal(4, 1)).shared());
    }

    #[test]
    fn siblings_stay_idle_and_the_houses_core_is_whole() {
        assert_eq!(split(&equal(4, 2)), (vec![1, 2, 3], vec![0, 4], vec![5, 6, 7]));
    }

    #[test]
    fn of_two_or_three_cores_none_is_given_away_and_the_house_has_the_siblings() {
        assert_eq!(split(&equal(2, 2)), (vec![0, 1], vec![2, 3], vec![]));
        assert_eq!(split(&equal(3, 2)), (vec![0, 1, 2], vec![3, 4, 5], vec![]));
    }

    #[test]
    fn a_hybrid_machine_computes_on_its_performance_cores_alone() {
        // Two performance cores with two threads each, four efficiency cores.
        let hybrid = machine(&[
            (0, P, 0, 0),
            (0, P, 0, 0),
            (2, P, 0, 0),
            (2, P, 0, 0),
            (4, E, 0, 0),
            (5, E, 0, 0),
            (6, E, 0, 0),
            (7, E, 0, 0),
        ]);
        assert_eq!(split(&hybrid), (vec![0, 2], vec![4, 5, 6, 7], vec![1, 3]));
    }

    #[test]
    fn one_performance_core_beside_four_efficiency_cores_is_the_houses() {
        let one = machine(&[
            (0, P, 0, 0),
            (0, P, 0, 0),
            (2, E, 0, 0),
            (3, E, 0, 0),
            (4, E, 0, 0),
            (5, E, 0, 0),
        ]);
        assert_eq!(split(&one), (vec![2, 3, 4, 5], vec![0, 1], vec![]));
    }

    #[test]
    fn one_node_computes_and_the_other_is_the_houses() {
        let two: Vec<_> = (0..8).map(|id| (id, P, id / 4, id / 4)).collect();
        assert_eq!(
            split(&machine(&two)),
            (vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![])
        );
    }

    #[test]
    fn one_cache_is_kept_to_where_that_costs_a_quarter_and_not_where_it_costs_half() {
        let halves: Vec<_> = (0..8).map(|id| (id, P, 0, id / 4)).collect();
        let (engine, house, _) = split(&machine(&halves));
        assert_eq!((engine.len(), house), (7, vec![0]));
        let most: Vec<_> = (0..8).map(|id| (id, P, 0, u32::from(id < 2))).collect();
        let (engine, house, _) = split(&machine(&most));
        assert_eq!((engine, house), (vec![2, 3, 4, 5, 6, 7], vec![0, 1]));
        // The house's core comes from the smaller part: 2 of 5.
        let uneven: Vec<_> = (0..5).map(|id| (id, P, 0, u32::from(id >= 3))).collect();
        assert_eq!(split(&machine(&uneven)), (vec![0, 1, 2, 4], vec![3], vec![]));
    }

    fn any_machine() -> impl Strategy<Value = Topology> {
        let cpu = (0u32..12, prop_oneof![Just(P), Just(E)], 0u32..2, 0u32..3);
        proptest::collection::vec(cpu, 1..32).prop_map(|mut cpus| {
            // CPUs of one core agree about it.
            for n in 0..cpus.len() {
                let first = cpus.iter().position(|other| other.0 == cpus[n].0).unwrap();
                cpus[n] = cpus[first];
            }
            machine(&cpus)
        })
    }

    proptest! {
        #[test]
        fn everyone_has_a_place_and_compute_threads_have_a_core_each(topology in any_machine()) {
            let split = assign(&topology);
            prop_assert!(!split.engine.is_empty() && !split.house.is_empty());
            let of = |list: &[u32]| -> Vec<Cpu> {
                list.iter().map(|id| topology.cpus[*id as usize]).collect()
            };
            let mut everyone: Vec<u32> =
                [split.engine.clone(), split.house.clone(), split.idle.clone()].concat();
            everyone.sort_unstable();
            if topology.cpus.len() < TOO_FEW {
                prop_assert!(split.shared());
            } else {
                let all: Vec<u32> = topology.cpus.iter().map(|cpu| cpu.id).collect();
                prop_assert_eq!(everyone, all, "each CPU has one place");
                let engine = of(&split.engine);
                let cores: BTreeSet<u32> = engine.iter().map(|cpu| cpu.core).collect();
                prop_assert_eq!(cores.len(), engine.len());
                for cpu in &engine {
                    prop_assert_eq!((cpu.kind, cpu.node), (engine[0].kind, engine[0].node));
                }
                for cpu in of(&split.idle) {
                    prop_assert!(cores.contains(&cpu.core), "only siblings of the engines' are idle");
                }
            }
        }
    }
}
