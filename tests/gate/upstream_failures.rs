//! Group D: API servers that cannot be trusted, reached, or relied upon, and streams that must not wait.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::Authority;
use witgate_tests::broken_upstream::{BrokenUpstream, Fault};
use witgate_tests::client::Answer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::waiting::{soon, until, within};

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn d1_a_private_authority_that_is_configured_is_trusted() {
    let authority = Authority::new("cluster");
    let api_server = ApiServer::answering(|_| Reply::default()).tls(&authority).start().await;
    let by_data = Cluster::at("data", &api_server, "anonymous");
    let by_file = Cluster::at("file", &api_server, "anonymous").without("caData").with("caFile", "ca.crt");
    let unseen = Cluster::at("unseen", &api_server, "anonymous").without("caData").with("skipTLSVerify", true);
    let gate = Gate::without_clusters().file("ca.crt", &authority.pem());
    let gate = gate.cluster(by_data).cluster(by_file).cluster(unseen).start().await;

    for cluster in ["data", "file", "unseen"] {
        let answer = gate.caller("jane").backstage(cluster).get(PODS).await;
        assert_eq!(answer.status(), 200, "{cluster}: {}", answer.body());
    }
}

#[tokio::test]
async fn d2_a_private_authority_that_is_not_configured_is_502() {
    let authority = Authority::new("cluster");
    let other = Authority::new("other");
    let api_server = ApiServer::answering(|_| Reply::default()).tls(&authority).start().await;
    let untrusted = Cluster::at("untrusted", &api_server, "anonymous").without("caData");
    let wrong = Cluster::at("wrong", &api_server, "anonymous").ca_data(&other.pem());
    let gate = Gate::without_clusters().cluster(untrusted).cluster(wrong).start().await;

    let untrusted = gate.caller("jane").backstage("untrusted").get(PODS).await;
    let wrong = gate.caller("jane").backstage("wrong").get(PODS).await;

    assert_snapshot!(untrusted.summary(), @r#"502 {"error":{"name":"BadGatewayError","message":"no trusted TLS connection to the cluster's API server"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":502}}"#);
    assert_eq!(wrong.summary(), untrusted.summary());
    assert!(api_server.requests().is_empty());
}

#[tokio::test]
async fn d4_a_refused_connection_is_502() {
    let gate = gate_at(&BrokenUpstream::refusing_url().await).start().await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"502 {"error":{"name":"BadGatewayError","message":"the cluster's API server cannot be reached"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":502}}"#);
}

#[tokio::test]
async fn d6_a_silent_api_server_is_504_after_the_limit() {
    let upstream = BrokenUpstream::start(Fault::Silent).await;
    let gate = gate_at(&upstream.url()).set("upstream", json!({ "headerTimeoutMs": 300 })).start().await;

    let answer: Answer =
        within(Duration::from_secs(5), "the limit", gate.client_as("jane").get(PODS).into_future()).await;

    assert_snapshot!(answer.summary(), @r#"504 {"error":{"name":"GatewayTimeoutError","message":"the cluster's API server did not answer in time"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":504}}"#);
    assert_eq!(upstream.heads_count(), 1, "a request that was sent is not sent again");
}

#[tokio::test]
async fn an_upstream_that_closes_or_babbles_is_502() {
    let faults = [
        Fault::WriteThenClose(""),
        Fault::WriteThenReset(""),
        Fault::WriteThenClose("SSH-2.0-OpenSSH_9.9\r\n"),
        Fault::WriteThenClose("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"),
    ];
    for fault in faults {
        let upstream = BrokenUpstream::start(fault).await;
        let gate = gate_at(&upstream.url()).start().await;

        let answer = gate.client_as("jane").post(PODS, "{}").await;

        assert_eq!(answer.status(), 502, "{fault:?}: {}", answer.body());
        assert_eq!(upstream.heads_count(), 1, "{fault:?}: a POST is not sent again");
    }
}

/// An answer that broke off must never look complete.
#[tokio::test]
async fn d7_a_body_that_is_cut_breaks_the_caller_s_connection() {
    let faults = [
        Fault::WriteThenClose("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"items\":["),
        Fault::WriteThenClose("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ite\r\n"),
        Fault::WriteThenClose("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"i"),
        Fault::WriteThenReset("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"items\":["),
        Fault::WriteThenReset("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"ite\r\n"),
    ];
    let authority = Authority::new("gate");
    for fault in faults {
        let upstream = BrokenUpstream::start(fault).await;
        for builder in [gate_at(&upstream.url()), gate_at(&upstream.url()).tls(&authority, None)] {
            let gate = builder.start().await;
            let jane = gate.client_as("jane");

            // The break may overtake the head; then the caller has no answer, or ours.
            let Ok(answer) = soon("an answer or an end", jane.get(PODS).try_open()).await else { continue };
            match (answer.status(), fault) {
                (200, _) => assert!(answer.try_whole().await.is_err(), "{fault:?}: the answer looks complete"),
                (502, Fault::WriteThenReset(_)) => {}
                (other, _) => panic!("{fault:?}: {other}"),
            }
        }
    }
}

#[tokio::test]
async fn d7_a_body_that_is_cut_resets_the_caller_s_http2_stream() {
    let authority = Authority::new("gate");
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;

    let jane = gate.client_as("jane");
    let mut answer = jane.get(PODS).open().await;
    writer.write("first").await;
    assert_eq!(answer.next_piece().await.unwrap().unwrap(), "first");
    writer.abort().await;

    assert!(answer.next_piece().await.unwrap().is_err());
}

#[tokio::test]
async fn d9_and_d10_each_event_of_a_watch_passes_at_once() {
    for accept_encoding in [None, Some("gzip"), Some("br")] {
        let (reply, writer) = Reply::streamed();
        let api_server = ApiServer::replying([reply.header("content-type", "application/json")]).start().await;
        let gate = Gate::builder(&api_server).start().await;
        let jane = gate.client_as("jane");
        let call = jane.get("/api/v1/namespaces/dev/pods?watch=true");
        let call = match accept_encoding {
            Some(encoding) => call.header("accept-encoding", encoding),
            None => call,
        };

        let mut answer = call.open().await;

        assert_eq!(answer.header("content-encoding"), None);
        for index in 0..5 {
            let event = format!("{{\"type\":\"ADDED\",\"object\":{{\"index\":{index}}}}}\n");
            writer.write(event.clone()).await;
            // The next event is written only when this one has arrived, so nothing can be waiting to be flushed.
            assert_eq!(answer.next_piece().await.unwrap().unwrap(), event);
        }
        drop(writer);
        assert!(answer.next_piece().await.is_none());
    }
}

#[tokio::test]
async fn trailers_pass() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply.header("trailer", "x-checksum")]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane").with_header("te", "trailers");

    let (answer, ()) = tokio::join!(jane.get(PODS).into_future(), async {
        writer.write("body").await;
        writer.end_with_trailers([("x-checksum".parse().unwrap(), "abc".parse().unwrap())].into_iter().collect()).await;
    });

    assert_eq!((answer.body(), answer.trailer("x-checksum")), ("body", Some("abc")));
}

#[tokio::test]
async fn a_caller_who_leaves_ends_the_request_upstream_within_a_second() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;

    let jane = gate.client_as("jane");
    let mut answer = jane.get("/api/v1/pods?watch=1").open().await;
    writer.write("event").await;
    answer.next_piece().await.unwrap().unwrap();
    drop(answer);
    drop(jane);

    within(Duration::from_secs(1), "the upstream request ends", writer.left()).await;
}

/// What the API server says of its load is for its client, and not for us to try again.
#[tokio::test]
async fn answers_of_a_busy_api_server_pass_untouched() {
    for status in [429, 503] {
        let body = r#"{"kind":"Status","code":1,"message":"slow down"}"#;
        let busy = move |_: &_| Reply::json(status, body).header("retry-after", "7");
        let api_server = ApiServer::answering(busy).start().await;
        let gate = Gate::builder(&api_server).start().await;

        let answer = gate.client_as("jane").get(PODS).await;

        assert_eq!(answer.summary(), format!("{status} {body}"));
        assert_eq!(answer.header("retry-after"), Some("7"));
        assert_eq!(api_server.requests().len(), 1);
    }
}

/// One silent cluster must not slow another.
#[tokio::test]
async fn a_silent_cluster_harms_no_other() {
    let silent = BrokenUpstream::start(Fault::Silent).await;
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at_url("silent", &silent.url(), "anonymous");
    let gate = Gate::builder(&api_server).cluster(cluster).start().await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let caller = gate.caller("jane").backstage("silent");
            tokio::spawn(async move { caller.get(PODS).try_open().await.map(drop) })
        })
        .collect();
    until("all requests to the silent cluster wait", || async { (silent.heads_count() == 20).then_some(()) }).await;

    for _ in 0..20 {
        assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);
    }

    assert!(waiting.iter().all(|call| !call.is_finished()));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A connection that the API server closed while it was idle must not cost the next request.
#[tokio::test]
async fn a_connection_that_the_api_server_closed_is_not_used_again() {
    let closing = |_: &_| Reply::default().header("connection", "close");
    let api_server = ApiServer::answering(closing).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..5 {
        assert_eq!(jane.get(PODS).await.status(), 200);
    }

    assert_eq!(api_server.connections_count(), 5);
    assert_eq!(
        jane.connections_opened_count().await,
        1,
        "what the API server does with its connection is not the caller's"
    );
}

fn gate_at(url: &str) -> witgate_tests::gate::GateBuilder {
    Gate::without_clusters().cluster(Cluster::at_url("one", url, "anonymous"))
}
