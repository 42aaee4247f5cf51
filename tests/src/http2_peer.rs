//! A caller that writes HTTP/2 frames by hand: for what no HTTP/2 library would send.
//!
//! Header blocks are literals without a table and without Huffman codes. It acknowledges settings and PINGs while it
//! reads, and nothing else happens that the test does not write.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::raw_client::Stream;
use crate::waiting::soon;

/// Frame types (RFC 9113 §6).
#[expect(missing_docs, reason = "the RFC's own names")]
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Flags: `ACK` stands for SETTINGS and PING, `END_STREAM` for DATA and HEADERS.
#[expect(missing_docs, reason = "the RFC's own names")]
pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What one read of a peer may bring, far more than a frame.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// One connection.
pub struct Http2Peer {
    io: Box<dyn Stream>,
    received: Vec<u8>,
    token: String,
}

/// A frame that the server sent.
#[derive(Clone, Debug)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// Those of [`flag`].
    pub flags: u8,
    /// 0 for the connection.
    pub stream: u32,
    /// What follows the head.
    pub payload: Vec<u8>,
}

/// How the server took a stream or the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// An answer with this status.
    Status(u16),
    /// RST_STREAM with this code.
    Reset(u32),
    /// GOAWAY with this code; 0 is a graceful one.
    Goaway(u32),
    /// The connection was closed.
    Closed,
}

impl Http2Peer {
    /// Connects without TLS, knowing that the server speaks HTTP/2; writes preface and `settings` (id, value).
    pub async fn connect(address: SocketAddr, token: &str, settings: &[(u16, u32)]) -> Self {
        Self::begin(Box::new(TcpStream::connect(address).await.unwrap()), token, settings).await
    }

    /// Connects with TLS, which must agree on `h2`.
    pub async fn connect_tls(address: SocketAddr, tls: Arc<ClientConfig>, token: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let stream = tokio_rustls::TlsConnector::from(tls).connect(address.ip().into(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::begin(Box::new(stream), token, &[]).await
    }

    async fn begin(io: Box<dyn Stream>, token: &str, settings: &[(u16, u32)]) -> Self {
        let mut peer = Self { io, received: Vec::new(), token: token.to_owned() };
        let mut payload = Vec::new();
        // The server's header blocks without a table, so that a status can be read alone.
        for (id, value) in [(1_u16, 0_u32)].iter().chain(settings) {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        peer.write(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &payload)].concat()).await;
        peer
    }

    /// Writes bytes. The server may have closed already; reading says so.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _closed = self.io.write_all(bytes).await;
        let _closed = self.io.flush().await;
    }

    /// Writes until all is written, the server closes, or it takes nothing for `patience`. Returns the bytes it took.
    pub async fn write_while_taken(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            match tokio::time::timeout(patience, self.io.write(rest)).await {
                Ok(Ok(count @ 1..)) => taken += count,
                Ok(_) | Err(_) => break,
            }
        }
        taken
    }

    /// The fields of a GET of the only cluster, by a good caller.
    pub fn get(&self, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.fields("GET", path)
    }

    /// The fields of a request by a good caller.
    pub fn fields(&self, method: &str, path: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let authorization = format!("Bearer {}", self.token);
        [
            (":method", method),
            (":scheme", "http"),
            (":path", path),
            (":authority", "gate"),
            ("authorization", &authorization),
        ]
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .to_vec()
    }

    /// The next frame; None when the server closed.
    pub async fn read(&mut self) -> Option<Frame> {
        soon("a frame", async {
            loop {
                if let Some(frame) = self.take_frame() {
                    let ack = match (frame.kind, frame.flags & flag::ACK) {
                        (kind::SETTINGS, 0) => Some(self::frame(kind::SETTINGS, flag::ACK, 0, &[])),
                        (kind::PING, 0) => Some(self::frame(kind::PING, flag::ACK, 0, &frame.payload)),
                        _ => None,
                    };
                    if let Some(ack) = ack {
                        self.write(&ack).await;
                    }
                    return Some(frame);
                }
                match self.io.read_buf(&mut self.received).await {
                    Ok(1..) => assert!(self.received.len() <= FRAME_BYTES_MAX),
                    Ok(0) | Err(_) => return None,
                }
            }
        })
        .await
    }

    /// Reads until `stream`, or the connection, has an outcome.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        while let Some(frame) = self.read().await {
            match frame.kind {
                kind::HEADERS if frame.stream == stream => return Outcome::Status(status(&frame.payload)),
                kind::RST_STREAM if frame.stream == stream => return Outcome::Reset(number(&frame.payload, 0)),
                kind::GOAWAY => return Outcome::Goaway(number(&frame.payload, 4)),
                _ => {}
            }
        }
        Outcome::Closed
    }

    /// Reads until the server ends the connection, and how it said so.
    pub async fn end(&mut self) -> Outcome {
        let mut last = Outcome::Closed;
        while let Some(frame) = self.read().await {
            if frame.kind == kind::GOAWAY {
                last = Outcome::Goaway(number(&frame.payload, 4));
                if last != Outcome::Goaway(0) {
                    return last;
                }
            }
        }
        last
    }

    fn take_frame(&mut self) -> Option<Frame> {
        let head: [u8; 9] = self.received.get(..9)?.try_into().ok()?;
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let payload = self.received.get(9..9 + length)?.to_vec();
        self.received.drain(..9 + length);
        Some(Frame { kind, flags, stream: u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]), payload })
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![l0, l1, l2, kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block: each field a literal (RFC 7541 §6.2.2).
pub fn block(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(text.len(), &mut bytes);
            bytes.extend(text);
        }
    }
    bytes
}

/// HEADERS with the whole block, split into CONTINUATIONs where it is larger than a frame.
pub fn headers(stream: u32, flags: u8, fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let block = block(fields);
    let pieces: Vec<_> = block.chunks(16_384).collect();
    let mut bytes = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let end = if index + 1 == pieces.len() { flag::END_HEADERS } else { 0 };
        let (kind, flags) = if index == 0 { (kind::HEADERS, flags) } else { (kind::CONTINUATION, 0) };
        bytes.extend(frame(kind, flags | end, stream, piece));
    }
    bytes
}

fn integer(value: usize, bytes: &mut Vec<u8>) {
    if value < 127 {
        bytes.push(u8::try_from(value).unwrap());
        return;
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// The `:status` at the beginning of a header block without a table.
fn status(block: &[u8]) -> u16 {
    let block: Vec<_> = block.iter().copied().skip_while(|byte| byte & 0xe0 == 0x20).collect();
    match *block.as_slice() {
        [0x88, ..] => 200,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [_, length, a, b, ..] if length & 0x80 != 0 => {
            let code = block.get(4).copied().unwrap_or(0xff);
            let bits = u32::from_be_bytes([a, b, code, 0xff]);
            let (mut at, mut status) = (0, 0);
            for _ in 0..3 {
                let five = (bits >> (27 - at)) & 31;
                let digit = if five < 3 {
                    at += 5;
                    five
                } else {
                    at += 6;
                    ((bits >> (32 - at)) & 63) - 22
                };
                status = status * 10 + digit;
            }
            u16::try_from(status).unwrap()
        }
        [_, 3, a, b, c, ..] => [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')),
        _ => panic!("no status: {block:?}"),
    }
}

fn number(payload: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).expect("a code"))
}
