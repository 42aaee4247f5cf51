//! Plug-ins that keep failing are not called for a while: for the callers whom they fail, and for nobody else.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::until;

const PODS: &str = "/api/v1/namespaces/dev/pods";
const TRAP: &str = "/api/v1/namespaces/trap/pods";
const QUARANTINED: &str = "policy `trap-sometimes` gave no answer: quarantined";

/// Goal: who makes a policy trap again and again is locked out by it, and nobody else is; it ends by itself.
/// Method: jane traps it until it is not called for her; john goes on all the while; then jane behaves.
#[tokio::test]
async fn a_caller_who_traps_a_policy_locks_out_nobody_else() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("trap-sometimes")).start().await;
    let (jane, john) = (gate.client_as("jane"), gate.client_as("john"));

    let mut trapped = 0;
    while jane.get(TRAP).await.message() != QUARANTINED {
        trapped += 1;
        assert!(trapped <= 10, "it is still called");
        assert_eq!(john.get(PODS).await.status(), 200);
    }
    // The first pause is a second; on a busy machine it may be over.
    let refused = until("jane is locked out", || async {
        while jane.get(TRAP).await.message() != QUARANTINED {}
        let refused = jane.get(PODS).await;
        (refused.status() == 403).then_some(refused)
    })
    .await;
    assert_eq!(refused.message(), QUARANTINED);
    let decision = gate.decision_of(&refused).await;
    assert_eq!((&decision["decision"], &decision["reason"]), (&json!("deny"), &json!(QUARANTINED)));
    assert_eq!(john.get(PODS).await.status(), 200);
    let standing = quarantine(&gate.status().await, "trap-sometimes");
    assert!(standing["begun"].as_u64().unwrap() >= 1 && standing["refused"].as_u64().unwrap() >= 2, "{standing}");
    let metrics = gate.metrics().await;
    assert!(metrics.sum("witgate_plugin_quarantines_total", &[("plugin", "trap-sometimes")]) >= 1);
    let refused = [("plugin", "trap-sometimes"), ("outcome", "quarantined")];
    assert!(metrics.sum("witgate_plugin_calls_total", &refused) >= 2);

    until("jane is called for again", || async { (jane.get(PODS).await.status() == 200).then_some(()) }).await;
    assert_eq!(quarantine(&gate.status().await, "trap-sometimes")["callers"], 0);
    assert_eq!(gate.metrics().await.sum("witgate_plugin_quarantined_callers", &[]), 0);
    let said = |text: &str| gate.log().lines().filter(|line| line.contains(text)).count();
    assert_eq!(said("a plug-in keeps failing for a caller"), said("a plug-in that kept failing answers again"));
}

/// Goal: a new version of a plug-in begins afresh. Method: the same guest with another sidecar, once jane is locked out.
#[tokio::test]
async fn a_reload_of_the_plugin_lifts_it() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("trap-sometimes")).start().await;
    let jane = gate.client_as("jane");
    let locked_out = async || while jane.get(TRAP).await.message() != QUARANTINED {};
    // Long enough for the rest of the test: each failure after a pause doubles it.
    locked_out().await;
    let before = gate.status().await["generation"].clone();

    gate.plugins().put(&Plugin::fixture("trap-sometimes").sidecar(json!({ "limits": { "memoryMiB": 32 } })));
    let status = gate.status_when("the new version serves", |status| status["generation"] != before).await;

    assert!(quarantine(&status, "trap-sometimes").is_null(), "{status}");
    assert_eq!(jane.get(TRAP).await.message(), "policy `trap-sometimes` gave no answer: trapped");
}

/// Goal: of a strategy it is a 503 that says when to come back, for one cluster. Method: one that traps, asked on and on;
/// and the same plug-in for another cluster.
#[tokio::test]
async fn a_strategy_that_keeps_trapping_is_503() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("two", &api_server, "beast"))
        .cluster(Cluster::at("three", &api_server, "beast"))
        .plugin(Plugin::fixture("trap-strategy").named("beast"))
        .start()
        .await;
    let at = |cluster: &str| gate.caller("jane").backstage(cluster);
    let status = async |client: Client| client.get(PODS).await.status();

    for _ in 0..10 {
        assert_eq!(status(at("two")).await, 500);
    }
    let paused = at("two").get(PODS).await;
    assert_eq!(paused.status(), 503, "{}", paused.body());
    assert!(paused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(status(at("three")).await, 500, "another cluster's is called");
    assert_eq!(api_server.heard(), crate::NOTHING);
}

fn quarantine(status: &Value, name: &str) -> Value {
    let plugins = status["plugins"].as_array().unwrap();
    plugins.iter().find(|plugin| plugin["name"] == name).unwrap()["quarantine"].clone()
}
