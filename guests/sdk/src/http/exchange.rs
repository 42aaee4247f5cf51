//! One exchange over `wasi:http`.

use super::{Error, Method, Request, Response, Target};
use crate::bindings::outgoing::wasi::http::outgoing_handler::handle;
use crate::bindings::outgoing::wasi::http::types::{
    self, ErrorCode, Fields, IncomingResponse, OutgoingBody, OutgoingRequest, Scheme,
};
use crate::bindings::outgoing::wasi::io::streams::StreamError;

pub(super) fn exchange(request: &Request, target: &Target<'_>) -> Result<Response, Error> {
    let fields = Fields::new();
    let add = |name: &str, value: &str| {
        fields.append(name, value.as_bytes()).map_err(|_| Error::InvalidHeader(name.to_owned()))
    };
    for (name, value) in &request.headers {
        add(name, value)?;
    }
    if let Some(body) = &request.body {
        add("content-length", &body.len().to_string())?;
    }
    let outgoing = OutgoingRequest::new(fields);
    let method = match request.method {
        Method::Get => types::Method::Get,
        Method::Post => types::Method::Post,
        Method::Put => types::Method::Put,
    };
    let scheme = if target.encrypted { Scheme::Https } else { Scheme::Http };
    outgoing
        .set_method(&method)
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(target.authority)))
        .and_then(|()| outgoing.set_path_with_query(Some(&target.path_with_query)))
        .map_err(|()| Error::InvalidUrl)?;
    // One without a body must not be sent as if it had one.
    let body = match &request.body {
        None => None,
        Some(bytes) => Some((outgoing.body().map_err(|()| Error::Protocol)?, bytes)),
    };
    let answer = handle(outgoing, None).map_err(of_code)?;
    if let Some((body, bytes)) = body {
        write(body, bytes);
    }
    answer.subscribe().block();
    let response = answer.get().ok_or(Error::Protocol)?.map_err(|()| Error::Protocol)?.map_err(of_code)?;
    let headers = response.headers().entries();
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), text(value))).collect();
    Ok(Response { status: response.status(), headers, body: read(&response)? })
}

/// A server that stops reading ends this early; its answer says why.
fn write(body: OutgoingBody, bytes: &[u8]) {
    if let Ok(stream) = body.write() {
        let sent = bytes.chunks(WRITE_BYTES_MAX).try_for_each(|piece| stream.blocking_write_and_flush(piece));
        drop(stream);
        if sent.is_err() {
            return;
        }
    }
    let _said_by_the_answer = OutgoingBody::finish(body, None);
}

fn read(response: &IncomingResponse) -> Result<Vec<u8>, Error> {
    let body = response.consume().map_err(|()| Error::Protocol)?;
    let stream = body.stream().map_err(|()| Error::Protocol)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(READ_BYTES_MAX) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(types::http_error_code(&error).map_or(Error::Protocol, of_code));
            }
        }
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge);
        }
    }
}

fn of_code(code: ErrorCode) -> Error {
    match code {
        ErrorCode::HttpRequestDenied => Error::Denied,
        ErrorCode::DestinationIpProhibited => Error::AddressProhibited,
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => Error::UnknownHost,
        ErrorCode::ConnectionRefused | ErrorCode::ConnectionTerminated | ErrorCode::DestinationUnavailable => {
            Error::Unreachable
        }
        ErrorCode::TlsCertificateError | ErrorCode::TlsProtocolError | ErrorCode::TlsAlertReceived(_) => {
            Error::Untrusted
        }
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout => Error::ConnectTimeout,
        ErrorCode::HttpResponseTimeout => Error::AnswerTimeout,
        ErrorCode::ConnectionReadTimeout => Error::BodyTimeout,
        ErrorCode::HttpRequestBodySize(_)
        | ErrorCode::HttpResponseBodySize(_)
        | ErrorCode::HttpResponseHeaderSectionSize(_) => Error::TooLarge,
        ErrorCode::HttpResponseIncomplete => Error::Incomplete,
        ErrorCode::ConnectionLimitReached => Error::Saturated,
        ErrorCode::HttpRequestUriInvalid | ErrorCode::HttpRequestUriTooLong => Error::InvalidUrl,
        _ => Error::Protocol,
    }
}

/// The most that `blocking-write-and-flush` takes.
const WRITE_BYTES_MAX: usize = 4096;
const READ_BYTES_MAX: u64 = 64 << 10;
/// The host's limit, once more: it bounds this guest's memory.
const BODY_BYTES_MAX: usize = 1 << 20;
