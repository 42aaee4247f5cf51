//! How an exchange fails: a code for the guest, a reason for the operator.
//!
//! The guest learns what kind of failure it was and no more. The reason goes into the plug-in's log; it may name hosts and
//! addresses, and never a header or a body.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use wasmtime_wasi_http::Error;

use super::allow_list::Origin;
use super::resolve::ResolveError;
use crate::capability::log::{CallLog, Level};

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the guest is told.
    pub(crate) code: Error,
    /// What the operator is told.
    pub(crate) reason: String,
}

/// Where the reasons of one exchange go.
#[derive(Clone)]
pub(crate) struct Report {
    log: Arc<CallLog>,
    to: Arc<str>,
}

impl Report {
    /// Of an exchange with `origin`; of one whose URL is not even that, without.
    pub(crate) fn new(log: Arc<CallLog>, origin: Option<&Origin>) -> Self {
        let to = origin.map_or_else(|| "an unreadable origin".to_owned(), |origin| format!("`{origin}`"));
        Self { log, to: to.into() }
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        self.log.write(Level::Warn, &format!("HTTP request to {} failed: {}", self.to, failure.reason));
    }
}

impl Failure {
    pub(crate) fn new(code: Error, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(crate) fn denied(reason: &str) -> Self {
        Self::new(Error::HttpRequestDenied, reason)
    }

    pub(crate) fn of_resolving(error: &ResolveError) -> Self {
        let code = match error {
            ResolveError::Lookup(_) | ResolveError::NoAddress | ResolveError::TooMany(_) => {
                Error::DnsError { rcode: None, info_code: None }
            }
            ResolveError::Prohibited(..) => Error::DestinationIpProhibited,
        };
        Self::new(code, chain(error))
    }

    pub(crate) fn of_connecting(error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::TimedOut => Error::ConnectionTimeout,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationUnavailable,
            _ => Error::ConnectionRefused,
        };
        Self::new(code, format!("cannot connect: {}", chain(error)))
    }

    pub(crate) fn of_handshake(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let code = match tls {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                Error::TlsCertificateError
            }
            Some(_) => Error::TlsProtocolError,
            None => Error::ConnectionTerminated,
        };
        Self::new(code, format!("TLS failed: {}", chain(error)))
    }

    /// Of sending the request or reading the head of its answer.
    pub(crate) fn of_head(error: &hyper::Error, head_bytes_max: usize) -> Self {
        // The request's own body failed: its guest wrote too much, or not what it said.
        if let Some(code) = source_of::<Error>(error) {
            return Self::new(code_of(code), format!("the request's body failed: {code}"));
        }
        let code = if error.is_parse_too_large() {
            Error::HttpResponseHeaderSectionSize(u32::try_from(head_bytes_max).ok())
        } else if error.is_incomplete_message() || source_of::<io::Error>(error).is_some() {
            Error::ConnectionTerminated
        } else {
            Error::HttpProtocolError
        };
        Self::new(code, chain(error))
    }

    /// Of reading the body of an answer.
    pub(crate) fn of_body(error: &hyper::Error) -> Self {
        let broken = error.is_incomplete_message() || error.is_body_write_aborted() || error.is_closed();
        let io = source_of::<io::Error>(error);
        let code = if broken || io.is_some_and(|io| io.kind() != io::ErrorKind::InvalidInput) {
            Error::HttpResponseIncomplete
        } else {
            Error::HttpProtocolError
        };
        Self::new(code, format!("the answer's body broke off: {}", chain(error)))
    }

    pub(crate) fn response_body_size(bytes_max: u64) -> Self {
        let reason = format!("the answer's body is larger than {bytes_max} bytes");
        Self::new(Error::HttpResponseBodySize(Some(bytes_max)), reason)
    }

    pub(crate) fn between_bytes(timeout: Duration) -> Self {
        Self::new(Error::ConnectionReadTimeout, format!("no more of the answer's body within {timeout:?}"))
    }
}

/// The code once more; only those that an exchange comes to.
pub(crate) fn code_of(error: &Error) -> Error {
    match error {
        Error::HttpRequestBodySize(bytes) => Error::HttpRequestBodySize(*bytes),
        Error::HttpResponseBodySize(bytes) => Error::HttpResponseBodySize(*bytes),
        Error::ConnectionReadTimeout => Error::ConnectionReadTimeout,
        Error::HttpResponseIncomplete => Error::HttpResponseIncomplete,
        _ => Error::HttpProtocolError,
    }
}

fn source_of<E: StdError + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
