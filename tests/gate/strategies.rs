//! Strategies that fail, and what they are granted: a failure never becomes another credential, least of all none.

use std::time::Duration;

use insta::assert_snapshot;
use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::{until, within};

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn a_strategy_that_refuses_is_answered_by_its_kind() {
    let api_server = ApiServer::start().await;
    let failing = |error: &str| {
        Plugin::fixture("failing").sidecar(json!({ "settings": { "error": error, "text": "for the caller to read" } }))
    };

    for (error, status, name) in [
        ("missing-token", 401, "AuthenticationError"),
        ("refused", 401, "AuthenticationError"),
        ("unavailable", 502, "BadGatewayError"),
        ("misconfigured", 500, "InternalError"),
    ] {
        let gate = gate_with(&api_server, failing(error), "failing").start().await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!((answer.status(), answer.json()["error"]["name"].as_str()), (status, Some(name)), "{error}");
    }
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_strategy_that_traps_is_500_without_internals() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, Plugin::fixture("trap-strategy").named("broken"), "broken").start().await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"500 {"error":{"name":"InternalError","message":"the cluster's authentication strategy gave no answer"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":500}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_strategy_that_spins_is_504_at_its_deadline() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, Plugin::fixture("spin-strategy").named("spinning"), "spinning").start().await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"504 {"error":{"name":"GatewayTimeoutError","message":"the cluster's authentication strategy gave no answer"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":504}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

/// A strategy sees the secrets of the cluster at hand and its sidecar's own; another cluster's, never.
#[tokio::test]
async fn secrets_reach_only_the_strategy_of_their_cluster() {
    let api_server = ApiServer::start().await;
    let (ours, theirs, own) =
        (secret("our cluster's token"), secret("their cluster's token"), secret("plug-in's secret"));
    let names = ["cluster/service-account-token", "own", "cluster/token", "pod/token", "/etc/passwd"];
    let probe = Plugin::fixture("secrets-probe").named("probe").sidecar(json!({
        "settings": { "names": names }, "secrets": { "own": { "env": "OWN_SECRET" } },
    }));
    let gate = gate_with(&api_server, probe, "probe")
        .cluster(Cluster::at("two", &api_server, "probe").service_account_token(&ours))
        .cluster(Cluster::at("three", &api_server, "serviceAccount").service_account_token(&theirs))
        .variable("OWN_SECRET", &own)
        .start()
        .await;

    gate.caller("jane").backstage("two").get(PODS).await;
    gate.caller("jane").backstage("one").get(PODS).await;

    let requests = api_server.requests();
    let told: Vec<_> = requests
        .iter()
        .map(|request| request.header("authorization").unwrap().strip_prefix("Bearer probe-").unwrap().to_owned())
        .collect();
    let missing = "cluster/token: not granted; pod/token: not granted; /etc/passwd: not granted";
    let expected = [
        format!("cluster/service-account-token={ours}; own={own}; {missing}"),
        format!("cluster/service-account-token: not granted; own={own}; {missing}"),
    ];
    assert_eq!(told, expected.map(|text| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>()));
}

/// A plug-in finds its own secrets, one in a file as it is within a second, and no other plug-in's.
#[tokio::test]
async fn a_sidecars_secrets_reach_only_its_own_plugin() {
    let api_server = ApiServer::start().await;
    let (first, second, other) = (secret("file's secret"), secret("file's next secret"), secret("other plug-in's"));
    let probe = |name: &str, secrets: serde_json::Value| {
        let settings = json!({ "names": ["of-a", "of-b", "cluster/service-account-token"] });
        Plugin::fixture("secrets-probe").named(name).sidecar(json!({ "settings": settings, "secrets": secrets }))
    };
    let gate = Gate::without_clusters()
        .plugin(probe("a", json!({ "of-a": { "file": "../a.txt" } })))
        .plugin(probe("b", json!({ "of-b": { "env": "OF_B" } })))
        .file("a.txt", &first)
        .variable("OF_B", &other)
        .cluster(Cluster::at("a", &api_server, "a"))
        .cluster(Cluster::at("b", &api_server, "b"))
        .start()
        .await;

    gate.caller("jane").backstage("a").get(PODS).await;
    std::fs::write(gate.folder().join("a.txt"), &second).unwrap();
    let told = || -> Vec<_> {
        let mut told: Vec<_> =
            api_server.requests().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect();
        told.dedup();
        told
    };
    let next = until("the next secret", || async {
        gate.caller("jane").backstage("a").get(PODS).await;
        (told().len() == 2).then_some(())
    });
    within(Duration::from_secs(5), "the next secret", next).await;
    gate.caller("jane").backstage("b").get(PODS).await;

    let rest = "cluster/service-account-token: not granted";
    let expected = [
        format!("of-a={first}; of-b: not granted; {rest}"),
        format!("of-a={second}; of-b: not granted; {rest}"),
        format!("of-a: not granted; of-b={other}; {rest}"),
    ];
    let hexadecimal = |text: String| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(told(), expected.map(|text| format!("Bearer probe-{}", hexadecimal(text))));
}

#[tokio::test]
async fn a_cluster_that_its_strategy_refuses_does_not_start() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "echo").with("authMetadata", json!({ "refuse": "wrong region" }));
    let gate = Gate::without_clusters().plugin(Plugin::fixture("echo-auth").named("echo")).cluster(cluster);

    let ended = gate.check().await;

    assert_eq!(ended.code, Some(1));
    assert_snapshot!(ended.stderr, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: Invalid cluster 'one': wrong region");
}

/// `/clusters` shows what the strategy presents of the metadata, and no more.
#[tokio::test]
async fn a_strategy_presents_what_the_front_end_needs() {
    let api_server = ApiServer::start().await;
    let metadata = json!({ "public/region": "eu-west-1", "private/role": "admin" });
    let cluster = Cluster::at("one", &api_server, "echo").with("authMetadata", metadata);
    let gate =
        Gate::without_clusters().plugin(Plugin::fixture("echo-auth").named("echo")).cluster(cluster).start().await;

    let answer = gate.caller("jane").get("/api/kubernetes/clusters").await;

    assert_eq!(answer.json()["items"][0]["auth"], json!({ "public/region": "eu-west-1" }));
}

/// The configuration need not name a strategy before its file is there; but a cluster without one is an error at start.
#[tokio::test]
async fn a_strategy_that_is_removed_while_a_cluster_needs_it_stays() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, Plugin::strategy("anonymous").named("custom"), "custom").start().await;
    let before = gate.status().await["generation"].clone();

    gate.plugins().remove("custom");
    let status = gate.status_when("the refusal", |status| status["lastReload"]["error"].is_string()).await;

    assert_eq!(status["generation"], before);
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);
}

/// A gate whose cluster `one` uses the strategy `name`, which `plugin` is.
fn gate_with(api_server: &ApiServer, plugin: Plugin, name: &str) -> GateBuilder {
    Gate::without_clusters().plugin(plugin).cluster(Cluster::at("one", api_server, name))
}
