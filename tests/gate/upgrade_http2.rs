//! WebSockets of HTTP/2 clients, by extended CONNECT (RFC 8441): judged as the GET that they stand for.

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use witgate_tests::body::Body;
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};
use witgate_tests::waiting::soon;

use crate::upgrades::{EXEC, gate_at};

/// An HTTP/2 connection to the gate, with prior knowledge.
struct Connection {
    sender: http2::SendRequest<Body>,
    token: String,
    authority: String,
}

impl Connection {
    async fn open(gate: &Gate) -> Self {
        let stream = TcpStream::connect(gate.address()).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let authority = gate.address().to_string();
        let mut connection = Self { sender, token: gate.token_of("jane").to_owned(), authority };
        // A first answer, so that the gate's SETTINGS have come: only then may a client ask by extended CONNECT.
        let first = connection.request(Method::GET, "/api/kubernetes/clusters", None, &[]).await;
        assert_eq!(first.status(), 200);
        connection
    }

    async fn websocket(&mut self, headers: &[(&str, &str)]) -> Response<Incoming> {
        let path = format!("{BACKSTAGE_PROXY}{EXEC}");
        self.request(Method::CONNECT, &path, Some(Protocol::from_static("websocket")), headers).await
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        protocol: Option<Protocol>,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        let uri = if path.is_empty() { self.authority.clone() } else { format!("http://{}{path}", self.authority) };
        let mut request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::Whole(None)).unwrap();
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(protocol);
        }
        soon("an answer over HTTP/2", self.sender.send_request(request)).await.unwrap()
    }
}

#[tokio::test]
async fn a_websocket_over_http2_is_bridged() {
    let peer = UpgradePeer::answering(|heard| heard.switching() + "early ").then(Then::Echo).start().await;
    let token = secret("service-account token");
    let cluster = peer.cluster("serviceAccount").service_account_token(&token);
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let mut connection = Connection::open(&gate).await;

    let headers = [
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "v5.channel.k8s.io, v4.channel.k8s.io"),
        ("sec-websocket-key", "bm90LW91cnMtYnV0LXRoZQ=="),
        ("cookie", "session=1"),
        ("x-remote-user", "root"),
    ];
    let response = connection.websocket(&headers).await;

    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["sec-websocket-protocol"], "v5.channel.k8s.io");
    for hop in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(hop), "{hop}");
    }
    let id = response.headers()["witgate-decision-id"].to_str().unwrap().to_owned();
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tunnel.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 10];
    soon("the echo", tunnel.read_exact(&mut echoed)).await.unwrap();
    assert_eq!(&echoed, b"early ping");
    // The connection carries other requests meanwhile.
    assert_eq!(connection.request(Method::GET, "/api/kubernetes/clusters", None, &[]).await.status(), 200);
    tunnel.shutdown().await.unwrap();
    let mut rest = Vec::new();
    soon("the end", tunnel.read_to_end(&mut rest)).await.unwrap();

    let heard = peer.ended(1).await.remove(0);
    assert!(heard.head().starts_with(&format!("GET {EXEC} HTTP/1.1\r\n")), "{}", heard.head());
    assert_eq!(heard.behind_head(), b"ping");
    assert_ne!(heard.header("sec-websocket-key").as_deref(), Some("bm90LW91cnMtYnV0LXRoZQ=="), "the key is the gate's");
    for (name, value) in [
        ("upgrade", Some("websocket".to_owned())),
        ("connection", Some("Upgrade".to_owned())),
        ("sec-websocket-version", Some("13".to_owned())),
        ("sec-websocket-protocol", Some("v5.channel.k8s.io, v4.channel.k8s.io".to_owned())),
        ("authorization", Some(format!("Bearer {token}"))),
        ("cookie", None),
        ("x-remote-user", None),
    ] {
        assert_eq!(heard.header(name), value, "{name}");
    }
    let lines = gate.decisions_of(&id, 2).await;
    let judged = ["method", "verb", "actionClass", "upgrade", "status"].map(|key| lines[0][key].to_string());
    assert_eq!(judged, ["\"GET\"", "\"get\"", "\"exec\"", "true", "200"]);
    assert_eq!(lines[1]["closeReason"], "client-closed");
}

#[tokio::test]
async fn a_refused_websocket_over_http2_reaches_nobody() {
    use base64::Engine as _;
    let peer = UpgradePeer::switching().start().await;
    let gate = gate_at(&peer).await;
    let reader = Gate::without_clusters().policy("read-only").cluster(peer.cluster("anonymous")).start().await;
    let mut connection = Connection::open(&gate).await;
    let own_origin = format!("http://{}", gate.address());

    assert_eq!(connection.websocket(&[("authorization", "Bearer nobody-s")]).await.status(), 401);
    assert_eq!(connection.websocket(&[("origin", "https://evil.example")]).await.status(), 403);
    assert_eq!(connection.websocket(&[("backstage-kubernetes-cluster", "nope")]).await.status(), 404);
    assert_eq!(Connection::open(&reader).await.websocket(&[]).await.status(), 403);
    let other = connection
        .request(Method::CONNECT, &format!("{BACKSTAGE_PROXY}{EXEC}"), Some(Protocol::from_static("connect-udp")), &[])
        .await;
    assert_eq!(other.status(), 400);
    let other = connection
        .request(Method::CONNECT, &format!("{BACKSTAGE_PROXY}{EXEC}"), Some(Protocol::from_static("spdy/3.1")), &[])
        .await;
    assert_eq!(other.status(), 400);
    assert_eq!(connection.request(Method::CONNECT, "", None, &[]).await.status(), 405);
    assert!(peer.heard().is_empty());

    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(gate.token_of("jane"));
    let bearer = format!("base64url.bearer.authorization.k8s.io.{token}, v4.channel.k8s.io");
    let browser = [("authorization", ""), ("origin", own_origin.as_str()), ("sec-websocket-protocol", bearer.as_str())];
    let twice = connection.websocket(&browser).await;
    assert_eq!(twice.status(), 400, "a token by header and by subprotocol");
}

#[tokio::test]
async fn what_is_no_answer_to_the_key_is_502() {
    let wrong = |answer: &'static str| UpgradePeer::saying(answer).start();
    let answers = [
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n",
        "HTTP/1.1 302 X\r\nLocation: http://x/\r\ncontent-length: 0\r\n\r\n",
        // To an extended CONNECT, any 2xx would say that the tunnel stands.
        "HTTP/1.1 200 X\r\ncontent-length: 3\r\n\r\nyes",
        "HTTP/1.1 204 X\r\n\r\n",
    ];
    for answer in answers {
        let peer = wrong(answer).await;
        let gate = gate_at(&peer).await;
        let response = Connection::open(&gate).await.websocket(&[]).await;
        assert_eq!(response.status(), 502, "{answer}");
        assert_eq!(peer.ended(1).await.remove(0).behind_head(), b"", "{answer}");
    }
}

#[tokio::test]
async fn another_answer_is_relayed_over_http2() {
    use http_body_util::BodyExt as _;
    let peer = UpgradePeer::saying("HTTP/1.1 403 X\r\ncontent-length: 2\r\n\r\nno").start().await;
    let gate = gate_at(&peer).await;

    let response = Connection::open(&gate).await.websocket(&[]).await;

    assert_eq!(response.status(), 403);
    assert_eq!(soon("the body", response.collect()).await.unwrap().to_bytes(), "no");
    assert_eq!(peer.ended(1).await.remove(0).behind_head(), b"");
}

#[tokio::test]
async fn a_client_that_resets_its_stream_ends_the_tunnel() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let gate = gate_at(&peer).await;
    let mut connection = Connection::open(&gate).await;
    let response = connection.websocket(&[]).await;
    assert_eq!(response.status(), 200);

    drop(hyper::upgrade::on(response).await.unwrap());

    peer.ended(1).await;
    assert_eq!(connection.request(Method::GET, "/api/kubernetes/clusters", None, &[]).await.status(), 200);
}
