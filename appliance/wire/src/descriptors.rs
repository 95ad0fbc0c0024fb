//! One line over a stream socket with descriptors attached: how an answer brings files with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Most descriptors one line carries.
pub const MAX_FILES: usize = 128;

/// Sends the first bytes of `bytes` with `files` attached to them, and says how many; the rest is for an ordinary
/// write. `WouldBlock` on a non-blocking socket that is full.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], files: &[RawFd]) -> io::Result<usize> {
    if files.len() > MAX_FILES {
        return Err(io::Error::other("too many files for one line"));
    }
    Ok(send_with(socket, bytes, files)?)
}

/// One `sendmsg` of `bytes` with `files` attached; says how many bytes went.
pub(crate) fn send_with(socket: BorrowedFd<'_>, bytes: &[u8], files: &[RawFd]) -> nix::Result<usize> {
    let rights = [ControlMessage::ScmRights(files)];
    let control: &[ControlMessage<'_>] = if files.is_empty() { &[] } else { &rights };
    loop {
        let sent = sendmsg::<()>(
            socket.as_raw_fd(),
            &[IoSlice::new(bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        );
        match sent {
            Err(nix::errno::Errno::EINTR) => {}
            sent => return sent,
        }
    }
}

/// Receives what is there, at most `most` bytes, with the descriptors attached to it (close-on-exec). No bytes: the
/// other end is closed.
pub fn receive(socket: BorrowedFd<'_>, most: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; most];
    let mut space = nix::cmsg_space!([RawFd; MAX_FILES]);
    let (length, flags, files) = receive_with(socket, &mut bytes, &mut space)?;
    if flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::other(
            "files were lost on the way; raise the limit of open files",
        ));
    }
    bytes.truncate(length);
    Ok((bytes, files))
}

/// One `recvmsg` into `bytes`, with room for descriptors in `space`: the length, the kernel's flags, and the
/// descriptors that came (close-on-exec).
pub(crate) fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    space: &mut [u8],
) -> nix::Result<(usize, MsgFlags, Vec<OwnedFd>)> {
    loop {
        let mut parts = [IoSliceMut::new(bytes)];
        match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Ok(message) => {
                let mut files = Vec::new();
                if let Ok(parts) = message.cmsgs() {
                    for part in parts {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            // SAFETY: the kernel just installed these descriptors for this process and nothing
                            // else knows their numbers, so each is owned exactly once.
                            files.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                        }
                    }
                }
                return Ok((message.bytes, message.flags, files));
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn files_come_with_the_bytes_they_were_sent_with() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let files: Vec<std::fs::File> = (0..MAX_FILES)
            .map(|n| {
                let fd = nix::sys::memfd::memfd_create(c"f", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
                let mut file = std::fs::File::from(fd);
                write!(file, "{n}").unwrap();
                file.rewind().unwrap();
                file
            })
            .collect();
        let raw: Vec<RawFd> = files.iter().map(AsRawFd::as_raw_fd).collect();
        assert_eq!(send(near.as_fd(), b"line", &raw).unwrap(), 4);
        near.write_all(b" and more\n").unwrap();
        let (bytes, got) = receive(far.as_fd(), 4096).unwrap();
        assert!(bytes.starts_with(b"line"));
        let texts: Vec<String> = got
            .into_iter()
            .map(|fd| {
                let mut text = String::new();
                std::fs::File::from(fd).read_to_string(&mut text).unwrap();
                text
            })
            .collect();
        assert_eq!(texts.len(), MAX_FILES);
        assert_eq!((texts[0].as_str(), texts[127].as_str()), ("0", "127"));
        drop(near);
        while !receive(far.as_fd(), 4096).unwrap().0.is_empty() {}
        let (near, _far) = UnixStream::pair().unwrap();
        assert!(send(near.as_fd(), b"x", &[0; MAX_FILES + 1]).is_err());
    }
}
