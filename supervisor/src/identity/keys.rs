//! Bearer keys of clients: made here, shown once, kept as SHA-256. The gateway reads the file and compares.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sarai_wire::control::KeyInfo;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::{is_name, read_bounded};

/// Name of the file below the gateway's folder.
pub const FILE: &str = "keys.toml";
/// Beginning of every key, so that people and secret scanners recognise one.
pub const PREFIX: &str = "sk-sarai-";
/// Most keys of a machine.
pub const MAX_KEYS: usize = 1000;
/// Largest file, bytes.
const MAX_FILE: u64 = 512 * 1024;
/// Characters of the secret part: 43 × log2(62) > 256 bits.
const CHARACTERS: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What can go wrong with keys. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The name is not allowed.
    #[error("use that name: a key's name is 1 to 64 of A-Z a-z 0-9 . _ -")]
    Name,
    /// The name is taken.
    #[error("add the key {0}: there is one of that name; remove it first or choose another name")]
    Taken(String),
    /// There is no such key.
    #[error("remove the key {0}: there is none of that name")]
    Unknown(String),
    /// There are too many.
    #[error("add a key: there are {MAX_KEYS} already; remove some first")]
    TooMany,
    /// The file is not what it should be.
    #[error("read the keys: {0}")]
    Damaged(String),
    /// The file could not be read.
    #[error("read the keys: {0}")]
    Io(#[from] io::Error),
    /// The file could not be written.
    #[error("keep the keys: {0}")]
    Write(String),
    /// The kernel gave no random bytes.
    #[error("make a key: {0}")]
    Random(getrandom::Error),
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    #[serde(default)]
    key: Vec<Key>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    sha256: String,
    created: Timestamp,
}

/// The file of keys.
pub struct Store {
    path: PathBuf,
}

impl Store {
    /// The store in the gateway's folder.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self {
            path: folder.join(FILE),
        }
    }

    /// Makes the file if it is missing; a damaged one is set aside, because a machine that no client can reach is
    /// worse than one whose admin makes new keys.
    pub fn ensure(&self, problems: &mut Vec<String>) -> Result<(), KeysError> {
        match read_bounded(&self.path, MAX_FILE) {
            Ok(Some(text)) => {
                let Err(e) = parse(&text) else { return Ok(()) };
                self.set_aside(&e.to_string(), problems)?;
            }
            Ok(None) => {}
            Err(e) => self.set_aside(&e.to_string(), problems)?,
        }
        self.write(&Saved::default())
    }

    fn set_aside(&self, reason: &str, problems: &mut Vec<String>) -> Result<(), KeysError> {
        let aside = self.path.with_extension("toml.damaged");
        std::fs::rename(&self.path, &aside)?;
        problems.push(format!(
            "{} was damaged ({reason}) and set aside as {}; clients need new keys (sarai keys add NAME)",
            self.path.display(),
            aside.display()
        ));
        Ok(())
    }

    /// Makes a key; returns the secret, which is kept nowhere.
    pub fn add(&self, name: &str, now: Timestamp) -> Result<String, KeysError> {
        if !is_name(name) {
            return Err(KeysError::Name);
        }
        let mut saved = self.read()?;
        if saved.key.iter().any(|key| key.name == name) {
            return Err(KeysError::Taken(name.to_owned()));
        }
        if saved.key.len() >= MAX_KEYS {
            return Err(KeysError::TooMany);
        }
        let secret = format!("{PREFIX}{}", random_text()?);
        saved.key.push(Key {
            name: name.to_owned(),
            sha256: hash(&secret),
            created: now,
        });
        self.write(&saved)?;
        Ok(secret)
    }

    /// All keys, oldest first.
    pub fn list(&self) -> Result<Vec<KeyInfo>, KeysError> {
        let second = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        Ok(self
            .read()?
            .key
            .into_iter()
            .map(|k| KeyInfo {
                name: k.name,
                created: second(k.created),
            })
            .collect())
    }

    /// Removes a key.
    pub fn remove(&self, name: &str) -> Result<(), KeysError> {
        let mut saved = self.read()?;
        let before = saved.key.len();
        saved.key.retain(|key| key.name != name);
        if saved.key.len() == before {
            // Whatever was asked for is shown back in bounded form.
            return Err(KeysError::Unknown(name.chars().take(64).collect()));
        }
        self.write(&saved)
    }

    fn read(&self) -> Result<Saved, KeysError> {
        match read_bounded(&self.path, MAX_FILE)? {
            Some(text) => parse(&text),
            None => Ok(Saved::default()),
        }
    }

    fn write(&self, saved: &Saved) -> Result<(), KeysError> {
        let text = toml::to_string(saved).map_err(|e| KeysError::Write(e.to_string()))?;
        // The old file's group is kept by whoever calls: a new file belongs to the supervisor's own.
        sarai_trust::atomic::write(&self.path, text.as_bytes(), 0o640)
            .map_err(|e| KeysError::Write(e.to_string()))
    }
}

fn parse(text: &str) -> Result<Saved, KeysError> {
    let saved: Saved =
        toml::from_str(text).map_err(|e| KeysError::Damaged(e.message().replace('\n', " ")))?;
    let is_hash = |text: &str| {
        text.len() == 64
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    match saved
        .key
        .iter()
        .find(|key| !is_name(&key.name) || !is_hash(&key.sha256))
    {
        Some(_) => Err(KeysError::Damaged(
            "a key has an impossible name or digest".to_owned(),
        )),
        None if saved.key.len() > MAX_KEYS => Err(KeysError::Damaged(format!("more than {MAX_KEYS} keys"))),
        None => Ok(saved),
    }
}

fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Characters drawn without bias: bytes of the last, incomplete round are thrown away.
fn random_text() -> Result<String, KeysError> {
    const FAIR: u8 = 248; // 4 × 62
    let mut text = String::with_capacity(CHARACTERS);
    while text.len() < CHARACTERS {
        let mut bytes = [0u8; 64];
        getrandom::fill(&mut bytes).map_err(KeysError::Random)?;
        for byte in bytes
            .into_iter()
            .filter(|byte| *byte < FAIR)
            .take(CHARACTERS - text.len())
        {
            text.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn a_key_is_shown_once_and_kept_as_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        store.ensure(&mut Vec::new()).unwrap();
        let secret = store.add("phone", now()).unwrap();
        assert!(secret.starts_with(PREFIX) && secret.len() == PREFIX.len() + CHARACTERS);
        let text = std::fs::read_to_string(dir.path().join(FILE)).unwrap();
        assert!(!text.contains(&secret) && text.contains(&hash(&secret)));
        assert!(text.contains("[[key]]"), "{text}");
        assert_eq!(
            store.list().unwrap(),
            [KeyInfo {
                name: "phone".into(),
                created: "2026-01-02T03:04:05Z".into()
            }]
        );
    }

    #[test]
    fn names_are_unique_bounded_and_removable() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        store.add("a", now()).unwrap();
        assert!(matches!(store.add("a", now()), Err(KeysError::Taken(_))));
        for wrong in ["", "a b", "../x", &"x".repeat(65), "é"] {
            assert!(
                matches!(store.add(wrong, now()), Err(KeysError::Name)),
                "{wrong:?}"
            );
        }
        store.remove("a").unwrap();
        assert!(matches!(store.remove("a"), Err(KeysError::Unknown(_))));
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn there_is_a_most() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        let key = |n: usize| Key {
            name: format!("k{n}"),
            sha256: "0".repeat(64),
            created: now(),
        };
        store
            .write(&Saved {
                key: (0..MAX_KEYS).map(key).collect(),
            })
            .unwrap();
        assert!(matches!(store.add("more", now()), Err(KeysError::TooMany)));
        assert!(std::fs::metadata(dir.path().join(FILE)).unwrap().len() < MAX_FILE);
    }

    #[test]
    fn a_damaged_file_is_set_aside_with_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path());
        for damage in [
            "[[key]]\nname = 3",
            "[[key]]\nname='a'\nsha256='zz'\ncreated='2026-01-02T03:04:05Z'",
        ] {
            std::fs::write(dir.path().join(FILE), damage).unwrap();
            assert!(matches!(store.add("a", now()), Err(KeysError::Damaged(_))));
            let mut problems = Vec::new();
            store.ensure(&mut problems).unwrap();
            assert!(problems[0].contains("set aside"), "{problems:?}");
            assert!(store.list().unwrap().is_empty());
        }
    }

    #[test]
    fn secrets_differ_and_use_the_whole_alphabet() {
        let text: String = (0..200).map(|_| random_text().unwrap()).collect();
        assert!(ALPHABET.iter().all(|c| text.contains(char::from(*c))));
    }
}
