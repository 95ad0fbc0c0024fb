//! What the gateway proves itself with and knows its clients by: certificate, private key, bearer keys.
//!
//! They are read together from one folder and replaced together. New connections see the new certificate, every
//! request sees the new keys, and nothing that runs is disturbed. A folder that cannot be read changes nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::keys::{Keys, KeysError};

/// Largest file that is read, bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// Longest certificate chain.
const MAX_CHAIN: usize = 8;

/// Why credentials are not used. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read.
    #[error("read {0}: {1}")]
    Read(PathBuf, #[source] io::Error),
    /// A file is too large.
    #[error("read {0}: larger than {MAX_FILE} bytes")]
    TooLarge(PathBuf),
    /// The certificate or key is not the PEM that was expected.
    #[error("read {0}: {1}")]
    Pem(PathBuf, String),
    /// Certificate and key do not fit together, or cannot be used.
    #[error("use the server's certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// One generation of credentials.
pub struct Credentials {
    /// TLS 1.3 with the server's certificate.
    pub tls: Arc<ServerConfig>,
    /// The bearer keys.
    pub keys: Keys,
}

impl Credentials {
    fn load(folder: &Path) -> Result<Self, CredentialsError> {
        let path = folder.join("server.crt");
        let chain = CertificateDer::pem_slice_iter(&read(&path)?)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| CredentialsError::Pem(path.clone(), error.to_string()))?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            let text = format!("{} certificates, 1 to {MAX_CHAIN} are expected", chain.len());
            return Err(CredentialsError::Pem(path, text));
        }
        let path = folder.join("server.key");
        let key = PrivateKeyDer::from_pem_slice(&read(&path)?)
            .map_err(|error| CredentialsError::Pem(path, error.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // No early data: a replayed request would cost a generation.
        tls.max_early_data_size = 0;

        let path = folder.join("keys.toml");
        let keys = match read(&path) {
            Ok(bytes) => {
                let text = std::str::from_utf8(&bytes)
                    .map_err(|error| CredentialsError::Pem(path, error.to_string()))?;
                Keys::parse(text)?
            }
            // Before the admin made the first key there is no file, and nobody gets in.
            Err(CredentialsError::Read(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                Keys::default()
            }
            Err(error) => return Err(error),
        };
        Ok(Self {
            tls: Arc::new(tls),
            keys,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CredentialsError> {
    use std::io::Read;
    let failed = |error| CredentialsError::Read(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(CredentialsError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// The credentials in use, replaced as a whole.
pub struct CredentialStore {
    folder: PathBuf,
    current: RwLock<Arc<Credentials>>,
}

impl CredentialStore {
    /// Reads `folder` for the first time.
    pub fn open(folder: PathBuf) -> Result<Self, CredentialsError> {
        let current = RwLock::new(Arc::new(Credentials::load(&folder)?));
        Ok(Self { folder, current })
    }

    /// The credentials now.
    pub fn current(&self) -> Arc<Credentials> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the folder again; on an error the old credentials stay. Returns how many keys there are now.
    pub fn reload(&self) -> Result<usize, CredentialsError> {
        let new = Credentials::load(&self.folder)?;
        let keys = new.keys.len();
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(folder.path().join("server.crt"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("server.key"), made.signing_key.serialize_pem()).unwrap();
        folder
    }

    #[test]
    fn a_folder_without_keys_is_used_and_lets_nobody_in() {
        let store = CredentialStore::open(folder().path().to_owned()).unwrap();
        assert_eq!(store.current().keys.len(), 0);
    }

    #[test]
    fn a_broken_reload_keeps_what_was() {
        let folder = folder();
        let store = CredentialStore::open(folder.path().to_owned()).unwrap();
        let before = store.current();
        std::fs::write(folder.path().join("keys.toml"), "not toml").unwrap();
        assert!(matches!(store.reload(), Err(CredentialsError::Keys(_))));
        assert!(Arc::ptr_eq(&before, &store.current()));
        std::fs::remove_file(folder.path().join("keys.toml")).unwrap();
        assert_eq!(store.reload().unwrap(), 0);
        assert!(!Arc::ptr_eq(&before, &store.current()));
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_said() {
        let made = folder();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (file, content, expected) in [
            (
                "server.key",
                other.signing_key.serialize_pem(),
                "use the server's certificate",
            ),
            ("server.key", "nothing".into(), "server.key"),
            ("server.crt", String::new(), "0 certificates"),
            ("server.crt", "x".repeat(2 << 20), "larger than"),
        ] {
            let path = made.path().join(file);
            let good = std::fs::read(&path).unwrap();
            std::fs::write(&path, content).unwrap();
            let error = CredentialStore::open(made.path().to_owned())
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains(expected), "{error}");
            std::fs::write(&path, good).unwrap();
        }
        std::fs::remove_file(made.path().join("server.crt")).unwrap();
        assert!(matches!(
            CredentialStore::open(made.path().to_owned()),
            Err(CredentialsError::Read(..))
        ));
    }
}
