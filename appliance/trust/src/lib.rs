//! Trust: attestations, keyrings, fs-verity and the models manifest.
//!
//! For the supervisor, which verifies every artifact before a child gets its descriptor, and for `sarai-attest`,
//! with which a publisher makes attestations. The only room that knows OpenPGP.
//!
//! It may read the files it is pointed at, enable fs-verity on them, and write small state files atomically. It
//! never talks to a network, never starts a process, never parses a model, and never parses a document whose
//! signature has not been verified. Verification happens on one descriptor, which the caller then uses: no path
//! is opened twice.
//!
//! Where the file system has fs-verity, the kernel refuses every later change of a verified file and checks each
//! page as it is read. Where it has none ([`Method::FullHash`]), the content is checked once: a process that may
//! write the model store could still change the file afterwards, even while it is mapped. Only root may write
//! the store in the image; natively it is the user who runs the appliance.

pub mod atomic;
mod attestation;
mod check;
mod checkpoint;
mod content;
mod device;
mod digest;
mod error;
mod hashing;
mod keyring;
pub mod manifest;
mod policy;
mod sequences;
mod store;
pub mod verity;

pub use attestation::{Attestation, FORMAT, Kind, MAX_DOCUMENT, MemoryEnvelope, Probe, is_id};
pub use check::{Checked, Expect, MAX_SIGNATURE, check_document};
pub use checkpoint::{Checkpoint, MAX_CHECKPOINT};
pub use content::{Method, verify_content};
pub use device::DeviceKey;
pub use digest::{Digest, ParseDigestError};
pub use error::TrustError;
pub use hashing::{Hashes, hash_file};
pub use keyring::Keyring;
pub use sequences::Sequences;
pub use store::{Verified, document_name, open_verified, read_bounded};
pub use verity::install as install_verity;
