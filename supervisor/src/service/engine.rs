//! The engines: a model verified at each start, handed over as a descriptor.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sarai_trust::Attestation;
use sarai_trust::manifest::Role;
use sarai_wire::adapter::AdapterOrder;
use sarai_wire::birth::{EngineParams, EngineStart, FromEngine, ToEngine};
use sarai_wire::engine::BatchCost;
use sarai_wire::memory::Ease;

use super::program::{End, Hold, Launch, Program, Said};
use crate::adapters::{self, engines};
use crate::app::App;
use crate::boot_time::Mark;
use crate::config::EngineConfig;
use crate::governor::book::Which;
use crate::governor::terms::Model;
use crate::quarantine::{self, Cause};
use crate::sandbox::policy;
use crate::spawn::{self, Spec};
use crate::{cpu, models, sockets};

/// Bytes an engine loads in a second at the least; decides how long a large one may take.
const SLOWEST_LOAD: u64 = 20 * 1024 * 1024;
/// Time for what runs to end on an order.
const DRAIN: Duration = Duration::from_secs(5);

/// The model an engine was born with.
#[derive(Clone)]
struct Loaded {
    id: String,
    sequence: u64,
    sha256: String,
}

/// One engine.
pub struct Engine {
    name: &'static str,
    role: Role,
    listener: Option<Arc<OwnedFd>>,
    loaded: Option<Loaded>,
    /// Context it was configured with at its last birth, tokens.
    context: u32,
    /// What it was born with, where memory was short.
    reduced: Option<u32>,
    /// What an engine found out of batches, and with which model. Threads and parameters stay while this process lives.
    costs: Option<(String, Vec<BatchCost>)>,
}

impl Engine {
    /// An engine with the model of `role`.
    #[must_use]
    pub fn new(name: &'static str, role: Role) -> Self {
        Self {
            name,
            role,
            listener: None,
            loaded: None,
            context: 0,
            reduced: None,
            costs: None,
        }
    }
}

/// What the ladder must know of a model.
fn described(attestation: &Attestation, context: u32, settings: &EngineConfig) -> Model {
    let memory = attestation.memory;
    Model {
        digest: attestation.sha256.to_string(),
        weights: memory.map_or(attestation.size, |memory| memory.weights),
        kv_per_token: memory.map_or(0, |memory| memory.kv_per_token),
        context,
        slots: settings.slots,
        kv_q8: Model::is_q8(settings.kv_type),
    }
}

impl Engine {
    /// Whom the kernel ends first when the whole machine runs out of memory. An engine by its size alone, as every
    /// stranger: with a penalty it would die for somebody else's leak. The fallback after the primary.
    fn oom_score_adj(&self) -> i32 {
        if self.role == Role::Fallback { -100 } else { 0 }
    }

    fn which(&self) -> Which {
        match self.role {
            Role::Fallback => Which::Fallback,
            Role::Primary | Role::Projector => Which::Primary,
        }
    }

    /// What is known of batches of the model `sha256`.
    fn known_costs(&self, sha256: &str) -> Option<Vec<BatchCost>> {
        let (of, costs) = self.costs.as_ref()?;
        (of == sha256).then(|| costs.clone())
    }

    /// Its socket, bound before the model is verified: connections wait from then on. The gateway's group may
    /// connect; nobody else.
    fn listen(&mut self, app: &App) -> std::io::Result<Arc<OwnedFd>> {
        if let Some(listener) = &self.listener {
            return Ok(Arc::clone(listener));
        }
        let group = app.layout.separate.then_some(spawn::GATEWAY.id);
        let listener = Arc::new(sockets::unix(&app.layout.engine_socket(self.name), group)?.into());
        self.listener = Some(Arc::clone(&listener));
        Ok(listener)
    }
}

impl Program for Engine {
    type To = ToEngine;
    type From = FromEngine;

    fn name(&self) -> &str {
        self.name
    }

    async fn prepare(&mut self, app: &App) -> Result<Launch<ToEngine>, Hold> {
        if let Some(missing) = cpu::below_floor(&app.cpu) {
            return Err(Hold::Refused(missing));
        }
        let listener = self.listen(app).map_err(|e| {
            let path = app.layout.engine_socket(self.name);
            Hold::NotYet(format!("cannot listen on {}: {e}", path.display()))
        })?;
        if self.role == Role::Primary && app.ladder.stopped() {
            let why = app.ladder.notice().reason;
            return Err(Hold::NotYet(format!("it is stopped to save memory ({why})")));
        }
        app.marks.set(Mark::Verifying);
        let model = models::verify(app, self.role).await?;
        app.marks.set(Mark::Verified);
        let attestation = &model.verified.attestation;
        self.loaded = Some(Loaded {
            id: attestation.id.clone(),
            sequence: attestation.sequence,
            sha256: attestation.sha256.to_string(),
        });
        let settings = &app.config.engine;
        let context = settings
            .context
            .or(model.context)
            .unwrap_or(EngineParams::default().context);
        app.ladder
            .born(self.which(), described(attestation, context, settings));
        self.context = context;
        self.reduced = app.ladder.context(self.which(), context);
        let adapter = adapters::for_birth(app, self.name, attestation.sha256).await;
        engines::born(app, self.name, adapter.as_ref().map(|(which, _)| which));
        let start = EngineStart {
            model: attestation.id.clone(),
            digest: attestation.sha256.to_string(),
            params: EngineParams {
                context,
                reduced: self.reduced,
                slots: settings.slots,
                queue: settings.queue,
                batch: settings.batch,
                kv_type: settings.kv_type,
                cpus: app.cores.engine.clone(),
            },
            adapter: adapter.as_ref().map(|(which, _)| which.clone()),
            batch_costs: self.known_costs(&attestation.sha256.to_string()),
        };
        let startup = Duration::from_secs(u64::from(settings.startup_s) + attestation.size / SLOWEST_LOAD);
        let group = app.tree.as_ref().map(|tree| tree.procs(self.name)).transpose();
        Ok(Launch {
            spec: Spec {
                user: app.layout.separate.then_some(spawn::ENGINE),
                cpus: app.cores.engine.clone(),
                cgroup: group.map_err(|e| Hold::Failed(format!("its cgroup cannot be entered: {e}")))?,
                descriptors: 1024,
                oom_score_adj: self.oom_score_adj(),
                sandbox: Some(policy::engine(&app.layout)),
                site: app.layout.run.clone(),
                ..Spec::new(app.layout.programs.join("sarai-engine"))
            },
            listener: Some(listener),
            start: ToEngine::Start(start),
            attached: std::iter::once(model.verified.file.into())
                .chain(adapter.map(|(_, file)| file))
                .collect(),
            startup,
        })
    }

    fn serving(&mut self, app: &App) {
        app.marks.set(Mark::Engine);
        engines::serves(app, self.name);
        tokio::spawn(adapters::reconcile(App::clone(app), self.name));
        if let Some(Loaded { id, sequence, .. }) = self.loaded.clone() {
            let app = App::clone(app);
            tokio::task::spawn_blocking(move || models::record(&app, &id, sequence));
        }
    }

    /// A connection that nobody will take is refused instead of kept waiting, and the fallback answers.
    fn resting(&mut self, app: &App) {
        if self.listener.take().is_some() {
            let _ = std::fs::remove_file(app.layout.engine_socket(self.name));
        }
    }

    fn said(&mut self, app: &App, message: FromEngine) -> Said {
        match message {
            FromEngine::Ready {
                info,
                load_ms,
                batch_costs,
            } => {
                // The first that measured: one that was told gives back what fits its own batches.
                if let (Some(loaded), Some(costs)) = (&self.loaded, batch_costs)
                    && self.known_costs(&loaded.sha256).is_none()
                {
                    self.costs = Some((loaded.sha256.clone(), costs));
                }
                Said::Ready(format!(
                    "loaded {} in {:.1} s: context {}, {} slots, CPU variant {}",
                    info.model,
                    load_ms / 1000.0,
                    info.context,
                    info.slots,
                    info.cpu_variant
                ))
            }
            FromEngine::Failed { reason, unreadable } => Said::Failed { reason, unreadable },
            FromEngine::Pong {
                seq, queued, running, ..
            } => {
                if queued > 0 || running > 0 {
                    app.night.busy.note();
                }
                Said::Pong(seq)
            }
            FromEngine::Busy => {
                app.night.busy.note();
                Said::Noted
            }
            FromEngine::Eased(eased) => Said::Eased(eased),
            FromEngine::Adapter(answer) => {
                engines::told(app, self.name, &answer);
                Said::Adapter(answer)
            }
        }
    }

    /// A model whose engine tries what it may not, or whose bytes cannot be read, is remembered before the next one is
    /// prepared. Only an end of an engine that had its model says something about it.
    async fn ended(&mut self, app: &App, end: &End) {
        engines::ended(app, self.name);
        let cause = match end {
            End::Denied(call) => Cause::Denied(call.clone()),
            End::Unreadable => Cause::Unreadable,
            End::Other => return,
        };
        let Some(loaded) = self.loaded.clone() else {
            return;
        };
        let app = App::clone(app);
        let noted = move || quarantine::note(&app, &loaded.sha256, &loaded.id, &cause);
        // Broken off only by the end of everything.
        let _ = tokio::task::spawn_blocking(noted).await;
    }

    fn ping(seq: u64) -> ToEngine {
        ToEngine::Ping { seq }
    }

    fn stop() -> ToEngine {
        ToEngine::Stop
    }

    fn reload() -> Option<ToEngine> {
        None
    }

    fn ease(seq: u64, ease: Ease) -> Option<ToEngine> {
        Some(ToEngine::Ease { seq, ease })
    }

    fn adapter(seq: u64, order: AdapterOrder) -> Option<ToEngine> {
        Some(ToEngine::Adapter { seq, order })
    }

    /// The ladder may have moved while the model was loaded; what is so already costs nothing.
    fn news(&mut self, app: &App, serves: bool) -> Vec<ToEngine> {
        let wanted = app.ladder.context(self.which(), self.context);
        if !serves || wanted.is_none() && self.reduced.is_none() {
            return Vec::new();
        }
        self.reduced = wanted;
        let tokens = wanted.unwrap_or(self.context);
        // Nobody waits for this number.
        let (seq, ease) = (0, Ease::Context { tokens });
        vec![ToEngine::Ease { seq, ease }]
    }

    fn silence(&self, app: &App) -> Duration {
        Duration::from_secs(app.config.engine.silence_s.into())
    }

    fn drain(&self, _app: &App) -> Duration {
        DRAIN
    }
}
