//! Which models the profile runs, and their verification. Manifest, keyring, sequences and file are read anew at
//! each start of an engine: the descriptor that was verified is the one the engine gets.

use std::io::Seek;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use sarai_trust::manifest::{Manifest, Role};
use sarai_trust::{Keyring, Sequences, TrustError, Verified, open_verified};
use sarai_wire::control::ModelStatus;

use crate::app::{App, Shared};
use crate::problems::lock;
use crate::quarantine;
use crate::service::program::Hold;

/// A verified model, ready to be handed over.
pub struct Model {
    /// What was verified, file at offset 0.
    pub verified: Verified,
    /// Context the manifest asks for, tokens.
    pub context: Option<u32>,
}

/// Enters the profile's models into `status` and returns the roles it has.
pub fn enter(app: &Shared) -> Vec<Role> {
    let profile = Manifest::load(&app.layout.etc.join("models-manifest.toml"))
        .and_then(|manifest| manifest.profile(&app.config.profile).cloned());
    match profile {
        Ok(profile) => {
            *lock(&app.models) = profile.models.iter().map(|e| status(e.role, &e.file)).collect();
            profile.models.iter().map(|e| e.role).collect()
        }
        Err(e) => {
            app.problems
                .set("manifest", format!("no model can be loaded: failed to {e}"));
            vec![Role::Primary]
        }
    }
}

fn status(role: Role, file: &str) -> ModelStatus {
    ModelStatus {
        role: role.as_str().to_owned(),
        file: file.to_owned(),
        model: None,
        version: None,
        digest: None,
        signer: None,
        verified_by: None,
        refused: None,
        adapter: None,
    }
}

/// Opens and verifies the model of `role`, away from the main loop, and shows the outcome in `status`.
pub async fn verify(app: &App, role: Role) -> Result<Model, Hold> {
    let worker = App::clone(app);
    let outcome = tokio::task::spawn_blocking(move || {
        let outcome = open(&worker, role);
        let sha256 = outcome
            .as_ref()
            .ok()
            .map(|m| m.verified.attestation.sha256.to_string());
        let held = sha256.and_then(|sha256| quarantine::refusal(&worker, &sha256));
        (outcome, held)
    });
    let outcome = outcome.await;
    let (outcome, held) = outcome.map_err(|e| Hold::Failed(format!("verification broke off: {e}")))?;
    show(app, role, &outcome);
    if let Some(why) = held {
        // It is shown as what it is, verified, and still not loaded.
        if let Some(shown) = lock(&app.models).iter_mut().find(|m| m.role == role.as_str()) {
            shown.refused = Some(why.clone());
        }
        return Err(Hold::Refused(why));
    }
    let file = lock(&app.models)
        .iter()
        .find(|m| m.role == role.as_str())
        .map(|m| m.file.clone());
    outcome.map_err(|e| hold(&e, file.as_deref()))
}

/// What the driver does about an error: wait for a model that is not there yet, try again after a disk error, and
/// leave everything else to an admin.
fn hold(error: &TrustError, file: Option<&str>) -> Hold {
    let text = format!("{}: failed to {error}", error.name());
    match error {
        TrustError::MissingFile { path } if path.file_name().zip(file).is_some_and(|(a, b)| a == b) => {
            Hold::NotYet(text)
        }
        TrustError::Io { .. } | TrustError::FileInUse => Hold::Failed(text),
        _ => Hold::Refused(text),
    }
}

fn open(app: &Shared, role: Role) -> Result<Model, TrustError> {
    let manifest = Manifest::load(&app.layout.etc.join("models-manifest.toml"))?;
    let profile = manifest.profile(&app.config.profile)?;
    let entry = profile.entry(role).ok_or_else(|| TrustError::InvalidManifest {
        reason: format!("profile {:?} has no {role} model any more", profile.name),
    })?;
    let sequences = Sequences::load(&sequences(app))?;
    let expect = profile.expect(entry, Timestamp::now(), sequences.get(&entry.id))?;
    let keyring = keyring(app)?;
    let (begun, mut told) = (Instant::now(), Instant::now());
    let mut read = false;
    let mut progress = |done: u64, total: u64| {
        read = true;
        if told.elapsed() >= Duration::from_secs(2) && total > 0 {
            told = Instant::now();
            app.logs.say(&format!(
                "verify {}: {} %",
                entry.file,
                done.saturating_mul(100) / total
            ));
        }
    };
    let mut verified = open_verified(
        &app.layout.models(),
        &entry.file,
        &keyring,
        &expect,
        &mut progress,
    )?;
    verified.file.rewind().map_err(|source| TrustError::Io {
        action: "rewind",
        path: app.layout.models().join(&entry.file),
        source,
    })?;
    if read && app.tree.is_some() {
        hand_over(&verified.file);
    }
    app.logs.say(&format!(
        "verify {}: signed by {}, {} in {:.2} s",
        entry.file,
        verified.signer,
        verified.method.as_str(),
        begun.elapsed().as_secs_f64()
    ));
    Ok(Model {
        verified,
        context: entry.context,
    })
}

/// Lets go of the pages that hashing brought in. They are billed to this process's group, and would be for as long as
/// they stay: the engine, which reads them next, is billed for what it uses itself. Pages that an engine has mapped
/// already stay, and stay billed to it.
pub fn hand_over(file: &std::fs::File) {
    // Advice: what the kernel keeps all the same, the supervisor's group can be made to give up at any time.
    let _ = nix::fcntl::posix_fadvise(file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

/// Whom this machine believes, as of now.
pub fn keyring(app: &Shared) -> Result<Keyring, TrustError> {
    let mut keyring = Keyring::load_dir(&app.layout.etc.join("keyring"))?;
    for certificate in &app.config.certificates {
        keyring = keyring.with_release(certificate.as_bytes())?;
    }
    let identity = lock(&app.identity).clone();
    match identity {
        Some(identity) => keyring.with_device(&identity.device.certificate_bytes()?),
        None => Ok(keyring),
    }
}

/// The highest sequence this machine has used of `id`.
pub fn highest(app: &Shared, id: &str) -> Result<u64, TrustError> {
    Ok(Sequences::load(&sequences(app))?.get(id))
}

fn sequences(app: &Shared) -> std::path::PathBuf {
    app.layout.state().join("sequences.toml")
}

fn show(app: &Shared, role: Role, outcome: &Result<Model, TrustError>) {
    let mut models = lock(&app.models);
    let Some(shown) = models.iter_mut().find(|m| m.role == role.as_str()) else {
        return;
    };
    let fresh = status(role, &shown.file);
    *shown = match outcome {
        Ok(model) => ModelStatus {
            model: Some(model.verified.attestation.id.clone()),
            version: Some(model.verified.attestation.version.clone()),
            digest: Some(model.verified.attestation.sha256.to_string()),
            signer: Some(model.verified.signer.clone()),
            verified_by: Some(model.verified.method.as_str().to_owned()),
            ..fresh
        },
        Err(e) => ModelStatus {
            refused: Some(format!("{}: failed to {e}", e.name())),
            ..fresh
        },
    };
}

/// Remembers that a model of this sequence serves, so that an older one is refused from now on.
pub fn record(app: &Shared, id: &str, sequence: u64) {
    // One at a time: each reads, changes and writes the whole file.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = lock(&ONE);
    let recorded = Sequences::load(&sequences(app)).and_then(|mut seen| seen.record(id, sequence));
    match recorded {
        Ok(()) => app.problems.clear("sequences"),
        Err(e) => app.problems.set(
            "sequences",
            format!("an older model could come back unnoticed: failed to {e}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_waited_for_a_disk_error_retried_and_the_rest_refused() {
        let file = Some("m.gguf");
        let missing = TrustError::MissingFile {
            path: "/data/models/m.gguf".into(),
        };
        assert!(
            matches!(hold(&missing, file), Hold::NotYet(text) if text.starts_with("missing-file: failed to open"))
        );
        let document = TrustError::MissingFile {
            path: "/data/models/m.toml".into(),
        };
        assert!(matches!(hold(&document, file), Hold::Refused(_)));
        let io = TrustError::Io {
            action: "read",
            path: "m".into(),
            source: std::io::Error::other("x"),
        };
        assert!(matches!(hold(&io, file), Hold::Failed(_)));
        assert!(matches!(hold(&TrustError::FileInUse, file), Hold::Failed(_)));
        let text =
            "no-signature: failed to verify the attestation: there is no signature beside the document";
        assert!(matches!(hold(&TrustError::NoSignature, file), Hold::Refused(t) if t == text));
        let old = TrustError::OldSequence { found: 1, highest: 2 };
        assert!(matches!(hold(&old, file), Hold::Refused(t) if t.starts_with("old-sequence")));
    }
}
