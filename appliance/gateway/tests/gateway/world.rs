//! A gateway process as the supervisor starts one, and what it needs around it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;
use sarai_wire::birth::{self, FromGateway, GatewaySettings, GatewayStart, ToGateway};
use sarai_wire::memory::RungNotice;
use sarai_wire::night::Quality;
use sha2::{Digest, Sha256};

use crate::engine::{Engine, Script};
use crate::http::{Client, tls};

#[path = "../../../../tests/src/born.rs"]
mod born;
pub use born::born;

pub const KEY: &str = "secret-of-the-first-key";
/// How long a gateway may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// An authority, and server certificates it signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "Test authority");
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self {
            issuer: Issuer::new(params, key),
            certificate: der,
            pem,
        }
    }

    /// Writes `server.crt` and `server.key` into `folder`.
    pub fn write(&self, folder: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(folder.join("server.crt"), certificate.pem() + &self.pem).unwrap();
        std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
    }
}

/// Writes `keys.toml` with these names and secrets.
pub fn write_keys(folder: &Path, keys: &[(&str, &str)]) {
    let mut text = String::new();
    for (name, secret) in keys {
        let mut hex = String::new();
        for byte in Sha256::digest(secret.as_bytes()) {
            write!(hex, "{byte:02x}").unwrap();
        }
        write!(
            text,
            "[[key]]\nname = \"{name}\"\nsha256 = \"{hex}\"\ncreated = \"2026-01-01T00:00:00Z\"\n\n"
        )
        .unwrap();
    }
    std::fs::write(folder.join("keys.toml"), text).unwrap();
}

/// The gateway's process and the supervisor's end of its life.
pub struct Gateway {
    pub child: Child,
    birth: Option<OwnedFd>,
    /// What it said of its answers while something else was listened for.
    quality: Mutex<VecDeque<Vec<Quality>>>,
    pub address: SocketAddr,
    // The supervisor keeps the listener too.
    _listener: TcpListener,
}

impl Gateway {
    pub fn spawn() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sarai-gateway"));
        command
            .stdin(Stdio::null())
            .env("SARAI_LOG", "sarai_gateway=warn");
        let (child, ours) = born(&mut command, &listener).unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            child,
            birth: Some(ours),
            quality: Mutex::default(),
            address,
            _listener: listener,
        }
    }

    pub fn say(&self, message: &ToGateway) {
        self.say_with(message, &[]);
    }

    /// With files attached.
    pub fn say_with(&self, message: &ToGateway, files: &[std::os::fd::RawFd]) {
        birth::send(self.birth.as_ref().unwrap().as_fd(), message, files).unwrap();
    }

    /// Waits until it serves; what it says about its prompts before that.
    pub fn ready(&self) -> FromGateway {
        // The log's thread speaks only once the gateway obeys.
        let prompts = self.hear();
        assert!(matches!(prompts, FromGateway::Prompts { .. }), "{prompts:?}");
        let ready = self.hear();
        assert!(matches!(ready, FromGateway::Ready), "{ready:?}");
        prompts
    }

    pub fn hear(&self) -> FromGateway {
        self.hear_or_end()
            .unwrap_or_else(|| panic!("the gateway closed its birth socket"))
    }

    /// What it says next of how answers go; `None` once it is gone.
    pub fn hear_quality(&self) -> Option<Vec<Quality>> {
        let kept = self.quality.lock().unwrap().pop_front();
        kept.or_else(|| match self.next(PATIENCE)? {
            FromGateway::Quality { adapters } => Some(adapters),
            other => panic!("{other:?}"),
        })
    }

    /// What it says next; `None` once it is gone. How answers go comes whenever it moves, and is kept aside.
    pub fn hear_or_end(&self) -> Option<FromGateway> {
        self.hear_within(PATIENCE)
    }

    /// The same, from one who may take so long.
    pub fn hear_within(&self, patience: Duration) -> Option<FromGateway> {
        loop {
            match self.next(patience)? {
                FromGateway::Quality { adapters } => self.quality.lock().unwrap().push_back(adapters),
                other => return Some(other),
            }
        }
    }

    fn next(&self, patience: Duration) -> Option<FromGateway> {
        let fd = self.birth.as_ref().unwrap();
        let mut poll = [nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)];
        let until = Instant::now() + patience;
        while nix::poll::poll(&mut poll, 1_000_u16).unwrap() == 0 {
            assert!(Instant::now() < until, "the gateway says nothing");
        }
        match birth::recv(fd.as_fd()) {
            Ok((message, _)) => Some(message),
            Err(birth::BirthError::Closed) => None,
            Err(e) => panic!("{e}"),
        }
    }

    /// Connections, answered, fallbacks.
    pub fn ping(&self) -> (u32, u64, u64) {
        self.say(&ToGateway::Ping { seq: 42 });
        match self.hear() {
            FromGateway::Pong {
                seq: 42,
                connections,
                answered,
                fallbacks,
            } => (connections, answered, fallbacks),
            other => panic!("{other:?}"),
        }
    }

    /// Reload, and wait until it is done: messages are obeyed in order.
    pub fn reload(&self) {
        self.say(&ToGateway::Reload);
        self.ping();
    }

    /// Where the memory ladder stands from now on, once the gateway knows.
    pub fn rung(&self, notice: RungNotice) {
        self.say(&ToGateway::Rung(notice));
        self.ping();
    }

    /// The supervisor's end is gone.
    pub fn orphan(&mut self) {
        self.birth = None;
    }

    pub fn wait(&mut self, time: Duration) -> ExitStatus {
        let until = Instant::now() + time;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "still running after {time:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory, bytes.
    pub fn resident(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that serves, with its engines.
pub struct World {
    pub gateway: Gateway,
    pub primary: Engine,
    pub fallback: Option<Engine>,
    pub authority: Authority,
    pub folder: PathBuf,
    pub client: Client,
    /// What the gateway said about its prompts.
    pub prompts: FromGateway,
    _temporary: tempfile::TempDir,
}

/// Starts a world with these settings.
pub fn world_with(primary: Script, fallback: Option<Script>, settings: GatewaySettings) -> World {
    world_of(primary, fallback, &[], |start| start.settings = settings)
}

/// Starts a world whose start message `change` completes, with these files attached to it.
pub fn world_of(
    primary: Script,
    fallback: Option<Script>,
    files: &[std::os::fd::RawFd],
    change: impl FnOnce(&mut GatewayStart),
) -> World {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().to_owned();
    let authority = Authority::new();
    authority.write(&folder);
    write_keys(&folder, &[("first", KEY)]);
    let primary = Engine::start(&folder, "primary", "big-model", primary);
    let fallback = fallback.map(|script| Engine::start(&folder, "fallback", "small-model", script));
    let gateway = Gateway::spawn();
    let mut start = GatewayStart {
        credentials: folder.clone(),
        primary: primary.socket.clone(),
        fallback: fallback.as_ref().map(|engine| engine.socket.clone()),
        settings: GatewaySettings::default(),
        prompts: None,
        audit: None,
        feedback: None,
    };
    change(&mut start);
    gateway.say_with(&ToGateway::Start(Box::new(start)), files);
    let prompts = gateway.ready();
    let client = Client {
        address: gateway.address,
        tls: tls(&authority.certificate, "http/1.1"),
        key: Some(KEY.into()),
    };
    World {
        gateway,
        primary,
        fallback,
        authority,
        folder,
        client,
        prompts,
        _temporary: temporary,
    }
}

pub fn world(primary: Script, fallback: Option<Script>) -> World {
    world_with(primary, fallback, GatewaySettings::default())
}
