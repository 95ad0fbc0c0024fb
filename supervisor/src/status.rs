//! The whole state of the machine, for `sarai status`.

use procfs::Current;
use sarai_wire::control::{MemoryStatus, ServiceState, Status};

use crate::app::Shared;
use crate::network;
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
        hostname: app.hostname.clone(),
        urls: network::urls(app),
        ca_fingerprint: identity.as_ref().map(|i| i.authority.fingerprint()),
        ca_path: identity.is_some().then(|| app.layout.ca().display().to_string()),
        cpu: app.cpu.clone(),
        memory: memory(app),
        models: lock(&app.models).clone(),
        prompts: lock(&app.prompts).clone(),
        services,
        problems: app.problems.list(),
    }
}

/// True once the gateway and an engine serve.
#[must_use]
pub fn ready(app: &Shared) -> bool {
    let serves = |name: &str| app.board.state_of(name) == Some(ServiceState::Ready);
    serves(GATEWAY) && (serves(PRIMARY) || serves(FALLBACK))
}

fn rss(pid: i32) -> Option<u64> {
    let statm = procfs::process::Process::new(pid).ok()?.statm().ok()?;
    Some(statm.resident * procfs::page_size())
}

fn memory(app: &Shared) -> MemoryStatus {
    let (total, available) = machine_memory();
    MemoryStatus {
        total,
        available,
        current: app.tree.as_ref().and_then(crate::cgroup::Tree::current),
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
