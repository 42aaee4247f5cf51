//! HTTP requests of a strategy, to the servers that its sidecar lists under `outboundHosts`.
//!
//! ```
//! use witgate_sdk::http::{Error, Request, Response};
//! use witgate_sdk::testing::with_http;
//!
//! let answer = with_http(|_request| Ok(Response::new(200, "token")), || Request::get("https://sts.example/").send());
//! assert_eq!(answer?.text(), Some("token"));
//! # Ok::<(), Error>(())
//! ```
//!
//! Nothing is followed: a redirect is an answer like any other. A guest that uses nothing of this module does not
//! import `wasi:http`, and needs no grant. In native tests the other side is that of
//! [`testing::with_http`](crate::testing::with_http).

use std::fmt;

use crate::AuthError;

#[cfg(target_family = "wasm")]
mod exchange;

/// A request to be sent.
#[derive(Clone, Eq, PartialEq)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Reads.
    Get,
    /// Submits.
    Post,
    /// Replaces.
    Put,
}

/// An answer, whatever its status.
#[derive(Clone, Eq, PartialEq)]
pub struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Why there is no answer. The host's log says more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Error {
    /// The URL is not `http://…` or `https://…` with a host.
    InvalidUrl,
    /// A header cannot be sent, or is the host's to set: `Host`, `Connection` and others of the connection.
    InvalidHeader(String),
    /// No grant for this origin.
    Denied,
    /// The name is at an address that the grant does not include.
    AddressProhibited,
    /// The name cannot be resolved.
    UnknownHost,
    /// Nobody takes the connection, or it broke before an answer came.
    Unreachable,
    /// TLS failed, the certificate for instance.
    Untrusted,
    /// Not connected in time.
    ConnectTimeout,
    /// Connected, and no answer in time.
    AnswerTimeout,
    /// An answer that stopped coming.
    BodyTimeout,
    /// A request or an answer larger than the host's limit, 1 MiB.
    TooLarge,
    /// An answer that broke off.
    Incomplete,
    /// Too many exchanges of this plug-in are under way.
    Saturated,
    /// What was answered is not HTTP, or any other failure.
    Protocol,
}

impl Request {
    /// `GET url`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new(Method::Get, url)
    }

    /// `POST url`.
    pub fn post(url: impl Into<String>) -> Self {
        Self::new(Method::Post, url)
    }

    /// Any of the methods.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: None }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Sets the body. Its length is sent too.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sends it and waits for the whole answer, for as long as the host allows.
    ///
    /// # Errors
    /// When there is no answer. An answer of any status, a redirect too, is none.
    pub fn send(&self) -> Result<Response, Error> {
        let target = Target::of(&self.url)?;
        self.exchange(&target)
    }

    /// What is to be done.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Where to.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Names, in lower case, and values, in their order.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// The body, empty where there is none.
    pub fn body_bytes(&self) -> &[u8] {
        self.body.as_deref().unwrap_or_default()
    }

    #[cfg(target_family = "wasm")]
    fn exchange(&self, target: &Target<'_>) -> Result<Response, Error> {
        exchange::exchange(self, target)
    }

    #[cfg(not(target_family = "wasm"))]
    fn exchange(&self, _target: &Target<'_>) -> Result<Response, Error> {
        crate::testing::http(self)
    }
}

impl Response {
    /// An answer without headers, for tests.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// The same answer with a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// HTTP's status.
    pub const fn status(&self) -> u16 {
        self.status
    }

    /// The first value of a header; its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body, where it is text.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }
}

/// A URL, taken apart as the host wants it.
#[derive(Debug, Eq, PartialEq)]
struct Target<'a> {
    encrypted: bool,
    authority: &'a str,
    path_with_query: String,
}

impl<'a> Target<'a> {
    fn of(url: &'a str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or(Error::InvalidUrl)?;
        let encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(Error::InvalidUrl),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() {
            return Err(Error::InvalidUrl);
        }
        let path_with_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { encrypted, authority, path_with_query })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidUrl => "not an http or https URL",
            Self::InvalidHeader(name) => return write!(f, "the header `{name}` cannot be sent"),
            Self::Denied => "no grant for this origin",
            Self::AddressProhibited => "its address is not granted",
            Self::UnknownHost => "its name cannot be resolved",
            Self::Unreachable => "it cannot be reached",
            Self::Untrusted => "its certificate is not trusted",
            Self::ConnectTimeout => "not connected in time",
            Self::AnswerTimeout => "no answer in time",
            Self::BodyTimeout => "the answer stopped coming",
            Self::TooLarge => "too large",
            Self::Incomplete => "the answer broke off",
            Self::Saturated => "too many requests are under way",
            Self::Protocol => "the answer is not understood",
        })
    }
}

impl std::error::Error for Error {}

/// What the caller is told: whose fault it is, and no address.
impl From<Error> for AuthError {
    fn from(error: Error) -> Self {
        let text = format!("the credential's server: {error}");
        match error {
            Error::InvalidUrl | Error::InvalidHeader(_) | Error::Denied | Error::AddressProhibited => {
                Self::Misconfigured(text)
            }
            Error::UnknownHost
            | Error::Unreachable
            | Error::Untrusted
            | Error::ConnectTimeout
            | Error::AnswerTimeout
            | Error::BodyTimeout
            | Error::TooLarge
            | Error::Incomplete
            | Error::Saturated
            | Error::Protocol => Self::Unavailable(text),
        }
    }
}

/// Without values and bodies: they hold credentials.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Request").field("method", &self.method).field("headers", &names).finish_non_exhaustive()
    }
}

/// Without values and bodies: they hold credentials.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_http;

    /// Goal: a URL is taken apart, and never repaired. Method: rows.
    #[test]
    fn a_url_is_taken_apart() {
        check("https://a.example", Some((true, "a.example", "/")));
        check("HTTP://a.example:8080/x/y?z=1#f", Some((false, "a.example:8080", "/x/y?z=1")));
        check("http://a.example?z", Some((false, "a.example", "/?z")));
        check("http://u:p@a.example/", Some((false, "u:p@a.example", "/")));
        for wrong in ["", "a.example", "ftp://a.example", "https://", "https:///path", "//a.example"] {
            check(wrong, None);
        }
    }

    #[track_caller]
    fn check(url: &str, expected: Option<(bool, &str, &str)>) {
        let target = Target::of(url).ok();
        let got = target.as_ref().map(|t| (t.encrypted, t.authority, t.path_with_query.as_str()));
        assert_eq!(got, expected, "{url}");
    }

    /// Goal: a request and its answer print no credential. Method: one of each, with one in every place.
    #[test]
    fn nothing_prints_a_credential() {
        let request = Request::post("https://a.example/?s3cret").header("Authorization", "s3cret").body("s3cret");
        let response = Response::new(200, "s3cret").with_header("x", "s3cret");
        let printed = format!("{request:?} {response:?}");
        assert!(!printed.contains("s3cret") && printed.contains("authorization"), "{printed}");
    }

    /// Goal: a test sees what was sent, and decides what comes back.
    #[test]
    fn a_test_is_the_other_side() {
        let send = || Request::post("https://a.example").header("X-A", "1").body("in").send();
        let answer = with_http(
            |request| {
                assert_eq!((request.url(), request.body_bytes()), ("https://a.example", &b"in"[..]));
                assert_eq!(request.headers(), [("x-a".to_owned(), "1".to_owned())]);
                Ok(Response::new(201, "out").with_header("Retry-After", "7"))
            },
            send,
        );
        let answer = answer.unwrap();
        assert_eq!((answer.status(), answer.text(), answer.header("retry-after")), (201, Some("out"), Some("7")));
        assert_eq!(send(), Err(Error::Denied), "nothing is granted otherwise");
    }
}
