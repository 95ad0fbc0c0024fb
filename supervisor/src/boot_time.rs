//! What the way from power-on to an answer took: moments by the kernel's clock since boot, noted once each, and the
//! table of stages that `sarai boot-time` prints.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sarai_wire::control::{BootStage, BootStatus};

use crate::config::read_bounded;
use crate::layout::Mode;

/// Where the kernel shows the firmware's own figures (ACPI's firmware performance table), one number a file.
const FIRMWARE: &str = "/sys/firmware/acpi/fpdt/boot";

/// A moment on the way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// The supervisor's first line.
    Begun,
    /// Its services may start.
    Services,
    /// There is a certificate to serve with.
    Certified,
    /// The first model is about to be verified.
    Verifying,
    /// The first model is verified.
    Verified,
    /// The first engine serves.
    Engine,
    /// The gateway serves clients.
    Gateway,
}

const MARKS: usize = Mark::Gateway as usize + 1;

/// The moments of this run.
#[derive(Debug, Default)]
pub struct Marks([OnceLock<Duration>; MARKS]);

/// Time since the kernel started.
#[must_use]
pub fn since_boot() -> Duration {
    // A clock that every kernel has; zero would show as a stage of no length.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

impl Marks {
    /// With the supervisor's first line as its first moment.
    #[must_use]
    pub fn begun(at: Duration) -> Self {
        let me = Self::default();
        me.note(Mark::Begun, at);
        me
    }

    /// Notes that this happens now; only the first time counts.
    pub fn set(&self, mark: Mark) {
        self.note(mark, since_boot());
    }

    fn note(&self, mark: Mark, at: Duration) {
        let _ = self.0[mark as usize].set(at);
    }

    fn at(&self, mark: Mark) -> Option<Duration> {
        self.0[mark as usize].get().copied()
    }

    /// The table of stages as far as they came.
    #[must_use]
    pub fn status(&self, mode: Mode) -> BootStatus {
        let firmware = (mode == Mode::Pid1)
            .then(|| firmware(Path::new(FIRMWARE)))
            .flatten();
        self.table(mode, firmware)
    }

    fn table(&self, mode: Mode, firmware: Option<Duration>) -> BootStatus {
        let stage = |name: &str, from: Option<Duration>, to: Option<Duration>| BootStage {
            name: name.to_owned(),
            from_ms: from.map(ms),
            to_ms: to.map(ms),
        };
        let between = |name: &str, from: Mark, to: Mark| stage(name, self.at(from), self.at(to));
        let mut stages = Vec::new();
        if mode == Mode::Pid1 {
            stages.push(BootStage {
                name: "firmware".to_owned(),
                // Before the kernel's clock began.
                from_ms: firmware.map(|took| -ms(took)),
                to_ms: firmware.map(|_| 0.0),
            });
            stages.push(stage("kernel", Some(Duration::ZERO), self.at(Mark::Begun)));
        }
        stages.push(between("supervisor", Mark::Begun, Mark::Services));
        stages.push(between("certificate", Mark::Services, Mark::Certified));
        stages.push(between("verify", Mark::Verifying, Mark::Verified));
        stages.push(between("engine ready", Mark::Verified, Mark::Engine));
        stages.push(between("gateway listening", Mark::Services, Mark::Gateway));
        let from_begin = |to: Mark| Some(ms(self.at(to)?.saturating_sub(self.at(Mark::Begun)?)));
        BootStatus {
            stages,
            gateway_ms: from_begin(Mark::Gateway),
            ready_ms: from_begin(Mark::Gateway)
                .zip(from_begin(Mark::Engine))
                .map(|(a, b)| a.max(b)),
        }
    }
}

fn ms(time: Duration) -> f64 {
    // To the microsecond; more would only be noise in the table.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// From reset to the kernel, by the firmware's own account; `None` where the firmware or the kernel keeps none.
fn firmware(folder: &Path) -> Option<Duration> {
    let text = read_bounded(&folder.join("exitbootservice_end_ns"), 64).ok()??;
    let nanoseconds: u64 = text.trim().parse().ok()?;
    // Some firmware leaves the field empty.
    (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_in_order_and_only_the_first_moment_counts() {
        let marks = Marks::begun(Duration::from_millis(700));
        let at = |name: &str, status: &BootStatus| {
            let found = status.stages.iter().find(|s| s.name == name).unwrap();
            (found.from_ms, found.to_ms)
        };
        let early = marks.table(Mode::Pid1, None);
        assert_eq!(at("firmware", &early), (None, None));
        assert_eq!(at("kernel", &early), (Some(0.0), Some(700.0)));
        assert_eq!(at("supervisor", &early), (Some(700.0), None));
        assert_eq!((early.gateway_ms, early.ready_ms), (None, None));
        for (mark, ms) in [
            (Mark::Services, 900),
            (Mark::Services, 5000),
            (Mark::Certified, 1000),
            (Mark::Verifying, 950),
            (Mark::Verified, 2000),
            (Mark::Gateway, 1500),
            (Mark::Engine, 3000),
        ] {
            marks.note(mark, Duration::from_millis(ms));
        }
        let whole = marks.table(Mode::Pid1, Some(Duration::from_millis(4200)));
        assert_eq!(at("firmware", &whole), (Some(-4200.0), Some(0.0)));
        assert_eq!(at("supervisor", &whole), (Some(700.0), Some(900.0)));
        assert_eq!(at("engine ready", &whole), (Some(2000.0), Some(3000.0)));
        assert_eq!((whole.gateway_ms, whole.ready_ms), (Some(800.0), Some(2300.0)));
        let native = marks.table(Mode::Native, None);
        assert!(
            native
                .stages
                .iter()
                .all(|s| s.name != "kernel" && s.name != "firmware")
        );
    }

    #[test]
    fn the_firmwares_figure_is_read_where_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(firmware(dir.path()), None);
        for (text, wanted) in [
            ("0\n", None),
            ("x", None),
            ("4200000000\n", Some(Duration::from_millis(4200))),
        ] {
            std::fs::write(dir.path().join("exitbootservice_end_ns"), text).unwrap();
            assert_eq!(firmware(dir.path()), wanted, "{text:?}");
        }
    }
}
