//! Models that are not loaded again: their engine was ended by a denied system call three times within a day, or once
//! because bytes of the model could not be read. Remembered by digest in the state folder, so that neither a restart
//! nor another name brings one back; an admin lifts it.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use sarai_trust::{TrustError, atomic};
use serde::{Deserialize, Serialize};

use crate::app::Shared;
use crate::problems::lock;

/// Denied calls of a model's engines …
const CALLS: usize = 3;
/// … within this time are no accident of ours any more.
const SPAN: SignedDuration = SignedDuration::from_hours(24);
/// Most models that are remembered; the oldest that is not quarantined makes room.
const MAX_MODELS: usize = 256;
/// Largest file, bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Fewest digits of a digest that name it.
const FEWEST_DIGITS: usize = 8;

/// Why a model's engine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// By this denied system call.
    Denied(String),
    /// By a read of the model that failed.
    Unreadable,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: u32,
    #[serde(default)]
    model: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    /// Id of its attestation, for the admin.
    id: String,
    /// When its engine was ended by a denied call, newest last.
    #[serde(default)]
    denied: Vec<Timestamp>,
    /// Why it is quarantined; only strikes so far without.
    #[serde(default)]
    quarantined: Option<String>,
}

impl Saved {
    fn parse(text: &str) -> Result<Self, String> {
        let saved: Self = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        if saved.format == 1 {
            Ok(saved)
        } else {
            Err(format!("format {} is unknown", saved.format))
        }
    }

    /// Takes note of an end. True if the model is quarantined by it.
    fn note(&mut self, sha256: &str, id: &str, cause: &Cause, now: Timestamp) -> bool {
        let at = self
            .model
            .iter()
            .position(|m| m.sha256 == sha256)
            .unwrap_or_else(|| {
                if self.model.len() >= MAX_MODELS {
                    let oldest = self
                        .model
                        .iter()
                        .position(|m| m.quarantined.is_none())
                        .unwrap_or(0);
                    self.model.remove(oldest);
                }
                self.model.push(Entry {
                    sha256: sha256.to_owned(),
                    id: id.to_owned(),
                    denied: Vec::new(),
                    quarantined: None,
                });
                self.model.len() - 1
            });
        let entry = &mut self.model[at];
        if entry.quarantined.is_some() {
            return false;
        }
        match cause {
            Cause::Denied(call) => {
                // A clock that was set counts as little time either way.
                entry
                    .denied
                    .retain(|then| now.duration_since(*then).abs() <= SPAN);
                entry.denied.push(now);
                if entry.denied.len() >= CALLS {
                    entry.quarantined = Some(format!(
                        "its engine was ended by a denied system call {CALLS} times within a day, last {call}"
                    ));
                }
            }
            Cause::Unreadable => {
                entry.quarantined = Some("bytes of its file cannot be read as they were attested".to_owned());
            }
        }
        entry.quarantined.is_some()
    }

    fn why(&self, sha256: &str) -> Option<&str> {
        let entry = self.model.iter().find(|m| m.sha256 == sha256)?;
        entry.quarantined.as_deref()
    }

    /// Forgets the one model whose digest begins with `digits`.
    fn release(&mut self, digits: &str) -> Result<Entry, String> {
        let digits = digits.to_ascii_lowercase();
        if digits.len() < FEWEST_DIGITS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!(
                "a digest is given by at least {FEWEST_DIGITS} of its hexadecimal digits; see: sarai models"
            ));
        }
        let mut found = (0..self.model.len()).filter(|at| {
            self.model[*at].quarantined.is_some() && self.model[*at].sha256.starts_with(&digits)
        });
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(self.model.remove(at)),
            (Some(_), Some(_)) => Err("more than one quarantined model begins with these digits".to_owned()),
            (None, _) => Err("no quarantined model has this digest; see: sarai models".to_owned()),
        }
    }
}

fn path(app: &Shared) -> PathBuf {
    app.layout.state().join("quarantine.toml")
}

/// What is remembered. A damaged file is an error: read as empty, it would let every model back in.
fn load(app: &Shared) -> Result<Saved, String> {
    let path = path(app);
    let damaged = |reason: String| {
        format!(
            "read {}: it is damaged: {reason}; remove it to forget all",
            path.display()
        )
    };
    match std::fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Saved {
                format: 1,
                model: Vec::new(),
            });
        }
        Ok(meta) if meta.len() > MAX_FILE => return Err(damaged(format!("it exceeds {MAX_FILE} bytes"))),
        _ => {}
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    Saved::parse(&text).map_err(damaged)
}

/// Loads, changes and writes the whole, one at a time.
fn change<T>(app: &Shared, work: impl FnOnce(&mut Saved) -> Result<T, String>) -> Result<T, String> {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = lock(&ONE);
    let mut saved = load(app)?;
    let outcome = work(&mut saved)?;
    let text = toml::to_string(&saved).map_err(|e| e.to_string())?;
    let written: Result<(), TrustError> = atomic::write(&path(app), text.as_bytes(), 0o600);
    written.map_err(|e| e.to_string())?;
    Ok(outcome)
}

/// Remembers how an engine with this model ended; says so when that quarantines it. What cannot be written counts
/// nowhere, and is a problem.
pub fn note(app: &Shared, sha256: &str, id: &str, cause: &Cause) {
    let now = Timestamp::now();
    match change(app, |saved| Ok(saved.note(sha256, id, cause, now))) {
        Ok(true) => app.logs.say(&format!("quarantined: {id} ({sha256})")),
        Ok(false) => {}
        Err(e) => app.problems.set(
            "quarantine",
            format!("a model that should be quarantined is not remembered: failed to {e}"),
        ),
    }
}

/// Why this model is not to be loaded, and what to do.
pub fn refusal(app: &Shared, sha256: &str) -> Option<String> {
    let text = match load(app) {
        Ok(saved) => {
            let why = saved.why(sha256)?;
            format!(
                "quarantined: {why}; replace the model, or load it all the same: sarai models release {}",
                sha256.get(..12).unwrap_or(sha256)
            )
        }
        Err(e) => format!("quarantined: whether it is cannot be known: failed to {e}"),
    };
    Some(text)
}

/// Lifts the quarantine of the model whose digest begins with `digits`; gives its whole digest.
pub fn release(app: &Shared, digits: &str) -> Result<String, String> {
    let entry = change(app, |saved| saved.release(digits))?;
    app.problems.clear("quarantine");
    app.logs.say(&format!(
        "released from quarantine: {} ({})",
        entry.id, entry.sha256
    ));
    Ok(entry.sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn denied() -> Cause {
        Cause::Denied("socket".to_owned())
    }

    #[test]
    fn three_denied_calls_within_a_day_quarantine_a_model_and_fewer_do_not() {
        let mut saved = Saved::default();
        assert!(!saved.note(MODEL, "m", &denied(), at(0)));
        assert!(!saved.note(MODEL, "m", &denied(), at(20)));
        // The first is more than a day ago by now.
        assert!(!saved.note(MODEL, "m", &denied(), at(30)));
        assert!(saved.why(MODEL).is_none());
        assert!(saved.note(MODEL, "m", &denied(), at(31)));
        assert!(saved.why(MODEL).unwrap().contains("socket"));
        // Once is said once.
        assert!(!saved.note(MODEL, "m", &denied(), at(32)));
    }

    #[test]
    fn one_unreadable_byte_is_enough_and_other_models_are_left_alone() {
        let mut saved = Saved::default();
        assert!(saved.note(MODEL, "m", &Cause::Unreadable, at(0)));
        assert!(saved.why(MODEL).is_some());
        assert!(saved.why(&MODEL.replace('0', "f")).is_none());
    }

    #[test]
    fn what_is_written_is_read_again_and_damage_is_no_forgetting() {
        let mut saved = Saved {
            format: 1,
            model: Vec::new(),
        };
        saved.note(MODEL, "m", &Cause::Unreadable, at(0));
        let text = toml::to_string(&saved).unwrap();
        assert_eq!(Saved::parse(&text).unwrap().model, saved.model);
        assert!(Saved::parse(&text[..text.len() / 2]).is_err());
        assert!(Saved::parse("format = 2").is_err());
        assert!(Saved::parse("").is_err());
    }

    #[test]
    fn a_release_names_one_model() {
        let mut saved = Saved::default();
        saved.note(MODEL, "m", &Cause::Unreadable, at(0));
        let other = MODEL.replace("cdef", "ffff");
        saved.note(&other, "n", &Cause::Unreadable, at(0));
        assert!(saved.release("0123").unwrap_err().contains("at least 8"));
        assert!(saved.release("../../etc").is_err());
        assert!(saved.release("0123456789").unwrap_err().contains("more than one"));
        assert!(saved.release("ffffffff").is_err());
        assert_eq!(saved.release(&MODEL.to_uppercase()).unwrap().id, "m");
        assert!(saved.why(MODEL).is_none() && saved.why(&other).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_quarantine_is_not_pushed_out_by_strikes() {
        let mut saved = Saved::default();
        saved.note(MODEL, "m", &Cause::Unreadable, at(0));
        for n in 0..2 * MAX_MODELS {
            saved.note(&format!("{n:064x}"), "x", &denied(), at(0));
        }
        assert_eq!(saved.model.len(), MAX_MODELS);
        assert!(saved.why(MODEL).is_some());
    }
}
