//! API servers that answer an upgrade with something else, or anything with a redirect or an upgrade that nobody asked for.
//!
//! What must not happen shows in what the peers have heard: not a byte more, not a connection.

use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::gate::Gate;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};

use crate::upgrades::{gate_at, head};

/// CVE-2018-1002105: after an upgrade that failed, the connection is nobody's.
#[tokio::test]
async fn an_answer_that_is_no_101_is_relayed_and_both_connections_close() {
    for (status, body) in
        [(200, "yes"), (200, ""), (400, "no"), (400, ""), (403, r#"{"kind":"Status"}"#), (500, "oops")]
    {
        let length = body.len();
        let peer = UpgradePeer::saying(format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}"));
        let peer = peer.then(Then::Echo).start().await;
        let gate = gate_at(&peer).await;
        let mut raw = gate.raw_client().await;

        raw.write(head(&gate, "websocket") + "\r\n").await;
        raw.write(format!("GET {BACKSTAGE_PROXY}/api/v1/secrets HTTP/1.1\r\nhost: gate\r\n\r\n")).await;
        let answer = raw.read_to_close().await;

        assert_eq!(answer.status, Some(status), "{}", answer.text);
        assert!(answer.text.ends_with(&format!("\r\n\r\n{body}")), "{}", answer.text);
        assert!(answer.text.contains("connection: close\r\n"), "{}", answer.text);
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{}", answer.text);
        let heard = peer.ended(1).await.remove(0);
        assert_eq!(heard.behind_head(), b"", "not one byte behind the request");
    }
}

#[tokio::test]
async fn a_101_to_another_protocol_is_502_and_nothing_is_sent() {
    for settled in ["SPDY/3.1", "h2c", "", "websocket, h2c"] {
        let peer = UpgradePeer::saying(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {settled}\r\n\r\n"
        ));
        let peer = peer.start().await;
        let gate = gate_at(&peer).await;
        let mut raw = gate.raw_client().await;

        raw.write(head(&gate, "websocket") + "\r\nearly").await;
        let answer = raw.read_to_close().await;

        assert_eq!(answer.status, Some(502), "{settled}: {}", answer.text);
        assert_eq!(peer.ended(1).await.remove(0).behind_head(), b"", "{settled}");
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_502() {
    let peer = UpgradePeer::saying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
    );
    let peer = peer.start().await;
    let gate = gate_at(&peer).await;

    let answer = gate.client_as("jane").get("/api/v1/namespaces/dev/pods").await;

    assert_eq!(answer.status(), 502, "{}", answer.body());
    peer.ended(1).await;
}

/// CVE-2020-8559, CVE-2022-3172: an API server does not redirect.
#[tokio::test]
async fn redirects_are_neither_followed_nor_passed_on() {
    let canary = UpgradePeer::switching().start().await;
    for status in [300, 301, 302, 303, 307, 308] {
        let location = format!("{}/elsewhere", canary.url());
        let peer =
            UpgradePeer::saying(format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\ncontent-length: 0\r\n\r\n"));
        let peer = peer.start().await;
        let gate = gate_at(&peer).await;

        for protocol in ["websocket", "SPDY/3.1"] {
            let mut raw = gate.raw_client().await;
            raw.write(head(&gate, protocol) + "\r\nearly").await;
            let answer = raw.read_to_close().await;
            assert_eq!(answer.status, Some(502), "{status}: {}", answer.text);
            assert!(!answer.text.to_ascii_lowercase().contains("location"), "{status}: {}", answer.text);
        }
        assert!(peer.ended(2).await.iter().all(|heard| heard.behind_head().is_empty()), "{status}");

        let api_server = ApiServer::replying([Reply::new(status, "").header("location", &location)]).start().await;
        let gate = Gate::builder(&api_server).start().await;
        let answer = gate.client_as("jane").get("/api/v1/namespaces/dev/pods/p/proxy/").await;
        assert_eq!((answer.status(), answer.header("location")), (502, None), "{status}: {}", answer.body());
    }
    assert!(canary.heard().is_empty(), "nobody follows a redirect");
}

/// What stands behind a CONNECT was not looked at, so it must not be read as requests.
#[tokio::test]
async fn a_connect_is_405_and_ends_the_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let mut raw = gate.raw_client().await;

    raw.write("CONNECT one:443 HTTP/1.1\r\nhost: one:443\r\n\r\n").await;
    raw.write(format!(
        "POST {BACKSTAGE_PROXY}/api/v1/namespaces HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\n\
         content-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
        gate.token_of("jane")
    ))
    .await;

    let answer = raw.read_to_close().await;
    assert_eq!(answer.status, Some(405), "{}", answer.text);
    assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{}", answer.text);
    assert!(api_server.requests().is_empty());
}
