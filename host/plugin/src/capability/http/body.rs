//! Bodies that are counted while they pass, and not waited for too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::failure::{Failure, Report, code_of};

/// The body of a request, as its guest writes it.
pub(crate) struct RequestBody {
    inner: WasiBody,
    bytes: u64,
    bytes_max: u64,
}

/// The body of an answer. While it is there, its exchange counts.
pub(crate) struct ResponseBody {
    inner: Incoming,
    bytes: u64,
    bytes_max: u64,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    report: Report,
    _permit: OwnedSemaphorePermit,
}

impl RequestBody {
    pub(crate) const fn new(inner: WasiBody, bytes_max: u64) -> Self {
        Self { inner, bytes: 0, bytes_max }
    }
}

impl ResponseBody {
    pub(crate) fn new(
        inner: Incoming,
        bytes_max: u64,
        timeout: Duration,
        report: Report,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let timer = Box::pin(tokio::time::sleep(timeout));
        Self { inner, bytes: 0, bytes_max, timeout, timer, report, _permit: permit }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes = self.bytes.saturating_add(length_of(&frame));
                if self.bytes > self.bytes_max {
                    return Poll::Ready(Some(Err(Failure::response_body_size(self.bytes_max))));
                }
                let next = Instant::now().checked_add(self.timeout).unwrap_or_else(Instant::now);
                self.timer.as_mut().reset(next);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Failure::of_body(&error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                std::task::ready!(self.timer.as_mut().poll(cx));
                Poll::Ready(Some(Err(Failure::between_bytes(self.timeout))))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = std::task::ready!(Pin::new(&mut this.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            this.bytes = this.bytes.saturating_add(length_of(frame));
            if this.bytes > this.bytes_max {
                return Poll::Ready(Some(Err(Error::HttpRequestBodySize(Some(this.bytes_max)))));
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = std::task::ready!(this.poll(cx));
        Poll::Ready(polled.map(|frame| {
            frame.map_err(|failure| {
                this.report.failed(&failure);
                code_of(&failure.code)
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn length_of(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX))
}
