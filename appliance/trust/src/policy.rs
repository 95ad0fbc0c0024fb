//! What OpenPGP may be made of here, and whether a signature over given bytes holds.
//!
//! Keys are judged at the time of use, not at the time that the signature claims: whoever gets hold of an old
//! key can date a signature back. So a key that is expired or revoked now vouches for nothing, whenever the
//! signature was made.
//!
//! A machine's clock may be behind (an empty battery), never usefully ahead. A signature, and a key's
//! revocation, prove that their own time has come: the time of judgement is the latest of those and `now`.
//! This can only make the judgement stricter.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use sequoia_openpgp as openpgp;

use openpgp::KeyHandle;
use openpgp::cert::Cert;
use openpgp::cert::amalgamation::{ValidAmalgamation as _, ValidateAmalgamation as _};
use openpgp::cert::prelude::ErasedKeyAmalgamation;
use openpgp::packet::key::PublicParts;
use openpgp::packet::{Packet, Signature};
use openpgp::parse::{PacketParser, PacketParserResult, Parse as _};
use openpgp::policy::{AsymmetricAlgorithm, HashAlgoSecurity, Policy as _, StandardPolicy};
use openpgp::types::{HashAlgorithm, RevocationStatus, SignatureType};

use crate::TrustError;
use crate::keyring::{Keyring, Member, Role};

/// Most signatures in one file.
const MAX_SIGNATURES: usize = 16;

/// Notation of a signature that is not over an attestation; its value says over what.
pub(crate) const PURPOSE: &str = "purpose@sarai-appliance.github.io";
/// Value of [`PURPOSE`] for records of the audit log.
pub(crate) const RECORD: &str = "audit-record";

/// What a signature must be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// An attestation: made by anyone's gpg, without [`PURPOSE`].
    Attestation,
    /// A record of the audit log: [`PURPOSE`] says so.
    Record,
}

/// A signature that holds.
#[derive(Debug)]
pub(crate) struct Good {
    /// Fingerprint of the certificate.
    pub signer: String,
    /// Which keyring it is from.
    pub role: Role,
    /// Time of judgement: `now`, or later where the signature proves that the clock is behind.
    pub time: Timestamp,
}

/// Looks for one signature in `signatures` that holds over exactly `bytes`.
pub(crate) fn verify(
    bytes: &[u8],
    signatures: &[u8],
    keyring: &Keyring,
    now: Timestamp,
    purpose: Purpose,
) -> Result<Good, TrustError> {
    let mut worst: Option<TrustError> = None;
    for signature in parse(signatures)? {
        match verify_one(bytes, &signature, keyring, now, purpose) {
            Ok(good) => return Ok(good),
            // Of several that do not hold, the one by somebody known says the most.
            Err(e) if worst.as_ref().is_none_or(|w| rank(&e) > rank(w)) => worst = Some(e),
            Err(_) => {}
        }
    }
    Err(worst.unwrap_or_else(|| bad("the file holds no signature")))
}

fn rank(error: &TrustError) -> u8 {
    match error {
        TrustError::UnknownSigner { .. } => 0,
        TrustError::BadSignature { .. } => 1,
        _ => 2,
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as an argument of map_err"
)]
fn bad(reason: impl ToString) -> TrustError {
    TrustError::BadSignature {
        reason: reason.to_string(),
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Signature>, TrustError> {
    let unreadable = |e: openpgp::anyhow::Error| bad(format!("it cannot be read: {e}"));
    let mut signatures = Vec::new();
    let mut next = PacketParser::from_bytes(bytes).map_err(unreadable)?;
    while let PacketParserResult::Some(parser) = next {
        let (packet, rest) = parser.next().map_err(unreadable)?;
        next = rest;
        match packet {
            Packet::Signature(_) if signatures.len() == MAX_SIGNATURES => {
                return Err(bad(format!("there are more than {MAX_SIGNATURES}")));
            }
            Packet::Signature(signature) => signatures.push(signature),
            Packet::Unknown(unknown) => {
                return Err(bad(format!("it cannot be read: {}", unknown.error())));
            }
            other => return Err(bad(format!("the file holds a packet of type {}", other.tag()))),
        }
    }
    Ok(signatures)
}

fn verify_one(
    bytes: &[u8],
    signature: &Signature,
    keyring: &Keyring,
    now: Timestamp,
    purpose: Purpose,
) -> Result<Good, TrustError> {
    let issuers = signature.get_issuers();
    let mut worst = None;
    for member in keyring.members() {
        // Without an issuer, `key_handles` would match every key.
        for key in member
            .cert
            .keys()
            .key_handles(issuers.iter())
            .filter(|_| !issuers.is_empty())
        {
            match verify_by(bytes, signature, member, &key, now, purpose) {
                Ok(good) => return Ok(good),
                Err(e) => worst = Some(e),
            }
        }
    }
    Err(worst.unwrap_or_else(|| {
        // A fingerprint says more than a key id.
        let name = |handle: &KeyHandle| matches!(handle, KeyHandle::Fingerprint(_));
        let issuer = issuers.iter().find(|handle| name(handle)).or(issuers.first());
        let issuer = issuer.map_or_else(|| "unnamed".into(), |issuer| format!("{issuer:X}"));
        TrustError::UnknownSigner { issuer }
    }))
}

fn verify_by(
    bytes: &[u8],
    signature: &Signature,
    member: &Member,
    key: &ErasedKeyAmalgamation<'_, PublicParts>,
    now: Timestamp,
    purpose: Purpose,
) -> Result<Good, TrustError> {
    let made = signature
        .signature_creation_time()
        .ok_or_else(|| bad("it does not say when it was made"))?;
    let time = judgement_time(&member.cert, key, made, now);
    let mut policy = policy(time);
    policy.good_critical_notations(&[PURPOSE]);
    judge_key(&policy, &member.cert, key, time)?;

    if signature.typ() != SignatureType::Binary {
        return Err(bad("it is not one over the exact bytes of a document"));
    }
    // Looked for in the part that is signed, so that nobody can take it out or put it in.
    let stated: Vec<&[u8]> = signature.notation(PURPOSE).collect();
    let wanted: &[&[u8]] = match purpose {
        Purpose::Attestation => &[],
        Purpose::Record => &[RECORD.as_bytes()],
    };
    if stated != wanted {
        return Err(bad("it was made for another purpose"));
    }
    if made < key.key().creation_time() {
        return Err(bad("it claims to be older than its key"));
    }
    policy
        .signature(signature, HashAlgoSecurity::CollisionResistance)
        .map_err(|e| bad(e.root_cause()))?;
    let mut hash = signature
        .hash_algo()
        .context()
        .map_err(bad)?
        .for_signature(signature.version());
    match signature {
        Signature::V4(_) => {}
        Signature::V6(signature) => hash.update(signature.salt()),
        _ => return Err(bad(format!("version {} is not accepted", signature.version()))),
    }
    hash.update(bytes);
    signature
        .verify_hash(key.key(), hash)
        .map_err(|_| bad("the document is not what was signed"))?;
    // Only now is what the signature says about itself worth anything.
    if let Some(end) = signature.signature_expiration_time()
        && end <= time
    {
        return Err(TrustError::ExpiredAttestation { at: timestamp(end) });
    }
    Ok(Good {
        signer: member.cert.fingerprint().to_hex(),
        role: member.role,
        time: timestamp(time),
    })
}

/// The latest moment that is known to have come.
fn judgement_time(
    cert: &Cert,
    key: &ErasedKeyAmalgamation<'_, PublicParts>,
    made: SystemTime,
    now: Timestamp,
) -> SystemTime {
    cert.primary_key()
        .self_revocations()
        .chain(key.self_revocations())
        .filter_map(|revocation| revocation.signature_creation_time())
        .chain([made, system_time(now)])
        .max()
        .unwrap_or(made)
}

/// The certificate and its signing key: bound, not revoked, not expired, meant for signing.
fn judge_key(
    policy: &StandardPolicy<'_>,
    cert: &Cert,
    key: &ErasedKeyAmalgamation<'_, PublicParts>,
    time: SystemTime,
) -> Result<(), TrustError> {
    let unusable = |e: openpgp::anyhow::Error| bad(format!("its key cannot be used: {}", e.root_cause()));
    let fingerprint = cert.fingerprint().to_hex();
    let valid_cert = cert.with_policy(policy, time).map_err(unusable)?;
    let valid_key = key.clone().with_policy(policy, time).map_err(unusable)?;
    for status in [valid_cert.revocation_status(), valid_key.revocation_status()] {
        if let RevocationStatus::Revoked(signatures) = status {
            let reason = signatures
                .iter()
                .find_map(|s| s.reason_for_revocation())
                .map_or_else(
                    || "no reason given".into(),
                    |(code, text)| {
                        let text: String = String::from_utf8_lossy(text)
                            .chars()
                            .filter(|c| !c.is_control())
                            .take(100)
                            .collect();
                        if text.is_empty() {
                            code.to_string()
                        } else {
                            format!("{code}: {text}")
                        }
                    },
                );
            return Err(TrustError::RevokedKey { fingerprint, reason });
        }
    }
    for alive in [valid_cert.alive(), valid_key.alive()] {
        alive.map_err(|e| match e.downcast_ref::<openpgp::Error>() {
            Some(openpgp::Error::Expired(at)) => TrustError::ExpiredKey {
                fingerprint: fingerprint.clone(),
                at: timestamp(*at),
            },
            _ => unusable(e),
        })?;
    }
    if !valid_key.for_signing() {
        return Err(bad("its key is not meant for signing"));
    }
    Ok(())
}

/// Sequoia's standard policy at the time of judgement, so that a verdict depends on nothing but its inputs, and
/// without the exceptions that it still makes for weak algorithms of old certificates.
fn policy(time: SystemTime) -> StandardPolicy<'static> {
    let mut policy = StandardPolicy::at(time);
    for hash in [HashAlgorithm::MD5, HashAlgorithm::SHA1, HashAlgorithm::RipeMD] {
        policy.reject_hash(hash);
    }
    for algorithm in [
        AsymmetricAlgorithm::RSA1024,
        AsymmetricAlgorithm::DSA1024,
        AsymmetricAlgorithm::DSA2048,
        AsymmetricAlgorithm::DSA3072,
        AsymmetricAlgorithm::DSA4096,
    ] {
        policy.reject_asymmetric_algo(algorithm);
    }
    policy
}

/// OpenPGP's times are unsigned 32-bit seconds.
fn system_time(time: Timestamp) -> SystemTime {
    let seconds = u32::try_from(time.as_second().max(0)).unwrap_or(u32::MAX);
    UNIX_EPOCH + Duration::from_secs(u64::from(seconds))
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}
