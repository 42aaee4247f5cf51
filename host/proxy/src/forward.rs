//! Sends an authorized request up, and brings the answer down.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use witgate_core::{BoxFuture, Credential, Impersonation, RequestTarget};

use crate::authorize::Authorized;
use crate::body::{Body, Forwarded, OnClose, RequestBody};
use crate::headers::{self, Authorization};
use crate::limits::Limits;
use crate::renewal::Renewal;
use crate::respond::GateError;
use crate::snapshot::Cluster;
use crate::trail::Trail;
use crate::upstream::{Copy, InFlight, Sent, Target, UpstreamError};

/// A client's request to a cluster, as it was judged.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) method: Method,
    pub(crate) target: RequestTarget,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) upgrade: Option<Upgrade>,
}

/// The wish to speak another protocol on this connection.
#[derive(Debug)]
pub(crate) struct Upgrade {
    /// In lower case: `websocket` or `spdy/3.1`.
    pub(crate) protocol: String,
    pub(crate) form: UpgradeForm,
    /// The client's connection, or its stream, once it was told of success.
    pub(crate) downstream: OnUpgrade,
}

/// How a client asks for an upgrade, and learns of success.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UpgradeForm {
    /// HTTP/1.1's `Connection: Upgrade`.
    Http1,
    /// HTTP/2's CONNECT with a `:protocol` (RFC 8441).
    ExtendedConnect,
}

impl UpgradeForm {
    /// The status that says that the tunnel stands.
    pub(crate) const fn success(self) -> StatusCode {
        match self {
            Self::Http1 => StatusCode::SWITCHING_PROTOCOLS,
            Self::ExtendedConnect => StatusCode::OK,
        }
    }
}

/// As whom a request goes up.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Decides which connections are used.
    pub(crate) credential: Credential,
    /// What the client brought to be sent instead of the credential.
    pub(crate) verbatim: Option<HeaderValue>,
    pub(crate) impersonate: Option<Impersonation>,
}

/// What a long-running answer needs to end well.
pub(crate) struct Stream {
    /// Ends it when the gate goes down.
    pub(crate) drained: BoxFuture<'static, ()>,
    /// Hears how it ended.
    pub(crate) on_close: OnClose,
}

/// Sends `authorized` to `cluster` and returns the answer with its body still to come. Where there is a `renewal`, a request
/// without a body that is answered with 401 goes up a second time, and no third, as whom the renewal says.
/// Cancel safe: dropping the future drops the request upstream.
pub(crate) async fn forward(
    authorized: Authorized<Pending>,
    cluster: &Arc<Cluster>,
    identity: &Identity,
    renewal: Option<(Renewal<'_>, &mut Trail)>,
    in_flight: InFlight,
    stream: Option<Stream>,
    limits: &Limits,
) -> Result<Response<Body>, GateError> {
    let Pending { method, target, headers, body, upgrade: _ } = authorized.into_inner();
    let body = RequestBody::new(body);
    let asks_for_head = method == Method::HEAD;
    let headers = identify(headers, identity)?;
    let request = build(method, &target, headers, body, cluster)?;
    let copied = if renewal.is_some() { Copy::Wanted } else { Copy::NotWanted };
    let mut sent = cluster.upstream.send(&identity.credential, request, copied).await?;
    if sent.response.status() == StatusCode::UNAUTHORIZED
        && let Some((renewal, trail)) = renewal
        && let Some(request) = sent.copy.take()
        && let Some(again) = Box::pin(send_again(request, cluster, identity, renewal, trail)).await?
    {
        sent = again;
    }
    let Sent { response, lease, copy: _ } = sent;
    let (mut parts, incoming) = response.into_parts();
    check_answer(parts.status, &parts.headers)?;
    headers::strip_answer(&mut parts.headers);
    let forwarded = Forwarded::new(incoming, lease, in_flight);
    let body = match stream {
        Some(stream) => forwarded.into_stream(stream.drained, stream.on_close),
        None => forwarded.with_idle_limit(limits.body_idle_timeout),
    };
    // Dropping a body that is over gives its connection back at once.
    let body = if asks_for_head || body.is_over() { Body::empty() } else { Body::forwarded(body) };
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = parts.headers;
    Ok(answer)
}

/// Sends a request that went up as `identity` as whom the renewal says; none where that is nobody else.
async fn send_again(
    mut request: Request<RequestBody>,
    cluster: &Cluster,
    identity: &Identity,
    renewal: Renewal<'_>,
    trail: &mut Trail,
) -> Result<Option<Sent>, GateError> {
    let Some(identity) = renewal.instead_of(identity, trail).await else { return Ok(None) };
    let headers = std::mem::take(request.headers_mut());
    *request.headers_mut() = identify(headers, &identity)?;
    Ok(Some(cluster.upstream.send(&identity.credential, request, Copy::NotWanted).await?))
}

/// Strips what ends at the gate, stamps the identity, and looks once more.
pub(crate) fn identify(mut headers: HeaderMap, identity: &Identity) -> Result<HeaderMap, GateError> {
    headers::strip_request(&mut headers);
    let authorization = match &identity.verbatim {
        Some(value) => Authorization::Verbatim(value),
        None => Authorization::Credential(&identity.credential),
    };
    headers::stamp_request(&mut headers, authorization, identity.impersonate.as_ref())
        .map_err(GateError::UnusableCredential)?;
    let authorized = match (&identity.verbatim, &identity.credential) {
        (Some(_), _) | (None, Credential::BearerToken(_)) => true,
        (None, Credential::X509ClientCertificate(_) | Credential::Anonymous) => false,
    };
    headers::tripwire(&headers, authorized, identity.impersonate.is_some()).map_err(GateError::Tripwire)?;
    Ok(headers)
}

/// The request as it goes up: the very bytes of the target that was judged, behind the cluster's prefix.
pub(crate) fn build(
    method: Method,
    target: &RequestTarget,
    headers: HeaderMap,
    body: RequestBody,
    cluster: &Cluster,
) -> Result<Request<RequestBody>, GateError> {
    build_for(method, target, headers, body, cluster.upstream.target())
}

/// The same for an API server of which nothing but the URL is known.
pub(crate) fn build_for(
    method: Method,
    target: &RequestTarget,
    headers: HeaderMap,
    body: RequestBody,
    api_server: &Target,
) -> Result<Request<RequestBody>, GateError> {
    let uri = api_server
        .origin_form(target.as_str())
        .map_err(|error| GateError::BadRequest(format!("the path cannot be forwarded: {error}")))?;
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// An API server does not redirect, and does not switch protocols unasked.
pub(crate) fn check_answer(status: StatusCode, headers: &HeaderMap) -> Result<(), GateError> {
    if status.is_redirection() && (headers.contains_key(LOCATION) || status != StatusCode::NOT_MODIFIED) {
        return Err(UpstreamError::Redirected(status).into());
    }
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Protocol("101 without an upgrade".into()).into());
    }
    Ok(())
}

/// The bytes that an answer announces.
pub(crate) fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Marks an answer as the last one on its connection.
pub(crate) fn close_after(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}
