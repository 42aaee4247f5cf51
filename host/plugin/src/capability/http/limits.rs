//! How long one exchange may wait and how much it may carry. The call's own deadline ends it in any case.

use std::time::Duration;

/// The limits of one exchange, and of a plug-in's exchanges together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpLimits {
    /// Looking the name up, TCP and TLS, together. A guest may ask for less, as for the next two.
    pub(crate) connect_timeout: Duration,
    /// From there to the head of the answer. Below the deadline of 10 s, so that a strategy can still say what failed.
    pub(crate) first_byte_timeout: Duration,
    /// Between two pieces of the answer's body.
    pub(crate) between_bytes_timeout: Duration,
    /// The head of an answer. hyper takes no less than 8 KiB.
    pub(crate) response_head_bytes_max: usize,
    /// How many headers an answer may have.
    pub(crate) response_headers_max: usize,
    /// The body of an answer. Tokens and certificates take some KiB.
    pub(crate) response_body_bytes_max: u64,
    /// The body of a request.
    pub(crate) request_body_bytes_max: u64,
    /// Exchanges that one plug-in may have under way; further ones are refused, not queued.
    pub(crate) exchanges_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(8),
            between_bytes_timeout: Duration::from_secs(5),
            response_head_bytes_max: 32 << 10,
            response_headers_max: 100,
            response_body_bytes_max: 1 << 20,
            request_body_bytes_max: 1 << 20,
            exchanges_max: 128,
        }
    }
}

/// Bytes of headers that a guest may put together, as the engine counts them.
pub(crate) const FIELDS_BYTES_MAX: usize = 64 << 10;

/// Bytes that a guest may hand over of a request's body in one piece.
pub(crate) const REQUEST_PIECE_BYTES_MAX: usize = 64 << 10;
