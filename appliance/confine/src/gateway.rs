//! The gateway: many connections, its certificate and keys, its audit log, and the engines' sockets.

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
    SYS_openat: "certificate, keys, audit log, its own memory's size",
    SYS_newfstatat: "the same",
    SYS_statx: "the same, and the limits the runtime asks for",
    SYS_getdents64: "files of the audit log",
    SYS_fsync: "the audit log",
    SYS_fdatasync: "the audit log",
    SYS_ftruncate: "the torn end of the audit log",
    SYS_unlinkat: "the oldest file of the audit log",
};

#[cfg(target_arch = "x86_64")]
const OWN: &[Call] = calls! {
    SYS_epoll_wait: "waiting for many sockets",
    SYS_unlink: "the oldest file of the audit log",
};
#[cfg(not(target_arch = "x86_64"))]
const OWN: &[Call] = &[];
