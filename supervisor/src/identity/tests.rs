use super::*;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn names() -> pki::Names {
    pki::Names {
        hostname: "sarai".into(),
        announced: None,
        addresses: Default::default(),
    }
}

fn first_boot(layout: &Layout) -> Vec<String> {
    layout.make_folders().unwrap();
    let (identity, problems) = ensure(layout, now(), now()).unwrap();
    certify(layout, &identity.authority, &names(), now()).unwrap();
    assert!(usable(layout, &identity.authority, now()));
    problems
}

/// Every file of a finished first boot, in the order in which they are made.
fn artifacts(layout: &Layout) -> Vec<PathBuf> {
    vec![
        layout.keys().join("device.key"),
        layout.keys().join("ca.pem"),
        layout.ca(),
        layout.gateway().join(keys::FILE),
        layout.gateway().join("server.key"),
        layout.gateway().join("server.crt"),
    ]
}

fn snapshot(layout: &Layout) -> Vec<Vec<u8>> {
    artifacts(layout)
        .iter()
        .map(|path| fs::read(path).unwrap())
        .collect()
}

#[test]
fn a_second_boot_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::native(dir.path()).unwrap();
    assert!(first_boot(&layout).is_empty());
    keys::Store::at(&layout.gateway()).add("phone", now()).unwrap();
    let before = snapshot(&layout);
    assert!(first_boot(&layout).is_empty());
    let after = snapshot(&layout);
    assert_eq!(before, after);
}

#[test]
fn secrets_are_readable_by_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::native(dir.path()).unwrap();
    first_boot(&layout);
    for path in &artifacts(&layout)[..2] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
    }
    let mode = fs::metadata(layout.gateway().join("server.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o007, 0);
}

/// A power cut between two writes leaves a prefix of the files, and perhaps half of the next one written aside.
#[test]
fn a_first_boot_cut_after_any_write_is_completed_by_the_next() {
    let whole = tempfile::tempdir().unwrap();
    let finished = Layout::native(whole.path()).unwrap();
    first_boot(&finished);
    let (paths, bytes) = (artifacts(&finished), snapshot(&finished));
    for cut in 0..=paths.len() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::native(dir.path()).unwrap();
        layout.make_folders().unwrap();
        let mine = artifacts(&layout);
        for n in 0..cut {
            fs::write(&mine[n], &bytes[n]).unwrap();
        }
        if let Some(next) = mine.get(cut) {
            let aside = next.with_file_name(format!(".{}.new", next.file_name().unwrap().to_str().unwrap()));
            fs::write(aside, &bytes[cut][..bytes[cut].len() / 2]).unwrap();
        }
        assert!(first_boot(&layout).is_empty(), "cut after {cut}");
        let after = snapshot(&layout);
        for n in 0..cut {
            assert_eq!(after[n], bytes[n], "file {n} was kept, cut after {cut}");
        }
    }
}

/// Atomic writes should make this impossible; a dying disk makes it possible all the same.
#[test]
fn a_damaged_file_is_set_aside_and_the_machine_comes_up() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::native(dir.path()).unwrap();
    first_boot(&layout);
    for name in ["device.key", "ca.pem"] {
        let path = layout.keys().join(name);
        for damage in [&b""[..], b"garbage", &[0; 4096]] {
            fs::write(&path, damage).unwrap();
            let problems = first_boot(&layout);
            assert!(
                problems.len() == 1 && problems[0].contains("damaged"),
                "{name}: {problems:?}"
            );
            assert!(first_boot(&layout).is_empty());
        }
    }
    fs::write(layout.gateway().join("server.key"), "garbage").unwrap();
    first_boot(&layout);
    pki::key_from_bytes(&fs::read(layout.gateway().join("server.key")).unwrap()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::native(dir.path()).unwrap();
    fs::create_dir_all(layout.keys().join("device.key")).unwrap();
    let error = ensure(&layout, now(), now()).err().unwrap().to_string();
    assert!(error.contains("device.key"), "{error}");
}

#[test]
fn a_new_address_changes_the_certificate_and_keeps_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::native(dir.path()).unwrap();
    first_boot(&layout);
    let before = snapshot(&layout);
    let (identity, _) = ensure(&layout, now(), now()).unwrap();
    let mut moved = names();
    moved.addresses.insert("10.9.8.7".parse().unwrap());
    assert!(certify(&layout, &identity.authority, &moved, now()).unwrap().1);
    assert!(!certify(&layout, &identity.authority, &moved, now()).unwrap().1);
    assert!(
        !certify(&layout, &identity.authority, &names(), now()).unwrap().1,
        "an address too many is fine"
    );
    let after = snapshot(&layout);
    assert_eq!(before[..5], after[..5]);
    assert_ne!(before[5], after[5]);
}
