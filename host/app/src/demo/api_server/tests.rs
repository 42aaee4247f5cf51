//! The sample API server from a client's side: over TLS, with hyper, on a free port, its clock moved by hand.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::super::objects::text;
use super::super::routes::BODY_BYTES_MAX;
use super::super::watch::BOOKMARK_TICKS;
use super::*;

/// A cluster with a connection to it.
struct Client {
    server: SampleApiServer,
    connection: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

/// A watch or a log as it arrives.
struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Client {
    async fn start() -> Self {
        let server = SampleApiServer::start(SampleApiServerOptions {
            name: "staging".to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            token: Redacted::new("cluster-token".to_owned()),
            objects: SampleObjects::Staging,
            clock: Clock::ByHand,
        })
        .await
        .unwrap();
        let stream = connect(&server, b"h2").await;
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { server, connection: sender }
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<Incoming> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server.url()));
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", "Bearer cluster-token");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.connection.send_request(request.body(Full::new(body.into())).unwrap());
        tokio::time::timeout(TEST_TIMEOUT, response).await.expect("an answer comes").unwrap()
    }

    async fn call(&mut self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let content_type = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = self.send(method, path, &[("content-type", content_type)], body).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&mut self, path: &str) -> Value {
        let (status, value) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    async fn lines(&mut self, path: &str, accept: &str) -> Lines {
        let response = self.send(Method::GET, path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), StatusCode::OK);
        Lines { body: response.into_body(), rest: Vec::new() }
    }
}

impl Lines {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.drain(..=end).collect::<Vec<u8>>();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let frame =
                tokio::time::timeout(TEST_TIMEOUT, self.body.frame()).await.expect("a line or the end comes")?;
            self.rest.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
    }

    async fn event(&mut self) -> (String, Value) {
        let event: Value = serde_json::from_str(&self.next().await.expect("an event comes")).unwrap();
        (text(&event, "/type").to_owned(), event.get("object").unwrap().clone())
    }
}

async fn connect(server: &SampleApiServer, protocol: &[u8]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.authority().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let name = ServerName::from(server.addr().ip());
    TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap()
}

const TEST_TIMEOUT: Duration = Duration::from_secs(20);
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// Goal: only the cluster's own token gets in, so that the demo shows that the gate brings it. Method: one row a header.
#[tokio::test]
async fn only_the_token_of_the_cluster_gets_in() {
    let mut client = Client::start().await;
    for (header, path, expected) in [
        ("Bearer cluster-token", "/api/v1/pods", 200),
        ("Bearer cluster-token2", "/api/v1/pods", 401),
        ("Bearer ", "/api/v1/pods", 401),
        ("Basic cluster-token", "/api/v1/pods", 401),
        ("Bearer jane", "/nowhere", 401),
        ("Bearer jane", "/healthz", 200),
    ] {
        let response = client.send(Method::GET, path, &[("authorization", header)], "").await;
        assert_eq!(response.status(), expected, "{header} {path}");
    }
    client.server.stop().await;
}

/// Goal: an object lives as kubectl expects. Method: its whole life, one call a line, with the refusals on the way.
#[tokio::test]
async fn an_object_is_created_changed_and_deleted() {
    let mut client = Client::start().await;
    let all = "/api/v1/namespaces/team-a/configmaps";
    let one = "/api/v1/namespaces/team-a/configmaps/mine";
    let object = json!({ "metadata": { "name": "mine" }, "data": { "a": "1", "b": "2" } });
    let mut check = async |method: Method, path: &str, body: Value, expected: (u16, &str, &str)| {
        let (status, answer) = client.call(method.clone(), path, body).await;
        let (_, pointer, value) = expected;
        let found = answer.pointer(pointer).map(ToString::to_string);
        assert_eq!((status, found.as_deref()), (expected.0, Some(value)), "{method} {path}: {answer}");
        answer
    };

    let dry = format!("{all}?dryRun=All");
    check(Method::POST, &dry, object.clone(), (201, "/kind", r#""ConfigMap""#)).await;
    check(Method::GET, one, Value::Null, (404, "/message", r#""configmaps \"mine\" not found""#)).await;
    let created = check(Method::POST, all, object.clone(), (201, "/data/a", r#""1""#)).await;
    check(Method::POST, all, object.clone(), (409, "/reason", r#""AlreadyExists""#)).await;
    check(Method::POST, all, json!({ "metadata": { "name": "No" } }), (422, "/reason", r#""Invalid""#)).await;
    check(
        Method::POST,
        all,
        json!({ "kind": "Pod", "metadata": { "name": "x" } }),
        (400, "/reason", r#""BadRequest""#),
    )
    .await;
    let elsewhere = "/api/v1/namespaces/nowhere/configmaps";
    check(Method::POST, elsewhere, object.clone(), (404, "/message", r#""namespaces \"nowhere\" not found""#)).await;
    check(Method::PATCH, one, json!({ "data": { "a": null } }), (200, "/data", r#"{"b":"2"}"#)).await;
    check(Method::PUT, one, created, (409, "/reason", r#""Conflict""#)).await;
    check(Method::PUT, one, object, (200, "/data/a", r#""1""#)).await;
    let other = json!({ "preconditions": { "uid": "another" } });
    check(Method::DELETE, one, other, (409, "/reason", r#""Conflict""#)).await;
    check(Method::DELETE, one, Value::Null, (200, "/status", r#""Success""#)).await;
    check(Method::DELETE, one, Value::Null, (404, "/reason", r#""NotFound""#)).await;
    check(Method::DELETE, "/api/v1/namespaces/team-a", Value::Null, (200, "/status", r#""Success""#)).await;
    check(Method::GET, all, Value::Null, (200, "/items", "[]")).await;
    client.server.stop().await;
}

/// Goal: what does not fit is refused with the right code. Method: one request a row.
#[tokio::test]
async fn a_request_that_does_not_fit_is_refused() {
    let mut client = Client::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let apply = ("content-type", "application/apply-patch+yaml");
    let too_long = "x".repeat(BODY_BYTES_MAX + 1);
    for (method, path, header, body, expected) in [
        (Method::POST, maps, ("content-type", "application/yaml"), "a: 1", 415),
        (Method::POST, maps, ("content-type", "application/json"), "{", 400),
        (Method::POST, maps, ("content-type", "application/json"), too_long.as_str(), 413),
        (Method::PATCH, "/api/v1/namespaces/default/configmaps/clock", apply, "", 415),
        (Method::GET, maps, ("accept", "application/vnd.kubernetes.protobuf"), "", 406),
        (Method::GET, "/api/v1/pods?labelSelector=a+in+(b)", ("accept", "*/*"), "", 400),
        (Method::GET, "/api/v1/pods?watch=1&resourceVersion=x", ("accept", "*/*"), "", 400),
        (Method::PUT, maps, ("accept", "*/*"), "", 405),
        (Method::POST, "/version", ("accept", "*/*"), "", 405),
        (Method::GET, "/api/v1/namespaces/default/pods/ticker/log?container=x", ("accept", "*/*"), "", 400),
        (Method::GET, "/api/v1/namespaces/default/pods/ticker/exec", ("accept", "*/*"), "", 404),
    ] {
        let response = client.send(method.clone(), path, &[header], body.to_owned()).await;
        assert_eq!(response.status(), expected, "{method} {path}");
    }
    client.server.stop().await;
}

/// Goal: a watch tells each change once, in order. Method: the clock moved by hand, watched as objects and as a Table.
#[tokio::test]
async fn a_watch_tells_each_tick() {
    let mut client = Client::start().await;
    let list = client.get("/api/v1/namespaces/default/configmaps").await;
    let version = text(&list, "/metadata/resourceVersion").to_owned();
    let path = "/api/v1/namespaces/default/configmaps?watch=true&fieldSelector=metadata.name=clock";
    let mut from_now = client.lines(path, "application/json").await;
    let mut from_version = client.lines(&format!("{path}&resourceVersion={version}"), "application/json").await;
    let mut rows = client.lines(&format!("{path}&resourceVersion={version}"), TABLE).await;
    let (kind, object) = from_now.event().await;
    assert_eq!((kind.as_str(), text(&object, "/data/ticks")), ("ADDED", "1"));
    for expected in ["2", "3"] {
        client.server.tick();
        for lines in [&mut from_now, &mut from_version] {
            let (kind, object) = lines.event().await;
            assert_eq!((kind.as_str(), text(&object, "/data/ticks")), ("MODIFIED", expected));
        }
        let (kind, table) = rows.event().await;
        let columns = table.pointer("/columnDefinitions").unwrap().as_array().unwrap().len();
        let name = table.pointer("/rows/0/cells/0").unwrap().as_str().unwrap();
        assert_eq!((kind.as_str(), name, columns), ("MODIFIED", "clock", if expected == "2" { 3 } else { 0 }));
    }
    client.call(Method::DELETE, "/api/v1/namespaces/default/configmaps/clock", Value::Null).await;
    assert_eq!(from_now.event().await.0, "DELETED");
    client.server.stop().await;
    assert_eq!(from_now.next().await, None, "a stop ends the watch");
}

/// Goal: an object that changes its labels enters and leaves a watch. Method: one object, two patches.
#[tokio::test]
async fn a_watch_with_a_selector_adds_and_deletes() {
    let mut client = Client::start().await;
    let one = "/api/v1/namespaces/default/pods/ticker";
    let path = "/api/v1/namespaces/default/pods?watch=true&labelSelector=tier%3Dback&sendInitialEvents=true";
    let mut watch = client.lines(path, "application/json").await;
    let (kind, bookmark) = watch.event().await;
    let ended = bookmark.pointer("/metadata/annotations/k8s.io~1initial-events-end").cloned();
    assert_eq!((kind.as_str(), ended), ("BOOKMARK", Some(json!("true"))));
    for (tier, expected) in [(json!("back"), "ADDED"), (json!("front"), "DELETED")] {
        client.call(Method::PATCH, one, json!({ "metadata": { "labels": { "tier": tier } } })).await;
        assert_eq!(watch.event().await.0, expected);
    }
    client.server.stop().await;
}

/// Goal: a watch that is too far behind is told so and ends; one that idles gets bookmarks. Method: many ticks.
#[tokio::test]
async fn a_watch_from_long_ago_expires_and_an_idle_one_gets_bookmarks() {
    let mut client = Client::start().await;
    let path = "/api/v1/nodes?watch=true&allowWatchBookmarks=true";
    let mut idle = client.lines(path, "application/json").await;
    assert_eq!(idle.event().await.0, "ADDED");
    for _ in 0..BOOKMARK_TICKS {
        client.server.tick();
    }
    assert_eq!(idle.event().await.0, "BOOKMARK");
    for _ in 0..2000 {
        client.server.tick();
    }
    let mut old = client.lines("/api/v1/pods?watch=true&resourceVersion=1", "application/json").await;
    let (kind, status) = old.event().await;
    assert_eq!((kind.as_str(), status.pointer("/code")), ("ERROR", Some(&json!(410))));
    assert_eq!(old.next().await, None);
    client.server.stop().await;
}

/// Goal: a followed log gets a line a tick. Method: two lines from before, one from each tick after.
#[tokio::test]
async fn a_followed_log_gets_a_line_a_tick() {
    let mut client = Client::start().await;
    client.server.tick();
    let mut log = client.lines("/api/v1/namespaces/default/pods/ticker/log?follow=true&tailLines=2", "*/*").await;
    for expected in ["ticker/ticker: tick 1", "ticker/ticker: tick 2"] {
        assert_eq!(log.next().await.as_deref(), Some(expected));
    }
    client.server.tick();
    assert_eq!(log.next().await.as_deref(), Some("ticker/ticker: tick 3"));
    client.server.stop().await;
}

/// Goal: `kubectl get pods` shows rows. Method: the list as a Table; the pod of a new namespace runs a tick later.
#[tokio::test]
async fn pods_are_listed_as_a_table() {
    let mut client = Client::start().await;
    let pod = json!({ "metadata": { "name": "new" }, "spec": { "containers": [{ "name": "c" }] } });
    client.call(Method::POST, "/api/v1/namespaces/default/pods", pod).await;
    for expected in ["new 0/1 Pending 0", "new 1/1 Running 0"] {
        let path = "/api/v1/namespaces/default/pods";
        let response = client.send(Method::GET, path, &[("accept", TABLE)], "").await;
        let table: Value = serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        let cells = table.pointer("/rows/0/cells").unwrap().as_array().unwrap();
        let shown: Vec<&str> = cells.iter().take(4).map(|cell| cell.as_str().unwrap()).collect();
        assert_eq!(shown.join(" "), expected);
        client.server.tick();
    }
    client.server.stop().await;
}

/// Goal: a client without HTTP/2 is served too. Method: one request over HTTP/1.1.
#[tokio::test]
async fn http_1_is_served() {
    let client = Client::start().await;
    let stream = TokioIo::new(connect(&client.server, b"http/1.1").await);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("/healthz").header("host", "localhost").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), StatusCode::OK);
    client.server.stop().await;
    connection.await.unwrap().unwrap();
}
