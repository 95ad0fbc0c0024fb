//! From power-on to an answer and back off, twice on the same disk; then once with a disk that somebody changed.

use std::fs;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sarai_tests::image::Image;
use sarai_tests::model;
use sarai_tests::process::output_of;
use sarai_tests::tree;
use sarai_tests::vm::RootShell;
use sarai_wire::control::ServiceStatus;
use serde_json::json;

use crate::common::{
    Booted, COMMAND, OFF, REQUEST, SETTINGS, ask, ask_until_answered, ask_until_primary, change_on_disk,
    pair, patient,
};
use crate::console::locks_again;
use crate::ssh::{Admin, comes_in};

/// These texts stand on the console in this order.
fn in_order(console: &str, texts: &[&str]) -> Result<()> {
    let mut from = 0;
    for text in texts {
        let found = console[from..].find(text);
        from += found.with_context(|| format!("{text:?} is missing after {from} bytes of:\n{console}"))?
            + text.len();
    }
    Ok(())
}

/// What the kernel inside says about a service.
fn confined(root: &mut RootShell, service: &ServiceStatus, uid: &str) -> Result<()> {
    let pid = service.pid.context("no process")?;
    let status = root.run(&format!("cat /proc/{pid}/status"), COMMAND)?;
    let field = |name: &str| -> Result<String> {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value
            .with_context(|| format!("no {name} in {status}"))?
            .trim()
            .to_owned())
    };
    let name = &service.name;
    ensure!(
        field("Uid")?.split_whitespace().all(|id| id == uid),
        "{name}: Uid {}",
        field("Uid")?
    );
    ensure!(
        field("Gid")?.split_whitespace().all(|id| id == uid),
        "{name}: Gid {}",
        field("Gid")?
    );
    ensure!(field("Groups")?.is_empty(), "{name}: Groups {}", field("Groups")?);
    ensure!(
        field("NoNewPrivs")? == "1",
        "{name}: NoNewPrivs {}",
        field("NoNewPrivs")?
    );
    ensure!(field("Seccomp")? == "2", "{name}: Seccomp {}", field("Seccomp")?);
    ensure!(
        service.sandbox.iter().all(|duty| duty.in_force) && !service.sandbox.is_empty(),
        "{name}: {:?}",
        service.sandbox
    );
    for kind in ["mnt", "pid", "ipc", "uts", "net"] {
        let line = format!("busybox readlink /proc/1/ns/{kind}; busybox readlink /proc/{pid}/ns/{kind}");
        let both = root.run(&line, COMMAND)?;
        let mut lines = both.lines();
        ensure!(
            lines.next() != lines.next(),
            "{name} shares init's {kind}: {both}"
        );
    }
    let seen = root.run(
        &format!("ls /proc/{pid}/root /proc/{pid}/root/data /proc/{pid}/root/run; true"),
        COMMAND,
    )?;
    for hidden in ["etc/sarai", "keys", "models", "sys", "dev"] {
        ensure!(
            !seen.lines().any(|line| line == hidden),
            "{name} sees {hidden}: {seen}"
        );
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure!(
            u64::from_str_radix(&field(set)?, 16)? == 0,
            "{name}: {set} {}",
            field(set)?
        );
    }
    let cpus: Vec<u32> = ranges(&field("Cpus_allowed_list")?)?;
    ensure!(
        cpus == service.cpus,
        "{name}: may use {cpus:?}, status says {:?}",
        service.cpus
    );
    let cgroup = root.run(&format!("cat /proc/{pid}/cgroup"), COMMAND)?;
    let path = cgroup
        .trim()
        .strip_prefix("0::")
        .context("no cgroup v2")?
        .to_owned();
    ensure!(
        path.contains(name.trim_start_matches("engine-")),
        "{name} is in {path}"
    );
    for (file, wanted) in [("memory.swap.max", "0"), ("memory.oom.group", "1")] {
        // A kernel without swap accounting has no file for it.
        let line = format!("cat /sys/fs/cgroup{path}/{file} 2>/dev/null || echo {wanted}");
        let value = root.run(&line, COMMAND)?;
        ensure!(value.trim() == wanted, "{name}: {file} is {value}");
    }
    let open = root.run(&format!("ls -l /proc/{pid}/fd"), COMMAND)?;
    ensure!(!open.contains("/data/keys"), "{name} holds keys: {open}");
    ensure!(
        name != "gateway" || !open.contains("/data/models"),
        "the gateway holds a model: {open}"
    );
    Ok(())
}

/// `0-2,5` as numbers.
fn ranges(text: &str) -> Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(from.parse::<u32>()?..=to.parse()?);
    }
    Ok(numbers)
}

/// SHA-256 of a PEM certificate as the console shows it.
fn fingerprint(pem: &str) -> Result<String> {
    let output = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256"])
        .stdin(temporary(pem)?)
        .output()
        .context("run openssl")?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.trim().rsplit('=').next().unwrap_or_default().to_owned())
}

fn temporary(text: &str) -> Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

/// A file of an unmounted disk.
fn file_on_disk(disk: &Path, file: &str) -> Result<String> {
    let output = Command::new("/sbin/debugfs")
        .args(["-R", &format!("cat {file}")])
        .arg(disk)
        .output()
        .context("run debugfs")?;
    ensure!(
        !output.stdout.is_empty(),
        "{file}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a file system was unmounted properly.
fn unmounted(disk: &Path) -> Result<()> {
    let output = Command::new("/sbin/dumpe2fs")
        .arg("-h")
        .arg(disk)
        .output()
        .context("run dumpe2fs")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        text.contains("clean") && !text.contains("needs_recovery"),
        "the disk was not unmounted: {text}"
    );
    let check = Command::new("/sbin/e2fsck")
        .args(["-f", "-n"])
        .arg(disk)
        .output()
        .context("run e2fsck")?;
    ensure!(
        check.status.success(),
        "the disk is damaged: {}",
        String::from_utf8_lossy(&check.stdout)
    );
    Ok(())
}

#[test]
fn from_power_on_to_a_verified_answer_and_back_off() {
    let _alone = tree::alone();
    let models = pair().unwrap();
    let image = Image::make(&models, SETTINGS, |_| Ok(())).unwrap();
    let disk = image.disk();

    // The first boot.
    let machine = image.machine_with_root_shell(Some(disk.clone())).unwrap();
    let mut first = Booted::new(&machine).unwrap();
    in_order(
        &first.console,
        &["SARAi", "data: /dev/vda mounted", "verify primary.gguf", "ready"],
    )
    .unwrap();
    in_order(
        &first.console,
        &[
            "hardware watchdog: ",
            "SARAi",
            "https://10.0.2.15",
            "CA SHA-256",
            "ready",
            "This prompt is locked.",
        ],
    )
    .unwrap();
    let (client, ca, secret) = first.client("vm").unwrap();
    let shown = fingerprint(&ca).unwrap();
    assert!(
        first.console.contains(&shown),
        "the console does not show {shown}:\n{}",
        first.console
    );

    let status = first.status().unwrap();
    assert_eq!((status.mode.as_str(), status.ready), ("pid1", true));
    assert_eq!(status.ca_fingerprint.as_deref(), Some(shown.as_str()));
    assert!(
        status.urls.iter().any(|url| url == "https://10.0.2.15"),
        "{:?}",
        status.urls
    );
    assert!(status.problems.is_empty(), "{:?}", status.problems);
    let signer = image.publisher.fingerprint().unwrap();
    for model in &status.models {
        assert_eq!(model.verified_by.as_deref(), Some("fs-verity"), "{model:?}");
        assert_eq!(model.signer.as_deref(), Some(signer.as_str()));
    }
    let omni = ask(&client).unwrap();
    assert_eq!(omni["fallback"], false, "{omni}");
    assert_eq!(omni["model"], models[0].id.as_str());

    // From inside, as the kernel sees it.
    let mut root = first.vm.root_shell(COMMAND).unwrap();
    let init = root.run("busybox readlink /proc/1/exe", COMMAND).unwrap();
    assert_eq!(init.trim(), "/usr/lib/sarai/sarai-supervisor");
    for (name, uid) in [
        ("engine-primary", "701"),
        ("engine-fallback", "701"),
        ("gateway", "702"),
    ] {
        let service = status.services.iter().find(|s| s.name == name).unwrap();
        confined(&mut root, service, uid).unwrap();
    }
    let prompt = status
        .services
        .iter()
        .find(|s| s.name == "console-ttyS0")
        .unwrap()
        .pid
        .unwrap();
    let owner = root
        .run(&format!("grep '^[UN][io]' /proc/{prompt}/status"), COMMAND)
        .unwrap();
    assert!(
        owner.contains("Uid:\t703\t703\t703\t703") && owner.contains("NoNewPrivs:\t1"),
        "{owner}"
    );
    let write = "(echo x >>/data/models/primary.gguf) 2>/dev/null && echo written || echo refused";
    assert_eq!(
        root.run(write, COMMAND).unwrap().trim(),
        "refused",
        "fs-verity let root write"
    );

    locks_again(&mut first, &mut root).unwrap();

    let admin = Admin::new().unwrap();
    comes_in(&mut first, &mut root, &admin).unwrap();

    // An engine that dies comes back; nobody is left uncollected.
    let before = first.service("engine-primary").unwrap();
    root.run(&format!("kill -9 {}", before.pid.unwrap()), COMMAND)
        .unwrap();
    let after = first
        .wait_status("the primary to come back", |s| {
            s.services.iter().any(|s| {
                s.name == "engine-primary"
                    && s.restarts == 1
                    && s.state == sarai_wire::control::ServiceState::Ready
            })
        })
        .unwrap();
    assert!(after.ready);
    assert_eq!(ask_until_answered(&client).unwrap()["fallback"], false);
    let zombies = root
        .run(
            "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; true",
            COMMAND,
        )
        .unwrap();
    assert_eq!(zombies, "");

    // The power button.
    first.vm.power_button().unwrap();
    first.vm.wait_for_power_off(OFF).unwrap();
    drop(first);
    unmounted(&disk).unwrap();
    // The whole boot is on the disk, also what was said before the disk was mounted.
    let log = file_on_disk(&disk, "/log/sarai.log").unwrap();
    assert!(
        log.lines()
            .next()
            .is_some_and(|line| line.contains(" supervisor SARAi ")),
        "{log}"
    );
    in_order(
        &log,
        &[
            "mounts: ",
            "cgroups: budget ",
            "data: /dev/vda mounted",
            "folders: there",
            "clock: ",
            "gateway: ready",
            "power button pressed",
            "gateway: stopped",
            "engine-primary: stopped",
            "services ended",
        ],
    )
    .unwrap();
    assert!(!log.contains("were lost"), "{log}");

    // The second boot, with the image as it is: the client from before is known, nothing is made anew.
    let mut second = Booted::new(&image.machine(Some(disk.clone()))).unwrap();
    assert!(
        second.console.contains(&shown),
        "another authority:\n{}",
        second.console
    );
    let client = second.client_with(&ca, &secret).unwrap();
    ask_until_primary(&client).unwrap();
    // Who could come in still can, to the same machine.
    sarai_tests::tree::wait_for("an answer over SSH", COMMAND, || {
        let output = admin.run(second.vm.ssh, "admin", &[], "version")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    })
    .unwrap();
    let human = second.sarai("status").unwrap();
    assert!(
        human.contains("fs-verity") && human.contains("primary"),
        "{human}"
    );
    assert!(
        second
            .sarai("no-such-command")
            .unwrap()
            .contains("no-such-command")
    );
    // The emulator ends where the machine would start anew, and says that it was told to.
    let events = second.vm.events().unwrap();
    second.vm.type_line("reboot").unwrap();
    let event = events.wait_for("SHUTDOWN", OFF).unwrap();
    assert_eq!(event["reason"], "guest-reset", "{event}");
    second.vm.wait_for_power_off(OFF).unwrap();
    drop(second);
    unmounted(&disk).unwrap();
    let log = file_on_disk(&disk, "/log/sarai.log").unwrap();
    in_order(
        &log,
        &[
            "shutting down",
            " supervisor SARAi ",
            "restarting",
            "services ended",
        ],
    )
    .unwrap();

    // The third, after somebody had the disk in hand: what they changed is not used, the rest serves.
    change_on_disk(&disk, &models[0]).unwrap();
    let mut third = Booted::new(&image.machine(Some(disk))).unwrap();
    let client = third.client_with(&ca, &secret).unwrap();
    let omni = ask_until_answered(&client).unwrap();
    assert_eq!(
        (&omni["fallback"], &omni["model"]),
        (&json!(true), &json!(models[1].id)),
        "{omni}"
    );
    let status = third
        .wait_status("somebody to say so", |s| {
            s.problems.iter().any(|p| p.contains("engine-primary"))
        })
        .unwrap();
    println!("changed on the disk: {:?}", status.problems);
    println!("{}", third.sarai("logs -n 40").unwrap());
}

#[test]
fn the_real_model_answers_the_openai_package_and_curl() {
    let python = tree::python().unwrap();
    let _alone = tree::alone();
    let [primary, _] = model::real().unwrap();
    let image = Image::make(&[primary], &patient(), |_| Ok(())).unwrap();
    let mut machine = Booted::new(&image.machine(Some(image.disk()))).unwrap();
    machine
        .wait_status("the real model to be loaded", |s| s.ready)
        .unwrap();
    let (_, ca, key) = machine.client("vm").unwrap();
    let ca_file = image.path("ca.crt");
    fs::write(&ca_file, ca).unwrap();
    let url = format!("https://127.0.0.1:{}", machine.vm.port);

    // One whole answer with its usage and its `omni_loop`, the models, and errors as exceptions.
    let said = output_of(
        Command::new(python)
            .arg(tree::root().join("tests/clients/openai_client.py"))
            .args([
                "check_answer",
                "check_models",
                "check_wrong_key",
                "check_wrong_path_and_model",
            ])
            .env("SARAI_URL", &url)
            .env("SARAI_CA", &ca_file)
            .env("SARAI_KEY", &key)
            .env("SARAI_TEST_PATIENCE", REQUEST.as_secs().to_string()),
    )
    .unwrap();
    println!("{said}");
    assert_eq!(said.matches("ok     check_").count(), 4, "{said}");

    let body = r#"{"model": "sarai", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2,
                   "reasoning_effort": "none", "stream": true}"#;
    let stream = output_of(
        Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--fail-with-body",
                "--no-buffer",
                "--cacert",
            ])
            .arg(&ca_file)
            .args(["--max-time", &REQUEST.as_secs().to_string()])
            .args([
                "-H",
                &format!("Authorization: Bearer {key}"),
                "-H",
                "Content-Type: application/json",
            ])
            .args(["-d", body])
            .arg(format!("{url}/v1/chat/completions")),
    )
    .unwrap();
    // A machine this slow says that it is still there before it has a first token: a comment, as in any event stream.
    let events: Vec<&str> = stream
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with(':'))
        .collect();
    assert!(
        events.len() > 2
            && events.iter().all(|line| line.starts_with("data: "))
            && events.last() == Some(&"data: [DONE]"),
        "{stream}"
    );
}
