//! The credential cache from outside: one exchange however many ask, nothing expired, nobody else's, and a second try after a 401.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn five_hundred_requests_on_a_cold_cache_are_one_exchange() {
    let api_server = ApiServer::start().await;
    let gate = gate(&api_server, "cluster", &secret("the cluster's token"), 3600).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..500 {
        let jane = gate.client_as("jane").on_new_connection();
        asking.spawn(async move { jane.get(PODS).await.status() });
    }

    assert!(asking.join_all().await.iter().all(|status| *status == 200));

    let cache = gate.status().await["credentialCache"].clone();
    let expected = json!({ "entries": 1, "hits": 499, "misses": 1, "refreshes": 0, "failures": 0, "rejections": 0 });
    assert_eq!(cache, expected);
}

#[tokio::test]
async fn a_caller_gets_nobody_elses_credential() {
    let api_server = ApiServer::start().await;
    let token = secret("the cluster's token");
    let gate = gate(&api_server, "caller", &token, 3600).await;
    let mut hits = Vec::new();
    for name in ["jane", "john", "jane", "john"] {
        let answer = gate.client_as(name).get(PODS).await;
        hits.push(gate.decision_of(&answer).await["cacheHit"].clone());
    }

    assert_eq!(hits, [json!(false), json!(false), json!(true), json!(true)]);
    let expected = ["jane", "john", "jane", "john"].map(|name| format!("Bearer {token}|user:default/{name}"));
    assert_eq!(authorizations(&api_server), expected);
}

/// The cluster forgot the token: the first 401 is not the caller's, the second is.
#[tokio::test]
async fn a_401_is_tried_again_once_with_another_credential() {
    let (old, new) = (secret("the old token"), secret("the new token"));
    let refused = format!("Bearer {old}");
    let api_server = ApiServer::answering(move |request| match request.header("authorization") {
        Some(value) if value == refused && !request.target.contains("before") => Reply::json(401, "{}"),
        _ => Reply::default(),
    });
    let api_server = api_server.start().await;
    let gate = gate(&api_server, "cluster", &old, 3600).await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.get("/api/v1/pods?before").await.status(), 200);
    fs::write(gate.folder().join("token"), &new).unwrap();

    assert_eq!(jane.get(PODS).await.status(), 200);

    assert_eq!(authorizations(&api_server), [&old, &old, &new].map(|token| format!("Bearer {token}")));
    let cache = gate.status().await["credentialCache"].clone();
    assert_eq!((&cache["misses"], &cache["rejections"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_cluster_that_always_says_401_costs_two_exchanges() {
    let api_server = ApiServer::answering(|_| Reply::json(401, "{}")).start().await;
    let gate = gate(&api_server, "cluster", &secret("the cluster's token"), 3600).await;
    let jane = gate.client_as("jane");

    for _ in 0..20 {
        assert_eq!(jane.get(PODS).await.status(), 401);
    }
    assert_eq!(jane.post(PODS, "{}").await.status(), 401);

    assert_eq!(gate.status().await["credentialCache"]["misses"], 2);
    assert_eq!(api_server.requests().len(), 21, "the same credential is not sent twice");
}

#[tokio::test]
async fn only_its_own_plugin_throws_a_cache_away() {
    let api_server = ApiServer::start().await;
    let gate = gate(&api_server, "cluster", &secret("the cluster's token"), 3600).await;
    let jane = gate.client_as("jane");
    jane.get(PODS).await;

    gate.plugins().put(&Plugin::policy("read-only"));
    until("the policy serves", || async { (jane.delete(PODS).await.status() == 403).then_some(()) }).await;
    let hit = jane.get(PODS).await;
    let sidecar = fs::read_to_string(gate.plugins().path().join("expiring.yaml")).unwrap();
    let changed = sidecar.replace("2000", "2001");
    assert_ne!(changed, sidecar);
    let generation = gate.status().await["generation"].as_u64();
    fs::write(gate.plugins().path().join("expiring.yaml"), changed).unwrap();
    gate.status_when("the changed sidecar", |status| status["generation"].as_u64() > generation).await;
    let miss = jane.get(PODS).await;

    assert_eq!(gate.decision_of(&hit).await["cacheHit"], true);
    assert_eq!(gate.decision_of(&miss).await["cacheHit"], false);
}

#[tokio::test]
async fn an_expired_credential_is_never_sent() {
    let api_server = ApiServer::start().await;
    let gate = gate(&api_server, "cluster", &secret("the cluster's token"), 0).await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_eq!(answer.status(), 500, "{}", answer.summary());
    assert_eq!(api_server.heard(), crate::NOTHING);
}

/// A gate whose strategy gives out `token`, good for `seconds`; both are files, which the strategy reads at each call.
async fn gate(api_server: &ApiServer, depends_on: &str, token: &str, seconds: u64) -> Gate {
    let builder = Gate::without_clusters()
        .file("token", token)
        .file("expires-at", &(unix_seconds() + seconds).to_string())
        .cluster(Cluster::at("one", api_server, "expiring"));
    let file = |name: &str| json!({ "file": builder.folder().join(name) });
    let sidecar: Value = json!({
        "credentialDependsOn": depends_on, "secrets": { "token": file("token"), "expires-at": file("expires-at") },
    });
    builder.plugin(Plugin::fixture("expiring").sidecar(sidecar)).start().await
}

fn authorizations(api_server: &ApiServer) -> Vec<String> {
    api_server.requests().iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
