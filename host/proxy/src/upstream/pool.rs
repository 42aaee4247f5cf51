//! Connections of one identity to one API server, of one worker.
//!
//! HTTP/1.1 connections carry one request at a time and rest here in between.
//! HTTP/2 connections carry as many as the server allows; a further one is opened
//! only when those are full, so that 2,000 watches do not wait for each other. One that the
//! server wants to close takes no more requests, and ends with the last that it carries.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tracing::debug;

use super::connect::{Connector, Protocol, UpstreamIo};
use super::{Http2, UpstreamError};
use crate::body::RequestBody;
use crate::limits::Limits;

/// How often an HTTP/2 server is asked whether it is still there, and how long it may take to say so (Go's client: 30 s, 15 s).
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// What one slow reader may leave unread, and what all streams of a connection together may:
/// 250 slow readers of one connection do not stop another.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 250 * STREAM_WINDOW_BYTES;
/// Until the server has said: RFC 9113 §6.5.2 recommends at least this many.
const STREAMS_BEFORE_SETTINGS: usize = 100;
/// An API server's answer may have as large a head as a request of ours.
const RESPONSE_HEADER_LIST_BYTES_MAX: u32 = 64 * 1024;

/// The connections of one identity at one worker. Dropping it closes those at rest.
#[derive(Debug)]
pub(super) struct Pool {
    resting: Arc<Resting>,
    multiplexed: Mutex<Vec<Multiplexed>>,
    /// Held while connecting to a server that may speak HTTP/2, so that one connection is made and not a hundred.
    connecting: tokio::sync::Mutex<()>,
    /// Whether the last connection settled on HTTP/1.1: then nobody waits for another's connection.
    speaks_http1: AtomicBool,
}

/// A connection for one request, until its answer has been read to the end.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Leased,
    /// Whether it has carried a request before: such a connection may have been closed meanwhile.
    pub(super) reused: bool,
}

#[derive(Debug)]
enum Leased {
    Http1 { sender: http1::SendRequest<RequestBody>, home: Weak<Resting> },
    Http2 { connection: Multiplexed, _stream: Stream },
}

/// Which connections may be used for a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Freshness {
    Any,
    /// One that nobody has used: for a request that others have failed.
    New,
}

#[derive(Debug)]
struct Resting {
    shelf: Mutex<Shelf>,
    idle_timeout: Duration,
    idle_max: usize,
}

#[derive(Debug, Default)]
struct Shelf {
    idle: Vec<Idle>,
    /// Whether a task closes what has rested too long, when no request comes that would.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

#[derive(Clone, Debug)]
struct Multiplexed {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
    /// What the server's last SETTINGS allow.
    streams_max: Arc<AtomicUsize>,
    /// Whether the server has said that it takes no more requests here.
    retired: Arc<AtomicBool>,
}

/// One open stream; counted until it is dropped.
#[derive(Debug)]
struct Stream(Arc<AtomicUsize>);

impl Pool {
    pub(super) fn new(http2: Http2, limits: &Limits) -> Self {
        Self {
            resting: Arc::new(Resting {
                shelf: Mutex::default(),
                idle_timeout: limits.pool_idle_timeout,
                idle_max: limits.pool_idle_max,
            }),
            multiplexed: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            speaks_http1: AtomicBool::new(http2 == Http2::Disabled),
        }
    }

    /// A connection for one request: one at rest, a stream of one in use, or a new one.
    pub(super) async fn lease(
        &self,
        connector: &Connector,
        tls: &Arc<ClientConfig>,
        freshness: Freshness,
    ) -> Result<Lease, UpstreamError> {
        if freshness == Freshness::New {
            return Box::pin(self.open(connector, tls)).await;
        }
        if let Some(lease) = self.available() {
            return Ok(lease);
        }
        if !connector.target().is_secure() || self.speaks_http1.load(Ordering::Relaxed) {
            return Box::pin(self.open(connector, tls)).await;
        }
        connector.check()?; // nobody waits behind a probe
        // The wait is limited too: a hundred requests to a dead server must not queue for a hundred timeouts.
        let _guard = tokio::time::timeout(connector.timeout(), self.connecting.lock())
            .await
            .map_err(|elapsed| UpstreamError::Unreachable(elapsed.into()))?;
        match self.available() {
            Some(lease) => Ok(lease),
            None => Box::pin(self.open(connector, tls)).await,
        }
    }

    fn available(&self) -> Option<Lease> {
        self.multiplexed_stream().or_else(|| self.resting.take())
    }

    fn multiplexed_stream(&self) -> Option<Lease> {
        let mut connections = lock(&self.multiplexed);
        if connections.is_empty() {
            return None;
        }
        connections.retain(Multiplexed::takes_requests);
        connections.iter().find_map(|connection| connection.stream(true))
    }

    /// Boxed by its callers: few requests open a connection, and each would carry the room for a handshake.
    async fn open(&self, connector: &Connector, tls: &Arc<ClientConfig>) -> Result<Lease, UpstreamError> {
        let (io, protocol) = connector.connect(tls).await?;
        self.speaks_http1.store(protocol == Protocol::Http1, Ordering::Relaxed);
        match protocol {
            Protocol::Http1 => {
                let sender = http1_handshake(io).await?;
                let home = Arc::downgrade(&self.resting);
                Ok(Lease { connection: Leased::Http1 { sender, home }, reused: false })
            }
            Protocol::Http2 => {
                let connection = http2_handshake(io).await?;
                let lease = connection.stream(false).ok_or(UpstreamError::NotSent)?;
                lock(&self.multiplexed).push(connection);
                Ok(lease)
            }
        }
    }
}

impl Lease {
    /// A connection of its own, which no other request will use.
    pub(crate) const fn single(sender: http1::SendRequest<RequestBody>) -> Self {
        Self { connection: Leased::Http1 { sender, home: Weak::new() }, reused: false }
    }

    /// Whether requests on it need HTTP/2's form.
    pub(super) const fn is_http2(&self) -> bool {
        matches!(self.connection, Leased::Http2 { .. })
    }

    pub(super) async fn send(
        &mut self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<hyper::body::Incoming>, hyper::client::conn::TrySendError<http::Request<RequestBody>>>
    {
        match &mut self.connection {
            Leased::Http1 { sender, .. } => sender.try_send_request(request).await,
            Leased::Http2 { connection, .. } => connection.sender.try_send_request(request).await,
        }
    }

    /// The server takes no more requests on this connection: the pool gives it to nobody else, and what it carries
    /// goes on.
    pub(super) fn retire(&self) {
        match &self.connection {
            Leased::Http1 { .. } => {} // never goes back without an answer
            Leased::Http2 { connection, .. } => connection.retired.store(true, Ordering::Relaxed),
        }
    }

    /// The answer has been read to its end: an HTTP/1.1 connection goes back to rest.
    pub(crate) fn finish(self) {
        if let Leased::Http1 { sender, home } = self.connection
            && let Some(resting) = home.upgrade()
        {
            resting.keep(sender);
        }
    }
}

impl Resting {
    /// The connection that rested last and is ready: it is the likeliest to be alive still.
    fn take(self: &Arc<Self>) -> Option<Lease> {
        let mut shelf = lock(&self.shelf);
        shelf.remove_old(self.idle_timeout);
        let index = shelf.idle.iter().rposition(|connection| connection.sender.is_ready())?;
        let Idle { sender, .. } = shelf.idle.swap_remove(index);
        Some(Lease { connection: Leased::Http1 { sender, home: Arc::downgrade(self) }, reused: true })
    }

    fn keep(self: &Arc<Self>, sender: http1::SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        let mut shelf = lock(&self.shelf);
        if shelf.idle.len() < self.idle_max {
            shelf.idle.push(Idle { sender, since: Instant::now() });
        }
        // Without a runtime the process is ending, and its connections with it.
        if !shelf.is_swept
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            shelf.is_swept = true;
            runtime.spawn(sweep(Arc::downgrade(self), self.idle_timeout));
        }
    }
}

impl Shelf {
    fn remove_old(&mut self, idle_timeout: Duration) {
        let now = Instant::now();
        self.idle
            .retain(|connection| !connection.sender.is_closed() && now.duration_since(connection.since) < idle_timeout);
    }
}

/// Closes connections that have rested too long, until there are none.
async fn sweep(resting: Weak<Resting>, idle_timeout: Duration) {
    loop {
        tokio::time::sleep(idle_timeout).await;
        let Some(resting) = resting.upgrade() else { return };
        let mut shelf = lock(&resting.shelf);
        shelf.remove_old(idle_timeout);
        if shelf.idle.is_empty() {
            shelf.is_swept = false;
            return;
        }
    }
}

impl Multiplexed {
    fn takes_requests(&self) -> bool {
        !self.sender.is_closed() && !self.retired.load(Ordering::Relaxed)
    }

    fn stream(&self, reused: bool) -> Option<Lease> {
        if !self.takes_requests() {
            return None;
        }
        let stream = Stream(Arc::clone(&self.streams));
        let open = self.streams.fetch_add(1, Ordering::Relaxed);
        (open < self.streams_max.load(Ordering::Relaxed))
            .then(|| Lease { connection: Leased::Http2 { connection: self.clone(), _stream: stream }, reused })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn http1_handshake(io: UpstreamIo) -> Result<http1::SendRequest<RequestBody>, UpstreamError> {
    let (mut sender, connection) = http1::Builder::new()
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| UpstreamError::Unreachable(error.into()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "upstream connection ended");
        }
    });
    sender.ready().await.map_err(|error| UpstreamError::Unreachable(error.into()))?;
    Ok(sender)
}

async fn http2_handshake(io: UpstreamIo) -> Result<Multiplexed, UpstreamError> {
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(RESPONSE_HEADER_LIST_BYTES_MAX)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|error| UpstreamError::Unreachable(error.into()))?;
    let streams_max = Arc::new(AtomicUsize::new(STREAMS_BEFORE_SETTINGS));
    let allowed = Arc::clone(&streams_max);
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let ended = std::future::poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            allowed.store(connection.current_max_send_streams(), Ordering::Relaxed);
            polled
        });
        if let Err(error) = ended.await {
            debug!(%error, "upstream connection ended");
        }
    });
    sender.ready().await.map_err(|error| UpstreamError::Unreachable(error.into()))?;
    Ok(Multiplexed { sender, streams: Arc::default(), streams_max, retired: Arc::default() })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::super::{ServerTrust, Target};
    use super::*;
    use crate::tls::ServerVerification;

    /// Goal: while one request tries a server that was taken for dead, the others are refused, not queued behind it.
    /// Method: a port that refuses, and then one that takes the connection and never says a word of TLS.
    #[tokio::test]
    async fn nobody_waits_behind_a_probe() {
        let limits = Limits {
            breaker_failures_max: 1,
            breaker_pause_min: Duration::from_millis(1),
            connect_timeout: Duration::from_secs(60),
            ..Limits::default()
        };
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let target = Target::parse(&format!("https://{}", socket.local_addr().unwrap())).unwrap();
        let connector = Connector::new(target, None, &limits);
        let pool = Pool::new(Http2::Offered, &limits);
        let verification = ServerVerification::new(ServerTrust { ca_data: None, skip_tls_verify: true }).unwrap();
        let tls = Arc::new(verification.client_config(None).unwrap());
        let lease = || pool.lease(&connector, &tls, Freshness::Any);
        assert!(matches!(lease().await, Err(UpstreamError::Unreachable(_))));
        let listener = socket.listen(16).unwrap();

        let mut probe = Box::pin(lease());
        let _accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break accepted.unwrap(),
                refused = &mut probe => {
                    assert!(matches!(refused, Err(UpstreamError::Suspended { .. })));
                    tokio::task::yield_now().await;
                    probe = Box::pin(lease());
                }
            }
        };
        let other = tokio::time::timeout(Duration::from_secs(10), lease()).await.expect("refused at once");

        assert!(matches!(other, Err(UpstreamError::Suspended { .. })));
    }
}
