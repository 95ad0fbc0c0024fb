//! Who may come in by SSH: public keys that the admin added, those of the setup file and those of the image, written
//! together where the server reads them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sarai_wire::control::SshKeyInfo;
use sha2::{Digest, Sha256};

use crate::config::read_bounded;
use crate::layout::Layout;

/// Name of the files, below the folders of state, run and settings.
pub const FILE: &str = "authorized_keys";
/// The admin's home below the run folder: nothing but what the server reads.
pub const HOME: &str = "admin";
/// Most keys of one file.
pub const MAX_KEYS: usize = 64;
/// Longest line, bytes: an RSA key of 16384 bits fits.
pub const MAX_LINE: usize = 4096;
/// Largest file, bytes.
const MAX_FILE: u64 = (MAX_KEYS * (MAX_LINE + 1)) as u64;
/// What every key is held to besides what the server is told: a prompt and nothing else.
const RESTRICTIONS: &str = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding";
/// Kinds of keys, without those that are broken.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// What can go wrong with these keys. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum AuthorizedError {
    /// The line is no public key.
    #[error("read the key: {0}")]
    Line(&'static str),
    /// It is there already.
    #[error("add the key: it is there already")]
    Taken,
    /// There are too many.
    #[error("add a key: there are {MAX_KEYS} already; remove some first")]
    TooMany,
    /// There is no such key.
    #[error("remove the key: no key that was added here has that fingerprint; see: sarai ssh-keys list")]
    Unknown,
    /// A file could not be read or written.
    #[error("keep {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// One public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    kind: String,
    /// Base64, as it was written.
    text: String,
    blob: Vec<u8>,
    comment: String,
}

impl Key {
    /// Reads a line `KIND BASE64 [COMMENT]`. Options are not taken: what a key may do is for the machine to say.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, AuthorizedError> {
        let wrong = AuthorizedError::Line;
        let line = line.trim();
        if line.len() > MAX_LINE {
            return Err(wrong("it is longer than 4096 bytes"));
        }
        if line.chars().any(char::is_control) {
            return Err(wrong("a key is one line of printable characters"));
        }
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        if !KINDS.contains(&kind) {
            return Err(wrong(
                "it does not begin with ssh-ed25519 or another kind of public key",
            ));
        }
        let (text, comment) = rest.trim_start().split_once(' ').unwrap_or((rest.trim(), ""));
        // Padded: the server takes no other.
        let blob = base64(text)
            .filter(|_| text.len().is_multiple_of(4))
            .ok_or(wrong("what follows the kind is no base64"))?;
        if !is_blob(&blob, kind) {
            return Err(wrong("it is cut, or of another kind than it says"));
        }
        // Kind and key, each with its length before it.
        if kind == "ssh-ed25519" && blob.len() != 4 + 11 + 4 + 32 {
            return Err(wrong("it is cut"));
        }
        if kind == "ssh-rsa" && blob.len() < 256 {
            return Err(wrong("an RSA key has at least 2048 bits"));
        }
        Ok(Self {
            kind: kind.to_owned(),
            text: text.to_owned(),
            blob,
            comment: comment.trim().to_owned(),
        })
    }

    /// SHA-256 as OpenSSH shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.blob)
    }

    fn line(&self) -> String {
        format!("{} {} {}", self.kind, self.text, self.comment)
            .trim_end()
            .to_owned()
    }

    fn info(&self, source: &str) -> SshKeyInfo {
        SshKeyInfo {
            kind: self.kind.clone(),
            fingerprint: self.fingerprint(),
            comment: self.comment.clone(),
            source: source.to_owned(),
        }
    }
}

/// The wire form of a public key: fields of which each begins with its length, filling the whole; the first is the
/// type.
fn is_blob(mut blob: &[u8], kind: &str) -> bool {
    let mut fields = 0;
    while let Some((length, rest)) = blob.split_first_chunk::<4>() {
        let Some((field, after)) = usize::try_from(u32::from_be_bytes(*length))
            .ok()
            .and_then(|length| rest.split_at_checked(length))
        else {
            return false;
        };
        if fields == 0 && field != kind.as_bytes() {
            return false;
        }
        fields += 1;
        blob = after;
    }
    blob.is_empty() && fields >= 2
}

/// SHA-256 of a public key as OpenSSH shows it.
#[must_use]
pub fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", base64_of(&Sha256::digest(blob)))
}

/// The keys of this machine.
pub struct Authorized<'a>(pub &'a Layout);

impl Authorized<'_> {
    fn added(&self) -> PathBuf {
        self.0.state().join(FILE)
    }

    /// Where the other keys are, and what they are called.
    fn given(&self) -> [(PathBuf, &'static str); 2] {
        [(self.0.run.join(FILE), "setup"), (self.0.etc.join(FILE), "image")]
    }

    /// Every key and where it is from. What is no key is left out.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn list(&self) -> Result<Vec<SshKeyInfo>, AuthorizedError> {
        Ok(self.all()?.iter().map(|(key, source)| key.info(source)).collect())
    }

    fn all(&self) -> Result<Vec<(Key, &'static str)>, AuthorizedError> {
        let mut all: Vec<(Key, &'static str)> = Vec::new();
        for (path, source) in [(self.added(), "added")].into_iter().chain(self.given()) {
            for key in read(&path)? {
                if all.iter().all(|(known, _)| known.blob != key.blob) {
                    all.push((key, source));
                }
            }
        }
        Ok(all)
    }

    /// Adds a key; gives what it is.
    ///
    /// # Errors
    /// When it is none, there already or too much, or when it cannot be written.
    pub fn add(&self, line: &str) -> Result<SshKeyInfo, AuthorizedError> {
        let key = Key::parse(line)?;
        if self.all()?.iter().any(|(known, _)| known.blob == key.blob) {
            return Err(AuthorizedError::Taken);
        }
        let mut keys = read(&self.added())?;
        if keys.len() >= MAX_KEYS {
            return Err(AuthorizedError::TooMany);
        }
        keys.push(key.clone());
        self.keep(&keys)?;
        Ok(key.info("added"))
    }

    /// Removes a key that was added, by its fingerprint.
    ///
    /// # Errors
    /// When there is none, or when that cannot be written.
    pub fn remove(&self, fingerprint: &str) -> Result<(), AuthorizedError> {
        let mut keys = read(&self.added())?;
        let before = keys.len();
        keys.retain(|key| key.fingerprint() != fingerprint);
        if keys.len() == before {
            return Err(AuthorizedError::Unknown);
        }
        self.keep(&keys)
    }

    fn keep(&self, keys: &[Key]) -> Result<(), AuthorizedError> {
        let text: String = keys.iter().map(|key| key.line() + "\n").collect();
        write(&self.added(), &text)
    }

    /// Writes all of them where the server reads them; gives how many there are.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn hand_out(&self) -> Result<usize, AuthorizedError> {
        let all = self.all()?;
        let folder = self.0.run.join(HOME).join(".ssh");
        fs::create_dir_all(&folder).map_err(|e| file(&folder, &e))?;
        let text: String = all
            .iter()
            .map(|(key, _)| format!("{RESTRICTIONS} {}\n", key.line()))
            .collect();
        write(&folder.join(FILE), &text)?;
        Ok(all.len())
    }
}

fn file(path: &Path, error: &io::Error) -> AuthorizedError {
    AuthorizedError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn read(path: &Path) -> Result<Vec<Key>, AuthorizedError> {
    let text = read_bounded(path, MAX_FILE).map_err(|e| file(path, &e))?;
    let lines = text.iter().flat_map(|text| text.lines());
    Ok(lines
        .filter_map(|line| Key::parse(line).ok())
        .take(MAX_KEYS)
        .collect())
}

/// Readable by the user that the server runs as, and writable by the supervisor alone.
fn write(path: &Path, text: &str) -> Result<(), AuthorizedError> {
    sarai_trust::atomic::write(path, text.as_bytes(), 0o644).map_err(|e| AuthorizedError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648, without padding.
fn base64_of(bytes: &[u8]) -> String {
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let at = |n: usize| u32::from(part.get(n).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=part.len() {
            out.push(char::from(ALPHABET[(group >> (18 - 6 * n) & 63) as usize]));
        }
    }
    out
}

/// RFC 4648, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 || digits.is_empty() {
        return None;
    }
    let (mut bits, mut held, mut out) = (0u32, 0, Vec::with_capacity(digits.len() * 3 / 4));
    for byte in digits.bytes() {
        let value = ALPHABET.iter().position(|known| *known == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@home";

    fn padded(bytes: &[u8]) -> String {
        let text = base64_of(bytes);
        let length = text.len().next_multiple_of(4);
        format!("{text:=<length$}")
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::native(dir.path()).unwrap();
        layout.make_folders().unwrap();
        fs::create_dir_all(&layout.etc).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_key_is_read_and_anything_else_refused_with_what_is_wrong() {
        let key = Key::parse(KEY).unwrap();
        assert_eq!((key.line().as_str(), key.comment.as_str()), (KEY, "me@home"));
        assert!(key.fingerprint().starts_with("SHA256:") && key.fingerprint().len() == 50);
        for (from, to) in [
            ("ssh-ed25519 ", "command=\"sh\" ssh-ed25519 "),
            ("ssh-ed25519 ", "ssh-dss "),
            ("ssh-ed25519 ", "ssh-rsa "),
            ("AAAAC3", "AAAA C3"),
            ("AAAAC3", "====C3"),
            (" me", "\n me"),
            (KEY, ""),
        ] {
            assert!(Key::parse(&KEY.replace(from, to)).is_err(), "{from} -> {to}");
        }
        // Of a length that needs padding.
        let blob = [&b"\0\0\0\x07ssh-rsa\0\0\x01\x04"[..], &[1; 260]].concat();
        assert!(Key::parse(&format!("ssh-rsa {}", padded(&blob))).is_ok());
        assert!(Key::parse(&format!("ssh-rsa {}", base64_of(&blob))).is_err());
        let after = padded(&[&blob[..], &[0; 3]].concat());
        assert!(Key::parse(&format!("ssh-rsa {after}")).is_err(), "{after}");
        let cut = KEY.replace("GhscHR4f", "Ghs");
        assert!(Key::parse(&cut).is_err(), "{cut}");
        assert!(Key::parse(&format!("{KEY} {}", "x".repeat(5000))).is_err());
    }

    #[test]
    fn keys_are_added_once_listed_with_their_source_and_removed() {
        let (_dir, layout) = layout();
        let keys = Authorized(&layout);
        assert_eq!(keys.hand_out().unwrap(), 0);
        let added = keys.add(KEY).unwrap();
        assert!(matches!(keys.add(KEY), Err(AuthorizedError::Taken)));
        let other = KEY.replace("AABAgM", "AABAgN");
        fs::write(layout.run.join(FILE), format!("{other}\n{KEY}\nrubbish\n")).unwrap();
        let list = keys.list().unwrap();
        assert_eq!(
            list.iter().map(|k| k.source.as_str()).collect::<Vec<_>>(),
            ["added", "setup"]
        );
        assert_eq!(keys.hand_out().unwrap(), 2);
        let handed = fs::read_to_string(layout.run.join(HOME).join(".ssh").join(FILE)).unwrap();
        assert!(
            handed.lines().all(|line| line.starts_with("no-port-forwarding,")),
            "{handed}"
        );
        assert!(handed.contains(KEY) && handed.contains(&other) && !handed.contains("rubbish"));
        assert!(matches!(
            keys.remove(&list[1].fingerprint),
            Err(AuthorizedError::Unknown)
        ));
        keys.remove(&added.fingerprint).unwrap();
        // The setup file has it, too.
        assert_eq!(keys.hand_out().unwrap(), 2);
        assert!(keys.list().unwrap().iter().all(|key| key.source == "setup"));
    }

    proptest! {
        #[test]
        fn base64_is_its_own_inverse(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            prop_assert_eq!(base64(&padded(&bytes)).unwrap(), bytes.clone());
            prop_assert_eq!(base64(&base64_of(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,200}") {
            let _ = Key::parse(&line);
            let _ = Key::parse(&format!("ssh-ed25519 {line}"));
        }
    }
}
