//! The announcer: the machine's name and service on the local network. It has the machine's network and nothing else.

use std::time::Duration;

use sarai_wire::birth::{AnnounceStart, FromAnnouncer, ToAnnouncer};
use sarai_wire::memory::Ease;

use super::program::{End, Hold, Launch, Program, Said};
use crate::app::App;
use crate::problems::lock;
use crate::sandbox::policy;
use crate::spawn::{self, Spec};
use crate::{config, sockets};

/// Its name.
pub const ANNOUNCER: &str = "announce";
/// Time to begin.
const STARTUP: Duration = Duration::from_secs(30);
/// Longest time without an answer to a ping.
const SILENCE: Duration = Duration::from_secs(20);
/// Time to say goodbye.
const DRAIN: Duration = Duration::from_secs(3);
/// Time in which the authority is expected without anyone being told that it is missing.
const CERTIFICATE: Duration = Duration::from_secs(5);

/// The announcer.
pub struct Announcer;

impl Program for Announcer {
    type To = ToAnnouncer;
    type From = FromAnnouncer;

    fn name(&self) -> &str {
        ANNOUNCER
    }

    async fn prepare(&mut self, app: &App) -> Result<Launch<ToAnnouncer>, Hold> {
        // Who is told of the service finds it: its port is known, and connections wait.
        let mut certified = app.certified.subscribe();
        let waited = tokio::time::timeout(CERTIFICATE, certified.wait_for(|done| *done)).await;
        if waited.is_err() {
            return Err(Hold::NotYet("there is no certificate to announce yet".to_owned()));
        }
        let listen = app.config.listen;
        let (_, port) =
            sockets::gateway(app).map_err(|e| Hold::NotYet(format!("nobody listens on {listen}: {e}")))?;
        let mut properties = vec![
            ("txtvers".to_owned(), "1".to_owned()),
            ("path".to_owned(), "/v1".to_owned()),
            ("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ];
        if let Some(identity) = lock(&app.identity).clone() {
            let digits = identity.authority.fingerprint().replace(':', "").to_lowercase();
            properties.push(("ca".to_owned(), digits));
        }
        let group = app.tree.as_ref().map(|tree| tree.procs("house")).transpose();
        // Whatever somebody else made it take before may be free again.
        *lock(&app.announced) = Some(app.hostname.clone());
        Ok(Launch {
            spec: Spec {
                user: app.layout.separate.then_some(spawn::ANNOUNCE),
                cpus: app.cores.house.clone(),
                cgroup: group.map_err(|e| Hold::Failed(format!("its cgroup cannot be entered: {e}")))?,
                descriptors: 256,
                sandbox: Some(policy::announcer(&app.layout)),
                site: app.layout.run.clone(),
                ..Spec::new(app.layout.programs.join("sarai-announce"))
            },
            listener: None,
            start: ToAnnouncer::Start(AnnounceStart {
                hostname: app.hostname.clone(),
                listen: listen.ip(),
                port,
                properties,
            }),
            attached: Vec::new(),
            startup: STARTUP,
        })
    }

    fn serving(&mut self, _app: &App) {}

    /// Nobody is told the name now.
    fn resting(&mut self, app: &App) {
        *lock(&app.announced) = None;
    }

    fn said(&mut self, app: &App, message: FromAnnouncer) -> Said {
        match message {
            FromAnnouncer::Ready => Said::Ready(format!("{}.local", app.hostname)),
            FromAnnouncer::Renamed { hostname } => {
                // The certificate will name it: only what is a host's name.
                if config::is_hostname(&hostname) {
                    app.problems.set(
                        "announced name",
                        format!(
                            "another machine on this network is called {}.local; this one is {hostname}.local until one of them gets another name",
                            app.hostname
                        ),
                    );
                    *lock(&app.announced) = Some(hostname);
                }
                Said::Noted
            }
            FromAnnouncer::Failed { reason } => Said::Failed {
                reason,
                unreadable: false,
            },
            FromAnnouncer::Pong { seq } => Said::Pong(seq),
        }
    }

    async fn ended(&mut self, app: &App, _end: &End) {
        *lock(&app.announced) = None;
        app.problems.clear("announced name");
    }

    fn ping(seq: u64) -> ToAnnouncer {
        ToAnnouncer::Ping { seq }
    }

    fn stop() -> ToAnnouncer {
        ToAnnouncer::Stop
    }

    fn reload() -> Option<ToAnnouncer> {
        None
    }

    fn ease(_seq: u64, _ease: Ease) -> Option<ToAnnouncer> {
        None
    }

    fn news(&mut self, _app: &App, _serves: bool) -> Vec<ToAnnouncer> {
        Vec::new()
    }

    fn silence(&self, app: &App) -> Duration {
        SILENCE.max(Duration::from_secs(app.config.engine.silence_s.into()))
    }

    fn drain(&self, _app: &App) -> Duration {
        DRAIN
    }
}
