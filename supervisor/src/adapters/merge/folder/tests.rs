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
    let judge = |keyring: &Keyring| check_document(&read("toml"), Some(&read("toml.asc")), keyring, &expect);
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
    let long = vec![1; usize::try_from(MORE).unwrap() + 6];
    world.folder.begin("m-a").unwrap().write_all(&long).unwrap();
    let error = world.folder.put(&label("m-a"), &outcome(&long), &world.key);
    assert!(error.unwrap_err().contains("1048577 more than its base"));
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
fn what_has_expired_since_can_still_be_removed() {
    let world = world();
    let expires = Timestamp::now() + jiff::SignedDuration::from_secs(1);
    world.folder.begin("m-a").unwrap().write_all(b"x").unwrap();
    let label = Label {
        expires: Some(expires),
        ..label("m-a")
    };
    world.folder.put(&label, &outcome(b"x"), &world.key).unwrap();
    while Timestamp::now() <= expires {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(world.listed(), ["m-a"]);
    world.folder.remove("m-a").unwrap();
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
