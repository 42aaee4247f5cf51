//! The admin routes: what there is, and by which method.

use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use serde_json::json;

use super::body::{self, Body};
use super::control::Control;
use super::guard::{self, Exposure};
use super::{AdminState, StatusBody, console, decisions};
use crate::log_level;
use crate::metrics::text;

/// What there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Route {
    Livez,
    Readyz,
    Status,
    Metrics,
    Decisions,
    LogLevel,
    Console,
    Try,
}

const ROUTES: [(&str, Route); 8] = [
    ("/", Route::Console),
    ("/livez", Route::Livez),
    ("/readyz", Route::Readyz),
    ("/status", Route::Status),
    ("/metrics", Route::Metrics),
    ("/decisions", Route::Decisions),
    ("/log-level", Route::LogLevel),
    ("/try", Route::Try),
];

impl Route {
    /// The methods that it takes, as `Allow` says them.
    const fn methods(self) -> &'static str {
        match self {
            Self::Console | Self::Livez | Self::Readyz | Self::Status | Self::Metrics | Self::Decisions => "GET, HEAD",
            Self::Try => "POST",
            Self::LogLevel => "GET, HEAD, PUT",
        }
    }
}

impl AdminState {
    /// Answers one request.
    pub(super) async fn respond<B>(&self, request: Request<B>, exposure: Exposure) -> Response<Body>
    where
        B: hyper::body::Body<Data: Send> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Err((status, why)) = guard::check(request.headers(), exposure) {
            return body::refusal(status, why);
        }
        if let (Some(control), Some(handle)) = (Control::of(request.uri().path()), &self.sources.control) {
            return control.respond(handle, request).await;
        }
        let path = request.uri().path();
        let Some((_, route)) = ROUTES.iter().find(|(known, _)| *known == path) else {
            let known: Vec<_> = ROUTES.iter().map(|(path, _)| *path).chain(Control::PATHS).collect();
            return body::refusal(StatusCode::NOT_FOUND, format!("no such path; known are {}", known.join(", ")));
        };
        let method = request.method().clone();
        if !route.methods().split(", ").any(|known| known == method.as_str()) {
            let why = format!("the method is not allowed here: use {}", route.methods());
            let mut response = body::refusal(StatusCode::METHOD_NOT_ALLOWED, why);
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(route.methods()));
            return response;
        }
        match route {
            Route::Console => console::page(),
            Route::Try => match guard::check_post(request.headers()) {
                Ok(()) => self.sources.trials.respond(request.into_body()).await,
                Err((status, why)) => body::refusal(status, why),
            },
            Route::Livez => body::text(StatusCode::OK, "ok\n".to_owned()),
            Route::Readyz => self.readyz(request.uri().query()),
            Route::Status => self.status(),
            Route::Metrics => match (self.sources.metrics)() {
                Ok(text) => body::whole(StatusCode::OK, text::CONTENT_TYPE, text.into()),
                Err(_) => body::refusal(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written as text"),
            },
            Route::Decisions => decisions::respond(&self.sources.recent, request.uri().query(), request.headers()),
            Route::LogLevel if method == Method::PUT => set_log_level(request.into_body()).await,
            Route::LogLevel => log_level_now(),
        }
    }

    fn readyz(&self, query: Option<&str>) -> Response<Body> {
        let readiness = self.readiness();
        let unready: Vec<_> = readiness.iter().filter_map(|(_, why)| *why).collect();
        let status = if unready.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        // As the API server's own: `?verbose` names each check.
        if query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose"))) {
            let lines = readiness.map(|(name, why)| match why {
                None => format!("[+] {name} ok\n"),
                Some(why) => format!("[-] {name} failed: {why}\n"),
            });
            let verdict = if unready.is_empty() { "ready\n" } else { "not ready\n" };
            return body::text(status, lines.concat() + verdict);
        }
        if unready.is_empty() {
            return body::text(status, "ok\n".to_owned());
        }
        body::text(status, format!("not ready: {}\n", unready.join("; ")))
    }

    fn status(&self) -> Response<Body> {
        let reload = std::sync::Arc::clone(&self.sources.reload.borrow());
        let body = StatusBody {
            generation: reload.generation,
            plugins: &reload.plugins,
            last_reload: reload.last_reload.as_ref(),
            pinned: reload.pinned.as_ref(),
            kept_generations: &reload.kept_generations,
            reloads: &reload.reloads,
            compilations: reload.compilations,
            clusters: (self.sources.clusters)(),
            credential_cache: (self.sources.credentials)(),
            configuration: (self.sources.configuration)(),
        };
        body::json(StatusCode::OK, &body)
    }
}

fn log_level_now() -> Response<Body> {
    match log_level::current() {
        Some(level) => body::json(StatusCode::OK, &json!({ "level": level })),
        None => body::refusal(StatusCode::NOT_FOUND, log_level::NotChanged::NoLog.to_string()),
    }
}

async fn set_log_level<B>(given: B) -> Response<Body>
where
    B: hyper::body::Body + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Ok(given) = body::read(given, log_level::FILTER_BYTES_MAX).await else {
        let why = format!("the body is the filter alone, with at most {} bytes", log_level::FILTER_BYTES_MAX);
        return body::refusal(StatusCode::PAYLOAD_TOO_LARGE, why);
    };
    let Ok(filter) = std::str::from_utf8(&given) else {
        return body::refusal(StatusCode::BAD_REQUEST, "the body is not text");
    };
    match log_level::set(filter) {
        Ok(()) => {
            tracing::warn!(level = filter.trim(), "the log level was changed");
            log_level_now()
        }
        Err(error @ log_level::NotChanged::Invalid(_)) => body::refusal(StatusCode::BAD_REQUEST, error.to_string()),
        Err(error @ log_level::NotChanged::NoLog) => body::refusal(StatusCode::NOT_FOUND, error.to_string()),
    }
}
