//! WebSockets of another make than the gate's: a browser-like client and an echoing server (tungstenite).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::authority::{Authority, HTTP2_AND_HTTP1, server_tls};
use crate::cluster::Cluster;
use crate::waiting::soon;

/// A server that settles on the first subprotocol and echoes messages; it ends with the test's runtime.
pub struct WebSocketServer {
    address: SocketAddr,
    certificate_authority: Option<String>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
}

impl WebSocketServer {
    /// Starts one; with a certificate of `authority`, if given.
    pub async fn start(authority: Option<&Authority>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let kept = Arc::clone(&heads);
        let tls = authority.map(|authority| TlsAcceptor::from(server_tls(&authority.server(), None, &HTTP2_AND_HTTP1)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, heads) = (tls.clone(), Arc::clone(&kept));
                tokio::spawn(async move {
                    match tls {
                        None => echo(stream, heads).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                echo(stream, heads).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, certificate_authority: authority.map(Authority::pem), heads }
    }

    /// It as cluster `one`.
    pub fn cluster(&self, auth_provider: &str) -> Cluster {
        match &self.certificate_authority {
            None => Cluster::at_url("one", &format!("http://{}", self.address), auth_provider),
            Some(pem) => Cluster::at_url("one", &format!("https://{}", self.address), auth_provider).ca_data(pem),
        }
    }

    /// The headers of each handshake.
    pub fn heads(&self) -> Vec<HeaderMap> {
        self.heads.lock().unwrap().clone()
    }
}

async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin, heads: Arc<Mutex<Vec<HeaderMap>>>) {
    #[expect(clippy::result_large_err, reason = "the library's own signature")]
    let settle = |request: &Request, mut response: Response| {
        heads.lock().unwrap().push(request.headers().clone());
        let offered = request.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        if let Some(first) = offered.and_then(|offered| offered.split(',').next()) {
            let first = first.trim().parse().expect("it was a header's value before");
            response.headers_mut().insert("sec-websocket-protocol", first);
        }
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(stream, settle).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            let _gone = socket.send(message).await;
        }
    }
}

/// What a client got.
pub struct WebSocket {
    socket: WebSocketStream<TcpStream>,
    /// The subprotocol that was settled on.
    pub subprotocol: Option<String>,
}

impl WebSocket {
    /// Opens one at `path` of `address` with these headers; else the status of the answer.
    pub async fn open(address: SocketAddr, path: &str, headers: &[(&'static str, String)]) -> Result<Self, u16> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        match soon("the WebSocket opens", client_async(request, stream)).await {
            Ok((socket, response)) => {
                let subprotocol = response.headers().get("sec-websocket-protocol");
                let subprotocol = subprotocol.map(|value| value.to_str().unwrap().to_owned());
                Ok(Self { socket, subprotocol })
            }
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a binary message and waits for its echo.
    pub async fn echo(&mut self, message: &[u8]) {
        self.socket.send(Message::binary(message.to_vec())).await.unwrap();
        let echoed = soon("the echo", self.socket.next()).await.unwrap().unwrap();
        assert_eq!(&echoed.into_data()[..], message);
    }
}
