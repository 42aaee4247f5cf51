//! A WebSocket that an HTTP/2 client asks for by extended CONNECT (RFC 8441), in HTTP/1.1's words for the API server.
//!
//! Over HTTP/2 there is no `Sec-WebSocket-Key` and no `Sec-WebSocket-Accept`: the gate makes the one and checks the
//! other. Nothing here knows a connection.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};

use crate::upstream::UpstreamError;

/// What a server puts behind the key before it hashes (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

/// The nonce of one WebSocket handshake. It proves that a 101 answers this request; it is no secret.
#[derive(Debug)]
pub(super) struct WebSocketKey(String);

impl WebSocketKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(super) fn generate() -> Result<Self, UpstreamError> {
        let mut nonce = [0; KEY_BYTES];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|error| UpstreamError::Unreachable(error.into()))?;
        Ok(Self(STANDARD.encode(nonce)))
    }

    /// Completes the handshake's request; what the client brought of it goes.
    pub(super) fn stamp(&self, headers: &mut HeaderMap) -> Result<(), UpstreamError> {
        let key = HeaderValue::from_str(&self.0).map_err(|error| UpstreamError::Protocol(error.into()))?;
        headers.insert(SEC_WEBSOCKET_KEY, key);
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        Ok(())
    }

    /// Takes the proof out of a 101's headers.
    ///
    /// # Errors
    /// When the 101 does not answer this key.
    pub(super) fn check(&self, headers: &mut HeaderMap) -> Result<(), UpstreamError> {
        let given = headers.remove(SEC_WEBSOCKET_ACCEPT);
        if given.is_some_and(|given| given.as_bytes() == self.accept().as_bytes()) {
            Ok(())
        } else {
            Err(UpstreamError::Protocol("`Sec-WebSocket-Accept` does not answer the key that was sent".into()))
        }
    }

    fn accept(&self) -> String {
        STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{}{ACCEPT_SUFFIX}", self.0).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only the answer to this key is taken. Method: the example of RFC 6455 §1.3, and what is not it.
    #[test]
    fn a_101_must_answer_the_key() {
        check(Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), true);
        check(Some("S3PPLMBITXAQ9KYGZZHZRBK+XOO="), false);
        check(Some(""), false);
        check(None, false);
    }

    #[track_caller]
    fn check(accept: Option<&'static str>, expected: bool) {
        let key = WebSocketKey("dGhlIHNhbXBsZSBub25jZQ==".to_owned());
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(key.check(&mut headers).is_ok(), expected, "{accept:?}");
        assert!(headers.is_empty(), "the proof is for the gate alone");
    }

    #[test]
    fn each_handshake_has_a_key_of_its_own() {
        let (one, other) = (WebSocketKey::generate().unwrap(), WebSocketKey::generate().unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(STANDARD.decode(one.0).unwrap().len(), KEY_BYTES);
    }
}
