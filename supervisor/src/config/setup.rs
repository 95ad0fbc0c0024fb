//! Settings of a machine that nobody has logged in to yet: address, time, who may come in, whom to believe.

use std::net::{IpAddr, Ipv4Addr};

use jiff::tz::TimeZone;
use sarai_trust::Keyring;

use super::is_interface;
use super::reader::Section;
use crate::identity::authorized::{Key, MAX_LINE as MAX_KEY};
use crate::network::is_host;

/// Most name servers.
const MAX_DNS: usize = 3;
/// Most NTP servers.
const MAX_NTP: usize = 4;
/// Most SSH keys.
const MAX_KEYS: usize = 32;
/// Most additional release certificates.
const MAX_CERTIFICATES: usize = 16;

/// How the machine gets its address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Interface that has the address; every wired one when unset, or with a fixed address the first.
    pub interface: Option<String>,
    /// A fixed address; by DHCP when unset.
    pub fixed: Option<StaticAddress>,
}

/// A fixed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network.
    pub prefix: u8,
    /// The router, in the same network.
    pub router: Option<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
}

impl StaticAddress {
    /// `address/prefix`, an address that a host of that network can have.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix = prefix.parse().ok().filter(|bits| (8..=31).contains(bits))?;
        let me = Self {
            address,
            prefix,
            router: None,
            dns: Vec::new(),
        };
        let own = u32::from(address) & !me.mask();
        // In a network of two both are hosts; in others the first and the last are not.
        let host = prefix == 31 || (own != 0 && own != !me.mask());
        (is_host(address) && host).then_some(me)
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// Whether `other` is another host of the same network.
    #[must_use]
    pub fn reaches(&self, other: Ipv4Addr) -> bool {
        let network = |address: Ipv4Addr| u32::from(address) & self.mask();
        is_host(other) && other != self.address && network(other) == network(self.address)
    }
}

/// `[network]`.
pub(super) fn network(s: &mut Section<'_, '_>, to: &mut Network) {
    s.text("interface", is_interface, "an interface's name like eth0", |v| {
        to.interface = Some(v.to_owned());
    });
    s.text(
        "address",
        |v| v == "dhcp" || StaticAddress::parse(v).is_some(),
        "\"dhcp\", or an address and the bits of its network like 192.168.1.20/24",
        |v| to.fixed = StaticAddress::parse(v),
    );
    let fixed = to.fixed.clone();
    let (mut router, mut dns) = (None, Vec::new());
    s.text(
        "router",
        |v| {
            let router = v.parse().ok();
            fixed
                .as_ref()
                .zip(router)
                .is_some_and(|(own, router)| own.reaches(router))
        },
        "another address of the network of network.address, which must be set too",
        |v| router = v.parse().ok(),
    );
    let mut servers = Vec::new();
    s.each(
        "dns",
        MAX_DNS,
        |v| fixed.is_some() && v.parse().is_ok_and(is_host),
        "an IPv4 address, with network.address set too",
        &mut servers,
    );
    dns.extend(servers.iter().filter_map(|v| v.parse::<Ipv4Addr>().ok()));
    if let Some(fixed) = &mut to.fixed {
        fixed.router = router.or(fixed.router);
        if !dns.is_empty() {
            fixed.dns = dns;
        }
    }
}

/// `[time]`.
pub(super) fn time(s: &mut Section<'_, '_>, zone: &mut TimeZone, ntp: &mut Vec<String>) {
    s.text(
        "zone",
        |v| find_zone(v).is_some(),
        "a time zone like Europe/Madrid or UTC",
        |v| *zone = find_zone(v).unwrap_or(TimeZone::UTC),
    );
    s.each("ntp", MAX_NTP, is_server, "a name or an address", ntp);
}

/// A zone by its name in the IANA's table.
fn find_zone(name: &str) -> Option<TimeZone> {
    let plain = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+'))
        && !name.starts_with('/');
    plain.then(|| TimeZone::get(name).ok()).flatten()
}

/// `[ssh]`.
pub(super) fn ssh(s: &mut Section<'_, '_>, keys: &mut Vec<String>) {
    s.each(
        "authorized_keys",
        MAX_KEYS,
        is_ssh_key,
        "the line of a public key like \"ssh-ed25519 AAAA… name\", without options",
        keys,
    );
}

/// `[trust]`.
pub(super) fn trust(s: &mut Section<'_, '_>, certificates: &mut Vec<String>) {
    s.each(
        "certificates",
        MAX_CERTIFICATES,
        |v| Keyring::default().with_release(v.as_bytes()).is_ok(),
        "an ASCII-armoured OpenPGP certificate",
        certificates,
    );
}

/// A name that DNS could know, or an address.
fn is_server(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label))
}

/// One line of an `authorized_keys` file, as it will be read when it is handed out.
fn is_ssh_key(line: &str) -> bool {
    line.len() <= MAX_KEY && !line.chars().any(char::is_control) && Key::parse(line).is_ok()
}

#[cfg(test)]
mod tests;
