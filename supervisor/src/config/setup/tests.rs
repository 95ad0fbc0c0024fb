use super::*;
use crate::config::Config;
use crate::layout::Mode;
use proptest::prelude::*;

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g admin@desk";

fn parse(text: &str) -> (Config, Vec<String>) {
    Config::parse(text, Config::defaults(Mode::Pid1))
}

fn certificate() -> String {
    let key = sarai_trust::DeviceKey::generate().unwrap();
    String::from_utf8(key.certificate_bytes().unwrap()).unwrap()
}

#[test]
fn everything_a_headless_machine_needs_is_read() {
    let text = format!(
        "\u{feff}hostname = \"kitchen\"\r\n[network]\r\naddress = \"192.168.1.20/24\"\r\nrouter = \"192.168.1.1\"\ndns = [\"192.168.1.1\", \"9.9.9.9\"]\n[time]\nzone = \"Europe/Madrid\"\nntp = [\"192.168.1.1\", \"pool.ntp.org\"]\n[ssh]\nauthorized_keys = [\"{ED25519}\"]\n[trust]\ncertificates = [\"\"\"\n{}\"\"\"]\n[memory]\nbudget = 8_000_000_000\n[night]\nhour = 4\n",
        certificate()
    );
    let (config, problems) = Config::defaults(Mode::Pid1).over(&text);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config.hostname.as_deref(), Some("kitchen"));
    let fixed = config.network.fixed.unwrap();
    assert_eq!(
        (fixed.address.to_string().as_str(), fixed.prefix),
        ("192.168.1.20", 24)
    );
    assert_eq!(fixed.router.unwrap().to_string(), "192.168.1.1");
    assert_eq!(fixed.dns.len(), 2);
    assert_eq!(config.zone.iana_name(), Some("Europe/Madrid"));
    assert_eq!(config.ntp, ["192.168.1.1", "pool.ntp.org"]);
    assert_eq!(config.ssh_keys, [ED25519]);
    assert_eq!(config.certificates.len(), 1);
    assert_eq!((config.budget, config.night_hour), (8_000_000_000, 4));
}

#[test]
fn each_wrong_setting_is_named_with_its_line_and_costs_itself_alone() {
    let text = format!(
        "[network]\naddress = \"192.168.1.255/24\"\nrouter = \"192.168.1.1\"\ndns = [\"9.9.9.9\"]\n[time]\nzone = \"Mars/Olympus\"\nntp = [\n  \"good.example\",\n  \"bad example\",\n]\n[ssh]\nauthorized_keys = [\n  \"ssh-ed25519 AAAA\",\n  \"{ED25519}\",\n]\n[trust]\ncertificates = [\"nonsense\"]\n[night]\nhour = 24\n"
    );
    let (config, problems) = parse(&text);
    for (line, what) in [
        (2, "network.address"),
        (3, "network.router"),
        (4, "network.dns"),
        (6, "time.zone"),
        (9, "time.ntp"),
        (13, "ssh.authorized_keys"),
        (17, "trust.certificates"),
        (19, "night.hour is 24, must be 0 to 23; using 2"),
    ] {
        let start = format!("sarai.toml line {line}: {what}");
        assert!(
            problems.iter().any(|p| p.starts_with(&start)),
            "{start}: {problems:#?}"
        );
    }
    assert_eq!(problems.len(), 8, "{problems:#?}");
    assert_eq!(config.network, Network::default());
    assert_eq!(config.ntp, ["good.example"]);
    assert_eq!(config.ssh_keys, [ED25519]);
    assert!(config.certificates.is_empty());
}

#[test]
fn a_second_file_goes_over_the_first_setting_by_setting() {
    let (image, _) = parse(
        "hostname = \"sarai\"\nprofile = \"omni\"\n[network]\naddress = \"10.0.0.2/8\"\nrouter = \"10.0.0.1\"\n",
    );
    let (config, problems) = image.clone().over("hostname = \"kitchen\"\nprofile = 7\n");
    assert_eq!(
        (config.hostname.as_deref(), config.profile.as_str()),
        (Some("kitchen"), "omni")
    );
    assert_eq!((problems.len(), &config.network), (1, &image.network));
    let (config, problems) = image.over("[network]\naddress = \"dhcp\"\n");
    assert_eq!((config.network, problems), (Network::default(), vec![]));
}

#[test]
fn addresses_are_those_a_host_can_have() {
    for good in [
        "192.168.1.20/24",
        "10.0.0.1/8",
        "172.16.0.2/31",
        "192.168.0.255/16",
        "100.64.1.1/30",
    ] {
        assert!(StaticAddress::parse(good).is_some(), "{good}");
    }
    for bad in [
        "192.168.1.20",
        "192.168.1.0/24",
        "192.168.1.255/24",
        "127.0.0.1/8",
        "0.0.0.1/8",
        "224.0.0.1/24",
        "10.0.0.1/32",
        "10.0.0.1/7",
        "10.0.0.1/",
        "10.0.0/24",
        "::1/64",
        "10.0.0.1/24 ",
        "10.0.0.1/+24x",
    ] {
        assert!(StaticAddress::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn a_line_that_is_no_whole_ssh_key_is_none() {
    let key = ED25519.split(' ').nth(1).unwrap();
    assert!(is_ssh_key(ED25519));
    assert!(is_ssh_key(&format!("ssh-ed25519 {key}")));
    for bad in [
        String::new(),
        "ssh-ed25519".to_owned(),
        key.to_owned(),
        format!("ssh-rsa {key}"),
        format!("command=\"sh\" ssh-ed25519 {key}"),
        format!("ssh-ed25519 {}", &key[4..]),
        format!("ssh-ed25519 {}", &key[..key.len() - 4]),
        format!("ssh-ed25519 {key}=="),
        format!("ssh-ed25519 {key}\nssh-ed25519 {key}"),
        format!("ssh-ed25519 {key} {}", "x".repeat(MAX_KEY)),
    ] {
        assert!(!is_ssh_key(&bad), "{bad:?}");
    }
}

#[test]
fn there_is_a_most_of_everything() {
    let list = |n: usize, item: &str| vec![format!("{item:?}"); n].join(", ");
    let (config, problems) = parse(&format!("[time]\nntp = [{}]\n", list(9, "a.example")));
    assert_eq!((config.ntp.len(), problems.len()), (MAX_NTP, 1), "{problems:?}");
    let (config, problems) = parse(&format!("[ssh]\nauthorized_keys = [{}]\n", list(40, ED25519)));
    assert_eq!((config.ssh_keys.len(), problems.len()), (MAX_KEYS, 1));
}

#[test]
fn the_example_is_in_order_and_shows_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sarai.toml.example");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, problems) = parse(&text);
    assert_eq!(problems, Vec::<String>::new());
    // What is commented out must be right, too: each in turn loses its mark, in place of one with the same name.
    let mut shown: Vec<String> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let Some(setting) = line
            .strip_prefix('#')
            .filter(|rest| !rest.is_empty() && !rest.starts_with(' '))
        else {
            shown.push(line.to_owned());
            continue;
        };
        shown.push(setting.to_owned());
        let name = setting.split(' ').next().unwrap();
        let fixed = ["router", "dns"].contains(&name);
        let with: Vec<String> = text
            .lines()
            .enumerate()
            .map(|(at, line)| match line {
                _ if at == n => setting.to_owned(),
                _ if fixed && line.starts_with("address = ") => "address = \"192.168.1.20/24\"".to_owned(),
                _ if line.starts_with(&format!("{name} = ")) => String::new(),
                _ => line.to_owned(),
            })
            .collect();
        let (_, problems) = parse(&with.join("\n"));
        assert_eq!(problems, Vec::<String>::new(), "{setting}");
    }
    for key in [
        "hostname",
        "profile",
        "listen",
        "interface",
        "address",
        "router",
        "dns",
        "zone",
        "ntp",
        "authorized_keys",
        "certificates",
        "budget",
        "hour",
        "terminals",
        "login",
        "idle_minutes",
        "announce",
        "ssh",
        "content",
    ] {
        let there = shown.iter().any(|line| line.starts_with(&format!("{key} = ")));
        assert!(there, "the example does not show {key}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_reason_to_panic(text in "\\PC{0,120}") {
        let _ = (is_ssh_key(&text), is_server(&text), find_zone(&text), StaticAddress::parse(&text));
        let _ = parse(&format!("[network]\naddress = {text:?}\nrouter = {text:?}\n[time]\nzone = {text:?}\n"));
    }

    #[test]
    fn a_fixed_address_is_within_its_bounds(a in any::<[u8; 4]>(), bits in any::<u8>()) {
        if let Some(fixed) = StaticAddress::parse(&format!("{}.{}.{}.{}/{bits}", a[0], a[1], a[2], a[3])) {
            prop_assert!((8..=31).contains(&fixed.prefix) && is_host(fixed.address));
            prop_assert!(!fixed.reaches(fixed.address));
        }
    }
}
