//! The announcer: datagrams on the LAN, and the kernel's account of the machine's addresses. No file, no stream.

use nix::libc;

use crate::{Call, INT, calls};

/// The kind of a socket, whatever it says of close at exec and blocking.
const SOCKET: i64 = INT as i64 & !(libc::SOCK_CLOEXEC as i64 | libc::SOCK_NONBLOCK as i64);

/// From before the first packet.
pub(crate) const SERVE: &[&[Call]] = &[NETWORK, OWN];

const NETWORK: &[Call] = calls! {
    SYS_epoll_create1: "waiting for many sockets",
    SYS_epoll_ctl: "the same",
    SYS_epoll_pwait: "the same",
    // Datagrams alone: nothing that could become a connection.
    SYS_socket[0 & INT => libc::AF_INET, 1 & SOCKET => libc::SOCK_DGRAM]: "multicast DNS",
    SYS_socket[0 & INT => libc::AF_INET6, 1 & SOCKET => libc::SOCK_DGRAM]: "multicast DNS",
    SYS_socket[0 & INT => libc::AF_NETLINK, 1 & SOCKET => libc::SOCK_RAW, 2 & INT => libc::NETLINK_ROUTE]: "the machine's addresses",
    // The C library asks for interfaces through such a socket. There is nobody in the root to be reached by it.
    SYS_socket[0 & INT => libc::AF_UNIX, 1 & SOCKET => libc::SOCK_DGRAM]: "numbers and names of interfaces",
    SYS_bind: "the port of multicast DNS; an address of the netlink socket",
    SYS_setsockopt[1 & INT => libc::IPPROTO_IP]: "groups, interfaces and hops of multicast",
    SYS_setsockopt[1 & INT => libc::IPPROTO_IPV6]: "the same",
    SYS_ioctl[1 & INT => libc::SIOCGIFINDEX]: "number of an interface",
    SYS_ioctl[1 & INT => libc::SIOCGIFNAME]: "name of an interface",
    SYS_ioctl[1 & INT => libc::SIOCGIFFLAGS]: "whether an interface is up",
};

#[cfg(target_arch = "x86_64")]
const OWN: &[Call] = calls! {
    SYS_epoll_wait: "waiting for many sockets",
};
#[cfg(not(target_arch = "x86_64"))]
const OWN: &[Call] = &[];
