//! Bearer keys: read from `keys.toml`, compared in constant time.
//!
//! The file holds only SHA-256 digests of the secrets. The secrets are long and random, so a plain digest is
//! enough: there is no dictionary to try.

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// Most keys one file holds.
pub const MAX_KEYS: usize = 1024;
/// Longest secret that is looked at, bytes.
const MAX_SECRET: usize = 512;

/// Why a key file is not used. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Not the TOML that was expected.
    #[error("read the keys: {0}")]
    Toml(#[from] toml::de::Error),
    /// More than [`MAX_KEYS`].
    #[error("read the keys: {0} keys, at most {MAX_KEYS} are accepted")]
    TooMany(usize),
    /// A digest that is not 64 hexadecimal digits.
    #[error("read the keys: the sha256 of {0:?} is not 64 hexadecimal digits")]
    Digest(String),
    /// A name that could not stand in a log line.
    #[error("read the keys: the name {0:?} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")]
    Name(String),
    /// Two keys share a name.
    #[error("read the keys: the name {0:?} comes twice")]
    Twice(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    key: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    sha256: String,
}

/// The keys clients may use.
#[derive(Debug, Default)]
pub struct Keys(Vec<(String, [u8; 32])>);

impl Keys {
    /// Reads the text of a `keys.toml`.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let File { key } = toml::from_str(text)?;
        if key.len() > MAX_KEYS {
            return Err(KeysError::TooMany(key.len()));
        }
        let mut keys: Vec<(String, [u8; 32])> = Vec::with_capacity(key.len());
        for Entry { name, sha256 } in key {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(KeysError::Name(name));
            }
            if keys.iter().any(|(other, _)| *other == name) {
                return Err(KeysError::Twice(name));
            }
            let Some(digest) = unhex(&sha256) else {
                return Err(KeysError::Digest(name));
            };
            keys.push((name, digest));
        }
        Ok(Self(keys))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The name of the key whose secret this is. Every key is compared whatever the first ones gave, so the time
    /// tells nothing about which matched or how far.
    pub fn name_of(&self, secret: &str) -> Option<&str> {
        if secret.is_empty() || secret.len() > MAX_SECRET {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = Choice::from(0);
        let mut index = 0_u64;
        for (number, (_, other)) in (0_u64..).zip(&self.0) {
            let same = digest.ct_eq(other);
            index.conditional_assign(&number, same);
            found |= same;
        }
        if !bool::from(found) {
            return None;
        }
        self.0
            .get(usize::try_from(index).ok()?)
            .map(|(name, _)| name.as_str())
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(name: &str, secret: &str) -> String {
        use std::fmt::Write;
        let mut text = format!("[[key]]\nname = \"{name}\"\ncreated = \"2026-01-01T00:00:00Z\"\nsha256 = \"");
        for byte in Sha256::digest(secret.as_bytes()) {
            write!(text, "{byte:02x}").unwrap();
        }
        text + "\"\n"
    }

    #[test]
    fn each_secret_is_known_by_its_name_and_no_other_is_known() {
        let keys = Keys::parse(&(entry("first", "one") + &entry("second", "two"))).unwrap();
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.name_of("one"), Some("first"));
        assert_eq!(keys.name_of("two"), Some("second"));
        for wrong in ["", "on", "one ", "One", "three", &"x".repeat(600)] {
            assert_eq!(keys.name_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_keys_let_nobody_in() {
        assert_eq!(Keys::parse("").unwrap().name_of("anything"), None);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let twice = entry("a", "x") + &entry("a", "y");
        assert!(matches!(Keys::parse(&twice), Err(KeysError::Twice(_))));
        assert!(matches!(Keys::parse(&entry("a b", "x")), Err(KeysError::Name(_))));
        assert!(matches!(
            Keys::parse("[[key]]\nname='a'\nsha256='zz'"),
            Err(KeysError::Digest(_))
        ));
        assert!(matches!(
            Keys::parse("[[key]]\nname='a'"),
            Err(KeysError::Toml(_))
        ));
        assert!(matches!(Keys::parse("]"), Err(KeysError::Toml(_))));
        let many: String = (0..=MAX_KEYS).map(|n| entry(&format!("k{n}"), "x")).collect();
        assert!(matches!(Keys::parse(&many), Err(KeysError::TooMany(_))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            if let Ok(keys) = Keys::parse(&text) { prop_assert!(keys.name_of(&text).is_none()); }
        }
    }
}
