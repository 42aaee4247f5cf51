//! The fuzz target's way in, and what it must always find true: **what was judged is what is sent**.
//!
//! [`check`] takes any bytes as what a client writes on an HTTP/1.1 connection. They go through
//! the listener's own framing and HTTP library, through the steps of [`gate`](crate::gate) that need no
//! policy and no network (every policy says yes), and up by the HTTP library's client. The bytes that would have
//! reached the API server are then read by other readers than those that made them: see `invariant`.
//!
//! Hidden behind the feature `fuzzing`, which `fuzz/` alone turns on, and built for the crate's own tests, where
//! a property test runs the same check. Nothing of the data plane knows it.

mod invariant;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::join;
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use witgate_core::{ClusterName, Credential, Impersonation, Redacted, RequestAttributes, RequestTarget};

use crate::body::{Body, RequestBody};
use crate::caller;
use crate::drain::Drain;
use crate::exchange::Exchange;
use crate::forward::{self, Identity};
use crate::gate::Peer;
use crate::impersonation;
use crate::limits::Limits;
use crate::listener::framing::Framed;
use crate::respond::GateError;
use crate::route::{self, Route};
use crate::upgrade;
use crate::upstream::Target;

/// The API server of every request; the prefix is one that a path could be confused with.
const API_SERVER: &str = "http://api.example:6443/k8s/clusters/c-1";
const PREFIX: &str = "/k8s/clusters/c-1";
const AUTHORITY: &str = "api.example:6443";
const TOKEN: &str = "the-grant-s-own-token";

/// As whom a request goes up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grant {
    /// A bearer token.
    Bearer,
    /// A bearer token, and an identity that the grant takes on.
    Impersonating,
    /// Nothing at all.
    Anonymous,
    /// A bearer token, and whatever identity the client asks for: the cluster allows it, and so do the policies.
    AsTheClientAsks,
}

/// What became of an accepted head.
struct Accepted {
    attributes: RequestAttributes,
    target: RequestTarget,
    identity: Identity,
}

/// Sends `written` through, and panics if what is sent is not what was judged. Returns whether anything was sent.
///
/// # Panics
/// When the invariant does not hold.
pub fn check(written: &[u8], grant: Grant) -> bool {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let accepted = Arc::new(Mutex::new(None));
    run(written, grant, &sent, &accepted);
    let sent = std::mem::take(&mut *lock(&sent));
    match lock(&accepted).take() {
        None => {
            assert!(sent.is_empty(), "nothing was accepted, and bytes were sent: {:?}", String::from_utf8_lossy(&sent));
            false
        }
        // The body broke before the head was written: nothing went up, which is always right.
        Some(_) if sent.is_empty() => false,
        Some(accepted) => {
            invariant::hold(written, &accepted, &sent);
            true
        }
    }
}

/// How often the connection is asked to go on: enough for a head, and for some of a body behind it.
const POLLS: usize = 8;

fn run(written: &[u8], grant: Grant, sent: &Arc<Mutex<Vec<u8>>>, accepted: &Arc<Mutex<Option<Accepted>>>) {
    let limits = Limits::default();
    let (sent, accepted) = (Arc::clone(sent), Arc::clone(accepted));
    let service = service_fn(move |request: Request<Incoming>| {
        let (sent, accepted) = (Arc::clone(&sent), Arc::clone(&accepted));
        async move {
            if let Ok((request, judged)) = prepare(request, grant) {
                *lock(&accepted) = Some(judged);
                if let Ok((mut sender, connection)) =
                    hyper::client::conn::http1::handshake(TokioIo::new(Upstream(sent))).await
                {
                    let _ = join(connection, sender.send_request(request)).await;
                }
            }
            // One request a run, refused or not: what follows it on the connection would be compared with its line.
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let io = Framed::new(Downstream(Bytes::copy_from_slice(written)), limits.header_bytes_max);
    let mut builder = http1::Builder::new();
    builder.max_headers(limits.header_count_max).max_header_size(limits.header_bytes_max);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..POLLS {
        if connection.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
}

/// The steps of `gate.rs`, in its order, less those that ask somebody.
fn prepare(mut request: Request<Incoming>, grant: Grant) -> Result<(Request<RequestBody>, Accepted), GateError> {
    let upgrade = upgrade::wished(&mut request);
    let (parts, body) = request.into_parts();
    let path_and_query = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
    let route = Route::of(&path_and_query);
    let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), client_certificate: None };
    let drain = Drain::default().watcher();
    let mut exchange = Exchange { parts, body, upgrade, peer: &peer, drain: &drain };

    exchange.check_form()?;
    let _caller = caller::credentials(&mut exchange.parts.headers, None)?;
    let (cluster, rest) = match route {
        Route::Unknown | Route::BackstageClusters => return Err(GateError::UnknownRoute),
        Route::BackstageProxy { rest } => {
            (caller::cluster_header(exchange.headers())?.ok_or(GateError::MissingClusterHeader)?, rest)
        }
        Route::Kubernetes { cluster, rest } => (route::cluster_name(cluster).ok_or(GateError::NoClusters)?, rest),
    };
    let target = RequestTarget::parse(&rest.to_path_and_query())
        .map_err(|ambiguous| GateError::BadRequest(ambiguous.to_string()))?;
    let attributes = exchange.attributes(cluster, &target)?;
    if attributes.info.verb.is_empty() {
        return Err(GateError::NoVerb(attributes.method));
    }
    let client_impersonation = impersonation::requested(exchange.headers())?;
    caller::request_auth(exchange.headers())?;
    let identity = identity(grant, client_impersonation, &attributes.cluster)?;

    let pending = exchange.into_pending(target);
    let api_server = Target::parse(API_SERVER).map_err(|error| GateError::BadRequest(error.to_string()))?;
    let mut headers = forward::identify(pending.headers, &identity)?;
    headers.insert(HOST, api_server.host_header().clone());
    let body = if pending.upgrade.is_some() { RequestBody::empty() } else { RequestBody::new(pending.body) };
    let request = forward::build_for(pending.method, &pending.target, headers, body, &api_server)?;
    Ok((request, Accepted { attributes, target: pending.target, identity }))
}

fn identity(grant: Grant, client: Option<Impersonation>, cluster: &ClusterName) -> Result<Identity, GateError> {
    let bearer = Credential::BearerToken(Redacted::new(TOKEN.to_owned()));
    let impersonate = match (grant, client) {
        (Grant::AsTheClientAsks, client) => client,
        (_, Some(_)) => return Err(GateError::ImpersonationRefused(cluster.clone())),
        (Grant::Impersonating, None) => Some(Impersonation {
            user: "jane".to_owned(),
            uid: Some("7".to_owned()),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("Acme.io/team".to_owned(), vec!["x".to_owned(), "y".to_owned()])].into(),
        }),
        (Grant::Bearer | Grant::Anonymous, None) => None,
    };
    let credential = match grant {
        Grant::Anonymous => Credential::Anonymous,
        Grant::Bearer | Grant::Impersonating | Grant::AsTheClientAsks => bearer,
    };
    Ok(Identity { credential, verbatim: None, impersonate })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that has written all it will, and neither closes nor reads.
struct Downstream(Bytes);

impl AsyncRead for Downstream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.0.is_empty() {
            return Poll::Pending;
        }
        let now = this.0.split_to(this.0.len().min(buf.remaining()));
        buf.put_slice(&now);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An API server that keeps what it gets and never answers.
struct Upstream(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Upstream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Upstream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        lock(&self.0).extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
