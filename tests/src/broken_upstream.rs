//! An API server that breaks the protocol, or says nothing at all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What a broken upstream does with each connection, once a request's head has arrived.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Says nothing and keeps the connection.
    Silent,
    /// Writes these bytes and closes the connection in good order.
    WriteThenClose(&'static str),
    /// Writes these bytes and resets the connection.
    WriteThenReset(&'static str),
}

/// A running broken upstream; it ends with the test's runtime.
pub struct BrokenUpstream {
    address: SocketAddr,
    heads_count: Arc<AtomicUsize>,
}

impl BrokenUpstream {
    /// Starts one on a free port.
    pub async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads_count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&heads_count);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(break_on(stream, fault, Arc::clone(&counted)));
            }
        });
        Self { address, heads_count }
    }

    /// A URL at which nobody listens.
    pub async fn refusing_url() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have arrived.
    pub fn heads_count(&self) -> usize {
        self.heads_count.load(Ordering::Relaxed)
    }
}

async fn break_on(mut stream: TcpStream, fault: Fault, heads_count: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads_count.fetch_add(1, Ordering::Relaxed);
    match fault {
        Fault::Silent => {
            // Until the peer gives up.
            while stream.read_u8().await.is_ok() {}
        }
        Fault::WriteThenClose(bytes) => {
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        Fault::WriteThenReset(bytes) => {
            stream.write_all(bytes.as_bytes()).await.unwrap();
            stream.set_zero_linger().unwrap();
        }
    }
}
