//! The way to one cluster's API server: identities, connections, and sending one request.
//!
//! Identities never share: bearer and anonymous callers of a cluster share
//! connections, because their identity is in a header; each client certificate has
//! a TLS configuration, a resumption store and a pool of its own.

mod connect;
mod identity;
mod pool;
mod send;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use witgate_core::{BoxError, Credential};

use crate::body::RequestBody;
use crate::limits::Limits;

pub use connect::UpstreamIo;
use identity::Identities;
pub use identity::UnusableCredential;
pub(crate) use pool::Lease;
pub use target::{InvalidTarget, Target};

/// One cluster's API server, with its connections. They outlive a reload that does not change it.
#[derive(Debug)]
pub struct Upstream {
    target: Target,
    identities: Identities,
    limits: Limits,
    in_flight: Arc<AtomicUsize>,
}

/// Whom the API server's certificate must satisfy.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServerTrust {
    /// PEM certificates of the only authorities that are believed; the system's where absent.
    pub ca_data: Option<String>,
    /// Whether any certificate is taken unseen.
    pub skip_tls_verify: bool,
}

/// Why no answer of the API server reached us. The text is the caller's; the cause is the log's.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// No connection.
    #[error("the cluster's API server cannot be reached")]
    Unreachable(#[source] BoxError),
    /// Its certificate is not trusted, or it does not accept ours.
    #[error("no trusted TLS connection to the cluster's API server")]
    Untrusted(#[source] BoxError),
    /// The connection ended before the head of the answer.
    #[error("the cluster's API server broke off")]
    BrokeOff(#[source] BoxError),
    /// It did not answer in time.
    #[error("the cluster's API server did not answer in time")]
    Silent(#[source] BoxError),
    /// It tried to send us elsewhere (CVE-2020-8559, CVE-2022-3172).
    #[error("the cluster's API server answered with a redirect, which is not followed")]
    Redirected(http::StatusCode),
    /// It answered with something that HTTP does not allow here.
    #[error("the cluster's API server gave an answer that cannot be passed on")]
    Protocol(#[source] BoxError),
    /// It was closing, and the request could not be sent again.
    #[error("the cluster's API server was closing the connection; try again")]
    NotSent,
}

/// Why a cluster cannot be connected to at all; found when its configuration is read.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUpstream {
    /// The URL.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// The certificate authorities.
    #[error("the CA certificates cannot be used: {0}")]
    Authorities(String),
}

/// One request that a cluster has in flight; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// The API server at `server`, believed by `trust`. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL or the certificate authorities cannot be used.
    pub fn new(server: &str, trust: ServerTrust, limits: Limits) -> Result<Self, InvalidUpstream> {
        let target = Target::parse(server)?;
        let identities = Identities::new(trust, limits).map_err(InvalidUpstream::Authorities)?;
        Ok(Self { target, identities, limits, in_flight: Arc::default() })
    }

    /// Where it is.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Takes one of the cluster's places; none when all are taken.
    pub fn enter(&self) -> Option<InFlight> {
        let place = InFlight(Arc::clone(&self.in_flight));
        let taken = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (taken < self.limits.in_flight_max).then_some(place)
    }

    /// Sends a request whose headers are final, as the identity of `credential`.
    ///
    /// A request that was never written is sent again on another connection; one that may have
    /// been written only where it has no body and a method that may be repeated.
    pub(crate) async fn send(
        &self,
        credential: &Credential,
        request: Request<RequestBody>,
    ) -> Result<(Response<Incoming>, Lease), SendError> {
        let identity = self.identity(credential)?;
        Ok(send::send(&self.target, &identity, &self.limits, request).await?)
    }

    /// A fresh HTTP/1.1 connection that is never pooled, for an upgrade.
    pub(crate) async fn connect_for_upgrade(&self, credential: &Credential) -> Result<UpstreamIo, SendError> {
        let identity = self.identity(credential)?;
        let (io, _) = connect::connect(&self.target, &identity.tls.http1_only, self.limits.connect_timeout).await?;
        Ok(io)
    }

    fn identity(&self, credential: &Credential) -> Result<Arc<identity::Identity>, UnusableCredential> {
        match credential {
            Credential::X509ClientCertificate(_) if !self.target.is_secure() => Err(UnusableCredential::NotSecure),
            _ => self.identities.of(credential),
        }
    }
}

/// Why a request was not answered.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The network or the API server.
    Upstream(UpstreamError),
    /// The credential.
    Credential(UnusableCredential),
}

impl From<UpstreamError> for SendError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

impl From<UnusableCredential> for SendError {
    fn from(error: UnusableCredential) -> Self {
        Self::Credential(error)
    }
}

impl From<SendError> for crate::respond::GateError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Upstream(error) => Self::Upstream(error),
            SendError::Credential(error) => Self::UnusableCredential(error),
        }
    }
}
