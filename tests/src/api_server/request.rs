//! What the fake API server keeps of one request.

use rustls_pki_types::CertificateDer;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// HTTP's method.
    pub method: String,
    /// Path and query, byte for byte as on the wire.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The headers in their order, names in lower case; over HTTP/2, `host` stands for `:authority`.
    pub headers: Vec<(String, String)>,
    /// The client's certificate, where the handshake had one.
    pub peer_certificate: Option<CertificateDer<'static>>,
    /// Which connection of the server's it came on, counted from 1.
    pub connection: usize,
    /// What of its body has arrived.
    pub body: BodySeen,
}

/// What of a body has arrived so far.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct BodySeen {
    /// How many bytes.
    pub bytes_count: usize,
    /// The first bytes, enough for a test to compare a small body whole.
    pub start: Vec<u8>,
    /// The SHA-256 of the whole body, once it is whole.
    pub digest: Option<[u8; 32]>,
    /// Whether it broke off.
    pub broken: bool,
}

impl Request {
    pub(super) fn of_head(
        head: &http::request::Parts,
        connection: usize,
        peer_certificate: Option<CertificateDer<'static>>,
    ) -> Self {
        let target = head.uri.path_and_query().map_or("*", |target| target.as_str()).to_owned();
        let mut headers: Vec<_> = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        if let Some(authority) = head.uri.authority() {
            headers.push(("host".into(), authority.to_string()));
        }
        Self {
            method: head.method.to_string(),
            target,
            version: format!("{:?}", head.version),
            headers,
            peer_certificate,
            connection,
            body: BodySeen::default(),
        }
    }

    /// The value of a header that is there once; None where it is not there.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "`{name}` came more than once: {:?}", self.headers);
        value
    }

    /// The names of the headers, in their order.
    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }
}

impl BodySeen {
    /// How many bytes of a body are kept.
    const START_BYTES_MAX: usize = 4096;

    /// The body as text; it must be whole and small.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert!(self.digest.is_some(), "the body is not whole: {self:?}");
        assert!(self.bytes_count <= Self::START_BYTES_MAX, "a body of {} bytes is not kept", self.bytes_count);
        std::str::from_utf8(&self.start).expect("the body is text")
    }

    pub(super) fn count(&mut self, data: &[u8]) {
        self.bytes_count += data.len();
        let room = Self::START_BYTES_MAX - self.start.len();
        self.start.extend(data.iter().take(room));
    }

    pub(super) fn complete(&mut self, digest: [u8; 32]) {
        self.digest = Some(digest);
    }
}
