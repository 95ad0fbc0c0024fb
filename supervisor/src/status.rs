//! The whole state of the machine, for `sarai status`.

use procfs::process::StatM;
use procfs::{Current, FromRead};
use sarai_trust::manifest::Role;
use sarai_wire::control::{CoresStatus, CpuPlace, MemoryStatus, ModelStatus, ServiceState, Status};

use crate::adapters::engines;
use crate::app::Shared;
use crate::cgroup::Tree;
use crate::cores::topology::{Cpu, Kind};
use crate::network;
use crate::night::admin;
use crate::problems::lock;
use crate::service::{FALLBACK, GATEWAY, PRIMARY};

/// Takes the state as it is now.
#[must_use]
pub fn take(app: &Shared) -> Status {
    let mut services = app.board.list();
    for service in &mut services {
        service.rss = service.pid.and_then(rss);
    }
    let identity = lock(&app.identity).clone();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: app.layout.mode.word().to_owned(),
        profile: app.config.profile.clone(),
        ready: ready(app),
        uptime_s: app.started.elapsed().as_secs(),
        boot: app.marks.status(app.layout.mode),
        hostname: app.hostname.clone(),
        announced: lock(&app.announced).as_ref().map(|name| format!("{name}.local")),
        urls: network::urls(app),
        ca_fingerprint: identity.as_ref().map(|i| i.authority.fingerprint()),
        ssh_fingerprint: identity.as_ref().map(|i| i.host.fingerprint()),
        ca_path: identity.is_some().then(|| app.layout.ca().display().to_string()),
        cpu: app.cpu.clone(),
        cores: cores(app),
        memory: memory(app),
        groups: app.tree.as_ref().map(Tree::report).unwrap_or_default(),
        ladder: app.ladder.status(),
        models: models(app),
        prompts: lock(&app.prompts).clone(),
        training: Some(Box::new(admin::status(app))),
        services,
        problems: app.problems.list(),
    }
}

fn models(app: &Shared) -> Vec<ModelStatus> {
    let mut models = lock(&app.models).clone();
    for (role, service) in [(Role::Primary, PRIMARY), (Role::Fallback, FALLBACK)] {
        if let Some(model) = models.iter_mut().find(|model| model.role == role.as_str()) {
            model.adapter = engines::in_use(app, service);
        }
    }
    models
}

/// True once the gateway and an engine serve.
#[must_use]
pub fn ready(app: &Shared) -> bool {
    let serves = |name: &str| app.board.state_of(name) == Some(ServiceState::Ready);
    serves(GATEWAY) && (serves(PRIMARY) || serves(FALLBACK))
}

/// Resident memory of a process, bytes; `None` when it is gone.
#[must_use]
pub fn rss(pid: i32) -> Option<u64> {
    // The governor asks every second: one file, and not the process's folder and state besides.
    let statm = StatM::from_file(format!("/proc/{pid}/statm")).ok()?;
    Some(statm.resident * procfs::page_size())
}

fn memory(app: &Shared) -> MemoryStatus {
    let (total, available) = machine_memory();
    MemoryStatus {
        total,
        available,
        current: app.tree.as_ref().and_then(Tree::current),
        budget: app.tree.as_ref().map(|tree| tree.limits().budget),
        oom_kills: procfs::vmstat()
            .ok()
            .and_then(|counts| counts.get("oom_kill").copied())
            .and_then(|count| u64::try_from(count).ok()),
    }
}

fn cores(app: &Shared) -> CoresStatus {
    let place = |cpu: &Cpu| {
        let (engine, house) = (
            app.cores.engine.contains(&cpu.id),
            app.cores.house.contains(&cpu.id),
        );
        CpuPlace {
            cpu: cpu.id,
            core: cpu.core,
            kind: match cpu.kind {
                Kind::Performance => "performance",
                Kind::Efficiency => "efficiency",
            }
            .to_owned(),
            node: cpu.node,
            cache: cpu.cache,
            owner: match (engine, house) {
                (true, true) => "shared",
                (true, false) => "engine",
                (false, true) => "house",
                (false, false) => "idle",
            }
            .to_owned(),
        }
    };
    CoresStatus {
        cpus: app.topology.cpus.iter().map(place).collect(),
        kept: app.kept.word().to_owned(),
        notes: app.topology.notes.clone(),
    }
}

/// Physical and available memory of the machine, bytes; zeroes when the kernel does not say.
#[must_use]
pub fn machine_memory() -> (u64, u64) {
    procfs::Meminfo::current().map_or((0, 0), |info| {
        (info.mem_total, info.mem_available.unwrap_or(info.mem_free))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_kernel_says() {
        let (total, available) = machine_memory();
        assert!(total >= available && available > 0);
        let own = rss(nix::unistd::getpid().as_raw()).unwrap();
        assert!(own > 64 * 1024 && own < total);
        assert!(rss(i32::MAX - 1).is_none());
    }
}
