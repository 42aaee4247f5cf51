//! The data plane's listener: TLS, HTTP/1.1 and HTTP/2, and its end.

use std::time::Duration;

use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::broken_upstream::{BrokenUpstream, Fault};
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::waiting::within;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn tls_speaks_http1_and_http2() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let cases: [(&[&str], &str); 3] =
        [(&["h2", "http/1.1"], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")];

    for (protocols, version) in cases {
        let client = Client::new(gate.address(), Some(client_tls(&authority, None, protocols)));
        let jane = client.with_token(gate.token_of("jane"));
        let backstage = jane.clone().backstage("one").get(PODS).await;
        let kubernetes = jane.kubernetes("one").post(PODS, r#"{"kind":"Pod"}"#).await;
        for answer in [backstage, kubernetes] {
            assert_eq!((answer.status(), answer.version().as_str()), (200, version), "{}", answer.body());
        }
    }

    let arrived = api_server.requests();
    assert_eq!(arrived.len(), 6);
    assert!(arrived.iter().all(|request| request.header("host") == Some(api_server.address().to_string().as_str())));
}

#[tokio::test]
async fn many_requests_share_one_http2_connection() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let jane = gate.client_as("jane");

    let calls: Vec<_> = (0..50)
        .map(|_| {
            let jane = jane.clone();
            tokio::spawn(async move { jane.get(PODS).await.status() })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }

    assert_eq!(jane.connections_opened_count().await, 1);
}

/// Plain text on a TLS port must not be answered as if it were HTTP.
#[tokio::test]
async fn plain_http_on_a_tls_listener_is_not_served() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let mut raw = gate.raw_client().await;

    raw.write(format!(
        "GET /k8s/clusters/one/version HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\n\r\n",
        gate.token_of("jane")
    ))
    .await;

    assert_eq!(raw.read_to_close().await.status.filter(|status| *status < 400), None);
    assert!(api_server.requests().is_empty());
}

#[tokio::test]
async fn the_certificate_is_read_again_when_its_files_change() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&old, None).start().await;
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);

    let server = new.server();
    std::fs::write(gate.folder().join("tls.key"), server.key_pem()).unwrap();
    std::fs::write(gate.folder().join("tls.crt"), server.certificate_pem()).unwrap();

    let trusting_new = client_tls(&new, None, &["http/1.1"]);
    witgate_tests::waiting::until("the new certificate is shown", || async {
        let stream = tokio::net::TcpStream::connect(gate.address()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::clone(&trusting_new));
        connector.connect(gate.address().ip().into(), stream).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn sigterm_finishes_what_runs_and_exits_0() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut answer = jane.get(PODS).open().await;
    writer.write("first").await;
    assert_eq!(answer.next_piece().await.unwrap().unwrap(), "first");

    gate.terminate();
    gate.log_line_with("stopping").await;
    writer.write(" and last").await;
    drop(writer);

    assert_eq!(answer.whole().await.body(), " and last");
    drop(jane);
    assert_eq!(gate.exit_status().await.code(), Some(0));
}

#[tokio::test]
async fn sigterm_without_traffic_exits_0_at_once() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let idle = gate.client_as("jane");
    idle.get(PODS).await;

    let status = within(Duration::from_secs(5), "the gate ends", gate.stop_gracefully()).await;

    assert_eq!(status.code(), Some(0), "a kept connection that is idle does not hold the gate up");
}

#[tokio::test]
async fn d11_sigterm_while_a_request_hangs_exits_after_the_limit() {
    let silent = BrokenUpstream::start(Fault::Silent).await;
    let gate = Gate::without_clusters()
        .cluster(Cluster::at_url("one", &silent.url(), "anonymous"))
        .set("drain", serde_json::json!({ "deadlineMs": 500 }))
        .start()
        .await;
    let jane = gate.client_as("jane");
    let hanging = tokio::spawn(async move { jane.get(PODS).try_open().await.map(drop) });
    witgate_tests::waiting::until("the request hangs", || async { (silent.heads_count() == 1).then_some(()) }).await;

    let status = within(Duration::from_secs(10), "the gate ends", gate.stop_gracefully()).await;

    assert_eq!(status.code(), Some(0));
    assert!(hanging.await.unwrap().is_err());
}

/// A HEAD is answered without a body. Once, over HTTP/2, the body was sent all the same, and clients saw a protocol error.
#[tokio::test]
async fn a_head_has_no_body_over_either_protocol() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::answering(|_| Reply::new(200, "0123456789")).start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;

    for protocols in [&["h2"][..], &["http/1.1"][..]] {
        let client = Client::new(gate.address(), Some(client_tls(&authority, None, protocols)));
        let jane = client.with_token(gate.token_of("jane"));
        for (path, status, length) in [
            ("/k8s/clusters/one/api/v1/pods", 200, Some("10")),
            ("/k8s/clusters/nope/api/v1/pods", 404, None),
            ("/api/kubernetes/clusters", 200, None),
        ] {
            for _ in 0..2 {
                let answer = jane.call("HEAD", path).await;
                assert_eq!((answer.status(), answer.body()), (status, ""), "{path} over {}", answer.version());
                let given = answer.header("content-length");
                assert!(given.is_some() && length.is_none_or(|length| given == Some(length)), "{path}: {given:?}");
            }
        }
        assert_eq!(jane.connections_opened_count().await, 1, "no answer ended its connection");
    }
}
