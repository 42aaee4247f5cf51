//! SIGTERM with everything in flight: nothing new, what can finish finishes, the rest is cut, and the exit code is 0.

use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};
use witgate_tests::waiting::{until, within};

use crate::upgrades::{decision_id, head};

const PODS: &str = "/api/v1/namespaces/dev/pods";
const WATCH: &str = "/api/v1/namespaces/dev/pods?watch=true";

/// The drain's deadline of these tests, and what the process may take beyond it.
const DEADLINE: Duration = Duration::from_secs(4);
const SLACK: Duration = Duration::from_secs(5);

#[tokio::test]
async fn sigterm_with_watches_an_exec_and_an_upload_in_flight() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let (replies, writers): (Vec<_>, Vec<_>) = (0..8).map(|_| Reply::streamed()).unzip();
    let api_server = ApiServer::replying(replies).start().await;
    let gate = Gate::without_clusters()
        .cluster(peer.cluster("anonymous"))
        .cluster(Cluster::at("two", &api_server, "anonymous"))
        .set("drain", json!({ "deadlineMs": DEADLINE.as_millis() as u64 }))
        .start()
        .await;
    let jane = gate.caller("jane").backstage("two");
    let mut watches = Vec::new();
    for writer in &writers {
        let mut watch = jane.clone().on_new_connection().get(WATCH).open().await;
        writer.write("event").await;
        assert_eq!(watch.next_piece().await.unwrap().unwrap(), "event");
        watches.push(tokio::spawn(async move { (watch.next_piece().await, std::time::Instant::now()) }));
    }
    let mut exec = gate.raw_client().await;
    exec.write(head(&gate, "SPDY/3.1") + "backstage-kubernetes-cluster: one\r\n\r\nping").await;
    let exec_id = decision_id(&exec.read_until("ping").await.text);
    let uploader = jane.clone().on_new_connection();
    let (upload, upload_writer) = uploader.call("POST", PODS).streamed_body();
    let upload = async {
        let answer = upload.open().await;
        (answer.status(), answer.header("connection").map(str::to_owned), answer.whole().await)
    };
    let shutdown = async {
        upload_writer.write("first ").await;
        api_server
            .wait_for("half of the upload", |requests| requests.iter().any(|request| request.body.bytes_count == 6))
            .await;
        gate.terminate();
        until("/readyz fails", || async { (gate.admin().get("/readyz").await.status() == 503).then_some(()) }).await;
        until("new connections are refused", || async { TcpStream::connect(gate.address()).await.err().map(drop) })
            .await;
        // The tunnel is as alive as before.
        exec.write("pong").await;
        exec.read_until("pingpong").await;
        upload_writer.write("and last").await;
        drop(upload_writer);
    };
    let started = std::time::Instant::now();

    let ((status, connection, _), ()) = tokio::join!(upload, shutdown);

    assert_eq!(
        (status, connection.as_deref()),
        (200, Some("close")),
        "what runs finishes, on a connection that then ends"
    );
    let uploaded = api_server.requests().into_iter().find(|request| request.method == "POST").unwrap();
    assert_eq!(uploaded.body.text(), "first and last");
    let mut ends = Vec::new();
    for watch in watches {
        let (piece, at) = watch.await.unwrap();
        assert!(piece.is_none_or(|piece| piece.is_err()), "a watch ends");
        ends.push(at);
    }
    ends.sort();
    // The shares of eight decisions are random: that all fall into the same eighth of the window has odds of 1 to 2 million.
    assert!(
        *ends.last().unwrap() - *ends.first().unwrap() > DEADLINE / 16,
        "watches end one after the other: {ends:?}"
    );
    assert_eq!(gate.decisions_of(&exec_id, 1).await.len(), 1);
    let status = within(DEADLINE + SLACK, "the gate ends", gate.exit_status()).await;
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() >= DEADLINE, "the exec was given until the deadline");
    assert_eq!(gate.decisions_of(&exec_id, 2).await[1]["closeReason"], "drained");
    exec.read_to_close().await;
    peer.ended(1).await;
}

/// The connection's task is long gone when the exec ends of itself: the gate waits for it, and no longer.
#[tokio::test]
async fn an_exec_that_ends_by_itself_ends_the_drain() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let gate =
        Gate::without_clusters().cluster(peer.cluster("anonymous")).set("drain", json!({ "deadlineMs": 60_000 }));
    let gate = gate.start().await;
    let mut exec = gate.raw_client().await;
    exec.write(head(&gate, "SPDY/3.1") + "\r\nping").await;
    exec.read_until("ping").await;

    gate.terminate();
    until("new connections are refused", || async { TcpStream::connect(gate.address()).await.err().map(drop) }).await;
    exec.write("pong").await;
    exec.read_until("pingpong").await;
    exec.half_close().await;
    exec.read_to_close().await;

    assert_eq!(gate.exit_status().await.code(), Some(0));
}

/// A load balancer learns with a delay that a gate is not ready: what it still sends here is served.
#[tokio::test]
async fn requests_are_taken_until_the_delay_is_over() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("drain", json!({ "delayMs": 3000, "deadlineMs": 500 })).start().await;

    gate.terminate();

    until("/readyz fails", || async { (gate.admin().get("/readyz").await.status() == 503).then_some(()) }).await;
    let late = gate.client_as("jane").on_new_connection().get(PODS).await;
    assert_eq!(late.status(), 200, "{}", late.body());
    until("new connections are refused", || async { TcpStream::connect(gate.address()).await.err().map(drop) }).await;
    assert_eq!(gate.exit_status().await.code(), Some(0));
}

/// HTTP/2: GOAWAY tells the client; what runs finishes on the connection, and then it closes.
#[tokio::test]
async fn a_client_of_http2_is_sent_away_and_its_request_finishes() {
    let authority = Authority::new("gate");
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let client = Client::new(gate.address(), Some(client_tls(&authority, None, &["h2"])));
    let jane = client.with_token(gate.token_of("jane")).backstage("one");
    let mut answer = jane.get(PODS).open().await;
    writer.write("first").await;
    assert_eq!(answer.next_piece().await.unwrap().unwrap(), "first");

    gate.terminate();
    until("the connection takes no more requests", || async { jane.is_sent_away().await.then_some(()) }).await;
    writer.write(" and last").await;
    drop(writer);

    assert_eq!(answer.whole().await.body(), " and last");
    assert_eq!(gate.exit_status().await.code(), Some(0));
}

/// A stream that always has a next part ends too.
#[tokio::test]
async fn a_watch_that_never_pauses_ends_in_its_turn() {
    let flood = UpgradePeer::saying("HTTP/1.1 200 OK\r\n\r\n").then(Then::Flood).start().await;
    let gate = Gate::without_clusters().cluster(flood.cluster("anonymous"));
    let gate = gate.set("drain", json!({ "deadlineMs": 2000 })).start().await;
    let mut answer = gate.client_as("jane").get(WATCH).open().await;
    answer.next_piece().await.unwrap().unwrap();
    let id = answer.header("witgate-decision-id").unwrap().to_owned();
    let reading = tokio::spawn(async move { while let Some(Ok(_)) = answer.next_piece().await {} });

    gate.terminate();

    assert_eq!(gate.decisions_of(&id, 2).await[1]["closeReason"], "drained");
    reading.await.unwrap();
    assert_eq!(gate.exit_status().await.code(), Some(0));
}
