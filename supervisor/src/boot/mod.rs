//! What only PID 1 does, step by step, before anything else runs. A step that fails leaves a sentence for `status`
//! and the console; the next step runs all the same.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;

use crate::layout::Layout;
use crate::logs::Logs;
use crate::problems::Problems;

pub mod clock;
pub mod data;
pub mod dhcp;
pub mod early;
pub mod entropy;
pub mod lease;
pub mod links;
pub mod modules;
pub mod mounts;
pub mod sysctls;

/// Where the image keeps the time it was built at.
pub const STAMP: &str = "/usr/lib/sarai/build-stamp";
/// Where the image lists modules, in the order of loading.
pub const MODULES: &str = "/usr/lib/sarai/modules/modules.list";

/// Runs the steps.
pub struct Steps<'a> {
    logs: &'a Logs,
    problems: &'a Problems,
}

impl<'a> Steps<'a> {
    /// Steps that report to `logs` and `problems`.
    #[must_use]
    pub fn new(logs: &'a Logs, problems: &'a Problems) -> Self {
        Self { logs, problems }
    }

    /// Runs one step; its outcome is a line of the log. Not even a panic ends the boot.
    pub fn run(&self, name: &str, step: impl FnOnce() -> Result<String, String>) -> bool {
        let begun = Instant::now();
        let outcome =
            catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| Err("the step panicked".to_owned()));
        let ms = begun.elapsed().as_millis();
        match outcome {
            Ok(detail) => {
                self.logs.say(&format!("{name}: {detail} ({ms} ms)"));
                true
            }
            Err(reason) => {
                self.problems
                    .set(&format!("boot {name}"), format!("{name}: {reason}"));
                false
            }
        }
    }
}

/// The console, once `/dev` is there.
#[must_use]
pub fn console() -> Option<File> {
    File::options().write(true).open("/dev/console").ok()
}

/// All steps up to the point where the machine has its devices, its data and its time.
pub fn run(steps: &Steps<'_>, layout: &Layout, hostname: &str) -> Timestamp {
    steps.run("modules", || modules::load(Path::new(MODULES)));
    steps.run("hostname", || {
        nix::unistd::sethostname(hostname)
            .map(|()| hostname.to_owned())
            .map_err(|e| e.to_string())
    });
    steps.run("loopback", || {
        links::up("lo")
            .map(|()| "up".to_owned())
            .map_err(|e| e.to_string())
    });
    steps.run("data", || data::mount(&layout.data));
    steps.run("folders", || {
        layout
            .make_folders()
            .map(|()| "there".to_owned())
            .map_err(|e| format!("failed to {e}"))
    });
    // The admin may read the logs.
    let _ = std::os::unix::fs::chown(layout.log(), Some(0), Some(crate::spawn::ADMIN.id));
    // Whatever came of the disk: this is where `/data` leads from now on.
    steps.logs.open(layout.log());
    let mut oldest = Timestamp::UNIX_EPOCH;
    steps.run("clock", || {
        let (at, said) = clock::set(Path::new(STAMP), &layout.state().join(clock::FILE));
        oldest = at;
        said
    });
    steps.run("entropy", || entropy::feed(&layout.state().join(entropy::FILE)));
    steps.run("sysctl", || Ok(sysctls::apply(Path::new("/proc/sys"))));
    oldest
}
