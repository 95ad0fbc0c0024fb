//! Answers that bring files with them.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};

use sarai_wire::control::{MAX_LINE, Reply};
use sarai_wire::descriptors;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::{TAKE, refuse};
use crate::adapters::merge::folder::Folder;
use crate::adapters::store;
use crate::app::{App, Shared};
use crate::audit::Gathered;

/// A log of the gateway's: its files, unread, with what the supervisor has to say of them.
pub(super) async fn logs(
    app: &App,
    stream: &mut UnixStream,
    gather: fn(&Shared) -> Gathered,
) -> std::io::Result<()> {
    let worker = App::clone(app);
    let gathered = tokio::task::spawn_blocking(move || gather(&worker)).await;
    match gathered {
        Ok(Ok((reply, files))) => send(stream, &reply, &files).await,
        Ok(Err(e)) => refuse(stream, &format!("failed to {e}")).await,
        Err(e) => refuse(stream, &format!("failed to gather the log: {e}")).await,
    }
}

/// An adapter's files, unread.
pub(super) async fn adapter(app: &App, stream: &mut UnixStream, name: String) -> std::io::Result<()> {
    let folder = app.layout.adapters();
    opened(stream, move || store::export(&folder, &name)).await
}

/// A merged model's files, unread.
pub(super) async fn merged(app: &App, stream: &mut UnixStream, id: String) -> std::io::Result<()> {
    let folder = Folder::at(app.layout.merged());
    opened(stream, move || folder.export(&id)).await
}

async fn opened(
    stream: &mut UnixStream,
    open: impl FnOnce() -> Result<Vec<(String, File)>, String> + Send + 'static,
) -> std::io::Result<()> {
    let opened = tokio::task::spawn_blocking(open).await;
    match opened {
        Ok(Ok(found)) => {
            let (names, files): (Vec<String>, Vec<File>) = found.into_iter().unzip();
            send(stream, &Reply::Files { names }, &files).await
        }
        Ok(Err(e)) => refuse(stream, &format!("failed to {e}")).await,
        Err(e) => refuse(stream, &format!("failed to open the files: {e}")).await,
    }
}

async fn send(stream: &mut UnixStream, reply: &Reply, files: &[impl AsRawFd]) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(std::io::Error::other)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return refuse(stream, "the answer is longer than a line may be").await;
    }
    let raw: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let sending = async {
        let sent = loop {
            stream.writable().await?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                descriptors::send(AsFd::as_fd(&*stream), &line, &raw)
            });
            match sent {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                sent => break sent?,
            }
        };
        stream.write_all(&line[sent..]).await
    };
    tokio::time::timeout(TAKE, sending)
        .await
        .map_err(std::io::Error::other)?
}
