//! Sends one request, and sends it again where that is safe.
//!
//! Safe means: it was never written; or it has no body, its method may be
//! repeated, and the connection that failed was an old one (RFC 9110 §9.2.2, §7.3.2).
//! Promise: dropping the future drops the request and, on HTTP/1.1, its connection.

use std::time::{Duration, Instant};

use http::header::HOST;
use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tracing::debug;

use super::identity::Identity;
use super::pool::Lease;
use super::{Target, UpstreamError};
use crate::body::{Progress, RequestBody};
use crate::limits::Limits;

/// Connections that one request may try: two that had closed meanwhile, and a fresh one.
const ATTEMPTS_MAX: usize = 3;

pub(super) async fn send(
    target: &Target,
    identity: &Identity,
    limits: &Limits,
    request: Request<RequestBody>,
) -> Result<(Response<Incoming>, Lease), UpstreamError> {
    let progress = request.body().progress();
    let mut request = Some(request);
    let mut last = UpstreamError::NotSent;
    for _ in 0..ATTEMPTS_MAX {
        let Some(unsent) = request.take() else { break };
        let mut lease = identity.pool.lease(target, &identity.tls.any_protocol, limits.connect_timeout).await?;
        let again = (lease.reused && may_repeat(&unsent)).then(|| repeat(&unsent));
        let prepared =
            prepare(target, unsent, lease.is_http2()).map_err(|error| UpstreamError::Protocol(error.into()))?;
        match within(limits.header_timeout, &progress, lease.send(prepared)).await? {
            Ok(response) => return Ok((response, lease)),
            Err(mut failed) => {
                let unwritten = failed.take_message();
                debug!(error = %failed.error(), written = unwritten.is_none(), "upstream request failed");
                request = unwritten.or(again);
                last = broke_off(failed.into_error());
            }
        }
    }
    Err(last)
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

fn may_repeat(request: &Request<RequestBody>) -> bool {
    request.body().is_empty() && matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

fn repeat(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Waits for the head of the answer. The limit begins anew with each part of the request's body that was
/// taken: a slow upload is not a silent server.
async fn within<F: Future>(limit: Duration, progress: &Progress, answer: F) -> Result<F::Output, UpstreamError> {
    let mut answer = std::pin::pin!(answer);
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
