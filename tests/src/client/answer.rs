//! What came back: its head with a body still to come, or all of it.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::secrets;
use crate::waiting::soon;

/// An answer whose body is still to be read.
pub struct OpenAnswer(Response<Incoming>);

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    version: Version,
    status: u16,
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Bytes,
}

impl OpenAnswer {
    pub(super) fn new(response: Response<Incoming>) -> Self {
        for (name, value) in response.headers() {
            secrets::assert_none_in(
                &format!("the answer's header `{name}`"),
                &String::from_utf8_lossy(value.as_bytes()),
            );
        }
        Self(response)
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        text_of(self.0.headers(), name)
    }

    /// The next piece of the body; None at its good end, an error where it broke off.
    pub async fn next_piece(&mut self) -> Option<hyper::Result<String>> {
        let frame = soon("a piece of the body", self.0.body_mut().frame()).await?;
        Some(
            frame
                .map(|frame| frame.into_data().map(|data| String::from_utf8(data.into()).unwrap()).unwrap_or_default()),
        )
    }

    /// Reads the body to its good end.
    pub async fn whole(self) -> Answer {
        self.try_whole().await.unwrap_or_else(|error| panic!("the answer's body broke off: {error:?}"))
    }

    /// Reads the body to its end, which may be a bad one.
    pub async fn try_whole(self) -> hyper::Result<Answer> {
        let (head, mut incoming) = self.0.into_parts();
        let mut body = BytesMut::new();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = soon("the rest of the body", incoming.frame()).await {
            match frame?.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().ok().into_iter().flatten()),
            }
        }
        let status = head.status.as_u16();
        let answer = Answer { version: head.version, status, headers: head.headers, trailers, body: body.freeze() };
        if status >= 400 {
            secrets::assert_none_in("an error's body", &String::from_utf8_lossy(&answer.body));
        }
        Ok(answer)
    }
}

impl Answer {
    /// The HTTP version, such as `HTTP/1.1`.
    pub fn version(&self) -> String {
        format!("{:?}", self.version)
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        text_of(&self.headers, name)
    }

    /// The values of a header that may be there more than once.
    pub fn headers_named(&self, name: &str) -> Vec<String> {
        let values = self.headers.get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    }

    /// A trailer's value.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        text_of(&self.trailers, name)
    }

    /// The body as text.
    #[track_caller]
    pub fn body(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// Status and body, as snapshots show them: `404 {"error":…}`.
    #[track_caller]
    pub fn summary(&self) -> String {
        format!("{} {}", self.status, self.body())
    }

    /// The message of an error of the gate's, in either route's form.
    #[track_caller]
    pub fn message(&self) -> String {
        let body = self.json();
        let message = body.pointer("/error/message").or_else(|| body.get("message"));
        message.and_then(Value::as_str).unwrap_or_else(|| panic!("no error's message in {body}")).to_owned()
    }

    /// Which decision the gate says it was.
    #[track_caller]
    pub fn decision_id(&self) -> &str {
        self.header("witgate-decision-id").expect("each answer of the gate's names its decision")
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().expect("the header is text"))
}
