//! The sandbox with nothing left out: an engine that was broken into, and a page of a model that went bad below the
//! file system while it is mapped.

use std::time::Duration;

use sarai_tests::client::Client;
use sarai_tests::image::Image;
use sarai_tests::tree;
use sarai_wire::control::{ServiceState, Status};
use serde_json::{Value, json};

use crate::common::{BOOT, Booted, COMMAND, SETTINGS, ask_until_answered, change_on_disk, pair};

/// Orders the primary to attack; the fallback answers in its place.
fn attack(client: &Client, order: &str) -> Value {
    tree::wait_for("the fallback's answer", BOOT, || {
        let answer = client.chat(&json!({
            "model": "sarai",
            "messages": [{"role": "user", "content": format!("attack {order}")}],
            "max_tokens": 2,
            "reasoning_effort": "none",
        }))?;
        let answer = answer.ok()?;
        anyhow::ensure!(answer["omni_loop"]["fallback"] == true, "{order}: {answer}");
        Ok(answer)
    })
    .unwrap()
}

fn refused(status: &Status, role: &str) -> Option<String> {
    let model = status.models.iter().find(|m| m.role == role)?;
    model.refused.clone()
}

fn state_of(status: &Status, name: &str) -> Option<ServiceState> {
    status.services.iter().find(|s| s.name == name).map(|s| s.state)
}

#[test]
fn a_broken_engine_reaches_nothing_and_a_page_that_went_bad_is_quarantined() {
    let _alone = tree::alone();
    let models = pair().unwrap();
    let image = Image::make(&models, SETTINGS, |_| Ok(())).unwrap();
    let disk = image.disk();
    let machine = image.machine_with_attacker(Some(disk.clone())).unwrap();
    let mut booted = Booted::new(&machine).unwrap();
    let (client, _, _) = booted.client("vm").unwrap();
    let both = |s: &Status| {
        ["engine-primary", "engine-fallback"]
            .iter()
            .all(|name| state_of(s, name) == Some(ServiceState::Ready))
    };
    booted.wait_status("both engines", both).unwrap();

    // As root of the machine's own, without the engine's second list: there is nothing to be opened.
    for name in ["open-keys", "open-models"] {
        attack(&client, &format!("{name} unsealed"));
        let log = booted.sarai("logs engine-primary -n 20").unwrap();
        assert!(log.contains(&format!("survived {name}: No such file")), "{log}");
    }
    // With it, each of these ends it, by name, though the kernel's log takes none of its records any more. The third
    // is one too many.
    let mut root = booted.vm.root_shell(COMMAND).unwrap();
    root.run("echo 0 >/proc/sys/kernel/printk_ratelimit_burst", COMMAND)
        .unwrap();
    for (n, (name, call)) in [
        ("kill-1", "kill"),
        ("mount", "mount"),
        ("open_by_handle_at", "open_by_handle_at"),
    ]
    .into_iter()
    .enumerate()
    {
        if n > 0 {
            booted.sarai("restart engine-primary").unwrap();
            booted.wait_status("both engines", both).unwrap();
        }
        attack(&client, name);
        let wanted = format!("denied system call: {call}");
        booted
            .wait_status("the attacker's end", |s| {
                s.services
                    .iter()
                    .any(|s| s.name == "engine-primary" && s.last_exit.as_ref() == Some(&wanted))
            })
            .unwrap();
    }
    let status = booted
        .wait_status("the quarantine", |s| refused(s, "primary").is_some())
        .unwrap();
    let why = refused(&status, "primary").unwrap();
    assert!(
        why.starts_with("quarantined: ") && why.contains("open_by_handle_at"),
        "{why}"
    );
    assert!(status.ready, "{status:#?}");
    let omni = ask_until_answered(&client).unwrap();
    assert_eq!(omni["model"], models[1].id.as_str(), "{omni}");
    assert!(!booted.sarai("logs -n 200").unwrap().contains("SUCCEEDED"));

    // A bit of the other model changes on the disk while it is mapped. Once its pages were given back, the engine
    // reads it again; fs-verity refuses the page, and the engine ends on it.
    change_on_disk(&disk, &models[1]).unwrap();
    let give_back = "for f in $(busybox find /sys/fs/cgroup -name memory.min); do echo 0 >$f; done; \
                     for n in 1 2 3; do for f in $(busybox find /sys/fs/cgroup -name memory.reclaim); do \
                     (echo 400M >$f) 2>/dev/null; done; done; echo 3 >/proc/sys/vm/drop_caches; true";
    let before = status
        .services
        .iter()
        .find(|s| s.name == "engine-fallback")
        .unwrap()
        .restarts;
    let end = std::time::Instant::now() + BOOT;
    let status = loop {
        root.run(give_back, 4 * COMMAND).unwrap();
        // With nobody left to answer, an error is an answer.
        let _ = client.within(Duration::from_secs(60)).unwrap().chat(&json!({
            "model": "sarai",
            "messages": [{"role": "user", "content": "hello there"}],
            "max_tokens": 3,
            "reasoning_effort": "none",
        }));
        let status = booted.status().unwrap();
        if refused(&status, "fallback").is_some() {
            break status;
        }
        assert!(
            std::time::Instant::now() < end,
            "the page was never read again: {status:#?}"
        );
    };
    let fallback = status
        .services
        .iter()
        .find(|s| s.name == "engine-fallback")
        .unwrap();
    assert_eq!(
        fallback.last_exit.as_deref(),
        Some("signal SIGBUS"),
        "{fallback:?}"
    );
    assert_eq!(
        (fallback.state, fallback.restarts),
        (ServiceState::Stopped, before)
    );
    let why = refused(&status, "fallback").unwrap();
    assert!(
        why.starts_with("quarantined: ") && why.contains("sarai models release"),
        "{why}"
    );
    // Released, it is loaded once more. Its content is known to fs-verity, so that nobody hashes it again, and the
    // engine, which reads it before it maps it, meets the page.
    let digest = status.models.iter().find(|m| m.role == "fallback").unwrap();
    let digest = digest.digest.clone().unwrap();
    booted
        .sarai(&format!("models release {}", &digest[..12]))
        .unwrap();
    let loading = "failed to load the model: reading it failed at byte ";
    let status = booted
        .wait_status("the quarantine of what cannot be loaded", |s| {
            let service = s.services.iter().find(|s| s.name == "engine-fallback");
            refused(s, "fallback").is_some_and(|why| why.starts_with("quarantined: "))
                && service.is_some_and(|s| s.last_exit.as_deref().is_some_and(|e| e.starts_with(loading)))
        })
        .unwrap();
    assert_eq!(state_of(&status, "engine-fallback"), Some(ServiceState::Stopped));
    // Both are gone, and a client is told.
    let refused = crate::common::ask(&client).unwrap_err().to_string();
    assert!(
        refused.contains("status 503") || refused.contains("status 502"),
        "{refused}"
    );
}
