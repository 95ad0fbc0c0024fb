//! The gateway: a listening socket that outlives it, credentials it may read, and the way to the engines.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sarai_wire::birth::{AuditStart, FromGateway, GatewayStart, ToGateway};
use sarai_wire::feedback::Forget;
use sarai_wire::memory::{Ease, Rung};

use super::program::{End, Hold, Launch, Program, Said};
use super::{FALLBACK, GATEWAY, NightOrder, PRIMARY};
use crate::app::App;
use crate::boot_time::Mark;
use crate::sandbox::policy;
use crate::spawn::{self, Spec};
use crate::{audit, feedback, models, night, prompts, sockets};

/// Time in which a certificate is expected without anyone being told that it is missing.
const CERTIFICATE: Duration = Duration::from_secs(5);
/// Time to read credentials and begin to serve.
const STARTUP: Duration = Duration::from_secs(30);
/// Longest time without an answer to a ping; no computing happens in the gateway.
const SILENCE: Duration = Duration::from_secs(10);
/// Besides the time requests in flight have, for the rest of an orderly end.
const DRAIN_SLACK: Duration = Duration::from_secs(2);

/// The gateway.
pub struct Gateway {
    /// Whether the profile has a fallback engine.
    fallback: bool,
    /// Id and sequence of the prompts it was born with.
    prompts: Option<(String, u64)>,
}

impl Gateway {
    /// A gateway in front of one engine, or of two.
    #[must_use]
    pub fn new(fallback: bool) -> Self {
        Self {
            fallback,
            prompts: None,
        }
    }
}

impl Program for Gateway {
    type To = ToGateway;
    type From = FromGateway;

    fn name(&self) -> &str {
        GATEWAY
    }

    async fn prepare(&mut self, app: &App) -> Result<Launch<ToGateway>, Hold> {
        let mut certified = app.certified.subscribe();
        let waited = tokio::time::timeout(CERTIFICATE, certified.wait_for(|done| *done))
            .await
            .is_ok();
        if !waited {
            return Err(Hold::NotYet("its certificate has not been issued yet".to_owned()));
        }
        let (listener, _) = sockets::gateway(app)
            .map_err(|e| Hold::NotYet(format!("cannot listen on {}: {e}", app.config.listen)))?;
        let (prompts, attached) = match prompts::verify(app).await {
            Some(prompts) => {
                self.prompts = Some(prompts.seen);
                (Some(prompts.start), vec![prompts.file])
            }
            None => {
                self.prompts = None;
                (None, Vec::new())
            }
        };
        let socket = |name: &str| -> PathBuf { app.layout.engine_socket(name) };
        let start = GatewayStart {
            credentials: app.layout.gateway(),
            primary: socket(PRIMARY),
            fallback: self.fallback.then(|| socket(FALLBACK)),
            settings: app.config.gateway.clone(),
            prompts,
            audit: Some(AuditStart {
                folder: audit::folder(app),
                content: app.config.audit_content,
            }),
            feedback: Some(feedback::start(app)),
        };
        let group = app.tree.as_ref().map(|tree| tree.procs(GATEWAY)).transpose();
        let connections = u64::from(app.config.gateway.max_connections);
        Ok(Launch {
            spec: Spec {
                user: app.layout.separate.then_some(spawn::GATEWAY),
                cpus: app.cores.house.clone(),
                cgroup: group.map_err(|e| Hold::Failed(format!("its cgroup cannot be entered: {e}")))?,
                // Each connection and each request to an engine, and what the program itself holds.
                descriptors: connections + 2 * u64::from(app.config.gateway.max_requests) + 256,
                // After everybody else: it is small, bounded by its own group, and every client waits for it.
                oom_score_adj: -300,
                sandbox: Some(policy::gateway(&app.layout)),
                site: app.layout.run.clone(),
                ..Spec::new(app.layout.programs.join("sarai-gateway"))
            },
            listener: Some(Arc::clone(&listener)),
            start: ToGateway::Start(Box::new(start)),
            attached,
            startup: STARTUP,
        })
    }

    fn serving(&mut self, app: &App) {
        app.marks.set(Mark::Gateway);
        night::day::counts_anew(app);
        if let Some((id, sequence)) = self.prompts.clone() {
            let app = App::clone(app);
            tokio::task::spawn_blocking(move || models::record(&app, &id, sequence));
        }
    }

    /// Clients' connections wait in the backlog: the gateway comes back.
    fn resting(&mut self, _app: &App) {}

    fn said(&mut self, app: &App, message: FromGateway) -> Said {
        match message {
            FromGateway::Prompts {
                id,
                version,
                sha256,
                refused,
            } => {
                if refused.is_some() {
                    // Words that nobody could use must not keep older ones from coming back.
                    self.prompts = None;
                }
                prompts::used(app, id, version, sha256, refused);
                Said::Noted
            }
            FromGateway::Audit(report) => {
                audit::reported(app, report);
                Said::Noted
            }
            FromGateway::Forgotten(forgotten) => Said::Forgotten(forgotten),
            FromGateway::DataSet(answer) => Said::Chosen(answer),
            FromGateway::Measured(answer) => Said::Measured(answer),
            FromGateway::Quality { adapters } => {
                night::day::quality(app, adapters);
                Said::Noted
            }
            FromGateway::Ready => Said::Ready("serves TLS".to_owned()),
            FromGateway::Failed { reason } => Said::Failed {
                reason,
                unreadable: false,
            },
            FromGateway::Pong { seq, .. } => Said::Pong(seq),
        }
    }

    async fn ended(&mut self, _app: &App, _end: &End) {}

    fn ping(seq: u64) -> ToGateway {
        ToGateway::Ping { seq }
    }

    fn stop() -> ToGateway {
        ToGateway::Stop
    }

    fn reload() -> Option<ToGateway> {
        Some(ToGateway::Reload)
    }

    fn ease(_seq: u64, _ease: Ease) -> Option<ToGateway> {
        None
    }

    fn forget(seq: u64, what: Forget) -> Option<ToGateway> {
        Some(ToGateway::Forget { seq, what })
    }

    fn night(seq: u64, order: &NightOrder) -> Option<ToGateway> {
        Some(match order {
            NightOrder::DataSet(order, ..) => ToGateway::DataSet {
                seq,
                order: order.clone(),
            },
            NightOrder::Measure(order, ..) => ToGateway::Measure {
                seq,
                order: order.clone(),
            },
            NightOrder::Wake => ToGateway::Wake,
        })
    }

    /// It knows from its birth where the ladder stands; how the nights stand, it only shows.
    fn news(&mut self, app: &App, serves: bool) -> Vec<ToGateway> {
        let notice = app.ladder.notice();
        let rung = (serves || notice.rung != Rung::Normal).then_some(ToGateway::Rung(notice));
        let night = serves.then(|| ToGateway::Night(night::notice::notice(app)));
        rung.into_iter().chain(night).collect()
    }

    fn silence(&self, app: &App) -> Duration {
        // A machine that is slow enough for a longer bound on its engines is slow for the gateway too.
        SILENCE.max(Duration::from_secs(app.config.engine.silence_s.into()))
    }

    fn drain(&self, app: &App) -> Duration {
        Duration::from_secs(app.config.gateway.drain_s.into()) + DRAIN_SLACK
    }
}
