//! Looks at HTTP/1.1 framing before the HTTP library does, and refuses what two servers could read in two ways.
//!
//! The library repairs some of these shapes (a length beside chunks, the same length
//! twice, lines that end with LF alone). Repairing is a reading too, and whoever
//! stands before us may have read otherwise. So each head is held until it is whole, and one
//! that is not plain is replaced by a request that says so: the gate answers it
//! with 400 like any other, and the connection closes (RFC 9112 §6.1, §11.2).
//!
//! Bodies pass through uncopied where their length is known. Nothing here knows a
//! header beyond those that frame a message. An upgrade ends the watch: the gate closes
//! connections whose upgrade was refused.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use memchr::{memchr, memchr_iter, memmem};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In a request that stands for a refused one: what was wrong. A client that sends it refuses itself.
pub(crate) const REFUSED: &str = "witgate-refused-framing";

/// A client's connection, its framing watched.
#[derive(Debug)]
pub(crate) struct Framed<I> {
    io: I,
    /// What was read and not yet passed on.
    unread: BytesMut,
    /// How much of it may be passed on.
    cleared: usize,
    /// How much of an incomplete head has been looked at.
    scanned: usize,
    part: Part,
    head_bytes_max: usize,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Part {
    Head,
    /// A body, with this much to come.
    Length(u64),
    /// The line with a chunk's size.
    ChunkSize,
    /// A chunk, with this much to come.
    Chunk(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    /// Trailers, a line at a time, to the empty one.
    Trailer,
    /// Whatever comes is not HTTP any more, or the library will refuse it.
    Opaque,
    /// A head was refused; what follows is nobody's request.
    Refused,
}

/// Read at once while framing is looked for.
const READ_BYTES: usize = 4096;
/// 16 hexadecimal digits and a line end; extensions are not taken (RFC 9112 §7.1.1 lets a recipient limit them).
const CHUNK_SIZE_LINE_BYTES_MAX: usize = 18;
const TRAILER_LINE_BYTES_MAX: usize = 8 * 1024;
/// What of a refused client's bytes is read and thrown away, so that it can read its answer.
const REFUSED_BYTES_MAX: usize = 64 * 1024;

impl<I> Framed<I> {
    pub(crate) fn new(io: I, head_bytes_max: usize) -> Self {
        Self { io, unread: BytesMut::new(), cleared: 0, scanned: 0, part: Part::Head, head_bytes_max }
    }

    /// Clears what may be passed on. Clears nothing where more must be read first.
    fn scan(&mut self) -> io::Result<()> {
        while self.cleared == 0 && !self.unread.is_empty() {
            let (cleared, next) = match self.part {
                Part::Head => match self.head() {
                    Some(step) => step,
                    None => return Ok(()),
                },
                Part::Length(left) => counted(left, self.unread.len(), Part::Length, Part::Head),
                Part::Chunk(left) => counted(left, self.unread.len(), Part::Chunk, Part::ChunkEnd),
                Part::ChunkSize => match line(&self.unread, CHUNK_SIZE_LINE_BYTES_MAX)? {
                    Some(size) => {
                        let next = match chunk_size(size)? {
                            0 => Part::Trailer,
                            bytes => Part::Chunk(bytes),
                        };
                        (size.len() + 2, next)
                    }
                    None => return Ok(()),
                },
                Part::ChunkEnd => match line(&self.unread, 2)? {
                    Some(b"") => (2, Part::ChunkSize),
                    Some(_) => return Err(invalid("a chunk is longer than its size")),
                    None => return Ok(()),
                },
                Part::Trailer => match line(&self.unread, TRAILER_LINE_BYTES_MAX)? {
                    Some(b"") => (2, Part::Head),
                    Some(trailer) => (trailer.len() + 2, Part::Trailer),
                    None => return Ok(()),
                },
                Part::Opaque => (self.unread.len(), Part::Opaque),
                Part::Refused => return Ok(()),
            };
            self.cleared = cleared;
            self.part = next;
        }
        Ok(())
    }

    /// A whole head, judged; none where more of it must come.
    fn head(&mut self) -> Option<(usize, Part)> {
        // RFC 9112 §2.2: empty lines before a request are skipped.
        while self.unread.starts_with(b"\r\n") {
            self.unread.advance(2);
            self.scanned = 0;
        }
        let from = self.scanned.saturating_sub(3);
        let end = self
            .unread
            .get(from..)
            .and_then(|fresh| memmem::find(fresh, b"\r\n\r\n"))
            .map(|position| from + position + 4);
        let fresh = self.unread.get(self.scanned.saturating_sub(1)..end.unwrap_or(self.unread.len()));
        let bare = self.unread.starts_with(b"\n") || has_bare_line_feed(fresh.unwrap_or_default());
        self.scanned = self.unread.len();
        let judged = match end {
            _ if bare => Err("a line ends with LF alone"),
            None if self.unread.len() > self.head_bytes_max => Ok(Part::Opaque), // the library answers 431
            None => return None,
            Some(end) => judge(self.unread.get(..end).unwrap_or_default()),
        };
        self.scanned = 0;
        match judged {
            Ok(next) => Some((end.unwrap_or(self.unread.len()), next)),
            Err(why) => {
                let stand_in = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{REFUSED}: {why}\r\n\r\n");
                self.unread.clear();
                self.unread.extend_from_slice(stand_in.as_bytes());
                Some((stand_in.len(), Part::Refused))
            }
        }
    }
}

/// What frames the message behind this head, or why that is not plain.
fn judge(head: &[u8]) -> Result<Part, &'static str> {
    let head = head.strip_suffix(b"\r\n\r\n").unwrap_or(head);
    let mut lines = lines(head);
    let request_line = lines.next().unwrap_or_default();
    if memchr(b'#', request_line).is_some() {
        return Err("the URL has a fragment");
    }
    let mut length = None;
    let mut chunked = false;
    let mut names_upgrade = false;
    let mut asks_upgrade = false;
    for line in lines {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err("a header is folded over two lines");
        }
        if memchr(b'\r', line).is_some() {
            return Err("a line holds CR alone");
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(content_length(value)?).is_some() {
                return Err("Content-Length is given more than once");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is not just `chunked`");
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            names_upgrade = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            asks_upgrade |=
                value.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
    }
    let switches = names_upgrade && asks_upgrade || request_line.starts_with(b"CONNECT ");
    match (length, chunked) {
        (Some(_), true) => Err("both Content-Length and Transfer-Encoding are given"),
        (Some(1..), false) | (None, true) if switches => Err("a request to upgrade has a body"),
        (_, false) if switches => Ok(Part::Opaque),
        (None | Some(0), false) => Ok(Part::Head),
        (Some(bytes), false) => Ok(Part::Length(bytes)),
        (None, true) => Ok(Part::ChunkSize),
    }
}

/// The lines of a head, without their ends.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(head);
    std::iter::from_fn(move || {
        let text = rest?;
        let (line, after) = match memchr(b'\n', text) {
            Some(feed) => (text.get(..feed).unwrap_or_default(), text.get(feed + 1..)),
            None => (text, None),
        };
        rest = after;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    })
}

fn content_length(value: &[u8]) -> Result<u64, &'static str> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
    number.ok_or("Content-Length is not a number")
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = !line.is_empty() && line.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(line).ok().filter(|_| digits);
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).ok_or_else(|| invalid("a chunk's size is not a number"))
}

/// The line at the beginning, without its end; none where its end has not come.
fn line(bytes: &[u8], bytes_max: usize) -> io::Result<Option<&[u8]>> {
    let Some(feed) = bytes.iter().take(bytes_max).position(|byte| *byte == b'\n') else {
        return if bytes.len() < bytes_max { Ok(None) } else { Err(invalid("a line of a chunked body is too long")) };
    };
    match bytes.get(..feed).and_then(|line| line.strip_suffix(b"\r")) {
        Some(line) if !line.contains(&b'\r') => Ok(Some(line)),
        _ => Err(invalid("a line of a chunked body does not end with CR LF")),
    }
}

fn counted(left: u64, available: usize, more: fn(u64) -> Part, then: Part) -> (usize, Part) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    let left = left - taken as u64;
    (taken, if left == 0 { then } else { more(left) })
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    memchr_iter(b'\n', bytes).any(|feed| feed > 0 && bytes.get(feed - 1) != Some(&b'\r'))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<I: AsyncRead + Unpin> AsyncRead for Framed<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared == 0 {
                this.scan()?;
            }
            if this.cleared > 0 {
                let now = this.cleared.min(buf.remaining());
                buf.put_slice(this.unread.get(..now).unwrap_or_default());
                this.unread.advance(now);
                this.cleared -= now;
                return Poll::Ready(Ok(()));
            }
            match this.part {
                // Straight into the library's buffer, and not a byte further than the body goes.
                Part::Length(left) | Part::Chunk(left) => {
                    let room = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
                    let mut limited = ReadBuf::new(buf.initialize_unfilled_to(room));
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut limited))?;
                    let read = limited.filled().len();
                    buf.advance(read);
                    let (more, then): (fn(u64) -> Part, _) = match this.part {
                        Part::Chunk(_) => (Part::Chunk, Part::ChunkEnd),
                        _ => (Part::Length, Part::Head),
                    };
                    (_, this.part) = counted(left, read, more, then);
                    return Poll::Ready(Ok(()));
                }
                Part::Opaque => return Pin::new(&mut this.io).poll_read(cx, buf),
                Part::Refused => {
                    let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
                    let mut thrown_away = 0;
                    while thrown_away < REFUSED_BYTES_MAX {
                        let mut read = ReadBuf::uninit(&mut scratch);
                        ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
                        match read.filled().len() {
                            0 => return Poll::Ready(Ok(())),
                            bytes => thrown_away += bytes,
                        }
                    }
                    return Poll::Ready(Err(invalid("a refused client goes on sending")));
                }
                Part::Head | Part::ChunkSize | Part::ChunkEnd | Part::Trailer => {
                    let mut scratch = [MaybeUninit::uninit(); READ_BYTES];
                    let mut read = ReadBuf::uninit(&mut scratch);
                    ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        // The end; the library sees what is left of a head, and the end behind it.
                        this.cleared = this.unread.len();
                        this.part = Part::Opaque;
                        if this.cleared == 0 {
                            return Poll::Ready(Ok(()));
                        }
                    } else {
                        this.unread.extend_from_slice(read.filled());
                    }
                }
            }
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Framed<I> {
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
    use tokio::io::AsyncReadExt as _;

    use super::*;

    const BEHIND: &str = "GET /b HTTP/1.1\r\nhost: x\r\n\r\n";

    /// Goal: plain requests pass byte for byte, pipelined ones too. Method: each, read whole and a byte at a time.
    #[tokio::test]
    async fn plain_framing_passes_as_it_is() {
        for plain in [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab\ncGET /b HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\nx-t: 1\r\n\r\n",
            "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n\n\n\0any bytes\n",
            "GET / HTTP/1.1\r\nhost: half a he",
            "",
        ] {
            assert_eq!(read(plain, usize::MAX).await.unwrap(), plain);
            assert_eq!(read(plain, 1).await.unwrap(), plain, "a byte at a time");
        }
        assert_eq!(read("\r\n\r\nGET / HTTP/1.1\r\n\r\n", 1).await.unwrap(), "GET / HTTP/1.1\r\n\r\n");
    }

    /// Goal: what two servers could read in two ways becomes a request that says so, and nothing behind it passes.
    /// Method: the head's end as it comes, with a request behind it.
    #[tokio::test]
    async fn ambiguous_framing_is_replaced() {
        check(
            "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
            "both Content-Length and Transfer-Encoding are given",
        )
        .await;
        check(
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
            "both Content-Length and Transfer-Encoding are given",
        )
        .await;
        check("content-length: 4\r\ncontent-length: 4\r\n\r\nabcd", "Content-Length is given more than once").await;
        check("content-length: 4, 4\r\n\r\nabcd", "Content-Length is not a number").await;
        check("content-length: +4\r\n\r\nabcd", "Content-Length is not a number").await;
        check("content-length:\r\n\r\n", "Content-Length is not a number").await;
        check(
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "Transfer-Encoding is not just `chunked`",
        )
        .await;
        check("transfer-encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding is not just `chunked`").await;
        check("transfer-encoding: xchunked\r\n\r\n", "Transfer-Encoding is not just `chunked`").await;
        check("x: a\r\n folded\r\n\r\n", "a header is folded over two lines").await;
        check("x: a\n\r\n\r\n", "a line ends with LF alone").await;
        check("x: a\n\n", "a line ends with LF alone").await;
        check("x: a\rb\r\n\r\n", "a line holds CR alone").await;
        check(
            "connection: upgrade\r\nupgrade: websocket\r\ncontent-length: 4\r\n\r\nabcd",
            "a request to upgrade has a body",
        )
        .await;
    }

    /// Goal: the empty lines before a request end with CRLF, like any other.
    #[tokio::test]
    async fn a_bare_line_feed_before_a_request_is_refused() {
        for before in ["\n", "\r\n\n"] {
            refused(&format!("{before}GET /a HTTP/1.1\r\nhost: x\r\n\r\n"), "a line ends with LF alone").await;
        }
    }

    async fn check(end_of_head: &str, why: &str) {
        refused(&format!("POST /a HTTP/1.1\r\nhost: x\r\n{end_of_head}{BEHIND}"), why).await;
    }

    async fn refused(request: &str, why: &str) {
        for at_once in [usize::MAX, 1] {
            let passed = read(request, at_once).await.unwrap();
            assert!(passed.contains(&format!("{REFUSED}: {why}\r\n")), "{request:?}: {passed:?}");
            assert!(!passed.contains("/a") && !passed.contains("/b"), "{request:?}: {passed:?}");
        }
    }

    /// Goal: a chunked body that is not plain ends the connection.
    #[tokio::test]
    async fn ambiguous_chunks_end_the_connection() {
        for body in [
            "3;x=y\r\nabc\r\n",
            "0x3\r\nabc\r\n",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "\r\n",
            "-1\r\n",
            "fffffffffffffffff\r\n",
        ] {
            let request = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}0\r\n\r\n{BEHIND}");
            assert!(read(&request, usize::MAX).await.is_err(), "{body:?}");
            assert!(read(&request, 1).await.is_err(), "{body:?} a byte at a time");
        }
    }

    /// Goal: a head without end is the library's to refuse, not ours to keep. Method: more than the limit.
    #[tokio::test]
    async fn a_head_that_is_too_long_is_not_kept() {
        let head = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(3000));
        assert_eq!(read(&head, 100).await.unwrap(), head);
    }

    /// What passes, when the client's bytes come `at_once` by `at_once`.
    async fn read(sent: &str, at_once: usize) -> io::Result<String> {
        let mut framed = Framed::new(Slowly { bytes: sent.as_bytes(), at_once }, 2000);
        let mut passed = Vec::new();
        framed.read_to_end(&mut passed).await?;
        Ok(String::from_utf8(passed).unwrap())
    }

    struct Slowly<'a> {
        bytes: &'a [u8],
        at_once: usize,
    }

    impl AsyncRead for Slowly<'_> {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let this = self.get_mut();
            let (now, later) = this.bytes.split_at(this.bytes.len().min(this.at_once).min(buf.remaining()));
            buf.put_slice(now);
            this.bytes = later;
            Poll::Ready(Ok(()))
        }
    }
}
