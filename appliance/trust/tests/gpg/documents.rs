//! What the document says, and whether the file is what it says.

use std::path::Path;

use sarai_trust::{Attestation, Digest, Expect, Keyring, Kind, Method, open_verified};

use crate::support::{FILE, at};
use crate::{expect_model, open, refused, signed, signed_in_2020};

#[test]
fn what_gpg_signed_is_opened_and_named() {
    let (gpg, store) = signed();
    let pinned = Some(store.attestation().sha256);
    let mut last = (0, 0);
    let keyring = Keyring::load_dir(&store.keyring()).unwrap();
    let expect = Expect {
        sha256: pinned,
        highest_seen: 5,
        ..expect_model()
    };
    let verified = open_verified(&store.store(), FILE, &keyring, &expect, &mut |done, all| {
        last = (done, all)
    })
    .unwrap();
    assert_eq!(verified.signer, gpg.fingerprint());
    assert_eq!(verified.attestation, store.attestation());
    let mut content = String::new();
    std::io::Read::read_to_string(&mut &verified.file, &mut content).unwrap();
    assert_eq!(content.len(), 24_000, "the descriptor must be at offset 0");
    if verified.method == Method::FullHash {
        assert_eq!(last, (24_000, 24_000));
    }
    assert!(
        std::io::Write::write(&mut &verified.file, b"x").is_err(),
        "the descriptor must be read-only"
    );
}

#[test]
fn bad_signature_of_a_changed_document() {
    let (_gpg, store) = signed();
    let text = std::fs::read_to_string(store.document()).unwrap();
    for changed in [
        text.replace("sequence = 5", "sequence = 6"),
        format!("{text}\n"),
        text.replace('\n', "\r\n"),
        String::new(),
    ] {
        std::fs::write(store.document(), changed).unwrap();
        let error = refused(&store, &expect_model(), "bad-signature");
        assert!(error.to_string().contains("not what was signed"), "{error}");
    }
}

#[test]
fn bad_signature_of_what_is_not_a_detached_signature_over_exact_bytes() {
    let (gpg, store) = signed();
    let path = store.path("model.toml.asc");
    let good = std::fs::read(&path).unwrap();
    let document = store.document();
    let document = document.to_str().unwrap();

    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    refused(&store, &expect_model(), "bad-signature");
    std::fs::write(&path, "not a signature").unwrap();
    refused(&store, &expect_model(), "bad-signature");
    std::fs::write(&path, gpg.ok(&["--armor", "--export"], "")).unwrap();
    refused(&store, &expect_model(), "bad-signature");
    // A signed message holds a good signature over the same bytes, but is no detached one.
    std::fs::write(
        &path,
        gpg.ok(&["--armor", "--sign", "--output", "-", document], ""),
    )
    .unwrap();
    refused(&store, &expect_model(), "bad-signature");
    // Text signatures forgive changed line ends.
    gpg.sign_with(&store.document(), &["--textmode"]);
    refused(&store, &expect_model(), "bad-signature");
    // The signature of another document.
    std::fs::write(store.path("other"), "other").unwrap();
    gpg.sign(&store.path("other"));
    std::fs::rename(store.path("other.asc"), &path).unwrap();
    refused(&store, &expect_model(), "bad-signature");
}

#[test]
fn expired_attestation() {
    let (gpg, store) = signed();
    let end = at("2035-01-01T00:00:00Z");
    store.write(&Attestation {
        expires: Some(end),
        ..store.attestation()
    });
    gpg.sign(&store.document());
    open(&store, &expect_model()).unwrap();
    refused(
        &store,
        &Expect {
            now: end,
            ..expect_model()
        },
        "expired-attestation",
    );
    // A signature may end by itself, too.
    let (mut gpg, store) = signed_in_2020("never");
    gpg.time = Some("20200601T000000");
    gpg.sign_with(&store.document(), &["--default-sig-expire", "30d"]);
    open(
        &store,
        &Expect {
            now: at("2020-06-15T00:00:00Z"),
            ..expect_model()
        },
    )
    .unwrap();
    refused(
        &store,
        &Expect {
            now: at("2020-08-01T00:00:00Z"),
            ..expect_model()
        },
        "expired-attestation",
    );
}

#[test]
fn wrong_kind_wrong_id_old_sequence_wrong_pin() {
    let (_gpg, store) = signed();
    let expect = expect_model();
    refused(
        &store,
        &Expect {
            kind: Kind::Projector,
            ..expect
        },
        "wrong-kind",
    );
    refused(
        &store,
        &Expect {
            id: Some("another-model"),
            ..expect
        },
        "wrong-id",
    );
    refused(
        &store,
        &Expect {
            highest_seen: 6,
            ..expect
        },
        "old-sequence",
    );
    refused(
        &store,
        &Expect {
            sha256: Some(Digest::of(b"")),
            ..expect
        },
        "wrong-digest",
    );
    open(
        &store,
        &Expect {
            id: None,
            highest_seen: 5,
            ..expect
        },
    )
    .unwrap();
}

#[test]
fn an_adapter_of_another_base() {
    let (gpg, store) = signed();
    let base = Digest::of(b"base");
    store.write(&store.adapter(base));
    gpg.sign(&store.document());
    let expect = Expect {
        kind: Kind::Adapter,
        base: Some(base),
        ..expect_model()
    };
    open(&store, &expect).unwrap();
    refused(
        &store,
        &Expect {
            base: Some(Digest::of(b"another")),
            ..expect
        },
        "wrong-base",
    );
}

#[test]
fn wrong_size_of_a_cut_model_and_wrong_digest_of_a_flipped_bit() {
    let (_gpg, store) = signed();
    let good = std::fs::read(store.path(FILE)).unwrap();
    for size in [0, good.len() - 1] {
        std::fs::write(store.path(FILE), &good[..size]).unwrap();
        refused(&store, &expect_model(), "wrong-size");
    }
    std::fs::write(store.path(FILE), [&good[..], b"x"].concat()).unwrap();
    refused(&store, &expect_model(), "wrong-size");
    for at in [0, good.len() / 2, good.len() - 1] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(store.path(FILE), bytes).unwrap();
        refused(&store, &expect_model(), "wrong-digest");
    }
    std::fs::write(store.path(FILE), good).unwrap();
    open(&store, &expect_model()).unwrap();
}

#[test]
fn missing_files_and_files_that_are_none() {
    let (_gpg, store) = signed();
    std::fs::rename(store.path(FILE), store.path("real")).unwrap();
    refused(&store, &expect_model(), "missing-file");
    std::os::unix::fs::symlink("real", store.path(FILE)).unwrap();
    refused(&store, &expect_model(), "not-a-file");
    std::fs::rename(store.path("real"), store.path(FILE)).unwrap();
    std::fs::remove_file(store.document()).unwrap();
    refused(&store, &expect_model(), "missing-file");
    let keyring = Keyring::load_dir(&store.keyring()).unwrap();
    for (name, error) in [
        ("../model.gguf", "invalid-file-name"),
        ("none.gguf", "missing-file"),
    ] {
        let found =
            open_verified(&store.store(), name, &keyring, &expect_model(), &mut |_, _| ()).unwrap_err();
        assert_eq!(found.name(), error);
    }
    let gone = open_verified(
        Path::new("/nonexistent"),
        FILE,
        &keyring,
        &expect_model(),
        &mut |_, _| (),
    );
    assert_eq!(gone.unwrap_err().name(), "missing-file");
}

#[test]
fn document_too_large_signature_too_large() {
    let (_gpg, store) = signed();
    let small = std::fs::read(store.document()).unwrap();
    std::fs::write(store.document(), "#".repeat(64 * 1024 + 1)).unwrap();
    refused(&store, &expect_model(), "document-too-large");
    std::fs::write(store.document(), small).unwrap();
    std::fs::write(store.path("model.toml.asc"), "#".repeat(64 * 1024 + 1)).unwrap();
    refused(&store, &expect_model(), "signature-too-large");
}

#[test]
fn nothing_is_parsed_before_its_signature_holds() {
    let (gpg, store) = signed();
    let document = store.attestation().render().unwrap();
    let format_2 = document.replace("format = 1", "format = 2");
    for (text, name) in [
        ("GGUF is no TOML", "not-toml"),
        ("[[[[", "not-toml"),
        (format_2.as_str(), "unknown-format"),
        ("a = 1", "unknown-format"),
        ("format = 1", "invalid-document"),
    ] {
        std::fs::write(store.document(), text).unwrap();
        refused(&store, &expect_model(), "bad-signature");
        gpg.sign(&store.document());
        refused(&store, &expect_model(), name);
    }
}
