//! Network interfaces: which there are, and switching one on.

use std::fs;
use std::io;
use std::path::Path;

use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd;

/// Switches an interface on.
pub fn up(name: &str) -> io::Result<()> {
    if !crate::config::is_interface(name) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "no interface has such a name",
        ));
    }
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all zeroes is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SAFETY: `request` lives through both calls; its name is terminated, being shorter than the field; the union's
    // flags are what the kernel wrote in the first call.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
        #[expect(clippy::cast_possible_truncation, reason = "the flag is the lowest bit")]
        let on = libc::IFF_UP as libc::c_short;
        request.ifr_ifru.ifru_flags |= on;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Wired interfaces with hardware behind them, by name.
#[must_use]
pub fn wired(class: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let path = entry.path();
            let ethernet = fs::read_to_string(path.join("type")).is_ok_and(|kind| kind.trim() == "1");
            ethernet && path.join("device").exists() && !path.join("wireless").exists()
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| crate::config::is_interface(name))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_wired_interfaces_with_hardware_count() {
        let class = tempfile::tempdir().unwrap();
        for (name, kind, files) in [
            ("lo", "772", &[][..]),
            ("eth1", "1", &["device"]),
            ("eth0", "1", &["device"]),
            ("wlan0", "1", &["device", "wireless"]),
            ("docker0", "1", &[]),
        ] {
            let folder = class.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("type"), format!("{kind}\n")).unwrap();
            for file in files {
                fs::create_dir(folder.join(file)).unwrap();
            }
        }
        assert_eq!(wired(class.path()), ["eth0", "eth1"]);
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        assert!(up("nonexistent0").is_err());
        assert_eq!(up("../../etc").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
