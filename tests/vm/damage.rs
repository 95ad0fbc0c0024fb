//! What is missing or wrong is said on the console, and the machine can be reached all the same.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sarai_tests::image::Image;
use sarai_tests::tree;
use sarai_tests::vm::copy_disk;
use serde_json::{Value, json};

use crate::common::{Booted, COMMAND, OFF, SETTINGS, ask, ask_until_answered, pair};

#[test]
fn a_tampered_model_is_refused_aloud_and_a_hung_init_ends_in_a_reset() {
    let _alone = tree::alone();
    let models = pair().unwrap();
    let image = Image::make(&models, SETTINGS, |folder| {
        let file = OpenOptions::new().write(true).open(folder.join("primary.gguf"))?;
        Ok(file.write_all_at(b"tampered", file.metadata()?.len() / 2)?)
    })
    .unwrap();
    let machine = image.machine_with_root_shell(Some(image.disk())).unwrap();
    let mut booted = Booted::new(&machine).unwrap();
    let said = booted
        .console
        .lines()
        .filter(|line| line.contains("wrong-digest"))
        .count();
    assert!(said > 0, "the console does not say why:\n{}", booted.console);
    let status = booted.status().unwrap();
    assert!(status.ready, "{status:#?}");
    let primary = status.models.iter().find(|m| m.role == "primary").unwrap();
    assert!(
        primary
            .refused
            .as_deref()
            .is_some_and(|r| r.starts_with("wrong-digest")),
        "{primary:?}"
    );
    let (client, _, _) = booted.client("vm").unwrap();
    let omni = ask_until_answered(&client).unwrap();
    assert_eq!(
        (&omni["fallback"], &omni["model"]),
        (&json!(true), &json!(models[1].id)),
        "{omni}"
    );

    // PID 1 cannot be stopped by a signal; the kernel's freezer can. Nobody feeds the watchdog then.
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    root.run(
        "busybox mkdir /sys/fs/cgroup/frozen && echo 1 >/sys/fs/cgroup/frozen/cgroup.procs",
        COMMAND,
    )
    .unwrap();
    let events = booted.vm.events().unwrap();
    root.send("echo 1 >/sys/fs/cgroup/frozen/cgroup.freeze").unwrap();
    events.wait_for("WATCHDOG", Duration::from_secs(180)).unwrap();
    // Without a reboot the emulator ends where the machine would start anew.
    booted.vm.wait_for_power_off(OFF).unwrap();
}

#[test]
fn without_a_data_disk_or_with_a_damaged_one_the_machine_comes_up_and_says_so() {
    let _alone = tree::alone();
    let image = Image::make(&pair().unwrap(), SETTINGS, |_| Ok(())).unwrap();
    let mut booted = Booted::new(&image.machine(None)).unwrap();
    assert!(
        booted.console.contains("SARAI-DATA"),
        "the console does not say what is missing:\n{}",
        booted.console
    );
    let status = booted.status().unwrap();
    assert!(!status.ready && !status.problems.is_empty(), "{status:#?}");
    // It can be reached, and tells a client what is wrong.
    let (client, _, _) = booted.client("vm").unwrap();
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    let ready = client.get("/readyz").unwrap();
    assert_eq!(ready.status, 503, "{}", ready.body);
    let refused = ask(&client).unwrap_err().to_string();
    assert!(refused.contains("status 503"), "{refused}");
    // What tells a machine that waits from one that stands still.
    assert!(booted.vm.kernel_answers(COMMAND).unwrap());
    booted.vm.qmp("stop", &Value::Null).unwrap();
    assert!(!booted.vm.kernel_answers(Duration::from_secs(5)).unwrap());
    booted.vm.qmp("cont", &Value::Null).unwrap();
    booted.vm.type_line("poweroff").unwrap();
    booted.vm.wait_for_power_off(OFF).unwrap();

    // A disk that carries the label and no whole file system is left as it is.
    let disk = image.disk();
    damage(&disk).unwrap();
    let before = image.path("before.img");
    copy_disk(&disk, &before).unwrap();
    let mut booted = Booted::new(&image.machine(Some(disk.clone()))).unwrap();
    assert!(
        booted.console.contains("data: /dev/vda is damaged"),
        "the console does not say what is damaged:\n{}",
        booted.console
    );
    let status = booted.status().unwrap();
    assert!(
        !status.ready && status.problems.iter().any(|p| p.contains("/dev/vda is damaged")),
        "{status:#?}"
    );
    let (client, _, _) = booted.client("vm").unwrap();
    assert_eq!(client.get("/healthz").unwrap().status, 200);
    booted.vm.cut_power().unwrap();
    assert!(
        Command::new("cmp")
            .arg(disk)
            .arg(before)
            .status()
            .unwrap()
            .success(),
        "the damaged disk was written"
    );
}

/// Overwrites what follows the superblock, which stays whole: the group descriptors among it.
fn damage(disk: &Path) -> std::io::Result<()> {
    let disk = OpenOptions::new().write(true).open(disk)?;
    disk.write_all_at(&[0xff; 14 * 1024], 2048)
}
