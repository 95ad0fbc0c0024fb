//! The machine's addresses, and the server certificate that must name them: looked at every two seconds, issued
//! anew when they changed or its end is near.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::app::{App, Shared};
use crate::boot_time::Mark;
use crate::identity::pki::{Names, Validity};
use crate::identity::{self, Identity};
use crate::problems::lock;
use crate::service::{GATEWAY, Order};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Most addresses a certificate names.
const MAX_ADDRESSES: usize = 64;

/// Addresses of interfaces that are up and that another machine can reach.
#[must_use]
pub fn global_addresses() -> BTreeSet<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else {
        return BTreeSet::new();
    };
    interfaces
        .filter(|i| i.flags.contains(nix::net::if_::InterfaceFlags::IFF_UP))
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(is_global)
        .take(MAX_ADDRESSES)
        .collect()
}

/// Reachable from elsewhere: private networks count, loopback and link-local do not.
fn is_global(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_host(*v4) && !v4.is_link_local(),
        IpAddr::V6(v6) => {
            *v6 != Ipv6Addr::UNSPECIFIED
                && !v6.is_loopback()
                && !v6.is_multicast()
                && (v6.segments()[0] & 0xffc0) != 0xfe80
        }
    }
}

/// An address one host can have.
#[must_use]
pub fn is_host(v4: Ipv4Addr) -> bool {
    !v4.is_unspecified()
        && !v4.is_loopback()
        && !v4.is_multicast()
        && v4.octets()[0] != 0
        && v4.octets()[0] < 240
}

/// Where clients find the gateway.
#[must_use]
pub fn urls(app: &Shared) -> Vec<String> {
    let port = lock(&app.tcp)
        .as_ref()
        .map_or(app.config.listen.port(), |(_, port)| *port);
    let listen = app.config.listen.ip();
    let hosts: Vec<IpAddr> = if !listen.is_unspecified() {
        vec![listen]
    } else {
        let addresses = lock(&app.addresses);
        let mut hosts: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|a| a.is_ipv4() || listen.is_ipv6())
            .collect();
        if app.layout.mode == crate::layout::Mode::Native {
            hosts.insert(0, IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        hosts
    };
    hosts.into_iter().map(|host| url(host, port)).collect()
}

fn url(host: IpAddr, port: u16) -> String {
    let host = match host {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    if port == 443 {
        format!("https://{host}")
    } else {
        format!("https://{host}:{port}")
    }
}

/// Keeps identity and server certificate in order for as long as the supervisor runs.
pub async fn certify(app: App) {
    let mut issued: Option<(Names, Validity)> = None;
    loop {
        let names = Names {
            hostname: app.hostname.clone(),
            announced: lock(&app.announced).clone().filter(|name| *name != app.hostname),
            addresses: global_addresses(),
        };
        lock(&app.addresses).clone_from(&names.addresses);
        let now = Timestamp::now();
        if issued
            .as_ref()
            .is_none_or(|(known, validity)| *known != names || validity.due(now))
        {
            match issue(&app, names.clone(), now).await {
                Ok((validity, changed)) => {
                    app.problems.clear("identity");
                    let list: Vec<String> = names.addresses.iter().map(ToString::to_string).collect();
                    let word = if changed { "issued" } else { "there" };
                    app.logs.say(&format!(
                        "certificate {word} for {}: {}",
                        names.hostname,
                        list.join(" ")
                    ));
                    issued = Some((names, validity));
                    app.marks.set(Mark::Certified);
                    let first = !app.certified.send_replace(true);
                    if changed && !first {
                        app.orders
                            .give(GATEWAY, Order::Reload, Duration::from_secs(5))
                            .await;
                    }
                }
                Err(e) => {
                    let old = lock(&app.identity).clone();
                    let usable = old.is_some_and(|i| identity::usable(&app.layout, &i.authority, now));
                    let effect = if usable {
                        "clients may not know a new address"
                    } else {
                        "clients cannot connect"
                    };
                    app.problems.set("identity", format!("{effect}: failed to {e}"));
                    if usable {
                        app.certified.send_replace(true);
                    }
                    tokio::time::sleep(4 * LOOK).await;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn issue(app: &App, names: Names, now: Timestamp) -> Result<(Validity, bool), String> {
    let worker = App::clone(app);
    let work = move || {
        let identity = ensure(&worker, now)?;
        identity::certify(&worker.layout, &identity.authority, &names, now).map_err(|e| e.to_string())
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| format!("make certificates: {e}"))?
}

/// The machine's keys: those in memory, or those on disk, or new ones.
pub fn ensure(app: &Shared, now: Timestamp) -> Result<Arc<Identity>, String> {
    let mut kept = lock(&app.identity);
    if let Some(identity) = &*kept {
        return Ok(Arc::clone(identity));
    }
    let (identity, problems) = identity::ensure(&app.layout, now, app.oldest).map_err(|e| e.to_string())?;
    for (n, problem) in problems.into_iter().enumerate() {
        app.problems.set(&format!("identity {n}"), problem);
    }
    let identity = Arc::new(identity);
    *kept = Some(Arc::clone(&identity));
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_count_and_local_ones_do_not() {
        for (text, global) in [
            ("192.168.1.2", true),
            ("10.0.2.15", true),
            ("127.0.0.1", false),
            ("169.254.3.4", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("fe80::1", false),
            ("::1", false),
            ("fd00::7", true),
            ("2001:db8::1", true),
            ("ff02::1", false),
        ] {
            assert_eq!(is_global(&text.parse().unwrap()), global, "{text}");
        }
    }

    #[test]
    fn urls_name_the_port_unless_it_is_the_usual_one() {
        assert_eq!(url("10.0.0.1".parse().unwrap(), 443), "https://10.0.0.1");
        assert_eq!(url("fd00::7".parse().unwrap(), 8443), "https://[fd00::7]:8443");
    }
}
