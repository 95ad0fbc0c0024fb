//! Judging a document and its signature against what is expected of it.

use jiff::Timestamp;

use crate::attestation::MAX_DOCUMENT;
use crate::keyring::Role;
use crate::policy::Purpose;
use crate::{Attestation, Digest, Keyring, Kind, TrustError, policy};

/// Largest signature file, bytes. One armored signature has less than 2 KiB.
pub const MAX_SIGNATURE: u64 = 64 * 1024;

/// What an attestation must be for.
#[derive(Debug, Clone, Copy)]
pub struct Expect<'a> {
    /// The kind of artifact.
    pub kind: Kind,
    /// The id, if one is wanted.
    pub id: Option<&'a str>,
    /// The manifest's pin, if there is one: the attested SHA-256 must be it.
    pub sha256: Option<Digest>,
    /// For an adapter: SHA-256 of the base model in use. Without it the binding is not judged.
    pub base: Option<Digest>,
    /// The time. A signature made later than this shows that the clock is behind, and is judged at its own time.
    pub now: Timestamp,
    /// The highest sequence this machine has seen of the id; 0 if none.
    pub highest_seen: u64,
}

/// A document that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it says.
    pub attestation: Attestation,
    /// Fingerprint of the certificate that signed it, upper-case hex.
    pub signer: String,
}

/// Judges a document: its size, then its signature over exactly these bytes, and only then what it says.
pub fn check_document(
    document: &[u8],
    signature: Option<&[u8]>,
    keyring: &Keyring,
    expect: &Expect<'_>,
) -> Result<Checked, TrustError> {
    let size = document.len() as u64;
    if size > MAX_DOCUMENT {
        return Err(TrustError::DocumentTooLarge { size });
    }
    let signature = signature
        .filter(|s| !s.is_empty())
        .ok_or(TrustError::NoSignature)?;
    let size = signature.len() as u64;
    if size > MAX_SIGNATURE {
        return Err(TrustError::SignatureTooLarge { size });
    }
    let good = policy::verify(document, signature, keyring, expect.now, Purpose::Attestation)?;

    let attestation = Attestation::parse(document)?;
    if good.role == Role::Device && attestation.kind != Kind::Adapter {
        let what = format!("the kind {}", attestation.kind);
        return Err(TrustError::SignerNotAllowed {
            fingerprint: good.signer,
            what,
        });
    }
    judge(&attestation, expect, good.time)?;
    Ok(Checked {
        attestation,
        signer: good.signer,
    })
}

fn judge(attestation: &Attestation, expect: &Expect<'_>, time: Timestamp) -> Result<(), TrustError> {
    if attestation.kind != expect.kind {
        return Err(TrustError::WrongKind {
            expected: expect.kind,
            found: attestation.kind,
        });
    }
    if let Some(id) = expect.id
        && attestation.id != id
    {
        return Err(TrustError::WrongId {
            expected: id.into(),
            found: attestation.id.clone(),
        });
    }
    if let Some(at) = attestation.expires
        && at <= time
    {
        return Err(TrustError::ExpiredAttestation { at });
    }
    if attestation.sequence < expect.highest_seen {
        let (found, highest) = (attestation.sequence, expect.highest_seen);
        return Err(TrustError::OldSequence { found, highest });
    }
    if let (Some(expected), Some(found)) = (expect.base, attestation.base)
        && expected != found
    {
        return Err(TrustError::WrongBase { expected, found });
    }
    if let Some(expected) = expect.sha256
        && attestation.sha256 != expected
    {
        let found = attestation.sha256;
        return Err(TrustError::WrongDigest {
            what: "attested sha256",
            expected,
            found,
        });
    }
    Ok(())
}
