//! HTTP/2 by a peer that writes its frames by hand: floods, and requests that HTTP/2 does not allow.
//!
//! After each the gate answers somebody else, and the API server has heard nothing that was not a whole, plain request.

use std::time::Duration;

use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::{Authority, client_tls};
use witgate_tests::gate::Gate;
use witgate_tests::http2_peer::{Http2Peer, Outcome, block, flag, frame, headers, kind};

use crate::NOTHING;

const VERSION: &str = "/k8s/clusters/one/version";
const END: u8 = flag::END_STREAM;
/// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const INITIAL_WINDOW_SIZE: u16 = 4;
/// What a flood may cost the gate for a while: far less than what was sent, had it been kept.
const GROWTH_KIB_MAX: u64 = 12 * 1024;

async fn peer(gate: &Gate) -> Http2Peer {
    Http2Peer::connect(gate.address(), gate.token_of("jane"), &[]).await
}

/// Somebody else is answered.
async fn lives(gate: &Gate) {
    assert_eq!(gate.client_as("john").get("/healthz").await.status(), 200);
}

fn field(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.to_vec())
}

/// Goal: the peer itself is right, with and without TLS. Method: a plain request.
#[tokio::test]
async fn a_plain_request_by_hand_is_answered() {
    let authority = Authority::new("gate");
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).tls(&authority, None).start().await;
    let tls = client_tls(&authority, None, &["h2"]);

    let mut peer = Http2Peer::connect_tls(gate.address(), tls, gate.token_of("jane")).await;
    peer.write(&headers(1, END, &peer.get(VERSION))).await;

    assert_eq!(peer.outcome(1).await, Outcome::Status(200));
    assert_eq!(api_server.heard(), ["GET /version"]);
}

/// Goal: a request that HTTP/2 or the gate does not allow is refused, and nothing goes up.
/// Method: the fields that differ from a plain GET, one row each.
#[tokio::test]
async fn requests_that_http2_does_not_allow() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let base = peer(&gate).await.get(VERSION);
    let with = |name: &str, value: &[u8]| [base.clone(), vec![field(name, value)]].concat();
    let without = |gone: &str| base.iter().filter(|(name, _)| name != gone.as_bytes()).cloned().collect::<Vec<_>>();
    let replaced = |name: &str, value: &[u8]| {
        let mut fields = base.clone();
        fields.iter_mut().filter(|(known, _)| known == name.as_bytes()).for_each(|(_, old)| *old = value.to_vec());
        fields
    };
    let first = |name: &str, value: &[u8]| [vec![field(name, value)], base.clone()].concat();
    let mut wrong = Vec::new();
    for (name, fields) in [
        ("two :path", first(":path", b"/x")),
        ("two :method", first(":method", b"POST")),
        ("two :authority", first(":authority", b"other")),
        ("no :path", without(":path")),
        ("no :method", without(":method")),
        ("no :scheme", without(":scheme")),
        ("unknown pseudo header", first(":foo", b"x")),
        ("an answer's pseudo header", first(":status", b"200")),
        ("pseudo header behind others", with(":path", b"/x")),
        ("extended CONNECT to nothing that is served", {
            let mut fields = replaced(":method", b"CONNECT");
            fields.insert(0, field(":protocol", b"h2c"));
            fields
        }),
        ("CONNECT", vec![field(":method", b"CONNECT"), field(":authority", b"gate:443")]),
        ("TRACE", replaced(":method", b"TRACE")),
        ("lower-case method", replaced(":method", b"get")),
        ("method with a space", replaced(":method", b"GET /x")),
        ("empty method", replaced(":method", b"")),
        (":path without slash", replaced(":path", b"k8s/clusters/one/version")),
        ("empty :path", replaced(":path", b"")),
        (":path *", replaced(":path", b"*")),
        (":path in absolute form", replaced(":path", b"http://gate/k8s/clusters/one/version")),
        (":path with a space", replaced(":path", b"/k8s/clusters/one/ver sion")),
        (":path with CRLF", replaced(":path", b"/k8s/clusters/one/version HTTP/1.1\r\nx: y\r\n\r\n")),
        (":path with NUL", replaced(":path", b"/k8s/clusters/one/a\0")),
        (":path with %2F", replaced(":path", b"/k8s/clusters/one/a%2Fb")),
        (":path with dots", replaced(":path", b"/k8s/clusters/one/../two/version")),
        (":path with a backslash", replaced(":path", b"/k8s/clusters/one/a\\b")),
        (":path that is not ASCII", replaced(":path", "/k8s/clusters/one/café".as_bytes())),
        (":scheme with a colon", replaced(":scheme", b"http://x")),
        (":authority with CRLF", replaced(":authority", b"gate\r\nx: y")),
        (":authority and host differ", with("host", b"other")),
        ("two hosts", [with("host", b"gate"), vec![field("host", b"gate")]].concat()),
        ("upper-case name", with("X-Upper", b"x")),
        ("empty name", with("", b"x")),
        ("name with a space", with("x y", b"x")),
        ("name with CRLF", with("x\r\ny", b"x")),
        ("name with a colon", with("x:y", b"x")),
        ("value with CRLF", with("x", b"a\r\nimpersonate-user: root")),
        ("value with LF", with("x", b"a\nb")),
        ("value with CR", with("x", b"a\rb")),
        ("value with NUL", with("x", b"a\0b")),
        ("transfer-encoding", with("transfer-encoding", b"chunked")),
        ("connection", with("connection", b"close")),
        ("keep-alive", with("keep-alive", b"1")),
        ("proxy-connection", with("proxy-connection", b"keep-alive")),
        ("upgrade", with("upgrade", b"websocket")),
        ("te other than trailers", with("te", b"gzip")),
        ("two lengths", [with("content-length", b"1"), vec![field("content-length", b"2")]].concat()),
        ("length that is none", with("content-length", b"x")),
        ("length without a body", with("content-length", b"5")),
        ("impersonation", with("impersonate-user", b"root")),
        ("impersonation with an underscore", with("impersonate_user", b"root")),
        ("two authorizations", with("authorization", b"Bearer other")),
    ] {
        let mut peer = peer(&gate).await;
        peer.write(&headers(1, END, &fields)).await;
        let outcome = peer.outcome(1).await;
        let refused = match outcome {
            Outcome::Status(status) => (400..500).contains(&status),
            Outcome::Reset(code) => code == PROTOCOL_ERROR,
            Outcome::Goaway(code) => code != 0,
            Outcome::Closed => false,
        };
        let heard = api_server.heard();
        if !refused || !heard.is_empty() {
            wrong.push(format!("{name}: {outcome:?}, sent up {heard:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    lives(&gate).await;

    // The HTTP/2 library takes a fragment off and needs no scheme: both are gone before anything is judged.
    for fields in [replaced(":path", b"/k8s/clusters/one/version#b"), replaced(":scheme", b""), with("te", b"trailers")]
    {
        let before = api_server.requests().len();
        let mut peer = peer(&gate).await;
        peer.write(&headers(1, END, &fields)).await;
        assert_eq!(peer.outcome(1).await, Outcome::Status(200));
        assert_eq!(api_server.heard().split_off(before), ["GET /version"]);
    }
}

/// Goal: a body that is not as long as it says never looks whole upstream. Method: too little, too much.
#[tokio::test]
async fn a_body_of_another_length_is_an_error() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    for (length, data) in [("5", "abc"), ("2", "abc")] {
        let mut peer = peer(&gate).await;
        let mut fields = peer.fields("POST", "/k8s/clusters/one/api/v1/namespaces");
        fields.push(field("content-length", length.as_bytes()));
        peer.write(&[headers(1, 0, &fields), frame(kind::DATA, END, 1, data.as_bytes())].concat()).await;
        let outcome = peer.outcome(1).await;
        assert!(matches!(outcome, Outcome::Reset(PROTOCOL_ERROR) | Outcome::Goaway(PROTOCOL_ERROR)), "{outcome:?}");
    }
    assert!(api_server.requests().iter().all(|request| request.body.digest.is_none()), "{:?}", api_server.requests());
    lives(&gate).await;
}

/// What a frame that breaks the protocol ends.
#[derive(Debug, Eq, PartialEq)]
enum Ends {
    Stream,
    Connection,
}

/// Goal: frames that break the protocol end the stream or the connection. Method: a frame and its outcome, on a connection with a request under way.
#[tokio::test]
async fn frames_that_break_the_protocol() {
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/version" => Reply::never(),
        _ => Reply::default(),
    })
    .start()
    .await;
    let gate = Gate::builder(&api_server).start().await;
    let post = peer(&gate).await.fields("POST", VERSION);
    for (name, bytes, expected) in [
        ("DATA on stream 0", frame(kind::DATA, 0, 0, b"x"), Ends::Connection),
        ("HEADERS on an even stream", headers(2, END, &post), Ends::Connection),
        ("DATA on an idle stream", frame(kind::DATA, 0, 99, b"x"), Ends::Connection),
        ("a frame larger than allowed", frame(kind::DATA, 0, 1, &[0; 16_385]), Ends::Connection),
        ("SETTINGS of a wrong size", frame(kind::SETTINGS, 0, 0, &[0; 5]), Ends::Connection),
        ("PING of a wrong size", frame(kind::PING, 0, 0, &[0; 7]), Ends::Connection),
        ("CONTINUATION of nothing", frame(kind::CONTINUATION, flag::END_HEADERS, 1, b""), Ends::Connection),
        (
            "a header block that is none",
            frame(kind::HEADERS, flag::END_HEADERS | END, 3, &[0xff; 40]),
            Ends::Connection,
        ),
        ("WINDOW_UPDATE of 0 on the connection", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), Ends::Connection),
        (
            "the connection's window over 2^31-1",
            frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            Ends::Connection,
        ),
        (
            "a stream's window over 2^31-1",
            frame(kind::WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes()),
            Ends::Stream,
        ),
    ] {
        let mut peer = peer(&gate).await;
        peer.write(&headers(1, 0, &post)).await;
        peer.write(&bytes).await;
        let ends = match peer.outcome(1).await {
            Outcome::Goaway(1..) => Ends::Connection,
            Outcome::Reset(1..) => Ends::Stream,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(ends, expected, "{name}");
    }
    lives(&gate).await;
}

/// CVE-2023-44487. Goal: resets are counted, and what they cost upstream is bounded. Method: a thousand at once.
#[tokio::test]
async fn a_rapid_reset_ends_the_connection() {
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/version" => Reply::never(),
        _ => Reply::default(),
    })
    .start()
    .await;
    let gate = Gate::builder(&api_server).start().await;
    let mut peer = peer(&gate).await;
    let get = peer.get(VERSION);
    let flood: Vec<u8> = (0..1000_u32)
        .flat_map(|index| {
            let stream = index * 2 + 1;
            [headers(stream, END, &get), frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        })
        .collect();

    peer.write(&flood).await;

    assert_eq!(peer.end().await, Outcome::Goaway(ENHANCE_YOUR_CALM));
    lives(&gate).await;
    assert!(api_server.requests().len() <= 251, "{} requests went up", api_server.requests().len());
}

/// CVE-2025-8671. Goal: resets that a client provokes are counted too. Method: a window of 0 on each stream.
#[tokio::test]
async fn resets_that_are_provoked_end_the_connection() {
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/version" => Reply::never(),
        _ => Reply::default(),
    })
    .start()
    .await;
    let gate = Gate::builder(&api_server).start().await;
    let mut peer = peer(&gate).await;
    let get = peer.get(VERSION);
    let flood: Vec<u8> = (0..1000_u32)
        .flat_map(|index| {
            let stream = index * 2 + 1;
            let overflow = frame(kind::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
            [headers(stream, END, &get), overflow].concat()
        })
        .collect();

    peer.write(&flood).await;

    assert_eq!(peer.end().await, Outcome::Goaway(ENHANCE_YOUR_CALM));
    lives(&gate).await;
    assert!(api_server.requests().len() <= 251, "{} requests went up", api_server.requests().len());
}

/// CVE-2024-27316. Goal: a header block without end is not kept. Method: CONTINUATIONs, empty and full.
#[tokio::test]
async fn a_continuation_flood_ends_the_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let before = gate.memory_kib();
    let filler = block(&[field("x", &[b'y'; 1000])]);
    for (piece, count) in [(Vec::new(), 5000), (filler, 2000)] {
        let mut peer = peer(&gate).await;
        let mut flood = frame(kind::HEADERS, END, 1, &block(&peer.get(VERSION)));
        for _ in 0..count {
            flood.extend(frame(kind::CONTINUATION, 0, 1, &piece));
        }
        peer.write_while_taken(&flood, Duration::from_secs(5)).await;
        let outcome = peer.end().await;
        assert!(matches!(outcome, Outcome::Goaway(1..) | Outcome::Closed), "{outcome:?}");
    }
    lives(&gate).await;
    assert_eq!(api_server.heard(), ["GET /healthz"]);
    assert!(gate.memory_kib() < before + GROWTH_KIB_MAX);
}

/// Goal: what wants an acknowledgement is not kept until it has one. Method: SETTINGS and PINGs by a client that does not read.
#[tokio::test]
async fn a_flood_of_settings_and_pings_costs_nothing() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let before = gate.memory_kib();
    for flood in [frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]), frame(kind::PING, 0, 0, &[7; 8])] {
        let mut peer = peer(&gate).await;
        peer.write_while_taken(&flood.repeat(10_000), Duration::from_secs(5)).await;
        lives(&gate).await;
        assert!(gate.memory_kib() < before + GROWTH_KIB_MAX);
    }
}

/// Goal: frames that carry nothing are counted. Method: empty DATA on an open request.
#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let mut peer = peer(&gate).await;
    let post = peer.fields("POST", "/k8s/clusters/one/api/v1/namespaces");
    let flood = [headers(1, 0, &post), frame(kind::DATA, 0, 1, b"").repeat(20_000)].concat();

    peer.write_while_taken(&flood, Duration::from_secs(5)).await;

    assert_eq!(peer.end().await, Outcome::Goaway(ENHANCE_YOUR_CALM));
    lives(&gate).await;
    assert!(api_server.requests().iter().all(|request| request.method == "GET" || request.body.digest.is_none()));
}

/// Goal: a slow reader costs bounded memory and nobody else's progress. Method: 64 MiB for a window that never opens.
#[tokio::test]
async fn a_window_that_never_opens_holds_nobody() {
    const LARGE: usize = 64 * 1024 * 1024;
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/version" => Reply::new(200, vec![b'x'; LARGE]),
        _ => Reply::default(),
    })
    .start()
    .await;
    let gate = Gate::builder(&api_server).start().await;
    lives(&gate).await;
    let before = gate.memory_kib();
    let mut peer = Http2Peer::connect(gate.address(), gate.token_of("jane"), &[(INITIAL_WINDOW_SIZE, 0)]).await;
    peer.write(&headers(1, END, &peer.get(VERSION))).await;
    assert_eq!(peer.outcome(1).await, Outcome::Status(200));

    for _ in 0..20 {
        lives(&gate).await;
    }
    assert!(gate.memory_kib() < before + GROWTH_KIB_MAX, "{before} KiB grew to {}", gate.memory_kib());

    // The stream is still good: what it may have comes.
    peer.write(&frame(kind::WINDOW_UPDATE, 0, 1, &1000_u32.to_be_bytes())).await;
    let mut length = 0;
    while length < 1000 {
        let frame = peer.read().await.expect("the connection is open");
        length += if frame.kind == kind::DATA { frame.payload.len() } else { 0 };
    }
    assert_eq!(length, 1000);
}

/// Goal: a header list has a limit. Method: one larger, of one field and of many.
#[tokio::test]
async fn a_header_list_that_is_too_large_is_431() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let one = vec![field("x", &[b'y'; 17 * 1024])];
    let many: Vec<_> = (0..600).map(|index| field(&format!("x-{index}"), b"")).collect();
    for extra in [one, many] {
        let mut peer = peer(&gate).await;
        peer.write(&headers(1, END, &[peer.get(VERSION), extra].concat())).await;
        assert_eq!(peer.outcome(1).await, Outcome::Status(431));
    }
    assert_eq!(api_server.heard(), NOTHING);
    lives(&gate).await;
}

/// Goal: one connection has so many streams and no more. Method: two that are not answered, and a third.
#[tokio::test]
async fn a_stream_too_many_is_refused() {
    let api_server = ApiServer::answering(|request| match request.target.as_str() {
        "/version" => Reply::never(),
        _ => Reply::default(),
    })
    .start()
    .await;
    let gate = Gate::builder(&api_server).set("listener", serde_json::json!({ "streamsMax": 2 })).start().await;
    let mut peer = peer(&gate).await;
    let get = peer.get(VERSION);
    // The limit holds once its announcement was acknowledged.
    while peer.read().await.is_some_and(|frame| frame.kind != kind::SETTINGS) {}
    peer.write(&[headers(1, END, &get), headers(3, END, &get)].concat()).await;
    api_server.wait_for("both go up", |requests| requests.len() == 2).await;

    peer.write(&headers(5, END, &get)).await;

    assert_eq!(peer.outcome(5).await, Outcome::Reset(REFUSED_STREAM));
    lives(&gate).await;
    assert_eq!(api_server.requests().len(), 3);
}
