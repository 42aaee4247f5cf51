//! Bodies on their way: the client's to the API server, and the API server's to the client.
//!
//! Nothing is buffered: a frame is asked for when the other side has room for it,
//! which is all the backpressure there is. A body that ends early is an error, so
//! that a cut answer never looks complete.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;
use witgate_core::{BoxError, BoxFuture};

use crate::decision::CloseReason;
use crate::upstream::{InFlight, Lease};

/// The body of an answer: ours, or the API server's.
#[derive(Debug)]
pub struct Body(Inner);

#[derive(Debug)]
enum Inner {
    Full(Option<Bytes>),
    Forwarded(Box<Forwarded>),
}

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self(Inner::Full(None))
    }

    /// A body of our own.
    pub fn full(content: impl Into<Bytes>) -> Self {
        Self(Inner::Full(Some(content.into()).filter(|content| !content.is_empty())))
    }

    /// Takes the content of a body of our own away, and says how long it was. The answer to a HEAD has none, and
    /// the HTTP/2 library would send it all the same.
    pub(crate) fn take_content(&mut self) -> Option<usize> {
        match &mut self.0 {
            Inner::Full(content) => content.take().map(|content| content.len()),
            Inner::Forwarded(_) => None,
        }
    }

    /// The API server's, as it comes.
    pub(crate) fn forwarded(forwarded: Forwarded) -> Self {
        Self(Inner::Forwarded(Box::new(forwarded)))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Inner::Full(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Inner::Forwarded(forwarded) => forwarded.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Full(content) => content.is_none(),
            // The end is told by `poll_frame`, which also gives the connection back.
            Inner::Forwarded(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Full(content) => SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64)),
            Inner::Forwarded(forwarded) => forwarded.incoming.size_hint(),
        }
    }
}

/// An answer's body as it comes from the API server.
pub(crate) struct Forwarded {
    incoming: Incoming,
    /// Gives the connection back when the body has been read to its end; closes it when dropped before.
    lease: Option<Lease>,
    _in_flight: InFlight,
    bytes: u64,
    /// Between two frames; none for long-running answers.
    idle: Option<IdleLimit>,
    /// Ends long-running answers when the gate goes down; none for others.
    ended_by_drain: Option<BoxFuture<'static, ()>>,
    /// Told once, at the end, with the bytes that passed.
    on_close: Option<OnClose>,
    /// Why it broke off, until the client's connection is told.
    broken: Option<BoxError>,
}

/// Hears how a stream ended.
pub(crate) type OnClose = Box<dyn FnOnce(CloseReason, u64) + Send>;

struct IdleLimit {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Forwarded {
    pub(crate) fn new(incoming: Incoming, lease: Lease, in_flight: InFlight) -> Self {
        Self {
            incoming,
            lease: Some(lease),
            _in_flight: in_flight,
            bytes: 0,
            idle: None,
            ended_by_drain: None,
            on_close: None,
            broken: None,
        }
    }

    /// Ends it when nothing came for `limit`.
    pub(crate) fn with_idle_limit(mut self, limit: Duration) -> Self {
        self.idle = Some(IdleLimit { limit, sleep: None });
        self
    }

    /// Makes it a stream: it ends when `drained` does, and tells `on_close` how it ended.
    pub(crate) fn into_stream(mut self, drained: BoxFuture<'static, ()>, on_close: OnClose) -> Self {
        self.ended_by_drain = Some(drained);
        self.on_close = Some(on_close);
        self
    }

    /// Whether there is nothing to come: an answer to a HEAD, a 204, a 304.
    pub(crate) fn is_over(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        // Before the next frame: a stream that always has one must end too.
        if let Some(drained) = &mut self.ended_by_drain
            && drained.as_mut().poll(cx).is_ready()
        {
            self.ended_by_drain = None;
            return self.break_off(CloseReason::Drained, "the gate is going down".into(), cx);
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes += data.len() as u64;
                }
                if let Some(idle) = &mut self.idle {
                    idle.sleep = None;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => self.break_off(CloseReason::UpstreamFailed, error.into(), cx),
            Poll::Ready(None) => {
                if let Some(lease) = self.lease.take() {
                    lease.finish();
                }
                self.close(CloseReason::Completed);
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_idle(cx),
        }
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(idle) = &mut self.idle {
            let limit = idle.limit;
            let sleep = idle.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
            ready!(sleep.as_mut().poll(cx));
            self.close(CloseReason::IdleTimeout);
            return Poll::Ready(Some(Err("the API server sent nothing for too long".into())));
        }
        Poll::Pending
    }

    /// Ends it with `error`, a turn later: a connection that hears of it drops what it has not written yet, the head
    /// and the last event for instance, and in between it writes.
    fn break_off(
        &mut self,
        reason: CloseReason,
        error: BoxError,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.close(reason);
        self.broken = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn close(&mut self, reason: CloseReason) {
        self.lease = None;
        if let Some(on_close) = self.on_close.take() {
            on_close(reason, self.bytes);
        }
    }
}

/// A body that is dropped before its end is one whose client left.
impl Drop for Forwarded {
    fn drop(&mut self) {
        let reason = if self.incoming.is_end_stream() { CloseReason::Completed } else { CloseReason::ClientClosed };
        if reason == CloseReason::Completed
            && let Some(lease) = self.lease.take()
        {
            lease.finish();
        }
        self.close(reason);
    }
}

impl std::fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarded").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The client's body on its way up.
#[derive(Debug)]
pub(crate) struct RequestBody {
    incoming: Option<Incoming>,
    progress: Progress,
}

/// When a request's body last moved; shared with whoever waits for the answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Option<Arc<Mutex<Option<Instant>>>>);

impl Progress {
    /// When the last part was taken; none for a request without a body.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.0.as_ref().and_then(|last| *last.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn note(&self) {
        if let Some(last) = &self.0 {
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self { incoming: None, progress: Progress::default() }
    }

    pub(crate) fn new(incoming: Incoming) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        Self { incoming: Some(incoming), progress: Progress(Some(Arc::default())) }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.incoming.is_none()
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        loop {
            let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
            this.progress.note();
            // A request's trailers are headers that nobody has stripped, and no API server reads them.
            if !matches!(&frame, Some(Ok(frame)) if frame.is_trailers()) {
                return Poll::Ready(frame);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}
