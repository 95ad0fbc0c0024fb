//! Addresses by DHCP: one busybox `udhcpc` a wired interface, supervised like any other service, and the lease file
//! that its script writes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::{lease, links};
use crate::app::App;
use crate::config::read_bounded;
use crate::service::plain;
use crate::spawn::Spec;
use crate::tasks;

/// Applies an address; written beside the image.
const SCRIPT: &str = "/usr/lib/sarai/udhcpc-script";
const BUSYBOX: &str = "/bin/busybox";
/// Most interfaces that ask for an address.
const MAX_INTERFACES: usize = 4;
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
        for name in links::wired(Path::new("/sys/class/net")) {
            let wanted = app.config.interface.as_ref().is_none_or(|only| *only == name);
            if wanted && served.len() < MAX_INTERFACES && !served.contains(&name) {
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

fn tell(app: &App, read: &Result<Option<lease::Lease>, String>) {
    match read {
        Ok(Some(lease)) => {
            app.problems.clear("lease");
            app.logs.say(&format!(
                "network: {} has {}/{}",
                lease.interface, lease.address, lease.prefix
            ));
        }
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
