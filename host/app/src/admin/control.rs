//! The admin routes that change what serves: `POST /reload` and `POST /rollback`.
//!
//! Whoever reaches the admin listener may use them, so it belongs on an address that only operators reach. A browser is
//! turned away, even on the same machine: any page that is open in it could send these requests.

use std::time::Duration;

use bytes::Buf as _;
use http::header::{ALLOW, HeaderValue, ORIGIN};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body;
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use witgate_core::{BoxError, Generation};

use super::body::{Body as Answer, json as json_response};
use crate::plugins::reload::{ReloadError, ReloadHandle};

/// A route that changes what serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Control {
    /// Reads the plug-in folder now, and ends a rollback.
    Reload,
    /// Lets an earlier generation serve again.
    Rollback,
}

/// The body of a rollback; without one, it is to the generation before the one that serves.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rollback {
    generation: Option<u64>,
}

impl Control {
    /// Its paths, for the list of those that are known.
    pub(super) const PATHS: [&'static str; 2] = ["/reload", "/rollback"];

    /// The route of `path`, where it is one of these.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/reload" => Some(Self::Reload),
            "/rollback" => Some(Self::Rollback),
            _ => None,
        }
    }

    /// Does what is asked and waits for its end.
    pub(super) async fn respond<B>(self, handle: &ReloadHandle, request: Request<B>) -> Response<Answer>
    where
        B: Body<Data: Send, Error: Into<BoxError>> + Send,
    {
        if request.method() != Method::POST {
            let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed here: use POST");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        if request.headers().contains_key(ORIGIN) {
            return refused(StatusCode::FORBIDDEN, "requests of web pages are refused here");
        }
        let outcome = match self {
            Self::Reload => {
                info!("a reload was asked for at the admin listener");
                handle.reload_now().await
            }
            Self::Rollback => match rollback(request.into_body()).await {
                Ok(Rollback { generation }) => {
                    info!(?generation, "a rollback was asked for at the admin listener");
                    handle.rollback(generation.map(Generation)).await
                }
                Err(why) => return refused(StatusCode::BAD_REQUEST, &why),
            },
        };
        match outcome {
            Ok(generation) => json_response(StatusCode::OK, &json!({ "generation": generation })),
            Err(error) => refused(status(&error), &error.to_string()),
        }
    }
}

async fn rollback<B>(body: B) -> Result<Rollback, String>
where
    B: Body<Error: Into<BoxError>>,
{
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect());
    let body = match body.await {
        Ok(Ok(body)) => body.aggregate(),
        Ok(Err(_)) => return Err(format!("the body cannot be read, or has more than {BODY_BYTES_MAX} bytes")),
        Err(_) => return Err(format!("the body did not come within {BODY_TIMEOUT:?}")),
    };
    if !body.has_remaining() {
        return Ok(Rollback::default());
    }
    let expected = r#"expected is `{"generation": 7}`, or no body for the one before"#;
    serde_json::from_reader(body.reader()).map_err(|error| format!("the body is not understood: {error}; {expected}"))
}

fn status(error: &ReloadError) -> StatusCode {
    match error {
        ReloadError::Refused(_) => StatusCode::CONFLICT,
        ReloadError::NotKept { .. } => StatusCode::NOT_FOUND,
        ReloadError::Full | ReloadError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
    }
}

fn refused(status: StatusCode, why: &str) -> Response<Answer> {
    json_response(status, &json!({ "error": why }))
}

const BODY_BYTES_MAX: usize = 4 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
