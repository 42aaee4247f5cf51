//! Requests whose end two servers could see in two places: refused, and the connection closed.

use witgate_tests::api_server::ApiServer;
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::gate::Gate;
use witgate_tests::raw_client::RawAnswer;

use crate::NOTHING;

/// Goal: nothing that could smuggle a second request goes up.
/// Method: each shape as raw bytes, with a second request behind it.
#[tokio::test]
async fn ambiguous_framing_is_400_and_ends_the_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let framings = [
        "content-length: 4\r\ncontent-length: 5\r\n\r\nabcd",
        "content-length: 4, 5\r\n\r\nabcd",
        "content-length: +4\r\n\r\nabcd",
        "content-length: -1\r\n\r\n",
        "content-length: 0x4\r\n\r\nabcd",
        "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "content-length: 4\r\n folded\r\n\r\nabcd",
        "content-length: 4\r\ncontent-length: 4\r\n\r\nabcd",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        "x: y\n\r\n",
    ];

    for framing in framings {
        let answer = smuggle(&gate, framing).await;
        assert_eq!(answer.status, Some(400), "{framing:?}: {}", answer.text);
        assert_eq!(answers_count(&answer), 1, "{framing:?}: {}", answer.text);
    }
    assert_eq!(api_server.heard(), NOTHING);
}

/// Goal: what the listener takes for an upgrade ends the connection, even where nobody can read to what.
/// Method: an `Upgrade` that is not ASCII, with a request behind it that must not be read.
#[tokio::test]
async fn an_upgrade_that_cannot_be_read_ends_the_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = smuggle(&gate, "connection: upgrade\r\nupgrade: wébsocket\r\n\r\n").await;

    assert_eq!(answers_count(&answer), 1, "{}", answer.text);
    assert!(api_server.requests().len() <= 1);
}

/// Sends a request with this end of its head and its body, and a second request behind it; the gate must close.
async fn smuggle(gate: &Gate, framing: &str) -> RawAnswer {
    let authorization = format!("host: gate\r\nauthorization: Bearer {}", gate.token_of("jane"));
    let mut raw = gate.raw_client().await;
    raw.write(format!("POST {BACKSTAGE_PROXY}/api/v1/namespaces HTTP/1.1\r\n{authorization}\r\n{framing}")).await;
    raw.write(format!("GET {BACKSTAGE_PROXY}/smuggled HTTP/1.1\r\n{authorization}\r\n\r\n")).await;
    raw.read_to_close().await
}

fn answers_count(answer: &RawAnswer) -> usize {
    answer.text.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn a_head_that_is_no_http_is_400() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    for head in [
        "hello\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: x\r\n\r\n",
        "\x16\x03\x01\x02\0",
    ] {
        let mut raw = gate.raw_client().await;
        raw.write(head).await;
        raw.write("\r\n\r\n").await;
        let answer = raw.read_to_close().await;
        assert!(matches!(answer.status, Some(400 | 505) | None), "{head:?}: {}", answer.text);
    }
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_request_without_host_is_400() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let token = gate.token_of("jane");
    let mut raw = gate.raw_client().await;

    raw.write(format!("GET {BACKSTAGE_PROXY}/version HTTP/1.1\r\nauthorization: Bearer {token}\r\n\r\n")).await;

    assert_eq!(raw.read_until("\r\n\r\n").await.status, Some(400));
    assert_eq!(api_server.heard(), NOTHING);
}
