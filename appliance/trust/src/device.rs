//! The machine's own key: made at first boot, signs adapters trained here and audit records, nothing else.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sequoia_openpgp as openpgp;

use openpgp::Profile;
use openpgp::cert::{Cert, CertBuilder, CipherSuite};
use openpgp::packet::signature::SignatureBuilder;
use openpgp::packet::signature::subpacket::NotationDataFlags;
use openpgp::parse::Parse as _;
use openpgp::policy::StandardPolicy;
use openpgp::serialize::SerializeInto as _;
use openpgp::serialize::stream::{Armorer, Message, Signer};
use openpgp::types::SignatureType;

use crate::{TrustError, policy};

/// The creation time that every device key states: 2025-01-01. A machine's clock may be anywhere at first boot;
/// a key "made" in the future could not sign once the clock is right.
const MADE: Duration = Duration::from_secs(1_735_689_600);
/// Largest secret key that is read, bytes.
const MAX_KEY: usize = 64 * 1024;

/// The device key with its secret parts. Whoever stores [`DeviceKey::to_bytes`] makes the file readable by root
/// alone.
pub struct DeviceKey {
    cert: Cert,
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DeviceKey").field(&self.fingerprint()).finish()
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as an argument of map_err"
)]
fn failed(reason: impl ToString) -> TrustError {
    TrustError::DeviceKey {
        reason: reason.to_string(),
    }
}

impl DeviceKey {
    /// Makes a new key (Ed25519, without an end): a primary key that certifies, a subkey that signs.
    pub fn generate() -> Result<Self, TrustError> {
        let (cert, _revocation) = CertBuilder::new()
            .set_profile(Profile::RFC4880) // so that every gpg in use can check what it signed
            .and_then(|b| {
                b.set_cipher_suite(CipherSuite::Cv25519)
                    .set_creation_time(UNIX_EPOCH + MADE)
                    .add_userid("SARAi device key")
                    .add_signing_subkey()
                    .generate()
            })
            .map_err(failed)?;
        Ok(Self { cert })
    }

    /// The secret key, armored.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TrustError> {
        self.cert.as_tsk().armored().to_vec().map_err(failed)
    }

    /// Reads what [`DeviceKey::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() > MAX_KEY {
            return Err(failed(format!("{} bytes exceed {MAX_KEY}", bytes.len())));
        }
        let key = Self {
            cert: Cert::from_bytes(bytes).map_err(|e| failed(e.root_cause()))?,
        };
        key.signer()?;
        Ok(key)
    }

    /// The public certificate, armored: what [`crate::Keyring::with_device`] takes.
    pub fn certificate_bytes(&self) -> Result<Vec<u8>, TrustError> {
        self.cert
            .clone()
            .strip_secret_key_material()
            .armored()
            .to_vec()
            .map_err(failed)
    }

    /// Fingerprint of the certificate, upper-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.cert.fingerprint().to_hex()
    }

    /// A detached, armored signature over exactly these bytes, which are an attestation.
    pub fn sign_detached(&self, bytes: &[u8]) -> Result<Vec<u8>, TrustError> {
        self.sign(bytes, SignatureBuilder::new(SignatureType::Binary))
    }

    /// The same over a record of the audit log; it says that it is for that and nothing else.
    pub(crate) fn sign_record(&self, bytes: &[u8]) -> Result<Vec<u8>, TrustError> {
        let template = SignatureBuilder::new(SignatureType::Binary)
            .set_notation(
                policy::PURPOSE,
                policy::RECORD,
                NotationDataFlags::empty().set_human_readable(),
                true,
            )
            .map_err(failed)?;
        self.sign(bytes, template)
    }

    fn sign(&self, bytes: &[u8], template: SignatureBuilder) -> Result<Vec<u8>, TrustError> {
        let mut signature = Vec::new();
        let message = Armorer::new(Message::new(&mut signature))
            .kind(openpgp::armor::Kind::Signature)
            .build()
            .map_err(failed)?;
        let mut message = Signer::with_template(message, self.signer()?, template)
            .and_then(|s| {
                s.detached()
                    .creation_time(SystemTime::now().max(UNIX_EPOCH + MADE))
                    .build()
            })
            .map_err(failed)?;
        message.write_all(bytes).map_err(failed)?;
        message.finalize().map_err(failed)?;
        Ok(signature)
    }

    fn signer(&self) -> Result<openpgp::crypto::KeyPair, TrustError> {
        let now = SystemTime::now().max(UNIX_EPOCH + MADE);
        let policy = StandardPolicy::at(now);
        self.cert
            .keys()
            .unencrypted_secret()
            .with_policy(&policy, now)
            .supported()
            .alive()
            .revoked(false)
            .for_signing()
            .next()
            .ok_or_else(|| failed("it has no usable secret part that signs"))?
            .key()
            .clone()
            .into_keypair()
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_was_stored() {
        let key = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_bytes(&key.to_bytes().unwrap()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert!(
            again
                .sign_detached(b"x")
                .unwrap()
                .starts_with(b"-----BEGIN PGP SIGNATURE-----")
        );
    }

    #[test]
    fn two_machines_have_two_keys() {
        let (a, b) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        assert_ne!(a.fingerprint(), b.fingerprint());
    }

    #[test]
    fn what_has_no_secret_or_is_no_key_is_refused() {
        let key = DeviceKey::generate().unwrap();
        let public = key.certificate_bytes().unwrap();
        assert!(!String::from_utf8(public.clone()).unwrap().contains("PRIVATE"));
        for bytes in [&public[..], b"", b"x", &[0; 100_000]] {
            assert_eq!(DeviceKey::from_bytes(bytes).unwrap_err().name(), "device-key");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let key = DeviceKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("DeviceKey({:?})", key.fingerprint()));
    }
}
