//! A body that is whole, or that the test writes while it is being sent: of requests and of answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// A body to send.
#[derive(Debug)]
pub enum Body {
    /// All of it; taken when it is sent.
    Whole(Option<Bytes>),
    /// As a [`BodyWriter`] writes it.
    Streamed(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

/// The test's end of a streamed body. Dropping it ends the body well.
#[derive(Debug)]
pub struct BodyWriter(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Body {
    /// A body that is known.
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()))
    }

    /// A body that the test writes.
    pub fn streamed() -> (Self, BodyWriter) {
        let (writer, frames) = mpsc::channel(1);
        (Self::Streamed(frames), BodyWriter(writer))
    }
}

impl BodyWriter {
    /// Sends `data` in a frame of its own.
    pub async fn write(&self, data: impl Into<Bytes>) {
        self.0.send(Ok(Frame::data(data.into()))).await.expect("the body is still being sent");
    }

    /// Ends the body with trailers.
    pub async fn end_with_trailers(self, trailers: http::HeaderMap) {
        self.0.send(Ok(Frame::trailers(trailers))).await.expect("the body is still being sent");
    }

    /// Breaks the body off, and an HTTP/1.1 connection with it.
    pub async fn abort(self) {
        let broken = io::Error::other("the test breaks the body off");
        self.0.send(Err(broken)).await.expect("the body is still being sent");
    }

    /// Waits until nobody takes the body any more.
    pub async fn left(&self) {
        self.0.closed().await;
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(frames) => frames.poll_recv(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}
