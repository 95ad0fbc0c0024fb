//! The clock of a machine whose battery may be empty: never before the image was built, never before the last time
//! it was seen running.

use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_settime};

use crate::config::read_bounded;

/// Name of the file below the state folder.
pub const FILE: &str = "clock";
/// A saved time this long after the build is not believed: a clock that once ran far ahead must not pin the machine
/// to the future.
const BELIEVABLE: SignedDuration = SignedDuration::from_hours(20 * 365 * 24);
/// Time between two savings.
const SAVE: Duration = Duration::from_secs(3600);

/// Sets the clock forward if it is behind. Returns the oldest true time and what was done.
pub fn set(stamp: &Path, saved: &Path) -> (Timestamp, Result<String, String>) {
    let built = first_number(stamp);
    let floor = floor(built, first_number(saved));
    let oldest = built.unwrap_or(floor);
    let now = Timestamp::now();
    if now >= floor {
        return (oldest, Ok(now.to_string()));
    }
    let told = clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::new(floor.as_second(), 0));
    let said = told
        .map(|()| format!("was {now}, set to {floor}"))
        .map_err(|e| format!("cannot be set: {e}"));
    (oldest, said)
}

/// The later of the two, the saved one only while it is believable.
fn floor(built: Option<Timestamp>, saved: Option<Timestamp>) -> Timestamp {
    let built = built.unwrap_or(Timestamp::UNIX_EPOCH);
    let most = built.saturating_add(BELIEVABLE).unwrap_or(Timestamp::MAX);
    let saved = saved.filter(|at| *at <= most || built == Timestamp::UNIX_EPOCH);
    saved.unwrap_or(built).max(built)
}

fn first_number(path: &Path) -> Option<Timestamp> {
    let text = read_bounded(path, 1024).ok()??;
    Timestamp::from_second(text.lines().next()?.trim().parse().ok()?).ok()
}

/// Remembers the time.
pub fn save(saved: &Path) -> Result<(), String> {
    let text = format!("{}\n", Timestamp::now().as_second());
    sarai_trust::atomic::write(saved, text.as_bytes(), 0o600).map_err(|e| e.to_string())
}

/// Remembers the time every hour.
pub async fn keep(app: crate::app::App) {
    loop {
        let path = app.layout.state().join(FILE);
        let done = tokio::task::spawn_blocking(move || save(&path)).await;
        match done {
            Ok(Ok(())) => app.problems.clear("clock"),
            Ok(Err(e)) => app
                .problems
                .set("clock", format!("the time cannot be remembered: failed to {e}")),
            Err(_) => {}
        }
        tokio::time::sleep(SAVE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn the_floor_is_the_later_of_build_and_last_seen() {
        let (built, seen) = (at("2025-11-01T00:00:00Z"), at("2026-02-01T00:00:00Z"));
        assert_eq!(floor(built, seen), seen.unwrap());
        assert_eq!(floor(seen, built), seen.unwrap());
        assert_eq!(floor(built, None), built.unwrap());
        assert_eq!(floor(None, seen), seen.unwrap());
        assert_eq!(floor(built, at("2099-01-01T00:00:00Z")), built.unwrap());
    }

    #[test]
    fn a_saved_time_comes_back_and_garbage_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        save(&path).unwrap();
        let seen = first_number(&path).unwrap();
        assert!(Timestamp::now().duration_since(seen).as_secs() < 10);
        for garbage in ["", "x", "99999999999999999999", "-5e3"] {
            std::fs::write(&path, garbage).unwrap();
            assert!(first_number(&path).is_none(), "{garbage:?}");
        }
        std::fs::write(&path, "1762000000\n1.2.3\n").unwrap();
        assert_eq!(first_number(&path).unwrap().as_second(), 1_762_000_000);
    }
}
