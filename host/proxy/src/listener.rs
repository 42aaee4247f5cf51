//! The data plane's listener: TCP, TLS, and HTTP/1.1 or HTTP/2 on top.
//!
//! Limits stand before anything is read: connections, the time of a handshake and of a
//! request head, the size of heads, streams and resets of an HTTP/2 connection
//! (CVE-2023-44487, CVE-2024-27316).

pub(crate) mod framing;
mod idle;
mod rewind;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use witgate_core::ClientCertificate;

use self::framing::Framed;
use self::idle::Activity;
use crate::drain::{Drain, Watcher};
use crate::gate::{Gate, Peer};
use crate::limits::Limits;
use crate::workers::{Seat, Workers};

/// The listener's TLS configuration, replaced when its files change.
pub type CurrentTls = Arc<ArcSwap<ServerConfig>>;

/// Streams that a client may reset before they are accepted, and that we may reset for its errors, before
/// the connection is ended. h2's own defaults are 20 and 1,024.
const PENDING_RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 128;
/// How often an HTTP/2 client is asked whether it is still there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What a slow client may leave unread in the gate, of one stream.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take to end an HTTP/2 connection, when it has no request on it and was told to end it.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before accepting again, when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves connections, at the workers, until the drain begins; then lets those under way finish.
pub async fn serve(listener: TcpListener, tls: Option<CurrentTls>, gate: Arc<Gate>, workers: &Workers, drain: &Drain) {
    let places = Arc::new(Semaphore::new(gate.limits.connections_max));
    let mut watcher = drain.watcher();
    loop {
        let accepted = tokio::select! {
            () = watcher.begun() => return,
            accepted = accept(&listener, &places) => accepted,
        };
        let (tcp, address, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (gate, tls, watcher) = (Arc::clone(&gate), tls.clone(), watcher.holding(place));
        let open = gate.counts.enter_connection();
        workers.spawn(|seat| async move {
            let _open = open;
            if let Err(error) = connection(tcp, address, tls, gate, seat, watcher).await {
                debug!(%error, peer = %address, "connection ended");
            }
        });
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(std::net::TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (tcp, address) = listener.accept().await?;
    Ok((tcp.into_std()?, address, place)) // waited for by a worker from here on
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn connection(
    tcp: std::net::TcpStream,
    address: SocketAddr,
    tls: Option<CurrentTls>,
    gate: Arc<Gate>,
    seat: Arc<Seat>,
    watcher: Watcher,
) -> Result<(), BoxError> {
    let tcp = TcpStream::from_std(tcp)?;
    tcp.set_nodelay(true)?;
    let limits = gate.limits;
    let Some(tls) = tls else {
        let (is_http2, io) = timeout(limits.header_read_timeout, rewind::sniff(tcp)).await??;
        let peer = Peer { address, client_certificate: None };
        return http(io, is_http2, peer, gate, seat, watcher).await;
    };
    let acceptor = TlsAcceptor::from(tls.load_full());
    let stream = timeout(limits.handshake_timeout, acceptor.accept(tcp)).await??;
    let session = stream.get_ref().1;
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let client_certificate =
        session.peer_certificates().and_then(<[_]>::first).map(|leaf| ClientCertificate(Arc::from(leaf.as_ref())));
    http(stream, is_http2, Peer { address, client_certificate }, gate, seat, watcher).await
}

async fn http<I>(
    io: I,
    is_http2: bool,
    peer: Peer,
    gate: Arc<Gate>,
    seat: Arc<Seat>,
    watcher: Watcher,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = gate.limits;
    let peer = Arc::new(peer);
    let mut begun = watcher.clone();
    let activity = Activity::new();
    let counted = activity.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (gate, peer, watcher) = (Arc::clone(&gate), Arc::clone(&peer), watcher.clone());
        let (place, turn) = (counted.enter(), seat.turn());
        async move {
            // A tunnel over HTTP/2 outlives its answer; it has limits of its own.
            let is_tunnel = request.method() == Method::CONNECT;
            let answer = if turn.is_elsewhere() {
                turn.answer(Box::pin(async move { gate.handle(request, &peer, &watcher).await })).await
            } else {
                let answer = gate.handle(request, &peer, &watcher).await;
                drop(turn);
                answer
            };
            let place = if is_tunnel && answer.status().is_success() { place.for_ever() } else { place };
            Ok::<_, Infallible>(answer.map(|body| place.held_by(body)))
        }
    });
    // Biased towards the connection: the drain is looked at only when there is nothing to do.
    if is_http2 {
        let connection = http2_builder(&limits).serve_connection(TokioIo::new(io), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Ok(ended?),
            () = begun.begun() => connection.as_mut().graceful_shutdown(),
            () = activity.none_for(limits.idle_timeout) => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => Ok(ended?),
            () = begun.cut() => Ok(()),
            () = activity.none_for(GOODBYE_TIMEOUT) => Ok(()),
        }
    } else {
        let connection = http1_builder(&limits)
            .serve_connection(TokioIo::new(Framed::new(io, limits.header_bytes_max)), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            ended = connection.as_mut() => return Ok(ended?),
            () = begun.begun() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => Ok(ended?),
            () = begun.cut() => Ok(()),
        }
    }
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_timeout)
        .max_headers(limits.header_count_max)
        .max_header_size(limits.header_bytes_max);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(limits.streams_max)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX);
    builder
}
