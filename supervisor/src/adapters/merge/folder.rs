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

    /// Every merged model whose signature by this device holds, and whose file is as long as that says.
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
            now: Timestamp::now(),
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
mod tests {
    use std::io::Write as _;

    use sarai_trust::Digest;

    use super::*;

    fn label(id: &str) -> Label {
        Label {
            id: id.into(),
            version: "1+2".into(),
            sequence: 7,
            expires: None,
            memory: Some(MemoryEnvelope {
                weights: 100,
                kv_per_token: 3,
            }),
            base: 5,
        }
    }

    fn outcome(bytes: &[u8]) -> MergeOutcome {
        MergeOutcome {
            tensors: 1,
            lost: 0.0,
            size: bytes.len() as u64,
            sha256: Digest::of(bytes).to_string(),
        }
    }

    struct World {
        dir: tempfile::TempDir,
        folder: Folder,
        key: DeviceKey,
    }

    fn world() -> World {
        let dir = tempfile::tempdir().unwrap();
        World {
            folder: Folder::at(dir.path().to_owned()),
            key: DeviceKey::generate().unwrap(),
            dir,
        }
    }

    impl World {
        fn add(&self, id: &str, bytes: &[u8]) -> MergedModel {
            self.folder.begin(id).unwrap().write_all(bytes).unwrap();
            self.folder.put(&label(id), &outcome(bytes), &self.key).unwrap()
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = std::fs::read_dir(self.dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn listed(&self) -> Vec<String> {
            let all = self.folder.list(&self.key).unwrap();
            all.into_iter().map(|model| model.id).collect()
        }
    }

    #[test]
    fn what_was_put_there_is_attested_by_the_device_which_vouches_for_no_model_that_is_loaded() {
        let world = world();
        let model = world.add("m-a", b"merged!");
        assert_eq!(
            world.folder.list(&world.key).unwrap(),
            std::slice::from_ref(&model)
        );
        assert_eq!((model.size, model.signer), (7, world.key.fingerprint()));
        let read = |ending: &str| std::fs::read(world.folder.file("m-a", ending)).unwrap();
        let expect = Expect {
            kind: Kind::Model,
            id: Some("m-a"),
            sha256: None,
            base: None,
            now: Timestamp::now(),
            highest_seen: 0,
        };
        let judge =
            |keyring: &Keyring| check_document(&read("toml"), Some(&read("toml.asc")), keyring, &expect);
        // Whoever takes the certificate that lies beside it for a release key's believes it.
        let theirs = Keyring::default().with_release(&read("device.asc")).unwrap();
        let memory = judge(&theirs).unwrap().attestation.memory.unwrap();
        assert_eq!((memory.weights, memory.kv_per_token), (102, 3));
        // This machine does not.
        let certificate = world.key.certificate_bytes().unwrap();
        let ours = Keyring::default().with_device(&certificate).unwrap();
        assert_eq!(judge(&ours).unwrap_err().name(), "signer-not-allowed");
    }

    #[test]
    fn what_the_trainer_did_not_write_is_not_signed() {
        let world = world();
        world.folder.begin("m-a").unwrap().write_all(b"other").unwrap();
        let error = world.folder.put(&label("m-a"), &outcome(b"merge"), &world.key);
        assert!(error.unwrap_err().contains("not what the trainer says"));
        assert_eq!(world.names(), [".m-a.gguf.new"]);
        world.folder.clear().unwrap();
        assert!(world.names().is_empty());
    }

    #[test]
    fn whatever_is_left_of_one_is_not_shown_and_removed() {
        let world = world();
        world.add("whole", b"x");
        let whole = world.names();
        assert_eq!(whole.len(), ENDINGS.len());
        // As the power cuts it after each step, and at a removal.
        for left in [
            &["gguf"][..],
            &["gguf", "device.asc"],
            &["gguf", "device.asc", "toml"],
            &["device.asc", "toml"],
            &["toml.asc"],
        ] {
            for ending in left {
                std::fs::write(world.folder.file("half", ending), "x").unwrap();
            }
            std::fs::write(world.dir.path().join(".half.toml.12-0.new"), "x").unwrap();
            assert_eq!(world.listed(), ["whole"]);
            world.folder.clear().unwrap();
            assert_eq!(world.names(), whole, "{left:?}");
        }
        // Signed by somebody else, or of another length.
        for ending in ENDINGS {
            std::fs::copy(
                world.folder.file("whole", ending),
                world.folder.file("other", ending),
            )
            .unwrap();
        }
        assert_eq!(world.listed(), ["whole"]);
        std::fs::write(world.folder.file("whole", "gguf"), "longer").unwrap();
        assert!(world.listed().is_empty());
    }

    #[test]
    fn there_is_one_of_an_id_and_a_bound_and_what_is_removed_is_gone() {
        let world = world();
        for number in 0..MOST {
            let id = format!("m-{number}");
            world.folder.takes(&id).unwrap();
            world.add(&id, b"x");
        }
        assert!(world.folder.takes("m-0").unwrap_err().contains("of that id"));
        assert!(
            world
                .folder
                .takes("more")
                .unwrap_err()
                .contains("8 merged models")
        );
        world.folder.remove("m-0").unwrap();
        world.folder.takes("more").unwrap();
        assert!(!world.listed().contains(&"m-0".to_owned()));
        assert_eq!(world.names().len(), (MOST - 1) * ENDINGS.len());
        for none in ["m-0", "", "../m-1", "m-1.gguf"] {
            assert!(world.folder.remove(none).unwrap_err().contains("there is none"));
        }
    }
}
