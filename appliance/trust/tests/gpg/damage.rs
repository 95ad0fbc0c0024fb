//! Arbitrary bytes and damaged signatures: never a panic, never trust.

use proptest::prelude::*;
use sarai_trust::{Keyring, check_document};

use crate::{expect_model, signed};

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
