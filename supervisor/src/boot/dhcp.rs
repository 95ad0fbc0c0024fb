//! Addresses. By DHCP: one busybox `udhcpc` a wired interface, supervised like any other service, and the lease file
//! that its script writes. Or a fixed one: the same script is told that it was bound.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::{lease, links};
use crate::app::App;
use crate::config::{StaticAddress, read_bounded};
use crate::reaper::Exit;
use crate::service::plain;
use crate::spawn::{self, Spec};
use crate::{network, tasks};

/// Applies an address; written beside the image.
const SCRIPT: &str = "/usr/lib/sarai/udhcpc-script";
const BUSYBOX: &str = "/bin/busybox";
/// Most interfaces that ask for an address.
const MAX_INTERFACES: usize = 4;
/// Longest time for setting a fixed address.
const SET: Duration = Duration::from_secs(30);
/// Time between two looks at interfaces and lease.
const LOOK: Duration = Duration::from_secs(1);

/// Starts a client for each interface as it appears, and reads the lease as it changes.
pub async fn run(app: App) {
    let folder = app.layout.run.join("net");
    if let Err(e) = std::fs::create_dir_all(&folder) {
        app.problems
            .set("network", format!("cannot make {}: {e}", folder.display()));
    }
    let mut served = BTreeSet::new();
    let mut last = None;
    loop {
        let wired = links::wired(Path::new("/sys/class/net")).into_iter();
        let settings = &app.config.network;
        let mut wanted = wired.filter(|name| settings.interface.as_ref().is_none_or(|only| only == name));
        if let Some(fixed) = &settings.fixed {
            // The first of them keeps it; a link that went and came back has lost it.
            if let Some(name) = wanted.next() {
                if !network::global_addresses().contains(&IpAddr::V4(fixed.address)) {
                    set(&app, &name, fixed).await;
                }
                served.insert(name);
            }
        }
        for name in wanted {
            let dhcp = settings.fixed.is_none();
            if dhcp && served.len() < MAX_INTERFACES && !served.contains(&name) {
                start(&app, &name);
                served.insert(name);
            }
        }
        if served.is_empty() {
            app.problems
                .set("network", "no wired network interface was found");
        } else {
            app.problems.clear("network");
        }
        let text = read_bounded(&folder.join("lease"), lease::MAX_FILE).map_err(|e| e.to_string());
        let read = text.and_then(|text| text.map(|text| lease::parse(&text)).transpose());
        if last.as_ref() != Some(&read) {
            tell(&app, &read);
            last = Some(read);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Gives an interface the fixed address.
async fn set(app: &App, interface: &str, fixed: &StaticAddress) {
    let topic = format!("link {interface}");
    let group = app.tree.as_ref().map(|tree| tree.procs("house")).transpose();
    let spec = Spec {
        args: vec!["bound".into()],
        cpus: app.cores.house.clone(),
        cgroup: group.ok().flatten(),
        env: environment(interface, fixed)
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        confined: false,
        ..Spec::new(SCRIPT)
    };
    let done = links::up(interface)
        .and_then(|()| spawn::spawn(&app.reaper, &spec))
        .map_err(|e| e.to_string());
    let outcome = match done {
        Ok(mut child) => match tokio::time::timeout(SET, &mut child.exit).await {
            Ok(Ok(Exit::Code(0))) => Ok(()),
            Ok(Ok(exit)) => Err(exit.to_string()),
            Ok(Err(_)) => Err("it was lost".to_owned()),
            Err(_) => {
                app.reaper.signal_group(child.pid, Signal::SIGKILL);
                Err("it did not end".to_owned())
            }
        },
        Err(e) => Err(e),
    };
    match outcome {
        Ok(()) => app.problems.clear(&topic),
        Err(e) => app.problems.set(
            &topic,
            format!("{interface} cannot get the address {}: {e}", fixed.address),
        ),
    }
}

/// What the script reads.
fn environment(interface: &str, fixed: &StaticAddress) -> Vec<(&'static str, String)> {
    let dns: Vec<String> = fixed.dns.iter().map(ToString::to_string).collect();
    vec![
        ("PATH", "/bin:/sbin:/usr/bin:/usr/sbin".to_owned()),
        ("interface", interface.to_owned()),
        ("ip", fixed.address.to_string()),
        ("mask", fixed.prefix.to_string()),
        (
            "router",
            fixed.router.map(|router| router.to_string()).unwrap_or_default(),
        ),
        ("dns", dns.join(" ")),
    ]
}

fn tell(app: &App, read: &Result<Option<lease::Lease>, String>) {
    match read {
        Ok(Some(lease)) => {
            app.problems.clear("lease");
            app.logs.say(&format!(
                "network: {} has {}/{}",
                lease.interface, lease.address, lease.prefix
            ));
        }
        Ok(None) if app.config.network.fixed.is_some() => {}
        Ok(None) => app
            .problems
            .set("lease", "no network address yet: no DHCP server has answered"),
        Err(e) => app
            .problems
            .set("lease", format!("the DHCP lease is not used: {e}")),
    }
}

fn start(app: &App, interface: &str) {
    if let Err(e) = links::up(interface) {
        app.problems.set(
            &format!("link {interface}"),
            format!("{interface} cannot be switched on: {e}"),
        );
    }
    let service = format!("dhcp-{interface}");
    app.board.enter(&service, "root", &app.cores.house);
    let orders = Arc::new(Mutex::new(app.orders.register(&service)));
    let (house, hostname, interface) = (
        app.cores.house.clone(),
        app.hostname.clone(),
        interface.to_owned(),
    );
    let tree = app.tree.clone();
    let make = Arc::new(move || -> std::io::Result<Spec<'static>> {
        let arguments = ["udhcpc", "-f", "-i", &interface, "-s", SCRIPT, "-A", "10", "-x"];
        Ok(Spec {
            args: arguments
                .iter()
                .map(Into::into)
                .chain([format!("hostname:{hostname}").into()])
                .collect(),
            env: vec![("PATH".into(), "/bin:/sbin:/usr/bin:/usr/sbin".into())],
            confined: false,
            cpus: house.clone(),
            cgroup: tree.as_ref().map(|tree| tree.procs("house")).transpose()?,
            ..Spec::new(BUSYBOX)
        })
    });
    let (keep_app, keep_name) = (App::clone(app), service.clone());
    tasks::guard(&service, app.problems.clone(), move || {
        plain::keep(
            App::clone(&keep_app),
            keep_name.clone(),
            Arc::clone(&orders),
            Arc::clone(&make) as _,
        )
    });
}
