//! One exchange: judged, resolved, connected, sent, and answered within its limits.
//!
//! A connection serves one exchange; nothing is shared between calls, plug-ins or clusters. Nothing is followed
//! (a redirect is an answer like any other), and no proxy of the environment is asked.
//!
//! Cancel safety: dropping the exchange, its answer or what drives it closes the connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HeaderValue};
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};
use witgate_core::ClusterDetails;

use super::allow_list::{Destination, Host, Origin, OutboundHost, Scheme};
use super::authorities::{Authorities, certificates};
use super::body::{RequestBody, ResponseBody};
use super::failure::{Failure, Report};
use super::limits::HttpLimits;
use super::resolve::{AddressRule, Resolve, SystemResolver, addresses};
use super::trust;

/// Where one plug-in may go, and what its exchanges share.
pub(crate) struct Outbound {
    hosts: Vec<GrantedHost>,
    /// Whether the API server of the cluster at hand is one more.
    cluster: bool,
    limits: HttpLimits,
    permits: Arc<Semaphore>,
    resolver: Box<dyn Resolve>,
}

struct GrantedHost {
    origin: Origin,
    addresses: AddressRule,
    trust: Trust,
}

/// Whom a granted server must satisfy.
enum Trust {
    System(Arc<ClientConfig>),
    Authorities(Arc<Authorities>),
}

/// The API server of the cluster at hand.
#[derive(Debug)]
pub(crate) struct ClusterServer {
    origin: Origin,
    ca_data: Option<String>,
    skip_tls_verify: bool,
}

/// Where a request goes, and how.
struct Route {
    addresses: AddressRule,
    trust: Arc<ClientConfig>,
}

/// What drives a connection while its answer is read.
pub(crate) type Driver = AbortOnDropJoinHandle<()>;

impl Outbound {
    /// May block: reads the system's authorities the first time.
    pub(crate) fn new(hosts: Vec<OutboundHost>) -> Self {
        Self::with(hosts, HttpLimits::default(), Box::new(SystemResolver))
    }

    pub(crate) fn with(hosts: Vec<OutboundHost>, limits: HttpLimits, resolver: Box<dyn Resolve>) -> Self {
        let cluster = hosts.iter().any(OutboundHost::is_cluster);
        let granted = |OutboundHost { destination, addresses, authorities }| match destination {
            Destination::Cluster => None,
            Destination::Origin(origin) => Some(GrantedHost {
                origin,
                addresses: AddressRule::PublicOr(addresses),
                trust: authorities.map_or_else(|| Trust::System(trust::system()), Trust::Authorities),
            }),
        };
        let permits = Arc::new(Semaphore::new(limits.exchanges_max));
        Self { hosts: hosts.into_iter().filter_map(granted).collect(), cluster, limits, permits, resolver }
    }

    /// The server of `cluster`, where the plug-in may go there. One whose URL is odd is no place to go.
    pub(crate) fn cluster_server(&self, cluster: &ClusterDetails) -> Option<ClusterServer> {
        let ClusterDetails { server, ca_data, skip_tls_verify, .. } = cluster;
        let origin = self.cluster.then(|| Origin::of_url(server).ok()).flatten()?;
        Some(ClusterServer { origin, ca_data: ca_data.clone(), skip_tls_verify: *skip_tls_verify })
    }

    /// Sends `request` where it is granted.
    pub(crate) async fn exchange(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
        cluster: Option<&ClusterServer>,
        report: impl FnOnce(Option<&Origin>) -> Report,
    ) -> Result<(Response<WasiBody>, Driver), Error> {
        let origin = Origin::of(request.uri());
        let report = report(origin.as_ref().ok());
        let exchanged = match &origin {
            Ok(origin) => self.exchange_with(origin, request, options, cluster, &report).await,
            Err(_) => Err(Failure::denied("its host can be read in more than one way, or names a user")),
        };
        exchanged.map_err(|failure| {
            report.failed(&failure);
            failure.code
        })
    }

    async fn exchange_with(
        &self,
        origin: &Origin,
        request: Request<WasiBody>,
        options: RequestOptions,
        cluster: Option<&ClusterServer>,
        report: &Report,
    ) -> Result<(Response<WasiBody>, Driver), Failure> {
        let Route { addresses: rule, trust } = self.route(origin, cluster)?;
        let request = self.checked(request)?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_full| {
            let reason = format!("the plug-in already has {} exchanges under way", self.limits.exchanges_max);
            Failure::new(Error::ConnectionLimitReached, reason)
        })?;

        let connect_timeout = within(options.connect_timeout, self.limits.connect_timeout);
        let connect_until = Instant::now() + connect_timeout;
        let resolving = addresses(self.resolver.as_ref(), &origin.host, origin.port, &rule);
        let addresses = timeout_at(connect_until, resolving).await.map_err(|_elapsed| {
            Failure::new(Error::DnsTimeout, format!("its name was not resolved within {connect_timeout:?}"))
        })?;
        let addresses = addresses.map_err(|error| Failure::of_resolving(&error))?;
        let connecting = timeout_at(connect_until, connect(origin, &addresses, trust));
        let stream = connecting.await.map_err(|_elapsed| {
            Failure::new(Error::ConnectionTimeout, format!("not connected within {connect_timeout:?}"))
        })??;

        let first_byte_timeout = within(options.first_byte_timeout, self.limits.first_byte_timeout);
        let first_byte_until = Instant::now() + first_byte_timeout;
        let answered = timeout_at(first_byte_until, self.answer(stream, request)).await.map_err(|_elapsed| {
            Failure::new(Error::HttpResponseTimeout, format!("no answer within {first_byte_timeout:?}"))
        })?;
        let (response, driver) = answered?;
        let bytes_max = self.limits.response_body_bytes_max;
        if declared_length(response.headers().get(CONTENT_LENGTH)).is_some_and(|bytes| bytes > bytes_max) {
            return Err(Failure::response_body_size(bytes_max));
        }
        let pause = within(options.between_bytes_timeout, self.limits.between_bytes_timeout);
        let body = |body| ResponseBody::new(body, bytes_max, pause, report.clone(), permit).boxed_unsync();
        Ok((response.map(body), driver))
    }

    /// Whether and how `origin` may be reached. The cluster at hand comes first: its own authorities are asked for it.
    fn route(&self, origin: &Origin, cluster: Option<&ClusterServer>) -> Result<Route, Failure> {
        if let Some(server) = cluster.filter(|server| server.origin == *origin) {
            return Ok(Route { addresses: AddressRule::Any, trust: server.trust()? });
        }
        match self.hosts.iter().find(|host| host.origin == *origin) {
            Some(host) => Ok(Route { addresses: host.addresses.clone(), trust: host.trust.config() }),
            None => Err(Failure::denied("its sidecar's `outboundHosts` do not grant it")),
        }
    }

    /// The request as it is sent: in origin form, with a body that is counted.
    fn checked(&self, request: Request<WasiBody>) -> Result<Request<RequestBody>, Failure> {
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            let reason = format!("the method {} is never sent", request.method());
            return Err(Failure::new(Error::HttpRequestMethodInvalid, reason));
        }
        let bytes_max = self.limits.request_body_bytes_max;
        if declared_length(request.headers().get(CONTENT_LENGTH)).is_some_and(|bytes| bytes > bytes_max) {
            let reason = format!("the request's body is larger than {bytes_max} bytes");
            return Err(Failure::new(Error::HttpRequestBodySize(Some(bytes_max)), reason));
        }
        let (mut head, body) = request.into_parts();
        head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        head.version = http::Version::HTTP_11;
        Ok(Request::from_parts(head, RequestBody::new(body, bytes_max)))
    }

    async fn answer(
        &self,
        stream: Box<dyn Stream>,
        request: Request<RequestBody>,
    ) -> Result<(Response<hyper::body::Incoming>, Driver), Failure> {
        let head_bytes_max = self.limits.response_head_bytes_max;
        let failed = |error: hyper::Error| Failure::of_head(&error, head_bytes_max);
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(head_bytes_max)
            .max_headers(self.limits.response_headers_max)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // How the connection ends, the answer and its body say too.
        let driver = wasmtime_wasi::runtime::spawn(async move { drop(connection.await) });
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok((response, driver))
    }
}

impl Trust {
    fn config(&self) -> Arc<ClientConfig> {
        match self {
            Self::System(config) => Arc::clone(config),
            Self::Authorities(authorities) => authorities.config(),
        }
    }
}

impl ClusterServer {
    /// As the gate's own connections to that cluster.
    fn trust(&self) -> Result<Arc<ClientConfig>, Failure> {
        match (&self.ca_data, self.skip_tls_verify) {
            (_, true) => Ok(trust::anyone()),
            (Some(pem), false) => {
                let certificates = certificates(pem).map_err(|error| {
                    Failure::new(Error::TlsCertificateError, format!("the cluster's `caData` is unusable: {error}"))
                })?;
                Ok(trust::authorities(&certificates))
            }
            (None, false) => Ok(trust::system()),
        }
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the first address that takes it.
async fn connect(
    origin: &Origin,
    addresses: &[SocketAddr],
    trust: Arc<ClientConfig>,
) -> Result<Box<dyn Stream>, Failure> {
    let tcp = TcpStream::connect(addresses).await.map_err(|error| Failure::of_connecting(&error))?;
    // Latency alone; what cannot be set is not worth a failure.
    drop(tcp.set_nodelay(true));
    match origin.scheme {
        Scheme::Http => Ok(Box::new(tcp)),
        Scheme::Https => {
            let name = match &origin.host {
                Host::Address(address) => ServerName::IpAddress((*address).into()),
                Host::Name(name) => ServerName::try_from(name.to_string())
                    .map_err(|_| Failure::new(Error::TlsCertificateError, "its name can stand in no certificate"))?,
            };
            let tls = TlsConnector::from(trust).connect(name, tcp).await;
            Ok(Box::new(tls.map_err(|error| Failure::of_handshake(&error))?))
        }
    }
}

/// A guest may ask for less than our own limit.
fn within(asked: Option<Duration>, max: Duration) -> Duration {
    asked.map_or(max, |asked| asked.min(max))
}

fn declared_length(value: Option<&HeaderValue>) -> Option<u64> {
    value?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
