//! Strategies that go out: to the servers that their sidecars grant, and to nobody else.

use serde_json::{Value, json};
use tokio::net::TcpListener;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::Authority;
use witgate_tests::broken_upstream::{BrokenUpstream, Fault};
use witgate_tests::client::Answer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// The strategy `fetch` with these `outboundHosts`.
fn fetch(hosts: Value) -> Plugin {
    Plugin::fixture("fetch").sidecar(json!({ "outboundHosts": hosts, "limits": { "deadlineMs": 10000 } }))
}

/// A cluster whose credential is fetched from `url`.
fn fetching(name: &str, api_server: &ApiServer, url: &str) -> Cluster {
    Cluster::at(name, api_server, "fetch").with("authMetadata", json!({ "witgate.io/url": url }))
}

fn gate(hosts: Value) -> GateBuilder {
    Gate::without_clusters().plugin(fetch(hosts))
}

/// Why the strategy got nothing: what it says itself.
#[track_caller]
fn refusal(answer: &Answer) -> String {
    assert_eq!(answer.status(), 401, "{}", answer.summary());
    answer.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_granted_server_is_reached_and_its_token_used() {
    let api_server = ApiServer::start().await;
    let token = secret("token of the token server");
    let served = token.clone();
    let tokens = ApiServer::answering(move |_| Reply::new(200, served.clone())).start().await;
    let url = format!("{}/token?for=us", tokens.url());
    let cluster = fetching("one", &api_server, &url).with(
        "authMetadata",
        json!({ "witgate.io/url": url, "witgate.io/body": "grant_type=x", "witgate.io/header": "x-a: 1" }),
    );
    let gate = gate(json!([tokens.url()])).cluster(cluster).start().await;

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);

    assert_eq!(api_server.only_request().header("authorization"), Some(format!("Bearer {token}").as_str()));
    let asked = tokens.only_request();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str(), asked.body.text()),
        ("POST", "/token?for=us", "grant_type=x")
    );
    assert_eq!((asked.header("x-a"), asked.header("content-length")), (Some("1"), Some("12")));
}

/// Over TLS, with the authorities of its grant, at an address that only `addresses` grants.
#[tokio::test]
async fn a_private_server_is_reached_by_its_own_authority() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("private");
    let tokens = ApiServer::answering(|_| Reply::new(200, "from-tls")).tls(&authority).start().await;
    let origin = tokens.url();
    let cluster = || fetching("one", &api_server, &origin);

    let trusting = gate(json!([{ "origin": origin, "addresses": ["127.0.0.0/8"], "caFile": "../ca.pem" }]))
        .file("ca.pem", &authority.pem())
        .cluster(cluster())
        .start()
        .await;
    assert_eq!(trusting.client_as("jane").get(PODS).await.status(), 200);
    assert_eq!(api_server.only_request().header("authorization"), Some("Bearer from-tls"));

    let strict = gate(json!([origin])).cluster(cluster()).start().await;
    assert_eq!(refusal(&strict.client_as("jane").get(PODS).await), "fetch: Untrusted");
    assert_eq!(tokens.heard().len(), 1);
}

/// Goal: a token server moves to another authority while the gate serves. Method: its `caFile` is written anew; the sidecar
/// stays as it is, and so does the generation.
#[tokio::test]
async fn a_private_servers_authority_is_read_again() {
    let api_server = ApiServer::start().await;
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let tokens = ApiServer::answering(|_| Reply::new(200, "from-tls")).tls(&new).start().await;
    let origin = tokens.url();
    let gate = gate(json!([{ "origin": origin, "addresses": ["127.0.0.0/8"], "caFile": "../ca.pem" }]))
        .file("ca.pem", &old.pem())
        .cluster(fetching("one", &api_server, &origin))
        .start()
        .await;
    let jane = gate.client_as("jane");
    assert_eq!(refusal(&jane.get(PODS).await), "fetch: Untrusted");

    std::fs::write(gate.folder().join("ca.pem"), new.pem()).unwrap();
    until("the new authority is believed", || async {
        gate.log().contains("certificate authorities were replaced").then_some(())
    })
    .await;
    // A failure is remembered for a moment.
    until("the token is fetched", || async { (jane.get(PODS).await.status() == 200).then_some(()) }).await;

    std::fs::write(gate.folder().join("ca.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    until("the broken file is refused", || async {
        gate.log().contains("new certificate authorities are refused").then_some(())
    })
    .await;
    assert_eq!(gate.client_as("john").get(PODS).await.status(), 200);
    assert_eq!(gate.log().matches("\"published\"").count(), 1);
}

/// `cluster` is the API server of the cluster at hand: with its authority, without a credential, and no other cluster's.
#[tokio::test]
async fn the_grant_cluster_is_the_cluster_at_hand() {
    let authority = Authority::new("cluster");
    let answer = |request: &witgate_tests::api_server::Request| match request.target.as_str() {
        "/token" => Reply::new(200, "of-the-cluster"),
        _ => Reply::default(),
    };
    let (one, two) = (
        ApiServer::answering(answer).tls(&authority).start().await,
        ApiServer::answering(answer).tls(&authority).start().await,
    );
    let at = |name: &str, url: String| fetching(name, &one, &url);
    let gate = gate(json!(["cluster"]))
        .cluster(at("own", format!("{}/token", one.url())))
        .cluster(at("foreign", format!("{}/token", two.url())))
        .start()
        .await;

    assert_eq!(gate.caller("jane").backstage("own").get(PODS).await.status(), 200);
    assert_eq!(refusal(&gate.caller("jane").backstage("foreign").get(PODS).await), "fetch: Denied");

    let requests = one.requests();
    assert_eq!(one.heard(), ["GET /token".to_owned(), format!("GET {PODS}")]);
    assert_eq!(requests[0].header("authorization"), None);
    assert_eq!(requests[1].header("authorization"), Some("Bearer of-the-cluster"));
    assert_eq!(two.connections_count(), 0);
}

#[tokio::test]
async fn a_strategy_without_a_grant_is_refused_by_the_names_of_its_imports() {
    let gate = Gate::without_clusters().plugin(Plugin::fixture("fetch"));

    let ended = gate.refused_start().await;

    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("plug-in `fetch` imports `wasi:http/"), "{}", ended.stderr);
    assert!(ended.stderr.contains("which its sidecar does not grant"), "{}", ended.stderr);
}

/// A strategy that is granted one server cannot connect to another: a canary on another port, and at the machine's other
/// addresses, sees no connection.
#[tokio::test]
async fn another_server_is_never_connected_to() {
    let api_server = ApiServer::start().await;
    let canary = canary().await;
    let location = format!("http://127.0.0.1:{}/", port_of(&canary));
    let redirecting = ApiServer::answering(move |_| Reply::new(302, "").header("location", &location)).start().await;
    let (port, granted) = (port_of(&canary), port_of(&redirecting));
    let mut cases: Vec<(String, &str)> = [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://LOCALHOST:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0x7f000001:{port}/"),
        format!("http://0x7f.0.0.1:{port}/"),
        format!("http://017700000001:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://0:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::]:{port}/"),
        format!("http://127.0.0.2:{port}/"),
        format!("http://127.0.0.1.:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("http://127.0.0.1:{granted}@127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        // The granted server by another scheme, name or form of its address.
        format!("https://127.0.0.1:{granted}/"),
        format!("http://localhost:{granted}/"),
        format!("http://[::ffff:127.0.0.1]:{granted}/"),
        format!("http://2130706433:{granted}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://metadata.google.internal/".to_owned(),
    ]
    .map(|url| (url, "fetch: Denied"))
    .into();
    for url in [format!("http://127.0.0.1:+{port}/"), format!("http://127.0.0.1\\@127.0.0.1:{port}/")] {
        cases.push((url, "fetch: "));
    }
    let mut builder = gate(json!([redirecting.url()]));
    for (number, (url, _)) in cases.iter().enumerate() {
        builder = builder.cluster(fetching(&format!("c{number}"), &api_server, url));
    }
    // By redirect: nobody follows it, and a guest that does is denied like any other.
    let followed = json!({ "witgate.io/url": redirecting.url(), "witgate.io/follow": "1" });
    let gate = builder
        .cluster(fetching("redirected", &api_server, &redirecting.url()))
        .cluster(fetching("following", &api_server, "").with("authMetadata", followed))
        .start()
        .await;

    for (number, (url, expected)) in cases.iter().enumerate() {
        let answer = gate.caller("jane").backstage(&format!("c{number}")).get(PODS).await;
        assert!(refusal(&answer).starts_with(expected), "{url}: {}", answer.summary());
    }
    let ask = async |name: &str| refusal(&gate.caller("jane").backstage(name).get(PODS).await);
    assert_eq!(ask("redirected").await, "fetch: 302");
    assert_eq!(ask("following").await, "fetch: Denied");

    assert_eq!(canary.connections_count(), 0);
    assert_eq!(redirecting.heard(), ["GET /", "GET /"]);
    assert_eq!(api_server.heard(), NOTHING);
}

/// A server that misbehaves costs one refused request, each in its own words, and its neighbours nothing.
#[tokio::test]
async fn a_misbehaving_server_is_refused_in_its_own_words() {
    let api_server = ApiServer::start().await;
    const BIG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n";
    let mut faults = Vec::new();
    for (name, fault, expected) in [
        ("huge", Fault::WriteThenClose(BIG), "fetch: TooLarge"),
        ("broken", Fault::WriteThenClose("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhi"), "fetch: Incomplete"),
        ("nonsense", Fault::WriteThenClose("nonsense\r\n\r\n"), "fetch: Protocol"),
        ("closing", Fault::WriteThenClose(""), "fetch: Unreachable"),
    ] {
        faults.push((name, BrokenUpstream::start(fault).await, expected));
    }
    let (endless, body) = Reply::streamed();
    let endless = ApiServer::replying([endless]).start().await;
    let good = ApiServer::answering(|_| Reply::new(200, "good")).start().await;
    let nobody = BrokenUpstream::refusing_url().await;
    let mut hosts = vec![good.url(), endless.url(), nobody.clone()];
    hosts.extend(faults.iter().map(|(_, server, _)| server.url()));
    let mut builder = gate(json!(hosts))
        .cluster(fetching("good", &api_server, &good.url()))
        .cluster(fetching("nobody", &api_server, &nobody))
        .cluster(fetching("endless", &api_server, &endless.url()));
    for (name, server, _) in &faults {
        builder = builder.cluster(fetching(name, &api_server, &server.url()));
    }
    let gate = builder.start().await;
    let ask = async |name: &str| gate.caller("jane").backstage(name).get(PODS).await;

    for (name, _, expected) in &faults {
        assert_eq!(refusal(&ask(name).await), *expected, "{name}");
        assert_eq!(ask("good").await.status(), 200, "after {name}");
    }
    assert_eq!(refusal(&ask("nobody").await), "fetch: Unreachable");
    let write = async {
        let piece = "x".repeat(64 << 10);
        for _ in 0..17 {
            body.write(piece.clone()).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = ask("endless") => assert_eq!(refusal(&answer), "fetch: TooLarge"),
        () = write => {}
    }
}

/// Waiting for a server counts against the deadline, and holds no thread: many calls wait at once, others go on.
#[tokio::test]
async fn a_silent_server_costs_its_deadline_and_nobody_else() {
    let api_server = ApiServer::start().await;
    let silent = BrokenUpstream::start(Fault::Silent).await;
    let good = ApiServer::answering(|_| Reply::new(200, "good")).start().await;
    let hosts = json!([silent.url(), good.url()]);
    let plugin = Plugin::fixture("fetch").sidecar(json!({ "outboundHosts": hosts, "limits": { "deadlineMs": 3000 } }));
    let gate = Gate::without_clusters()
        .plugin(plugin)
        .cluster(fetching("silent", &api_server, &silent.url()))
        .cluster(fetching("good", &api_server, &good.url()))
        .start()
        .await;
    let waiting: Vec<_> = (0..16)
        .map(|number| {
            // Each with a token of its own, so that the credential cache does not let them share one exchange.
            let own = format!("token-{number}");
            let client =
                gate.caller("jane").backstage("silent").with_header("Backstage-Kubernetes-Authorization-Fetch", &own);
            tokio::spawn(async move { client.get(PODS).await.status() })
        })
        .collect();

    witgate_tests::waiting::until("all of them wait", async || (silent.heads_count() == 16).then_some(())).await;
    assert_eq!(gate.caller("jane").backstage("good").get(PODS).await.status(), 200);
    assert!(waiting.iter().all(|waits| !waits.is_finished()), "the good one was answered first");

    for waits in waiting {
        assert_eq!(waits.await.unwrap(), 504);
    }
}

/// The log says why, to the operator, and holds nothing of what the guest sent.
#[tokio::test]
async fn the_log_says_why_without_the_url() {
    let api_server = ApiServer::start().await;
    let password = secret("password in a URL");
    let gate = gate(json!(["https://sts.example"]))
        .cluster(fetching("path", &api_server, &format!("http://10.1.2.3/{password}")))
        .cluster(fetching("user", &api_server, &format!("http://u:{password}@10.1.2.3/")))
        .start()
        .await;

    assert_eq!(refusal(&gate.caller("jane").backstage("path").get(PODS).await), "fetch: Denied");
    gate.log_line_with("HTTP request to `http://10.1.2.3` failed: its sidecar's `outboundHosts` do not grant it").await;
    assert_eq!(refusal(&gate.caller("jane").backstage("user").get(PODS).await), "fetch: Denied");
    gate.log_line_with("HTTP request to an unreadable origin failed").await;
}

/// Headers of the connection, and `Host`, are not a guest's to set.
#[tokio::test]
async fn headers_of_the_connection_are_refused() {
    let api_server = ApiServer::start().await;
    let tokens = ApiServer::answering(|_| Reply::new(200, "t")).start().await;
    let names = ["host", "connection", "transfer-encoding", "upgrade", "te", "expect", "proxy-authorization"];
    let mut builder = gate(json!([tokens.url()]));
    for name in names {
        let metadata = json!({ "witgate.io/url": tokens.url(), "witgate.io/header": format!("{name}: x") });
        builder = builder.cluster(fetching(name, &api_server, "").with("authMetadata", metadata));
    }
    let gate = builder.start().await;
    for name in names {
        let answer = gate.caller("jane").backstage(name).get(PODS).await;
        assert_eq!(refusal(&answer), format!("fetch: InvalidHeader(\"{name}\")"));
    }
    assert_eq!(tokens.connections_count(), 0);
}

/// A server at all of the machine's addresses, of both kinds where it has both.
async fn canary() -> ApiServer {
    let listener = match TcpListener::bind("[::]:0").await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind("0.0.0.0:0").await.unwrap(),
    };
    ApiServer::answering(|_| Reply::default()).start_on(listener)
}

/// A name that is granted, and is at an address which is not public, is not connected to. The gate has a hosts file of its own,
/// so the names go the whole way through the machine's resolver. 169.254.169.254 is nobody's here: that nothing is sent
/// there shows in the refusal, which comes before any connection; all other addresses are this machine's or not routed.
#[tokio::test]
async fn a_granted_name_at_a_private_address_is_never_connected_to() {
    let api_server = ApiServer::start().await;
    let canary = canary().await;
    let port = port_of(&canary);
    let names: [(&str, &[&str]); 17] = [
        ("metadata.google.internal", &["169.254.169.254"]),
        ("link-local.test", &["169.254.169.254"]),
        ("loopback.test", &["127.0.0.1"]),
        ("loopback-2.test", &["127.0.0.2"]),
        ("loopback-end.test", &["127.255.255.254"]),
        ("loopback6.test", &["::1"]),
        ("mapped.test", &["::ffff:127.0.0.1"]),
        ("mapped-metadata.test", &["::ffff:169.254.169.254"]),
        ("unspecified.test", &["0.0.0.0"]),
        ("unspecified6.test", &["::"]),
        ("private-10.test", &["10.0.0.1"]),
        ("private-172.test", &["172.16.0.1"]),
        ("private-192.test", &["192.168.0.1"]),
        ("unique-local.test", &["fd00:ec2::254"]),
        ("nat64.test", &["64:ff9b::7f00:1"]),
        // Rebinding within one answer: the public address does not make up for the other.
        ("rebinding.test", &["192.0.9.1", "127.0.0.1"]),
        ("rebinding6.test", &["::1", "2606:4700::1111"]),
    ];
    let hosts: String = names
        .iter()
        .flat_map(|(name, addresses)| addresses.iter().map(move |address| format!("{address} {name}\n")))
        .collect();
    let grants: Vec<_> = names.iter().map(|(name, _)| format!("http://{name}:{port}")).collect();
    let mut builder = match gate(json!(grants)).own_hosts(&hosts) {
        Ok(builder) => builder,
        Err(why) => return println!("skipped: the gate cannot have a hosts file of its own: {why}"),
    };
    for (number, url) in grants.iter().enumerate() {
        builder = builder.cluster(fetching(&format!("c{number}"), &api_server, url));
    }
    let gate = builder.start().await;

    for (number, (name, _)) in names.iter().enumerate() {
        let answer = gate.caller("jane").backstage(&format!("c{number}")).get(PODS).await;
        assert_eq!(refusal(&answer), "fetch: AddressProhibited", "{name}");
    }
    gate.log_line_with("it is at 169.254.169.254, a link-local address, which its grant does not include").await;

    assert_eq!(canary.connections_count(), 0);
    assert_eq!(api_server.heard(), NOTHING);
}

/// Rebinding between two answers: a name that was at a granted address, and is at another the next time.
#[tokio::test]
async fn a_name_that_moves_is_judged_anew() {
    let api_server = ApiServer::start().await;
    let (granted, canary) = neighbours().await;
    let origin = format!("http://moving.test:{}", port_of(&granted));
    let hosts = json!([{ "origin": origin, "addresses": ["127.0.0.1"] }]);
    let gate = match gate(hosts).own_hosts("127.0.0.1 moving.test\n") {
        Ok(builder) => builder.cluster(fetching("one", &api_server, &origin)).start().await,
        Err(why) => return println!("skipped: the gate cannot have a hosts file of its own: {why}"),
    };
    let jane = gate.client_as("jane");

    assert_eq!(jane.get(PODS).await.status(), 200);
    let moves = ["127.0.0.2", "::1", "::ffff:127.0.0.2", "169.254.169.254", "127.0.0.1 moving.test\n127.0.0.2"];
    for (number, moved) in moves.iter().enumerate() {
        std::fs::write(gate.folder().join("hosts"), format!("{moved} moving.test\n")).unwrap();
        // With a token of its own, so that no refusal is remembered from the one before.
        let own = jane.clone().with_header("Backstage-Kubernetes-Authorization-Fetch", &format!("token-{number}"));
        assert_eq!(refusal(&own.get(PODS).await), "fetch: AddressProhibited", "{moved}");
    }
    std::fs::write(gate.folder().join("hosts"), "127.0.0.1 moving.test\n").unwrap();
    assert_eq!(jane.get(PODS).await.status(), 200);

    assert_eq!((canary.connections_count(), granted.requests().len()), (0, 2));
}

/// Two servers at one port: of 127.0.0.1, which gives out tokens, and of 127.0.0.2.
async fn neighbours() -> (ApiServer, ApiServer) {
    loop {
        let granted = ApiServer::answering(|_| Reply::new(200, "token")).start().await;
        if let Ok(listener) = TcpListener::bind(("127.0.0.2", port_of(&granted))).await {
            return (granted, ApiServer::answering(|_| Reply::default()).start_on(listener));
        }
    }
}

fn port_of(server: &ApiServer) -> u16 {
    server.address().port()
}
