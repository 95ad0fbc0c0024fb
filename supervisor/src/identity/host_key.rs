//! The SSH server's own key: Ed25519, made at first boot, kept in the form that dropbear reads.

use rcgen::{KeyPair, PKCS_ED25519};

use super::authorized::fingerprint;

/// Name of the file below the folder of keys.
pub const FILE: &str = "ssh_host_ed25519";
/// Kind of the key, as it stands in the file.
const KIND: &[u8] = b"ssh-ed25519";
/// Bytes of the secret, and of the public half.
const HALF: usize = 32;
/// What stands before the secret in PKCS #8 (RFC 8410): an octet string of 32 bytes within one.
const SECRET: [u8; 4] = [0x04, 0x22, 0x04, 0x20];

/// The key.
pub struct HostKey {
    bytes: Vec<u8>,
}

impl HostKey {
    /// Makes one.
    ///
    /// # Errors
    /// When no key could be made.
    pub fn make() -> Result<Self, String> {
        let pair = KeyPair::generate_for(&PKCS_ED25519).map_err(|e| e.to_string())?;
        let der = pair.serialize_der();
        let secret = der
            .windows(SECRET.len())
            .position(|part| part == SECRET)
            .and_then(|at| der.get(at + SECRET.len()..)?.first_chunk::<HALF>())
            .ok_or("the library's key is not what it should be")?;
        let public: [u8; HALF] = pair
            .public_key_raw()
            .try_into()
            .map_err(|_| "the library's key is not what it should be")?;
        let mut bytes = Vec::new();
        for part in [KIND, &[*secret, public].concat()] {
            // Tens of bytes.
            bytes.extend(u32::try_from(part.len()).unwrap_or(0).to_be_bytes());
            bytes.extend(part);
        }
        Ok(Self { bytes })
    }

    /// Takes what was kept.
    ///
    /// # Errors
    /// When that is no such key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let head = [&[0, 0, 0, 11], KIND, &[0, 0, 0, 64]].concat();
        if bytes.len() == head.len() + 2 * HALF && bytes.starts_with(&head) {
            Ok(Self {
                bytes: bytes.to_vec(),
            })
        } else {
            Err("it is no Ed25519 key in dropbear's form".to_owned())
        }
    }

    /// What is kept, and what the server reads.
    #[must_use]
    pub fn to_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// SHA-256 of the public half as clients show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let public = &self.bytes[self.bytes.len() - HALF..];
        let blob = [&[0, 0, 0, 11], KIND, &[0, 0, 0, 32], public].concat();
        fingerprint(&blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_what_was_kept_and_nothing_else_is_taken() {
        let key = HostKey::make().unwrap();
        let again = HostKey::from_bytes(key.to_bytes()).unwrap();
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert_ne!(HostKey::make().unwrap().fingerprint(), key.fingerprint());
        let bytes = key.to_bytes();
        for wrong in [&bytes[..bytes.len() - 1], &bytes[1..], b"", b"-----BEGIN"] {
            assert!(HostKey::from_bytes(wrong).is_err());
        }
    }
}
