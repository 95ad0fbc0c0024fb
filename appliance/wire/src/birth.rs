//! Supervisor ↔ child: the sequenced-packet socket a child is born with, as descriptor 3.
//!
//! One packet is one JSON message, with descriptors attached where the message says so. The supervisor speaks
//! first ([`ToEngine::Start`], [`ToGateway::Start`]). A child that reads end-of-file lost its supervisor and
//! exits.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, AdapterAnswer, AdapterOrder};
use crate::descriptors;
use crate::feedback::{FeedbackStart, Forget, Forgotten};

/// Descriptor number of the birth socket in every child.
pub const BIRTH_FD: RawFd = 3;
/// Descriptor number of the inherited listening socket (engine: Unix stream; gateway: TCP).
pub const LISTEN_FD: RawFd = 4;
/// Largest packet, bytes.
pub const MAX_PACKET: usize = 64 * 1024;
/// Most descriptors one packet carries.
pub const MAX_FDS: usize = 6;

/// Supervisor → engine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToEngine {
    /// Load this model. Attached are the verified model file, read-only, offset 0, and where
    /// [`EngineStart::adapter`] names one, the verified adapter's.
    Start(EngineStart),
    /// Prove that you live; answered by [`FromEngine::Pong`] with the same number.
    Ping {
        /// Number to repeat.
        seq: u64,
    },
    /// Give memory back, or take it again; answered by [`FromEngine::Eased`] with the same number.
    Ease {
        /// Number to repeat.
        seq: u64,
        /// What to do.
        ease: crate::memory::Ease,
    },
    /// Do this about adapters; answered by [`FromEngine::Adapter`] with the same number.
    Adapter {
        /// Number to repeat, above 0.
        seq: u64,
        /// What to do.
        order: AdapterOrder,
    },
    /// Finish what runs, refuse what waits, exit with status 0.
    Stop,
}

/// Everything an engine needs besides the model's descriptor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineStart {
    /// Model id of the attestation.
    pub model: String,
    /// SHA-256 of the model file, lower-case hex, as attested.
    pub digest: String,
    /// Parameters of the context and the threads.
    pub params: EngineParams,
    /// The adapter to begin with. One that cannot be used is named in a [`FromEngine::Adapter`] before
    /// [`FromEngine::Ready`], and the engine serves without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<Adapter>,
    /// What an earlier engine with the same model and parameters found out of batches ([`FromEngine::Ready`]): an engine
    /// that comes back does not measure again while others answer in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_costs: Option<Vec<crate::engine::BatchCost>>,
}

/// Parameters of an engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineParams {
    /// Context of one request, tokens.
    pub context: u32,
    /// Context to begin with while memory is short, tokens; never above `context`, to which
    /// [`crate::memory::Ease::Context`] may bring it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduced: Option<u32>,
    /// Requests decoded at the same time.
    pub slots: u32,
    /// Most requests waiting before [`crate::engine::ErrorKind::Busy`].
    pub queue: u32,
    /// Logical batch of a prompt evaluation, tokens.
    pub batch: u32,
    /// KV cache element type.
    pub kv_type: KvType,
    /// CPUs for the compute threads, one thread pinned to each; empty means every CPU the process may use.
    pub cpus: Vec<u32>,
}

impl Default for EngineParams {
    fn default() -> Self {
        Self {
            context: 2048,
            reduced: None,
            slots: 2,
            queue: 32,
            batch: 512,
            kv_type: KvType::F16,
            cpus: Vec::new(),
        }
    }
}

/// Element type of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// 16-bit floats.
    F16,
    /// 8-bit blocks: half the memory.
    Q8_0,
}

/// Engine → supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromEngine {
    /// The model is loaded and the listening socket is served.
    Ready {
        /// What is loaded.
        info: crate::engine::Info,
        /// Milliseconds from `Start` to ready.
        load_ms: f64,
        /// What was found out of batches, for a next engine with the same model and parameters; empty where no batch
        /// pays. `None`: nothing that lasts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        batch_costs: Option<Vec<crate::engine::BatchCost>>,
    },
    /// The model cannot be served; the engine exits after this.
    Failed {
        /// Why, fitting after "failed to".
        reason: String,
        /// Whether bytes of the model could not be read: the disk is damaged, or fs-verity refuses what is there.
        #[serde(default)]
        unreadable: bool,
    },
    /// Answer to [`ToEngine::Ease`].
    Eased(crate::memory::Eased),
    /// Answer to [`ToEngine::Adapter`]; with number 0, what became of [`EngineStart::adapter`], or of adapters that were
    /// given up for want of memory.
    Adapter(AdapterAnswer),
    /// There is something to compute, where there was nothing before. Said before it is computed, some ten times a second
    /// at most: others on the same CPUs are to give way.
    Busy,
    /// Answer to [`ToEngine::Ping`]. Sent by the thread that decodes, between two steps, so it proves progress.
    Pong {
        /// The number of the ping.
        seq: u64,
        /// Requests waiting.
        queued: u32,
        /// Requests running.
        running: u32,
        /// Tokens generated since start.
        tokens: u64,
    },
}

/// Supervisor → gateway.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToGateway {
    /// Begin to serve. The listening TCP socket is descriptor [`LISTEN_FD`]; attached is the verified file of prompts
    /// where [`GatewayStart::prompts`] names one, and nothing else.
    Start(Box<GatewayStart>),
    /// Certificate, keys or engine states changed on disk or below: read them again.
    Reload,
    /// Forget feedback; answered by [`FromGateway::Forgotten`] with the same number.
    Forget {
        /// Number to repeat.
        seq: u64,
        /// What.
        what: Forget,
    },
    /// Choose what a night learns from. [`crate::night::DATA_SET_FILES`] descriptors are attached; answered by
    /// [`FromGateway::DataSet`] with the same number.
    DataSet {
        /// Number to repeat.
        seq: u64,
        /// What to choose.
        order: crate::night::DataSetOrder,
    },
    /// Measure the engine with an adapter. Attached is the file of the gate's examples, read-only; answered by
    /// [`FromGateway::Measured`] with the same number.
    Measure {
        /// Number to repeat.
        seq: u64,
        /// What to measure.
        order: crate::night::MeasureOrder,
    },
    /// Give up what was ordered for the night; what was asked is answered all the same.
    Wake,
    /// The memory ladder stands elsewhere.
    Rung(crate::memory::RungNotice),
    /// What there is to say of the nights, once the gateway serves and when it moved, at most once a second.
    Night(crate::night::NightNotice),
    /// Prove that you live; answered by [`FromGateway::Pong`].
    Ping {
        /// Number to repeat.
        seq: u64,
    },
    /// Stop accepting, finish what runs within the drain time, exit with status 0.
    Stop,
}

/// Everything a gateway needs. Paths are inside its own state folder or sockets it may connect to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayStart {
    /// Folder with `server.crt` (chain), `server.key` and `keys.toml`; read-only for the gateway.
    pub credentials: std::path::PathBuf,
    /// Unix socket of the primary engine.
    pub primary: std::path::PathBuf,
    /// Unix socket of the fallback engine, if the profile has one.
    pub fallback: Option<std::path::PathBuf>,
    /// Limits and the Omni-Loop's settings.
    pub settings: GatewaySettings,
    /// Prompts of the Omni-Loop, whose file is attached; without, the gateway's own.
    #[serde(default)]
    pub prompts: Option<PromptsStart>,
    /// The audit log; none is written without.
    #[serde(default)]
    pub audit: Option<AuditStart>,
    /// Feedback; none is kept, and none forgotten, without.
    #[serde(default)]
    pub feedback: Option<FeedbackStart>,
}

/// Where the audit log is written, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStart {
    /// Its folder, which is the gateway's own.
    pub folder: std::path::PathBuf,
    /// Whether the texts of requests and answers are kept too.
    pub content: bool,
}

/// A verified file of prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptsStart {
    /// Id of the attestation.
    pub id: String,
    /// Version of the attestation.
    pub version: String,
    /// SHA-256 of the file, lower-case hex, as attested: what is read must still be that.
    pub sha256: String,
}

/// Limits of the gateway and settings of the Omni-Loop. The admin may change them within stated bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewaySettings {
    /// Largest request body, bytes.
    pub max_body: u32,
    /// Most connections at once.
    pub max_connections: u32,
    /// Most connections from one address at once.
    pub max_connections_per_address: u32,
    /// Milliseconds a client has to complete the TLS handshake, and again to send a request's head.
    pub header_timeout_ms: u32,
    /// Milliseconds a client has to send the body.
    pub body_timeout_ms: u32,
    /// Most chat requests in the house at once; more get 503 with `Retry-After`.
    pub max_requests: u32,
    /// Seconds one iteration of the loop may take.
    pub iteration_timeout_s: u32,
    /// Seconds the whole loop may take.
    pub deadline_s: u32,
    /// Milliseconds without any sign from the primary engine before the fallback answers.
    pub primary_silence_ms: u32,
    /// Confidence above which the draft is returned as it is.
    pub early_exit: f32,
    /// Seconds requests in flight have to end at shutdown.
    pub drain_s: u32,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        Self {
            max_body: 1024 * 1024,
            max_connections: 256,
            max_connections_per_address: 64,
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
            max_requests: 64,
            iteration_timeout_s: 30,
            deadline_s: 90,
            primary_silence_ms: 20_000,
            early_exit: 0.85,
            drain_s: 10,
        }
    }
}

/// Supervisor → announcer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAnnouncer {
    /// Announce this. Nothing is attached.
    Start(AnnounceStart),
    /// Prove that you live; answered by [`FromAnnouncer::Pong`].
    Ping {
        /// Number to repeat.
        seq: u64,
    },
    /// Say goodbye to the network, exit with status 0.
    Stop,
}

/// What is announced to the local network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceStart {
    /// The machine's name, without a domain.
    pub hostname: String,
    /// Where the gateway listens: unspecified means every address of that family, and for IPv6 of both.
    pub listen: std::net::IpAddr,
    /// Its port.
    pub port: u16,
    /// Key and value of each property of the service (a TXT record).
    pub properties: Vec<(String, String)>,
}

/// Announcer → supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAnnouncer {
    /// The network is being told.
    Ready,
    /// Somebody else has the name; this one is announced instead.
    Renamed {
        /// Without a domain.
        hostname: String,
    },
    /// Nothing can be announced; it exits after this.
    Failed {
        /// Why, fitting after "failed to".
        reason: String,
    },
    /// Answer to [`ToAnnouncer::Ping`].
    Pong {
        /// The number of the ping.
        seq: u64,
    },
}

/// Gateway → supervisor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromGateway {
    /// Which prompts the Omni-Loop uses; said once, before [`FromGateway::Ready`].
    Prompts {
        /// Their id; `built-in` for the gateway's own.
        id: String,
        /// Their version.
        version: String,
        /// SHA-256 of their file, lower-case hex.
        sha256: String,
        /// Why those it was given are not used: the error's name and text.
        refused: Option<String>,
    },
    /// How the audit log stands: said when its head moved, at most once in a minute, at each rotation, when trouble
    /// comes or goes, and at the end.
    Audit(AuditReport),
    /// Answer to [`ToGateway::Forget`].
    Forgotten(Forgotten),
    /// Answer to [`ToGateway::DataSet`].
    DataSet(crate::night::DataSetAnswer),
    /// Answer to [`ToGateway::Measure`].
    Measured(crate::night::MeasureAnswer),
    /// How answers went, adapter by adapter; at most one a minute, and one at the end.
    Quality {
        /// Those that answered since the gateway's start, at most 16, the latest.
        adapters: Vec<crate::night::Quality>,
    },
    /// TLS is served.
    Ready,
    /// The gateway cannot serve; it exits after this.
    Failed {
        /// Why, fitting after "failed to".
        reason: String,
    },
    /// Answer to [`ToGateway::Ping`].
    Pong {
        /// The number of the ping.
        seq: u64,
        /// Connections open now.
        connections: u32,
        /// Chat requests answered since start.
        answered: u64,
        /// Chat requests the fallback answered since start.
        fallbacks: u64,
    },
}

/// How the audit log stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditReport {
    /// Where the chain ends on disk, to be signed.
    pub head: Option<AuditHead>,
    /// Why nothing can be written; fits after "failed to".
    pub trouble: Option<String>,
    /// Records lost since the gateway's start.
    pub lost: u64,
}

/// Where the chain of the audit log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    /// Number of the file, from 1.
    pub file: u64,
    /// Line of it, from 1.
    pub line: u64,
    /// SHA-256 of that line, lower-case hex.
    pub sha256: String,
}

/// What can go wrong on a birth socket. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum BirthError {
    /// The other end is gone.
    #[error("receive a packet: the peer closed the birth socket")]
    Closed,
    /// The packet was cut: larger than [`MAX_PACKET`] or more than [`MAX_FDS`] descriptors.
    #[error("receive a packet: it exceeds {MAX_PACKET} bytes or {MAX_FDS} descriptors")]
    Truncated,
    /// The message is too large to send.
    #[error("send a packet: {0} bytes exceed {MAX_PACKET}")]
    TooLarge(usize),
    /// Not the JSON that was expected.
    #[error("decode a packet: {0}")]
    Decode(#[source] serde_json::Error),
    /// Not encodable.
    #[error("encode a packet: {0}")]
    Encode(#[source] serde_json::Error),
    /// The socket failed; `WouldBlock` on a non-blocking socket.
    #[error("move a packet: {0}")]
    Io(#[from] io::Error),
}

/// Makes a connected pair, close-on-exec; the supervisor keeps one end and gives the other to the child.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message with `fds` attached (at most [`MAX_FDS`]).
pub fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, fds: &[RawFd]) -> Result<(), BirthError> {
    let bytes = serde_json::to_vec(message).map_err(BirthError::Encode)?;
    if bytes.len() > MAX_PACKET || fds.len() > MAX_FDS {
        return Err(BirthError::TooLarge(bytes.len()));
    }
    match descriptors::send_with(socket, &bytes, fds) {
        Ok(_) => Ok(()),
        Err(nix::errno::Errno::EPIPE | nix::errno::Errno::ECONNRESET) => Err(BirthError::Closed),
        Err(e) => Err(BirthError::Io(e.into())),
    }
}

/// Receives one message and the descriptors attached to it (close-on-exec).
pub fn recv<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> Result<(T, Vec<OwnedFd>), BirthError> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
    let (length, flags, fds) =
        descriptors::receive_with(socket, &mut bytes, &mut space).map_err(|e| match e {
            nix::errno::Errno::ECONNRESET => BirthError::Closed,
            e => BirthError::Io(e.into()),
        })?;
    if length == 0 {
        return Err(BirthError::Closed);
    }
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(BirthError::Truncated);
    }
    let message = serde_json::from_slice(&bytes[..length]).map_err(BirthError::Decode)?;
    Ok((message, fds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::{AsFd, AsRawFd};

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (a, b) = pair().unwrap();
        let mut file = std::fs::File::from(
            nix::sys::memfd::memfd_create(c"model", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap(),
        );
        file.write_all(b"GGUF").unwrap();
        file.rewind().unwrap();
        let start = EngineStart {
            model: "m".into(),
            digest: "d".into(),
            params: EngineParams::default(),
            adapter: None,
            batch_costs: None,
        };
        send(a.as_fd(), &ToEngine::Start(start.clone()), &[file.as_raw_fd()]).unwrap();
        let (message, mut fds) = recv::<ToEngine>(b.as_fd()).unwrap();
        assert!(matches!(message, ToEngine::Start(s) if s == start));
        let mut text = String::new();
        std::fs::File::from(fds.remove(0))
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "GGUF");
        assert!(fds.is_empty());
    }

    #[test]
    fn a_closed_peer_is_told_apart_from_a_wrong_message() {
        let (a, b) = pair().unwrap();
        send(a.as_fd(), &"not a message", &[]).unwrap();
        assert!(matches!(recv::<ToEngine>(b.as_fd()), Err(BirthError::Decode(_))));
        drop(a);
        assert!(matches!(recv::<ToEngine>(b.as_fd()), Err(BirthError::Closed)));
    }

    #[test]
    fn a_packet_above_the_bound_is_not_sent() {
        let (a, _b) = pair().unwrap();
        let text = "x".repeat(MAX_PACKET);
        assert!(matches!(
            send(a.as_fd(), &text, &[]),
            Err(BirthError::TooLarge(_))
        ));
    }
}
