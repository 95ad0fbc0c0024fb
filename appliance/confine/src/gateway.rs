//! The gateway: many connections, its certificate and keys, its audit log, feedback, and the engines' sockets.

use nix::libc;

use crate::{Call, INT, calls};

/// From before the first connection. Which files can be opened is for the empty root and Landlock to say: a filter
/// sees no paths.
pub(crate) const SERVE: &[&[Call]] = &[NETWORK, FILES, OWN];

const NETWORK: &[Call] = calls! {
    SYS_epoll_create1: "waiting for many sockets",
    SYS_epoll_ctl: "the same",
    SYS_epoll_pwait: "the same",
    SYS_setsockopt[1 & INT => libc::IPPROTO_TCP]: "small answers leave at once",
    // No socket but of the machine itself: no way to the LAN except the connections it accepts.
    SYS_socket[0 & INT => libc::AF_UNIX]: "to an engine",
    SYS_connect: "to an engine",
    SYS_socketpair[0 & INT => libc::AF_UNIX]: "the runtime wakes itself",
};

const FILES: &[Call] = calls! {
    SYS_openat: "certificate, keys, audit log, feedback, its own memory's size",
    SYS_newfstatat: "the same",
    SYS_statx: "the same, and the limits the runtime asks for",
    SYS_getdents64: "files of the audit log and of feedback",
    SYS_fsync: "the audit log, feedback",
    SYS_fdatasync: "the audit log, feedback",
    SYS_ftruncate: "the torn end of the audit log or of feedback",
    SYS_unlinkat: "the oldest file of the audit log or of feedback",
    SYS_pread64: "a part of a file of feedback",
    SYS_pwrite64: "at the end of a file of feedback",
    SYS_renameat2: "a file of feedback that was written anew without what is to be forgotten",
    SYS_statfs: "whether the disk has room for feedback",
};

#[cfg(target_arch = "x86_64")]
const OWN: &[Call] = calls! {
    SYS_epoll_wait: "waiting for many sockets",
    SYS_unlink: "the oldest file of the audit log or of feedback",
    SYS_rename: "a file of feedback that was written anew without what is to be forgotten",
};
#[cfg(not(target_arch = "x86_64"))]
const OWN: &[Call] = calls! {
    SYS_renameat: "a file of feedback that was written anew, as the C library there asks",
};
