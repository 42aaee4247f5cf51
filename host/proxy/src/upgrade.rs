//! Exec, attach, port-forward: one connection up for one connection down, opaque in between.
//!
//! The way up is a fresh HTTP/1.1 connection that is never pooled. Only a 101 starts
//! the byte copy; any other answer is relayed, and both connections close with nothing
//! more sent (CVE-2018-1002105). Bytes that came before the 101 are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::authorize::Authorized;
use crate::body::{Body, Forwarded, OnClose, RequestBody};
use crate::decision::CloseReason;
use crate::drain::Watcher;
use crate::forward::{self, Identity, Pending};
use crate::headers;
use crate::limits::Limits;
use crate::respond::GateError;
use crate::snapshot::Cluster;
use crate::upstream::{InFlight, Lease, UpstreamError};

/// What is read at once, in each direction.
const COPY_BYTES: usize = 16 * 1024;

/// The protocols that are tunnelled. Anything else, `h2c` above all, is no way to talk to an API server.
pub(crate) fn is_tunnelled(protocol: &str) -> bool {
    matches!(protocol, "websocket" | "spdy/3.1")
}

/// Whether a browser on another site opens it: then its `Origin` is not the host that it asked.
pub(crate) fn foreign_origin<'a>(headers: &'a HeaderMap, host: Option<&str>) -> Option<&'a str> {
    let origin = headers.get(ORIGIN)?;
    let Ok(origin) = origin.to_str() else { return Some("not ASCII") };
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) { None } else { Some(origin) }
}

/// What an upgraded connection needs to end well.
pub(crate) struct Tunnel {
    pub(crate) drain: Watcher,
    pub(crate) on_close: OnClose,
}

/// Asks the API server for the upgrade and, on 101, ties both connections together in a task of its own.
pub(crate) async fn upgrade(
    authorized: Authorized<Pending>,
    cluster: &Arc<Cluster>,
    identity: &Identity,
    in_flight: InFlight,
    tunnel: Tunnel,
    limits: &Limits,
) -> Result<Response<Body>, GateError> {
    let pending = authorized.into_inner();
    let Some(wish) = pending.upgrade else {
        return Err(GateError::BadRequest("not an upgrade".into()));
    };
    if !RequestBody::new(pending.body).is_empty() {
        return Err(GateError::BadRequest("a request to upgrade has no body".into()));
    }
    let mut headers = forward::identify(pending.headers, identity)?;
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    let protocol = HeaderValue::from_str(canonical(&wish.protocol))
        .map_err(|_| GateError::BadRequest("the `Upgrade` header is not ASCII".into()))?;
    headers.insert(UPGRADE, protocol);
    headers.insert(http::header::HOST, cluster.upstream.target().host_header().clone());
    let request = forward::build(pending.method, &pending.target, headers, RequestBody::empty(), cluster)?;

    let io = cluster.upstream.connect_for_upgrade(&identity.credential).await?;
    let unreachable = |error: hyper::Error| UpstreamError::Unreachable(error.into());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(unreachable)?;
    let connection = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "upstream connection of an upgrade ended");
        }
    });
    let answer = timeout(limits.header_timeout, sender.send_request(request)).await;
    let mut response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(UpstreamError::BrokeOff(error.into()).into()),
        Err(elapsed) => {
            connection.abort();
            return Err(UpstreamError::Silent(elapsed.into()).into());
        }
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        forward::check_answer(response.status(), response.headers())?;
        let (mut parts, incoming) = response.into_parts();
        headers::strip_answer(&mut parts.headers);
        forward::close_after(&mut parts.headers);
        let body = Forwarded::new(incoming, Lease::single(sender), in_flight).with_idle_limit(limits.body_idle_timeout);
        let mut answer = Response::new(Body::forwarded(body));
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = parts.headers;
        return Ok(answer);
    }
    let settled = response.headers().get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !settled.eq_ignore_ascii_case(&wish.protocol) {
        return Err(UpstreamError::Protocol("101 to another protocol than was asked for".into()).into());
    }

    let upstream = hyper::upgrade::on(&mut response);
    tokio::spawn(tie(wish.downstream, upstream, tunnel, in_flight, *limits));
    let (mut parts, _) = response.into_parts();
    let settled = parts.headers.get(UPGRADE).cloned();
    headers::strip_answer(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(settled) = settled {
        parts.headers.insert(UPGRADE, settled);
    }
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// Methods with which Kubernetes' clients ask for an upgrade.
pub(crate) fn is_upgrade_method(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST)
}

/// SPDY's name as every Kubernetes client writes it.
fn canonical(protocol: &str) -> &str {
    match protocol {
        "spdy/3.1" => "SPDY/3.1",
        other => other,
    }
}

/// Copies until one side is done, idle, or cut. Owns its place in flight to the end.
async fn tie(downstream: OnUpgrade, upstream: OnUpgrade, tunnel: Tunnel, in_flight: InFlight, limits: Limits) {
    let Tunnel { mut drain, on_close } = tunnel;
    let bytes_down = AtomicU64::new(0);
    let reason = tokio::select! {
        reason = copy_both(downstream, upstream, &bytes_down, &limits) => reason,
        () = drain.cut() => CloseReason::Drained,
        () = tokio::time::sleep(limits.upgrade_lifetime) => CloseReason::LifetimeReached,
    };
    on_close(reason, bytes_down.load(Ordering::Relaxed));
    drop(in_flight);
}

async fn copy_both(downstream: OnUpgrade, upstream: OnUpgrade, bytes_down: &AtomicU64, limits: &Limits) -> CloseReason {
    // The API server has answered 101 already; the client gets its 101 at once or is gone.
    let upgraded = timeout(limits.header_timeout, async { tokio::try_join!(downstream, upstream) }).await;
    let Ok(Ok((downstream, upstream))) = upgraded else { return CloseReason::ClientClosed };
    let (down_read, down_write) = split(TokioIo::new(downstream));
    let (up_read, up_write) = split(TokioIo::new(upstream));
    let activity = Activity::new();
    let up = copy(down_read, up_write, &activity, None);
    let down = copy(up_read, down_write, &activity, Some(bytes_down));
    let mut up = std::pin::pin!(up);
    let mut down = std::pin::pin!(down);
    tokio::select! {
        ended = up.as_mut() => {
            if ended.is_ok() {
                let _ = timeout(limits.half_close_grace, down).await;
            }
            CloseReason::ClientClosed
        }
        ended = down.as_mut() => {
            if ended.is_ok() {
                let _ = timeout(limits.half_close_grace, up).await;
                CloseReason::Completed
            } else {
                CloseReason::UpstreamFailed
            }
        }
        () = activity.idle_for(limits.upgrade_idle_timeout) => CloseReason::IdleTimeout,
    }
}

/// One direction, each part written and flushed before the next is read. Passes the end on.
async fn copy<R, W>(mut from: R, mut to: W, activity: &Activity, count: Option<&AtomicU64>) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        let Some(part) = buffer.get(..length).filter(|part| !part.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(part).await?;
        to.flush().await?;
        activity.note();
        if let Some(count) = count {
            count.fetch_add(length as u64, Ordering::Relaxed);
        }
    }
}

/// When bytes last passed, in either direction.
struct Activity {
    started: Instant,
    last_ms: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self { started: Instant::now(), last_ms: AtomicU64::new(0) }
    }

    fn note(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Ordering::Relaxed);
    }

    /// Ends when nothing has passed for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let until = self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed)) + limit;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }
}
