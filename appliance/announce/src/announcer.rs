//! The names and the service, handed to `mdns-sd`, whose thread speaks with the LAN.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use mdns_sd::{DaemonEvent, DaemonStatus, IfKind, Receiver, ServiceDaemon, ServiceInfo, UnregisterStatus};
use sarai_wire::birth::{AnnounceStart, FromAnnouncer};

/// HTTP over TLS.
const SERVICE: &str = "_https._tcp.local.";
/// Time between two looks at the machine's addresses, seconds.
const ADDRESSES: u32 = 2;
/// Longest wait for the thread that speaks with the LAN.
const ANSWER: Duration = Duration::from_secs(4);
/// Longest wait for each step of the goodbye.
const GOODBYE: Duration = Duration::from_millis(800);

/// What is announced.
pub struct Announcer {
    daemon: ServiceDaemon,
    events: Receiver<DaemonEvent>,
    /// The service's full name, as it was given.
    fullname: String,
    /// The host's name as it was given.
    host: String,
}

impl Announcer {
    /// Begins to ask for the names, and then to announce them.
    pub fn start(start: &AnnounceStart) -> anyhow::Result<Self> {
        let daemon = ServiceDaemon::new().context("start multicast DNS")?;
        let events = daemon.monitor().context("follow multicast DNS")?;
        let listen = start.listen;
        // Nobody is told of an address at which nobody listens; what this machine tells itself helps nobody.
        let mut unused = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        if listen.is_ipv4() {
            unused.push(IfKind::IPv6);
        }
        daemon.disable_interface(unused).context("choose interfaces")?;
        daemon
            .set_ip_check_interval(ADDRESSES)
            .context("follow the machine's addresses")?;
        let host = format!("{}.local.", start.hostname);
        let addresses: &[IpAddr] = if listen.is_unspecified() { &[] } else { &[listen] };
        let properties: Vec<(&str, &str)> = start.properties.iter().map(|(k, v)| (&**k, &**v)).collect();
        let mut service = ServiceInfo::new(
            SERVICE,
            &start.hostname,
            &host,
            addresses,
            start.port,
            &properties[..],
        )
        .map_err(|e| anyhow!("describe the service: {e}"))?;
        if listen.is_unspecified() {
            service = service.enable_addr_auto();
        }
        let fullname = service.get_fullname().to_owned();
        daemon
            .register(service)
            .map_err(|e| anyhow!("announce the service: {e}"))?;
        Ok(Self {
            daemon,
            events,
            fullname,
            host,
        })
    }

    /// What the supervisor should know of what happened since.
    ///
    /// # Errors
    /// When the thread that speaks with the LAN is gone.
    pub fn news(&mut self) -> anyhow::Result<Vec<FromAnnouncer>> {
        let mut told = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            match event {
                // The service's own name changes in the same way; nobody types that.
                DaemonEvent::NameChange(change) if same(&change.original, &self.host) => {
                    crate::say(&format!(
                        "{} is taken by somebody else on {}; announced as {}",
                        change.original, change.intf_name, change.new_name
                    ));
                    if let Some(hostname) = label(&change.new_name) {
                        told.push(FromAnnouncer::Renamed { hostname });
                    }
                }
                DaemonEvent::NameChange(change) => {
                    crate::say(&format!("{} is now {}", change.original, change.new_name));
                }
                DaemonEvent::IpAdd(address) => crate::say(&format!("{address} is announced")),
                DaemonEvent::IpDel(address) => crate::say(&format!("{address} is gone")),
                DaemonEvent::Error(error) => crate::say(&format!("multicast DNS: {error}")),
                _ => {}
            }
        }
        if self.events.is_disconnected() {
            bail!("go on: multicast DNS has ended");
        }
        Ok(told)
    }

    /// Whether the thread that speaks with the LAN answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn alive(&self) -> anyhow::Result<()> {
        let status = self
            .daemon
            .status()
            .map_err(|e| anyhow!("ask multicast DNS: {e}"))?;
        match status.recv_timeout(ANSWER) {
            Ok(DaemonStatus::Running) => Ok(()),
            Ok(_) => bail!("go on: multicast DNS has ended"),
            Err(_) => bail!("go on: multicast DNS does not answer"),
        }
    }

    /// Tells everybody to forget the names, as well as that can be done in a short time.
    pub fn goodbye(self) {
        if let Ok(done) = self.daemon.unregister(&self.fullname)
            && !matches!(done.recv_timeout(GOODBYE), Ok(UnregisterStatus::OK))
        {
            crate::say("the goodbye was not sent");
        }
        if let Ok(done) = self.daemon.shutdown() {
            let _ = done.recv_timeout(GOODBYE);
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('.')
        .eq_ignore_ascii_case(b.trim_end_matches('.'))
}

/// The label of a host's name below `local`.
fn label(name: &str) -> Option<String> {
    let label = name.trim_end_matches('.').strip_suffix(".local")?;
    (!label.is_empty() && !label.contains('.')).then(|| label.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_directly_below_local_is_a_hosts() {
        assert_eq!(label("sarai-2.local.").as_deref(), Some("sarai-2"));
        assert_eq!(label("Sarai.local").as_deref(), Some("sarai"));
        for wrong in ["sarai", ".local.", "a.b.local.", "sarai.example."] {
            assert_eq!(label(wrong), None, "{wrong}");
        }
        assert!(same("SARAI.local.", "sarai.local") && !same("sarai-2.local.", "sarai.local."));
    }
}
