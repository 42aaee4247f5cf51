//! The admin listener: is it alive, is it ready, what does it serve, what did it decide.
//!
//! It stands apart from the data plane, on its own address, so that a probe needs no
//! token and a full data plane does not starve it. It reads what others tell it and decides nothing; what changes
//! something is in [`control`], and the log's level.
//!
//! [`listen`] takes connections and says who may open one, [`guard`] who of those may ask from a browser, [`routes`] what there is;
//! [`console`] is the page that shows it to people, and [`trial`] asks the policies what nobody asked.
//!
//! Promise: no answer holds a credential or a cluster's URL.

mod body;
mod console;
mod control;
mod decisions;
mod guard;
pub(crate) mod listen;
mod routes;
pub(crate) mod trial;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Serialize, Serializer};
use tokio::sync::watch;
use witgate_core::{ClusterName, Generation, PluginName};
use witgate_plugin::CompilationCounts;

use crate::configured::ConfigurationStatus;
use crate::credential_cache::CacheStatus;
use crate::decision_log::recent::Recent;
use crate::plugins::reload::ReloadHandle;
use crate::plugins::status::{LastReload, Pinned, PluginStatus, ReloadRecord, ReloadStatus};
use trial::Trials;

/// What the admin routes tell.
pub(crate) struct AdminState {
    listening: AtomicBool,
    draining: AtomicBool,
    sources: AdminSources,
}

/// Whom the admin routes ask. All are asked at each look, and must not wait.
pub(crate) struct AdminSources {
    /// What serves, and how the last reload ended.
    pub(crate) reload: watch::Receiver<Arc<ReloadStatus>>,
    /// The clusters.
    pub(crate) clusters: Box<dyn Fn() -> Vec<ClusterStatus> + Send + Sync>,
    /// The credential caches.
    pub(crate) credentials: Box<dyn Fn() -> CacheStatus + Send + Sync>,
    /// The configuration, where there is something to say of it.
    pub(crate) configuration: Box<dyn Fn() -> Option<ConfigurationStatus> + Send + Sync>,
    /// The text of `/metrics`.
    pub(crate) metrics: Box<dyn Fn() -> Result<String, std::fmt::Error> + Send + Sync>,
    /// Whether requests are refused because the decision log is full.
    pub(crate) log_refuses: Box<dyn Fn() -> bool + Send + Sync>,
    /// The last decisions.
    pub(crate) recent: Arc<Recent>,
    /// Asks the policies that serve about requests that nobody sends.
    pub(crate) trials: Trials,
    /// Where reloads and rollbacks are asked for; none where nobody reloads.
    pub(crate) control: Option<ReloadHandle>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration: Option<ConfigurationStatus>,
}

impl AdminState {
    /// A state that is not ready yet.
    pub(crate) fn new(sources: AdminSources) -> Self {
        Self { listening: AtomicBool::new(false), draining: AtomicBool::new(false), sources }
    }

    /// The data plane takes connections from now on.
    pub(crate) fn data_plane_listens(&self) {
        self.listening.store(true, Ordering::Release);
    }

    /// The gate is stopping: `/readyz` fails from now on, so that nobody sends it more.
    pub(crate) fn drain_begins(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// What it takes to be ready, each with why it is not so.
    fn readiness(&self) -> [(&'static str, Option<&'static str>); 4] {
        let check = |name, fails: bool, why| (name, fails.then_some(why));
        let generation = self.sources.reload.borrow().generation;
        [
            check("drain", self.draining.load(Ordering::Acquire), "the gate is draining"),
            check("plugins", generation == Generation(0), "no generation of plug-ins serves yet"),
            check("listener", !self.listening.load(Ordering::Acquire), "the data plane does not listen yet"),
            check(
                "decision-log",
                (self.sources.log_refuses)(),
                "the decision log is full, and no request goes without it",
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::ALLOW;
    use http::{Method, Request};
    use http_body_util::{BodyExt as _, Full};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use witgate_core::{Digest, PolicyMode};
    use witgate_plugin::{Isolation, PluginKind};

    use super::*;
    use crate::plugins::call_facts::CallFacts;
    use crate::plugins::status::{Cause, Phases, ReloadResult, StartWord};

    /// Goal: a probe learns whether the gate lives and is ready, and why not. Method: the states of a life, one after the other.
    #[tokio::test]
    async fn readiness_follows_the_life_of_the_gate() {
        let (told, reload) = watch::channel(Arc::default());
        let state = AdminState::new(sources(reload));
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
        let state = AdminState::new(sources(reload));
        let unknown = "404 {\n  \"error\": \"no such path; known are /, /livez, /readyz, /status, /metrics, /decisions, /log-level, /try, /reload, /rollback\"\n}\n";
        check(&state, "GET", "/index.html", unknown).await;
        check(&state, "POST", "/status/", unknown).await;
        let refused = "405 {\n  \"error\": \"the method is not allowed here: use GET, HEAD\"\n}\n";
        check(&state, "POST", "/status", refused).await;
        check(&state, "DELETE", "/livez", refused).await;
        let request = Request::put("/readyz").body(Full::<bytes::Bytes>::default()).unwrap();
        assert_eq!(state.respond(request, guard::Exposure::AnyName).await.headers()[ALLOW], "GET, HEAD");
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
            reference: None,
            error: None,
            calls: CallFacts::default(),
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
            reference: None,
            error: Some("torn.wasm: not a component".to_owned()),
            calls: CallFacts::default(),
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
        let clusters = Box::new(|| {
            let cluster = |name, error: Option<&str>| ClusterStatus {
                name: ClusterName::try_from(name).unwrap(),
                auth_provider: PluginName::try_from("oidc").unwrap(),
                error: error.map(str::to_owned),
            };
            vec![cluster("one", None), cluster("two", Some("no provider"))]
        });
        let credentials =
            Box::new(|| CacheStatus { entries: 1, hits: 2, misses: 3, refreshes: 4, failures: 5, rejections: 6 });
        let state = AdminState::new(AdminSources { clusters, credentials, ..sources(reload) });
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
        let state = Arc::new(AdminState::new(sources(reload)));
        let serving =
            tokio::spawn(listen::serve(listen::Listener::Loopback(listener), state, async { drop(stopped.await) }));

        let mut client = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            client.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"ok\n") {
                head.push(client.read_u8().await.unwrap());
            }
            assert!(head.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&head));
        }
        stop.send(()).unwrap();
        tokio::time::timeout(listen::SHUTDOWN_GRACE / 2, serving)
            .await
            .expect("an idle connection is not waited for")
            .unwrap();
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

    /// Sources that tell nothing of their own.
    fn sources(reload: watch::Receiver<Arc<ReloadStatus>>) -> AdminSources {
        AdminSources {
            reload,
            clusters: Box::new(Vec::new),
            credentials: Box::new(CacheStatus::default),
            configuration: Box::new(|| None),
            metrics: Box::new(|| Ok(String::new())),
            log_refuses: Box::new(|| false),
            recent: Arc::default(),
            trials: Trials::new(crate::snapshot::empty()),
            control: None,
        }
    }

    async fn answer(state: &AdminState, method: &str, path: &str) -> String {
        let method: Method = method.parse().unwrap();
        let request = Request::builder().method(method).uri(path).body(Full::<bytes::Bytes>::default()).unwrap();
        let response = state.respond(request, guard::Exposure::AnyName).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        format!("{status} {}", String::from_utf8_lossy(&body))
    }
}
