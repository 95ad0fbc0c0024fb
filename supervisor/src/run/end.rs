//! The end: services in order, then the rest, then the machine. Every step has a bound; none can hold up the end.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::adapters::merge;
use crate::app::{App, Shared};
use crate::boot::{clock, data, entropy};
use crate::night;
use crate::power::Power;
use crate::problems::lock;
use crate::service::{FALLBACK, GATEWAY, Order, PRIMARY};
use crate::watchdog::Watchdog;

/// Besides the drain of requests.
const GATEWAY_SLACK: Duration = Duration::from_secs(5);
const ENGINE: Duration = Duration::from_secs(8);
/// Longest wait for the last signature under the audit log.
const AUDIT: Duration = Duration::from_secs(2);
const REST: Duration = Duration::from_secs(4);
/// Longest wait for the disk.
const DISK: Duration = Duration::from_secs(20);

/// The watchdog is closed by the very last step, outside of the runtime.
static WATCHDOG: Mutex<Option<Watchdog>> = Mutex::new(None);

/// Keeps the watchdog for [`machine`].
pub(super) fn remember(watchdog: &Watchdog) {
    *lock(&WATCHDOG) = Some(watchdog.clone());
}

/// First the gateway, which lets requests finish; then the engines they needed; then everything else.
pub(super) async fn services(app: &App) {
    app.ladder.end();
    // While those it asked can still answer.
    tokio::join!(night::admin::end(app), merge::end(app));
    let drain = Duration::from_secs(app.config.gateway.drain_s.into()) + GATEWAY_SLACK;
    stop(app, GATEWAY, drain).await;
    // The gateway's last word about its audit log.
    app.audit.end(AUDIT);
    tokio::join!(stop(app, PRIMARY, ENGINE), stop(app, FALLBACK, ENGINE));
    let rest: Vec<_> = app
        .orders
        .names()
        .into_iter()
        .filter(|name| ![GATEWAY, PRIMARY, FALLBACK].contains(&name.as_str()))
        .map(|name| {
            let app = App::clone(app);
            tokio::spawn(async move { stop(&app, &name, REST).await })
        })
        .collect();
    for task in rest {
        let _ = task.await;
    }
    for path in [PRIMARY, FALLBACK].map(|name| app.layout.engine_socket(name)) {
        let _ = std::fs::remove_file(path);
    }
    let _ = std::fs::remove_file(app.layout.control_socket());
    app.logs.say("services ended");
    app.logs.flush(Duration::from_secs(1));
}

async fn stop(app: &App, name: &str, limit: Duration) {
    if app.board.state_of(name).is_some() && !app.orders.give(name, Order::Stop, limit).await {
        app.logs.say(&format!("{name} did not end in time"));
    }
}

/// As PID 1: ends every process, saves what the next boot needs, lets go of the disk, and ends the machine.
pub(super) fn machine(app: &Shared, power: Power) {
    // PID -1 is everyone but us.
    let everyone = Pid::from_raw(-1);
    let _ = kill(everyone, Signal::SIGTERM);
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until && app.reaper.reap_all() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = kill(everyone, Signal::SIGKILL);
    // The log is the last open file on the disk, which could not be unmounted with it.
    app.logs.close(Duration::from_secs(2));
    let (data_folder, state) = (app.layout.data.clone(), app.layout.state());
    let disk = std::thread::spawn(move || {
        let _ = clock::save(&state.join(clock::FILE));
        let _ = entropy::save(&state.join(entropy::FILE));
        nix::unistd::sync();
        let _ = data::unmount(&data_folder);
        nix::unistd::sync();
    });
    let until = Instant::now() + DISK;
    while !disk.is_finished() && Instant::now() < until {
        app.reaper.reap_all();
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Some(watchdog) = lock(&WATCHDOG).take() {
        watchdog.close();
    }
    let how = match power {
        Power::Off => RebootMode::RB_POWER_OFF,
        Power::Reboot => RebootMode::RB_AUTOBOOT,
    };
    let Err(e) = reboot(how);
    app.logs
        .say(&format!("problem: the machine could not be ended: {e}"));
}
