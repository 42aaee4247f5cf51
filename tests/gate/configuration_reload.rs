//! `witgate.yaml` changes under a running gate: clusters, callers and the permission rule, a request being judged by one
//! configuration from start to end.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::until;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

fn clusters(configuration: &mut Value) -> &mut Vec<Value> {
    configuration["kubernetes"]["clusterLocatorMethods"][0]["clusters"].as_array_mut().unwrap()
}

/// Clusters come, move and go while others serve on, on the connections that they had.
#[tokio::test]
async fn clusters_come_and_go() {
    let (first, second) = (ApiServer::start().await, ApiServer::start().await);
    let gate = Gate::builder(&first).start().await;
    let caller = gate.caller("jane");
    let one = format!("/k8s/clusters/{}{POD}", gate.status().await["clusters"][0]["name"].as_str().unwrap());
    let two = format!("/k8s/clusters/two{POD}");
    assert_eq!(caller.get(&one).await.status(), 200);
    assert_eq!(caller.get(&two).await.status(), 404);
    let connections = first.connections_count();

    gate.edit_configuration(|configuration| {
        clusters(configuration).push(Cluster::at("two", &second, "anonymous").into_value());
    });
    until("the new cluster", || async { (caller.get(&two).await.status() == 200).then_some(()) }).await;
    assert_eq!(caller.get(&one).await.status(), 200);
    assert_eq!(first.connections_count(), connections, "a cluster that did not change keeps its connections");
    assert_eq!(second.requests().len(), 1);

    gate.edit_configuration(|configuration| {
        clusters(configuration).pop();
        clusters(configuration).push(Cluster::at("two", &first, "anonymous").into_value());
    });
    until("the move", || async {
        caller.get(&two).await;
        (first.connections_count() > connections).then_some(())
    })
    .await;

    gate.edit_configuration(|configuration| {
        clusters(configuration).pop();
    });
    until("the end", || async { (caller.get(&two).await.status() == 404).then_some(()) }).await;
    assert_eq!(caller.get(&one).await.status(), 200);
    assert!(gate.status().await.get("configuration").is_none(), "there is nothing to say of it");
}

/// A caller who is taken out of the configuration is nobody, and one who is put in is somebody.
#[tokio::test]
async fn callers_come_and_go() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.get(POD).await.status(), 200);
    let mut before = Value::Null;

    gate.edit_configuration(|configuration| {
        before = std::mem::replace(&mut configuration["authentication"], json!([]));
    });
    until("nobody gets in", || async { (jane.get(POD).await.status() == 401).then_some(()) }).await;
    gate.edit_configuration(|configuration| configuration["authentication"] = before);
    until("jane gets in", || async { (jane.get(POD).await.status() == 200).then_some(()) }).await;
}

/// Policies can be switched off and on.
#[tokio::test]
async fn the_permission_rule_changes() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::policy("read-only")).start().await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.delete(POD).await.status(), 403);

    gate.edit_configuration(|configuration| configuration["permission"] = json!({ "enabled": false }));
    until("no policy is asked", || async { (jane.delete(POD).await.status() == 200).then_some(()) }).await;
    gate.log_line_with("policies are switched off").await;
    gate.edit_configuration(|configuration| configuration["permission"] = json!({ "enabled": true }));
    until("policies are asked", || async { (jane.delete(POD).await.status() == 403).then_some(()) }).await;
}

/// A bad configuration changes nothing, is named in log and `/status`, refused to whoever asks for a reload, and keeps no policy
/// out. Mended, it is in force.
#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let good = std::fs::read_to_string(gate.folder().join("witgate.yaml")).unwrap();
    let generation = gate.status().await["generation"].clone();

    for (bad, why) in [
        ("listen: [", "witgate.yaml:1"),
        ("", "is empty"),
        (r#"{ "lisen": "127.0.0.1:0" }"#, "did you mean `listen`?"),
        (
            &good.replace(r#""authProvider": ""#, r#""authProvider": "nobody-serves-"#),
            "has no config associated with it",
        ),
    ] {
        gate.write_configuration(bad);
        let told = |status: &Value| {
            let of_file = status["configuration"]["error"].as_str().unwrap_or_default();
            let of_reload = status["lastReload"]["error"].as_str().unwrap_or_default();
            of_file.contains(why) || of_reload.contains(why)
        };
        let status = gate.status_when(why, told).await;
        assert_eq!(status["generation"], generation, "{bad}");
        assert_eq!(jane.get(POD).await.status(), 200);
        gate.log_line_with(why).await;
        let answer = gate.admin().post("/reload", "").await;
        assert!(answer.status() != 200 && answer.body().contains(why), "{}", answer.summary());
    }

    gate.plugins().put(&Plugin::policy("read-only"));
    until("the policy is in force", || async { (jane.delete(POD).await.status() == 403).then_some(()) }).await;
    gate.write_configuration(&good);
    gate.status_when("all is well", |status| {
        status.get("configuration").is_none() && status["lastReload"]["error"].is_null()
    })
    .await;
}

/// Keys that are read at the start alone are named where they change, and what else changed with them is in force.
#[tokio::test]
async fn keys_that_take_a_restart_are_named() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let caller = gate.caller("jane");

    gate.edit_configuration(|configuration| {
        configuration["listen"] = "127.0.0.1:1".into();
        configuration["drain"] = json!({ "deadlineMs": 1 });
        clusters(configuration).push(Cluster::at("two", &api_server, "anonymous").into_value());
    });
    let told = gate.status_when("the keys", |status| status.get("configuration").is_some()).await;
    assert_eq!(told["configuration"], json!({ "needsRestart": ["listen", "listener, upstream, upgrade or drain"] }));
    gate.log_line_with("these keys take a restart").await;
    let two = format!("/k8s/clusters/two{POD}");
    until("the new cluster", || async { (caller.get(&two).await.status() == 200).then_some(()) }).await;
}
