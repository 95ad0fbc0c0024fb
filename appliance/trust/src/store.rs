//! Opening an artifact of the model store: once, and verified on the descriptor that the caller gets.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::check::{MAX_SIGNATURE, check_document};
use crate::hashing::sha256_file;
use crate::verity::{self, Measured};
use crate::{Attestation, Expect, Keyring, MAX_DOCUMENT, TrustError};

/// How a file's content was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The kernel measured it: constant time, and nobody can change the file any more.
    FsVerity,
    /// Every byte was hashed; the file system has no fs-verity, or it could not be enabled.
    FullHash,
}

impl Method {
    /// `fs-verity` or `full-hash`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FsVerity => "fs-verity",
            Self::FullHash => "full-hash",
        }
    }
}

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

/// Judges the content of an open file by an attestation that holds. The offset is not moved; `path` is for
/// messages only. `enable` allows to enable fs-verity where it is missing: from then on the file cannot be
/// changed, only removed.
pub fn verify_content(
    file: &File,
    path: &Path,
    attestation: &Attestation,
    enable: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Method, TrustError> {
    judge_content(file, path, attestation, enable, progress, &Ioctls)
}

/// The two questions to the kernel, so that tests can answer them as file systems do that are not at hand.
trait Kernel {
    fn measure(&self, file: &File) -> std::io::Result<Measured>;
    fn install(&self, file: &File) -> std::io::Result<bool>;
}

struct Ioctls;

impl Kernel for Ioctls {
    fn measure(&self, file: &File) -> std::io::Result<Measured> {
        verity::measure(file)
    }

    fn install(&self, file: &File) -> std::io::Result<bool> {
        verity::install(file)
    }
}

fn judge_content(
    file: &File,
    path: &Path,
    attestation: &Attestation,
    enable: bool,
    progress: &mut dyn FnMut(u64, u64),
    kernel: &dyn Kernel,
) -> Result<Method, TrustError> {
    let right_size = |found: u64| {
        let expected = attestation.size;
        if found == expected {
            Ok(())
        } else {
            Err(TrustError::WrongSize { expected, found })
        }
    };
    right_size(file.metadata().map_err(TrustError::io("stat", path))?.len())?;
    match kernel.measure(file).map_err(TrustError::io("measure", path))? {
        Measured::Unsupported => full_hash(file, path, attestation, progress).map(|()| Method::FullHash),
        Measured::NotEnabled => {
            full_hash(file, path, attestation, progress)?;
            if !enable {
                return Ok(Method::FullHash);
            }
            match kernel.install(file) {
                Ok(true) => {
                    // Somebody may have written between the hash and here. Now nobody can: this judges.
                    let now = kernel.measure(file).map_err(TrustError::io("measure", path))?;
                    compare(now, attestation).map(|()| Method::FsVerity)
                }
                Ok(false) => Ok(Method::FullHash),
                // A writer could change what was just hashed.
                Err(e) if e.raw_os_error() == Some(Errno::ETXTBSY as i32) => Err(TrustError::FileInUse),
                // Not root, a read-only or full disk: the hash stands, and the caller sees how it was verified.
                Err(_) => Ok(Method::FullHash),
            }
        }
        measured => compare(measured, attestation).map(|()| Method::FsVerity),
    }
}

/// A file with fs-verity by other parameters can be neither measured against the attestation nor changed.
fn compare(measured: Measured, attestation: &Attestation) -> Result<(), TrustError> {
    match measured {
        Measured::Digest(found) if found == attestation.verity => Ok(()),
        measured => {
            let found = if let Measured::Digest(d) = measured {
                d
            } else {
                crate::Digest::from_bytes([0; 32])
            };
            Err(TrustError::WrongDigest {
                what: "fs-verity",
                expected: attestation.verity,
                found,
            })
        }
    }
}

fn full_hash(
    file: &File,
    path: &Path,
    attestation: &Attestation,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), TrustError> {
    let (size, found) = sha256_file(file, progress).map_err(TrustError::io("read", path))?;
    if size != attestation.size {
        return Err(TrustError::WrongSize {
            expected: attestation.size,
            found: size,
        });
    }
    if found != attestation.sha256 {
        return Err(TrustError::WrongDigest {
            what: "sha256",
            expected: attestation.sha256,
            found,
        });
    }
    Ok(())
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

    /// A file system in a certain mood: what it answers before and after fs-verity is enabled.
    struct Mood {
        before: Measured,
        install: std::cell::RefCell<Option<std::io::Result<bool>>>,
        after: Measured,
    }

    impl Kernel for Mood {
        fn measure(&self, _: &File) -> std::io::Result<Measured> {
            Ok(if self.install.borrow().is_some() {
                self.before
            } else {
                self.after
            })
        }

        fn install(&self, _: &File) -> std::io::Result<bool> {
            self.install.take().expect("enabled twice")
        }
    }

    const CONTENT: &[u8] = b"content";
    const RIGHT: Measured = Measured::Digest(crate::Digest::from_bytes([7; 32]));
    const WRONG: Measured = Measured::Digest(crate::Digest::from_bytes([8; 32]));

    /// The verdict on `content`, and whether it was read.
    fn judged(
        content: &[u8],
        before: Measured,
        install: std::io::Result<bool>,
        after: Measured,
    ) -> (Result<Method, &'static str>, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let attestation = Attestation {
            format: 1,
            kind: crate::Kind::Model,
            id: "m".into(),
            version: "1".into(),
            sequence: 1,
            expires: None,
            size: CONTENT.len() as u64,
            sha256: crate::Digest::of(CONTENT),
            verity: crate::Digest::from_bytes([7; 32]),
            base: None,
            memory: None,
            probe: None,
        };
        let mood = Mood {
            before,
            install: Some(install).into(),
            after,
        };
        let mut read = false;
        let opened = File::open(file.path()).unwrap();
        let verdict = judge_content(
            &opened,
            file.path(),
            &attestation,
            true,
            &mut |_, _| read = true,
            &mood,
        );
        (verdict.map_err(|e| e.name()), read)
    }

    #[test]
    fn a_measured_file_is_judged_without_reading_it() {
        assert_eq!(
            judged(CONTENT, RIGHT, Ok(true), RIGHT),
            (Ok(Method::FsVerity), false)
        );
        assert_eq!(
            judged(CONTENT, WRONG, Ok(true), RIGHT),
            (Err("wrong-digest"), false)
        );
        assert_eq!(
            judged(CONTENT, Measured::Other, Ok(true), RIGHT),
            (Err("wrong-digest"), false)
        );
        assert_eq!(judged(b"cut", RIGHT, Ok(true), RIGHT), (Err("wrong-size"), false));
    }

    #[test]
    fn an_unmeasured_file_is_hashed_then_enabled_then_measured() {
        let before = Measured::NotEnabled;
        assert_eq!(
            judged(CONTENT, before, Ok(true), RIGHT),
            (Ok(Method::FsVerity), true)
        );
        assert_eq!(
            judged(b"changed", before, Ok(true), RIGHT),
            (Err("wrong-digest"), true)
        );
        // Changed after the hash, before the kernel closed it.
        assert_eq!(
            judged(CONTENT, before, Ok(true), WRONG),
            (Err("wrong-digest"), true)
        );
        assert_eq!(
            judged(CONTENT, before, Ok(true), Measured::NotEnabled),
            (Err("wrong-digest"), true)
        );
    }

    #[test]
    fn a_file_that_somebody_writes_is_refused_and_one_that_cannot_be_enabled_is_not() {
        let before = Measured::NotEnabled;
        let error = |errno: Errno| Err(std::io::Error::from(errno));
        assert_eq!(
            judged(CONTENT, before, error(Errno::ETXTBSY), RIGHT),
            (Err("file-in-use"), true)
        );
        for errno in [Errno::EACCES, Errno::EPERM, Errno::EROFS, Errno::ENOSPC] {
            assert_eq!(
                judged(CONTENT, before, error(errno), RIGHT),
                (Ok(Method::FullHash), true),
                "{errno}"
            );
        }
        assert_eq!(
            judged(CONTENT, before, Ok(false), RIGHT),
            (Ok(Method::FullHash), true)
        );
    }

    #[test]
    fn without_fs_verity_every_byte_is_hashed() {
        let before = Measured::Unsupported;
        assert_eq!(
            judged(CONTENT, before, Ok(true), RIGHT),
            (Ok(Method::FullHash), true)
        );
        assert_eq!(
            judged(b"changed", before, Ok(true), RIGHT),
            (Err("wrong-digest"), true)
        );
    }
}
