//! Finds the supervisor of this machine, and the certificate its clients trust.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sarai_wire::control::SOCKET_NAME;

use crate::control::Client;
use crate::failure::Failure;

/// The image's control socket.
const SYSTEM: &str = "/run/sarai/control.sock";
/// Name of the folder of a native run.
const NATIVE: &str = ".sarai";
/// Most folders looked at above a start folder.
const MAX_DEPTH: usize = 32;
/// Largest certificate file that is read, bytes.
const MAX_CERTIFICATE: u64 = 256 * 1024;

/// Connects to the socket that was named, else to the image's, else to the newest native run that answers.
pub fn connect(named: Option<&Path>) -> Result<Client, Failure> {
    if let Some(path) = named {
        return Client::connect(path).map_err(|e| not_there(path, &e));
    }
    let mut last = None;
    for path in candidates() {
        match Client::connect(&path) {
            Ok(client) => return Ok(client),
            // A folder of another user, a socket left behind by a killed run: another may answer.
            Err(e) => last = last.or(Some(not_there(&path, &e))),
        }
    }
    Err(last.unwrap_or_else(|| {
        Failure::not_ready(format!(
            "no appliance runs here: neither {SYSTEM} nor {NATIVE}/run/{SOCKET_NAME} in this folder or above it; \
             start one with scripts/run, or name the socket with --socket"
        ))
    }))
}

fn not_there(path: &Path, error: &std::io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => Failure::not_ready(format!("no appliance runs here: {path} does not exist")),
        ErrorKind::ConnectionRefused => Failure::not_ready(format!(
            "no appliance runs here: nobody listens on {path} any more"
        )),
        ErrorKind::PermissionDenied => {
            Failure::refused(format!("{path} is for root and the group admin; you are neither"))
        }
        _ => Failure::failed(format!("connect to {path}: {error}")),
    }
}

/// Sockets that may be the one, best first.
fn candidates() -> Vec<PathBuf> {
    let mut starts = Vec::new();
    starts.extend(std::env::current_dir().ok());
    // A build in a source tree finds that tree's run from any folder.
    starts.extend(
        std::env::current_exe()
            .ok()
            .and_then(|exe| exe.parent().map(Path::to_owned)),
    );
    let mut found = native(&starts);
    if Path::new(SYSTEM).exists() {
        found.insert(0, PathBuf::from(SYSTEM));
    }
    found
}

/// Sockets of native runs in the folders and those above them, newest first.
fn native(starts: &[PathBuf]) -> Vec<PathBuf> {
    let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
    for folder in starts.iter().flat_map(|start| start.ancestors().take(MAX_DEPTH)) {
        let path = folder.join(NATIVE).join("run").join(SOCKET_NAME);
        if let Ok(made) = path.metadata().and_then(|m| m.modified())
            && !found.iter().any(|(_, other)| *other == path)
        {
            found.push((made, path));
        }
    }
    found.sort_by_key(|(made, _)| std::cmp::Reverse(*made));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The certificate authority's certificate in PEM form, from where the supervisor says it is.
pub fn certificate(client: &mut Client) -> Result<String, Failure> {
    let beside = client.path().with_file_name("ca.crt");
    let path = client.status()?.ca_path.map_or(beside, PathBuf::from);
    read_certificate(&path)
}

/// Reads a PEM file within its bound and makes sure it holds a certificate.
pub fn read_certificate(path: &Path) -> Result<String, Failure> {
    let shown = path.display();
    let mut pem = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_CERTIFICATE + 1).read_to_string(&mut pem))
        .map_err(|e| Failure::failed(format!("read the certificate {shown}: {e}")))?;
    if pem.len() as u64 > MAX_CERTIFICATE {
        return Err(Failure::failed(format!(
            "read the certificate {shown}: more than {MAX_CERTIFICATE} bytes"
        )));
    }
    if !pem.contains("-----BEGIN CERTIFICATE-----") {
        return Err(Failure::failed(format!(
            "read the certificate {shown}: it holds no PEM certificate"
        )));
    }
    Ok(pem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn the_newest_native_run_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        let older = dir.path().join(".sarai/run");
        let newer = dir.path().join("a/.sarai/run");
        for folder in [&inner, &older, &newer] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let _a = std::os::unix::net::UnixListener::bind(older.join(SOCKET_NAME)).unwrap();
        let _b = std::os::unix::net::UnixListener::bind(newer.join(SOCKET_NAME)).unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(60);
        // A socket's time is set through its path: it cannot be opened.
        let stamp =
            nix::sys::time::TimeSpec::from_duration(old.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        nix::sys::stat::utimensat(
            nix::fcntl::AT_FDCWD,
            &older.join(SOCKET_NAME),
            &stamp,
            &stamp,
            nix::sys::stat::UtimensatFlags::FollowSymlink,
        )
        .unwrap();
        let found = native(&[inner.clone(), inner]);
        assert_eq!(found, [newer.join(SOCKET_NAME), older.join(SOCKET_NAME)]);
    }

    #[test]
    fn a_missing_and_a_dead_socket_mean_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SOCKET_NAME);
        assert_eq!(connect(Some(&path)).unwrap_err().kind, Kind::NotReady);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let failure = connect(Some(&path)).unwrap_err();
        assert_eq!(failure.kind, Kind::NotReady);
        assert!(failure.message.contains("nobody listens"), "{}", failure.message);
    }

    #[test]
    fn only_a_certificate_of_sane_size_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.crt");
        assert!(read_certificate(&path).is_err());
        std::fs::write(&path, "hello").unwrap();
        assert!(
            read_certificate(&path)
                .unwrap_err()
                .message
                .contains("no PEM certificate")
        );
        std::fs::write(&path, vec![b'x'; 300 * 1024]).unwrap();
        assert!(read_certificate(&path).unwrap_err().message.contains("more than"));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(read_certificate(&path).is_ok());
    }
}
