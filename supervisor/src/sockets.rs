//! Listening sockets: bound by the supervisor and kept, so that connections wait in the backlog while a child
//! restarts instead of being refused.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use nix::libc;

use crate::app::Shared;
use crate::problems::lock;

/// Connections that may wait.
const BACKLOG: libc::c_int = 1024;

/// A Unix listener at `path` for the supervisor's own user, and for `group` where there is one. A stale socket is
/// replaced; a living one is not.
pub fn unix(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"));
    }
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    // Bound aside with tight permissions and then moved: at no moment can a stranger connect.
    let aside = path.with_extension("new");
    let _ = std::fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    let bits = match group {
        Some(group) => {
            chown(&aside, None, Some(group))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(bits))?;
    std::fs::rename(&aside, path)?;
    widen(&listener)?;
    Ok(listener)
}

/// The gateway's listener and its port: bound once, kept for the life of the supervisor.
pub fn gateway(app: &Shared) -> io::Result<(Arc<OwnedFd>, u16)> {
    let mut kept = lock(&app.tcp);
    if let Some((listener, port)) = &*kept {
        return Ok((Arc::clone(listener), *port));
    }
    let (listener, port) = tcp(app.config.listen)?;
    let listener = Arc::new(listener);
    *kept = Some((Arc::clone(&listener), port));
    Ok((listener, port))
}

fn tcp(address: SocketAddr) -> io::Result<(OwnedFd, u16)> {
    let listener = TcpListener::bind(address)?;
    widen(&listener)?;
    let port = listener.local_addr()?.port();
    Ok((listener.into(), port))
}

/// Listening again changes the backlog and nothing else.
fn widen(listener: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: a plain system call on a descriptor that is open for as long as the borrow.
    if unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        drop(unix(&path, None).unwrap());
        assert!(path.exists());
        let living = unix(&path, None).unwrap();
        assert_eq!(unix(&path, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        UnixStream::connect(&path).unwrap();
        drop(living);
    }

    #[test]
    fn a_taken_port_is_an_error_and_port_zero_finds_one() {
        let (_first, port) = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(port > 0);
        assert_eq!(
            tcp(([127, 0, 0, 1], port).into()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
