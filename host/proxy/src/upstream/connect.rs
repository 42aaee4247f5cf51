//! One connection: TCP, then TLS, within one timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Target, UpstreamError};

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

/// Connects to `target`, with `tls` where it is secure.
pub(crate) async fn connect(
    target: &Target,
    tls: &Arc<ClientConfig>,
    timeout: Duration,
) -> Result<(UpstreamIo, Protocol), UpstreamError> {
    match tokio::time::timeout(timeout, connect_without_limit(target, tls)).await {
        Ok(result) => result,
        Err(elapsed) => Err(UpstreamError::Unreachable(elapsed.into())),
    }
}

async fn connect_without_limit(
    target: &Target,
    tls: &Arc<ClientConfig>,
) -> Result<(UpstreamIo, Protocol), UpstreamError> {
    let unreachable = |error: io::Error| UpstreamError::Unreachable(error.into());
    let tcp = TcpStream::connect((target.host(), target.port())).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(&tcp).set_tcp_keepalive(&keepalive).map_err(unreachable)?;
    let Some(name) = target.server_name() else {
        return Ok((UpstreamIo::Plain(tcp), Protocol::Http1));
    };
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name.clone(), tcp).await.map_err(handshake_error)?;
    let protocol = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Protocol::Http2,
        _ => Protocol::Http1,
    };
    Ok((UpstreamIo::Tls(Box::new(stream)), protocol))
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
