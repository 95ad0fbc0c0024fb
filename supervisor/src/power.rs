//! What ends everything: signals, the power button, an admin's order.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::libc;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{SignalKind, signal};

use crate::app::App;
use crate::layout::Mode;

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Powered off; natively the supervisor ends.
    Off,
    /// Started anew; natively the supervisor ends.
    Reboot,
}

/// Turns signals into orders. Ctrl-Alt-Del reaches PID 1 as SIGINT and means reboot there.
pub async fn signals(app: App) {
    let kinds = [
        (SignalKind::terminate(), Power::Off, "SIGTERM"),
        (SignalKind::interrupt(), Power::Reboot, "SIGINT"),
        (SignalKind::from_raw(libc::SIGPWR), Power::Off, "SIGPWR"),
    ];
    let mut tasks = Vec::new();
    for (kind, power, name) in kinds {
        let app = App::clone(&app);
        tasks.push(tokio::spawn(async move {
            let Ok(mut stream) = signal(kind) else { return };
            while stream.recv().await.is_some() {
                app.logs.say(&format!("{name} received"));
                let _ = app.power.send(power).await;
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
}

/// Size of the kernel's `struct input_event` on a 64-bit machine.
const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Whether `event` is the power button going down.
fn is_power_press(event: &[u8; EVENT]) -> bool {
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && value == 1
}

nix::ioctl_read_buf!(
    /// Which keys an input device has.
    evdev_keys, b'E',
    0x20 + 1,
    u8
);

/// Whether an input device has a power button at all.
fn has_power_key(device: &File) -> bool {
    let mut bits = [0u8; 96];
    // SAFETY: the kernel writes at most the length of the slice, which it is told.
    let got = unsafe { evdev_keys(device.as_raw_fd(), &mut bits) };
    got.is_ok() && bits[usize::from(KEY_POWER / 8)] & (1 << (KEY_POWER % 8)) != 0
}

/// Watches every power button, those plugged in later too. Only as PID 1.
pub async fn buttons(app: App) {
    if app.layout.mode != Mode::Pid1 {
        return;
    }
    let watched = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    loop {
        for entry in std::fs::read_dir("/dev/input").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("event") || !crate::problems::lock(&watched).insert(name.clone()) {
                continue;
            }
            let (app, watched) = (App::clone(&app), std::sync::Arc::clone(&watched));
            tokio::spawn(async move {
                if watch(&app, &entry.path()).await.is_err() {
                    // Unplugged: another may get the same name.
                    crate::problems::lock(&watched).remove(&name);
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Returns `Ok` for a device without a power button, which need not be looked at again.
async fn watch(app: &App, path: &Path) -> std::io::Result<()> {
    let device = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    if !has_power_key(&device) {
        return Ok(());
    }
    // SAFETY: an open file keeps its descriptor for as long as it lives, and only the `AsyncFd` has it.
    let device = unsafe { AsyncFd::register(device) }?;
    let mut events = [0; EVENT * 16];
    loop {
        let mut guard = device.readable().await?;
        let got = match guard.try_io(|inner| inner.get_ref().read(&mut events)) {
            Ok(got) => got?,
            Err(_would_block) => continue,
        };
        if got == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        for event in events[..got].chunks_exact(EVENT) {
            if event.try_into().is_ok_and(is_power_press) {
                app.logs.say("power button pressed");
                let _ = app.power.send(Power::Off).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT] {
        let mut bytes = [7; EVENT];
        bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
        bytes[18..20].copy_from_slice(&code.to_ne_bytes());
        bytes[20..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_power_button_going_down_counts() {
        assert!(is_power_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_power_press(&event(EV_KEY, KEY_POWER, 0)));
        assert!(!is_power_press(&event(EV_KEY, KEY_POWER, 2)));
        assert!(!is_power_press(&event(EV_KEY, 30, 1)));
        assert!(!is_power_press(&event(0, KEY_POWER, 1)));
    }

    #[test]
    fn the_kernels_event_has_the_size_that_is_read() {
        assert_eq!(std::mem::size_of::<libc::input_event>(), EVENT);
    }

    #[test]
    fn a_device_that_is_no_input_device_has_no_power_button() {
        assert!(!has_power_key(&File::open("/dev/null").unwrap()));
    }
}
