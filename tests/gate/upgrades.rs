//! Group E: WebSocket and SPDY through the gate, opaque, and nothing of the caller's identity with them.

use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::Authority;
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;
use witgate_tests::upgrade_peer::{Then, UpgradePeer};
use witgate_tests::websocket::{WebSocket, WebSocketServer};

/// What `kubectl exec` asks for.
pub(crate) const EXEC: &str = "/api/v1/namespaces/dev/pods/p/exec?command=sh";

/// The head of an upgrade as jane's client sends it, up to the last header.
pub(crate) fn head(gate: &Gate, protocol: &str) -> String {
    format!(
        "GET {BACKSTAGE_PROXY}{EXEC} HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\n\
         connection: Upgrade\r\nupgrade: {protocol}\r\n",
        gate.token_of("jane")
    )
}

/// A gate in front of `peer`, which is asked without a credential.
pub(crate) async fn gate_at(peer: &UpgradePeer) -> Gate {
    Gate::without_clusters().cluster(peer.cluster("anonymous")).start().await
}

#[tokio::test]
async fn e1_a_browser_s_websocket_is_the_first_request_to_the_cluster() {
    a_browser_s_websocket(None).await;
}

#[tokio::test]
async fn e3_a_browser_s_websocket_to_a_cluster_with_tls() {
    a_browser_s_websocket(Some(&Authority::new("cluster"))).await;
}

/// A browser cannot set `Authorization`, so its token comes as a subprotocol; that one ends at the gate, the others go on.
async fn a_browser_s_websocket(authority: Option<&Authority>) {
    use base64::Engine as _;
    let server = WebSocketServer::start(authority).await;
    let gate = Gate::without_clusters().cluster(server.cluster("anonymous")).start().await;
    let path = format!("{BACKSTAGE_PROXY}{EXEC}");
    let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(gate.token_of("jane"));
    let bearer = format!("base64url.bearer.authorization.k8s.io.{token}");
    let origin = |origin: &str| ("origin", origin.to_owned());
    let own_origin = format!("http://{}", gate.address());
    let protocols = |offered: &str| ("sec-websocket-protocol", offered.replace("TOKEN", &bearer));

    for offered in [
        "TOKEN, v5.channel.k8s.io, v4.channel.k8s.io",
        "v4.channel.k8s.io, TOKEN",
        "base64.channel.k8s.io, TOKEN, channel.k8s.io",
    ] {
        let mut socket =
            WebSocket::open(gate.address(), &path, &[origin(&own_origin), protocols(offered)]).await.unwrap();
        for message in [&b"\0ls -l\n"[..], &[0xff, 0x00, 0x80], &[7; 100_000]] {
            socket.echo(message).await;
        }
        let left = offered.replace("TOKEN, ", "").replace(", TOKEN", "");
        assert_eq!(socket.subprotocol.as_deref(), left.split(", ").next(), "the server's choice is kept");
        let head = server.heads().pop().unwrap();
        assert_eq!(head["sec-websocket-protocol"], left);
        for name in ["authorization", "origin", "cookie"] {
            assert!(!head.contains_key(name), "{name} ends at the gate");
        }
    }

    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let offered = protocols("TOKEN, v5.channel.k8s.io");
        let refused = WebSocket::open(gate.address(), &path, &[origin(foreign), offered]).await;
        assert_eq!(refused.err(), Some(403), "{foreign}");
    }
    assert_eq!(server.heads().len(), 3, "a foreign origin reaches nobody");
}

#[tokio::test]
async fn e4_a_refused_upgrade_is_a_json_answer_and_nobody_is_connected_to() {
    let peer = UpgradePeer::switching().start().await;
    let cluster = || peer.cluster("anonymous");
    let gate = Gate::without_clusters().cluster(cluster()).start().await;
    let reader = Gate::without_clusters().policy("read-only").cluster(cluster()).start().await;
    let cases = [
        (&gate, head(&gate, "websocket").replace("authorization", "x-nothing"), 401, "Missing credentials"),
        (&gate, head(&gate, "websocket").replace("Bearer ", "Bearer x"), 401, "AuthenticationError"),
        (&reader, head(&reader, "websocket"), 403, "NotAllowedError"),
        (&reader, head(&reader, "SPDY/3.1").replace("GET ", "POST "), 403, "NotAllowedError"),
        (&gate, head(&gate, "websocket") + "backstage-kubernetes-cluster: nope\r\n", 404, "Cluster 'nope' not found"),
    ];

    for (gate, head, status, text) in cases {
        let mut raw = gate.raw_client().await;
        raw.write(head + "\r\n").await;
        let answer = raw.read_to_close().await;
        assert_eq!(answer.status, Some(status), "{}", answer.text);
        assert!(answer.text.contains("content-type: application/json"), "{}", answer.text);
        assert!(answer.text.contains(text), "{}", answer.text);
    }
    assert!(peer.heard().is_empty());
}

#[tokio::test]
async fn e6_an_upgrade_to_a_cluster_that_is_down_is_502() {
    let down = Cluster::at_url("one", &BrokenUpstream::refusing_url().await, "anonymous");
    let gate = Gate::without_clusters().cluster(down).start().await;
    let mut raw = gate.raw_client().await;

    raw.write(head(&gate, "websocket") + "\r\n").await;

    let answer = raw.read_to_close().await;
    assert_eq!(answer.status, Some(502), "{}", answer.text);
    assert!(answer.text.contains("the cluster's API server cannot be reached"), "{}", answer.text);
}

#[tokio::test]
async fn e7_spdy_is_tunnelled_with_the_bytes_that_come_early_on_either_side() {
    let peer = UpgradePeer::answering(|heard| heard.switching() + "early from above").then(Then::Echo).start().await;
    let gate = gate_at(&peer).await;
    let mut raw = gate.raw_client().await;

    raw.write(head(&gate, "SPDY/3.1").replace("GET ", "POST ") + "\r\nearly from below").await;
    let answer = raw.read_until("early from aboveearly from below").await;
    assert_eq!(answer.status, Some(101), "{}", answer.text);
    let lower = answer.text.to_ascii_lowercase();
    assert!(lower.contains("upgrade: spdy/3.1\r\n") && lower.contains("connection: upgrade\r\n"), "{lower}");
    raw.write(b"\x80\x03\x00\x01 later").await;
    raw.read_until("later").await;

    raw.half_close().await;
    raw.read_to_close().await;
    let heard = peer.ended(1).await.remove(0);
    assert!(heard.head().starts_with("POST /api/v1/namespaces/dev/pods/p/exec?command=sh HTTP/1.1\r\n"));
    assert_eq!(heard.header("upgrade").as_deref(), Some("SPDY/3.1"));
    assert_eq!(heard.behind_head(), b"early from below\x80\x03\x00\x01 later");
}

#[tokio::test]
async fn e7_other_protocols_are_400_at_once() {
    let peer = UpgradePeer::switching().start().await;
    let gate = gate_at(&peer).await;

    for protocol in ["h2c", "TLS/1.0", "websocket, h2c", "SPDY/3.0", "websockets", ""] {
        let mut raw = gate.raw_client().await;
        raw.write(head(&gate, protocol) + "http2-settings: AAMAAABkAAQAAP__\r\n\r\nPRI * HTTP/2.0\r\n\r\n").await;
        let answer = raw.read_to_close().await;
        assert_eq!(answer.status, Some(400), "{protocol}: {}", answer.text);
        assert_eq!(answer.text.matches("HTTP/1.1 ").count(), 1, "{protocol}: {}", answer.text);
    }
    assert!(peer.heard().is_empty());
}

/// The handshake's own headers pass as they are, both ways: the gate is no WebSocket peer.
#[tokio::test]
async fn e8_the_cluster_s_credential_goes_up_and_the_handshake_is_opaque() {
    let peer = UpgradePeer::saying(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Accept: not-checked-here\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
         Set-Cookie: a=b\r\n\r\n",
    )
    .start()
    .await;
    let token = secret("service-account token");
    let cluster = peer.cluster("serviceAccount").service_account_token(&token);
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let mut raw = gate.raw_client().await;

    raw.write(
        head(&gate, "websocket")
            + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
               sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\ncookie: session=1\r\n\
               x-remote-user: root\r\nx-forwarded-for: 10.0.0.1\r\nbackstage-user: root\r\nx_remote_user: root\r\n\r\n",
    )
    .await;
    let answer = raw.read_until("\r\n\r\n").await;

    assert_eq!(answer.status, Some(101));
    let lower = answer.text.to_ascii_lowercase();
    for passed in ["sec-websocket-accept: not-checked-here\r\n", "sec-websocket-extensions: permessage-deflate\r\n"] {
        assert!(lower.contains(passed), "{lower}");
    }
    assert!(!lower.contains("set-cookie"), "{lower}");
    let heard = peer.heard().remove(0);
    let expected = [
        ("authorization", Some(format!("Bearer {token}"))),
        ("connection", Some("Upgrade".to_owned())),
        ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ==".to_owned())),
        ("sec-websocket-version", Some("13".to_owned())),
        ("sec-websocket-extensions", Some("permessage-deflate; client_max_window_bits".to_owned())),
        ("cookie", None),
        ("x-remote-user", None),
        ("x-forwarded-for", None),
        ("backstage-user", None),
        ("x_remote_user", None),
    ];
    for (name, value) in expected {
        assert_eq!(heard.header(name), value, "{name}");
    }
}

/// Over TLS the way up is HTTP/1.1 by ALPN, and each upgrade has a connection of its own.
#[tokio::test]
async fn each_upgrade_has_a_fresh_http1_connection() {
    let peer = UpgradePeer::switching().then(Then::Echo).tls(&Authority::new("cluster")).start().await;
    let gate = gate_at(&peer).await;

    for count in 1..=3 {
        let mut raw = gate.raw_client().await;
        raw.write(head(&gate, "SPDY/3.1") + "\r\nping").await;
        raw.read_until("ping").await;
        raw.half_close().await;
        raw.read_to_close().await;
        let heard = peer.ended(count).await;
        assert!(heard.iter().all(|heard| heard.alpn.as_deref() == Some("http/1.1")), "{heard:?}");
        assert!(heard.iter().all(|heard| heard.behind_head() == b"ping"), "{heard:?}");
    }
}

/// CVE-2021-31999: what the client names in `Connection` goes before our own headers are set.
#[tokio::test]
async fn connection_cannot_name_the_headers_that_the_gate_stamps() {
    let api_server = ApiServer::start().await;
    let peer = UpgradePeer::switching().start().await;
    let token = secret("service-account token");
    let stamped = |cluster: Cluster| cluster.service_account_token(&token).with("allowImpersonation", true);
    let plain = Gate::without_clusters().cluster(stamped(Cluster::at("one", &api_server, "serviceAccount")));
    let upgraded = Gate::without_clusters().cluster(stamped(peer.cluster("serviceAccount")));
    let (plain, upgraded) = (plain.start().await, upgraded.start().await);
    let names = "authorization, impersonate-user, Impersonate-Group";

    let mut raw = plain.raw_client().await;
    raw.write(format!(
        "GET {BACKSTAGE_PROXY}/version HTTP/1.1\r\nhost: gate\r\nauthorization: Bearer {}\r\n\
         impersonate-user: kim\r\nimpersonate-group: dev\r\nconnection: close, {names}\r\n\r\n",
        plain.token_of("jane")
    ))
    .await;
    assert_eq!(raw.read_to_close().await.status, Some(200));
    let mut raw = upgraded.raw_client().await;
    raw.write(
        head(&upgraded, "SPDY/3.1").replace("connection: Upgrade", &format!("connection: Upgrade, {names}"))
            + "impersonate-user: kim\r\nimpersonate-group: dev\r\n\r\n",
    )
    .await;
    assert_eq!(raw.read_until("\r\n\r\n").await.status, Some(101));

    let (request, heard) = (api_server.only_request(), peer.heard().remove(0));
    for (name, value) in [
        ("authorization", format!("Bearer {token}")),
        ("impersonate-user", "kim".into()),
        ("impersonate-group", "dev".into()),
    ] {
        assert_eq!(request.header(name), Some(value.as_str()));
        assert_eq!(heard.header(name), Some(value));
    }
}

/// Tracked to its end, and told: the decision log has a second line, the cluster's place is held until then.
#[tokio::test]
async fn the_end_of_an_upgrade_is_told() {
    let peer = UpgradePeer::switching().then(Then::Echo).start().await;
    let gate = gate_at(&peer).await;
    let mut raw = gate.raw_client().await;
    raw.write(head(&gate, "SPDY/3.1") + "\r\nfour").await;
    let answer = raw.read_until("four").await;

    raw.half_close().await;
    raw.read_to_close().await;

    let lines = gate.decisions_of(&decision_id(&answer.text), 2).await;
    assert_eq!((&lines[0]["status"], &lines[0]["upgrade"]), (&101.into(), &true.into()));
    assert_eq!((&lines[1]["closeReason"], &lines[1]["bytes"]), (&"client-closed".into(), &4.into()));
}

/// The decision that a raw answer names.
pub(crate) fn decision_id(answer: &str) -> String {
    let line = answer.lines().find_map(|line| line.strip_prefix("witgate-decision-id: "));
    line.unwrap_or_else(|| panic!("no decision in {answer}")).to_owned()
}
