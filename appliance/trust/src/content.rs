//! Judging the content of an open file: measured by the kernel where it can, hashed where it cannot.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;

use crate::hashing::sha256_file;
use crate::verity::{self, Measured};
use crate::{Attestation, TrustError};

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

#[cfg(test)]
mod tests {
    use super::*;

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
