//! The kernel's records of denied system calls, as they are told to whoever listens: all of them, where its log takes
//! ten records in five seconds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};

/// Type of the record of a system call that a filter ended.
const SECCOMP: u16 = 1326;
/// The group that gets every record, `AUDIT_NLGRP_READLOG`, as a bit.
const READERS: u32 = 1;
/// Bytes of a message before its text, `struct nlmsghdr`.
const HEADER: usize = 16;
/// Longest record, bytes; `MAX_AUDIT_MESSAGE_LENGTH`.
const RECORD: usize = 8970;

/// Opcodes of a socket filter: load the half word at an offset, compare, return.
const LOAD_HALF: u16 = 0x28;
const EQUALS: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Keeps the records of denied calls that were made since, as many as fit into a socket's buffer: some ninety.
pub struct Records(OwnedFd);

impl Records {
    /// From now on. An error where this user may not listen, or where the namespace is not the machine's own.
    pub fn listen() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkAudit,
        )?;
        // Before it is bound: whatever else is recorded must not take the room.
        only_denied_calls(&socket)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READERS))?;
        Ok(Self(socket))
    }

    /// The text of the next record; `None` when there is none yet.
    pub fn next(&self) -> Option<String> {
        let mut message = [0; HEADER + RECORD];
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), &mut message) {
                // Only the kernel has the address 0.
                Ok((length, from)) if from.is_some_and(|from| from.pid() == 0) => {
                    let text = message.get(HEADER..length)?;
                    return Some(String::from_utf8_lossy(text).into_owned());
                }
                // Of somebody else; or some did not fit: the ones that did may hold what is looked for.
                Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }
}

fn only_denied_calls(socket: &OwnedFd) -> io::Result<()> {
    // The type stands at the fifth byte in the machine's order; a filter loads in the network's.
    let wanted = u16::from_be_bytes(SECCOMP.to_ne_bytes());
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_HALF, 0, 0, 4),
        step(EQUALS, 0, 1, wanted.into()),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog {
        // Four, as above.
        len: 4,
        filter: filter.as_mut_ptr(),
    };
    #[expect(clippy::cast_possible_truncation, reason = "some bytes")]
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program and the steps it points to are valid during the call, which copies them, and the size is
    // the program's.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    Errno::result(done)?;
    Ok(())
}
