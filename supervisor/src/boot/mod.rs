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
use crate::watchdog;

use disk::Found;

pub mod clock;
pub mod data;
pub mod dhcp;
pub mod disk;
pub mod early;
pub mod entropy;
pub mod lease;
pub mod links;
pub mod modules;
pub mod mounts;
pub mod ntp;
pub mod setup;
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
        watchdog::boot_goes_on();
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

/// The steps before the settings are known: devices, the disk, the setup file on it. Where the data may be, and the
/// text of that file.
pub fn first(steps: &Steps<'_>) -> (Found, Option<String>) {
    steps.run("modules", || modules::load(Path::new(MODULES)));
    steps.run("watchdog", watchdog::watch_boot);
    let mut found = Found::Nothing("it was not looked for".to_owned());
    steps.run("disk", || {
        found = disk::find();
        match &found {
            Found::Boot(boot) => match &boot.note {
                None => Ok(format!("{} carries the image", boot.disk.path().display())),
                Some(note) => Err(note.clone()),
            },
            Found::Data(device) => Ok(format!(
                "{} holds data, no disk carries an image",
                device.display()
            )),
            // The step that wants the data says what that means.
            Found::Nothing(why) => Ok(why.clone()),
        }
    });
    let mut text = None;
    if let Found::Boot(boot) = &found {
        steps.run("setup", || {
            text = setup::read(boot)?;
            Ok(match &text {
                Some(_) => format!("{} read from the boot partition", setup::FILE),
                None => format!("no {} on the boot partition", setup::FILE),
            })
        });
    }
    (found, text)
}

/// The data partition: of the boot disk, made or made larger if need be; else whatever file system has its label.
fn data(steps: &Steps<'_>, layout: &Layout, found: &Found) {
    let mut device = Err(String::new());
    match found {
        Found::Boot(boot) => {
            steps.run("partition", || {
                let ready = disk::prepare(boot, &|text| steps.logs.say(&format!("partition: {text}")));
                let elsewhere = || {
                    let (class, dev) = (Path::new("/sys/class/block"), Path::new("/dev"));
                    data::find(class, dev, Some(&boot.disk.name))
                };
                match ready {
                    Ok(ready) => {
                        let said = format!("{} {}", ready.device.display(), ready.did);
                        device = Ok(ready.device);
                        ready
                            .problem
                            .map_or(Ok(said.clone()), |problem| Err(format!("{said}; {problem}")))
                    }
                    Err(why) => {
                        device = elsewhere().ok_or_else(|| why.clone());
                        Err(why)
                    }
                }
            });
        }
        Found::Data(found) => device = Ok(found.clone()),
        Found::Nothing(why) => device = Err(why.clone()),
    }
    steps.run("data", || {
        data::mount(&layout.data, device.as_deref().map_err(Clone::clone))
    });
}

/// All steps up to the point where the machine has its devices, its data and its time.
pub fn run(steps: &Steps<'_>, layout: &Layout, hostname: &str, found: &Found) -> Timestamp {
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
    data(steps, layout, found);
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
    steps.run("sysctl", || {
        Ok(sysctls::apply(
            Path::new("/proc/sys"),
            crate::status::machine_memory().0,
        ))
    });
    oldest
}
