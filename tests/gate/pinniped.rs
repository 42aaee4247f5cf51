//! The strategy `pinniped`: a person's token becomes a client certificate of the cluster's own, and nothing else gets through.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use insta::assert_snapshot;
use serde_json::{Map, Value, json};
use witgate_tests::api_server::{ApiServer, Reply, Request};
use witgate_tests::authority::{Authority, client_tls_trusting_pem};
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::concierge::{Concierge, rfc3339};
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::kube_rig;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";
const TOKEN_HEADER: &str = "Backstage-Kubernetes-Authorization-Pinniped-Audience1";
const LIFE: Duration = Duration::from_secs(300);

/// An API server with a Concierge inside, which takes the certificates that this one gives out.
async fn cluster_with(concierge: &Arc<Concierge>, clients: &Authority) -> ApiServer {
    let concierge = Arc::clone(concierge);
    let answer = move |request: &Request| concierge.answer(request).unwrap_or_default();
    ApiServer::answering(answer).tls_asking_clients_of(&Authority::new("servers"), clients).start().await
}

fn pinniped(name: &str, api_server: &ApiServer) -> Cluster {
    let metadata = json!({ "kubernetes.io/x-pinniped-audience": "audience1" });
    Cluster::at(name, api_server, "pinniped").with("authMetadata", metadata)
}

fn gate(cluster: Cluster) -> GateBuilder {
    Gate::without_clusters().cluster(cluster)
}

/// The requests that were forwarded: those that are not for the Concierge.
fn forwarded(api_server: &ApiServer) -> Vec<Request> {
    api_server.requests().into_iter().filter(|request| !request.target.contains("tokencredentialrequests")).collect()
}

/// Without a sidecar: the grant `cluster` is the built-in's own. The exchange shows nobody's certificate, the request its
/// own person's; one exchange a token, however many requests.
#[tokio::test]
async fn c28_a_token_becomes_its_owners_certificate() {
    let clients = Authority::new("clients");
    let concierge = Arc::new(Concierge::new(clients.again()));
    let (janes, johns) = (secret("jane's token for the cluster"), secret("john's token for the cluster"));
    concierge.knows(&janes, "jane", "dev", LIFE);
    concierge.knows(&johns, "john", "dev", LIFE);
    let api_server = cluster_with(&concierge, &clients).await;
    let gate = gate(pinniped("one", &api_server)).start().await;
    let (jane, john) = (
        gate.client_as("jane").with_header(TOKEN_HEADER, &janes),
        gate.client_as("john").with_header(TOKEN_HEADER, &johns),
    );

    let mut hits = Vec::new();
    for client in [&jane, &jane, &john, &jane] {
        let answer = client.get(PODS).await;
        assert_eq!(answer.status(), 200, "{} {:?}", answer.summary(), concierge.complaints());
        let decision = gate.decision_of(&answer).await;
        assert_eq!(
            (&decision["strategy"], &decision["credential"]),
            (&json!("pinniped"), &json!("x509 client certificate"))
        );
        hits.push(decision["cacheHit"] == true);
    }

    assert_eq!(hits, [false, true, false, true]);
    assert_eq!(concierge.complaints(), NOTHING);
    let issued = concierge.issued();
    assert_eq!(issued.len(), 2);
    let shown: Vec<_> = forwarded(&api_server).iter().map(|request| request.peer_certificate.clone()).collect();
    let expected = [&issued[0], &issued[0], &issued[1], &issued[0]].map(|certificate| Some(certificate.clone()));
    assert_eq!(shown, expected);
    for request in api_server.requests() {
        assert_eq!(request.header("authorization"), None, "{}", request.target);
        let is_exchange = request.target == concierge.path();
        assert_eq!(request.peer_certificate.is_none(), is_exchange, "{}", request.target);
    }
}

/// The group suffix, the authenticator and the audience are the cluster's own matter.
#[tokio::test]
async fn settings_and_metadata_name_the_concierge() {
    let clients = Authority::new("clients");
    let hook =
        json!({ "apiGroup": "authentication.concierge.corp.example", "kind": "WebhookAuthenticator", "name": "hook" });
    let signer = clients.again();
    let concierge = Arc::new(Concierge::with_suffix(signer, "corp.example").with_authenticator(hook));
    let token = secret("jane's token for the cluster");
    concierge.knows(&token, "jane", "dev", LIFE);
    let api_server = cluster_with(&concierge, &clients).await;
    let metadata = json!({
        "kubernetes.io/x-pinniped-authenticator-kind": "WebhookAuthenticator",
        "kubernetes.io/x-pinniped-authenticator-name": "hook",
    });
    let sidecar = json!({ "settings": { "apiGroupSuffix": "corp.example" } }).to_string();
    let gate = gate(pinniped("one", &api_server).with("authMetadata", metadata))
        .file("policies/pinniped.yaml", &sidecar)
        .start()
        .await;

    let answer = gate
        .client_as("jane")
        .with_header("Backstage-Kubernetes-Authorization-Pinniped-ClusterIdToken", &token)
        .get(PODS)
        .await;

    assert_eq!(answer.status(), 200, "{} {:?}", answer.summary(), concierge.complaints());
    assert_eq!(forwarded(&api_server)[0].peer_certificate.as_ref(), concierge.issued().first());
}

#[tokio::test]
async fn c29_a_refusal_is_401_in_the_concierges_words() {
    let clients = Authority::new("clients");
    let concierge = Arc::new(Concierge::new(Authority::new("others")));
    let api_server = cluster_with(&concierge, &clients).await;
    let gate = gate(pinniped("one", &api_server)).start().await;
    let token = secret("a token that the Concierge refuses");

    let answer = gate.client_as("jane").with_header(TOKEN_HEADER, &token).get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"401 {"error":{"name":"AuthenticationError","message":"authentication failed"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":401}}"#);
    let status = gate.caller("jane").kubernetes("one").with_header(TOKEN_HEADER, &token).get(PODS).await;
    assert_eq!((status.status(), status.json()["message"].as_str()), (401, Some("authentication failed")));
    let missing = gate.client_as("jane").get(PODS).await;
    assert_eq!(missing.status(), 401);
    assert_eq!(missing.json()["error"]["message"], "Auth token not found under pinniped.audience1 in request body");
    assert_eq!(forwarded(&api_server).len(), 0);
}

/// Whatever a Concierge does wrong, nobody's request is forwarded: not as anybody, and not as nobody.
#[tokio::test]
async fn a_failing_concierge_forwards_nothing() {
    let clients = Authority::new("clients");
    let (one, other) = (clients.client("one", &["dev"]), clients.client("other", &["dev"]));
    let (certificate, key, others_key) = (one.certificate_pem(), one.key_pem(), other.key_pem());
    let in_time = rfc3339(SystemTime::now() + LIFE);
    let bearer = format!("Bearer {}", secret("a token in a Concierge's redirect"));
    let status = |status: Value| json!({ "kind": "TokenCredentialRequest", "status": status }).to_string();
    let credential = |certificate: &str, key: &str, expiry: &str| {
        let (certificate, key) = (("clientCertificateData", certificate), ("clientKeyData", key));
        let fields: Map<_, _> = [certificate, key, ("expirationTimestamp", expiry)]
            .map(|(name, value)| (name.to_owned(), json!(value)))
            .into_iter()
            .collect();
        status(json!({ "credential": fields }))
    };
    let rows: Vec<(&str, u16, String, u16)> = vec![
        ("refused", 201, status(json!({ "message": "no such person" })), 401),
        ("500", 500, r#"{"kind":"Status"}"#.to_owned(), 502),
        ("503 with a credential", 503, credential(&certificate, &key, &in_time), 502),
        ("403", 403, r#"{"kind":"Status"}"#.to_owned(), 500),
        ("404", 404, r#"{"kind":"Status"}"#.to_owned(), 500),
        ("garbage", 201, "<html>login</html>".to_owned(), 502),
        ("empty", 201, String::new(), 502),
        ("nothing granted", 201, status(json!({})), 502),
        ("redirect", 307, credential(&certificate, &key, &in_time), 502),
        ("expired", 201, credential(&certificate, &key, "2001-01-01T00:00:00Z"), 502),
        ("no time", 201, credential(&certificate, &key, "tomorrow"), 502),
        ("no key", 201, credential(&certificate, "", &in_time), 502),
        ("not PEM", 201, credential("certificate", "key", &in_time), 500),
        // Asked for twice, as files of a certificate and its key may be rotated between two reads.
        ("another's key", 201, credential(&certificate, &others_key, &in_time), 500),
        ("silence", 0, String::new(), 504),
    ];
    let mut gate = Gate::without_clusters().file("policies/pinniped.yaml", r#"{"limits":{"deadlineMs":3000}}"#);
    let mut servers = Vec::new();
    for (number, (what, status, body, expected)) in rows.into_iter().enumerate() {
        let bearer = bearer.clone();
        let answer = move |_: &Request| match status {
            0 => Reply::never(),
            status => {
                Reply::json(status, body.clone()).header("location", "/elsewhere").header("authorization", &bearer)
            }
        };
        let authority = Authority::new("servers");
        let server = ApiServer::answering(answer).tls_asking_clients_of(&authority, &clients).start().await;
        gate = gate.cluster(pinniped(&format!("c{number}"), &server));
        servers.push((what, server, expected));
    }
    let gate = gate.start().await;
    let token = secret("jane's token for the cluster");

    for (number, (what, server, expected)) in servers.iter().enumerate() {
        let jane = gate.caller("jane").backstage(&format!("c{number}")).with_header(TOKEN_HEADER, &token);
        let answer = jane.get(PODS).await;

        assert_eq!(answer.status(), *expected, "{what}: {}", answer.summary());
        assert!(!server.heard().is_empty() && forwarded(server).is_empty(), "{what}: {:?}", server.heard());
        assert_ne!(gate.decision_of(&answer).await["credential"], "anonymous", "{what}");
    }
}

/// What a front end must know of the cluster: the audience, and nothing else of its metadata.
#[tokio::test]
async fn the_audience_is_presented_to_clients() {
    let api_server = ApiServer::start().await;
    let metadata = json!({
        "kubernetes.io/x-pinniped-audience": "audience1", "kubernetes.io/x-pinniped-authenticator-name": "mine",
    });
    let gate = gate(pinniped("one", &api_server).with("authMetadata", metadata)).start().await;

    let answer = gate.caller("jane").get("/api/kubernetes/clusters").await;

    assert_snapshot!(answer.body(), @r#"{"items":[{"name":"one","authProvider":"pinniped","auth":{"audience":"audience1"}}]}"#);
}

/// A cluster that cannot work is refused by a start and by a reload, whole, and `/status` says which and why.
#[tokio::test]
async fn a_cluster_that_cannot_work_is_refused_by_start_and_reload() {
    let api_server = ApiServer::start().await;
    let webhook = json!({ "kubernetes.io/x-pinniped-authenticator-kind": "WebhookAuthenticator" });

    let ended = gate(pinniped("one", &api_server).with("authMetadata", webhook.clone())).check().await;

    assert_eq!(ended.code, Some(1));
    assert_snapshot!(ended.stderr, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: Invalid cluster 'one': Must specify `kubernetes.io/x-pinniped-authenticator-name` for 'pinniped' strategy: which WebhookAuthenticator of the cluster verifies the tokens");

    let named = json!({ "settings": { "authenticator": { "name": "hook" } } }).to_string();
    let gate = gate(pinniped("one", &api_server).with("authMetadata", webhook))
        .cluster(Cluster::at("two", &api_server, "anonymous"))
        .file("policies/pinniped.yaml", &named)
        .start()
        .await;
    let generation = gate.status().await["generation"].clone();
    std::fs::write(gate.plugins().path().join("pinniped.yaml"), "settings: {}").unwrap();
    let refused = gate.status_when("the refusal", |status| status["lastReload"]["result"] == "refused").await;

    assert_eq!(refused["generation"], generation);
    let text = "Must specify `kubernetes.io/x-pinniped-authenticator-name` for 'pinniped' strategy: which \
                WebhookAuthenticator of the cluster verifies the tokens";
    let told = refused["lastReload"]["error"].as_str().unwrap();
    assert!(told.ends_with(&format!("Invalid cluster 'one': {text}")), "{told}");
    assert_eq!(refused["clusters"][0]["error"], format!("the plug-ins of the last reload do not serve it: {text}"));
    assert_eq!(refused["clusters"][1].get("error"), None);

    std::fs::write(gate.plugins().path().join("pinniped.yaml"), &named).unwrap();
    gate.status_when("the end of the refusal", |status| status["clusters"][0].get("error").is_none()).await;
}

/// `/status` says that a cluster's strategy fails, for as long as it does, and not that one caller was refused.
#[tokio::test]
async fn a_failing_strategy_shows_in_the_status() {
    let clients = Authority::new("clients");
    let concierge = Arc::new(Concierge::new(clients.again()));
    let (good, bad) = (secret("jane's token for the cluster"), secret("a token that the Concierge refuses"));
    concierge.knows(&good, "jane", "dev", LIFE);
    let down = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (inner, is_down) = (Arc::clone(&concierge), Arc::clone(&down));
    let answer = move |request: &Request| match is_down.load(std::sync::atomic::Ordering::Relaxed) {
        true => Reply::new(503, ""),
        false => inner.answer(request).unwrap_or_default(),
    };
    let api_server =
        ApiServer::answering(answer).tls_asking_clients_of(&Authority::new("servers"), &clients).start().await;
    let gate = gate(pinniped("one", &api_server)).start().await;
    let ask = async |token: &str| gate.client_as("jane").with_header(TOKEN_HEADER, token).get(PODS).await.status();
    let error = async || gate.status().await["clusters"][0].get("error").cloned();

    assert_eq!(error().await, None);
    assert_eq!(ask(&good).await, 502);
    let text = "its strategy failed: the cluster's Pinniped Concierge answered with status 503";
    assert_eq!(error().await, Some(json!(text)));
    down.store(false, std::sync::atomic::Ordering::Relaxed);
    until("the failure is forgotten", || async { (ask(&good).await == 200).then_some(()) }).await;
    assert_eq!(error().await, None);
    assert_eq!(ask(&bad).await, 401);
    assert_eq!(error().await, None);
}

/// The Concierge as in production, an aggregated API behind the real kube-apiserver, which takes its certificates: its audit
/// log names the person. Where the rig is not on the machine, this test says so and passes.
#[tokio::test]
async fn a_real_api_server_takes_the_certificate() {
    let rig = match kube_rig::shared() {
        Ok(rig) => rig,
        Err(why) => return println!("skipped: {why}"),
    };
    let (certificate, key) = rig.client_authority();
    let concierge = Arc::new(Concierge::new(Authority::of_pem(&certificate, &key)));
    let token = secret("pia's token for the cluster");
    concierge.knows(&token, "pia", "pinniped-people", LIFE);
    let authority = Authority::new("concierge");
    let inner = Arc::clone(&concierge);
    let answer = move |request: &Request| inner.answer(request).unwrap_or_else(|| discovery(request));
    let names = ["concierge-api.default.svc", "localhost"];
    let server = ApiServer::answering(answer).tls_as(&authority.server_named(&names), &authority, None).start().await;
    let admin = Administrator::of(rig);
    admin.install(&server, &authority).await;
    let cluster = Cluster::at_url("rig", rig.url(), "pinniped")
        .ca_data(&rig.certificate_authority())
        .with("authMetadata", json!({ "kubernetes.io/x-pinniped-audience": "audience1" }));
    let gate = gate(cluster).start().await;
    let pia = gate.client_as("jane").with_header(TOKEN_HEADER, &token);

    let first = pia.get("/api/v1/namespaces/dev/pods?pia=1").await;
    let second = pia.get("/api/v1/namespaces/dev/pods?pia=2").await;
    admin.remove().await;

    let told = format!("{} {:?} {:?}", first.summary(), concierge.complaints(), server.heard());
    assert_eq!((first.status(), second.status()), (200, 200), "{told}");
    assert_eq!(concierge.issued().len(), 1, "one exchange");
    let events = until("the audit events", || async {
        let events: Vec<_> = [rig.audit_events("pods?pia=1"), rig.audit_events("pods?pia=2")].concat();
        (events.len() >= 2).then_some(events)
    })
    .await;
    for event in events {
        assert_eq!(event["user"]["username"], "pia");
        assert_eq!(event["user"]["groups"], json!(["pinniped-people", "system:authenticated"]));
    }
}

/// What an aggregated API server says of itself.
fn discovery(request: &Request) -> Reply {
    let group = "login.concierge.pinniped.dev/v1alpha1";
    match request.target.split('?').next() {
        Some(path) if path == format!("/apis/{group}") => {
            let resource = json!({
                "name": "tokencredentialrequests", "singularName": "tokencredentialrequest", "namespaced": false,
                "kind": "TokenCredentialRequest", "verbs": ["create"],
            });
            let list = json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": [resource] });
            Reply::json(200, list.to_string())
        }
        _ => Reply::json(404, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","code":404}"#),
    }
}

/// Somebody who may install a Concierge.
struct Administrator(Client);

impl Administrator {
    fn of(rig: &kube_rig::KubeRig) -> Self {
        let address = rig.url().strip_prefix("https://").unwrap().parse().unwrap();
        let tls = client_tls_trusting_pem(&rig.certificate_authority(), &["h2"]);
        Self(Client::new(address, Some(tls)).with_token(rig.token_of("admin")))
    }

    /// An aggregated API at `server`, open to everybody as Pinniped's is, and pods that pia may read.
    async fn install(&self, server: &ApiServer, authority: &Authority) {
        use base64::Engine as _;
        let rbac = "rbac.authorization.k8s.io";
        let bind = |name: &str, subject: Value| {
            json!({
                "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": { "name": name },
                "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": name }, "subjects": [subject],
            })
        };
        let role = |name: &str, rule: Value| json!({ "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": { "name": name }, "rules": [rule] });
        let anybody = json!({ "apiGroup": rbac, "kind": "Group", "name": "system:unauthenticated" });
        let people = json!({ "apiGroup": rbac, "kind": "Group", "name": "pinniped-people" });
        let exchange = json!({
            "apiGroups": ["login.concierge.pinniped.dev"], "resources": ["tokencredentialrequests"], "verbs": ["create"],
        });
        let read = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] });
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "concierge-api" },
            "spec": { "type": "ExternalName", "externalName": "localhost", "ports": [{ "port": server.address().port() }] },
        });
        let api = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": { "name": API_SERVICE },
            "spec": {
                "group": "login.concierge.pinniped.dev", "version": "v1alpha1", "groupPriorityMinimum": 9900,
                "versionPriority": 15, "caBundle": base64::engine::general_purpose::STANDARD.encode(authority.pem()),
                "service": { "namespace": "default", "name": "concierge-api", "port": server.address().port() },
            },
        });
        let roles = format!("/apis/{rbac}/v1/clusterroles");
        let bindings = format!("/apis/{rbac}/v1/clusterrolebindings");
        for (path, object) in [
            (roles.as_str(), role("concierge-exchange", exchange)),
            (&roles, role("concierge-readers", read)),
            (&bindings, bind("concierge-exchange", anybody)),
            (&bindings, bind("concierge-readers", people)),
            ("/api/v1/namespaces/default/services", service),
            (API_SERVICES, api),
        ] {
            let answer = self.0.post(path, object.to_string()).await;
            assert_eq!(answer.status(), 201, "{path}: {}", answer.body());
        }
        until("the aggregated API is served", || async {
            let discovery = self.0.get("/apis/login.concierge.pinniped.dev/v1alpha1").await;
            discovery.body().contains("TokenCredentialRequest").then_some(())
        })
        .await;
    }

    /// Other tests share the API server: an API that nobody serves would be in their way.
    async fn remove(&self) {
        let answer = self.0.delete(&format!("{API_SERVICES}/{API_SERVICE}")).await;
        assert_eq!(answer.status(), 200, "{}", answer.body());
    }
}

const API_SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const API_SERVICE: &str = "v1alpha1.login.concierge.pinniped.dev";

/// The documentation's example, as somebody who followed it has it: `docs/write-a-strategy.md`.
#[tokio::test]
async fn the_documented_example_works() {
    let clients = Authority::new("clients");
    let concierge = Arc::new(Concierge::new(clients.again()));
    let token = secret("jane's token for the cluster");
    concierge.knows(&token, "jane", "dev", LIFE);
    let api_server = cluster_with(&concierge, &clients).await;
    let metadata = json!({ "kubernetes.io/x-pinniped-audience": "audience1" });
    let example = Plugin::example("pinnipedStrategy").sidecar(json!({
        "outboundHosts": ["cluster"], "credentialDependsOn": "requestAuth", "limits": { "deadlineMs": 10000 },
    }));
    let gate = gate(Cluster::at("one", &api_server, "pinnipedStrategy").with("authMetadata", metadata))
        .plugin(example)
        .start()
        .await;
    let with_token = |token: &str| {
        gate.client_as("jane").with_header("Backstage-Kubernetes-Authorization-Pinniped-ClusterIdToken", token)
    };

    for hit in [false, true] {
        let answer = with_token(&token).get(PODS).await;
        assert_eq!(answer.status(), 200, "{} {:?}", answer.summary(), concierge.complaints());
        assert_eq!(gate.decision_of(&answer).await["cacheHit"], hit);
    }
    assert_eq!(forwarded(&api_server)[0].peer_certificate.as_ref(), concierge.issued().first());
    let refused = with_token(&secret("a token that the Concierge refuses")).get(PODS).await;
    assert_eq!((refused.status(), refused.message().as_str()), (401, "authentication failed"));
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 401);
    let clusters = gate.caller("jane").get("/api/kubernetes/clusters").await;
    assert_eq!(clusters.json()["items"][0]["auth"], json!({ "audience": "audience1" }));
}

/// A file of the name replaces the built-in one, and what it grants is its own: without a grant it is not loaded.
#[tokio::test]
async fn a_file_of_its_name_brings_its_own_grants() {
    let api_server = ApiServer::start().await;
    let ended = gate(pinniped("one", &api_server)).plugin(Plugin::strategy("pinniped")).refused_start().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("plug-in `pinniped` imports `wasi:http/"), "{}", ended.stderr);
}
