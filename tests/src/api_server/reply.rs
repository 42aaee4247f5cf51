//! What the fake API server answers.

use std::convert::Infallible;

use bytes::Bytes;

use crate::body::{Body, BodyWriter};

/// One answer.
#[derive(Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    /// None: no answer ever.
    body: Option<Body>,
}

/// A list without items, as for a namespace without pods.
impl Default for Reply {
    fn default() -> Self {
        Self::json(200, r#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}"#)
    }
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::new(status, body).header("content-type", "application/json")
    }

    /// An answer with a body and no headers.
    pub fn new(status: u16, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: Some(Body::whole(body)) }
    }

    /// A 200 whose body the test writes, frame by frame.
    pub fn streamed() -> (Self, BodyWriter) {
        let (body, writer) = Body::streamed();
        (Self { status: 200, headers: Vec::new(), body: Some(body) }, writer)
    }

    /// No answer ever, on a connection that stays open.
    pub fn never() -> Self {
        Self { status: 0, headers: Vec::new(), body: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(super) async fn into_response(self) -> Result<http::Response<Body>, Infallible> {
        let Some(body) = self.body else {
            return std::future::pending().await;
        };
        let mut response = http::Response::builder().status(self.status);
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        Ok(response.body(body).expect("a test gives headers that HTTP can carry"))
    }
}
