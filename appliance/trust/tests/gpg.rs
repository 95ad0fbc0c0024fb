//! Every verdict on documents, signatures and keys as the real gpg makes them.

mod support;

use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;
use sarai_trust::{
    Attestation, DeviceKey, Digest, Expect, Keyring, Kind, Method, TrustError, Verified, check_document,
    open_verified,
};
use support::{FILE, Gpg, Store, at};

fn expect_model() -> Expect<'static> {
    Expect {
        kind: Kind::Model,
        id: Some("test-model"),
        sha256: None,
        base: None,
        now: Timestamp::now(),
        highest_seen: 0,
    }
}

fn open(store: &Store, expect: &Expect<'_>) -> Result<Verified, TrustError> {
    let keyring = Keyring::load_dir(&store.keyring()).unwrap();
    open_verified(&store.store(), FILE, &keyring, expect, &mut |_, _| ())
}

#[track_caller]
fn refused(store: &Store, expect: &Expect<'_>, name: &str) -> TrustError {
    let error = open(store, expect).map(|v| v.attestation).unwrap_err();
    assert_eq!(error.name(), name, "{error}");
    error
}

/// A store whose model is signed by a key that its keyring holds.
fn signed() -> (Gpg, Store) {
    let (gpg, store) = (Gpg::with_key("Publisher"), Store::new());
    store.write(&store.attestation());
    gpg.sign(&store.document());
    gpg.export(&store.keyring(), "release.asc");
    (gpg, store)
}

/// The same, made in 2020 by a key that `generate` makes.
fn signed_in_2020(expires: &str) -> (Gpg, Store) {
    let (mut gpg, store) = (Gpg::new(), Store::new());
    gpg.time = Some("20200101T000000");
    gpg.generate("Publisher", "ed25519", expires);
    gpg.time = Some("20200601T000000");
    store.write(&store.attestation());
    gpg.sign(&store.document());
    gpg.export(&store.keyring(), "release.asc");
    (gpg, store)
}

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
fn a_signature_without_armor_and_one_by_a_subkey_hold_too() {
    let (gpg, store) = signed();
    gpg.sign_with(&store.document(), &["--no-armor"]);
    assert!(
        !std::fs::read(format!("{}.asc", store.document().display()))
            .unwrap()
            .starts_with(b"-----")
    );
    open(&store, &expect_model()).unwrap();

    gpg.ok(
        &[
            "--passphrase",
            "",
            "--quick-add-key",
            &gpg.fingerprint(),
            "ed25519",
            "sign",
            "never",
        ],
        "",
    );
    gpg.sign(&store.document());
    // The subkey is not in the keyring yet.
    refused(&store, &expect_model(), "unknown-signer");
    gpg.export(&store.keyring(), "release.asc");
    assert_eq!(open(&store, &expect_model()).unwrap().signer, gpg.fingerprint());
}

#[test]
fn rsa_and_ecdsa_keys_of_today_are_accepted_and_weak_ones_are_not() {
    for (algorithm, holds) in [("rsa3072", true), ("nistp256", true), ("rsa1024", false)] {
        let (gpg, store) = (Gpg::new(), Store::new());
        gpg.generate("Publisher", algorithm, "never");
        store.write(&store.attestation());
        gpg.sign(&store.document());
        gpg.export(&store.keyring(), "release.asc");
        if holds {
            open(&store, &expect_model()).unwrap();
        } else {
            let error = refused(&store, &expect_model(), "bad-signature");
            assert!(error.to_string().contains("RSA1024"), "{error}");
        }
    }
    let (gpg, store) = signed();
    gpg.sign_with(&store.document(), &["--digest-algo", "SHA1"]);
    let error = refused(&store, &expect_model(), "bad-signature");
    assert!(error.to_string().contains("SHA1"), "{error}");
}

#[test]
fn no_signature() {
    let (_gpg, store) = signed();
    let signature = store.path("model.toml.asc");
    std::fs::write(&signature, "").unwrap();
    refused(&store, &expect_model(), "no-signature");
    std::fs::remove_file(&signature).unwrap();
    refused(&store, &expect_model(), "no-signature");
}

#[test]
fn unknown_signer_even_under_a_known_name() {
    let (_gpg, store) = signed();
    let stranger = Gpg::with_key("Publisher");
    stranger.sign(&store.document());
    let error = refused(&store, &expect_model(), "unknown-signer");
    assert!(error.to_string().contains(&stranger.fingerprint()), "{error}");
    // Nobody is known at all.
    std::fs::remove_file(store.keyring().join("release.asc")).unwrap();
    refused(&store, &expect_model(), "unknown-signer");
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
fn one_good_signature_of_several_is_enough() {
    let (gpg, store) = signed();
    let path = store.path("model.toml.asc");
    let stranger = Gpg::with_key("Stranger");
    let document = store.document();
    let sign = |g: &Gpg| {
        g.ok(
            &["--detach-sign", "--output", "-", document.to_str().unwrap()],
            "",
        )
    };
    let both = [sign(&stranger), sign(&gpg)].concat();
    std::fs::write(&path, &both).unwrap();
    assert_eq!(open(&store, &expect_model()).unwrap().signer, gpg.fingerprint());
    // But there is an end to trying.
    std::fs::write(&path, sign(&stranger).repeat(17)).unwrap();
    refused(&store, &expect_model(), "bad-signature");
}

#[test]
fn revoked_key_whenever_and_for_whatever_reason_it_was() {
    for reason in 1..=3 {
        let (gpg, store) = signed();
        open(&store, &expect_model()).unwrap();
        gpg.revoke_because(reason);
        gpg.export(&store.keyring(), "release.asc");
        let error = refused(&store, &expect_model(), "revoked-key");
        assert!(error.to_string().contains("given by a test"), "{error}");
    }
}

#[test]
fn revoked_key_by_a_revocation_in_a_second_file() {
    let (gpg, store) = signed();
    gpg.revoke();
    gpg.export(&store.keyring(), "revoked-later.asc");
    refused(&store, &expect_model(), "revoked-key");
}

#[test]
fn revoked_key_though_the_clock_is_before_the_revocation() {
    let (mut gpg, store) = signed_in_2020("never");
    open(
        &store,
        &Expect {
            now: at("2020-07-01T00:00:00Z"),
            ..expect_model()
        },
    )
    .unwrap();
    gpg.time = Some("20210101T000000");
    gpg.revoke_because(2);
    gpg.export(&store.keyring(), "release.asc");
    for now in [
        "2019-01-01T00:00:00Z",
        "2020-07-01T00:00:00Z",
        "2026-01-01T00:00:00Z",
    ] {
        refused(
            &store,
            &Expect {
                now: at(now),
                ..expect_model()
            },
            "revoked-key",
        );
    }
}

#[test]
fn expired_key() {
    let (mut gpg, store) = signed_in_2020("1y");
    let in_time = Expect {
        now: at("2020-12-01T00:00:00Z"),
        ..expect_model()
    };
    let later = Expect {
        now: at("2021-02-01T00:00:00Z"),
        ..expect_model()
    };
    open(&store, &in_time).unwrap();
    // Made while the key was good: whoever finds the key now could claim the same.
    let error = refused(&store, &later, "expired-key");
    assert!(error.to_string().contains("2020-12-31"), "{error}");
    // Its owner prolongs it.
    gpg.time = Some("20201201T000000");
    gpg.ok(&["--quick-set-expire", &gpg.fingerprint(), "5y"], "");
    gpg.export(&store.keyring(), "release.asc");
    open(&store, &later).unwrap();
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
fn a_clock_that_is_behind_does_not_stop_the_machine_nor_revive_what_expired() {
    let (gpg, store) = signed();
    let behind = Expect {
        now: at("2001-01-01T00:00:00Z"),
        ..expect_model()
    };
    open(&store, &behind).unwrap();
    store.write(&Attestation {
        expires: Some(at("2015-01-01T00:00:00Z")),
        ..store.attestation()
    });
    gpg.sign(&store.document());
    refused(&store, &behind, "expired-attestation");
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

#[test]
fn the_device_key_vouches_for_adapters_and_nothing_else() {
    let (key, store) = (DeviceKey::generate().unwrap(), Store::new());
    let keyring = Keyring::load_dir(&store.keyring())
        .unwrap()
        .with_device(&key.certificate_bytes().unwrap())
        .unwrap();
    let base = Digest::of(b"base");
    let judge = |attestation: &Attestation| {
        let document = attestation.render().unwrap();
        let signature = key.sign_detached(document.as_bytes()).unwrap();
        let expect = Expect {
            kind: attestation.kind,
            base: Some(base),
            ..expect_model()
        };
        check_document(document.as_bytes(), Some(&signature), &keyring, &expect)
    };
    assert_eq!(judge(&store.adapter(base)).unwrap().signer, key.fingerprint());
    for kind in Kind::ALL.into_iter().filter(|k| *k != Kind::Adapter) {
        let error = judge(&Attestation {
            kind,
            ..store.attestation()
        })
        .unwrap_err();
        assert_eq!(error.name(), "signer-not-allowed");
    }
}

#[test]
fn gpg_verifies_what_the_device_key_signed() {
    let (key, gpg, store) = (DeviceKey::generate().unwrap(), Gpg::new(), Store::new());
    store.write(&store.attestation());
    let signature = key
        .sign_detached(&std::fs::read(store.document()).unwrap())
        .unwrap();
    std::fs::write(store.path("model.toml.asc"), signature).unwrap();
    gpg.ok(
        &["--import"],
        &String::from_utf8(key.certificate_bytes().unwrap()).unwrap(),
    );
    let paths = [store.path("model.toml.asc"), store.document()];
    let verify = ["--verify", paths[0].to_str().unwrap(), paths[1].to_str().unwrap()];
    gpg.ok(&verify, "");
    std::fs::write(store.document(), "changed").unwrap();
    assert!(!gpg.run(&verify, "").status.success());
}

/// One signed document for all cases: gpg is not asked again for each.
fn sample() -> &'static (Vec<u8>, Vec<u8>, Keyring) {
    static SAMPLE: std::sync::OnceLock<(Vec<u8>, Vec<u8>, Keyring)> = std::sync::OnceLock::new();
    SAMPLE.get_or_init(|| {
        let (_gpg, store) = signed();
        let read = |path| std::fs::read(path).unwrap();
        let keyring = Keyring::load_dir(&store.keyring()).unwrap();
        (
            read(store.document()),
            read(store.path("model.toml.asc")),
            keyring,
        )
    })
}

proptest! {
    #[test]
    fn arbitrary_documents_and_signatures_never_hold_and_never_panic(
        document in proptest::collection::vec(any::<u8>(), 0..200),
        signature in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let keyring = &sample().2;
        prop_assert!(check_document(&document, Some(&signature), keyring, &expect_model()).is_err());
    }

    #[test]
    fn no_changed_document_holds(at: prop::sample::Index, bit in 0..8_u32) {
        let (document, signature, keyring) = sample();
        let mut changed = document.clone();
        let at = at.index(changed.len());
        changed[at] ^= 1 << bit;
        let error = check_document(&changed, Some(signature), keyring, &expect_model()).unwrap_err();
        prop_assert_eq!(error.name(), "bad-signature");
    }

    #[test]
    fn a_damaged_signature_never_panics_and_never_vouches_for_another_document(
        at: prop::sample::Index, with in proptest::collection::vec(any::<u8>(), 0..40), cut in 0..40_usize,
    ) {
        let (document, signature, keyring) = sample();
        let at = at.index(signature.len());
        let end = (at + cut).min(signature.len());
        let damaged = [&signature[..at], &with, &signature[end..]].concat();
        let _ = check_document(document, Some(&damaged), keyring, &expect_model());
        let other = [document, &b"#"[..]].concat();
        prop_assert!(check_document(&other, Some(&damaged), keyring, &expect_model()).is_err());
    }
}
