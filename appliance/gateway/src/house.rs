//! What every part of the gateway shares.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sarai_reflection::{Calibrations, Checker, PromptSet};
use sarai_wire::birth::{AuditReport, GatewayStart};
use sarai_wire::engine::Info;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{Semaphore, watch};

use crate::audit::Audit;
use crate::connections::Connections;
use crate::credentials::{CredentialStore, CredentialsError};
use crate::engine::Engine;
use crate::feedback::Desk;
use crate::ladder::Ladder;
use crate::limits::{Limits, OutOfBounds};
use crate::metrics::Metrics;
use crate::night::quality::Ledger;

/// How long an engine may take to say what it runs when somebody asks for the list, the state or the metrics.
pub const INFO_PATIENCE: Duration = Duration::from_millis(1000);

/// Where the gateway is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Open,
    /// No new connections or requests; what runs may end.
    Draining,
    /// What still runs is told so and closed.
    Closing,
}

/// What every part of the gateway shares.
pub struct House {
    /// Settings within their bounds.
    pub limits: Limits,
    /// Certificate and keys.
    pub credentials: CredentialStore,
    /// The preferred engine.
    pub primary: Engine,
    /// The one that takes over, if the profile has one.
    pub fallback: Option<Engine>,
    /// What finds errors in answers.
    pub checkers: Vec<Box<dyn Checker>>,
    /// The words that ask for a revision.
    pub prompts: PromptSet,
    /// How sure answers of each model are.
    pub calibrations: Calibrations,
    /// What every loop did.
    pub audit: Audit,
    /// What clients say of answers.
    pub feedback: Desk,
    /// How answers go, adapter by adapter.
    pub quality: Ledger,
    /// What is measured.
    pub metrics: Metrics,
    /// Where the memory ladder stands.
    pub ladder: Ladder,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// Chat requests that may still come in.
    pub slots: Arc<Semaphore>,
    /// Request bodies that may be read at the same time, which bounds the memory they take.
    pub uploads: Semaphore,
    /// Where the gateway is in its life; the sender ends it.
    pub phase: watch::Sender<Phase>,
    /// When the gateway began: Unix seconds.
    pub since: u64,
}

/// Calibrations made on this machine, beside the credentials.
const CALIBRATION: &str = "calibration.toml";

/// Those of the program, and over them those made on this machine.
fn calibrations(folder: &Path) -> Calibrations {
    let mut all = Calibrations::shipped();
    let file = folder.join(CALIBRATION);
    match std::fs::File::open(&file).and_then(|file| {
        let mut text = String::new();
        file.take(sarai_reflection::confidence::calibration::MAX_FILE as u64 + 1)
            .read_to_string(&mut text)
            .map(|_| text)
    }) {
        Ok(text) => match Calibrations::parse(&text) {
            Ok(own) => all.extend(own),
            Err(error) => tracing::warn!(file = %file.display(), "failed to {error}; it is not used"),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(file = %file.display(), "failed to read the calibration: {error}"),
    }
    all
}

/// Why the gateway cannot serve. Fits after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum HouseError {
    /// A setting is out of bounds.
    #[error(transparent)]
    Limits(#[from] OutOfBounds),
    /// The credentials cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The audit log's thread cannot be started.
    #[error("start the audit log: {0}")]
    Audit(std::io::Error),
    /// The thread that keeps feedback cannot be started.
    #[error("start to keep feedback: {0}")]
    Feedback(std::io::Error),
    /// A metric cannot be registered.
    #[error("set up the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl House {
    /// Builds everything from what the supervisor said.
    pub fn build(
        start: GatewayStart,
        prompts: PromptSet,
        reports: UnboundedSender<AuditReport>,
    ) -> Result<Self, HouseError> {
        let limits = Limits::try_from(&start.settings)?;
        let calibrations = calibrations(&start.credentials);
        Ok(Self {
            calibrations,
            credentials: CredentialStore::open(start.credentials)?,
            primary: Engine::new("primary", start.primary),
            fallback: start.fallback.map(|socket| Engine::new("fallback", socket)),
            checkers: sarai_reflection::checkers::standard(),
            prompts,
            audit: Audit::start(start.audit, reports).map_err(HouseError::Audit)?,
            feedback: Desk::start(start.feedback).map_err(HouseError::Feedback)?,
            quality: Ledger::default(),
            metrics: Metrics::new()?,
            ladder: Ladder::new(),
            connections: Connections::new(limits.connections, limits.connections_per_address),
            slots: Arc::new(Semaphore::new(limits.requests)),
            uploads: Semaphore::new(limits.requests),
            phase: watch::Sender::new(Phase::Open),
            since: now(),
            limits,
        })
    }

    /// Both engines, the preferred one first.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        std::iter::once(&self.primary).chain(&self.fallback)
    }

    /// What each engine runs, asked now and at the same time; `None` where it does not answer.
    pub async fn infos(&self) -> Vec<(&Engine, Option<Arc<Info>>)> {
        let fallback = async {
            match &self.fallback {
                Some(engine) => Some((engine, engine.seen(INFO_PATIENCE).await)),
                None => None,
            }
        };
        let (primary, fallback) = tokio::join!(self.primary.seen(INFO_PATIENCE), fallback);
        std::iter::once((&self.primary, primary))
            .chain(fallback)
            .collect()
    }

    /// Resolves once the gateway's life has come to `phase`.
    pub async fn reached(&self, phase: Phase) {
        // The sender is part of the house, so this ends only by the phase.
        let _ = self.phase.subscribe().wait_for(|now| *now >= phase).await;
    }
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// A new id: the prefix and 24 random hexadecimal digits.
pub fn new_id(prefix: &str) -> String {
    use std::fmt::Write;
    let mut bytes = [0_u8; 12];
    // Ids only tell requests apart; should the kernel give nothing, the clock does.
    if getrandom::fill(&mut bytes).is_err() {
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos());
        bytes.copy_from_slice(&nanos.to_le_bytes()[..12]);
    }
    bytes.iter().fold(prefix.to_owned(), |mut id, byte| {
        let _ = write!(id, "{byte:02x}");
        id
    })
}
