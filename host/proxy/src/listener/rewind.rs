//! Tells HTTP/2 from HTTP/1.1 on a connection without TLS, by HTTP/2's preface (RFC 9113 §3.4).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes have been looked at; they are read again.
#[derive(Debug)]
pub(super) struct Rewound<I> {
    seen: [u8; PREFACE.len()],
    seen_length: usize,
    read_again: usize,
    io: I,
}

/// Reads as little as is needed to know whether the client speaks HTTP/2.
pub(super) async fn sniff<I: AsyncRead + Unpin>(mut io: I) -> io::Result<(bool, Rewound<I>)> {
    let mut seen = [0; PREFACE.len()];
    let mut seen_length = 0;
    while seen_length < PREFACE.len() {
        let room = seen.get_mut(seen_length..).unwrap_or_default();
        let length = io.read(room).await?;
        seen_length += length;
        let is_preface_so_far = seen.get(..seen_length) == PREFACE.get(..seen_length);
        if length == 0 || !is_preface_so_far {
            break;
        }
    }
    let is_http2 = seen.get(..seen_length) == Some(PREFACE);
    Ok((is_http2, Rewound { seen, seen_length, read_again: 0, io }))
}

impl<I: AsyncRead + Unpin> AsyncRead for Rewound<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.seen.get(this.read_again..this.seen_length).unwrap_or_default();
        if left.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let (now, _) = left.split_at(left.len().min(buf.remaining()));
        buf.put_slice(now);
        this.read_again += now.len();
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Rewound<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: HTTP/2 is told by its whole preface, and no byte is lost. Method: what a client sends, in one row.
    #[tokio::test]
    async fn a_preface_is_told_from_a_request() {
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n....", true).await;
        check(b"GET / HTTP/1.1\r\n\r\n", false).await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", false).await;
        check(b"P", false).await;
        check(b"", false).await;
    }

    async fn check(sent: &[u8], expected: bool) {
        let (is_http2, mut rewound) = sniff(sent).await.unwrap();
        assert_eq!(is_http2, expected);
        let mut read = Vec::new();
        rewound.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, sent);
    }
}
