//! Policies in shadow mode: asked, counted, and nothing else.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// Goal: disagreements are counted by kind, and change nothing. Method: `read-only`, `allow-all` and a policy that traps, each in
/// shadow mode, beside requests of which it is known what they would say.
#[tokio::test]
async fn disagreements_are_counted() {
    let api_server = ApiServer::start().await;
    let shadow = json!({ "mode": "shadow" });
    let gate = Gate::builder(&api_server)
        .plugin(Plugin::policy("read-only").sidecar(shadow.clone()))
        .plugin(Plugin::fixture("trap-sometimes").sidecar(shadow.clone()))
        .start()
        .await;
    let jane = gate.client_as("jane");

    for _ in 0..3 {
        assert_eq!(jane.get(PODS).await.status(), 200);
    }
    for _ in 0..2 {
        assert_eq!(jane.delete(&format!("{PODS}/p")).await.status(), 200);
    }
    assert_eq!(jane.get("/api/v1/namespaces/trap/pods").await.status(), 200);

    let counted = |status: &Value, name: &str| shadow_of(status, name).as_object().map(total) == Some(6);
    let status = gate
        .status_when("all are counted", |status| counted(status, "read-only") && counted(status, "trap-sometimes"))
        .await;
    let counts = |agreed, would_deny, failed| json!({ "agreed": agreed, "wouldDeny": would_deny, "wouldAllow": 0, "failed": failed, "dropped": 0 });
    assert_eq!(shadow_of(&status, "read-only"), counts(4, 2, 0));
    assert_eq!(shadow_of(&status, "trap-sometimes"), counts(5, 0, 1));
    assert!(shadow_of(&status, "allow-all").is_null(), "an enforcing policy has no counts");
    gate.log_line_with("a shadow policy would have denied").await;
    let metrics = gate.metrics().await;
    let by_outcome = metrics.by("witgate_plugin_shadow_decisions_total", &["plugin", "generation", "outcome"]);
    let told = ["agreed", "would-deny", "would-allow", "failed", "dropped"];
    assert_eq!(told.map(|outcome| by_outcome[&format!("read-only 1 {outcome}")]), [4, 2, 0, 0, 0]);
    assert_eq!(told.map(|outcome| by_outcome[&format!("trap-sometimes 1 {outcome}")]), [5, 0, 0, 1, 0]);
    assert_eq!(metrics.sum("witgate_plugin_info", &[("plugin", "read-only"), ("mode", "shadow")]), 1);
}

/// Goal: what a shadow policy alone would allow is counted, and denied. Method: `allow-all` in shadow mode beside nothing.
#[tokio::test]
async fn silence_beside_a_shadow_policy_denies() {
    let api_server = ApiServer::start().await;
    let shadow = Plugin::policy("allow-all").sidecar(json!({ "mode": "shadow" }));
    let gate = Gate::builder(&api_server).without_allow_all().plugin(shadow).start().await;

    assert_eq!(gate.client_as("jane").get(PODS).await.message(), "no policy allows this request");

    gate.status_when("it is counted", |status| shadow_of(status, "allow-all")["wouldAllow"] == 1).await;
    assert_eq!(api_server.heard(), crate::NOTHING);
}

/// Goal: a shadow policy that never answers delays no request. Method: its deadline is 10 s; a hundred requests are answered
/// while the first question is still with it.
#[tokio::test]
async fn a_shadow_policy_that_spins_delays_nobody() {
    let api_server = ApiServer::start().await;
    let spin = Plugin::fixture("spin").sidecar(json!({ "mode": "shadow", "limits": { "deadlineMs": 10_000 } }));
    let gate = Gate::builder(&api_server).plugin(spin).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..100 {
        assert_eq!(jane.get(PODS).await.status(), 200);
    }

    let counts = shadow_of(&gate.status().await, "spin");
    assert!(counts["failed"].as_u64().unwrap() <= 2, "they waited for it: {counts}");
}

fn shadow_of(status: &Value, name: &str) -> Value {
    let plugins = status["plugins"].as_array().unwrap();
    plugins.iter().find(|plugin| plugin["name"] == name).unwrap()["shadow"].clone()
}

fn total(counts: &serde_json::Map<String, Value>) -> u64 {
    counts.values().filter_map(Value::as_u64).sum()
}
