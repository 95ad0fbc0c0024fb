//! From a TCP connection to HTTP requests: admission, TLS, the protocol the client chose, and its end.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connections::{Connection, Place};
use crate::house::{House, Phase};
use crate::patient::Patient;
use crate::routes;

/// How long a client may take nothing of what is sent to it.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// How long an HTTP/2 connection may be without a request. (HTTP/1 has the time of a request's head.)
const IDLE: Duration = Duration::from_secs(60);
/// How often an idle connection is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Most bytes of a request's head.
const MAX_HEAD: usize = 32 * 1024;
/// Most requests at once on one HTTP/2 connection.
const MAX_STREAMS: u32 = 16;
/// Pause after the kernel could not hand over a connection, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the house drains.
pub async fn accept(house: Arc<House>, router: Router, listener: TcpListener) {
    let mut draining = pin!(house.reached(Phase::Draining));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut draining => return,
        };
        match accepted {
            Ok((stream, address)) => match house.connections.admit(address.ip()) {
                Ok(place) => {
                    tokio::spawn(connection(
                        Arc::clone(&house),
                        router.clone(),
                        stream,
                        address,
                        place,
                    ));
                }
                Err(full) => house.metrics.refused.with_label_values(&[full.label()]).inc(),
            },
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(house: Arc<House>, router: Router, stream: TcpStream, address: SocketAddr, place: Place) {
    // Each token is sent when it is there.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, "failed to turn off the delay of small packets: {error}");
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&house.credentials.current().tls));
    let handshake = acceptor.accept(Patient::new(stream, WRITE_PATIENCE));
    let tls = tokio::select! {
        result = tokio::time::timeout(house.limits.header, handshake) => match result {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::debug!(%address, "failed to shake hands: {error}");
                return;
            }
            Err(_elapsed) => return,
        },
        () = place.connection.closed() => return,
        () = house.reached(Phase::Draining) => return,
    };
    place.connection.work();
    // The time of the first request's head begins now.
    place.connection.touch();
    serve(&house, router, tls, &place.connection).await;
}

async fn serve(
    house: &Arc<House>,
    router: Router,
    tls: TlsStream<Patient<TcpStream>>,
    connection: &Arc<Connection>,
) {
    let service = {
        let (house, connection) = (Arc::clone(house), Arc::clone(connection));
        service_fn(move |request: hyper::Request<Incoming>| {
            let (house, connection, router) = (Arc::clone(&house), Arc::clone(&connection), router.clone());
            async move { routes::handle(house, connection, router, request.map(Body::new)).await }
        })
    };
    // The client chose the protocol in the handshake, so no byte has to be waited for to tell it.
    let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let io = TokioIo::new(tls);
    if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
            .initial_stream_window_size(64 * 1024)
            .initial_connection_window_size(256 * 1024)
            .max_send_buf_size(64 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        drive(house, connection, builder.serve_connection(io, service)).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(house.limits.header)
            .max_buf_size(MAX_HEAD);
        drive(house, connection, builder.serve_connection(io, service)).await;
    }
}

/// Runs a connection until it ends, has to make room, was idle for too long, or the house closes.
async fn drive<C: Graceful>(house: &House, connection: &Connection, http: C) {
    let mut http = pin!(http);
    let mut draining = pin!(house.reached(Phase::Draining));
    let mut drained = false;
    let mut closing = pin!(house.reached(Phase::Closing));
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            result = http.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!("failed to serve a connection to its end: {error}");
                }
                return;
            }
            () = connection.closed() => return,
            () = &mut draining, if !drained => {
                drained = true;
                http.as_mut().begin_shutdown();
            }
            () = &mut closing => {
                // What still runs has just been told; let it reach the client.
                let _ = tokio::time::timeout(Duration::from_millis(300), http).await;
                return;
            }
            _ = look.tick() => {
                let patience = if connection.has_asked() { IDLE } else { house.limits.header + LOOK };
                if connection.idle_for().is_some_and(|idle| idle > patience) {
                    return;
                }
            }
        }
    }
}

/// Both of hyper's connections.
trait Graceful: Future<Output = hyper::Result<()>> {
    /// Finish what runs, take nothing new.
    fn begin_shutdown(self: Pin<&mut Self>);
}

type Io = TokioIo<TlsStream<Patient<TcpStream>>>;

impl<S> Graceful for http1::Connection<Io, S>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn begin_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S> Graceful for http2::Connection<Io, S, TokioExecutor>
where
    S: HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::Future: Send + 'static,
{
    fn begin_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
