//! What is not attested is never loaded, the status says why, and the fallback answers meanwhile.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sarai_tests::appliance::{Appliance, READY};
use sarai_tests::model::Artifact;
use sarai_tests::process;
use sarai_tests::publisher::Publisher;
use sarai_tests::tree;
use sarai_wire::control::{ServiceState, Status};

use crate::common::{fallback_answers, pair, primary_answers};

/// What is done to the primary's files, and the name of the error that must follow.
struct Fault {
    name: &'static str,
    refused: &'static str,
    inflict: fn(&Appliance, &Artifact) -> Result<()>,
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "one byte changed",
        refused: "wrong-digest",
        inflict: |a, m| flip_byte(&gguf(a, m)),
    },
    Fault {
        name: "truncated by one byte",
        refused: "wrong-size",
        inflict: truncate,
    },
    Fault {
        name: "no signature",
        refused: "no-signature",
        inflict: |a, m| Ok(fs::remove_file(asc(a, m))?),
    },
    Fault {
        name: "no document",
        refused: "missing-file",
        inflict: |a, m| Ok(fs::remove_file(doc(a, m))?),
    },
    Fault {
        name: "signed by a stranger",
        refused: "unknown-signer",
        inflict: stranger,
    },
    Fault {
        name: "document edited",
        refused: "bad-signature",
        inflict: edit_document,
    },
    Fault {
        name: "signature that is no signature",
        refused: "bad-signature",
        inflict: |a, m| {
            Ok(fs::write(
                asc(a, m),
                "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n",
            )?)
        },
    },
    Fault {
        name: "signed by a revoked key",
        refused: "revoked-key",
        inflict: revoked,
    },
    Fault {
        name: "expired",
        refused: "expired-attestation",
        inflict: |a, m| resign(a, m, |text| format!("expires = \"2020-01-01T00:00:00Z\"\n{text}")),
    },
    Fault {
        name: "of another kind",
        refused: "wrong-kind",
        inflict: |a, m| {
            resign(a, m, |text| {
                text.replace("kind = \"model\"", "kind = \"projector\"")
            })
        },
    },
    Fault {
        name: "not TOML",
        refused: "not-toml",
        inflict: |a, m| resign(a, m, |_| "= = =\n".into()),
    },
    Fault {
        name: "of an unknown format",
        refused: "unknown-format",
        inflict: |a, m| resign(a, m, |text| text.replace("format = 1", "format = 2")),
    },
    Fault {
        name: "too large a document",
        refused: "document-too-large",
        inflict: |a, m| resign(a, m, |text| format!("{text}\n#{}\n", "x".repeat(70_000))),
    },
    Fault {
        name: "another model under its name",
        refused: "wrong-id",
        inflict: |a, m| {
            let other = format!("id = \"{}-other\"", m.id);
            resign(a, m, |text| text.replace(&format!("id = \"{}\"", m.id), &other))
        },
    },
];

fn gguf(a: &Appliance, m: &Artifact) -> std::path::PathBuf {
    a.path("data/models").join(&m.file)
}
fn doc(a: &Appliance, m: &Artifact) -> std::path::PathBuf {
    gguf(a, m).with_extension("toml")
}
fn asc(a: &Appliance, m: &Artifact) -> std::path::PathBuf {
    gguf(a, m).with_extension("toml.asc")
}

fn flip_byte(path: &Path) -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.seek(SeekFrom::Start(middle))?;
    file.read_exact(&mut byte)?;
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(middle))?;
    Ok(file.write_all(&byte)?)
}

fn truncate(a: &Appliance, m: &Artifact) -> Result<()> {
    let file = OpenOptions::new().write(true).open(gguf(a, m))?;
    let length = file.metadata()?.len();
    Ok(file.set_len(length - 1)?)
}

fn stranger(a: &Appliance, m: &Artifact) -> Result<()> {
    // The same name as the real one: only the key counts.
    Publisher::new("release")?.sign(&doc(a, m)).map(|_| ())
}

fn edit_document(a: &Appliance, m: &Artifact) -> Result<()> {
    let text = fs::read_to_string(doc(a, m))?;
    let edited = text.replace("sequence = 1", "sequence = 2");
    ensure!(edited != text, "there was nothing to edit in {text}");
    Ok(fs::write(doc(a, m), edited)?)
}

fn revoked(a: &Appliance, m: &Artifact) -> Result<()> {
    let old = Publisher::new("retired")?;
    old.sign(&doc(a, m))?;
    old.revoke()?;
    old.export(&a.path("etc/keyring/retired.asc"))
}

fn resign(a: &Appliance, m: &Artifact, edit: impl Fn(String) -> String) -> Result<()> {
    let before = fs::read_to_string(doc(a, m))?;
    let after = edit(before.clone());
    ensure!(after != before, "the document was not changed: {before}");
    fs::write(doc(a, m), after)?;
    a.publisher.sign(&doc(a, m)).map(|_| ())
}

/// The primary is refused for this reason and nothing of it runs; the fallback serves and says why.
fn refused(a: &mut Appliance, reason: &str) -> Result<()> {
    let status = a.wait_status(
        "the fallback to serve and the primary to be refused",
        READY,
        |s| {
            s.ready
                && s.models
                    .iter()
                    .any(|m| m.role == "primary" && m.refused.is_some())
        },
    )?;
    let text = refusal(&status)?;
    ensure!(text.starts_with(reason), "refused for {text:?}, not {reason}");
    let primary = a.service("engine-primary")?;
    ensure!(
        primary.pid.is_none() && primary.state == ServiceState::Stopped,
        "primary is {primary:?}"
    );
    let engines = a.processes().into_iter().filter(|p| {
        fs::read_link(format!("/proc/{}/exe", p.pid)).is_ok_and(|exe| exe.ends_with("sarai-engine"))
    });
    ensure!(engines.count() == 1, "more engines run than the fallback's");
    ensure!(
        status.problems.iter().any(|p| p.contains(reason)),
        "no problem names it: {:?}",
        status.problems
    );
    let human = String::from_utf8(a.sarai(&["models"])?.stdout)?;
    ensure!(
        human.contains(reason),
        "sarai models does not say {reason}: {human}"
    );
    let why = fallback_answers(&a.keyed()?)?;
    ensure!(!why.is_empty());
    Ok(())
}

fn refusal(status: &Status) -> Result<&str> {
    let primary = status
        .models
        .iter()
        .find(|m| m.role == "primary")
        .context("no primary model")?;
    ensure!(
        primary.verified_by.is_none() && primary.digest.is_none(),
        "refused and verified: {primary:?}"
    );
    primary.refused.as_deref().context("not refused")
}

#[test]
fn a_model_that_is_not_attested_is_never_loaded() {
    let _shared = tree::shared();
    let models = pair().unwrap();
    let [primary, _] = &models;
    let mut a = Appliance::prepare(&models, "").unwrap();
    let mut wrong = Vec::new();
    for fault in FAULTS {
        for artifact in &models {
            artifact.install(&a.path("data/models"), &a.publisher).unwrap();
        }
        (fault.inflict)(&a, primary).unwrap();
        a.start().unwrap();
        if let Err(e) = refused(&mut a, fault.refused) {
            wrong.push(format!("{}: {e:#}", fault.name));
        }
        a.stop(Duration::from_secs(20)).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The same folder, whole again: the refusals above were about the files and nothing else.
    for artifact in &models {
        artifact.install(&a.path("data/models"), &a.publisher).unwrap();
    }
    a.start().unwrap();
    a.wait_ready(READY).unwrap();
    primary_answers(&a.keyed().unwrap()).unwrap();
}

#[test]
fn a_manifest_entry_without_a_digest_is_refused_with_what_to_do() {
    let _shared = tree::shared();
    let [mut primary, fallback] = pair().unwrap();
    primary.pinned = false;
    let mut a = Appliance::prepare(&[primary, fallback], "").unwrap();
    a.start().unwrap();
    refused(&mut a, "not-pinned").unwrap();
    let text = refusal(&a.status().unwrap()).unwrap().to_owned();
    assert!(text.contains("scripts/pin-models"), "{text}");
}

#[test]
fn a_release_older_than_one_seen_is_refused() {
    let _shared = tree::shared();
    let [mut primary, fallback] = pair().unwrap();
    primary.sequence = 7;
    let mut a = Appliance::start_with(&[primary.clone(), fallback], "").unwrap();
    primary_answers(&a.keyed().unwrap()).unwrap();
    a.stop(Duration::from_secs(20)).unwrap();
    primary.sequence = 6;
    primary.install(&a.path("data/models"), &a.publisher).unwrap();
    a.start().unwrap();
    refused(&mut a, "old-sequence").unwrap();
}

#[test]
fn a_model_changed_while_it_runs_is_refused_at_the_next_load() {
    let _shared = tree::shared();
    let models = pair().unwrap();
    let mut a = Appliance::start_with(&models, "").unwrap();
    let status = a.status().unwrap();
    let primary = status.models.iter().find(|m| m.role == "primary").unwrap();
    assert_eq!(primary.refused, None);
    assert_eq!(
        primary.signer.as_deref(),
        Some(a.publisher.fingerprint().unwrap().as_str())
    );
    let file = gguf(&a, &models[0]);
    let changed = flip_byte(&file);
    if primary.verified_by.as_deref() == Some("fs-verity") {
        // The kernel itself refuses the change: nothing to detect later.
        assert!(changed.is_err(), "fs-verity let a write through");
        return;
    }
    changed.unwrap();
    process::signal(a.service_pid("engine-primary").unwrap(), Signal::SIGKILL).unwrap();
    refused(&mut a, "wrong-digest").unwrap();
}
