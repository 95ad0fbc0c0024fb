//! `sarai` command → supervisor: JSON lines on the control socket, one request a connection.
//!
//! The client writes one [`Request`] line and reads [`Reply`] lines until the connection closes (`logs` with
//! `follow` sends many, everything else one). A line is at most [`MAX_LINE`] bytes. The socket's permissions
//! (root and group `admin`) decide who may connect.

use serde::{Deserialize, Serialize};

use crate::adapter::{Adapter, AdapterChange, AdapterStatus};
use crate::feedback::Forget;
use crate::memory::Rung;

/// Longest line either side accepts, bytes.
pub const MAX_LINE: usize = 1024 * 1024;
/// File name of the control socket below the run folder.
pub const SOCKET_NAME: &str = "control.sock";

/// What an admin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The whole state.
    Status,
    /// Make a client key called `name`; the answer holds the secret, which is shown this once.
    KeysAdd {
        /// 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
        name: String,
    },
    /// The names of the keys.
    KeysList,
    /// Remove a key; requests with it fail from now on.
    KeysRemove {
        /// Its name.
        name: String,
    },
    /// Let a public key come in by SSH; answered by [`Reply::SshKeys`] with this one.
    SshKeysAdd {
        /// `KIND BASE64 [COMMENT]`, as in a file `id_ed25519.pub`.
        key: String,
    },
    /// The keys that may come in by SSH.
    SshKeysList,
    /// Remove one that was added.
    SshKeysRemove {
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// Log lines.
    Logs {
        /// Only this service's.
        service: Option<String>,
        /// How many of the newest (1 to 10 000).
        lines: u32,
        /// Go on with new ones until the client closes.
        follow: bool,
    },
    /// The audit log's files and what was signed of it.
    Audit,
    /// The files of what clients say of answers.
    Feedback,
    /// Forget some of it; answered by [`Reply::Forgotten`].
    FeedbackForget {
        /// What.
        what: Forget,
    },
    /// Stop a service and start it again; also leaves the crash-loop state.
    Restart {
        /// Its name: `engine-primary`, `engine-fallback`, `gateway`, …
        service: String,
    },
    /// Lift the quarantine of a model, and start its engine anew.
    ModelsRelease {
        /// At least 8 of the first hexadecimal digits of its SHA-256.
        digest: String,
    },
    /// The adapters of the store; answered by [`Reply::Adapters`].
    AdaptersList,
    /// Put an adapter to use in every engine of its base; answered by [`Reply::AdapterChange`], as are the next two.
    AdaptersUse {
        /// Its name.
        name: String,
    },
    /// Go back to what was in use before.
    AdaptersRollback {
        /// In which engine: `primary` or `fallback`.
        engine: String,
    },
    /// Use no adapter.
    AdaptersNone {
        /// In which engine.
        engine: String,
    },
    /// Hand out an adapter's files; answered by [`Reply::Files`].
    AdaptersExport {
        /// Its name.
        name: String,
    },
    /// Make an adapter part of its base, as a model of its own; answered by [`Reply::Merges`], as are the next two.
    AdaptersMerge {
        /// Name of the adapter; without, the one in use over the primary's model.
        name: Option<String>,
        /// Id of the merged model; without, the base's and the adapter's.
        id: Option<String>,
    },
    /// Which merge runs, how the last one ended, and which merged models are kept.
    MergedList,
    /// Remove a merged model.
    MergedRemove {
        /// Its id.
        id: String,
    },
    /// Hand out a merged model's files and the certificate of who signed it; answered by [`Reply::Files`].
    MergedExport {
        /// Its id.
        id: String,
    },
    /// What the nights are at; answered by [`Reply::Training`], as are the next three.
    TrainingStatus,
    /// Begin a night now, whatever the hour and whether or not they are on.
    TrainingRun,
    /// No night begins by itself any more; one that runs is ended, and what it has is kept.
    TrainingOff,
    /// Nights begin by themselves again.
    TrainingOn,
    /// Ordered shutdown, then power off (natively: the supervisor ends).
    Poweroff,
    /// Ordered shutdown, then reboot (natively: the supervisor ends).
    Reboot,
}

/// What the supervisor answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// Done, nothing to show.
    Ok,
    /// Could not be done.
    Error {
        /// What is wrong and what to do.
        message: String,
    },
    /// Answer to [`Request::Status`].
    Status(Box<Status>),
    /// Answer to [`Request::KeysAdd`].
    Key {
        /// Its name.
        name: String,
        /// The bearer secret; never shown again.
        secret: String,
    },
    /// Answer to [`Request::KeysList`].
    Keys {
        /// All keys.
        keys: Vec<KeyInfo>,
    },
    /// Answer to [`Request::SshKeysList`] and [`Request::SshKeysAdd`].
    SshKeys {
        /// The keys.
        keys: Vec<SshKeyInfo>,
    },
    /// Answer to [`Request::Audit`].
    Audit {
        /// Numbers of the files, in order; each is attached, read-only, in the same order.
        files: Vec<u64>,
        /// Heads of the chain whose signature by the device key holds. Every one of them was signed before the files
        /// were opened.
        signed: Vec<SignedHead>,
        /// Checkpoints that do not hold: which, and why.
        wrong: Vec<String>,
    },
    /// Answer to [`Request::Feedback`].
    Feedback {
        /// Numbers of the files, in order; each is attached, read-only, in the same order.
        files: Vec<u64>,
    },
    /// Answer to [`Request::FeedbackForget`]: it counts no more, and is in no file any more.
    Forgotten {
        /// How many judgments that were.
        records: u64,
    },
    /// Answer to [`Request::AdaptersList`].
    Adapters {
        /// All of them, the newest first.
        adapters: Vec<AdapterStatus>,
    },
    /// What became of a change of the adapter in use.
    AdapterChange(AdapterChange),
    /// Answer to [`Request::AdaptersMerge`] and to what is asked about merges.
    Merges(Box<crate::merge::MergeStatus>),
    /// Answer to [`Request::AdaptersExport`] and [`Request::MergedExport`].
    Files {
        /// Names of the files; each is attached, read-only, in the same order.
        names: Vec<String>,
    },
    /// Answer to [`Request::TrainingStatus`] and what changes it.
    Training(Box<crate::night::TrainingStatus>),
    /// One line of [`Request::Logs`].
    Log(LogLine),
}

/// Where the audit log's chain ended when that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// Number of the file, from 1.
    pub file: u64,
    /// Line of it, from 1.
    pub line: u64,
    /// SHA-256 of that line, lower-case hex.
    pub sha256: String,
    /// When it was signed, RFC 3339.
    pub time: String,
}

/// A client key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
}

/// A key that may come in by SSH.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SshKeyInfo {
    /// `ssh-ed25519`, …
    pub kind: String,
    /// `SHA256:…`, as SSH clients show it.
    pub fingerprint: String,
    /// Whose it is, by its own account.
    pub comment: String,
    /// Where it is from: `added` by the admin, `setup` (the setup file) or `image`. Only the first can be removed.
    pub source: String,
}

/// One line of a service's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read, RFC 3339.
    pub time: String,
    /// Who wrote it; `supervisor` for the supervisor's own.
    pub service: String,
    /// The text, without the newline; control characters replaced.
    pub text: String,
}

/// The whole state of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the appliance.
    pub version: String,
    /// `pid1` or `native`.
    pub mode: String,
    /// Profile of the manifest in use.
    pub profile: String,
    /// True once the gateway and at least one engine serve.
    pub ready: bool,
    /// Seconds since the supervisor started.
    pub uptime_s: u64,
    /// What the way up took.
    #[serde(default)]
    pub boot: BootStatus,
    /// Host name.
    pub hostname: String,
    /// Name under which the local network knows the machine, while it is told: `sarai.local`.
    #[serde(default)]
    pub announced: Option<String>,
    /// Addresses clients can use, `https://…`.
    pub urls: Vec<String>,
    /// SHA-256 fingerprint of the certificate authority, colon-separated upper-case hex.
    pub ca_fingerprint: Option<String>,
    /// SHA-256 of the SSH server's own key, as SSH clients show it.
    #[serde(default)]
    pub ssh_fingerprint: Option<String>,
    /// Path of the certificate authority's certificate.
    pub ca_path: Option<String>,
    /// CPU level found: the instructions that count, and whether the floor (AVX2, FMA, F16C, BMI2) is met.
    pub cpu: CpuStatus,
    /// Who has which CPUs.
    #[serde(default)]
    pub cores: CoresStatus,
    /// Memory of the machine and of the appliance.
    pub memory: MemoryStatus,
    /// Memory and processes of each group of the appliance; empty where the kernel keeps no groups for it.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
    /// How far the appliance has stepped back to stay inside its memory budget.
    #[serde(default)]
    pub ladder: LadderStatus,
    /// Models and why any is refused.
    pub models: Vec<ModelStatus>,
    /// Words of the Omni-Loop.
    #[serde(default)]
    pub prompts: PromptsStatus,
    /// The nights that teach.
    #[serde(default)]
    pub training: Option<Box<crate::night::TrainingStatus>>,
    /// Services and their states.
    pub services: Vec<ServiceStatus>,
    /// What an admin should look at, in plain sentences; empty when all is well.
    pub problems: Vec<String>,
}

/// What the way from power-on to an answer took.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BootStatus {
    /// Stages in order of their beginning as a rule; some run beside each other.
    pub stages: Vec<BootStage>,
    /// Milliseconds from the supervisor's first line until the gateway served clients.
    pub gateway_ms: Option<f64>,
    /// The same until the gateway and an engine served.
    pub ready_ms: Option<f64>,
}

/// Longest time from the supervisor's first line until the gateway serves clients, milliseconds: a promise, on a machine
/// of native speed.
pub const GATEWAY_WITHIN_MS: f64 = 1000.0;

/// One stage. Times are milliseconds since the kernel started, by its clock; the firmware's are before that.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BootStage {
    /// `firmware`, `kernel`, `supervisor`, `certificate`, `verify`, `engine ready`, `gateway listening`.
    pub name: String,
    /// Its beginning; `None` if that has not come, or if nobody says.
    pub from_ms: Option<f64>,
    /// Its end; the same.
    pub to_ms: Option<f64>,
}

/// What the processor offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStatus {
    /// Logical CPUs online.
    pub count: u32,
    /// Of `avx2 fma f16c bmi2 avx_vnni avx512f avx512_vnni avx512_bf16 amx_int8`, those present.
    pub features: Vec<String>,
    /// Whether the engine can run at all.
    pub floor_met: bool,
}

/// Who has which CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CoresStatus {
    /// Every CPU that the appliance may use.
    pub cpus: Vec<CpuPlace>,
    /// How the engines' are kept for them: `isolated partition`, `partition`, `cpuset`, `affinity`, `shared`.
    pub kept: String,
    /// What the kernel does not say or do, and what is taken for it.
    pub notes: Vec<String>,
}

/// One logical CPU and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuPlace {
    /// Its number.
    pub cpu: u32,
    /// Its physical core, named by the lowest CPU of it.
    pub core: u32,
    /// `performance` or `efficiency`.
    pub kind: String,
    /// NUMA node.
    pub node: u32,
    /// Its last-level cache, named by the lowest CPU that shares it, where the kernel says so.
    pub cache: Option<u32>,
    /// `engine`, `house`, `shared` or `idle`.
    pub owner: String,
}

/// One group of the appliance. A figure that the kernel does not give is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Service whose group it is; `all` for everything together, `house` for what has no group of its own.
    pub name: String,
    /// Memory charged to it, its part of the page cache included, bytes.
    pub memory: Option<u64>,
    /// The most that was charged to it so far, bytes.
    pub most: Option<u64>,
    /// The most that may be, bytes.
    pub limit: Option<u64>,
    /// Processes that the kernel ended because memory ran out.
    pub oom_kills: Option<u64>,
    /// Processes and threads in it.
    pub processes: Option<u64>,
    /// Processes and threads that it was refused because it had as many as it may have.
    pub refused: Option<u64>,
}

/// Memory figures in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Physical memory of the machine.
    pub total: u64,
    /// Available by the kernel's own estimate.
    pub available: u64,
    /// `memory.current` of the appliance's subtree, where there is one.
    pub current: Option<u64>,
    /// The budget: the most that the subtree may use, where there is one.
    #[serde(default)]
    pub budget: Option<u64>,
    /// Processes of the whole machine that the kernel ended because memory ran out.
    #[serde(default)]
    pub oom_kills: Option<u64>,
}

/// Where the memory ladder stands, and how it came there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LadderStatus {
    /// The rung.
    pub rung: Rung,
    /// Seconds since it got there.
    pub since_s: u64,
    /// Why it is not the first; empty there.
    pub reason: String,
    /// How pressure is sensed, and what is missing for that.
    pub sensed: String,
    /// `memory.max` of the subtree, bytes; natively the budget that the services' resident memory is held against.
    pub budget: Option<u64>,
    /// The line that what is needed is kept below, bytes: `memory.high` of the subtree.
    pub high: Option<u64>,
    /// What is needed now, bytes: charged memory without what the kernel can drop at no harm.
    pub needed: Option<u64>,
    /// Every rung, in order.
    pub rungs: Vec<RungStatus>,
    /// The last moves, newest last; at most [`MAX_MOVES`].
    pub moves: Vec<MoveStatus>,
}

/// Most moves that [`LadderStatus::moves`] remembers.
pub const MAX_MOVES: usize = 32;

/// One rung of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RungStatus {
    /// Which.
    pub rung: Rung,
    /// Whether it is there now: without a projector there is none to unload, and without a fallback that serves the
    /// primary is not stopped. The ladder passes over what is not there.
    pub exists: bool,
    /// What stepping onto it from the one above frees, bytes; by measurement where there was one.
    pub frees: u64,
    /// How often it was reached since the supervisor started.
    pub reached: u64,
    /// Seconds spent on it since then.
    pub spent_s: u64,
}

/// One move along the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MoveStatus {
    /// When it began, RFC 3339.
    pub time: String,
    /// From which rung.
    pub from: Rung,
    /// To which rung: a later one steps back, an earlier one climbs.
    pub to: Rung,
    /// Which signal, with its figures.
    pub reason: String,
    /// Bytes it was to free; for a climb, to take.
    pub predicted: u64,
    /// Bytes that the engines gave, or took, by the kernel's count; `None` when nobody could say.
    pub measured: Option<u64>,
    /// Milliseconds from its beginning to its end.
    pub took_ms: u64,
    /// Parts of it that were not done, and why.
    pub trouble: Vec<String>,
}

/// One model of the profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelStatus {
    /// `primary`, `fallback`, `projector`.
    pub role: String,
    /// File name in the model store.
    pub file: String,
    /// Model id, once attested.
    pub model: Option<String>,
    /// Version, once attested.
    pub version: Option<String>,
    /// SHA-256, once verified.
    pub digest: Option<String>,
    /// Fingerprint of the certificate that signed, once verified.
    pub signer: Option<String>,
    /// `fs-verity` (constant time) or `full-hash`, once verified.
    pub verified_by: Option<String>,
    /// Why it is not loaded: the error's name and text.
    pub refused: Option<String>,
    /// The adapter that its engine applies now.
    #[serde(default)]
    pub adapter: Option<Adapter>,
}

/// The words of the Omni-Loop in use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PromptsStatus {
    /// File name in the model store, where the profile names one.
    pub file: Option<String>,
    /// Their id; `built-in` for the gateway's own; `None` until the gateway has said which it uses.
    pub id: Option<String>,
    /// Their version.
    pub version: Option<String>,
    /// SHA-256 of their file.
    pub sha256: Option<String>,
    /// Fingerprint of the certificate that signed them, if they are not built in.
    pub signer: Option<String>,
    /// Why the profile's file is not used: the error's name and text.
    pub refused: Option<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub state: ServiceState,
    /// Process id, while there is one.
    pub pid: Option<i32>,
    /// Starts after the first.
    pub restarts: u32,
    /// How it ended last: `exit 1`, `signal SIGKILL`, `no answer for 10 s`,
    /// `denied system call: socket`.
    pub last_exit: Option<String>,
    /// CPUs it may use.
    pub cpus: Vec<u32>,
    /// Resident memory, bytes.
    pub rss: Option<u64>,
    /// Milliseconds since it last answered a ping.
    pub last_pong_ms: Option<u64>,
    /// User it runs as.
    pub user: String,
    /// What it is confined by; empty for a service without a sandbox, and before its first start.
    #[serde(default)]
    pub sandbox: Vec<DutyStatus>,
}

/// One duty of a service's sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DutyStatus {
    /// `user`, `capabilities`, `no_new_privs`, `namespaces`, `root`, `landlock`, `seccomp`, `limits`, `descriptors`.
    pub duty: String,
    /// Whether it is in force.
    pub in_force: bool,
    /// What it amounts to, or why it is not in force.
    pub detail: String,
}

/// Where a service is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceState {
    /// Waiting for what it needs (a verified model, an address).
    Waiting,
    /// Spawned, not ready yet.
    Starting,
    /// Serves.
    Ready,
    /// Was told to stop.
    Stopping,
    /// Ended; will be started again after the backoff.
    Backoff,
    /// Ended too often in too short a time; `sarai restart` tries again, and so does the supervisor each minute.
    CrashLoop,
    /// Not to run: its model is refused, or it was stopped for good.
    Stopped,
}
