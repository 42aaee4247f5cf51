//! The admin routes that change what serves: `POST /reload` and `POST /rollback`.
//!
//! Whoever reaches the admin listener may use them, so it belongs on an address that only operators reach. Of a browser's
//! requests only those of the console's own page get here ([`guard`]).

use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Body;
use serde::Deserialize;
use serde_json::json;
use tracing::info;
use witgate_core::{BoxError, Generation};

use super::body::{self, Body as Answer, json as json_response};
use super::guard;
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
        if let Err((status, why)) = guard::check_post(request.headers()) {
            return refused(status, why);
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
    let body = body::read(body, BODY_BYTES_MAX).await?;
    if body.is_empty() {
        return Ok(Rollback::default());
    }
    let expected = r#"expected is `{"generation": 7}`, or no body for the one before"#;
    serde_json::from_slice(&body).map_err(|error| format!("the body is not understood: {error}; {expected}"))
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
