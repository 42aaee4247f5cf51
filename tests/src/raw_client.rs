//! A caller that writes its own bytes: for requests that no HTTP library would send.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::secrets;
use crate::waiting::soon;

/// A byte stream, of TCP or of TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A TCP connection to the gate, or one with TLS.
pub struct RawClient {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// What came back on a raw connection, with its head apart.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status of the first answer; None where the server closed without one.
    pub status: Option<u16>,
    /// All bytes, as text.
    pub text: String,
}

impl RawClient {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: Box::new(TcpStream::connect(address).await.unwrap()), received: Vec::new() }
    }

    /// Connects with TLS.
    pub async fn connect_tls(address: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls).connect(address.ip().into(), stream).await.unwrap();
        Self { stream: Box::new(stream), received: Vec::new() }
    }

    /// Writes `bytes` as they are. The server may have closed already; then the answer says why.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed_early = self.stream.write_all(bytes.as_ref()).await;
        let _closed_early = self.stream.flush().await;
    }

    /// Says that nothing more will be written.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads until the server closes: the connection must end.
    pub async fn read_to_close(mut self) -> RawAnswer {
        soon("the server closes the connection", async {
            // A reset ends the reading too; what came before it counts.
            let _reset = self.stream.read_to_end(&mut self.received).await;
        })
        .await;
        RawAnswer::of(&self.received)
    }

    /// Reads until `end` has been seen.
    pub async fn read_until(&mut self, end: &str) -> RawAnswer {
        soon(&format!("`{end}` on the raw connection"), async {
            while !contains(&self.received, end.as_bytes()) {
                let read_count = self.stream.read_buf(&mut self.received).await.unwrap();
                assert_ne!(read_count, 0, "closed after {:?}", String::from_utf8_lossy(&self.received));
            }
        })
        .await;
        RawAnswer::of(&self.received)
    }
}

impl RawAnswer {
    fn of(received: &[u8]) -> Self {
        let text = String::from_utf8_lossy(received).into_owned();
        secrets::assert_none_in("a raw answer", &text);
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        Self { status, text }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
