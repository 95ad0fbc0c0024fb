//! Which groups there are and what is set in each. Pure.

/// The group of PID 1.
pub(super) const SUPERVISOR: &str = "supervisor";
/// The group of everything else.
pub(super) const SERVICES: &str = "services";
/// The group of both engines.
pub(super) const ENGINES: &str = "services/engines";

const MIB: u64 = 1024 * 1024;
/// Memory left to the kernel when the machine has less than the budget, bytes.
const KERNEL: u64 = 256 * MIB;
/// The supervisor's part of the budget, bytes: 15 MiB that it promises to stay within, as much again for what the
/// kernel keeps on its behalf (sockets, page tables, logs that are not on disk yet) and for the part of a model
/// that is being hashed.
const FOR_SUPERVISOR: u64 = 32 * MIB;
/// Part of the services' memory between `memory.high` and `memory.max`. Above `memory.high` the kernel makes whoever
/// allocates wait, for each 256 KiB the square of the overage times 64 s: a quarter of a second at a fifteenth. An
/// endless leak that nothing can be reclaimed from needs four minutes from one to the other, in which the governor
/// makes room. Half the distance would be passed in an eighth of that, twice as much would be memory that nobody may
/// use.
const HIGH_BELOW_MAX: u64 = 16;
/// The least a gateway needs with every connection and request it may have, bytes.
const GATEWAY_LEAST: u64 = 256 * MIB;
/// Most an update under verification may use, its page cache included, bytes.
const UPDATER: u64 = 512 * MIB;
/// Most the console, DHCP and the like may use, bytes.
const FOR_HOUSE: u64 = 256 * MIB;

/// Limits of the tree, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// `memory.max` of everything.
    pub budget: u64,
    /// What of it is kept for the supervisor.
    pub supervisor: u64,
    /// `memory.max` of the services.
    pub services: u64,
    /// `memory.high` of the services.
    pub high: u64,
    /// `memory.max` of the primary engine. Each group ends by its own limit before it takes everybody's: the kernel
    /// then chooses among the processes of that group alone.
    pub primary: u64,
    /// `memory.max` of the fallback engine.
    pub fallback: u64,
    /// `memory.max` of the gateway.
    pub gateway: u64,
    /// `memory.max` of the trainer.
    pub trainer: u64,
    /// `memory.max` of the updater.
    pub updater: u64,
    /// `memory.max` of the house.
    pub house: u64,
}

impl Limits {
    /// Divides `budget`, or what a machine with `machine` bytes can give. A trainer may use at most `trainer`.
    #[must_use]
    pub fn of(budget: u64, machine: u64, trainer: u64) -> Self {
        let budget = budget.min(machine.saturating_sub(KERNEL).max(KERNEL));
        let services = budget - FOR_SUPERVISOR;
        Self {
            budget,
            supervisor: FOR_SUPERVISOR,
            services,
            high: services - services / HIGH_BELOW_MAX,
            primary: services - services / 4,
            fallback: services / 2,
            gateway: (services / 8).max(GATEWAY_LEAST).min(services),
            trainer: trainer.min(services),
            updater: UPDATER.min(services),
            house: FOR_HOUSE.min(services),
        }
    }
}

/// One group.
pub(super) struct Group {
    /// Its folder below the subtree's.
    pub(super) path: &'static str,
    /// Whether it has groups below it (and then no processes of its own).
    pub(super) inner: bool,
    /// File, value.
    pub(super) settings: Vec<(&'static str, String)>,
}

impl Group {
    fn new(path: &'static str, inner: bool, processes: u32, weight: u32) -> Self {
        Self {
            path,
            inner,
            settings: vec![
                ("pids.max", processes.to_string()),
                ("cpu.weight", weight.to_string()),
                ("memory.swap.max", "0".to_owned()),
            ],
        }
    }

    fn with(mut self, file: &'static str, value: u64) -> Self {
        self.settings.push((file, value.to_string()));
        self
    }

    /// At most so much processor time as this many CPUs have.
    fn within_cpus(mut self, cpus: u32) -> Self {
        const PERIOD_US: u32 = 100_000;
        let value = format!("{} {PERIOD_US}", cpus * PERIOD_US);
        self.settings.push(("cpu.max", value));
        self
    }

    /// A service: limited by itself, and ended as a whole when it runs out of memory.
    fn service(path: &'static str, processes: u32, weight: u32, most: u64) -> Self {
        Self::new(path, false, processes, weight)
            .with("memory.max", most)
            .with("memory.oom.group", 1)
    }
}

/// All groups, parents before children.
///
/// CPU weights count among neighbours: the supervisor before everything; the gateway, which needs little and for
/// which every client waits, before the engines; what runs at night after everybody else.
pub(super) fn all(limits: &Limits) -> Vec<Group> {
    vec![
        // Its own name is the subtree's.
        Group::new("", true, 1024, 100)
            .with("memory.max", limits.budget)
            // Granted here, or it would be worth nothing one level down.
            .with("memory.min", limits.supervisor)
            // Nothing outside may push out what is within the budget while it can take from itself.
            .with("memory.low", limits.budget),
        Group::new(SUPERVISOR, false, 128, 1000).with("memory.min", limits.supervisor),
        Group::new(SERVICES, true, 896, 100)
            .with("memory.max", limits.services)
            .with("memory.high", limits.high)
            .with("memory.low", limits.services),
        // Files that the trainer or an update read go before the engines' weights do.
        Group::new(ENGINES, true, 512, 200).with("memory.low", limits.services / 2),
        Group::service("services/engines/engine-primary", 256, 100, limits.primary)
            .with("memory.low", limits.services / 2),
        Group::service("services/engines/engine-fallback", 256, 100, limits.fallback),
        Group::service("services/gateway", 128, 400, limits.gateway)
            .with("memory.low", limits.gateway.min(64 * MIB)),
        Group::service("services/house", 128, 200, limits.house),
        Group::service("services/trainer", 64, 10, limits.trainer).within_cpus(2),
        Group::service("services/updater", 64, 20, limits.updater),
    ]
}

/// Services that have a group, and everything else in the house.
pub(super) fn path_of(service: &str) -> &'static str {
    match service {
        SUPERVISOR => SUPERVISOR,
        "engine-primary" => "services/engines/engine-primary",
        "engine-fallback" => "services/engines/engine-fallback",
        "gateway" => "services/gateway",
        "trainer" => "services/trainer",
        "updater" => "services/updater",
        _ => "services/house",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sarai_wire::bounds::night;

    /// The setting's default.
    const TRAINER: u64 = 4096 * MIB;

    #[test]
    fn the_budget_is_what_was_asked_for_or_what_the_machine_can_give() {
        assert_eq!(Limits::of(10 << 30, 16 << 30, TRAINER).budget, 10 << 30);
        assert_eq!(Limits::of(10 << 30, 4 << 30, TRAINER).budget, (4 << 30) - KERNEL);
        assert_eq!(Limits::of(10 << 30, 0, TRAINER).budget, KERNEL);
    }

    #[test]
    fn the_products_own_figures() {
        let limits = Limits::of(crate::config::DEFAULT_BUDGET, 16 << 30, TRAINER);
        assert_eq!(limits.budget, 10_630_044_057);
        assert_eq!(limits.trainer, TRAINER);
        assert_eq!(crate::config::Training::default().memory, TRAINER);
        assert!(limits.high > 9 << 30, "{limits:?}");
    }

    #[test]
    fn every_group_below_another_is_made_after_it_and_every_service_has_its_own() {
        let groups = all(&Limits::of(1 << 30, 4 << 30, TRAINER));
        for (n, group) in groups.iter().enumerate() {
            let parent = group.path.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(
                group.path.is_empty() || groups[..n].iter().any(|g| g.path == parent && g.inner),
                "{} has no parent",
                group.path
            );
        }
        for group in groups.iter().filter(|g| !g.inner) {
            let name = group.path.rsplit('/').next().unwrap();
            assert_eq!(path_of(name), group.path);
        }
        assert_eq!(path_of("dhcp-eth0"), path_of("house"));
    }

    proptest! {
        #[test]
        fn no_limit_exceeds_the_one_above_it(budget in (256u64 << 20)..=(1 << 40), machine in 0u64..(1 << 41), trainer in night::MEMORY) {
            let limits = Limits::of(budget, machine, trainer);
            prop_assert!(limits.budget <= budget && limits.trainer <= trainer);
            prop_assert_eq!(limits.services + limits.supervisor, limits.budget);
            prop_assert!(limits.high < limits.services);
            for part in [limits.primary, limits.fallback, limits.gateway, limits.trainer, limits.updater, limits.house] {
                prop_assert!(part > 0 && part <= limits.services);
            }
            prop_assert!(limits.primary < limits.high, "an engine ends by its own limit first");
        }
    }
}
