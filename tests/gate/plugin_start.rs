//! Issue 5, part 2: what a call starts from, the state that `configure` left or what an earlier call did.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

/// Goal: a policy with a thousand rules, parsed in `configure`, serves from a snapshot; each rule counts. Method: a
/// namespace a rule; the first, the last, and one that has none.
#[tokio::test]
async fn a_thousand_rules_are_parsed_once() {
    let api_server = ApiServer::start().await;
    let tenants: Vec<Value> = (0..1000)
        .map(|number| {
            json!({ "groups": ["group:default/developers"], "clusters": ["one"], "namespaces": [format!("team-{number}")],
                "actions": ["read"] })
        })
        .collect();
    let tenancy = Plugin::policy("namespace-tenancy").sidecar(json!({ "settings": { "tenants": tenants } }));
    let gate = Gate::builder(&api_server).without_allow_all().plugin(tenancy).start().await;
    let jane = gate.client_as("jane");

    for (namespace, expected) in [("team-0", 200), ("team-999", 200), ("team-1000", 403)] {
        let answer = jane.get(&format!("/api/v1/namespaces/{namespace}/pods")).await;
        assert_eq!(answer.status(), expected, "{namespace}: {}", answer.body());
    }
    assert_eq!(of_plugin(&gate.status().await, "namespace-tenancy", "start"), "snapshot");
}

/// Goal: an instance that is reused remembers, as its operator was told; it ends with its calls. Method: the fixture that
/// remembers, with four calls an instance, and one caller after the other.
#[tokio::test]
async fn a_reused_instance_ends_with_its_calls() {
    let api_server = ApiServer::start().await;
    let remember =
        Plugin::fixture("remember").sidecar(json!({ "isolation": "reused", "limits": { "instanceCalls": 4 } }));
    let gate = Gate::builder(&api_server).plugin(remember).start().await;

    let mut calls = Vec::new();
    for name in ["jane", "john", "jane", "john", "jane"] {
        let message = gate.client_as(name).get("/api/v1/pods").await.message();
        let (_, told) = message.split_once("calls before: ").expect("it denies with what it remembers");
        calls.push(told.split(',').next().unwrap_or_default().to_owned());
    }
    assert_eq!(calls, ["0", "1", "2", "3", "0"]);
    assert_eq!(of_plugin(&gate.status().await, "remember", "isolation"), "reused");
}

/// Goal: what a strategy would fetch while it is configured is not frozen, and not fetched. Method: a fixture that tries; nobody
/// hears of it, and each instance tries anew.
#[tokio::test]
async fn a_strategy_that_fetches_early_has_no_snapshot() {
    let api_server = ApiServer::start().await;
    let origin = api_server.url();
    let settings = json!({ "url": format!("{origin}/early") });
    let sidecar = json!({ "outboundHosts": [origin], "settings": settings });
    let plugin = Plugin::fixture("fetch-early").named("fetchEarly").sidecar(sidecar);
    let gate = Gate::without_clusters().plugin(plugin).start().await;

    let status = gate.status().await;
    assert_eq!(of_plugin(&status, "fetchEarly", "start"), "configured-each");
    assert_eq!(of_plugin(&status, "fetchEarly", "startReason"), "`configure` tries to send an HTTP request");
    assert!(gate.log_line_with("no snapshot").await.contains("fetchEarly"));
    assert_eq!(api_server.heard(), [""; 0]);
}

/// A value of `/status` about one plug-in.
fn of_plugin<'a>(status: &'a Value, name: &str, key: &str) -> &'a Value {
    let plugins = status["plugins"].as_array().expect("`/status` lists plug-ins");
    &plugins.iter().find(|plugin| plugin["name"] == name).expect("it is listed")[key]
}
