//! Every verdict on documents, signatures and keys as the real gpg makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where it fails"
)]

mod damage;
mod documents;
mod keys;
mod support;

use jiff::Timestamp;
use sarai_trust::{Expect, Keyring, Kind, TrustError, Verified, open_verified};
use support::{FILE, Gpg, Store};

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
