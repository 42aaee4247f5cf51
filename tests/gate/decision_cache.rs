//! Issue 5, part 3: what a policy promised to answer, the gate answers itself.

use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

/// Goal: a policy with `reusable-for` is asked once for all requests of a user, another user asks anew, and so does a reload;
/// the conditions are checked against each request all the same. Method: a fixture that allows reading, and logs when it is
/// asked.
#[tokio::test]
async fn a_promised_answer_is_asked_for_once() {
    let api_server = ApiServer::start().await;
    let any_of = json!([[{ "rule": "IS_ACTION", "params": { "actions": ["read"] } }]]);
    let policy = |reusable_for: u32| {
        let settings = json!({ "anyOf": any_of, "reusableFor": reusable_for });
        Plugin::fixture("conditional").sidecar(json!({ "settings": settings }))
    };
    let gate = Gate::builder(&api_server).without_allow_all().plugin(policy(3600)).start().await;
    let (jane, john) = (gate.client_as("jane"), gate.client_as("john"));
    let asked = || gate.log().lines().filter(|line| line.contains("asked") && line.contains("conditional")).count();
    let pod = "/api/v1/namespaces/dev/pods/p";

    for _ in 0..5 {
        assert_eq!(jane.get(pod).await.status(), 200);
        assert_eq!(jane.delete(pod).await.status(), 403, "what was promised are conditions, not an answer");
    }
    assert_eq!(asked(), 1);
    assert_eq!(john.delete(pod).await.status(), 403);
    assert_eq!(john.get(pod).await.status(), 200);
    assert_eq!(asked(), 2, "another user");

    let before = gate.status().await["generation"].as_u64();
    gate.plugins().put(&policy(3500));
    gate.status_when("the reload", |status| status["generation"].as_u64() > before).await;
    for _ in 0..3 {
        assert_eq!(jane.get(pod).await.status(), 200);
    }
    assert_eq!(asked(), 3, "a reload");
}
