//! An HTTP/2 server of which the test writes each frame: for GOAWAY and RST_STREAM at the moment that matters.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::authority::{Authority, server_tls};
use crate::cluster::Cluster;
use crate::http2_peer::flag::{ACK, END_HEADERS, END_STREAM};
use crate::http2_peer::kind::{DATA, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::waiting::soon;

const REFUSED_STREAM: u32 = 7;

/// A listener for such connections.
pub struct Http2Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: TlsAcceptor,
    authority: String,
}

/// One connection.
pub struct Http2Connection {
    stream: TlsStream<TcpStream>,
}

/// The head of a request, as far as it is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestHead {
    /// Its stream.
    pub stream: u32,
    /// `GET`, `POST`, or `other`.
    pub method: &'static str,
}

impl Http2Server {
    /// One on a free port, with a certificate of `authority`.
    pub async fn start(authority: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = TlsAcceptor::from(server_tls(&authority.server(), None, &["h2"]));
        Self { listener, address, tls, authority: authority.pem() }
    }

    /// The cluster whose API server it is.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::at_url(name, &format!("https://{}", self.address), "anonymous").ca_data(&self.authority)
    }

    /// The next connection, its preface exchanged.
    pub async fn accept(&self) -> Http2Connection {
        soon("an HTTP/2 connection", async {
            let (tcp, _) = self.listener.accept().await.unwrap();
            tcp.set_nodelay(true).unwrap();
            let mut stream = self.tls.accept(tcp).await.unwrap();
            let mut preface = [0; 24];
            stream.read_exact(&mut preface).await.unwrap();
            assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
            let mut connection = Http2Connection { stream };
            connection.write(SETTINGS, 0, 0, &[]).await;
            connection
        })
        .await
    }

    /// Whether another connection is waiting to be accepted.
    pub async fn has_another_connection(&self) -> bool {
        // What was asked before this has been answered, so whoever wanted to connect has.
        tokio::time::timeout(std::time::Duration::ZERO, self.listener.accept()).await.is_ok()
    }
}

impl Http2Connection {
    /// The next request's head; whatever else comes is answered or passed over.
    pub async fn next_request(&mut self) -> RequestHead {
        soon("a request", async {
            loop {
                let (kind, flags, stream, payload) = self.read().await;
                match kind {
                    HEADERS => {
                        let method = match payload.first() {
                            Some(0x82) => "GET",
                            Some(0x83) => "POST",
                            _ => "other",
                        };
                        return RequestHead { stream, method };
                    }
                    SETTINGS if flags & ACK == 0 => self.write(SETTINGS, ACK, 0, &[]).await,
                    PING if flags & ACK == 0 => self.write(PING, ACK, 0, &payload).await,
                    _ => {}
                }
            }
        })
        .await
    }

    /// A 200 whose body is still to come.
    pub async fn answer_head(&mut self, stream: u32) {
        self.write(HEADERS, END_HEADERS, stream, &[0x88]).await;
    }

    /// A piece of a body.
    pub async fn data(&mut self, stream: u32, data: &str) {
        self.write(DATA, 0, stream, data.as_bytes()).await;
    }

    /// The last piece of a body.
    pub async fn last_data(&mut self, stream: u32, data: &str) {
        self.write(DATA, END_STREAM, stream, data.as_bytes()).await;
    }

    /// A whole answer.
    pub async fn answer(&mut self, stream: u32, body: &str) {
        self.answer_head(stream).await;
        self.last_data(stream, body).await;
    }

    /// Says that it takes no more requests, and looked at none after `last_stream`.
    pub async fn go_away(&mut self, last_stream: u32) {
        let mut payload = last_stream.to_be_bytes().to_vec();
        payload.extend_from_slice(&0_u32.to_be_bytes());
        self.write(GOAWAY, 0, 0, &payload).await;
    }

    /// Says that it did not look at this request.
    pub async fn refuse(&mut self, stream: u32) {
        self.write(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()).await;
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length.get(1..).unwrap().to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn read(&mut self) -> (u8, u8, u32, Vec<u8>) {
        let mut length = [0; 4];
        self.stream.read_exact(length.get_mut(1..).unwrap()).await.unwrap();
        let kind = self.stream.read_u8().await.unwrap();
        let flags = self.stream.read_u8().await.unwrap();
        let stream = self.stream.read_u32().await.unwrap();
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut payload).await.unwrap();
        (kind, flags, stream, payload)
    }
}
