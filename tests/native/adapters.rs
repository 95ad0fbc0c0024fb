//! LoRA adapters in the real appliance: put to use and taken back while clients are served, refused when they are not
//! what was signed, and brought back by every engine that starts.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::gguf::Tiny;
use sarai_tests::lora::{Lora, LoraFlaw};
use sarai_tests::model::{Artifact, attest};
use sarai_tests::publisher::Publisher;
use sarai_tests::{process, tree};
use sarai_wire::adapter::{AdapterStatus, Standing};
use sarai_wire::control::ServiceState;
use serde_json::{Value, json};

use crate::common::{omni_loop, pair};

/// As `model::tiny` makes them.
pub fn base() -> Tiny {
    Tiny {
        layers: 12,
        ..Tiny::default()
    }
}

/// Puts an adapter into the store, for `of`, signed by `publisher`.
pub fn install(a: &Appliance, name: &str, lora: &Lora, of: &Artifact, publisher: &Publisher) -> Result<()> {
    let folder = a.path("data/adapters");
    fs::create_dir_all(&folder)?;
    let to = folder.join(format!("{name}.gguf"));
    fs::write(&to, lora.bytes())?;
    attest(&[
        "create",
        &to.to_string_lossy(),
        "--kind",
        "adapter",
        "--id",
        name,
        "--version",
        &format!("{name}.0"),
        "--sequence",
        "1",
        "--base",
        &digest(&of.source)?,
    ])?;
    publisher.sign(&to.with_extension("toml")).map(|_| ())
}

fn digest(path: &Path) -> Result<String> {
    let digests: Value = serde_json::from_str(&attest(&["digest", "--json", &path.to_string_lossy()])?)?;
    Ok(digests["sha256"].as_str().context("a digest")?.to_owned())
}

pub fn started(names: &[&str]) -> Result<Appliance> {
    let artifacts = pair()?;
    let a = Appliance::start_with(&artifacts, "")?;
    for (name, seed) in names.iter().zip(1..) {
        let lora = Lora {
            strength: 2.0,
            ..Lora::tiny(&base(), seed)
        };
        install(&a, name, &lora, &artifacts[0], &a.publisher)?;
    }
    Ok(a)
}

fn list(a: &Appliance) -> Result<Vec<AdapterStatus>> {
    Ok(serde_json::from_str(
        &a.sarai_ok(&["adapters", "list", "--json"])?,
    )?)
}

fn standing(a: &Appliance, name: &str) -> Result<(Standing, Option<String>)> {
    let found = list(a)?.into_iter().find(|adapter| adapter.name == name);
    let found = found.with_context(|| format!("no adapter {name}"))?;
    Ok((found.standing, found.note))
}

/// Version of the adapter that status shows for an engine.
fn shown(a: &Appliance, role: &str) -> Result<Option<String>> {
    let models = a.status()?.models;
    let model = models
        .into_iter()
        .find(|model| model.role == role)
        .context("a model")?;
    Ok(model.adapter.map(|adapter| adapter.version))
}

pub fn question() -> Value {
    json!({
        "model": "sarai",
        "messages": [{"role": "user", "content": "hello there"}],
        "max_tokens": 24,
        "temperature": 0,
        "reasoning_effort": "none",
    })
}

/// What is said, and the version of the adapter that said it.
pub fn said(answer: &Value) -> Result<(String, Option<String>)> {
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .context("a text")?;
    let adapter = &omni_loop(answer)?["adapter"];
    Ok((text.to_owned(), adapter["version"].as_str().map(str::to_owned)))
}

#[test]
fn an_adapter_is_put_to_use_shown_brought_back_after_every_end_and_taken_back() {
    let _alone = tree::alone();
    let mut a = started(&["one", "two"]).unwrap();
    let client = a.keyed().unwrap();
    let ask = || said(&client.chat(&question())?.ok()?);
    let plain = ask().unwrap();
    assert_eq!((plain.1.as_deref(), shown(&a, "primary").unwrap()), (None, None));
    let text = a.sarai_ok(&["adapters", "use", "one"]).unwrap();
    assert!(text.contains("one is in use now in engine-primary ("), "{text}");
    let one = ask().unwrap();
    assert_eq!(one.1.as_deref(), Some("one.0"));
    assert_ne!(one.0, plain.0);
    a.sarai_ok(&["adapters", "use", "two"]).unwrap();
    let two = ask().unwrap();
    assert!(two.0 != one.0 && two.1.as_deref() == Some("two.0"));
    assert_eq!(shown(&a, "primary").unwrap().as_deref(), Some("two.0"));
    // The fallback's model is another one.
    assert_eq!(shown(&a, "fallback").unwrap(), None);
    assert!(
        a.sarai_ok(&["status"])
            .unwrap()
            .contains("primary with the adapter")
    );
    assert_eq!(standing(&a, "one").unwrap().0, Standing::Previous);
    assert_eq!(standing(&a, "two").unwrap().0, Standing::InUse);
    // An engine that is killed, and a supervisor that is, come back with it.
    process::signal(a.service_pid("engine-primary").unwrap(), Signal::SIGKILL).unwrap();
    tree::wait_for("the adapter to be back", READY, || {
        ensure!(shown(&a, "primary")?.as_deref() == Some("two.0"), "not yet");
        Ok(())
    })
    .unwrap();
    a.kill().unwrap();
    a.start().unwrap();
    a.wait_status("the adapter to be back", READY, |status| {
        let ready = status.services.iter().all(|s| s.state == ServiceState::Ready);
        ready && status.models.iter().any(|m| m.adapter.is_some())
    })
    .unwrap();
    let again = a.keyed().unwrap().chat(&question()).unwrap().ok().unwrap();
    assert_eq!(said(&again).unwrap(), two);
    // Back, once; and to none.
    let text = a.sarai_ok(&["adapters", "rollback"]).unwrap();
    assert!(text.starts_with("one is in use now in engine-primary"), "{text}");
    let client = a.keyed().unwrap();
    assert_eq!(
        said(&client.chat(&question()).unwrap().ok().unwrap()).unwrap(),
        one
    );
    let nothing = a.sarai(&["adapters", "rollback"]).unwrap();
    assert!(!nothing.status.success());
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("nothing was in use before"));
    a.sarai_ok(&["adapters", "none"]).unwrap();
    assert_eq!(
        said(&client.chat(&question()).unwrap().ok().unwrap()).unwrap(),
        plain
    );
    a.sarai_ok(&["adapters", "rollback"]).unwrap();
    assert_eq!(shown(&a, "primary").unwrap().as_deref(), Some("one.0"));
}

#[test]
fn adapters_change_under_eight_clients_and_not_one_request_fails() {
    let _alone = tree::alone();
    let mut a = started(&["one", "two"]).unwrap();
    let client = a.keyed().unwrap();
    // What each is answered by whom, alone.
    let mut alone = Vec::new();
    for (arguments, version) in [
        (&["adapters", "none"][..], None),
        (&["adapters", "use", "one"], Some("one.0")),
        (&["adapters", "use", "two"], Some("two.0")),
    ] {
        a.sarai_ok(arguments).unwrap();
        let (_, by) = said(&client.chat(&question()).unwrap().ok().unwrap()).unwrap();
        assert_eq!(by.as_deref(), version);
        alone.push(by);
    }
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (client, stop, answered) = (client.clone(), &stop, &answered);
                scope.spawn(move || -> Result<Vec<Option<String>>> {
                    let mut seen = Vec::new();
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.chat(&question())?.ok()?;
                        ensure!(omni_loop(&answer)?["fallback"] == false, "{answer}");
                        seen.push(said(&answer)?.1);
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(seen)
                })
            })
            .collect();
        for round in 0..12 {
            // Each change in the middle of the traffic.
            let before = answered.load(Ordering::Relaxed);
            tree::wait_for("answers between two changes", READY, || {
                ensure!(answered.load(Ordering::Relaxed) >= before + 16, "too few");
                Ok(())
            })
            .unwrap();
            let change: &[&str] = match round % 4 {
                0 => &["adapters", "use", "one"],
                1 => &["adapters", "use", "two"],
                2 => &["adapters", "rollback"],
                _ => &["adapters", "none"],
            };
            let text = a.sarai_ok(change).unwrap();
            println!("{}", text.trim());
        }
        stop.store(true, Ordering::Relaxed);
        let seen = clients.into_iter().map(|client| client.join().unwrap().unwrap());
        seen.flatten().collect::<Vec<_>>()
    });
    println!("{} answers", seen.len());
    for by in alone {
        assert!(seen.contains(&by), "{by:?} answered nobody");
    }
    assert!(a.status().unwrap().services.iter().all(|s| s.restarts == 0));
}

#[test]
fn what_is_not_an_adapter_of_this_machine_is_refused_by_name_and_nothing_changes() {
    let _alone = tree::alone();
    let artifacts = pair().unwrap();
    let mut a = started(&["good"]).unwrap();
    a.sarai_ok(&["adapters", "use", "good"]).unwrap();
    let lora = Lora::tiny(&base(), 5);
    let store = a.path("data/adapters");
    let make = |name: &str| install(&a, name, &lora, &artifacts[0], &a.publisher).unwrap();
    for name in ["unsigned", "edited", "flipped", "cut"] {
        make(name);
    }
    fs::remove_file(store.join("unsigned.toml.asc")).unwrap();
    let text = fs::read_to_string(store.join("edited.toml")).unwrap();
    fs::write(
        store.join("edited.toml"),
        text.replace("sequence = 1", "sequence = 2"),
    )
    .unwrap();
    let mut bytes = fs::read(store.join("flipped.gguf")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // A file under fs-verity cannot be written, only replaced.
    fs::remove_file(store.join("flipped.gguf")).unwrap();
    fs::write(store.join("flipped.gguf"), &bytes).unwrap();
    fs::remove_file(store.join("cut.gguf")).unwrap();
    fs::write(store.join("cut.gguf"), &bytes[..middle]).unwrap();
    let stranger = Publisher::new("release").unwrap();
    install(&a, "stranger", &lora, &artifacts[0], &stranger).unwrap();
    let unknown = store.join("other.bin");
    fs::write(&unknown, "some other model").unwrap();
    let other = Artifact::new("primary", "other", &unknown, 2048).unwrap();
    install(&a, "other-base", &lora, &other, &a.publisher).unwrap();
    // Signed, bound to the base, and still no adapter of it.
    let wrong = Lora {
        flaw: Some(LoraFlaw::OtherShape),
        ..lora.clone()
    };
    install(&a, "other-shape", &wrong, &artifacts[0], &a.publisher).unwrap();
    for (name, why) in [
        ("unsigned", "no-signature"),
        ("edited", "bad-signature"),
        ("flipped", "wrong-digest"),
        ("cut", "wrong-size"),
        ("stranger", "unknown-signer"),
        ("other-base", "wrong-base"),
        ("other-shape", "incorrect shape"),
        ("none", "missing-file"),
        ("../models/primary", "no name"),
    ] {
        let output = a.sarai(&["adapters", "use", name]).unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("{}", error.trim());
        assert!(!output.status.success() && error.contains(why), "{name}: {error}");
        assert_eq!(shown(&a, "primary").unwrap().as_deref(), Some("good.0"), "{name}");
    }
    for (name, why) in [("unsigned", "no-signature"), ("stranger", "unknown-signer")] {
        let (standing, note) = standing(&a, name).unwrap();
        assert_eq!(standing, Standing::Refused);
        assert!(note.unwrap().starts_with(why));
    }
    assert_eq!(standing(&a, "good").unwrap().0, Standing::InUse);
    let client = a.keyed().unwrap();
    let answer = client.chat(&question()).unwrap().ok().unwrap();
    assert_eq!(said(&answer).unwrap().1.as_deref(), Some("good.0"));
}

#[test]
fn an_engine_starts_without_an_adapter_that_was_damaged_or_removed_and_says_so() {
    let _alone = tree::alone();
    let mut a = started(&["one"]).unwrap();
    a.sarai_ok(&["adapters", "use", "one"]).unwrap();
    let client = a.keyed().unwrap();
    let file = a.path("data/adapters/one.gguf");
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for (damage, why) in [(Some(&flipped), "wrong-digest"), (None, "missing-file")] {
        fs::remove_file(&file).unwrap();
        if let Some(bytes) = damage {
            fs::write(&file, bytes).unwrap();
        }
        a.sarai_ok(&["restart", "engine-primary"]).unwrap();
        a.wait_status("the engine to serve without it, and to say so", READY, |status| {
            let ready = status.services.iter().all(|s| s.state == ServiceState::Ready);
            ready
                && status
                    .problems
                    .iter()
                    .any(|p| p.contains("goes on without its adapter") && p.contains(why))
        })
        .unwrap();
        let answer = client.chat(&question()).unwrap().ok().unwrap();
        assert_eq!(said(&answer).unwrap().1, None);
        if damage.is_none() {
            fs::write(&file, &bytes).unwrap();
        }
    }
    // Whole again, it is taken at the next start, and the problem is gone.
    a.sarai_ok(&["restart", "engine-primary"]).unwrap();
    a.wait_status("the adapter to be back", READY, |status| {
        let clean = !status.problems.iter().any(|p| p.contains("without its adapter"));
        clean && status.models.iter().any(|m| m.adapter.is_some())
    })
    .unwrap();
}

#[test]
fn an_adapter_is_taken_along_with_its_attestation() {
    let _alone = tree::alone();
    let a = started(&["one"]).unwrap();
    let output = a.sarai(&["adapters", "export", "one"]).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("one.tar");
    fs::write(&archive, output.stdout).unwrap();
    let status = std::process::Command::new("tar")
        .args(["-xf", "one.tar"])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    for ending in ["gguf", "toml", "toml.asc"] {
        let name = format!("one.{ending}");
        let taken = fs::read(folder.path().join(&name)).unwrap();
        assert!(
            taken == fs::read(a.path("data/adapters").join(&name)).unwrap(),
            "{name}"
        );
    }
    // What the machine believes, another with the same keyring does.
    attest(&[
        "verify",
        &folder.path().join("one.gguf").to_string_lossy(),
        "--keyring",
        &a.path("etc/keyring").to_string_lossy(),
    ])
    .unwrap();
    tree::wait_for("nothing to be left open", Duration::from_secs(5), || {
        ensure!(
            a.sarai(&["adapters", "export", "none"])?.status.code() == Some(1),
            "found"
        );
        Ok(())
    })
    .unwrap();
}
