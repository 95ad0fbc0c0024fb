//! Merged models until an admin takes them away: `ID.gguf`, its attestation `ID.toml`, the signature `ID.toml.asc`, and
//! the device's certificate `ID.device.asc`, by which others hold it to the signature. A folder of their own: what is in
//! the model store is loaded, and what is here never is.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sarai_trust::{
    Attestation, DeviceKey, Expect, FORMAT, Keyring, Kind, MAX_DOCUMENT, MAX_SIGNATURE, MemoryEnvelope,
    TrustError, atomic, check_document, hash_file, read_bounded,
};
use sarai_wire::merge::{MergeOutcome, MergedModel};

use crate::adapters::store::{files, is_name};
use crate::models;
use crate::night::jobs::MORE;

/// Most that are kept at a time: each is as large as its base.
pub const MOST: usize = 8;
/// Most files that are looked at.
const MAX_FILES: usize = 256;
/// What the names of its files end with; the last is written last.
pub const ENDINGS: [&str; 4] = ["gguf", "device.asc", "toml", "toml.asc"];

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// What is in it.
#[derive(Default)]
struct Content {
    /// By id, the endings that there are.
    known: BTreeMap<String, Vec<&'static str>>,
    /// Everything else.
    others: Vec<PathBuf>,
}

/// What a merged model's attestation says besides what its bytes say.
#[derive(Debug, Clone)]
pub struct Label {
    /// Its id.
    pub id: String,
    /// For people: what was merged.
    pub version: String,
    /// Counts up.
    pub sequence: u64,
    /// When base or adapter are void.
    pub expires: Option<Timestamp>,
    /// What the base needs in memory.
    pub memory: Option<MemoryEnvelope>,
    /// Size of the base, bytes.
    pub base: u64,
}

impl Folder {
    /// In this folder.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, id: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{id}.{ending}"))
    }

    fn aside(&self, id: &str) -> PathBuf {
        self.0.join(format!(".{id}.gguf.new"))
    }

    fn wrong(&self, what: &str, e: &io::Error) -> String {
        format!("{what} {}: {e}", self.0.display())
    }

    fn look(&self) -> Result<Content, String> {
        let wrong = |e: io::Error| self.wrong("list", &e);
        let mut content = Content::default();
        for entry in std::fs::read_dir(&self.0).map_err(wrong)?.take(MAX_FILES) {
            let path = entry.map_err(wrong)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let found = ENDINGS.into_iter().find_map(|ending| {
                let id = name.strip_suffix(ending)?.strip_suffix('.')?;
                is_name(id).then(|| (id.to_owned(), ending))
            });
            match found {
                Some((id, ending)) => content.known.entry(id).or_default().push(ending),
                None => content.others.push(path),
            }
        }
        Ok(content)
    }

    /// Ids of what is there as a whole.
    fn ids(&self) -> Result<Vec<String>, String> {
        let whole = |(id, endings): (String, Vec<_>)| (endings.len() == ENDINGS.len()).then_some(id);
        Ok(self.look()?.known.into_iter().filter_map(whole).collect())
    }

    /// Whether one more may be made under this id.
    ///
    /// # Errors
    /// Why not; fits after "failed to".
    pub fn takes(&self, id: &str) -> Result<(), String> {
        let ids = self.ids()?;
        if ids.iter().any(|found| found == id) {
            return Err(format!(
                "merge as {id:?}: there is one of that id; remove it or say another (--id)"
            ));
        }
        if ids.len() >= MOST {
            return Err(format!(
                "merge as {id:?}: {MOST} merged models are kept, which is the most; remove one"
            ));
        }
        Ok(())
    }

    /// An empty file for the merged model, aside.
    ///
    /// # Errors
    /// When it cannot be made; fits after "failed to".
    pub fn begin(&self, id: &str) -> Result<File, String> {
        self.clear()?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.aside(id))
            .map_err(|e| self.wrong("make a file in", &e))
    }

    /// Attests what was written aside, if it is what the trainer says it wrote, and puts it there. The signature comes
    /// last: without it, what a power cut left is not shown, and removed.
    ///
    /// # Errors
    /// When it is something else, or cannot be signed or written; fits after "failed to".
    pub fn put(&self, label: &Label, outcome: &MergeOutcome, key: &DeviceKey) -> Result<MergedModel, String> {
        let Label { id, .. } = label;
        let aside = self.aside(id);
        let written = File::open(&aside).map_err(|e| self.wrong("open what was merged in", &e))?;
        let hashes =
            hash_file(&written, &mut |_, _| {}).map_err(|e| self.wrong("read what was merged in", &e))?;
        if hashes.size != outcome.size || hashes.sha256.to_string() != outcome.sha256 {
            return Err("attest the merged model: it is not what the trainer says it wrote".to_owned());
        }
        if hashes.size > label.base.saturating_add(MORE) {
            return Err(format!(
                "attest the merged model: it has {} bytes, {} more than its base",
                hashes.size,
                hashes.size - label.base
            ));
        }
        let document = Attestation {
            format: FORMAT,
            kind: Kind::Model,
            id: id.clone(),
            version: label.version.clone(),
            sequence: label.sequence,
            expires: label.expires,
            size: hashes.size,
            sha256: hashes.sha256,
            verity: hashes.verity,
            base: None,
            memory: label.memory.map(|memory| MemoryEnvelope {
                weights: memory
                    .weights
                    .saturating_add(hashes.size.saturating_sub(label.base)),
                ..memory
            }),
            // What the base answers, this one need not.
            probe: None,
        };
        let text = document.render().map_err(|e| e.to_string())?;
        let signature = key.sign_detached(text.as_bytes()).map_err(|e| e.to_string())?;
        let certificate = key.certificate_bytes().map_err(|e| e.to_string())?;
        written
            .sync_all()
            .map_err(|e| self.wrong("flush what was merged in", &e))?;
        std::fs::rename(&aside, self.file(id, "gguf"))
            .map_err(|e| self.wrong("name what was merged in", &e))?;
        atomic::sync_folder(&self.0).map_err(|e| e.to_string())?;
        for (ending, bytes) in [
            ("device.asc", &certificate[..]),
            ("toml", text.as_bytes()),
            ("toml.asc", &signature),
        ] {
            atomic::write(&self.file(id, ending), bytes, 0o600).map_err(|e| e.to_string())?;
        }
        // What reading it brought into memory is of no more use.
        models::hand_over(&written);
        Ok(shown(document, key.fingerprint()))
    }

    /// Removes whatever is not a whole merged model.
    ///
    /// # Errors
    /// When something stays; fits after "failed to".
    pub fn clear(&self) -> Result<(), String> {
        let Content { known, others } = self.look()?;
        let mut half = others;
        for (id, endings) in &known {
            if endings.len() < ENDINGS.len() {
                half.extend(endings.iter().map(|ending| self.file(id, ending)));
            }
        }
        for path in half {
            std::fs::remove_file(&path).map_err(|e| format!("remove {}: {e}", path.display()))?;
        }
        Ok(())
    }

    /// Every merged model whose signature by this device holds, and whose file is as long as that says. One that has
    /// expired since it was signed is among them: it can still be removed.
    ///
    /// # Errors
    /// When the folder cannot be read, or the device's certificate; fits after "failed to".
    pub fn list(&self, key: &DeviceKey) -> Result<Vec<MergedModel>, String> {
        let certificate = key.certificate_bytes().map_err(|e| e.to_string())?;
        // Of no other use than to show what this machine signed: what may be loaded is held to another keyring.
        let own = Keyring::default()
            .with_release(&certificate)
            .map_err(|e| e.to_string())?;
        let ids = self.ids()?;
        Ok(ids.iter().filter_map(|id| self.attested(id, &own)).collect())
    }

    fn attested(&self, id: &str, own: &Keyring) -> Option<MergedModel> {
        let read = |ending: &str, bound: u64| -> Result<Vec<u8>, TrustError> {
            let bytes = read_bounded(&self.file(id, ending), bound)?;
            bytes.ok_or(TrustError::DocumentTooLarge { size: bound + 1 })
        };
        let document = read("toml", MAX_DOCUMENT).ok()?;
        let signature = read("toml.asc", MAX_SIGNATURE).ok()?;
        let expect = Expect {
            kind: Kind::Model,
            id: Some(id),
            sha256: None,
            base: None,
            // Judged at the time of its signature, that is.
            now: Timestamp::UNIX_EPOCH,
            highest_seen: 0,
        };
        let checked = check_document(&document, Some(&signature), own, &expect).ok()?;
        let length = std::fs::symlink_metadata(self.file(id, "gguf")).ok()?.len();
        (length == checked.attestation.size).then(|| shown(checked.attestation, checked.signer))
    }

    /// The files of a merged model, for whoever takes it away.
    ///
    /// # Errors
    /// When there is none as a whole, or it cannot be read; fits after "failed to".
    pub fn export(&self, id: &str) -> Result<Vec<(String, File)>, String> {
        self.find(id)?;
        files(&self.0, id, &ENDINGS).map_err(|why| format!("find the merged model {id:?}: {why}"))
    }

    fn find(&self, id: &str) -> Result<(), String> {
        if self.ids()?.iter().any(|found| found == id) {
            return Ok(());
        }
        Err(format!(
            "find the merged model {id:?}: there is none; see: sarai adapters merged"
        ))
    }

    /// Removes a merged model; the signature first, so that a half that is left is not shown.
    ///
    /// # Errors
    /// When there is none, or it stays; fits after "failed to".
    pub fn remove(&self, id: &str) -> Result<(), String> {
        self.find(id)?;
        for ending in ENDINGS.into_iter().rev() {
            let path = self.file(id, ending);
            std::fs::remove_file(&path).map_err(|e| format!("remove {}: {e}", path.display()))?;
        }
        atomic::sync_folder(&self.0).map_err(|e| e.to_string())
    }
}

fn shown(attestation: Attestation, signer: String) -> MergedModel {
    MergedModel {
        id: attestation.id,
        version: attestation.version,
        size: attestation.size,
        digest: attestation.sha256.to_string(),
        signer,
    }
}

#[cfg(test)]
mod tests;
