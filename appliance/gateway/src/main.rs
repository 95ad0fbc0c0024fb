//! `sarai-gateway`: TLS, the OpenAI-compatible API, metrics.
//!
//! It is born by the supervisor with two descriptors: the birth socket, over which it is told everything it needs,
//! and the listening TCP socket. It terminates TLS, knows clients by their keys, bounds whatever they send, runs
//! the Omni-Loop of [`sarai_reflection`] over the engines, and answers.
//!
//! It may listen on the descriptor it was given, connect to the engines' Unix sockets, and read its own credentials
//! folder. It never opens another socket, never reads a model, never holds a signing key, writes nothing but
//! its audit log and the feedback, and never logs what clients say.
//!
//! | module | duty |
//! | --- | --- |
//! | [`birth`] | what the supervisor says |
//! | [`house`] | what every part shares; built once from the start message |
//! | [`limits`], [`credentials`], [`keys`] | settings within bounds; certificate and keys, replaced as a whole |
//! | [`prompts`] | the Omni-Loop's words: those of the verified file, or the built-in ones |
//! | [`serve`], [`connections`], [`patient`] | TCP, TLS, HTTP; who has to make room; who does not read |
//! | [`routes`], [`body`], [`json`], [`params`], [`errors`] | what comes before each route; bounded bodies; OpenAI's errors |
//! | [`chat`] | `POST /v1/chat/completions` |
//! | [`feedback`] | `POST /v1/feedback`, and the answers that may be judged |
//! | [`night`] | what a night of learning needs: its data set, and how well an adapter does |
//! | [`engine`], [`failover`] | one engine; two behind one face |
//! | [`ladder`] | where the memory ladder stands, and which requests it touched |
//! | [`metrics`], [`audit`] | what is measured; what every loop did |

mod audit;
mod birth;
mod body;
mod chat;
mod connections;
mod credentials;
mod engine;
mod errors;
mod failover;
mod feedback;
mod house;
mod json;
mod keys;
mod ladder;
mod limits;
mod metrics;
mod night;
mod params;
mod patient;
mod prompts;
mod routes;
mod serve;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use sarai_wire::birth::{AuditReport, BirthError, FromGateway, ToGateway};
use tokio::sync::mpsc::UnboundedReceiver;
use tracing_subscriber::EnvFilter;

use crate::birth::{Birth, Inheritance};
use crate::house::{House, Phase};
use crate::night::Night;

/// Threads that serve. The engines' cores are not for the gateway; two threads carry far more than a model can say.
const WORKERS: usize = 2;
/// Longest wait for the audit log and the feedback after the drain.
const FILES_END: Duration = Duration::from_millis(1500);
/// Time left at the end of the drain to tell what still runs that it ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("SARAI_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // The supervisor stamps each line with the time.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("failed to {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let inheritance = birth::inherit().context("take the descriptors 3 and 4 from the supervisor")?;
    // Everything is loaded; what comes now reads bytes that others wrote.
    sarai_confine::seal(sarai_confine::Program::Gateway)?;
    let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(live(inheritance));
    // Whatever has not ended by now was told to.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn live(inheritance: Inheritance) -> anyhow::Result<()> {
    let birth = Birth::new(inheritance.birth).context("listen to the supervisor")?;
    let (start, files) = match birth.next_with_files().await {
        Ok((ToGateway::Start(start), files)) => (*start, files),
        Ok((ToGateway::Stop, _)) | Err(BirthError::Closed) => return Ok(()),
        Ok((other, _)) => bail!("begin: the supervisor said {other:?} before it said start"),
        // The texts of these errors hold their sources already.
        Err(error) => return Err(anyhow!("{error}").context("hear how to start")),
    };
    let prompts = prompts::choose(start.prompts.as_ref(), files);
    let told = prompts.report();
    let (to, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let built = House::build(start, prompts.set, to)
        .map_err(|error| anyhow!("{error}"))
        .and_then(|house| {
            let listener =
                tokio::net::TcpListener::from_std(inheritance.listener).context("listen for clients")?;
            Ok((Arc::new(house), listener))
        });
    let (house, listener) = match built {
        Ok(built) => built,
        Err(error) => {
            let reason = format!("{error:#}");
            birth.say(&FromGateway::Failed { reason }).await.ok();
            return Err(error);
        }
    };
    let keys = house.credentials.current().keys.len();
    let router = routes::router(Arc::clone(&house));
    tokio::spawn(serve::accept(Arc::clone(&house), router, listener));
    birth
        .say(&told)
        .await
        .context("tell the supervisor which prompts are used")?;
    birth
        .say(&FromGateway::Ready)
        .await
        .context("tell the supervisor that TLS is served")?;
    tracing::info!(keys, "serving");
    let (told, answers) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(night::quality::tell(Arc::clone(&house), told.clone()));
    let night = Night::new(Arc::clone(&house), told);
    obey(&house, &birth, &night, &mut reports, answers).await;
    night.wake();
    drain(&house).await;
    // The sums end with this process: its last ones must not wait for their time.
    let adapters = house.quality.sums();
    if !adapters.is_empty() {
        // Without a supervisor nobody counts.
        birth.say(&FromGateway::Quality { adapters }).await.ok();
    }
    end_files(&house, &birth, &mut reports).await;
    Ok(())
}

/// Does what the supervisor says until it says stop or is gone.
async fn obey(
    house: &House,
    birth: &Birth,
    night: &Night,
    reports: &mut UnboundedReceiver<AuditReport>,
    mut answers: UnboundedReceiver<FromGateway>,
) {
    let (told, mut forgotten) = tokio::sync::mpsc::unbounded_channel();
    loop {
        let message = tokio::select! {
            message = birth.next_with_files() => message,
            Some(forgotten) = forgotten.recv() => {
                if let Err(error) = birth.say(&FromGateway::Forgotten(forgotten)).await {
                    tracing::error!("failed to tell what was forgotten: failed to {error}");
                    return;
                }
                continue;
            }
            Some(answer) = answers.recv() => {
                if let Err(error) = birth.say(&answer).await {
                    tracing::error!("failed to tell what the night asked for: failed to {error}");
                    return;
                }
                continue;
            }
            Some(report) = reports.recv() => {
                if let Err(error) = birth.say(&FromGateway::Audit(report)).await {
                    tracing::error!("failed to tell how the audit log stands: failed to {error}");
                    return;
                }
                continue;
            }
        };
        match message {
            Ok((ToGateway::Ping { seq }, _)) => {
                let (answered, fallbacks) = house.metrics.counts();
                let connections = u32::try_from(house.connections.len()).unwrap_or(u32::MAX);
                let pong = FromGateway::Pong {
                    seq,
                    connections,
                    answered,
                    fallbacks,
                };
                if let Err(error) = birth.say(&pong).await {
                    tracing::error!("failed to answer the supervisor: failed to {error}");
                    return;
                }
            }
            Ok((ToGateway::Reload, _)) => match house.credentials.reload() {
                Ok(keys) => tracing::info!(keys, "read certificate and keys again"),
                Err(error) => tracing::error!("kept the old certificate and keys: failed to {error}"),
            },
            Ok((ToGateway::Start(_), _)) => tracing::warn!("ignored a second start"),
            Ok((ToGateway::Forget { seq, what }, _)) => {
                let told = told.clone();
                // Nobody listens any more at the very end.
                house
                    .feedback
                    .forget(seq, what, move |forgotten| drop(told.send(forgotten)));
            }
            Ok((ToGateway::DataSet { seq, order }, files)) => night.data_set(seq, order, files),
            Ok((ToGateway::Measure { seq, order }, files)) => night.measure(seq, order, files),
            Ok((ToGateway::Wake, _)) => night.wake(),
            Ok((ToGateway::Night(notice), _)) => house.metrics.night.told(&notice),
            Ok((ToGateway::Rung(notice), _)) => {
                let (rung, reason) = (notice.rung, notice.reason.clone());
                let moved = house.ladder.moved(notice);
                house.metrics.rung(rung, moved);
                if moved {
                    tracing::info!(rung = rung.name(), reason, "the memory ladder moved");
                }
            }
            Ok((ToGateway::Stop, _)) => return,
            Err(BirthError::Closed) => {
                tracing::warn!("the supervisor is gone");
                return;
            }
            Err(error) => {
                tracing::error!("failed to {error}");
                return;
            }
        }
    }
}

/// Lets audit log and feedback write what they have, and tells the supervisor where it ends, to be signed.
async fn end_files(house: &House, birth: &Birth, reports: &mut UnboundedReceiver<AuditReport>) {
    let until = tokio::time::Instant::now() + FILES_END;
    let ended = || [house.audit.end(), house.feedback.end()] == [true; 2];
    while !ended() && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while let Ok(report) = reports.try_recv() {
        // Without a supervisor there is nobody to sign it; the next run goes on from there.
        if birth.say(&FromGateway::Audit(report)).await.is_err() {
            return;
        }
    }
}

/// Lets what runs end, within the time there is.
async fn drain(house: &House) {
    tracing::info!(connections = house.connections.len(), "stopping");
    house.phase.send_replace(Phase::Draining);
    let all_gone = async {
        while house.connections.len() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let time = house.limits.drain.saturating_sub(LAST_WORDS);
    if tokio::time::timeout(time, all_gone).await.is_err() {
        house.phase.send_replace(Phase::Closing);
        tokio::time::sleep(LAST_WORDS).await;
        tracing::warn!(
            connections = house.connections.len(),
            "stopped with connections open"
        );
    }
}
