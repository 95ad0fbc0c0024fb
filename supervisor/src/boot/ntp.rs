//! The time from the network: busybox `ntpd`, supervised like any other service, where the settings name servers. It
//! sets the clock itself; what a server says is not parsed by PID 1.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::app::App;
use crate::service::plain;
use crate::spawn::Spec;
use crate::tasks;

const BUSYBOX: &str = "/bin/busybox";
const SERVICE: &str = "ntp";

/// Starts it, if there is a server to ask.
pub fn start(app: &App) {
    if app.config.ntp.is_empty() {
        return;
    }
    app.board.enter(SERVICE, "root", &app.cores.house);
    let orders = Arc::new(Mutex::new(app.orders.register(SERVICE)));
    let (arguments, house) = (arguments(&app.config.ntp), app.cores.house.clone());
    let tree = app.tree.clone();
    let make = Arc::new(move || -> std::io::Result<Spec<'static>> {
        Ok(Spec {
            args: arguments.iter().map(Into::into).collect(),
            env: vec![("PATH".into(), "/bin:/usr/bin".into())],
            confined: false,
            cpus: house.clone(),
            cgroup: tree.as_ref().map(|tree| tree.procs("house")).transpose()?,
            ..Spec::new(BUSYBOX)
        })
    });
    let keep_app = App::clone(app);
    tasks::guard(SERVICE, app.problems.clone(), move || {
        plain::keep(
            App::clone(&keep_app),
            SERVICE.to_owned(),
            Arc::clone(&orders),
            Arc::clone(&make) as _,
        )
    });
}

/// In the foreground, one `-p` a server.
fn arguments(servers: &[String]) -> Vec<String> {
    let asked = servers
        .iter()
        .flat_map(|server| ["-p".to_owned(), server.clone()]);
    ["ntpd", "-n"]
        .map(str::to_owned)
        .into_iter()
        .chain(asked)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_asked() {
        let servers = ["10.0.0.1".to_owned(), "pool.ntp.org".to_owned()];
        assert_eq!(
            arguments(&servers),
            ["ntpd", "-n", "-p", "10.0.0.1", "-p", "pool.ntp.org"]
        );
    }
}
