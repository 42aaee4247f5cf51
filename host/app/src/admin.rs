//! The admin listener: is it alive, is it ready, what does it serve.
//!
//! It stands apart from the data plane, on its own address, so that a probe needs no
//! token and a full data plane does not starve it. It reads what others tell it and decides nothing; what changes something is
//! in [`control`].
//!
//! Promise: no answer holds a credential or a cluster's URL.

mod control;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Serialize, Serializer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};
use witgate_core::{ClusterName, Generation, PluginName};
use witgate_plugin::CompilationCounts;

use crate::credential_cache::CacheStatus;
use crate::plugins::reload::ReloadHandle;
use crate::plugins::status::{LastReload, Pinned, PluginStatus, ReloadRecord, ReloadStatus};
use control::Control;

/// What the admin routes tell.
pub(crate) struct AdminState {
    listening: AtomicBool,
    draining: AtomicBool,
    reload: watch::Receiver<Arc<ReloadStatus>>,
    /// Where reloads and rollbacks are asked for; none where nobody reloads.
    reload_handle: Option<ReloadHandle>,
    clusters: Box<dyn Fn() -> Vec<ClusterStatus> + Send + Sync>,
    credentials: Box<dyn Fn() -> CacheStatus + Send + Sync>,
}

/// One cluster, as `/status` shows it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatus {
    /// Its name.
    #[serde(serialize_with = "as_text")]
    pub(crate) name: ClusterName,
    /// The strategy that yields its credential.
    pub(crate) auth_provider: PluginName,
    /// Why it cannot be served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

fn as_text<S: Serializer>(name: &ClusterName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(name)
}

/// The body of `/status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody<'a> {
    generation: Generation,
    plugins: &'a [PluginStatus],
    last_reload: Option<&'a LastReload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<&'a Pinned>,
    kept_generations: &'a [Generation],
    reloads: &'a [ReloadRecord],
    compilations: CompilationCounts,
    clusters: Vec<ClusterStatus>,
    credential_cache: CacheStatus,
}

impl AdminState {
    /// A state that is not ready yet. `clusters` and `credentials` are asked at each look at `/status`, and must not wait.
    pub(crate) fn new(
        reload: watch::Receiver<Arc<ReloadStatus>>,
        clusters: impl Fn() -> Vec<ClusterStatus> + Send + Sync + 'static,
        credentials: impl Fn() -> CacheStatus + Send + Sync + 'static,
    ) -> Self {
        Self {
            listening: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            reload,
            reload_handle: None,
            clusters: Box::new(clusters),
            credentials: Box::new(credentials),
        }
    }

    /// The same state, with the routes that reload and roll back.
    pub(crate) fn with_control(mut self, handle: ReloadHandle) -> Self {
        self.reload_handle = Some(handle);
        self
    }

    /// The data plane takes connections from now on.
    pub(crate) fn data_plane_listens(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The gate is stopping: `/readyz` fails from now on, so that nobody sends it more.
    pub(crate) fn drain_begins(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What keeps the gate from being ready; nothing when it is.
    fn unready(&self) -> Vec<&'static str> {
        let reasons = [
            (self.draining.load(Ordering::Acquire), "the gate is draining"),
            (self.reload.borrow().generation == Generation(0), "no generation of plug-ins serves yet"),
            (!self.listening.load(Ordering::Acquire), "the data plane does not listen yet"),
        ];
        reasons.into_iter().filter_map(|(holds, reason)| holds.then_some(reason)).collect()
    }

    fn status(&self) -> Response<Full<Bytes>> {
        let reload = Arc::clone(&self.reload.borrow());
        let body = StatusBody {
            generation: reload.generation,
            plugins: &reload.plugins,
            last_reload: reload.last_reload.as_ref(),
            pinned: reload.pinned.as_ref(),
            kept_generations: &reload.kept_generations,
            reloads: &reload.reloads,
            compilations: reload.compilations,
            clusters: (self.clusters)(),
            credential_cache: (self.credentials)(),
        };
        json_response(StatusCode::OK, &body)
    }

    /// Answers one request. Only its method and path count.
    fn respond(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let answer: fn(&Self) -> Response<Full<Bytes>> = match path {
            "/livez" => |_| text_response(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => |state| match state.unready() {
                reasons if reasons.is_empty() => text_response(StatusCode::OK, "ok\n".to_owned()),
                reasons => {
                    text_response(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {}\n", reasons.join("; ")))
                }
            },
            "/status" => Self::status,
            _ => {
                let message = format!("no such path; known are {}", PATHS.join(", "));
                return json_response(StatusCode::NOT_FOUND, &json!({ "error": message }));
            }
        };
        if method == Method::GET || method == Method::HEAD {
            return answer(self);
        }
        let message = json!({ "error": "the method is not allowed here: use GET" });
        let mut response = json_response(StatusCode::METHOD_NOT_ALLOWED, &message);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        response
    }
}

/// Answers the admin routes until `shutdown` is over, then lets requests in flight end.
pub(crate) async fn serve(listener: TcpListener, state: Arc<AdminState>, shutdown: impl Future<Output = ()> + Send) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: trying again at once would only burn the processor.
                warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            debug!("the admin listener has its {CONNECTIONS_MAX} connections");
            continue;
        };
        let connection = serve_connection(stream, Arc::clone(&state), stopping.clone());
        connections.spawn(async move {
            // A client that reads slowly, or never, must not keep its slot.
            if tokio::time::timeout(CONNECTION_AGE_MAX, connection).await.is_err() {
                debug!("an admin connection is closed at its greatest age");
            }
            drop(slot);
        });
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, ended).await.is_err() {
        debug!("admin connections are cut off");
    }
}

/// Serves one connection to its end, which is near once the sender of `stopping` is gone.
async fn serve_connection(stream: TcpStream, state: Arc<AdminState>, mut stopping: watch::Receiver<()>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let response = match (Control::of(request.uri().path()), &state.reload_handle) {
                (Some(control), Some(handle)) => control.respond(handle, request).await,
                (Some(_) | None, _) => state.respond(request.method(), request.uri().path()),
            };
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // It also ends a connection that is idle between two requests.
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an admin connection broke off");
    }
}

fn text_response(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", text.into())
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(body) {
        Ok(mut bytes) => {
            bytes.push(b'\n');
            response(status, "application/json", bytes.into())
        }
        Err(_) => text_response(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written as JSON\n".to_owned()),
    }
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const PATHS: &[&str] = &["/livez", "/readyz", "/status", Control::PATHS[0], Control::PATHS[1]];
/// Connections at once; a further one is closed, as a probe should rather fail than wait.
const CONNECTIONS_MAX: usize = 64;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 64;
const BUFFER_BYTES_MAX: usize = 32 << 10;
/// How long a connection may last, however much it is used.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(600);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use witgate_core::{Digest, PolicyMode};
    use witgate_plugin::{Isolation, PluginKind};

    use super::*;
    use crate::plugins::status::{Cause, Phases, ReloadResult, StartWord};

    /// Goal: a probe learns whether the gate lives and is ready, and why not. Method: the states of a life, one after the other.
    #[tokio::test]
    async fn readiness_follows_the_life_of_the_gate() {
        let (told, reload) = watch::channel(Arc::default());
        let state = AdminState::new(reload, Vec::new, CacheStatus::default);
        check(&state, "GET", "/livez", "200 ok\n").await;
        let unready = "503 not ready: no generation of plug-ins serves yet; the data plane does not listen yet\n";
        check(&state, "GET", "/readyz", unready).await;
        told.send_replace(Arc::new(ReloadStatus { generation: Generation(1), ..ReloadStatus::default() }));
        check(&state, "GET", "/readyz", "503 not ready: the data plane does not listen yet\n").await;
        state.data_plane_listens();
        check(&state, "GET", "/readyz", "200 ok\n").await;
        state.drain_begins();
        check(&state, "GET", "/readyz", "503 not ready: the gate is draining\n").await;
        check(&state, "GET", "/livez", "200 ok\n").await;
    }

    /// Goal: what is not there, and what may not be done, is said as JSON. Method: rows.
    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let (_told, reload) = watch::channel(Arc::default());
        let state = AdminState::new(reload, Vec::new, CacheStatus::default);
        let unknown =
            "404 {\n  \"error\": \"no such path; known are /livez, /readyz, /status, /reload, /rollback\"\n}\n";
        check(&state, "GET", "/", unknown).await;
        check(&state, "POST", "/status/", unknown).await;
        let refused = "405 {\n  \"error\": \"the method is not allowed here: use GET\"\n}\n";
        check(&state, "POST", "/status", refused).await;
        check(&state, "DELETE", "/livez", refused).await;
        assert_eq!(state.respond(&Method::PUT, "/readyz").headers()[ALLOW], "GET, HEAD");
    }

    /// Goal: `/status` is as it is documented. Method: a snapshot of one with all that it can hold.
    #[tokio::test]
    async fn status_tells_plugins_and_clusters() {
        let serving = PluginStatus {
            name: PluginName::try_from("read-only").unwrap(),
            kind: Some(PluginKind::Policy),
            digest: Some(Digest::of(b"abc").to_string()),
            contract: Some("auth@0.1.0".to_owned()),
            mode: Some(PolicyMode::Enforce),
            isolation: Some(Isolation::Fresh),
            start: Some(StartWord::ConfiguredEach),
            start_reason: Some("it drops data".to_owned()),
            generation: Some(Generation(7)),
            builtin: false,
            error: None,
        };
        let refused = PluginStatus {
            name: PluginName::try_from("torn").unwrap(),
            kind: None,
            digest: None,
            contract: None,
            mode: None,
            isolation: None,
            start: None,
            start_reason: None,
            generation: None,
            builtin: false,
            error: Some("torn.wasm: not a component".to_owned()),
        };
        let last_reload = LastReload {
            time: "2026-01-01T00:00:00Z".to_owned(),
            result: ReloadResult::Refused,
            error: Some("torn.wasm: not a component".to_owned()),
        };
        let record = ReloadRecord {
            number: 9,
            time: "2026-01-01T00:00:00Z".to_owned(),
            cause: Cause::Changed,
            result: ReloadResult::Refused,
            generation: Generation(7),
            changes: None,
            phases: Phases {
                settle: Duration::from_millis(50),
                scan: Duration::from_micros(1234),
                ..Phases::default()
            },
            error: Some("torn.wasm: not a component".to_owned()),
        };
        let pinned = Pinned { content_of: Generation(5), since: "2026-01-01T00:00:00Z".to_owned() };
        let status = ReloadStatus {
            generation: Generation(7),
            plugins: vec![serving, refused],
            last_reload: Some(last_reload),
            pinned: Some(pinned),
            kept_generations: vec![Generation(4), Generation(6)],
            reloads: vec![record],
            compilations: CompilationCounts { compiled: 1, from_disk: 2, from_memory: 3 },
        };
        let (_told, reload) = watch::channel(Arc::new(status));
        let clusters = || {
            let cluster = |name, error: Option<&str>| ClusterStatus {
                name: ClusterName::try_from(name).unwrap(),
                auth_provider: PluginName::try_from("oidc").unwrap(),
                error: error.map(str::to_owned),
            };
            vec![cluster("one", None), cluster("two", Some("no provider"))]
        };
        let credentials = || CacheStatus { entries: 1, hits: 2, misses: 3, refreshes: 4, failures: 5, rejections: 6 };
        let state = AdminState::new(reload, clusters, credentials);
        insta::assert_snapshot!(answer(&state, "GET", "/status").await, @r#"
        200 {
          "generation": 7,
          "plugins": [
            {
              "name": "read-only",
              "kind": "policy",
              "digest": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
              "contract": "auth@0.1.0",
              "mode": "enforce",
              "isolation": "fresh",
              "start": "configured-each",
              "startReason": "it drops data",
              "generation": 7,
              "builtin": false
            },
            {
              "name": "torn",
              "builtin": false,
              "error": "torn.wasm: not a component"
            }
          ],
          "lastReload": {
            "time": "2026-01-01T00:00:00Z",
            "result": "refused",
            "error": "torn.wasm: not a component"
          },
          "pinned": {
            "contentOf": 5,
            "since": "2026-01-01T00:00:00Z"
          },
          "keptGenerations": [
            4,
            6
          ],
          "reloads": [
            {
              "number": 9,
              "time": "2026-01-01T00:00:00Z",
              "cause": "changed",
              "result": "refused",
              "generation": 7,
              "phasesMs": {
                "settle": 50.0,
                "scan": 1.234,
                "load": 0.0,
                "build": 0.0
              },
              "error": "torn.wasm: not a component"
            }
          ],
          "compilations": {
            "compiled": 1,
            "fromDisk": 2,
            "fromMemory": 3
          },
          "clusters": [
            {
              "name": "one",
              "authProvider": "oidc"
            },
            {
              "name": "two",
              "authProvider": "oidc",
              "error": "no provider"
            }
          ],
          "credentialCache": {
            "entries": 1,
            "hits": 2,
            "misses": 3,
            "refreshes": 4,
            "failures": 5,
            "rejections": 6
          }
        }
        "#);
    }

    /// Goal: it answers over the wire, keeps the connection, and ends when it is told to. Method: one client with two
    /// requests, a shutdown, and the end of the stream.
    #[tokio::test]
    async fn it_serves_and_stops() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (_told, reload) = watch::channel(Arc::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let state = Arc::new(AdminState::new(reload, Vec::new, CacheStatus::default));
        let serving = tokio::spawn(serve(listener, state, async { drop(stopped.await) }));

        let mut client = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"ok\n") {
                head.push(client.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
        }
        stop.send(()).unwrap();
        tokio::time::timeout(SHUTDOWN_GRACE / 2, serving).await.expect("an idle connection is not waited for").unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }

    #[track_caller]
    fn check<'a>(
        state: &'a AdminState,
        method: &'a str,
        path: &'a str,
        expected: &'a str,
    ) -> impl Future<Output = ()> + use<'a> {
        let place = std::panic::Location::caller();
        async move { assert_eq!(answer(state, method, path).await, expected, "at {place}") }
    }

    async fn answer(state: &AdminState, method: &str, path: &str) -> String {
        let response = state.respond(&method.parse().unwrap(), path);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{status} {}", String::from_utf8_lossy(&body))
    }
}
