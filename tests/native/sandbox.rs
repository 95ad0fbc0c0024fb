//! An engine that was broken into: whatever it tries is denied, ends it, is said by name, and costs nobody else
//! anything.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::client::Client;
use sarai_tests::{process, tree};
use sarai_wire::control::ServiceState;
use serde_json::json;

use crate::common::{PATIENCE, fallback_reason, pair, primary_answers};

/// Attacks, and the system call by which each is known.
const ATTACKS: [(&str, &str); 33] = [
    ("open-passwd", "openat"),
    ("open-keys", "openat"),
    ("open-models", "openat"),
    ("open-memory-of-1", "openat"),
    ("open-cgroup", "openat"),
    ("open-tmp", "openat"),
    ("socket-inet", "socket"),
    ("socket-unix", "socket"),
    ("connect", "connect"),
    ("bind", "bind"),
    ("ptrace", "ptrace"),
    ("fork", "clone"),
    ("execve", "execve"),
    ("map-writable-executable", "mmap"),
    ("map-executable", "mmap"),
    ("protect-executable", "mprotect"),
    ("kill-1", "kill"),
    ("kill-all", "kill"),
    ("mount", "mount"),
    ("unshare", "unshare"),
    ("setns", "setns"),
    ("chroot", "chroot"),
    ("io_uring", "io_uring_setup"),
    ("bpf", "bpf"),
    ("userfaultfd", "userfaultfd"),
    ("keyctl", "keyctl"),
    ("process_vm_readv", "process_vm_readv"),
    ("open_by_handle_at", "open_by_handle_at"),
    ("memfd", "memfd_create"),
    ("perf", "perf_event_open"),
    ("seccomp", "seccomp"),
    ("dumpable", "prctl"),
    ("terminal", "ioctl"),
];

/// Whether the kernel's log, which names denied calls, can be read by who runs this test.
fn log_is_readable() -> bool {
    std::fs::File::open("/dev/kmsg").is_ok()
}

/// An appliance whose primary engine attacks.
fn attacked() -> Result<Appliance> {
    let mut a = Appliance::prepare(&pair()?, "")?;
    a.replace_engine()?;
    a.start()?;
    a.wait_ready(READY)?;
    a.wait_status("both engines", READY, |s| {
        s.services.iter().all(|s| s.state == ServiceState::Ready)
    })?;
    Ok(a)
}

/// Asks the primary to attack; the fallback must answer in its place.
fn attack(client: &Client, order: &str) -> Result<()> {
    let answer = client.within(PATIENCE)?.chat(&json!({
        "model": "sarai",
        "messages": [{"role": "user", "content": format!("attack {order}")}],
        "max_tokens": 2,
        "reasoning_effort": "none",
    }))?;
    let answer = answer.ok()?;
    ensure!(
        fallback_reason(&answer)?.is_some(),
        "{order}: the primary answered: {answer}"
    );
    Ok(())
}

/// Back to a primary that serves, whatever became of its model.
fn recover(a: &Appliance) -> Result<()> {
    tree::wait_for("the primary to be back", READY, || {
        let status = a.status()?;
        let service = status.services.iter().find(|s| s.name == "engine-primary");
        // One that has just ended may still be called ready, and has no process any more.
        let state = service
            .filter(|s| s.pid.is_some() || s.state != ServiceState::Ready)
            .map(|s| s.state);
        let model = status.models.iter().find(|m| m.role == "primary");
        let refused = model.filter(|m| m.refused.is_some());
        match (state, refused.and_then(|m| m.digest.as_ref())) {
            (Some(ServiceState::Ready), None) => return Ok(()),
            (Some(ServiceState::Stopped), Some(digest)) => {
                a.sarai_ok(&["models", "release", &digest[..12]])?
            }
            (Some(ServiceState::Backoff | ServiceState::CrashLoop), None) => {
                a.sarai_ok(&["restart", "engine-primary"])?
            }
            _ => String::new(),
        };
        bail!("it is {state:?}")
    })
}

#[test]
fn whatever_a_broken_engine_tries_ends_it_by_name_and_the_rest_serves() {
    let _shared = tree::shared();
    let mut a = attacked().unwrap();
    let client = a.keyed().unwrap();
    let others = [
        a.service_pid("gateway").unwrap(),
        a.service_pid("engine-fallback").unwrap(),
        a.pid().unwrap(),
    ];
    for (name, call) in ATTACKS {
        // The kernel writes ten such records in five seconds to its log, and no more.
        std::thread::sleep(Duration::from_millis(600));
        let before = a.service("engine-primary").unwrap();
        attack(&client, name).unwrap();
        let wanted = format!("denied system call: {call}");
        let status = a
            .wait_status("the attacker's end", Duration::from_secs(10), |s| {
                s.services.iter().any(|s| {
                    s.name == "engine-primary"
                        && (s.restarts > before.restarts || s.pid.is_none())
                        && s.last_exit.as_deref().is_some_and(|e| {
                            if log_is_readable() {
                                e == wanted
                            } else {
                                e.starts_with("denied system call: ")
                            }
                        })
                })
            })
            .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        assert!(
            status
                .problems
                .iter()
                .any(|p| p.contains("engine-primary tried what it may not")),
            "{name}: {:?}",
            status.problems
        );
        recover(&a).unwrap_or_else(|e| panic!("after {name}: {e:#}"));
    }
    assert!(!a.log().contains("SUCCEEDED"), "{}", a.log());
    // Nobody else was touched.
    let now = [
        a.service_pid("gateway").unwrap(),
        a.service_pid("engine-fallback").unwrap(),
        a.pid().unwrap(),
    ];
    assert_eq!(now, others);
    assert_eq!(a.zombies().unwrap(), []);
}

#[test]
fn what_is_put_up_before_exec_holds_without_the_engines_own_seal() {
    let _shared = tree::shared();
    let mut a = attacked().unwrap();
    let client = a.keyed().unwrap();
    // Libraries may be opened to be read then; nothing else is there to be opened.
    for name in ["open-passwd", "open-keys", "open-models"] {
        attack(&client, &format!("{name} unsealed")).unwrap();
        tree::wait_for("the outcome", Duration::from_secs(5), || {
            let log = a.log();
            let line = log.lines().find(|l| l.contains(&format!("survived {name}: ")));
            let line = line.ok_or_else(|| anyhow::anyhow!("{name} is not in the log"))?;
            ensure!(
                line.contains("No such file") || line.contains("Permission denied"),
                "{line}"
            );
            Ok(())
        })
        .unwrap();
    }
    for (name, call) in [
        ("open-memory-of-1", "openat"),
        ("socket-inet", "socket"),
        ("map-writable-executable", "mmap"),
        ("fork", "clone"),
    ] {
        std::thread::sleep(Duration::from_millis(600));
        attack(&client, &format!("{name} unsealed")).unwrap();
        a.wait_status("the attacker's end", Duration::from_secs(10), |s| {
            let exit = s
                .services
                .iter()
                .find(|s| s.name == "engine-primary")
                .and_then(|s| s.last_exit.clone());
            exit.is_some_and(|e| {
                e.starts_with("denied system call: ") && (!log_is_readable() || e.ends_with(call))
            })
        })
        .unwrap_or_else(|e| panic!("{name}: {e:#}"));
        recover(&a).unwrap();
    }
    assert!(!a.log().contains("SUCCEEDED"), "{}", a.log());
}

#[test]
fn a_model_that_its_engine_cannot_read_is_quarantined_at_once() {
    let _shared = tree::shared();
    let mut a = attacked().unwrap();
    let client = a.keyed().unwrap();
    attack(&client, "unreadable unsealed").unwrap();
    let status = a
        .wait_status("the quarantine", READY, |s| {
            s.models
                .iter()
                .any(|m| m.role == "primary" && m.refused.is_some())
        })
        .unwrap();
    let refused = status.models.iter().find(|m| m.role == "primary").unwrap();
    let why = refused.refused.as_deref().unwrap();
    assert!(
        why.starts_with("quarantined: bytes of its file cannot be read") && why.contains("models release"),
        "{why}"
    );
    let service = a.service("engine-primary").unwrap();
    assert_eq!(
        service.last_exit.as_deref(),
        Some("failed to load the model: reading it failed")
    );
    crate::common::fallback_answers(&client).unwrap();
    recover(&a).unwrap();
}

#[test]
fn a_model_whose_engine_is_ended_three_times_is_quarantined_until_an_admin_lifts_it() {
    let _shared = tree::shared();
    let mut a = attacked().unwrap();
    let client = a.keyed().unwrap();
    for n in 0..3 {
        if n > 0 {
            recover(&a).unwrap();
        }
        attack(&client, "socket-inet").unwrap();
    }
    let quarantined = |a: &Appliance| {
        a.wait_status("the quarantine", READY, |s| {
            s.models.iter().any(|m| {
                m.role == "primary"
                    && m.refused
                        .as_deref()
                        .is_some_and(|r| r.starts_with("quarantined: "))
            }) && s
                .services
                .iter()
                .any(|s| s.name == "engine-primary" && s.state == ServiceState::Stopped)
        })
    };
    let status = quarantined(&a).unwrap();
    assert!(status.ready, "{status:#?}");
    let model = status.models.iter().find(|m| m.role == "primary").unwrap();
    let digest = model.digest.clone().unwrap();
    let refused = model.refused.clone().unwrap();
    assert!(
        refused.contains(&format!("sarai models release {}", &digest[..12])),
        "{refused}"
    );
    crate::common::fallback_answers(&client).unwrap();

    // A restart of everything does not forget it.
    a.stop(READY).unwrap();
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    quarantined(&a).unwrap();

    let wrong = a.sarai(&["models", "release", "0123"]).unwrap();
    assert!(!wrong.status.success());
    assert!(
        String::from_utf8_lossy(&wrong.stderr).contains("at least 8"),
        "{wrong:?}"
    );
    // With the real engine back, what is released serves.
    std::fs::rename(a.path("bin/sarai-engine-real"), a.path("bin/sarai-engine")).unwrap();
    a.sarai_ok(&["models", "release", &digest[..12]]).unwrap();
    tree::wait_for("the primary to answer", READY, || primary_answers(&client)).unwrap();
}

#[test]
fn status_shows_what_each_service_is_confined_by() {
    let _shared = tree::shared();
    let a = Appliance::start_with(&pair().unwrap(), "").unwrap();
    for service in a.status().unwrap().services {
        let pid = service.pid.unwrap();
        let in_force = |name: &str| service.sandbox.iter().any(|d| d.duty == name && d.in_force);
        let named = |name: &str| service.sandbox.iter().any(|d| d.duty == name);
        for duty in ["user", "capabilities", "namespaces", "root", "landlock"] {
            assert!(named(duty), "{}: {:?}", service.name, service.sandbox);
        }
        for duty in ["no_new_privs", "seccomp", "limits", "descriptors"] {
            assert!(in_force(duty), "{}: {:?}", service.name, service.sandbox);
        }
        // What it says is so.
        assert_eq!(process::status_field(pid, "Seccomp").unwrap(), "2");
        let own = |kind: &str| {
            let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            of(pid) != of(a.pid().unwrap())
        };
        for kind in ["mnt", "pid", "ipc", "uts", "net"] {
            assert_eq!(own(kind), in_force("namespaces"), "{} {kind}", service.name);
        }
        if in_force("root") {
            let root = format!("/proc/{pid}/root");
            for hidden in ["etc/passwd", "data/keys", "home", "root", "sys"] {
                assert!(
                    !std::path::Path::new(&root).join(hidden).exists(),
                    "{}: {hidden}",
                    service.name
                );
            }
        }
    }
    let human = String::from_utf8(a.sarai(&["status"]).unwrap().stdout).unwrap();
    assert!(
        human.contains("sandbox of ") && human.contains("seccomp"),
        "{human}"
    );
}
