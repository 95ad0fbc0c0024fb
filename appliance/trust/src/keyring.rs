//! Whom this machine believes: release certificates of the image, and its own device certificate.

use std::path::Path;

use sequoia_openpgp as openpgp;

use openpgp::cert::{Cert, CertParser};
use openpgp::parse::Parse as _;

use crate::{TrustError, store};

/// Most files in a keyring folder.
const MAX_FILES: usize = 64;
/// Largest keyring file, bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Most certificates in all.
const MAX_CERTS: usize = 256;

/// What a certificate may vouch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    Release,
    /// Adapters trained on this machine, and audit records.
    Device,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub cert: Cert,
    pub role: Role,
}

/// Release certificates and at most one device certificate.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    members: Vec<Member>,
}

impl Keyring {
    /// Loads every `*.asc` and `*.pgp` of a folder as release certificates: at most 64 files of at most 1 MiB,
    /// and 256 certificates. A file that cannot be read as certificates is an error, because it may be the one
    /// that revokes a key. Secret parts, should a file hold any, are dropped.
    pub fn load_dir(release_dir: &Path) -> Result<Self, TrustError> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(release_dir).map_err(TrustError::io("list", release_dir))? {
            let path = entry.map_err(TrustError::io("list", release_dir))?.path();
            if path.extension().is_some_and(|e| e == "asc" || e == "pgp") {
                paths.push(path);
            }
            if paths.len() > MAX_FILES {
                return Err(refused(
                    release_dir,
                    format!("it has more than {MAX_FILES} files"),
                ));
            }
        }
        paths.sort();
        let mut keyring = Self::default();
        for path in paths {
            keyring.add_file(&path)?;
        }
        Ok(keyring)
    }

    /// Adds the release certificates in `bytes`, armoured or not, of which there must be one at least: at most 1 MiB,
    /// and 256 certificates in all.
    pub fn with_release(mut self, bytes: &[u8]) -> Result<Self, TrustError> {
        let path = Path::new("settings");
        if bytes.len() as u64 > MAX_FILE {
            return Err(refused(path, format!("it exceeds {MAX_FILE} bytes")));
        }
        self.add(path, bytes)?;
        Ok(self)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), TrustError> {
        let bytes = store::read_bounded(path, MAX_FILE)?
            .ok_or_else(|| refused(path, format!("it exceeds {MAX_FILE} bytes")))?;
        self.add(path, &bytes)
    }

    /// `path` is where the bytes are from, for the error.
    fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), TrustError> {
        let mut found = false;
        for cert in CertParser::from_bytes(bytes).map_err(|e| refused(path, e))? {
            let cert = cert
                .map_err(|e| refused(path, e.root_cause()))?
                .strip_secret_key_material();
            found = true;
            // A key and its revocation may come in two files: they are one certificate.
            let full = self.members.len() == MAX_CERTS;
            match self
                .members
                .iter_mut()
                .find(|m| m.cert.fingerprint() == cert.fingerprint())
            {
                Some(known) => {
                    known.cert = known
                        .cert
                        .clone()
                        .merge_public(cert)
                        .map_err(|e| refused(path, e))?;
                }
                None if full => {
                    return Err(refused(
                        path,
                        format!("there are more than {MAX_CERTS} certificates"),
                    ));
                }
                None => self.members.push(Member {
                    cert,
                    role: Role::Release,
                }),
            }
        }
        if found {
            Ok(())
        } else {
            Err(refused(path, "it holds no certificate"))
        }
    }

    /// Adds this machine's own certificate, which may vouch for adapters and audit records only.
    pub fn with_device(mut self, cert_bytes: &[u8]) -> Result<Self, TrustError> {
        let wrong = |reason: String| TrustError::DeviceKey { reason };
        if cert_bytes.len() as u64 > MAX_FILE {
            return Err(wrong(format!("the certificate exceeds {MAX_FILE} bytes")));
        }
        let cert = Cert::from_bytes(cert_bytes)
            .map_err(|e| wrong(format!("the certificate cannot be read: {}", e.root_cause())))?
            .strip_secret_key_material();
        if self.members.iter().any(|m| m.role == Role::Device) {
            return Err(wrong("there is a device certificate already".into()));
        }
        // One key in two roles would give the device the power of a release key.
        if self
            .members
            .iter()
            .any(|m| m.cert.fingerprint() == cert.fingerprint())
        {
            return Err(wrong(
                "the device certificate is also a release certificate".into(),
            ));
        }
        self.members.push(Member {
            cert,
            role: Role::Device,
        });
        Ok(self)
    }

    /// Fingerprints of all certificates, upper-case hex, release certificates first.
    #[must_use]
    pub fn signers(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|m| m.cert.fingerprint().to_hex())
            .collect()
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads well as an argument of map_err"
)]
fn refused(path: &Path, reason: impl ToString) -> TrustError {
    TrustError::Keyring {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DeviceKey;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        folder
    }

    #[test]
    fn every_certificate_of_a_folder_is_loaded_once() {
        let (a, b) = (DeviceKey::generate().unwrap(), DeviceKey::generate().unwrap());
        let (a_bytes, b_bytes) = (a.certificate_bytes().unwrap(), b.certificate_bytes().unwrap());
        let dir = folder(&[
            ("a.asc", &a_bytes),
            ("again.asc", &a_bytes),
            ("b.pgp", &b_bytes),
            ("README", b"not a certificate"),
        ]);
        let mut expected = [a.fingerprint(), b.fingerprint()];
        let mut found = Keyring::load_dir(dir.path()).unwrap().signers();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn secret_parts_do_not_stay_in_a_keyring() {
        let key = DeviceKey::generate().unwrap();
        let dir = folder(&[("secret.asc", &key.to_bytes().unwrap())]);
        let keyring = Keyring::load_dir(dir.path()).unwrap();
        assert!(!keyring.members[0].cert.is_tsk());
    }

    #[test]
    fn what_is_no_certificate_is_an_error_that_names_the_file() {
        for bytes in [
            &b""[..],
            b"x",
            b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n",
            &[0x99; 4096],
        ] {
            let dir = folder(&[("broken.asc", bytes)]);
            let error = Keyring::load_dir(dir.path()).unwrap_err();
            assert!(
                error.name() == "keyring" && error.to_string().contains("broken.asc"),
                "{error}"
            );
        }
        assert_eq!(
            Keyring::load_dir(Path::new("/nonexistent-folder"))
                .unwrap_err()
                .name(),
            "missing-file"
        );
    }

    #[test]
    fn too_much_is_refused() {
        let large = vec![0; 1024 * 1024 + 1];
        assert_eq!(
            Keyring::load_dir(folder(&[("a.asc", &large)]).path())
                .unwrap_err()
                .name(),
            "keyring"
        );
        let many: Vec<String> = (0..65).map(|n| format!("{n}.asc")).collect();
        let files: Vec<(&str, &[u8])> = many.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
        let error = Keyring::load_dir(folder(&files).path()).unwrap_err();
        assert!(error.to_string().contains("more than 64"), "{error}");
        assert_eq!(
            Keyring::default().with_device(&large).unwrap_err().name(),
            "device-key"
        );
    }

    #[test]
    fn the_device_is_one_and_not_a_release_signer() {
        let key = DeviceKey::generate().unwrap().certificate_bytes().unwrap();
        let other = DeviceKey::generate().unwrap().certificate_bytes().unwrap();
        let dir = folder(&[("a.asc", &key)]);
        let keyring = Keyring::load_dir(dir.path()).unwrap();
        assert_eq!(
            keyring.clone().with_device(&key).unwrap_err().name(),
            "device-key"
        );
        let keyring = keyring.with_device(&other).unwrap();
        assert_eq!(keyring.signers().len(), 2);
        let third = DeviceKey::generate().unwrap().certificate_bytes().unwrap();
        assert_eq!(keyring.with_device(&third).unwrap_err().name(), "device-key");
    }
}
