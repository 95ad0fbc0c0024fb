//! Every reason for which trust is refused, each with a stable name.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use crate::{Digest, Kind};

/// Why something is not trusted. Texts fit after "failed to"; [`TrustError::name`] is the stable name that
/// status, logs and tests use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// A file that must be there is not.
    #[error("open {}: no such file", path.display())]
    MissingFile {
        /// What was looked for.
        path: PathBuf,
    },
    /// The name is not one plain component, or has no room for a document beside it.
    #[error("use {name:?} as a file name: it must be one plain name with an ending, such as model.gguf")]
    InvalidName {
        /// The name as it was given.
        name: String,
    },
    /// A folder, a device, a pipe or a symbolic link stands where a file is needed.
    #[error("open {}: it is not a regular file", path.display())]
    NotAFile {
        /// Where.
        path: PathBuf,
    },
    /// The document has no signature beside it.
    #[error("verify the attestation: there is no signature beside the document")]
    NoSignature,
    /// No certificate of the keyring made the signature.
    #[error("verify the attestation: signer {issuer} is not in the keyring")]
    UnknownSigner {
        /// Key id or fingerprint that the signature names; `unnamed` if it names none.
        issuer: String,
    },
    /// The signature is by a known key but does not hold, or is no signature at all.
    #[error("verify the attestation: bad signature: {reason}")]
    BadSignature {
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate or its signing key has been revoked.
    #[error("verify the attestation: key {fingerprint} is revoked: {reason}")]
    RevokedKey {
        /// Fingerprint of the certificate.
        fingerprint: String,
        /// The reason its owner gave.
        reason: String,
    },
    /// The certificate or its signing key has expired.
    #[error("verify the attestation: key {fingerprint} expired at {at}")]
    ExpiredKey {
        /// Fingerprint of the certificate.
        fingerprint: String,
        /// When.
        at: Timestamp,
    },
    /// A good signature by a key that may not sign this (the device key signs adapters and records only).
    #[error("accept the attestation: device key {fingerprint} may not sign {what}")]
    SignerNotAllowed {
        /// Fingerprint of the certificate.
        fingerprint: String,
        /// What was signed.
        what: String,
    },
    /// The attestation's own end has come.
    #[error("accept the attestation: it expired at {at}")]
    ExpiredAttestation {
        /// When.
        at: Timestamp,
    },
    /// It attests another kind of artifact.
    #[error("accept the attestation: it is for the kind {found}, not {expected}")]
    WrongKind {
        /// What is needed.
        expected: Kind,
        /// What is attested.
        found: Kind,
    },
    /// It attests another artifact.
    #[error("accept the attestation: it is for {found:?}, not {expected:?}")]
    WrongId {
        /// What is needed.
        expected: String,
        /// What is attested.
        found: String,
    },
    /// The file's size is not the attested (or pinned) one.
    #[error("verify the file: it has {found} bytes, {expected} are attested")]
    WrongSize {
        /// Attested, bytes.
        expected: u64,
        /// Found, bytes.
        found: u64,
    },
    /// The content is not the attested (or pinned) one.
    #[error("verify the file: its {what} digest is {found}, expected {expected}")]
    WrongDigest {
        /// `sha256`, `fs-verity` or `attested sha256` (against the manifest's pin).
        what: &'static str,
        /// What it must be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A newer attestation of the same id has been seen on this machine.
    #[error("accept the attestation: its sequence {found} is lower than {highest}, which was seen before")]
    OldSequence {
        /// Its sequence.
        found: u64,
        /// The highest seen.
        highest: u64,
    },
    /// The adapter belongs to another base model.
    #[error("accept the adapter: it is bound to base {found}, not to {expected}")]
    WrongBase {
        /// SHA-256 of the base in use.
        expected: Digest,
        /// SHA-256 of the base that it binds to.
        found: Digest,
    },
    /// The document exceeds [`crate::MAX_DOCUMENT`].
    #[error("read the attestation: {size} bytes exceed {}", crate::MAX_DOCUMENT)]
    DocumentTooLarge {
        /// Its size, or as much as was read of it.
        size: u64,
    },
    /// The signature file exceeds [`crate::MAX_SIGNATURE`].
    #[error("read the signature: {size} bytes exceed {}", crate::MAX_SIGNATURE)]
    SignatureTooLarge {
        /// Its size, or as much as was read of it.
        size: u64,
    },
    /// A signed document that is not TOML.
    #[error("read the attestation: it is not TOML: {reason}")]
    NotToml {
        /// Where and why.
        reason: String,
    },
    /// A format version that this program does not know.
    #[error(
        "read the attestation: format {found} is unknown, this program knows {}",
        crate::FORMAT
    )]
    UnknownFormat {
        /// What the document says; `none` if it says nothing.
        found: String,
    },
    /// TOML of the right format whose fields are not what they must be.
    #[error("read the attestation: {reason}")]
    InvalidDocument {
        /// Which field and why.
        reason: String,
    },
    /// The file is open for writing somewhere, so nobody can vouch for its content.
    #[error("verify the file: another process has it open for writing")]
    FileInUse,
    /// A keyring file or folder cannot be used.
    #[error("load the keyring: {}: {reason}", path.display())]
    Keyring {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The device key or certificate cannot be made, read or used.
    #[error("use the device key: {reason}")]
    DeviceKey {
        /// Why.
        reason: String,
    },
    /// The record of highest sequences is not what this program wrote.
    #[error("load the highest sequences from {}: {reason}", path.display())]
    DamagedSequences {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The manifest cannot be used.
    #[error("read the models manifest: {reason}")]
    InvalidManifest {
        /// Where and why.
        reason: String,
    },
    /// The manifest has no such profile.
    #[error("find profile {name:?} in the models manifest: it has {known}")]
    UnknownProfile {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// An entry of the manifest has no digest yet.
    #[error(
        "use {id:?} of profile {profile:?}: it has no digest yet; run scripts/pin-models {profile} on the publisher's machine"
    )]
    NotPinned {
        /// Profile of the entry.
        profile: String,
        /// Id of the entry.
        id: String,
    },
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `read`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl TrustError {
    /// The stable name of this reason: lower-case words joined by hyphens.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::MissingFile { .. } => "missing-file",
            Self::InvalidName { .. } => "invalid-file-name",
            Self::NotAFile { .. } => "not-a-file",
            Self::NoSignature => "no-signature",
            Self::UnknownSigner { .. } => "unknown-signer",
            Self::BadSignature { .. } => "bad-signature",
            Self::RevokedKey { .. } => "revoked-key",
            Self::ExpiredKey { .. } => "expired-key",
            Self::SignerNotAllowed { .. } => "signer-not-allowed",
            Self::ExpiredAttestation { .. } => "expired-attestation",
            Self::WrongKind { .. } => "wrong-kind",
            Self::WrongId { .. } => "wrong-id",
            Self::WrongSize { .. } => "wrong-size",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::OldSequence { .. } => "old-sequence",
            Self::WrongBase { .. } => "wrong-base",
            Self::DocumentTooLarge { .. } => "document-too-large",
            Self::SignatureTooLarge { .. } => "signature-too-large",
            Self::NotToml { .. } => "not-toml",
            Self::UnknownFormat { .. } => "unknown-format",
            Self::InvalidDocument { .. } => "invalid-document",
            Self::FileInUse => "file-in-use",
            Self::Keyring { .. } => "keyring",
            Self::DeviceKey { .. } => "device-key",
            Self::DamagedSequences { .. } => "damaged-sequences",
            Self::InvalidManifest { .. } => "invalid-manifest",
            Self::UnknownProfile { .. } => "unknown-profile",
            Self::NotPinned { .. } => "not-pinned",
            Self::Io { .. } => "io",
        }
    }

    /// For `map_err` on file operations: a missing file gets its own name.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::MissingFile { path },
            _ => Self::Io { action, path, source },
        }
    }
}
