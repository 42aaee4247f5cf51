//! Sends one request, and sends it again where that is safe.
//!
//! Safe means: it was never written; or the server says that it did not look at it (GOAWAY,
//! REFUSED_STREAM) and it has no body; or it has no body, its method may be repeated, and the connection
//! that failed was an old one (RFC 9110 §9.2.2, RFC 9113 §8.7). One that the server did not look at, and whose
//! body is gone, is the client's to send again: 429.
//! Promise: dropping the future drops the request and, on HTTP/1.1, its connection.

use std::error::Error as _;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use http::header::HOST;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tracing::debug;

use super::connect::Connector;
use super::identity::Identity;
use super::pool::{Freshness, Lease};
use super::{Target, UpstreamError};
use crate::body::{Progress, RequestBody};
use crate::limits::Limits;

/// An answer, the connection that it comes on, and the request once more where it may be wanted.
pub(crate) struct Sent {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
    /// As it was given; none where it has a body, or nobody asked for it.
    pub(crate) copy: Option<Request<RequestBody>>,
}

/// Whether the sender wants its request back, to send it as somebody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Copy {
    Wanted,
    NotWanted,
}

/// Connections that one request may try: two that had closed meanwhile, and a fresh one.
const ATTEMPTS_MAX: usize = 3;

pub(super) async fn send(
    connector: &Connector,
    identity: &Identity,
    limits: &Limits,
    request: Request<RequestBody>,
    copied: Copy,
) -> Result<Sent, UpstreamError> {
    let progress = request.body().progress();
    let mut request = Some(request);
    let mut last = UpstreamError::NotSent;
    for attempt in 1..=ATTEMPTS_MAX {
        let Some(unsent) = request.take() else { break };
        let freshness = if attempt == ATTEMPTS_MAX { Freshness::New } else { Freshness::Any };
        let mut lease = identity.pool().lease(connector, &identity.tls.any_protocol, freshness).await?;
        let useful = copied == Copy::Wanted || lease.reused || lease.is_http2();
        let copy = (unsent.body().is_empty() && useful).then(|| copy_of(&unsent));
        let may_repeat = lease.reused && is_repeatable(unsent.method());
        let prepared = prepare(connector.target(), unsent, lease.is_http2())
            .map_err(|error| UpstreamError::Protocol(error.into()))?;
        let answered = {
            let answer = pin!(lease.send(prepared));
            within(limits.header_timeout, &progress, answer).await?
        };
        match answered {
            Ok(response) => return Ok(Sent { response, lease, copy }),
            Err(mut failed) => {
                let unwritten = failed.take_message();
                let unprocessed = is_unprocessed(failed.error());
                debug!(error = %failed.error(), written = unwritten.is_none(), unprocessed, "upstream request failed");
                if unprocessed {
                    lease.retire();
                }
                last = if unprocessed { UpstreamError::NotSent } else { broke_off(failed.into_error()) };
                request = unwritten.or_else(|| copy.filter(|_| unprocessed || may_repeat));
            }
        }
    }
    Err(last)
}

/// Whether the server says that it did not look at the request: its stream is beyond the last one of a GOAWAY, or
/// was refused. The library gives streams up to that last one no such error, whatever becomes of them.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) else { return false };
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

/// Puts the request into the form of its connection's protocol. A request that was in the other form before is taken back first.
fn prepare(
    target: &Target,
    mut request: Request<RequestBody>,
    http2: bool,
) -> Result<Request<RequestBody>, http::Error> {
    let path_and_query = http::Uri::from(
        request.uri().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/")),
    );
    if http2 {
        *request.uri_mut() = target.absolute_form(path_and_query)?;
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(HOST);
    } else {
        *request.uri_mut() = path_and_query;
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(HOST, target.host_header().clone());
    }
    Ok(request)
}

const fn is_repeatable(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// A request without a body once more.
fn copy_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Waits for the head of the answer. The limit begins anew with each part of the request's body that was
/// taken: a slow upload is not a silent server.
async fn within<F: Future>(
    limit: Duration,
    progress: &Progress,
    mut answer: Pin<&mut F>,
) -> Result<F::Output, UpstreamError> {
    let mut since = Instant::now();
    loop {
        let remaining = limit.saturating_sub(since.elapsed());
        match tokio::time::timeout(remaining, answer.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(elapsed) => match progress.last() {
                Some(last) if last > since => since = last,
                _ => return Err(UpstreamError::Silent(elapsed.into())),
            },
        }
    }
}

fn broke_off(error: hyper::Error) -> UpstreamError {
    if error.is_parse() { UpstreamError::Protocol(error.into()) } else { UpstreamError::BrokeOff(error.into()) }
}
