//! Group B: what the API server sees of a request, and the caller of an answer.

use insta::assert_snapshot;
use sha2::Digest as _;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;

use crate::NOTHING;

#[tokio::test]
async fn b1_path_and_query_arrive_byte_for_byte() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane").get("/api/v1/namespaces?a=1&b=%2F").await;

    assert_eq!(api_server.heard(), ["GET /api/v1/namespaces?a=1&b=%2F"]);
}

#[tokio::test]
async fn b2_an_unusual_status_passes_with_its_body() {
    let api_server = ApiServer::replying([Reply::json(299, r#"{"kind":"odd"}"#)]).start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client_as("jane").get("/api/v1/namespaces").await;

    assert_eq!(answer.summary(), r#"299 {"kind":"odd"}"#);
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn b3_an_error_of_the_api_server_passes_as_it_is() {
    let status = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
    let api_server = ApiServer::replying([Reply::json(404, status)]).start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client_as("jane").get("/api/v1/namespaces/none").await;

    assert_eq!((answer.status(), answer.body()), (404, status));
}

#[tokio::test]
async fn b4_a_redirect_is_neither_followed_nor_forwarded() {
    let canary = ApiServer::start().await;
    for status in [301, 302, 303, 307, 308] {
        let redirect = Reply::new(status, "").header("location", &canary.url());
        let api_server = ApiServer::replying([redirect]).start().await;
        let gate = Gate::builder(&api_server).start().await;

        let answer = gate.client_as("jane").get("/api/v1/namespaces").await;

        assert_eq!(answer.status(), 502, "{status}");
        assert_eq!(answer.header("location"), None);
        assert_eq!(answer.json()["error"]["name"], "BadGatewayError");
    }
    assert_eq!(canary.connections_count(), 0);
}

#[tokio::test]
async fn b5_bodies_of_every_method_and_type_arrive_as_they_are() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let cases = [
        ("POST", "application/json", r#"{"kind":"Pod"}"#),
        ("PUT", "application/yaml", "kind: Pod\n"),
        ("PATCH", "application/strategic-merge-patch+json", r#"{"spec":{}}"#),
        ("PATCH", "application/apply-patch+yaml", "kind: Pod\n"),
        ("DELETE", "application/vnd.kubernetes.protobuf", "k8s\0\n\x12"),
        ("POST", "application/x-odd; charset=utf-8", ""),
    ];

    for (method, media_type, body) in cases {
        let call = jane.call(method, "/api/v1/namespaces/dev/pods/p").header("content-type", media_type);
        let answer = call.body(body).await;
        assert_eq!(answer.status(), 200, "{method} {media_type}: {}", answer.body());
    }

    let arrived = api_server.requests();
    let arrived: Vec<_> = arrived
        .iter()
        .map(|request| (request.method.as_str(), request.header("content-type").unwrap(), request.body.text()))
        .collect();
    assert_eq!(arrived, cases);
}

#[tokio::test]
async fn b6_a_large_body_passes() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let body: Vec<u8> = (0..30_000_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();

    let answer = gate.client_as("jane").post("/api/v1/namespaces/dev/configmaps", body.clone()).await;

    assert_eq!(answer.status(), 200);
    let request = api_server.only_request();
    assert_eq!(request.body.bytes_count, body.len());
    assert_eq!(request.body.digest, Some(sha2::Sha256::digest(&body).into()));
}

/// The gate holds no body back: its first bytes are at the API server before the last are sent.
#[tokio::test]
async fn b6_a_body_is_streamed() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let (call, writer) = jane.call("POST", "/api/v1/namespaces/dev/configmaps").streamed_body();

    let (answer, ()) = tokio::join!(call.into_future(), async {
        writer.write("first").await;
        let first_is_there = |requests: &[_]| requests.iter().any(|request| arrived_count(request) == 5);
        api_server.wait_for("the first bytes alone", first_is_there).await;
        writer.write(" and last").await;
        drop(writer);
    });

    assert_eq!(answer.status(), 200);
    assert_eq!(api_server.only_request().body.text(), "first and last");
}

fn arrived_count(request: &witgate_tests::api_server::Request) -> usize {
    request.body.bytes_count
}

/// A caller who breaks off must not leave a half-written object that looks whole.
#[tokio::test]
async fn a_body_that_breaks_off_breaks_off_upstream() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let (call, writer) = jane.call("POST", "/api/v1/namespaces/dev/configmaps").streamed_body();

    let (answer, ()) = tokio::join!(call.try_open(), async {
        writer.write("half").await;
        api_server.wait_for("the request", |requests| !requests.is_empty()).await;
        writer.abort().await;
    });

    assert!(answer.is_err());
    let broken = |requests: &[witgate_tests::api_server::Request]| requests.iter().all(|request| request.body.broken);
    api_server.wait_for("the break", broken).await;
}

#[tokio::test]
async fn b9_the_mount_alone_is_the_root() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");

    jane.get("").await;
    jane.get("/").await;
    jane.get("?timeout=1s").await;

    assert_eq!(api_server.heard(), ["GET /", "GET /", "GET /?timeout=1s"]);
}

#[tokio::test]
async fn b11_escapes_stay_as_they_are() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let paths = [
        "/echo/c/%7Bd%7D/e%20f",
        "/echo/system:x",
        "/echo/system%3Ax",
        "/echo/%C3%A4",
        "/echo/%e4%bd%a0",
        "/echo/~a.b-c_d",
    ];

    for path in paths {
        assert_eq!(jane.get(path).await.status(), 200, "{path}");
    }

    assert_eq!(api_server.heard(), paths.map(|path| format!("GET {path}")));
}

#[tokio::test]
async fn b11_and_b12_an_ambiguous_path_is_400() {
    let api_server = ApiServer::start().await;
    let prefixed = Cluster::at_url("prefixed", &format!("{}/prefix", api_server.url()), "anonymous");
    let gate = Gate::builder(&api_server).cluster(prefixed).start().await;
    let backstage = gate.caller("jane").backstage("prefixed");
    let kubernetes = gate.caller("jane").kubernetes("prefixed");
    let paths = [
        "/echo/a%2Fb",
        "/echo/a%2fb",
        "/echo/a//b",
        "//echo",
        "/x/../../../../echo",
        "/x/..",
        "/x/./y",
        "/x/%2e%2e/y",
        "/x/%2E./y",
        "/x/%2e/y",
        "/x/%5C/y",
        "/x/a%00b",
        "/x/a%0Ab",
        "/x/%ff",
        "/x/%252e",
        "/x/%zz",
        "/x/%2",
    ];

    for path in paths {
        for caller in [&backstage, &kubernetes] {
            let answer = caller.get(path).await;
            assert_eq!(answer.status(), 400, "{path}: {}", answer.body());
        }
    }

    assert_eq!(api_server.heard(), NOTHING);
    assert_snapshot!(backstage.get("/x/%2e%2e/y").await.summary(), @r#"400 {"error":{"name":"InputError","message":"segment `%2e%2e` in the path"},"request":{"method":"GET","url":"/api/kubernetes/proxy/x/%2e%2e/y"},"response":{"statusCode":400}}"#);
    assert_snapshot!(kubernetes.get("/x/%2e%2e/y").await.summary(), @r#"400 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"segment `%2e%2e` in the path","reason":"BadRequest","code":400}"#);
}

#[tokio::test]
async fn a_cluster_url_with_a_path_keeps_it_before_the_request_s() {
    let api_server = ApiServer::start().await;
    for prefix in ["/prefix", "/prefix/"] {
        let cluster = Cluster::at_url("one", &format!("{}{prefix}", api_server.url()), "anonymous");
        let gate = Gate::without_clusters().cluster(cluster).start().await;
        gate.client_as("jane").get("/api/v1/pods?limit=1").await;
    }

    assert_eq!(api_server.heard(), ["GET /prefix/api/v1/pods?limit=1", "GET /prefix/api/v1/pods?limit=1"]);
}

#[tokio::test]
async fn b14_host_is_the_api_server_s() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane").get("/version").await;

    assert_eq!(api_server.only_request().header("host"), Some(api_server.address().to_string().as_str()));
}

#[tokio::test]
async fn b15_headers_that_are_the_gate_s_or_the_browser_s_stay_here() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let cookie = secret("cookie of a caller");

    gate.client_as("jane")
        .get("/version")
        .header("cookie", &cookie)
        .header("x-forwarded-for", "10.1.2.3")
        .header("x-forwarded-host", "gate.example")
        .header("forwarded", "for=10.1.2.3")
        .header("backstage-kubernetes-anything", "x")
        .header("accept", "application/json")
        .header("user-agent", "kubectl/v1.32.4")
        .await;

    let request = api_server.only_request();
    let mut names = request.header_names();
    names.sort_unstable();
    assert_eq!(names, ["accept", "authorization", "host", "user-agent"]);
}

#[tokio::test]
async fn b16_impersonation_by_a_caller_is_403() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");

    for header in ["impersonate-group", "impersonate-uid", "impersonate-extra-scopes"] {
        let answer = jane.get("/api/v1/namespaces").header("impersonate-user", "admin").header(header, "x").await;
        assert_eq!(answer.status(), 403, "{header}: {}", answer.body());
        let alone = jane.get("/api/v1/namespaces").header(header, "x").await;
        assert_eq!(alone.status(), 400, "{header} without a user: {}", alone.body());
    }
    assert_snapshot!(jane.get("/api/v1/namespaces").header("impersonate-user", "admin").await.summary(), @r#"403 {"error":{"name":"NotAllowedError","message":"cluster 'one' does not accept impersonation headers (`--as`); its configuration may allow them with `allowImpersonation: true`"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces"},"response":{"statusCode":403}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn b17_both_sides_keep_their_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..5 {
        let answer = jane.get("/version").await;
        assert_eq!(answer.status(), 200);
        assert_ne!(answer.header("connection"), Some("close"));
    }

    assert_eq!(jane.connections_opened_count().await, 1);
    assert_eq!(api_server.connections_count(), 1);
}

#[tokio::test]
async fn b18_headers_for_browsers_do_not_come_from_a_cluster() {
    let reply = Reply::default()
        .header("strict-transport-security", "max-age=1")
        .header("set-cookie", "a=b")
        .header("clear-site-data", "\"*\"")
        .header("audit-id", "1234")
        .header("warning", "299 - \"old\"");
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client_as("jane").get("/version").await;

    assert_eq!(answer.status(), 200);
    for dropped in ["strict-transport-security", "set-cookie", "clear-site-data"] {
        assert_eq!(answer.header(dropped), None);
    }
    assert_eq!(answer.header("audit-id"), Some("1234"));
    assert_eq!(answer.header("warning"), Some("299 - \"old\""));
}

#[tokio::test]
async fn b19_a_header_block_that_is_too_large_is_431() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let mut raw = gate.raw_client().await;

    let filler = "x".repeat(20 * 1024);
    raw.write(format!("GET {BACKSTAGE_PROXY}/version HTTP/1.1\r\nhost: gate\r\nx-filler: {filler}\r\n\r\n")).await;

    assert_eq!(raw.read_to_close().await.status, Some(431));
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn b20_the_gate_compresses_nothing() {
    let api_server = ApiServer::replying([
        Reply::json(200, r#"{"kind":"List"}"#),
        Reply::json(200, "compressed by the API server").header("content-encoding", "gzip"),
    ]);
    let api_server = api_server.start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane").with_header("accept-encoding", "gzip, br");

    let plain = jane.get("/version").await;
    let compressed = jane.get("/version").await;

    assert_eq!((plain.header("content-encoding"), plain.body()), (None, r#"{"kind":"List"}"#));
    assert_eq!(compressed.header("content-encoding"), Some("gzip"));
    assert_eq!(compressed.body(), "compressed by the API server");
    assert_eq!(api_server.requests().remove(0).header("accept-encoding"), Some("gzip, br"));
}

#[tokio::test]
async fn b21_trace_and_connect_are_405() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client_as("jane").call("TRACE", "/version").await;
    assert_snapshot!(answer.summary(), @r#"405 {"error":{"name":"MethodNotAllowedError","message":"method TRACE is not served here"},"request":{"method":"TRACE","url":"/api/kubernetes/proxy/version"},"response":{"statusCode":405}}"#);

    let mut raw = gate.raw_client().await;
    raw.write("CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\r\n").await;
    assert_eq!(raw.read_until("\r\n\r\n").await.status, Some(405));
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_path_that_no_route_serves_is_404() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.caller("jane");

    for path in
        ["/", "/api", "/api/kubernetes", "/api/kubernetes/proxyx", "/k8s", "/k8s/clusters", "/api/v1/pods", "/metrics"]
    {
        assert_eq!(jane.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(api_server.heard(), NOTHING);
}
