//! Who signed, with what, and whether that key is still good.

use sarai_trust::{Attestation, DeviceKey, Digest, Expect, Keyring, Kind, check_document};

use crate::support::{Gpg, Store, at};
use crate::{expect_model, open, refused, signed, signed_in_2020};

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
