//! Opening an artifact of the model store: once, and verified on the descriptor that the caller gets.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::check::{MAX_SIGNATURE, check_document};
use crate::{Attestation, Expect, Keyring, MAX_DOCUMENT, Method, TrustError, verify_content};

/// An artifact whose every byte is vouched for.
#[derive(Debug)]
pub struct Verified {
    /// The file itself, read-only, close-on-exec, at offset 0: use this descriptor, never the path again.
    pub file: File,
    /// What its publisher says about it.
    pub attestation: Attestation,
    /// Fingerprint of the certificate that signed.
    pub signer: String,
    /// How the content was verified.
    pub method: Method,
}

/// The name of the document that belongs to a file: its last ending replaced by `.toml`. `None` for a name
/// that is not one plain component, has no ending, or would be its own document.
#[must_use]
pub fn document_name(file_name: &str) -> Option<String> {
    let mut parts = Path::new(file_name).components();
    let plain =
        matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == file_name);
    if !plain || file_name.starts_with('.') || file_name.len() > 200 {
        return None;
    }
    let (stem, ending) = file_name.rsplit_once('.')?;
    (!stem.is_empty() && !matches!(ending, "" | "toml" | "asc")).then(|| format!("{stem}.toml"))
}

/// Opens and verifies `store/file_name` by the document and signature beside it.
///
/// The document first (see [`check_document`]), then the file on one descriptor: regular file, size, content.
/// fs-verity that is already there is measured, constant time. Where the file system knows it and the file does
/// not have it yet, the file is hashed, fs-verity enabled, and the measured digest compared. Otherwise every
/// byte is hashed, and `progress` gets bytes done and bytes in all.
pub fn open_verified(
    store: &Path,
    file_name: &str,
    keyring: &Keyring,
    expect: &Expect<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Verified, TrustError> {
    let document_name = document_name(file_name).ok_or_else(|| TrustError::InvalidName {
        name: file_name.to_owned(),
    })?;
    let path = store.join(file_name);
    let folder = File::options()
        .read(true)
        .custom_flags(nix::libc::O_DIRECTORY)
        .open(store)
        .map_err(TrustError::io("open the model store", store))?;
    let file = open_regular(&folder, store, file_name)?;
    let document = read_beside(&folder, store, &document_name, MAX_DOCUMENT)?
        .map_err(|size| TrustError::DocumentTooLarge { size })?;
    let signature = match read_beside(&folder, store, &format!("{document_name}.asc"), MAX_SIGNATURE) {
        Ok(read) => Some(read.map_err(|size| TrustError::SignatureTooLarge { size })?),
        Err(TrustError::MissingFile { .. }) => None,
        Err(e) => return Err(e),
    };
    let checked = check_document(&document, signature.as_deref(), keyring, expect)?;
    let method = verify_content(&file, &path, &checked.attestation, true, progress)?;
    Ok(Verified {
        file,
        attestation: checked.attestation,
        signer: checked.signer,
        method,
    })
}

/// Opens a plain file of the store without following a link and without waiting for a pipe's other end.
fn open_regular(folder: &File, store: &Path, name: &str) -> Result<File, TrustError> {
    let path = store.join(name);
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ELOOP | Errno::ENXIO) => return Err(TrustError::NotAFile { path }),
        Err(e) => return Err(TrustError::io("open", path)(e.into())),
    };
    if !file.metadata().map_err(TrustError::io("stat", &path))?.is_file() {
        return Err(TrustError::NotAFile { path });
    }
    Ok(file)
}

/// Reads a small file of the store; the inner error is the size of one that exceeds `bound`.
fn read_beside(
    folder: &File,
    store: &Path,
    name: &str,
    bound: u64,
) -> Result<Result<Vec<u8>, u64>, TrustError> {
    let file = open_regular(folder, store, name)?;
    let size = file
        .metadata()
        .map_err(TrustError::io("stat", store.join(name)))?
        .len();
    if size > bound {
        return Ok(Err(size));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(bound + 1)
        .read_to_end(&mut bytes)
        .map_err(TrustError::io("read", store.join(name)))?;
    let read = bytes.len() as u64;
    Ok(if read > bound { Err(read) } else { Ok(bytes) })
}

/// Reads a small regular file by path (links are followed); `None` if it exceeds `bound` bytes.
pub fn read_bounded(path: &Path, bound: u64) -> Result<Option<Vec<u8>>, TrustError> {
    let file = File::options()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(TrustError::io("open", path))?;
    if !file.metadata().map_err(TrustError::io("stat", path))?.is_file() {
        return Err(TrustError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(bound + 1)
        .read_to_end(&mut bytes)
        .map_err(TrustError::io("read", path))?;
    Ok((bytes.len() as u64 <= bound).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_stands_beside_its_file() {
        assert_eq!(document_name("a.gguf").as_deref(), Some("a.toml"));
        assert_eq!(
            document_name("SmolLM2.Q4_1.gguf").as_deref(),
            Some("SmolLM2.Q4_1.toml")
        );
        for wrong in [
            "",
            ".",
            "..",
            "a",
            "a.",
            ".gguf",
            "a/b.gguf",
            "../b.gguf",
            "/b.gguf",
            "a.gguf/",
            "a.toml",
        ] {
            assert_eq!(document_name(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leaves_the_store(name in "[./a-z]{0,12}") {
            if let Some(document) = document_name(&name) {
                prop_assert!(!name.contains('/') && !document.contains('/') && document != name);
            }
        }
    }

    #[test]
    fn a_link_a_folder_and_a_pipe_are_not_files() {
        let store = tempfile::tempdir().unwrap();
        let folder = File::open(store.path()).unwrap();
        std::fs::write(store.path().join("real.gguf"), "x").unwrap();
        std::os::unix::fs::symlink("real.gguf", store.path().join("link.gguf")).unwrap();
        std::fs::create_dir(store.path().join("folder.gguf")).unwrap();
        nix::unistd::mkfifo(&store.path().join("pipe.gguf"), Mode::S_IRWXU).unwrap();
        for name in ["link.gguf", "folder.gguf", "pipe.gguf"] {
            assert_eq!(
                open_regular(&folder, store.path(), name).unwrap_err().name(),
                "not-a-file",
                "{name}"
            );
        }
        assert!(open_regular(&folder, store.path(), "real.gguf").is_ok());
        assert_eq!(
            open_regular(&folder, store.path(), "none.gguf")
                .unwrap_err()
                .name(),
            "missing-file"
        );
    }

    #[test]
    fn a_file_above_the_bound_is_not_read() {
        let store = tempfile::tempdir().unwrap();
        let path = store.path().join("x");
        std::fs::write(&path, [0; 11]).unwrap();
        assert_eq!(read_bounded(&path, 10).unwrap(), None);
        assert_eq!(read_bounded(&path, 11).unwrap().unwrap().len(), 11);
        assert_eq!(
            read_bounded(Path::new("/dev/zero"), 10).unwrap_err().name(),
            "not-a-file"
        );
    }
}
