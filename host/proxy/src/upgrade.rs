//! Exec, attach, port-forward: one connection up for one connection down, opaque in between.
//!
//! The way up is a fresh HTTP/1.1 connection that is never pooled. Only a 101 starts
//! the byte copy; any other answer is relayed, and both connections close with nothing
//! more sent (CVE-2018-1002105). Bytes that came before the 101 are kept. A client of
//! HTTP/2 asks by extended CONNECT, which is judged as the GET that it stands for.
//!
//! Promise: dropping the future before the answer closes the connection upstream.

mod extended_connect;
mod tunnel;

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, ORIGIN, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use self::extended_connect::WebSocketKey;
pub(crate) use self::tunnel::Tunnel;
use self::tunnel::tie;
use crate::authorize::Authorized;
use crate::body::{Body, Forwarded, RequestBody};
use crate::forward::{self, Identity, Pending, Upgrade, UpgradeForm};
use crate::headers;
use crate::limits::Limits;
use crate::respond::GateError;
use crate::snapshot::Cluster;
use crate::upstream::{InFlight, Lease, UpstreamError};

const WEBSOCKET: &str = "websocket";
const SPDY: &str = "spdy/3.1";

/// What the client asks to switch to, if anything. An extended CONNECT to a WebSocket becomes the GET that it stands for.
pub(crate) fn wished(request: &mut Request<Incoming>) -> Option<Upgrade> {
    let (protocol, form) = if request.method() == Method::CONNECT {
        let protocol = request.extensions().get::<Protocol>()?.as_str().to_owned();
        if protocol == WEBSOCKET {
            *request.method_mut() = Method::GET;
        }
        (protocol, UpgradeForm::ExtendedConnect)
    } else if request.version() < Version::HTTP_2 {
        (headers::upgrade_protocol(request.headers())?, UpgradeForm::Http1)
    } else {
        return None;
    };
    Some(Upgrade { protocol, form, downstream: hyper::upgrade::on(request) })
}

/// Whether the protocol is tunnelled in this form. Any other, `h2c` above all, is no way to talk to an API server.
pub(crate) fn is_tunnelled(wish: &Upgrade) -> bool {
    match wish.form {
        UpgradeForm::Http1 => matches!(wish.protocol.as_str(), WEBSOCKET | SPDY),
        UpgradeForm::ExtendedConnect => wish.protocol == WEBSOCKET,
    }
}

/// Methods with which Kubernetes' clients ask for an upgrade.
pub(crate) fn is_upgrade_method(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::POST)
}

/// Whether a browser on another site opens it: then its `Origin` is not the host that it asked.
pub(crate) fn foreign_origin<'a>(headers: &'a HeaderMap, host: Option<&str>) -> Option<&'a str> {
    let origin = headers.get(ORIGIN)?;
    let Ok(origin) = origin.to_str() else { return Some("not ASCII") };
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    if host.is_some_and(|host| host.eq_ignore_ascii_case(authority)) { None } else { Some(origin) }
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
    headers.insert(HOST, cluster.upstream.target().host_header().clone());
    let key = match wish.form {
        UpgradeForm::Http1 => None,
        UpgradeForm::ExtendedConnect => Some(WebSocketKey::generate()?),
    };
    if let Some(key) = &key {
        key.stamp(&mut headers)?;
    }
    let request = forward::build(pending.method, &pending.target, headers, RequestBody::empty(), cluster)?;

    let io = cluster.upstream.connect_for_upgrade(&identity.credential).await?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(io)).await.map_err(|error| UpstreamError::Unreachable(error.into()))?;
    // Aborted when dropped: a client that leaves before the answer takes the connection with it.
    let mut connection_task = JoinSet::new();
    connection_task.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "upstream connection of an upgrade ended");
        }
    });
    let mut response = match timeout(limits.header_timeout, sender.send_request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) if error.is_parse() => return Err(UpstreamError::Protocol(error.into()).into()),
        Ok(Err(error)) => return Err(UpstreamError::BrokeOff(error.into()).into()),
        Err(elapsed) => return Err(UpstreamError::Silent(elapsed.into()).into()),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let answer = relay(response, &wish, sender, in_flight, limits)?;
        connection_task.detach_all();
        return Ok(answer);
    }
    let settled = response.headers().get(UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !settled.eq_ignore_ascii_case(&wish.protocol) {
        return Err(UpstreamError::Protocol("101 to another protocol than was asked for".into()).into());
    }
    if let Some(key) = &key {
        key.check(response.headers_mut())?;
    }

    let upstream = hyper::upgrade::on(&mut response);
    let answer = switched(response, wish.form);
    connection_task.detach_all();
    tokio::spawn(tie(wish.downstream, upstream, tunnel, in_flight, *limits));
    Ok(answer)
}

/// Passes on an answer that is no 101; it is the last one on both connections.
fn relay(
    response: Response<Incoming>,
    wish: &Upgrade,
    sender: http1::SendRequest<RequestBody>,
    in_flight: InFlight,
    limits: &Limits,
) -> Result<Response<Body>, GateError> {
    forward::check_answer(response.status(), response.headers())?;
    let (mut parts, incoming) = response.into_parts();
    headers::strip_answer(&mut parts.headers);
    match wish.form {
        UpgradeForm::Http1 => forward::close_after(&mut parts.headers),
        // To an extended CONNECT any 2xx says that the tunnel stands (RFC 8441 §5).
        UpgradeForm::ExtendedConnect if parts.status.is_success() => {
            return Err(UpstreamError::Protocol("a success that is no 101 to an upgrade".into()).into());
        }
        UpgradeForm::ExtendedConnect => {}
    }
    let body = Forwarded::new(incoming, Lease::single(sender), in_flight).with_idle_limit(limits.body_idle_timeout);
    let mut answer = Response::new(Body::forwarded(body));
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// The API server's 101 in the client's form.
fn switched(response: Response<Incoming>, form: UpgradeForm) -> Response<Body> {
    let (mut parts, _) = response.into_parts();
    let settled = parts.headers.get(UPGRADE).cloned();
    headers::strip_answer(&mut parts.headers);
    parts.headers.remove(CONTENT_LENGTH);
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = form.success();
    *answer.headers_mut() = parts.headers;
    match form {
        UpgradeForm::Http1 => {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            answer.headers_mut().extend(settled.map(|settled| (UPGRADE, settled)));
        }
        UpgradeForm::ExtendedConnect => {}
    }
    answer
}

/// SPDY's name as every Kubernetes client writes it.
fn canonical(protocol: &str) -> &str {
    match protocol {
        SPDY => "SPDY/3.1",
        other => other,
    }
}
