//! Connections a byte at a time: TCP from a chosen loopback address, and TLS by hand on top of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A TLS connection with nothing above it.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Connects to `127.0.0.1:port` from the loopback address `from`, so that one test can be many clients.
pub fn tcp(from: Ipv4Addr, port: u16) -> Result<TcpStream> {
    let fd: OwnedFd = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).context("bind")?;
    let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    connect(fd.as_raw_fd(), &to).context("connect")?;
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// TLS settings that trust the PEM certificate in `ca`.
pub fn tls_config(ca: &Path) -> Result<Arc<ClientConfig>> {
    crate::client::install_tls();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).context("read the CA's certificate")?)?;
    Ok(Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}

/// A finished handshake on `tcp`; each read and write then takes at most `limit`.
pub fn tls(config: &Arc<ClientConfig>, mut tcp: TcpStream, limit: Duration) -> Result<Tls> {
    tcp.set_read_timeout(Some(limit))?;
    tcp.set_write_timeout(Some(limit))?;
    let mut connection = ClientConnection::new(config.clone(), ServerName::try_from("127.0.0.1")?)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp).context("shake hands")?;
    }
    Ok(StreamOwned::new(connection, tcp))
}

/// How the peer treats a connection on which nothing was asked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Open and silent.
    Waiting,
    /// It sent something.
    Spoke,
    /// It closed or reset.
    Gone,
}

/// Looks at a connection without waiting; what was received is thrown away.
pub fn look(stream: &mut TcpStream) -> Peer {
    let mut buffer = [0; 4096];
    if stream.set_nonblocking(true).is_err() {
        return Peer::Gone;
    }
    let seen = match stream.read(&mut buffer) {
        Ok(0) => Peer::Gone,
        Ok(_) => Peer::Spoke,
        Err(e) if e.kind() == ErrorKind::WouldBlock => Peer::Waiting,
        Err(_) => Peer::Gone,
    };
    let _ = stream.set_nonblocking(false);
    seen
}

/// Reads until the peer closes, the read limit passes or `most` bytes came.
pub fn read_some(from: &mut impl Read, most: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while all.len() < most {
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
        }
    }
    all
}

/// Writes `chunk` again and again until the peer stops it or `most` bytes went out; gives how many went.
pub fn pour(to: &mut impl Write, chunk: &[u8], most: u64) -> u64 {
    let mut sent = 0;
    while sent < most {
        if to.write_all(chunk).is_err() {
            break;
        }
        sent += chunk.len() as u64;
    }
    sent
}
