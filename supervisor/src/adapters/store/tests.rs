use super::*;
use std::io::Read as _;

struct World {
    folder: tempfile::TempDir,
    key: DeviceKey,
    keyring: Keyring,
}

const BASE: Digest = Digest::from_bytes([7; 32]);

fn world() -> World {
    let key = DeviceKey::generate().unwrap();
    let keyring = Keyring::default()
        .with_device(&key.certificate_bytes().unwrap())
        .unwrap();
    World {
        folder: tempfile::tempdir().unwrap(),
        key,
        keyring,
    }
}

impl World {
    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn add(&self, name: &str) -> Digest {
        let mut content = tempfile::tempfile().unwrap();
        write!(content, "not read by the store: {name}").unwrap();
        let label = Label {
            name: name.into(),
            version: "1".into(),
            sequence: 1,
            base: BASE,
        };
        add(self.path(), &content, &label, &self.key).unwrap()
    }

    fn refused(&self, name: &str) -> String {
        open(self.path(), name, &self.keyring, BASE, None).unwrap_err()
    }

    fn names(&self) -> Vec<String> {
        list(self.path()).unwrap().into_iter().map(|f| f.name).collect()
    }
}

#[test]
fn what_was_added_is_attested_by_the_device_and_verified_on_the_descriptor() {
    let world = world();
    let digest = world.add("night-1");
    let checked = attested(world.path(), "night-1", &world.keyring).unwrap();
    assert_eq!(
        (checked.attestation.sha256, checked.attestation.base),
        (digest, Some(BASE))
    );
    let mut verified = open(world.path(), "night-1", &world.keyring, BASE, Some(digest)).unwrap();
    let mut text = String::new();
    verified.file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "not read by the store: night-1");
    // The same name again is another adapter.
    assert_eq!(world.add("night-1"), digest);
    assert_eq!(world.names(), ["night-1"]);
}

#[test]
fn another_base_another_content_and_no_signature_are_refused_by_name() {
    let world = world();
    let digest = world.add("a");
    let other = open(
        world.path(),
        "a",
        &world.keyring,
        Digest::from_bytes([8; 32]),
        None,
    );
    assert!(
        other
            .unwrap_err()
            .starts_with("wrong-base: failed to accept the adapter")
    );
    let other = open(world.path(), "a", &world.keyring, BASE, Some(BASE));
    assert!(other.unwrap_err().starts_with("wrong-digest"));
    let stranger = Keyring::default();
    assert!(
        open(world.path(), "a", &stranger, BASE, None)
            .unwrap_err()
            .starts_with("unknown-signer")
    );
    std::fs::write(world.path().join("a.gguf"), "not read by the store: b").unwrap();
    assert!(world.refused("a").starts_with("wrong-digest"));
    std::fs::write(world.path().join("a.gguf"), "short").unwrap();
    assert!(world.refused("a").starts_with("wrong-size"));
    std::fs::remove_file(world.path().join("a.toml.asc")).unwrap();
    assert!(world.refused("a").starts_with("no-signature"));
    assert!(world.refused("none").starts_with("missing-file"));
    assert!(digest != BASE);
}

#[test]
fn a_rejected_one_has_no_document_and_cannot_be_opened() {
    let world = world();
    let mut content = tempfile::tempfile().unwrap();
    content.write_all(b"x").unwrap();
    // Also where an accepted one had the name.
    world.add("night-2");
    add_unsigned(world.path(), &content, "night-2").unwrap();
    assert!(world.refused("night-2").starts_with("missing-file"));
    let files = export(world.path(), "night-2").unwrap();
    assert_eq!(files.len(), 1);
}

#[test]
fn the_newest_are_kept_of_each_kind_and_what_is_needed_always() {
    let world = world();
    let begin = SystemTime::now();
    for n in 0..70_u64 {
        let name = format!("n{n:02}");
        world.add(&name);
        let written = begin + std::time::Duration::from_secs(n);
        let file = File::options()
            .write(true)
            .open(world.path().join(format!("{name}.gguf")));
        file.unwrap().set_modified(written).unwrap();
    }
    std::fs::write(world.path().join(".n99.gguf.new"), "half").unwrap();
    std::fs::write(world.path().join("README"), "x").unwrap();
    let rejected = |name: &str| name.ends_with('0') || name.ends_with('1');
    let removed = prune(world.path(), |name| name == "n02", rejected).unwrap();
    // 14 of 70 were rejected; of the other 56 the oldest 26 go, but for the one that is needed.
    assert_eq!(removed.len(), 25);
    assert!(removed.iter().all(|name| !rejected(name) && name != "n02"));
    assert_eq!(world.names().len(), 45);
    assert!(world.names().contains(&"n02".to_owned()));
    let left = std::fs::read_dir(world.path()).unwrap().count();
    assert_eq!(left, 45 * 3 + 1);
    assert!(prune(world.path(), |_| false, |_| false).unwrap().len() == 15);
}

#[test]
fn no_name_leaves_the_store() {
    let world = world();
    world.add("a");
    for name in ["../a", "", ".a", "a/b", &"x".repeat(81)] {
        assert!(export(world.path(), name).unwrap_err().contains("no name"));
        let content = tempfile::tempfile().unwrap();
        assert!(add_unsigned(world.path(), &content, name).is_err());
    }
    assert!(export(world.path(), "b").unwrap_err().contains("there is none"));
    std::os::unix::fs::symlink("a.gguf", world.path().join("link.gguf")).unwrap();
    assert!(export(world.path(), "link").is_err());
    assert_eq!(export(world.path(), "a").unwrap().len(), 3);
}
