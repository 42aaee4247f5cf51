//! One connection: TCP, through a proxy where there is one, then TLS, within one timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::breaker::Breaker;
use super::{Proxy, Target, UpstreamError};
use crate::limits::Limits;

/// Makes the connections to one API server, whoever they are for.
#[derive(Debug)]
pub(super) struct Connector {
    target: Target,
    proxy: Option<Proxy>,
    breaker: Breaker,
    timeout: Duration,
}

/// A connection to an API server.
#[derive(Debug)]
pub enum UpstreamIo {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// What ALPN settled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// How often the kernel asks a silent peer whether it is still there. A watch over HTTP/1.1 has no
/// other way to learn that its server is gone.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Connector {
    pub(super) fn new(target: Target, proxy: Option<Proxy>, limits: &Limits) -> Self {
        Self { target, proxy, breaker: Breaker::new(limits), timeout: limits.connect_timeout }
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// How long a connection may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Whether a connection may be made now, which somebody else may be making.
    ///
    /// # Errors
    /// [`UpstreamError::Suspended`] while the API server is taken for dead.
    pub(super) fn check(&self) -> Result<(), UpstreamError> {
        self.breaker.check()
    }

    /// Whether the API server is taken for dead.
    pub(super) fn is_suspended(&self) -> bool {
        self.breaker.is_open()
    }

    /// A new connection, with `tls` where the API server has it; refused at once while it is taken for dead.
    pub(super) async fn connect(&self, tls: &Arc<ClientConfig>) -> Result<(UpstreamIo, Protocol), UpstreamError> {
        let attempt = self.breaker.attempt()?;
        let result = match tokio::time::timeout(self.timeout, self.connect_without_limit(tls)).await {
            Ok(result) => result,
            Err(elapsed) => Err(UpstreamError::Unreachable(elapsed.into())),
        };
        match &result {
            // A server whose certificate is not believed, or who does not believe ours, is there.
            Ok(_) | Err(UpstreamError::Untrusted(_)) => attempt.reached(),
            Err(_) => attempt.failed(),
        }
        result
    }

    async fn connect_without_limit(&self, tls: &Arc<ClientConfig>) -> Result<(UpstreamIo, Protocol), UpstreamError> {
        let unreachable = |error: io::Error| UpstreamError::Unreachable(error.into());
        let address = match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (self.target.host(), self.target.port()),
        };
        let mut tcp = TcpStream::connect(address).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
        if let Some(proxy) = &self.proxy {
            proxy.connect(&mut tcp, &self.target).await.map_err(UpstreamError::Unreachable)?;
        }
        let Some(name) = self.target.server_name() else {
            return Ok((UpstreamIo::Plain(tcp), Protocol::Http1));
        };
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), tcp).await.map_err(handshake_error)?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok((UpstreamIo::Tls(Box::new(stream)), protocol))
    }
}

/// A TLS error is about trust; anything else is about the network.
fn handshake_error(error: io::Error) -> UpstreamError {
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        UpstreamError::Untrusted(error.into())
    } else {
        UpstreamError::Unreachable(error.into())
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
