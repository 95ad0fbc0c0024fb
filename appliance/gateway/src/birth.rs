//! The supervisor's end of the gateway's life: descriptor 3, and the listener that is descriptor 4.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use sarai_wire::birth::{BIRTH_FD, BirthError, FromGateway, LISTEN_FD, ToGateway, recv, send};
use tokio::io::unix::AsyncFd;

/// The descriptors this process was born with.
pub struct Inheritance {
    /// Where the supervisor speaks.
    pub birth: OwnedFd,
    /// Where clients knock.
    pub listener: std::net::TcpListener,
}

/// Takes the inherited descriptors. May be called once, before anything else opens a descriptor.
pub fn inherit() -> io::Result<Inheritance> {
    for fd in [BIRTH_FD, LISTEN_FD] {
        // SAFETY: the descriptor is only borrowed for this call, which fails cleanly if it is not open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    // SAFETY: both descriptors were just seen to be open, the supervisor passed them for this purpose, nothing in
    // this process has used their numbers, and this is the only place that takes them.
    let (birth, listener) = unsafe {
        (
            OwnedFd::from_raw_fd(BIRTH_FD),
            std::net::TcpListener::from_raw_fd(LISTEN_FD),
        )
    };
    // Fails here rather than later if descriptor 4 is no TCP socket.
    listener.local_addr()?;
    Ok(Inheritance { birth, listener })
}

/// The birth socket on tokio.
pub struct Birth(AsyncFd<OwnedFd>);

impl Birth {
    /// Wraps the non-blocking descriptor. Must run on a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: `fd` is owned, so it is open and stays the same open file until the `AsyncFd`, which never hands
        // it out, is dropped.
        let registered = unsafe { AsyncFd::register(fd) };
        registered.map(Self).map_err(Into::into)
    }

    /// The next message with the descriptors attached to it; [`BirthError::Closed`] when the supervisor is gone.
    pub async fn next_with_files(&self) -> Result<(ToGateway, Vec<OwnedFd>), BirthError> {
        loop {
            let mut ready = self.0.readable().await?;
            match recv(self.0.get_ref().as_fd()) {
                Ok(received) => return Ok(received),
                Err(BirthError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready()
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Says something.
    pub async fn say(&self, message: &FromGateway) -> Result<(), BirthError> {
        loop {
            let mut ready = self.0.writable().await?;
            match send(self.0.get_ref().as_fd(), message, &[]) {
                Err(BirthError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready()
                }
                result => return result,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_come_and_go_and_the_end_is_noticed() {
        let (near, far) = sarai_wire::birth::pair().unwrap();
        fcntl(&far, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let birth = Birth::new(far).unwrap();
        let later = async {
            tokio::task::yield_now().await;
            send(near.as_fd(), &ToGateway::Ping { seq: 7 }, &[]).unwrap();
        };
        let (message, ()) = tokio::join!(birth.next_with_files(), later);
        assert!(matches!(message.unwrap().0, ToGateway::Ping { seq: 7 }));
        birth.say(&FromGateway::Ready).await.unwrap();
        assert!(matches!(recv(near.as_fd()).unwrap().0, FromGateway::Ready));
        drop(near);
        assert!(matches!(birth.next_with_files().await, Err(BirthError::Closed)));
    }
}
