//! The one place where errors become answers.
//!
//! Callers learn the reason, operators the cause: the message of an answer never
//! holds a credential, a cluster's URL or an internal error; those are in the log,
//! beside the same decision id.

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, RETRY_AFTER, WARNING, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use witgate_core::{
    AuthError, AuthenticationError, CallError, ClusterName, DenyReason, RequestAuthConflict, Status, StatusReason,
};

use crate::body::Body;
use crate::decision::{DecisionId, LogFull};
use crate::route::Manners;
use crate::upstream::UpstreamError;

/// On every answer: the decision it belongs to.
pub static DECISION_ID: HeaderName = HeaderName::from_static("witgate-decision-id");

/// The header that names the cluster on Backstage's route.
pub const CLUSTER_HEADER: &str = "Backstage-Kubernetes-Cluster";

/// Why a request gets an answer of ours instead of the API server's.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// None of the three routes.
    #[error("no such route; see /api/kubernetes/proxy, /api/kubernetes/clusters and /k8s/clusters/<name>")]
    UnknownRoute,
    /// The route is there, the method is not.
    #[error("method {0} is not served here")]
    MethodNotAllowed(String),
    /// The caller is not known.
    #[error(transparent)]
    Unauthenticated(#[from] AuthenticationError),
    /// The request is not one that can be judged.
    #[error("{0}")]
    BadRequest(String),
    /// A header that may come once came more often.
    #[error("header `{0}` is given more than once")]
    RepeatedHeader(&'static str),
    /// Several clusters, and none was named.
    #[error("header `{CLUSTER_HEADER}` is missing; it names the cluster, and there are several")]
    MissingClusterHeader,
    /// There is nothing to proxy to (Backstage's text).
    #[error("No Clusters configured")]
    NoClusters,
    /// No cluster of that name (Backstage's text).
    #[error("Cluster '{0}' not found")]
    UnknownCluster(String),
    /// The policies, together, refuse it.
    #[error("{0}")]
    Denied(DenyReason),
    /// The API server knows no verb for this method, so no policy can judge it.
    #[error("method {0} has no Kubernetes verb, so no policy can allow it")]
    NoVerb(String),
    /// The client asks to be somebody else, and the cluster does not take that.
    #[error(
        "cluster '{0}' does not accept impersonation headers (`--as`); its configuration may allow them with `allowImpersonation: true`"
    )]
    ImpersonationRefused(ClusterName),
    /// A WebSocket from another site.
    #[error("origin `{0}` may not open a WebSocket here")]
    ForeignOrigin(String),
    /// The strategy yields no credential.
    #[error(transparent)]
    Strategy(AuthError),
    /// The strategy gave no answer.
    #[error("the cluster's authentication strategy gave no answer")]
    StrategyFailed(#[source] CallError),
    /// The API server cannot be asked.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The cluster has as many requests in flight as it may.
    #[error("cluster '{0}' has as many requests in flight as it may")]
    ClusterSaturated(ClusterName),
    /// A header that must never go up was about to. The bug is ours; the request is not sent.
    #[error("the request could not be prepared safely")]
    Tripwire(#[source] crate::headers::Tripwire),
    /// The decision log is full, and no request may go on without its record.
    #[error(transparent)]
    Unrecorded(#[from] LogFull),
    /// A credential that cannot be sent, such as a token with a line break.
    #[error("the cluster's credential cannot be sent")]
    UnusableCredential(#[source] crate::upstream::UnusableCredential),
}

impl From<RequestAuthConflict> for GateError {
    fn from(conflict: RequestAuthConflict) -> Self {
        Self::BadRequest(format!("Backstage-Kubernetes-Authorization headers conflict: {conflict}"))
    }
}

impl GateError {
    /// The answer's status, in Kubernetes' words.
    pub const fn status_reason(&self) -> StatusReason {
        match self {
            Self::UnknownRoute | Self::NoClusters | Self::UnknownCluster(_) => StatusReason::NotFound,
            Self::MethodNotAllowed(_) => StatusReason::MethodNotAllowed,
            Self::Unauthenticated(_) => StatusReason::Unauthorized,
            Self::BadRequest(_) | Self::RepeatedHeader(_) | Self::MissingClusterHeader => StatusReason::BadRequest,
            Self::Denied(_) | Self::NoVerb(_) | Self::ImpersonationRefused(_) | Self::ForeignOrigin(_) => {
                StatusReason::Forbidden
            }
            Self::Strategy(AuthError::MissingToken(_) | AuthError::Refused(_)) => StatusReason::Unauthorized,
            Self::Strategy(AuthError::Unavailable(_)) => StatusReason::BadGateway,
            Self::Strategy(AuthError::Misconfigured(_)) => StatusReason::InternalError,
            Self::StrategyFailed(CallError::DeadlineExceeded { .. }) => StatusReason::Timeout,
            Self::StrategyFailed(CallError::Saturated { .. } | CallError::Quarantined { .. })
            | Self::ClusterSaturated(_)
            | Self::Unrecorded(_) => StatusReason::ServiceUnavailable,
            Self::StrategyFailed(
                CallError::LimitReached { .. } | CallError::Trapped { .. } | CallError::Malformed { .. },
            )
            | Self::Tripwire(_)
            | Self::UnusableCredential(_) => StatusReason::InternalError,
            Self::Upstream(error) => match error {
                UpstreamError::Unreachable(_)
                | UpstreamError::Suspended { .. }
                | UpstreamError::Untrusted(_)
                | UpstreamError::BrokeOff(_)
                | UpstreamError::Redirected(_)
                | UpstreamError::Protocol(_) => StatusReason::BadGateway,
                UpstreamError::Silent(_) => StatusReason::Timeout,
                UpstreamError::NotSent => StatusReason::TooManyRequests,
            },
        }
    }

    /// Backstage's name for the error.
    const fn backstage_name(&self) -> &'static str {
        match self.status_reason() {
            StatusReason::BadRequest => "InputError",
            StatusReason::Unauthorized => "AuthenticationError",
            StatusReason::Forbidden => "NotAllowedError",
            StatusReason::NotFound => "NotFoundError",
            StatusReason::MethodNotAllowed => "MethodNotAllowedError",
            StatusReason::RequestEntityTooLarge => "PayloadTooLargeError",
            StatusReason::TooManyRequests => "TooManyRequestsError",
            StatusReason::InternalError => "InternalError",
            StatusReason::BadGateway => "BadGatewayError",
            StatusReason::ServiceUnavailable => "ServiceUnavailableError",
            StatusReason::Timeout => "GatewayTimeoutError",
        }
    }
}

/// What of the request an answer repeats.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// How errors are told on this route.
    pub manners: Manners,
    /// HTTP's method.
    pub method: &'a http::Method,
    /// The URL's path as the client sent it, without the query: a query can hold a credential.
    pub path: &'a str,
}

/// The answer that tells `error` to the caller.
pub fn failure(error: &GateError, asked: Asked<'_>) -> Response<Body> {
    let reason = error.status_reason();
    let message = error.to_string();
    let body = match asked.manners {
        Manners::Kubernetes => Status::failure(reason, message).to_json(),
        Manners::Backstage => serde_json::json!({
            "error": { "name": error.backstage_name(), "message": message },
            "request": { "method": asked.method.as_str(), "url": asked.path },
            "response": { "statusCode": reason.code() },
        })
        .to_string(),
    };
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = StatusCode::from_u16(reason.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    match reason {
        StatusReason::Unauthorized => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusReason::ServiceUnavailable | StatusReason::TooManyRequests => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        StatusReason::MethodNotAllowed => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE"));
            // What a client sends after a CONNECT or TRACE that was refused is nobody's request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    if let GateError::Upstream(UpstreamError::Suspended { retry_after })
    | GateError::StrategyFailed(CallError::Quarantined { retry_after, .. }) = error
    {
        headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.as_secs().saturating_add(1)));
    }
    response
}

/// Adds what policies have to tell the caller to the warnings that stand there, as the API server writes its own:
/// clients print each once.
pub(crate) fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    let mut told: Vec<&String> = Vec::new();
    for warning in warnings {
        if told.len() == WARNINGS_MAX {
            break;
        }
        if told.contains(&warning) {
            continue;
        }
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            headers.append(WARNING, value);
            told.push(warning);
        }
    }
}

/// Warnings on one answer: as many as fit 4 KiB, where the API server stops too.
const WARNINGS_MAX: usize = 16;

/// Names the decision on an answer.
pub fn stamp<B>(response: &mut Response<B>, id: DecisionId) {
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(DECISION_ID.clone(), value);
    }
}
