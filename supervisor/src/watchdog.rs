//! The hardware watchdog. It is fed from the main loop, so a loop that no longer turns is not; and it is not fed
//! while a service that claims to serve has been silent for longer than its driver should have allowed.
//!
//! It is open from the moment the machine has its drivers: a step of the way up that never ends, a kernel that stands
//! still in one, restarts the machine, too. There it has more time, and each step feeds it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::app::App;
use crate::problems::lock;

/// Seconds without food after which the machine restarts.
const TIMEOUT_S: i32 = 30;
/// The same on the way up, where a step may wait for a disk.
const BOOT_TIMEOUT_S: i32 = 180;
/// Where the kernel shows it.
const DEVICE: &str = "/dev/watchdog";
/// Time between two feedings.
const FEED: Duration = Duration::from_secs(5);
/// Time a driver has, beyond a service's own bound, to replace it.
const SLACK: Duration = Duration::from_secs(15);

nix::ioctl_readwrite!(
    /// Sets the timeout, seconds.
    set_timeout,
    b'W',
    6,
    i32
);

/// The device, until the main loop takes it over.
static BOOTING: Mutex<Option<File>> = Mutex::new(None);

/// Opens the device on the way up, a step of which this is. From here on the machine restarts unless it is fed.
///
/// # Errors
/// When the machine has none, or it does not take the time: it keeps its own then.
pub fn watch_boot() -> Result<String, String> {
    let device = match File::options().write(true).open(DEVICE) {
        Ok(device) => device,
        Err(e) => return Ok(format!("none: {e}")),
    };
    let told = set(&device, BOOT_TIMEOUT_S);
    *lock(&BOOTING) = Some(device);
    match told {
        Ok(()) => Ok(format!("{BOOT_TIMEOUT_S} s for each step from here on")),
        Err(e) => Err(format!(
            "it keeps its own timeout, {BOOT_TIMEOUT_S} s was refused: {e}"
        )),
    }
}

/// The way up goes on: a step begins, or a program that makes or checks a file system is within its time.
pub fn boot_goes_on() {
    if let Some(device) = &mut *lock(&BOOTING) {
        let _ = device.write_all(b"\0");
    }
}

fn set(device: &File, timeout_s: i32) -> nix::Result<()> {
    let mut seconds = timeout_s;
    // SAFETY: the pointer is to an int that lives through the call, as the driver expects.
    unsafe { set_timeout(device.as_raw_fd(), &raw mut seconds) }.map(drop)
}

/// The device, open from the end of boot to an orderly end.
#[derive(Clone, Default)]
pub struct Watchdog(Arc<Mutex<Option<File>>>);

impl Watchdog {
    /// Opens `/dev/watchdog` when the machine has one. From here on the machine restarts unless it is fed.
    #[must_use]
    pub fn open(app: &App) -> Self {
        let booting = lock(&BOOTING).take();
        let device = match booting.map_or_else(|| File::options().write(true).open(DEVICE), Ok) {
            Ok(device) => device,
            Err(e) => {
                app.logs.say(&format!("no hardware watchdog is used: {e}"));
                return Self::default();
            }
        };
        match set(&device, TIMEOUT_S) {
            Ok(()) => app.logs.say(&format!("hardware watchdog: {TIMEOUT_S} s")),
            Err(e) => app.problems.set(
                "watchdog",
                format!("the hardware watchdog keeps its own timeout, {TIMEOUT_S} s was refused: {e}"),
            ),
        }
        Self(Arc::new(Mutex::new(Some(device))))
    }

    /// Feeds for as long as the machine works.
    pub async fn run(self, app: App) {
        let mut tick = tokio::time::interval(FEED);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match app.board.neglected(SLACK) {
                Some(name) => app.logs.say(&format!(
                    "watchdog not fed: {name} is silent and nobody replaces it"
                )),
                None => self.feed(),
            }
        }
    }

    /// Feeds once.
    pub fn feed(&self) {
        if let Some(device) = &mut *lock(&self.0) {
            let _ = device.write_all(b"\0");
        }
    }

    /// Orderly end: the letter `V` tells the driver that it was meant.
    pub fn close(&self) {
        if let Some(mut device) = lock(&self.0).take() {
            let _ = device.write_all(b"V");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_up_feeds_it_until_the_main_loop_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog");
        boot_goes_on();
        *lock(&BOOTING) = Some(File::create(&path).unwrap());
        boot_goes_on();
        boot_goes_on();
        let device = lock(&BOOTING).take();
        boot_goes_on();
        assert!(device.is_some());
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0");
    }

    #[test]
    fn an_orderly_end_says_so_to_the_driver() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("watchdog");
        let watchdog = Watchdog(Arc::new(Mutex::new(Some(File::create(&path).unwrap()))));
        watchdog.feed();
        watchdog.feed();
        watchdog.close();
        watchdog.feed();
        watchdog.close();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0V");
    }
}
