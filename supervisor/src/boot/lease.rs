//! The lease file that the DHCP client's script writes. What is in it came from the network, so it is read strictly.

use std::net::Ipv4Addr;

use crate::network::is_host;

/// Largest lease file, bytes.
pub const MAX_FILE: u64 = 4096;
/// Most routers, and most name servers.
const MAX_LIST: usize = 8;

/// An address and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Interface that has it.
    pub interface: String,
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network.
    pub prefix: u8,
    /// Routers, best first.
    pub router: Vec<Ipv4Addr>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
}

/// Reads `interface=`, `address=`, `prefix=`, `router=` and `dns=`, each once, the last two optional and with
/// several values after another. The error says what is wrong.
pub fn parse(text: &str) -> Result<Lease, String> {
    let (mut interface, mut address, mut prefix, mut router, mut dns) = (None, None, None, None, None);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (key, value) = line
            .split_once('=')
            .ok_or_else(|| format!("a line without '=': {}", shown(line)))?;
        let value = value.trim();
        let wrong = || format!("{} is {}", shown(key), shown(value));
        let twice = match key.trim() {
            "interface" => interface
                .replace(
                    Some(value)
                        .filter(|v| crate::config::is_interface(v))
                        .ok_or_else(wrong)?
                        .to_owned(),
                )
                .is_some(),
            "address" => address.replace(host(value).ok_or_else(wrong)?).is_some(),
            "prefix" => {
                let bits = value.parse::<u8>().ok().filter(|bits| (1..=32).contains(bits));
                prefix.replace(bits.ok_or_else(wrong)?).is_some()
            }
            "router" => router.replace(hosts(value).ok_or_else(wrong)?).is_some(),
            "dns" => dns.replace(hosts(value).ok_or_else(wrong)?).is_some(),
            _ => return Err(format!("unknown entry {}", shown(key))),
        };
        if twice {
            return Err(format!("{} is there twice", shown(key)));
        }
    }
    Ok(Lease {
        interface: interface.ok_or("interface is missing")?,
        address: address.ok_or("address is missing")?,
        prefix: prefix.ok_or("prefix is missing")?,
        router: router.unwrap_or_default(),
        dns: dns.unwrap_or_default(),
    })
}

fn host(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|address| is_host(*address))
}

fn hosts(text: &str) -> Option<Vec<Ipv4Addr>> {
    let list: Option<Vec<Ipv4Addr>> = text.split_ascii_whitespace().map(host).collect();
    list.filter(|list| list.len() <= MAX_LIST)
}

fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str =
        "interface=eth0\naddress=10.0.2.15\nprefix=24\nrouter=10.0.2.2\ndns=10.0.2.3 1.1.1.1\n";

    #[test]
    fn a_lease_is_read() {
        let lease = parse(GOOD).unwrap();
        assert_eq!(lease.interface, "eth0");
        assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!(lease.dns.len(), 2);
        assert!(
            parse("interface=eth0\naddress=10.0.2.15\nprefix=24\nrouter=\ndns=\n")
                .unwrap()
                .router
                .is_empty()
        );
    }

    #[test]
    fn anything_else_is_refused_with_what_is_wrong() {
        for (from, to, wrong) in [
            ("eth0", "../../etc", "interface"),
            ("eth0", "a-name-that-is-too-long", "interface"),
            ("10.0.2.15", "127.0.0.1", "address"),
            ("10.0.2.15", "255.255.255.255", "address"),
            ("10.0.2.15", "10.0.2.15; reboot", "address"),
            ("prefix=24", "prefix=33", "prefix"),
            ("prefix=24\n", "", "prefix is missing"),
            ("1.1.1.1", "example.org", "dns"),
            (
                "10.0.2.3 1.1.1.1",
                "1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1 1.1.1.1",
                "dns",
            ),
            ("router=", "address=10.0.2.2\nrouter=", "twice"),
            ("router=", "gateway=", "unknown"),
            ("router=10.0.2.2", "router", "without"),
        ] {
            let text = GOOD.replace(from, to);
            assert!(parse(&text).unwrap_err().contains(wrong), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn what_is_read_is_what_was_written(a in 1u8..127, b in any::<u8>(), prefix in 1u8..=32) {
            prop_assume!(a != 127);
            let text = format!("interface=enp1s0\naddress={a}.{b}.3.4\nprefix={prefix}\n");
            let lease = parse(&text).unwrap();
            prop_assert_eq!((lease.address, lease.prefix), (Ipv4Addr::new(a, b, 3, 4), prefix));
        }
    }
}
