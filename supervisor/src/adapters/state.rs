//! Which adapter is in use, which was before, and which were rejected: a small file that is written whole.

use std::path::Path;

use sarai_trust::atomic;
use serde::{Deserialize, Serialize};

/// Largest file, bytes.
const MAX_FILE: u64 = 256 * 1024;
/// Most bases that are remembered; an appliance runs two at a time.
const MAX_BASES: usize = 64;
/// Most rejected adapters that are remembered.
const MAX_REJECTED: usize = 256;
/// Longest account of the figures that spoke against one, bytes.
const MAX_FIGURES: usize = 2048;

/// An adapter by name and content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Its name in the store.
    pub name: String,
    /// SHA-256 of its file, lower-case hex.
    pub sha256: String,
}

/// What was in use before: an adapter, or none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Before {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adapter: Option<Named>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    /// SHA-256 of the model.
    sha256: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_use: Option<Named>,
    /// Absent where there is nothing to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Before>,
}

/// An adapter that is never loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejected {
    /// Its name in the store.
    pub name: String,
    /// What spoke against it, with the figures.
    pub figures: String,
}

/// What is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    format: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    base: Vec<Base>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rejected: Vec<Rejected>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: 1,
            base: Vec::new(),
            rejected: Vec::new(),
        }
    }
}

impl State {
    /// Reads the file; one that is not there says that nothing was ever in use.
    ///
    /// # Errors
    /// When it cannot be read or is damaged; fits after "failed to".
    pub fn load(path: &Path) -> Result<Self, String> {
        let damaged = |reason: &str| {
            format!(
                "read {}: it is damaged: {reason}; remove it to begin without an adapter",
                path.display()
            )
        };
        match sarai_trust::read_bounded(path, MAX_FILE) {
            Ok(Some(bytes)) => {
                let text = std::str::from_utf8(&bytes).map_err(|e| damaged(&e.to_string()))?;
                let state: Self = toml::from_str(text).map_err(|e| damaged(e.message()))?;
                if state.format != 1 {
                    return Err(damaged(&format!("format {} is unknown", state.format)));
                }
                Ok(state)
            }
            Ok(None) => Err(damaged(&format!("it exceeds {MAX_FILE} bytes"))),
            Err(sarai_trust::TrustError::MissingFile { .. }) => Ok(Self::default()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Writes the file, whole.
    ///
    /// # Errors
    /// When it cannot be written; fits after "failed to".
    pub fn save(&self, path: &Path) -> Result<(), String> {
        let text = toml::to_string(self).map_err(|e| e.to_string())?;
        atomic::write(path, text.as_bytes(), 0o600).map_err(|e| e.to_string())
    }

    fn base(&self, sha256: &str) -> Option<&Base> {
        self.base.iter().find(|base| base.sha256 == sha256)
    }

    /// The one in use over this model.
    #[must_use]
    pub fn in_use(&self, base: &str) -> Option<&Named> {
        self.base(base)?.in_use.as_ref()
    }

    /// What a rollback brings back over this model, where there is something to go back to.
    #[must_use]
    pub fn previous(&self, base: &str) -> Option<Option<&Named>> {
        let before = self.base(base)?.previous.as_ref()?;
        Some(before.adapter.as_ref())
    }

    /// Every name that is in use or would be brought back, whatever the base.
    pub fn needed(&self) -> impl Iterator<Item = &str> {
        self.base.iter().flat_map(|base| {
            let before = base.previous.as_ref().and_then(|before| before.adapter.as_ref());
            base.in_use.iter().chain(before).map(|named| named.name.as_str())
        })
    }

    /// Puts an adapter to use over this model, or none; what was in use can be brought back.
    pub fn put_to_use(&mut self, base: &str, adapter: Option<Named>) {
        let entry = self.entry(base);
        if entry.in_use != adapter {
            let before = std::mem::replace(&mut entry.in_use, adapter);
            entry.previous = Some(Before { adapter: before });
        }
    }

    /// Goes back; from what was gone back there is nothing to go back to.
    pub fn roll_back(&mut self, base: &str) {
        let entry = self.entry(base);
        if let Some(before) = entry.previous.take() {
            entry.in_use = before.adapter;
        }
    }

    /// The entry of a model; it comes to the end, and what was used longest ago is forgotten.
    fn entry(&mut self, base: &str) -> &mut Base {
        let found = self.base.iter().position(|entry| entry.sha256 == base);
        let entry = match found {
            Some(at) => self.base.remove(at),
            None => Base {
                sha256: base.to_owned(),
                in_use: None,
                previous: None,
            },
        };
        if self.base.len() >= MAX_BASES {
            self.base.remove(0);
        }
        self.base.push(entry);
        let last = self.base.len() - 1;
        &mut self.base[last]
    }

    /// What spoke against an adapter, if it was rejected.
    #[must_use]
    pub fn rejection(&self, name: &str) -> Option<&str> {
        let rejected = self.rejected.iter().find(|rejected| rejected.name == name)?;
        Some(&rejected.figures)
    }

    /// Remembers that one is never to be loaded.
    pub fn reject(&mut self, name: &str, figures: &str) {
        self.rejected.retain(|rejected| rejected.name != name);
        if self.rejected.len() >= MAX_REJECTED {
            self.rejected.remove(0);
        }
        let end = figures.floor_char_boundary(MAX_FIGURES.min(figures.len()));
        self.rejected.push(Rejected {
            name: name.to_owned(),
            figures: figures[..end].to_owned(),
        });
    }

    /// Forgets rejected ones that are not there any more; whether there were any.
    pub fn forget_rejected(&mut self, there: impl Fn(&str) -> bool) -> bool {
        let before = self.rejected.len();
        self.rejected.retain(|rejected| there(&rejected.name));
        self.rejected.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Named {
        Named {
            name: name.to_owned(),
            sha256: name.repeat(32),
        }
    }

    fn in_use(state: &State, base: &str) -> Option<String> {
        state.in_use(base).map(|named| named.name.clone())
    }

    #[test]
    fn a_rollback_brings_back_what_was_before_once_and_none_too() {
        let mut state = State::default();
        assert_eq!((state.in_use("m"), state.previous("m")), (None, None));
        state.put_to_use("m", Some(named("a")));
        assert_eq!(state.previous("m"), Some(None));
        state.put_to_use("m", Some(named("b")));
        state.put_to_use("m", Some(named("b")));
        assert_eq!(state.previous("m"), Some(Some(&named("a"))));
        assert!(state.needed().eq(["b", "a"]));
        state.roll_back("m");
        assert_eq!(
            (in_use(&state, "m").as_deref(), state.previous("m")),
            (Some("a"), None)
        );
        state.roll_back("m");
        assert_eq!(in_use(&state, "m").as_deref(), Some("a"));
        state.put_to_use("m", None);
        assert_eq!(
            (in_use(&state, "m"), state.previous("m")),
            (None, Some(Some(&named("a"))))
        );
        assert_eq!(in_use(&state, "other"), None);
    }

    #[test]
    fn what_is_written_is_read_again_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapters.toml");
        assert_eq!(State::load(&path).unwrap(), State::default());
        let mut state = State::default();
        state.put_to_use("m", Some(named("a")));
        state.put_to_use("n", Some(named("b")));
        state.put_to_use("n", None);
        state.reject("c", "held-out loss 1.20 to 1.31");
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), state);
        let text = std::fs::read_to_string(&path).unwrap();
        for wrong in [&text[..text.len() - 3], "format = 2\n", "", "\u{0}"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(State::load(&path).unwrap_err().contains("damaged"), "{wrong}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut state = State::default();
        for n in 0..1000 {
            state.put_to_use(&format!("{n}"), Some(named("a")));
            state.reject(&format!("r{n}"), &"é".repeat(4000));
        }
        assert_eq!(
            (state.base.len(), state.rejected.len()),
            (MAX_BASES, MAX_REJECTED)
        );
        assert!(state.in_use("999").is_some() && state.in_use("0").is_none());
        assert!(state.rejection("r999").unwrap().len() <= MAX_FIGURES);
        assert!(state.forget_rejected(|name| name == "r998"));
        assert_eq!(state.rejection("r999"), None);
        assert!(!state.forget_rejected(|_| true));
    }
}
