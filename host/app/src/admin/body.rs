//! The admin routes' answers, and their bodies: whole, or events as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Frame, SizeHint};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;
use witgate_core::BoxError;

/// An answer's body.
#[derive(Debug)]
pub(super) enum Body {
    /// All of it; none when it is sent, or empty.
    Whole(Option<Bytes>),
    /// As it comes, until the sender is gone.
    Events(mpsc::Receiver<Bytes>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(content) => Poll::Ready(content.take().map(|content| Ok(Frame::data(content)))),
            Self::Events(events) => events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(content) => SizeHint::with_exact(content.as_ref().map_or(0, |content| content.len() as u64)),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// All of a request's body.
///
/// # Errors
/// Says why there is none: it is too large, too slow, or broke off.
pub(super) async fn read<B>(body: B, bytes_max: usize) -> Result<Bytes, String>
where
    B: hyper::body::Body<Error: Into<BoxError>>,
{
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(format!("the body cannot be read, or has more than {bytes_max} bytes")),
        Err(_) => Err(format!("the body did not come within {BODY_TIMEOUT:?}")),
    }
}

/// How long a body may take to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    whole(status, "text/plain; charset=utf-8", text.into())
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec_pretty(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            whole(status, "application/json", bytes.into())
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON\n".to_owned()),
    }
}

/// Why there is no other answer, as JSON.
pub(super) fn refusal(status: StatusCode, why: impl Into<String>) -> Response<Body> {
    json(status, &json!({ "error": why.into() }))
}

pub(super) fn whole(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    answer(status, content_type, Body::Whole(Some(body).filter(|body| !body.is_empty())))
}

pub(super) fn answer(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
