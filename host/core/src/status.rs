//! Kubernetes' error body, `metav1.Status`, as kubectl and client-go read it.

/// Why a request failed, in Kubernetes' words, with the HTTP code that goes with each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StatusReason {
    /// 400
    BadRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 413
    RequestEntityTooLarge,
    /// 429
    TooManyRequests,
    /// 500
    InternalError,
    /// 502
    BadGateway,
    /// 503
    ServiceUnavailable,
    /// 504
    Timeout,
}

impl StatusReason {
    /// The HTTP status code.
    pub const fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::RequestEntityTooLarge => 413,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::BadGateway => 502,
            Self::ServiceUnavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The word in `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalError => "InternalError",
            Self::BadGateway => "BadGateway",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Timeout => "Timeout",
        }
    }
}

/// A `metav1.Status` of kind `Failure`.
///
/// ```
/// use witgate_core::{Status, StatusReason};
///
/// let body = Status::failure(StatusReason::NotFound, "Cluster 'x' not found").to_json();
/// assert!(body.contains(r#""code":404"#));
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    reason: StatusReason,
    message: String,
}

impl Status {
    /// A failure with its reason and a message for people.
    pub fn failure(reason: StatusReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The body, in the field order of the API server's own.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason.as_str(),
            "code": self.reason.code(),
        })
        .to_string()
    }
}
