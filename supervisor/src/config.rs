//! The admin's settings, `sarai.toml`. A wrong value never stops the machine: its line is named, the default is
//! used, and `status` shows both.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use jiff::tz::TimeZone;
use sarai_wire::birth::{GatewaySettings, KvType};
use sarai_wire::bounds;
use sarai_wire::feedback::FeedbackSettings;

use crate::layout::Mode;

mod console;
mod reach;
mod reader;
mod setup;
mod training;
pub use console::{Console, Login};
pub use reach::Reach;
use reader::Section;
pub use setup::{Network, StaticAddress};
pub use training::Training;

/// Largest `sarai.toml` that is read, bytes.
pub const MAX_FILE: u64 = 64 * 1024;
/// Default memory budget of the appliance, bytes: 9.9 GiB.
pub const DEFAULT_BUDGET: u64 = 10_630_044_057;
/// Name of the machine when nothing else is said.
pub const DEFAULT_HOSTNAME: &str = "sarai";

/// All settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Name of the machine; natively the system's own unless set.
    pub hostname: Option<String>,
    /// Profile of the manifest.
    pub profile: String,
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// Engines.
    pub engine: EngineConfig,
    /// Gateway and Omni-Loop.
    pub gateway: GatewaySettings,
    /// Memory budget of everything the appliance runs, bytes.
    pub budget: u64,
    /// Whether the governor's looks and moves are written to a file of their own.
    pub memory_trace: bool,
    /// The machine's own terminals.
    pub console: Console,
    /// Whether the audit log keeps the texts of requests and answers.
    pub audit_content: bool,
    /// What is kept of what clients say of answers.
    pub feedback: FeedbackSettings,
    /// How the machine is reached besides its API.
    pub reach: Reach,
    /// How the machine gets its address.
    pub network: Network,
    /// Time zone of the log and of the nightly hour.
    pub zone: TimeZone,
    /// NTP servers, names or addresses.
    pub ntp: Vec<String>,
    /// Who may come in by SSH: lines of an `authorized_keys` file without options.
    pub ssh_keys: Vec<String>,
    /// Release certificates besides those of the image, ASCII-armoured.
    pub certificates: Vec<String>,
    /// Hour of the day, local time, at which a night begins.
    pub night_hour: u8,
    /// What a night does.
    pub training: Training,
}

/// Settings of the engines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineConfig {
    /// Context of one request, tokens; the manifest's when unset.
    pub context: Option<u32>,
    /// Requests decoded at the same time.
    pub slots: u32,
    /// Most requests waiting.
    pub queue: u32,
    /// Logical batch, tokens.
    pub batch: u32,
    /// Element type of the KV cache.
    pub kv_type: KvType,
    /// Seconds without an answer to a ping after which an engine is replaced; twelve times that while its processor
    /// time moves, because one step of a long prompt may take long on a slow machine.
    pub silence_s: u32,
    /// Seconds an engine may take to load, besides what its size adds.
    pub startup_s: u32,
}

impl Config {
    /// The settings of a machine without `sarai.toml`.
    #[must_use]
    pub fn defaults(mode: Mode) -> Self {
        let port = match mode {
            Mode::Pid1 => 443,
            Mode::Native => 8443,
        };
        Self {
            hostname: None,
            profile: "tiny".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            engine: EngineConfig {
                context: None,
                slots: 2,
                queue: 32,
                batch: 512,
                kv_type: KvType::F16,
                silence_s: 10,
                startup_s: 60,
            },
            gateway: GatewaySettings::default(),
            budget: DEFAULT_BUDGET,
            memory_trace: false,
            console: Console::default(),
            audit_content: false,
            feedback: FeedbackSettings::default(),
            reach: Reach::defaults(mode),
            network: Network::default(),
            zone: TimeZone::UTC,
            ntp: Vec::new(),
            ssh_keys: Vec::new(),
            certificates: Vec::new(),
            night_hour: 2,
            training: Training::default(),
        }
    }

    /// Reads `path`; a missing file is the defaults. The sentences name what was wrong.
    #[must_use]
    pub fn load(path: &Path, mode: Mode) -> (Self, Vec<String>) {
        let defaults = Self::defaults(mode);
        match read_bounded(path, MAX_FILE) {
            Ok(None) => (defaults, Vec::new()),
            Ok(Some(text)) => defaults.over(&text),
            Err(e) => (
                defaults,
                vec![format!(
                    "sarai.toml cannot be read ({e}); every setting is at its default"
                )],
            ),
        }
    }

    /// These settings with those of another file over them. Editors of some systems put a mark before the text.
    #[must_use]
    pub fn over(self, text: &str) -> (Self, Vec<String>) {
        Self::parse(text.strip_prefix('\u{feff}').unwrap_or(text), self)
    }

    /// Parses `text` over `defaults`.
    #[must_use]
    pub fn parse(text: &str, defaults: Self) -> (Self, Vec<String>) {
        let mut config = defaults;
        let root = match reader::Document::parse(text) {
            Ok(root) => root,
            Err(problem) => return (config, vec![problem]),
        };
        let mut top = root.top();
        top.text(
            "hostname",
            is_hostname,
            "1 to 63 of a-z 0-9 and -, not - at either end",
            |v| {
                config.hostname = Some(v.to_owned());
            },
        );
        top.text("profile", is_name, "1 to 64 of A-Z a-z 0-9 . _ -", |v| {
            config.profile = v.to_owned()
        });
        top.text(
            "listen",
            |v| v.parse::<SocketAddr>().is_ok(),
            "an address and a port like 0.0.0.0:443",
            |v| {
                if let Ok(address) = v.parse() {
                    config.listen = address;
                }
            },
        );
        top.section("engine", |s| engine(s, &mut config.engine));
        top.section("gateway", |s| gateway(s, &mut config.gateway));
        top.section("memory", |s| {
            s.whole("budget", 256 << 20..=1 << 40, &mut config.budget);
            s.flag("trace", &mut config.memory_trace);
        });
        top.section("console", |s| console::console(s, &mut config.console));
        top.section("reach", |s| reach::reach(s, &mut config.reach));
        top.section("audit", |s| s.flag("content", &mut config.audit_content));
        top.section("feedback", |s| {
            s.flag("enabled", &mut config.feedback.enabled);
            s.whole("keep_days", bounds::KEEP_DAYS, &mut config.feedback.keep_days);
            s.whole(
                "max_bytes",
                bounds::FEEDBACK_BYTES,
                &mut config.feedback.max_bytes,
            );
        });
        top.section("network", |s| setup::network(s, &mut config.network));
        top.section("time", |s| setup::time(s, &mut config.zone, &mut config.ntp));
        top.section("ssh", |s| setup::ssh(s, &mut config.ssh_keys));
        top.section("trust", |s| setup::trust(s, &mut config.certificates));
        top.section("night", |s| s.whole("hour", 0..=23, &mut config.night_hour));
        top.section("training", |s| training::training(s, &mut config.training));
        let problems = top.finish();
        (config, problems)
    }
}

fn engine(s: &mut Section<'_, '_>, to: &mut EngineConfig) {
    let mut context = to.context.unwrap_or(0);
    s.whole("context", bounds::CONTEXT, &mut context);
    to.context = (context != 0).then_some(context);
    s.whole("slots", bounds::SLOTS, &mut to.slots);
    s.whole("queue", bounds::QUEUE, &mut to.queue);
    s.whole("batch", bounds::BATCH, &mut to.batch);
    s.text(
        "kv",
        |v| matches!(v, "f16" | "q8_0"),
        "\"f16\" or \"q8_0\"",
        |v| {
            to.kv_type = if v == "f16" { KvType::F16 } else { KvType::Q8_0 };
        },
    );
    s.whole("silence_s", 2..=3600, &mut to.silence_s);
    s.whole("startup_s", 5..=7200, &mut to.startup_s);
}

fn gateway(s: &mut Section<'_, '_>, to: &mut GatewaySettings) {
    s.whole("max_body", bounds::MAX_BODY, &mut to.max_body);
    s.whole("max_connections", bounds::CONNECTIONS, &mut to.max_connections);
    s.whole(
        "max_connections_per_address",
        bounds::CONNECTIONS,
        &mut to.max_connections_per_address,
    );
    s.whole(
        "header_timeout_ms",
        bounds::HEADER_TIMEOUT_MS,
        &mut to.header_timeout_ms,
    );
    s.whole(
        "body_timeout_ms",
        bounds::BODY_TIMEOUT_MS,
        &mut to.body_timeout_ms,
    );
    s.whole("max_requests", bounds::MAX_REQUESTS, &mut to.max_requests);
    s.whole(
        "iteration_timeout_s",
        bounds::ITERATION_TIMEOUT_S,
        &mut to.iteration_timeout_s,
    );
    s.whole("deadline_s", bounds::DEADLINE_S, &mut to.deadline_s);
    s.whole(
        "primary_silence_ms",
        bounds::PRIMARY_SILENCE_MS,
        &mut to.primary_silence_ms,
    );
    s.number("early_exit", bounds::EARLY_EXIT, &mut to.early_exit);
    s.whole("drain_s", bounds::DRAIN_S, &mut to.drain_s);
}

/// Reads at most `limit` bytes of UTF-8; `None` when there is no such file.
pub fn read_bounded(path: &Path, limit: u64) -> std::io::Result<Option<String>> {
    use std::io::Read;
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(Some(text))
}

/// A name a machine may have.
#[must_use]
pub fn is_hostname(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// A name of a key or a profile.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// A network interface's name as the kernel accepts it, in its plain form.
#[must_use]
pub fn is_interface(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> (Config, Vec<String>) {
        Config::parse(text, Config::defaults(Mode::Native))
    }

    #[test]
    fn every_setting_is_read() {
        let (config, problems) = parse(
            "hostname = \"kitchen\"\nprofile = \"omni\"\nlisten = \"[::]:9443\"\n[engine]\ncontext = 4096\nslots = 4\nkv = \"q8_0\"\nsilence_s = 120\n[gateway]\nearly_exit = 1\nmax_body = 2_048\n[memory]\nbudget = 0x40000000\ntrace = true\n[console]\nterminals = [\"hvc0\"]\nlogin = \"open\"\nidle_minutes = 5\n[reach]\nannounce = true\n[audit]\ncontent = true\n[feedback]\nenabled = false\nkeep_days = 7\nmax_bytes = 0x2000000\n[network]\ninterface = \"enp1s0\"\n",
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(config.hostname.as_deref(), Some("kitchen"));
        assert_eq!(config.profile, "omni");
        assert_eq!(config.listen.to_string(), "[::]:9443");
        assert_eq!((config.engine.context, config.engine.slots), (Some(4096), 4));
        assert_eq!(
            (config.engine.kv_type, config.engine.silence_s),
            (KvType::Q8_0, 120)
        );
        assert_eq!((config.gateway.early_exit, config.gateway.max_body), (1.0, 2048));
        assert_eq!((config.budget, config.memory_trace), (1 << 30, true));
        assert_eq!(config.console.terminals, ["hvc0"]);
        assert_eq!(
            (config.console.login, config.console.idle_minutes),
            (Login::Open, 5)
        );
        assert!(config.audit_content && config.reach.announce && !config.feedback.enabled);
        assert_eq!(
            (config.feedback.keep_days, config.feedback.max_bytes),
            (7, 32 << 20)
        );
        assert_eq!(config.network.interface.as_deref(), Some("enp1s0"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line_and_the_default_stays() {
        let (config, problems) = parse(
            "hostname = \"UPPER\"\n\n[engine]\nslots = 99\ncontext = \"big\"\nspeed = 1\n[gateway]\nearly_exit = 1.5\n[audit]\ncontent = \"yes\"\n",
        );
        let defaults = Config::defaults(Mode::Native);
        assert_eq!(config, defaults);
        let expected = [
            ("line 1", "hostname"),
            ("line 4", "engine.slots is 99, must be 1 to 16"),
            ("line 5", "engine.context"),
            ("line 6", "unknown setting engine.speed"),
            ("line 8", "gateway.early_exit"),
            ("line 10", "audit.content is \"yes\", must be true or false"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (line, what) in expected {
            assert!(
                problems.iter().any(|p| p.contains(line) && p.contains(what)),
                "{line} {what}: {problems:?}"
            );
        }
    }

    #[test]
    fn what_engine_and_gateway_would_refuse_is_refused_here() {
        for (section, key, bounds) in [
            ("engine", "context", bounds::CONTEXT),
            ("engine", "slots", bounds::SLOTS),
            ("engine", "queue", bounds::QUEUE),
            ("engine", "batch", bounds::BATCH),
            ("gateway", "max_body", bounds::MAX_BODY),
            ("gateway", "max_connections", bounds::CONNECTIONS),
            ("gateway", "max_connections_per_address", bounds::CONNECTIONS),
            ("gateway", "header_timeout_ms", bounds::HEADER_TIMEOUT_MS),
            ("gateway", "body_timeout_ms", bounds::BODY_TIMEOUT_MS),
            ("gateway", "max_requests", bounds::MAX_REQUESTS),
            ("gateway", "iteration_timeout_s", bounds::ITERATION_TIMEOUT_S),
            ("gateway", "deadline_s", bounds::DEADLINE_S),
            ("gateway", "primary_silence_ms", bounds::PRIMARY_SILENCE_MS),
            ("gateway", "drain_s", bounds::DRAIN_S),
            ("feedback", "keep_days", bounds::KEEP_DAYS),
        ] {
            let (least, most) = (i64::from(*bounds.start()), i64::from(*bounds.end()));
            let problems = |value: i64| parse(&format!("[{section}]\n{key} = {value}\n")).1;
            for good in [least, most] {
                assert_eq!(problems(good), Vec::<String>::new());
            }
            for bad in [least - 1, most + 1] {
                let said = format!("{section}.{key} is {bad}, must be {least} to {most}");
                assert!(problems(bad)[0].contains(&said), "{:?}", problems(bad));
            }
        }
    }

    #[test]
    fn a_file_that_is_not_toml_leaves_every_default_and_names_the_line() {
        let (config, problems) = parse("hostname = \"a\"\nprofile = = \n");
        assert_eq!(config, Config::defaults(Mode::Native));
        assert!(
            problems.len() == 1 && problems[0].contains("line 2"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_section_that_is_a_value_is_refused() {
        let (_, problems) = parse("engine = 3\n");
        assert!(
            problems[0].contains("line 1") && problems[0].contains("engine"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_huge_or_binary_file_is_refused_and_a_missing_one_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sarai.toml");
        assert_eq!(
            Config::load(&path, Mode::Pid1),
            (Config::defaults(Mode::Pid1), vec![])
        );
        std::fs::write(&path, vec![b'#'; 70_000]).unwrap();
        assert!(Config::load(&path, Mode::Pid1).1[0].contains("larger than"));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(Config::load(&path, Mode::Pid1).1.len(), 1);
    }

    #[test]
    fn feedback_has_as_much_of_the_disk_as_its_bounds_allow() {
        let set = |bytes: u64| parse(&format!("[feedback]\nmax_bytes = {bytes}\n")).1;
        let (least, most) = (*bounds::FEEDBACK_BYTES.start(), *bounds::FEEDBACK_BYTES.end());
        assert!(set(least).is_empty() && set(most).is_empty());
        for bad in [least - 1, most + 1] {
            assert!(set(bad)[0].contains("feedback.max_bytes"), "{:?}", set(bad));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn any_integer_leaves_slots_within_its_bounds(n in any::<i64>()) {
            let (config, problems) = parse(&format!("[engine]\nslots = {n}\n"));
            prop_assert!((1..=16).contains(&config.engine.slots));
            prop_assert_eq!(problems.is_empty(), (1..=16).contains(&n));
        }
    }
}
