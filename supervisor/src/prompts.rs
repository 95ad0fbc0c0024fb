//! The words of the Omni-Loop: verified like a model at each start of the gateway, which gets the descriptor that was
//! verified. The supervisor never reads what is in it. Whatever is wrong, the gateway starts, with its own words.

use std::io::Seek;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use sarai_trust::manifest::Manifest;
use sarai_trust::{TrustError, Verified, open_verified};
use sarai_wire::birth::PromptsStart;
use sarai_wire::control::PromptsStatus;

use crate::app::{App, Shared};
use crate::models;
use crate::problems::lock;

/// Topic of the problem that the admin sees.
const TOPIC: &str = "prompts";

/// Verified prompts, ready to be handed over.
pub struct Prompts {
    /// What the gateway is told.
    pub start: PromptsStart,
    /// The file that was verified, at offset 0.
    pub file: OwnedFd,
    /// Id and sequence, remembered once they are in use.
    pub seen: (String, u64),
}

/// Opens and verifies the profile's prompts, away from the main loop; `None` when the gateway is to use its own.
pub async fn verify(app: &App) -> Option<Prompts> {
    let worker = App::clone(app);
    let outcome = tokio::task::spawn_blocking(move || {
        let mut shown = PromptsStatus::default();
        let outcome = open(&worker, &mut shown);
        (shown, outcome)
    })
    .await;
    let Ok((mut shown, outcome)) = outcome else {
        app.problems.set(
            TOPIC,
            "the built-in prompts are used: their verification broke off",
        );
        return None;
    };
    let found = match outcome {
        Ok(found) => found,
        Err(e) => {
            shown.refused = Some(format!("{}: failed to {e}", e.name()));
            None
        }
    };
    if let Some(verified) = &found {
        shown.signer = Some(verified.signer.clone());
    }
    complain(app, &shown);
    *lock(&app.prompts) = shown;
    let verified = found?;
    app.logs.say(&format!(
        "verify {}: signed by {}, {}",
        verified.attestation.id,
        verified.signer,
        verified.method.as_str()
    ));
    Some(Prompts {
        start: PromptsStart {
            id: verified.attestation.id.clone(),
            version: verified.attestation.version,
            sha256: verified.attestation.sha256.to_string(),
        },
        file: verified.file.into(),
        seen: (verified.attestation.id, verified.attestation.sequence),
    })
}

/// `None` where the profile names no prompts, or their file is not there: then the built-in ones are meant to be used.
fn open(app: &Shared, shown: &mut PromptsStatus) -> Result<Option<Verified>, TrustError> {
    let manifest = match Manifest::load(&app.layout.etc.join("models-manifest.toml")) {
        Ok(manifest) => manifest,
        // Said already, about the models.
        Err(_) => return Ok(None),
    };
    let Some(prompts) = manifest
        .profile(&app.config.profile)
        .ok()
        .and_then(|profile| profile.prompts.as_ref())
    else {
        return Ok(None);
    };
    shown.file = Some(prompts.file.clone());
    let store = app.layout.models();
    let highest = models::highest(app, &prompts.id)?;
    let expect = prompts.expect(Timestamp::now(), highest);
    let opened = models::keyring(app)
        .and_then(|keyring| open_verified(&store, &prompts.file, &keyring, &expect, &mut |_, _| {}));
    let mut verified = match opened {
        Err(TrustError::MissingFile { path }) if path == store.join(&prompts.file) => return Ok(None),
        opened => opened?,
    };
    verified.file.rewind().map_err(|source| TrustError::Io {
        action: "rewind",
        path: store.join(&prompts.file),
        source,
    })?;
    Ok(Some(verified))
}

/// The gateway said which prompts it uses.
pub fn used(app: &Shared, id: String, version: String, sha256: String, refused: Option<String>) {
    let mut shown = lock(&app.prompts);
    (shown.id, shown.version, shown.sha256) = (Some(id), Some(version), Some(sha256));
    if refused.is_some() {
        shown.refused = refused;
    }
    if shown.refused.is_some() {
        shown.signer = None;
    }
    complain(app, &shown);
}

fn complain(app: &Shared, shown: &PromptsStatus) {
    match &shown.refused {
        Some(reason) => {
            let file = shown.file.as_deref().unwrap_or("the prompts");
            let text = format!("{file} is not used, the built-in prompts are: {reason}");
            app.problems.set(TOPIC, text);
        }
        None => app.problems.clear(TOPIC),
    }
}
