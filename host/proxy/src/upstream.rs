//! The way to one cluster's API server: identities, connections, and sending one request.
//!
//! Identities never share: bearer and anonymous callers of a cluster share
//! connections, because their identity is in a header; each client certificate has
//! a TLS configuration, a resumption store and a pool of its own.

mod breaker;
mod connect;
mod identity;
mod pool;
mod send;
mod target;
mod tunnel;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Request;
use witgate_core::{BoxError, Credential};

use crate::body::RequestBody;
use crate::counts::ClusterCounts;
use crate::limits::Limits;

use connect::Connector;
pub use connect::UpstreamIo;
use identity::Identities;
pub use identity::UnusableCredential;
pub(crate) use pool::Lease;
pub(crate) use send::{Copy, Sent};
pub use target::{InvalidTarget, Target};
pub use tunnel::{InvalidProxy, Proxy};

/// One cluster's API server, with its connections. They outlive a reload that does not change it.
#[derive(Debug)]
pub struct Upstream {
    connector: Connector,
    /// Replaced whole when other authorities are believed; requests under way keep theirs.
    identities: ArcSwap<Identities>,
    http2: Http2,
    limits: Limits,
    in_flight: Arc<AtomicUsize>,
    counts: ClusterCounts,
}

/// How an API server is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reach {
    /// Where it is.
    pub target: Target,
    /// The HTTP proxy on the way, for `http` and `https` API servers alike.
    pub proxy: Option<Proxy>,
    /// Whether HTTP/2 is offered.
    pub http2: Http2,
    /// Whom its certificate must satisfy.
    pub trust: ServerTrust,
}

/// Whether HTTP/2 is offered to an API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Http2 {
    /// By ALPN, before HTTP/1.1.
    Offered,
    /// HTTP/1.1 alone, as some middleboxes need it.
    Disabled,
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
    /// It could not be reached just now, and is not tried for a while.
    #[error("the cluster's API server could not be reached just now; try again soon")]
    Suspended {
        /// Until it is tried again.
        retry_after: Duration,
    },
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

/// Why an API server cannot be connected to at all: its certificate authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the CA certificates cannot be used: {0}")]
pub struct InvalidTrust(String);

/// One request that a cluster has in flight; counted until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicUsize>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Upstream {
    /// The API server of `reach`. Connects to nothing yet.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used.
    pub fn new(reach: Reach, limits: Limits) -> Result<Self, InvalidTrust> {
        let Reach { target, proxy, http2, trust } = reach;
        let identities = Identities::new(trust, http2, limits).map_err(InvalidTrust)?;
        let connector = Connector::new(target, proxy, &limits);
        Ok(Self {
            connector,
            identities: ArcSwap::from_pointee(identities),
            http2,
            limits,
            in_flight: Arc::default(),
            counts: ClusterCounts::default(),
        })
    }

    /// Where it is.
    pub const fn target(&self) -> &Target {
        self.connector.target()
    }

    /// What its requests come to.
    pub const fn counts(&self) -> &ClusterCounts {
        &self.counts
    }

    /// Requests that it has in flight, streams included.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether it is taken for dead for now: requests are refused but for one at a time that tries.
    pub fn is_suspended(&self) -> bool {
        self.connector.is_suspended()
    }

    /// Believes `trust` from the next request on. Connections that were made before carry no new one: those at rest
    /// close, those in use finish.
    ///
    /// # Errors
    /// When the certificate authorities cannot be used; nothing has changed then.
    pub fn believe(&self, trust: ServerTrust) -> Result<(), InvalidTrust> {
        let identities = Identities::new(trust, self.http2, self.limits).map_err(InvalidTrust)?;
        self.identities.store(Arc::new(identities));
        Ok(())
    }

    /// Takes one of the cluster's places; none when all are taken.
    pub fn enter(&self) -> Option<InFlight> {
        let place = InFlight(Arc::clone(&self.in_flight));
        let taken = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (taken < self.limits.in_flight_max).then_some(place)
    }

    /// Whether `credential` is a client certificate that does not go with its key.
    pub(crate) fn is_mismatched(&self, credential: &Credential) -> bool {
        matches!(self.identity(credential), Err(UnusableCredential::ClientCertificate(_)))
    }

    /// Sends a request whose headers are final, as the identity of `credential`.
    ///
    /// A request that was never written is sent again on another connection; one that may have
    /// been written only where it has no body and a method that may be repeated.
    pub(crate) async fn send(
        &self,
        credential: &Credential,
        request: Request<RequestBody>,
        copied: Copy,
    ) -> Result<Sent, SendError> {
        let identity = self.identity(credential)?;
        Ok(send::send(&self.connector, &identity, &self.limits, request, copied).await?)
    }

    /// A fresh HTTP/1.1 connection that is never pooled, for an upgrade.
    pub(crate) async fn connect_for_upgrade(&self, credential: &Credential) -> Result<UpstreamIo, SendError> {
        let identity = self.identity(credential)?;
        let (io, _) = self.connector.connect(&identity.tls.http1_only).await?;
        Ok(io)
    }

    fn identity(&self, credential: &Credential) -> Result<Arc<identity::Identity>, UnusableCredential> {
        match credential {
            Credential::X509ClientCertificate(_) if !self.target().is_secure() => Err(UnusableCredential::NotSecure),
            _ => self.identities.load().of(credential),
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
