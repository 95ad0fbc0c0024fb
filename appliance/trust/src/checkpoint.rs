//! Checkpoints of the audit log: where its chain ended at a moment, signed by the device key.
//!
//! The signature carries a critical notation that says what it is for. So it never passes as one over an attestation,
//! and one over an attestation never passes as a checkpoint's, whatever the document says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::keyring::Role;
use crate::policy::{self, Purpose};
use crate::{DeviceKey, Digest, Keyring, MAX_SIGNATURE, TrustError};

/// The format version this program reads and writes.
const FORMAT: u32 = 1;
/// Largest checkpoint, bytes. A real one has less than 300.
pub const MAX_CHECKPOINT: u64 = 4096;

/// Where the chain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    format: u32,
    kind: Kind,
    /// Number of the file, from 1.
    pub file: u64,
    /// Line of it, from 1.
    pub line: u64,
    /// SHA-256 of that line without its end.
    pub sha256: Digest,
    /// When this machine's clock said so.
    pub time: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    #[serde(rename = "audit-checkpoint")]
    AuditCheckpoint,
}

impl Checkpoint {
    /// A checkpoint of this head.
    #[must_use]
    pub fn new(file: u64, line: u64, sha256: Digest, time: Timestamp) -> Self {
        Self {
            format: FORMAT,
            kind: Kind::AuditCheckpoint,
            file,
            line,
            sha256,
            time,
        }
    }

    /// The document, and its signature by `key`.
    pub fn sign(&self, key: &DeviceKey) -> Result<(String, Vec<u8>), TrustError> {
        let document = toml::to_string(self).map_err(|e| invalid(e.to_string()))?;
        let signature = key.sign_record(document.as_bytes())?;
        Ok((document, signature))
    }

    /// Reads a checkpoint whose signature by the device of `keyring` holds; nothing of it is parsed before.
    pub fn check(
        document: &[u8],
        signature: &[u8],
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Self, TrustError> {
        let size = document.len() as u64;
        if size > MAX_CHECKPOINT {
            return Err(TrustError::DocumentTooLarge { size });
        }
        let size = signature.len() as u64;
        if size > MAX_SIGNATURE {
            return Err(TrustError::SignatureTooLarge { size });
        }
        let good = policy::verify(document, signature, keyring, now, Purpose::Record)?;
        if good.role != Role::Device {
            return Err(TrustError::SignerNotAllowed {
                fingerprint: good.signer,
                what: "an audit record".into(),
            });
        }
        let text = std::str::from_utf8(document).map_err(|e| invalid(e.to_string()))?;
        let checkpoint: Self = toml::from_str(text).map_err(|e| invalid(e.message().into()))?;
        if checkpoint.format != FORMAT {
            return Err(TrustError::UnknownFormat {
                found: checkpoint.format.to_string(),
            });
        }
        Ok(checkpoint)
    }
}

fn invalid(reason: String) -> TrustError {
    TrustError::InvalidDocument { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attestation, Expect, check_document};

    fn checkpoint() -> Checkpoint {
        Checkpoint::new(
            2,
            17,
            Digest::of(b"line"),
            "2026-01-01T00:00:00Z".parse().unwrap(),
        )
    }

    fn keyring(key: &DeviceKey) -> Keyring {
        Keyring::default()
            .with_device(&key.certificate_bytes().unwrap())
            .unwrap()
    }

    fn adapter() -> String {
        let attestation = Attestation {
            format: 1,
            kind: crate::Kind::Adapter,
            id: "a".into(),
            version: "1".into(),
            sequence: 1,
            expires: None,
            size: 1,
            sha256: Digest::of(b"a"),
            verity: Digest::of(b"v"),
            base: Some(Digest::of(b"b")),
            memory: None,
            probe: None,
        };
        attestation.render().unwrap()
    }

    fn attested(document: &[u8], signature: &[u8], keyring: &Keyring) -> Result<(), &'static str> {
        let expect = Expect {
            kind: crate::Kind::Adapter,
            id: None,
            sha256: None,
            base: None,
            now: Timestamp::now(),
            highest_seen: 0,
        };
        check_document(document, Some(signature), keyring, &expect)
            .map(drop)
            .map_err(|e| e.name())
    }

    fn checked(document: &[u8], signature: &[u8], keyring: &Keyring) -> Result<Checkpoint, &'static str> {
        Checkpoint::check(document, signature, keyring, Timestamp::now()).map_err(|e| e.name())
    }

    #[test]
    fn a_checkpoint_that_was_signed_here_holds_and_a_changed_one_does_not() {
        let key = DeviceKey::generate().unwrap();
        let (document, signature) = checkpoint().sign(&key).unwrap();
        let keyring = keyring(&key);
        assert_eq!(
            checked(document.as_bytes(), &signature, &keyring),
            Ok(checkpoint())
        );
        let changed = document.replace("line = 17", "line = 16");
        assert_eq!(
            checked(changed.as_bytes(), &signature, &keyring),
            Err("bad-signature")
        );
        let other = self::keyring(&DeviceKey::generate().unwrap());
        assert_eq!(
            checked(document.as_bytes(), &signature, &other),
            Err("unknown-signer")
        );
    }

    #[test]
    fn a_signature_for_one_purpose_never_passes_for_the_other() {
        let key = DeviceKey::generate().unwrap();
        let keyring = keyring(&key);
        let adapter = adapter();
        // As it should be.
        let signature = key.sign_detached(adapter.as_bytes()).unwrap();
        assert_eq!(attested(adapter.as_bytes(), &signature, &keyring), Ok(()));
        // The very document of an adapter, under a signature made for records.
        let signature = key.sign_record(adapter.as_bytes()).unwrap();
        assert_eq!(
            attested(adapter.as_bytes(), &signature, &keyring),
            Err("bad-signature")
        );
        // The very document of a checkpoint, under a signature made for attestations.
        let (document, record) = checkpoint().sign(&key).unwrap();
        let plain = key.sign_detached(document.as_bytes()).unwrap();
        assert_eq!(
            checked(document.as_bytes(), &plain, &keyring),
            Err("bad-signature")
        );
        // Neither document passes as the other, either.
        assert_eq!(
            attested(document.as_bytes(), &plain, &keyring),
            Err("invalid-document")
        );
        let signature = key.sign_record(adapter.as_bytes()).unwrap();
        assert_eq!(
            checked(adapter.as_bytes(), &signature, &keyring),
            Err("invalid-document")
        );
        assert!(checked(document.as_bytes(), &record, &keyring).is_ok());
    }

    #[test]
    fn a_release_key_signs_no_checkpoints() {
        let key = DeviceKey::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.asc"), key.certificate_bytes().unwrap()).unwrap();
        let keyring = Keyring::load_dir(folder.path()).unwrap();
        let (document, signature) = checkpoint().sign(&key).unwrap();
        assert_eq!(
            checked(document.as_bytes(), &signature, &keyring),
            Err("signer-not-allowed")
        );
    }
}
