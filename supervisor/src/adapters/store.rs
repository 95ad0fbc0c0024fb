//! The store: `NAME.gguf`, its attestation `NAME.toml`, and the signature `NAME.toml.asc`, as for models. Of those that
//! were accepted and those that were rejected, the newest are kept.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;
use sarai_trust::{
    Attestation, Checked, DeviceKey, Digest, Expect, FORMAT, Keyring, Kind, MAX_DOCUMENT, MAX_SIGNATURE,
    TrustError, Verified, atomic, check_document, hash_file, is_id, open_verified, read_bounded,
};
use sarai_wire::adapter::MAX_ADAPTER;

/// How many are kept of those that were accepted, and of those that were rejected.
pub const KEPT: usize = 30;
/// Longest name, bytes: with an ending it fits the header of a tar archive.
pub const MAX_NAME: usize = 80;
/// Most files that are looked at.
const MAX_FILES: usize = 4096;
/// Ending of an adapter's file.
const ENDING: &str = "gguf";
/// Ending of a file that is being written.
const ASIDE: &str = ".gguf.new";

/// A file of the store, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name without the ending.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub written: SystemTime,
}

/// Whether a text may be the name of an adapter.
#[must_use]
pub fn is_name(text: &str) -> bool {
    is_id(text) && text.len() <= MAX_NAME
}

fn file(folder: &Path, name: &str, ending: &str) -> PathBuf {
    folder.join(format!("{name}.{ending}"))
}

/// Every adapter's file, the newest first.
///
/// # Errors
/// When the folder cannot be read; fits after "failed to".
pub fn list(folder: &Path) -> Result<Vec<Found>, String> {
    let wrong = |e: std::io::Error| format!("list {}: {e}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)?.take(MAX_FILES) {
        let entry = entry.map_err(wrong)?;
        let path = entry.path();
        let name = path.file_stem().and_then(|stem| stem.to_str());
        let Some(name) = name.filter(|name| is_name(name) && path.extension().is_some_and(|e| e == ENDING))
        else {
            continue;
        };
        let Ok(metadata) = entry.metadata() else { continue };
        found.push(Found {
            name: name.to_owned(),
            size: metadata.len(),
            written: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        });
    }
    found.sort_by(|a, b| (b.written, &b.name).cmp(&(a.written, &a.name)));
    Ok(found)
}

/// What an adapter's attestation must be for. Sequences do not count: going back is wanted.
fn expected(base: Option<Digest>, sha256: Option<Digest>) -> Expect<'static> {
    Expect {
        kind: Kind::Adapter,
        id: None,
        sha256,
        base,
        now: Timestamp::now(),
        highest_seen: 0,
    }
}

/// What an adapter's attestation says, where its signature holds; its file is not read.
///
/// # Errors
/// Why it does not hold.
pub fn attested(folder: &Path, name: &str, keyring: &Keyring) -> Result<Checked, TrustError> {
    let too_large = |bound: u64| TrustError::DocumentTooLarge { size: bound + 1 };
    let document =
        read_bounded(&file(folder, name, "toml"), MAX_DOCUMENT)?.ok_or_else(|| too_large(MAX_DOCUMENT))?;
    let signature = match read_bounded(&file(folder, name, "toml.asc"), MAX_SIGNATURE) {
        Ok(signature) => Some(signature.ok_or_else(|| too_large(MAX_SIGNATURE))?),
        Err(TrustError::MissingFile { .. }) => None,
        Err(e) => return Err(e),
    };
    check_document(&document, signature.as_deref(), keyring, &expected(None, None))
}

/// Opens and verifies an adapter for the model `base`; with `sha256`, it must be that one.
///
/// # Errors
/// Why it is refused: the error's name and text.
pub fn open(
    folder: &Path,
    name: &str,
    keyring: &Keyring,
    base: Digest,
    sha256: Option<Digest>,
) -> Result<Verified, String> {
    let opened = open_verified(
        folder,
        &format!("{name}.{ENDING}"),
        keyring,
        &expected(Some(base), sha256),
        &mut |_, _| {},
    );
    let mut verified = opened.map_err(|e| format!("{}: failed to {e}", e.name()))?;
    if verified.attestation.size > MAX_ADAPTER {
        return Err(format!(
            "too-large: failed to accept the adapter: {} bytes exceed {MAX_ADAPTER}",
            verified.attestation.size
        ));
    }
    verified
        .file
        .rewind()
        .map_err(|e| format!("io: failed to rewind {name}: {e}"))?;
    Ok(verified)
}

/// The files of an adapter, for whoever wants them elsewhere: what there is of the three.
///
/// # Errors
/// When there is no such adapter, or it cannot be read; fits after "failed to".
pub fn export(folder: &Path, name: &str) -> Result<Vec<(String, File)>, String> {
    files(folder, name, &[ENDING, "toml", "toml.asc"])
        .map_err(|why| format!("find the adapter {name:?}: {why}; see: sarai adapters list"))
}

/// Opens what there is of a name's files, of which there must be the first.
///
/// # Errors
/// What is wrong; fits after a colon.
pub fn files(folder: &Path, name: &str, endings: &[&str]) -> Result<Vec<(String, File)>, String> {
    if !is_name(name) {
        return Err("that is no name of one".to_owned());
    }
    let mut files = Vec::new();
    for ending in endings {
        let path = file(folder, name, ending);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path);
        match opened {
            Ok(opened) => {
                if !opened.metadata().is_ok_and(|metadata| metadata.is_file()) {
                    return Err(format!("{} is not a regular file", path.display()));
                }
                files.push((format!("{name}.{ending}"), opened));
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !files.is_empty() => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Err("there is none".to_owned()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
    }
    Ok(files)
}

/// What a new adapter is called and what it is for.
#[derive(Debug, Clone)]
pub struct Label {
    /// Its name in the store, and its id.
    pub name: String,
    /// For people.
    pub version: String,
    /// Counts up.
    pub sequence: u64,
    /// SHA-256 of its base.
    pub base: Digest,
}

/// Puts an adapter that was made here into the store, attested by this machine's own key; gives its digest. The
/// signature comes last: without it, what a power cut left is refused.
///
/// # Errors
/// When it cannot be read, signed or written; fits after "failed to".
pub fn add(folder: &Path, content: &File, label: &Label, key: &DeviceKey) -> Result<Digest, String> {
    let Label {
        name,
        version,
        sequence,
        base,
    } = label;
    copy(folder, content, name)?;
    let stored = File::open(file(folder, name, ENDING)).map_err(|e| format!("open the copy: {e}"))?;
    let hashes = hash_file(&stored, &mut |_, _| {}).map_err(|e| format!("hash the copy: {e}"))?;
    let document = Attestation {
        format: FORMAT,
        kind: Kind::Adapter,
        id: name.clone(),
        version: version.clone(),
        sequence: *sequence,
        expires: None,
        size: hashes.size,
        sha256: hashes.sha256,
        verity: hashes.verity,
        base: Some(*base),
        memory: None,
        probe: None,
    }
    .render()
    .map_err(|e| e.to_string())?;
    let signature = key
        .sign_detached(document.as_bytes())
        .map_err(|e| e.to_string())?;
    for (ending, bytes) in [("toml", document.as_bytes()), ("toml.asc", &signature[..])] {
        atomic::write(&file(folder, name, ending), bytes, 0o600).map_err(|e| e.to_string())?;
    }
    Ok(hashes.sha256)
}

/// Keeps an adapter that was not accepted, for a look: without a document, so that nothing ever loads it.
///
/// # Errors
/// When it cannot be read or written; fits after "failed to".
pub fn add_unsigned(folder: &Path, content: &File, name: &str) -> Result<(), String> {
    copy(folder, content, name)
}

/// Writes a file of the store whole or not at all. Nothing of that name is there afterwards but this.
fn copy(folder: &Path, content: &File, name: &str) -> Result<(), String> {
    if !is_name(name) {
        return Err(format!("keep an adapter as {name:?}: that is no name of one"));
    }
    let wrong = |what: &str, e: std::io::Error| format!("{what} {name} in {}: {e}", folder.display());
    let aside = folder.join(format!(".{name}{ASIDE}"));
    let mut to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&aside)
        .map_err(|e| wrong("create", e))?;
    let written = (|| {
        let mut block = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match content.read_at(&mut block, at) {
                Ok(0) => return to.sync_all(),
                Ok(read) => {
                    at += read as u64;
                    if at > MAX_ADAPTER {
                        return Err(std::io::Error::other(format!("it exceeds {MAX_ADAPTER} bytes")));
                    }
                    to.write_all(&block[..read])?;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    })();
    if let Err(e) = written {
        let _ = std::fs::remove_file(&aside);
        return Err(wrong("write", e));
    }
    remove(folder, name)?;
    std::fs::rename(&aside, file(folder, name, ENDING)).map_err(|e| wrong("name", e))?;
    atomic::sync_folder(folder).map_err(|e| e.to_string())
}

/// Removes an adapter; the signature first, so that a half that is left is refused.
fn remove(folder: &Path, name: &str) -> Result<(), String> {
    for ending in ["toml.asc", "toml", ENDING] {
        match std::fs::remove_file(file(folder, name, ending)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("remove {name} from {}: {e}", folder.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the oldest of those that were accepted and of those that were rejected, beyond [`KEPT`] of each, and what a
/// power cut left half-written. What `needed` names stays. Gives the names of what was removed.
///
/// # Errors
/// When the folder cannot be read or changed; fits after "failed to".
pub fn prune(
    folder: &Path,
    needed: impl Fn(&str) -> bool,
    rejected: impl Fn(&str) -> bool,
) -> Result<Vec<String>, String> {
    for entry in std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .take(MAX_FILES)
        .flatten()
    {
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with('.') && name.ends_with(ASIDE))
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let (mut accepted, mut against) = (0, 0);
    let mut removed = Vec::new();
    for found in list(folder)? {
        if needed(&found.name) {
            continue;
        }
        let count = if rejected(&found.name) {
            &mut against
        } else {
            &mut accepted
        };
        *count += 1;
        if *count > KEPT {
            remove(folder, &found.name)?;
            removed.push(found.name);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests;
