//! The listener's limits of time and number, each reached: a client that stands still costs a place for so long and no longer.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval, timeout};
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::gate::Gate;
use witgate_tests::http2_peer::{Http2Peer, Outcome, flag, frame, headers, kind};
use witgate_tests::raw_client::RawClient;
use witgate_tests::waiting::soon;

use crate::NOTHING;

/// Long enough for a request on a loaded machine, short enough to wait for.
const LIMIT: Duration = Duration::from_millis(1500);

fn waits() -> serde_json::Value {
    json!({ "headerReadTimeoutMs": 1500, "handshakeTimeoutMs": 1500, "idleTimeoutMs": 1500 })
}

fn head(gate: &Gate) -> String {
    let token = gate.token_of("jane");
    format!("GET /k8s/clusters/one/version HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {token}\r\n")
}

/// Goal: a head has to be whole in time, however it comes. Method: half of one, and one byte by byte.
#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("listener", waits()).start().await;
    for beginning in ["G", "GET /k8s/clusters/one/version HTTP/1.1\r\nhost: g"] {
        let mut half = gate.raw_client().await;
        half.write(beginning).await;
        let answer = half.read_to_close().await;
        assert!(answer.status.is_none_or(|status| status == 408), "{}", answer.text);
    }

    let started = Instant::now();
    let mut slow = TcpStream::connect(gate.address()).await.unwrap();
    let mut pace = interval(LIMIT / 20);
    let written = soon("the gate closes", async {
        for (written, byte) in head(&gate).bytes().cycle().enumerate() {
            pace.tick().await;
            if slow.write_all(&[byte]).await.is_err() || matches!(slow.try_read(&mut [0; 512]), Ok(0)) {
                return written;
            }
        }
        usize::MAX
    })
    .await;
    assert!(started.elapsed() >= LIMIT && written < head(&gate).len(), "{written} bytes in {:?}", started.elapsed());
    assert_eq!(api_server.heard(), NOTHING);
}

/// Goal: a connection without a request is given up. Method: HTTP/1.1 after an answer; HTTP/2 after one, before any, and in half a head.
#[tokio::test]
async fn an_idle_connection_is_closed() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("listener", waits()).start().await;
    let mut kept = gate.raw_client().await;
    kept.write(format!("{}\r\n", head(&gate))).await;
    assert_eq!(kept.read_to_close().await.status, Some(200));

    let mut used = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await;
    used.write(&headers(1, flag::END_STREAM, &used.get("/k8s/clusters/one/version"))).await;
    assert_eq!(used.outcome(1).await, Outcome::Status(200));
    assert_eq!(used.end().await, Outcome::Goaway(0));

    let mut unused = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await;
    assert_eq!(unused.end().await, Outcome::Goaway(0));

    let mut half = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await;
    half.write(&frame(kind::HEADERS, 0, 1, &[])).await;
    assert!(matches!(half.end().await, Outcome::Goaway(_) | Outcome::Closed));
}

/// Goal: HTTP/2 that is agreed on and never begun is given up too. Method: TLS with `h2`, then silence.
#[tokio::test]
async fn http2_that_never_begins_is_closed() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).set("listener", waits()).start().await;

    let silent = RawClient::connect_tls(gate.address(), client_tls(&authority, None, &["h2"])).await;

    assert_eq!(silent.read_to_close().await.status, None);
}

/// Goal: a request under way is not idle. Method: an answer that takes longer than the limit.
#[tokio::test]
async fn a_request_under_way_is_not_idle() {
    let (reply, writer) = witgate_tests::api_server::Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).set("listener", waits()).start().await;
    let mut busy = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await;
    busy.write(&headers(1, flag::END_STREAM, &busy.get("/k8s/clusters/one/version"))).await;
    assert_eq!(busy.outcome(1).await, Outcome::Status(200));
    // Another connection reaches the limit meanwhile.
    let mut idle = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await;
    assert_eq!(idle.end().await, Outcome::Goaway(0));

    writer.write("late").await;

    let frame = loop {
        let frame = busy.read().await.expect("the connection is open");
        assert_ne!(frame.kind, kind::GOAWAY);
        if frame.kind == kind::DATA {
            break frame;
        }
    };
    assert_eq!(frame.payload, b"late");
}

/// Goal: a handshake has to be done in time. Method: silence, and half a ClientHello.
#[tokio::test]
async fn a_handshake_that_stands_still_is_cut_off() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).set("listener", waits()).start().await;
    for beginning in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let mut half = gate.raw_client().await;
        half.write(beginning).await;
        assert_eq!(half.read_to_close().await.status, None);
    }
    assert_eq!(gate.client_as("jane").get("/version").await.status(), 200);
}

/// Goal: the connection that is one too many waits until another has left. Method: one place.
#[tokio::test]
async fn a_connection_too_many_waits() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("listener", json!({ "connectionsMax": 1 })).start().await;
    let request = format!("{}\r\n", head(&gate));
    let mut first = gate.raw_client().await;
    first.write(&request).await;
    assert_eq!(first.read_until("\r\n\r\n").await.status, Some(200));

    let mut second = TcpStream::connect(gate.address()).await.unwrap();
    second.write_all(request.as_bytes()).await.unwrap();
    let mut byte = [0];
    assert!(
        timeout(Duration::from_millis(300), second.read(&mut byte)).await.is_err(),
        "it is served beside the first"
    );
    assert_eq!(api_server.requests().len(), 1);

    drop(first);
    soon("the second is served", second.read(&mut byte)).await.unwrap();
    assert_eq!(&byte, b"H");
}

/// Goal: an upload that stands still holds nobody else. Method: one without end, and others on its own connection and beside it.
#[tokio::test]
async fn a_slow_upload_holds_nobody() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.get("/version").await.status(), 200);
    let (call, writer) = jane.post("/api/v1/namespaces", "").streamed_body();
    let upload = call.try_open();
    let mut upload = std::pin::pin!(upload);
    let others = async {
        writer.write("a").await;
        for _ in 0..5 {
            assert_eq!(gate.client_as("john").get("/version").await.status(), 200);
        }
    };
    tokio::select! {
        _ = &mut upload => panic!("the upload is not over"),
        () = others => {}
    }
    drop(writer);
    assert_eq!(soon("the upload's answer", upload).await.unwrap().whole().await.status(), 200);
}
