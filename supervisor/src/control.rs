//! The admin's socket: one JSON line asked, one or many answered. Each connection is a task with a bound on size,
//! time and number, so that a stuck client costs nobody else anything.

mod files;

use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sarai_trust::manifest::Role;
use sarai_wire::adapter::AdapterChange;
use sarai_wire::control::{MAX_LINE, Reply, Request, SshKeyInfo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use crate::adapters::{self, merge};
use crate::app::{App, Shared};
use crate::identity::authorized::{Authorized, AuthorizedError};
use crate::identity::{self, keys};
use crate::night::admin as night;
use crate::power::Power;
use crate::problems::lock;
use crate::quarantine;
use crate::service::{FALLBACK, GATEWAY, Order, PRIMARY};
use crate::status;

/// Most connections at once.
const MAX_CLIENTS: usize = 64;
/// Time a client has to ask.
const ASK: Duration = Duration::from_secs(5);
/// Time a client has to take one line.
const TAKE: Duration = Duration::from_secs(10);
/// Longest request: a request holds a name or two.
const MAX_REQUEST: usize = 16 * 1024;
/// Most lines of `logs`.
const MAX_LOG_LINES: u32 = 10_000;
/// Time the gateway has to confirm that it read new keys.
const RELOAD: Duration = Duration::from_secs(5);

/// Serves until the supervisor ends.
pub async fn serve(app: App, listener: Arc<StdListener>) {
    let listener = listener.try_clone().and_then(|l| {
        l.set_nonblocking(true)?;
        UnixListener::from_std(l)
    });
    let listener = match listener {
        Ok(listener) => listener,
        Err(e) => {
            return app
                .problems
                .set("control", format!("the control socket cannot be served: {e}"));
        }
    };
    let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = App::clone(&app);
                tokio::spawn(async move {
                    // A client that went away is no news.
                    let _ = client(&app, stream).await;
                    drop(permit);
                });
            }
            // Out of descriptors, for example: not in a hot loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

async fn client(app: &App, mut stream: UnixStream) -> std::io::Result<()> {
    let request = match tokio::time::timeout(ASK, read_line(&mut stream)).await {
        Err(_) => return refuse(&mut stream, "no request came within 5 seconds").await,
        Ok(Err(Asked::Io(e))) => return Err(e),
        Ok(Err(Asked::TooLong)) => {
            let message = format!("the request is longer than {MAX_REQUEST} bytes");
            refuse(&mut stream, &message).await?;
            // Closed over unread bytes, the connection would break before the answer is read.
            let _ = tokio::time::timeout(Duration::from_secs(1), discard(&mut stream)).await;
            return Ok(());
        }
        // Connected and gone, as a probe does.
        Ok(Ok(None)) => return Ok(()),
        Ok(Ok(Some(line))) => match parse(&line) {
            Ok(request) => request,
            Err(e) => return refuse(&mut stream, &format!("the request is not understood: {e}")).await,
        },
    };
    if let Request::Logs {
        service,
        lines,
        follow,
    } = request
    {
        if !(1..=MAX_LOG_LINES).contains(&lines) {
            return refuse(&mut stream, &format!("lines must be 1 to {MAX_LOG_LINES}")).await;
        }
        return logs(app, &mut stream, service.as_deref(), lines as usize, follow).await;
    }
    match request {
        Request::Audit => return files::logs(app, &mut stream, crate::audit::gather).await,
        Request::Feedback => return files::logs(app, &mut stream, crate::feedback::gather).await,
        Request::AdaptersExport { name } => return files::adapter(app, &mut stream, name).await,
        Request::MergedExport { id } => return files::merged(app, &mut stream, id).await,
        _ => {}
    }
    let worker = App::clone(app);
    let reply = whole(async move { answer(&worker, request).await }).await;
    send(&mut stream, &reply).await
}

/// What work comes to; where it breaks off, an error.
async fn whole(work: impl Future<Output = Reply> + Send + 'static) -> Reply {
    tokio::spawn(work).await.unwrap_or_else(|e| Reply::Error {
        message: format!("failed to do it: the supervisor's own task broke off: {e}"),
    })
}

/// Like `serde_json`, and strict: it lets unknown fields pass beside a variant without fields.
fn parse(line: &[u8]) -> Result<Request, String> {
    let given: serde_json::Value = serde_json::from_slice(line).map_err(|e| e.to_string())?;
    let request: Request = serde_json::from_value(given.clone()).map_err(|e| e.to_string())?;
    let known = serde_json::to_value(&request).map_err(|e| e.to_string())?;
    let unknown = given
        .as_object()
        .and_then(|fields| fields.keys().find(|name| known.get(name).is_none()));
    match unknown {
        Some(name) => Err(format!(
            "unknown field {:?}",
            name.chars().take(40).collect::<String>()
        )),
        None => Ok(request),
    }
}

enum Asked {
    TooLong,
    Io(std::io::Error),
}

async fn discard(stream: &mut UnixStream) {
    let mut chunk = [0; 1024];
    let mut most = MAX_LINE;
    while let Ok(got @ 1..) = stream.read(&mut chunk).await {
        most = most.saturating_sub(got);
        if most == 0 {
            return;
        }
    }
}

/// The bytes before the first newline, or before the end; `None` when nothing came at all.
async fn read_line(stream: &mut UnixStream) -> Result<Option<Vec<u8>>, Asked> {
    let mut line = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let got = stream.read(&mut chunk).await.map_err(Asked::Io)?;
        let part = &chunk[..got];
        if let Some(at) = part.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&part[..at]);
            return if line.len() > MAX_REQUEST {
                Err(Asked::TooLong)
            } else {
                Ok(Some(line))
            };
        }
        line.extend_from_slice(part);
        if line.len() > MAX_REQUEST {
            return Err(Asked::TooLong);
        }
        if got == 0 {
            return Ok((!line.is_empty()).then_some(line));
        }
    }
}

async fn refuse(stream: &mut UnixStream, message: &str) -> std::io::Result<()> {
    send(
        stream,
        &Reply::Error {
            message: message.to_owned(),
        },
    )
    .await
}

async fn send(stream: &mut UnixStream, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(std::io::Error::other)?;
    if line.len() >= MAX_LINE {
        return Err(std::io::Error::other("the answer is longer than a line may be"));
    }
    line.push(b'\n');
    tokio::time::timeout(TAKE, stream.write_all(&line))
        .await
        .map_err(std::io::Error::other)?
}

async fn answer(app: &App, request: Request) -> Reply {
    match request {
        Request::Status => Reply::Status(Box::new(status::take(app))),
        Request::KeysAdd { name } => {
            let wanted = name.clone();
            match keys(app, true, move |store| store.add(&wanted, Timestamp::now())).await {
                Ok(secret) => Reply::Key { name, secret },
                Err(message) => Reply::Error { message },
            }
        }
        Request::KeysList => match keys(app, false, keys::Store::list).await {
            Ok(keys) => Reply::Keys { keys },
            Err(message) => Reply::Error { message },
        },
        Request::KeysRemove { name } => match keys(app, true, move |store| store.remove(&name)).await {
            Ok(()) => Reply::Ok,
            Err(message) => Reply::Error { message },
        },
        Request::SshKeysAdd { key } => ssh_keys(app, move |keys| keys.add(&key).map(|key| vec![key])).await,
        Request::SshKeysList => ssh_keys(app, |keys| keys.list()).await,
        Request::SshKeysRemove { fingerprint } => {
            ssh_keys(app, move |keys| keys.remove(&fingerprint).map(|()| Vec::new())).await
        }
        Request::Restart { service } => {
            let names = app.orders.names();
            if !names.contains(&service) {
                return Reply::Error {
                    message: format!("there is no such service; there are: {}", names.join(", ")),
                };
            }
            if app
                .orders
                .give(&service, Order::Restart, Duration::from_secs(5))
                .await
            {
                Reply::Ok
            } else {
                Reply::Error {
                    message: format!("{service} did not take the order; see: sarai logs {service}"),
                }
            }
        }
        Request::ModelsRelease { digest } => release(app, digest).await,
        Request::FeedbackForget { what } => crate::feedback::forget(app, what).await,
        Request::TrainingStatus => night::show(app),
        Request::TrainingRun => night::run_now(app),
        Request::TrainingOff => night::turn(app, false).await,
        Request::TrainingOn => night::turn(app, true).await,
        Request::Poweroff => power(app, Power::Off).await,
        Request::Reboot => power(app, Power::Reboot).await,
        Request::AdaptersList => {
            let worker = App::clone(app);
            let listed = tokio::task::spawn_blocking(move || adapters::list(&worker)).await;
            match listed.unwrap_or_else(|e| Err(format!("list the adapters: {e}"))) {
                Ok(adapters) => Reply::Adapters { adapters },
                Err(e) => Reply::Error {
                    message: format!("failed to {e}"),
                },
            }
        }
        Request::AdaptersUse { name } => changed(adapters::put_to_use(app, &name).await),
        Request::AdaptersRollback { engine } => changed(adapters::roll_back(app, &engine).await),
        Request::AdaptersNone { engine } => changed(adapters::use_none(app, &engine).await),
        Request::AdaptersMerge { name, id } => merge::order(app, name, id).await,
        Request::MergedList => merge::list(app).await,
        Request::MergedRemove { id } => merge::remove(app, id).await,
        Request::Logs { .. }
        | Request::Audit
        | Request::Feedback
        | Request::AdaptersExport { .. }
        | Request::MergedExport { .. } => Reply::Error {
            message: "this is answered otherwise".to_owned(),
        },
    }
}

fn changed(outcome: Result<AdapterChange, String>) -> Reply {
    match outcome {
        Ok(change) => Reply::AdapterChange(change),
        Err(e) => Reply::Error {
            message: format!("failed to {e}"),
        },
    }
}

/// Lifts a quarantine and starts the engines anew that wait for that.
async fn release(app: &App, digest: String) -> Reply {
    let worker = App::clone(app);
    let released = tokio::task::spawn_blocking(move || quarantine::release(&worker, &digest)).await;
    let sha256 = match released {
        Ok(Ok(sha256)) => sha256,
        Ok(Err(e)) => {
            return Reply::Error {
                message: format!("failed to release the model: {e}"),
            };
        }
        Err(e) => {
            return Reply::Error {
                message: format!("failed to release the model: {e}"),
            };
        }
    };
    let waiting: Vec<_> = lock(&app.models)
        .iter()
        .filter(|m| m.digest.as_ref() == Some(&sha256) && m.refused.is_some())
        .map(|m| m.role.clone())
        .collect();
    for (role, service) in [(Role::Primary, PRIMARY), (Role::Fallback, FALLBACK)] {
        if waiting.iter().any(|waits| waits == role.as_str()) {
            // One that does not take the order loads the model at its next start.
            app.orders
                .give(service, Order::Restart, Duration::from_secs(5))
                .await;
        }
    }
    Reply::Ok
}

async fn power(app: &App, power: Power) -> Reply {
    match app.power.send(power).await {
        Ok(()) => Reply::Ok,
        Err(_) => Reply::Error {
            message: "the supervisor is shutting down already".to_owned(),
        },
    }
}

/// Works on the keys away from the main loop; after a change the gateway has read them before the answer goes out.
async fn keys<T: Send + 'static>(
    app: &App,
    change: bool,
    work: impl FnOnce(&keys::Store) -> Result<T, keys::KeysError> + Send + 'static,
) -> Result<T, String> {
    let worker = App::clone(app);
    let outcome = tokio::task::spawn_blocking(move || change_keys(&worker, change, work)).await;
    let value = outcome.map_err(|e| format!("failed to work on the keys: {e}"))??;
    if change {
        // A gateway that is not running reads the file when it starts.
        app.orders.give(GATEWAY, Order::Reload, RELOAD).await;
    }
    Ok(value)
}

/// Works on the keys that may come in by SSH, and hands them out as they are then.
async fn ssh_keys(
    app: &App,
    work: impl FnOnce(&Authorized<'_>) -> Result<Vec<SshKeyInfo>, AuthorizedError> + Send + 'static,
) -> Reply {
    // One at a time: each reads, changes and writes the whole file.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let worker = App::clone(app);
    let outcome = tokio::task::spawn_blocking(move || {
        let _one = lock(&ONE);
        let keys = Authorized(&worker.layout);
        let shown = work(&keys)?;
        keys.hand_out()?;
        Ok::<_, AuthorizedError>(shown)
    });
    match outcome.await {
        Ok(Ok(keys)) => Reply::SshKeys { keys },
        Ok(Err(e)) => Reply::Error {
            message: format!("failed to {e}"),
        },
        Err(e) => Reply::Error {
            message: format!("failed to work on the keys: {e}"),
        },
    }
}

fn change_keys<T>(
    app: &Shared,
    change: bool,
    work: impl FnOnce(&keys::Store) -> Result<T, keys::KeysError>,
) -> Result<T, String> {
    // One at a time: each reads, changes and writes the whole file.
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = crate::problems::lock(&ONE);
    let value = work(&keys::Store::at(&app.layout.gateway())).map_err(|e| format!("failed to {e}"))?;
    if change {
        let path = app.layout.gateway().join(keys::FILE);
        identity::share(&app.layout, &path, 0o640).map_err(|e| format!("failed to {e}"))?;
    }
    Ok(value)
}

async fn logs(
    app: &App,
    stream: &mut UnixStream,
    service: Option<&str>,
    lines: usize,
    follow: bool,
) -> std::io::Result<()> {
    let mut news = app.logs.follow();
    for line in app.logs.newest(service, lines) {
        send(stream, &Reply::Log(line)).await?;
    }
    let mut byte = [0; 1];
    if !follow {
        return Ok(());
    }
    loop {
        let line = tokio::select! {
            line = news.recv() => line,
            // Nothing more is expected from the client but its end.
            got = stream.read(&mut byte) => match got {
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => continue,
            },
        };
        match line {
            Ok(line) if service.is_none_or(|wanted| wanted == line.service) => {
                send(stream, &Reply::Log(line)).await?;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(lost)) => {
                refuse(
                    stream,
                    &format!("({lost} lines left out: they came faster than they were read)"),
                )
                .await?;
            }
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn line_of(bytes: &[u8]) -> Result<Option<Vec<u8>>, Asked> {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let bytes = bytes.to_vec();
        let writer = tokio::spawn(async move {
            let _ = a.write_all(&bytes).await;
        });
        let line = read_line(&mut b).await;
        drop(b);
        let _ = writer.await;
        line
    }

    #[test]
    fn a_request_with_a_field_too_many_is_refused() {
        assert_eq!(parse(b"{\"type\":\"status\"}").unwrap(), Request::Status);
        assert!(
            parse(b"{\"type\":\"status\",\"more\":1}")
                .unwrap_err()
                .contains("more")
        );
        assert!(parse(b"{\"type\":\"keys_add\",\"name\":\"a\",\"more\":1}").is_err());
        let logs = parse(b"{\"type\":\"logs\",\"lines\":5,\"follow\":false}").unwrap();
        assert_eq!(
            logs,
            Request::Logs {
                service: None,
                lines: 5,
                follow: false
            }
        );
        for wrong in [&b"[]"[..], b"3", b"\"status\"", b"{\"type\":3}", b"\xff"] {
            assert!(parse(wrong).is_err());
        }
    }

    #[tokio::test]
    async fn work_that_breaks_off_is_answered_with_an_error() {
        assert!(matches!(whole(async { Reply::Ok }).await, Reply::Ok));
        let broken = whole(async {
            tokio::task::yield_now().await;
            panic!("a defect")
        });
        let Reply::Error { message } = broken.await else {
            panic!("no error")
        };
        assert!(
            message.contains("broke off") && message.contains("a defect"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn a_request_ends_at_the_newline_or_the_end_and_has_a_bound() {
        assert_eq!(line_of(b"{}\nrest").await.ok().unwrap().unwrap(), b"{}");
        assert_eq!(line_of(b"{}").await.ok().unwrap().unwrap(), b"{}");
        assert!(line_of(b"").await.ok().unwrap().is_none());
        assert!(line_of(b"\n").await.ok().unwrap().is_some());
        let long = vec![b'x'; MAX_REQUEST + 1];
        assert!(matches!(line_of(&long).await, Err(Asked::TooLong)));
        let endless = vec![b'x'; 1 << 20];
        assert!(matches!(line_of(&endless).await, Err(Asked::TooLong)));
    }
}
