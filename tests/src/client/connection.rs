//! One connection of a client, of either protocol.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{HeaderValue, Response, Uri, header, uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::body::Body;

type Answering = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

/// An open connection.
pub(super) struct Connection {
    authority: String,
    sender: Sender,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Connects, and speaks what TLS agrees on, or HTTP/1.1.
    pub(super) async fn open(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).unwrap();
        let sender = match tls {
            None => Sender::Http1(http1_on(stream).await),
            Some(config) => {
                let connector = tokio_rustls::TlsConnector::from(config);
                let name = address.ip().into();
                let stream = connector.connect(name, stream).await.unwrap();
                if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    Sender::Http2(http2_on(stream).await)
                } else {
                    Sender::Http1(http1_on(stream).await)
                }
            }
        };
        Self { authority: address.to_string(), sender }
    }

    /// Whether it can take one more request.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::Http2(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request whose URI is a path; its authority is the server's address, unless it has a `host`.
    pub(super) fn send(&mut self, mut request: http::Request<Body>) -> Answering {
        match &mut self.sender {
            Sender::Http1(sender) => {
                let host = HeaderValue::from_str(&self.authority).expect("an address is a header value");
                request.headers_mut().entry(header::HOST).or_insert(host);
                Box::pin(sender.send_request(request))
            }
            Sender::Http2(sender) => {
                let mut parts = uri::Parts::from(std::mem::take(request.uri_mut()));
                parts.scheme = Some(uri::Scheme::HTTPS);
                parts.authority = Some(self.authority.parse().expect("an address is an authority"));
                *request.uri_mut() = Uri::from_parts(parts).expect("a path with an authority is a URI");
                Box::pin(sender.send_request(request))
            }
        }
    }
}

async fn http1_on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> http1::SendRequest<Body> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    // Its end, however it comes, is seen by whoever waits for an answer.
    tokio::spawn(connection);
    sender
}

async fn http2_on(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> http2::SendRequest<Body> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}
