//! Who this machine is: device key, certificate authority, server certificate, bearer keys. All of it is made at the
//! first boot and completed at the next one if that was cut short at any byte: every file is written aside and
//! renamed, each is useful alone, and the order of making them does not matter.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use sarai_trust::DeviceKey;

use crate::layout::Layout;
use crate::spawn;

pub mod authorized;
pub mod host_key;
pub mod keys;
pub mod pki;

use host_key::HostKey;
use pki::Authority;

/// Largest key or certificate file read, bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What could not be made or read. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("keep {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificates could not be made.
    #[error(transparent)]
    Pki(#[from] pki::PkiError),
}

/// The machine's keys, ready for use.
pub struct Identity {
    /// Signs adapters trained here, audit records, and merged models, which nobody loads for that alone.
    pub device: DeviceKey,
    /// Signs server certificates.
    pub authority: Authority,
    /// The SSH server's own.
    pub host: HostKey,
}

/// Loads what is there, makes what is missing, and sets damaged files aside with a sentence for the admin.
pub fn ensure(
    layout: &Layout,
    now: Timestamp,
    oldest: Timestamp,
) -> Result<(Identity, Vec<String>), IdentityError> {
    let mut problems = Vec::new();
    let device = kept(
        &layout.keys().join("device.key"),
        &mut problems,
        DeviceKey::from_bytes,
        || {
            let key = DeviceKey::generate().map_err(|e| e.to_string())?;
            let bytes = key.to_bytes().map_err(|e| e.to_string())?;
            Ok((key, bytes))
        },
    )?;
    let authority = kept(
        &layout.keys().join("ca.pem"),
        &mut problems,
        Authority::from_bytes,
        || {
            let authority = Authority::make(now, oldest).map_err(|e| e.to_string())?;
            let bytes = authority.to_bytes();
            Ok((authority, bytes))
        },
    )?;
    let host = kept(
        &layout.keys().join(host_key::FILE),
        &mut problems,
        HostKey::from_bytes,
        || {
            let key = HostKey::make()?;
            let bytes = key.to_bytes().to_vec();
            Ok((key, bytes))
        },
    )?;
    if authority.ends_within(now, 90) {
        problems.push("the certificate authority ends within 90 days; remove keys/ca.pem from the data folder and restart to make a new one, then give clients the new certificate".to_owned());
    }
    if !read(&layout.ca())
        .is_ok_and(|there| there.is_some_and(|bytes| bytes == authority.certificate_pem().as_bytes()))
    {
        write(&layout.ca(), authority.certificate_pem().as_bytes(), 0o644)?;
    }
    keys::Store::at(&layout.gateway())
        .ensure(&mut problems)
        .map_err(|e| IdentityError::File {
            path: layout.gateway().join(keys::FILE),
            reason: e.to_string(),
        })?;
    share(layout, &layout.gateway(), 0o750)?;
    share(layout, &layout.gateway().join(keys::FILE), 0o640)?;
    Ok((
        Identity {
            device,
            authority,
            host,
        },
        problems,
    ))
}

/// One secret file: read, or made when missing, or set aside and made again when damaged.
fn kept<T, E: std::fmt::Display>(
    path: &Path,
    problems: &mut Vec<String>,
    parse: impl Fn(&[u8]) -> Result<T, E>,
    make: impl FnOnce() -> Result<(T, Vec<u8>), String>,
) -> Result<T, IdentityError> {
    let wrong = |reason: String| IdentityError::File {
        path: path.to_owned(),
        reason,
    };
    match read(path) {
        Ok(Some(bytes)) => match parse(&bytes) {
            Ok(value) => return Ok(value),
            Err(e) => {
                let aside = path.with_extension("damaged");
                fs::rename(path, &aside).map_err(|e| wrong(e.to_string()))?;
                problems.push(format!(
                    "{} was damaged ({e}); it was set aside as {} and made anew",
                    path.display(),
                    aside.display()
                ));
            }
        },
        Ok(None) => {}
        Err(e) => return Err(wrong(e.to_string())),
    }
    let (value, bytes) = make().map_err(wrong)?;
    write(path, &bytes, 0o600)?;
    Ok(value)
}

fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), IdentityError> {
    sarai_trust::atomic::write(path, bytes, mode).map_err(|e| IdentityError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Lets the gateway's group read `path`, where the gateway is a user of its own.
pub fn share(layout: &Layout, path: &Path, mode: u32) -> Result<(), IdentityError> {
    let wrong = |e: std::io::Error| IdentityError::File {
        path: path.to_owned(),
        reason: e.to_string(),
    };
    if layout.separate {
        std::os::unix::fs::chown(path, None, Some(spawn::GATEWAY.id)).map_err(wrong)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(wrong)
}

/// The server's certificate for `names`, where the gateway reads it: the one that is there while it fits (an
/// address that is gone, or not back yet after a start, does no harm), else a new one. The server's key stays the same for the life of the machine, so key and certificate match even when a power
/// cut falls between the two. The flag is false when nothing was changed.
pub fn certify(
    layout: &Layout,
    authority: &Authority,
    names: &pki::Names,
    now: Timestamp,
) -> Result<(pki::Validity, bool), IdentityError> {
    let mut ignored = Vec::new();
    let path = layout.gateway().join("server.key");
    let key = kept(&path, &mut ignored, pki::key_from_bytes, || {
        let key = pki::make_key().map_err(|e| e.to_string())?;
        let pem = key.serialize_pem().into_bytes();
        Ok((key, pem))
    })?;
    share(layout, &path, 0o640)?;
    let path = layout.gateway().join("server.crt");
    if let Ok(Some(there)) = read(&path)
        && let Some((known, validity)) = authority.examine(&there, &key)
        && known.is_superset(&authority.wanted(names))
        && !validity.due(now)
    {
        share(layout, &path, 0o640)?;
        return Ok((validity, false));
    }
    let (chain, validity) = authority.issue(&key, names, now)?;
    write(&path, chain.as_bytes(), 0o640)?;
    share(layout, &path, 0o640)?;
    Ok((validity, true))
}

/// Whether the gateway has a certificate that clients of this authority accept, whatever names it holds: enough to
/// go on serving while the disk is too full for a new one.
#[must_use]
pub fn usable(layout: &Layout, authority: &Authority, now: Timestamp) -> bool {
    let bytes = |name: &str| read(&layout.gateway().join(name)).ok().flatten();
    let key = bytes("server.key").and_then(|bytes| pki::key_from_bytes(&bytes).ok());
    let examined = key
        .zip(bytes("server.crt"))
        .and_then(|(key, chain)| authority.examine(&chain, &key));
    examined.is_some_and(|(_, validity)| validity.from <= now && now <= validity.until)
}

#[cfg(test)]
mod tests;
