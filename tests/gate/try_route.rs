//! `POST /try`: what the policies that serve would say, and that nothing comes of asking.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

use crate::NOTHING;

async fn tried(gate: &Gate, body: Value) -> (u16, Value) {
    let answer = gate.admin().post("/try", body.to_string()).await;
    (answer.status(), answer.json())
}

/// Each policy's answer, shadow ones included, and the verdict that the gate itself then comes to.
#[tokio::test]
async fn a_question_is_answered_as_the_request_would_be() {
    let api_server = ApiServer::start().await;
    let shadow = Plugin::policy("deny-proxy").sidecar(json!({ "mode": "shadow" }));
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("two", &api_server, "google"))
        .policy("read-only")
        .plugin(shadow)
        .start()
        .await;
    let pod = "/api/v1/namespaces/dev/pods/p";
    for (method, decision, by) in [("GET", "allow", "allow-all"), ("DELETE", "deny", "read-only")] {
        let asked = json!({ "user": "user:default/jane", "groups": ["group:default/dev"], "cluster": "one",
            "request": format!("{method} {pod}") });

        let (status, told) = tried(&gate, asked).await;

        assert_eq!(status, 200, "{told}");
        assert_eq!(
            (&told["verdict"]["decision"], &told["verdict"]["policy"]),
            (&json!(decision), &json!(by)),
            "{told}"
        );
        let answer = |policy: &str| {
            let answers = told["answers"].as_array().unwrap();
            answers.iter().find(|answer| answer["policy"] == policy).unwrap().clone()
        };
        assert_eq!(answer("allow-all")["answer"], "allow");
        assert_eq!(answer("deny-proxy")["answer"], "deny");
        assert_eq!(answer("deny-proxy")["mode"], "shadow");
        assert!(answer("read-only")["microseconds"].as_u64().unwrap() > 0);
        assert_eq!(told["request"]["clusterExists"], true);
        let real = gate.client_as("jane").call(if method == "GET" { "GET" } else { "DELETE" }, pod).await;
        assert_eq!(gate.decision_of(&real).await["decision"], decision);
    }
    let (_, nowhere) = tried(&gate, json!({ "user": "x", "cluster": "none", "request": "GET /version" })).await;
    assert_eq!(
        (&nowhere["verdict"]["decision"], &nowhere["request"]["clusterExists"]),
        (&json!("allow"), &json!(false))
    );
    let (status, told) = tried(&gate, json!({ "user": "x", "request": "GET /version" })).await;
    assert_eq!((status, told["error"].as_str()), (400, Some("`cluster` is missing, and there is not just one")));
    assert_eq!(gate.client_as("jane").get("/api/v1/../x").await.status(), 400);
    assert_eq!(tried(&gate, json!({ "user": "x", "cluster": "one", "request": "GET /api/v1/../x" })).await.0, 400);
}

/// Nobody is forwarded to, asked for a credential, logged, counted or quarantined, however often one tries.
#[tokio::test]
async fn trying_leaves_no_trace() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("trap")).start().await;
    let asked = || json!({ "user": "user:default/jane", "request": "GET /api/v1/pods" });

    for _ in 0..30 {
        let (_, told) = tried(&gate, asked()).await;
        assert_eq!(told["verdict"]["reason"], "policy `trap` gave no answer: trapped", "never quarantined: {told}");
    }

    assert_eq!(api_server.requests().len(), NOTHING.len());
    assert_eq!(gate.recent_decisions("").await, Vec::<Value>::new());
    let metrics = gate.metrics().await;
    for counter in ["witgate_plugin_calls_total", "witgate_plugin_instantiate_seconds_count", "witgate_decisions_total"]
    {
        assert_eq!(metrics.sum(counter, &[]), 0, "{counter}");
    }
    let quarantined = gate.client_as("jane").get("/api/v1/pods").await;
    assert_eq!(gate.decision_of(&quarantined).await["reason"], "policy `trap` gave no answer: trapped");
    assert_eq!(
        gate.status().await["plugins"].as_array().unwrap().iter().filter(|p| p.get("quarantine").is_some()).count(),
        0
    );
}

/// The console's own page may ask; a form, another page and the data plane may not.
#[tokio::test]
async fn only_the_listener_s_own_page_may_ask_from_a_browser() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let own = format!("http://{}", gate.admin_address());
    let json_type = "application/json";
    for (path, body) in
        [("/try", r#"{"user":"x","request":"GET /version"}"#), ("/rollback", r#"{"generation":1}"#), ("/reload", "")]
    {
        for (headers, status) in [
            (&[("origin", own.as_str()), ("sec-fetch-site", "same-origin"), ("content-type", json_type)][..], 200),
            (&[("origin", own.as_str()), ("content-type", "text/plain")], 415),
            (&[("origin", own.as_str())], 415),
            (&[("sec-fetch-site", "none")], 415),
            (&[("origin", "http://127.0.0.1:1"), ("content-type", json_type)], 403),
            (&[("origin", "null"), ("content-type", json_type)], 403),
            (&[("sec-fetch-site", "same-site"), ("content-type", json_type)], 403),
            (&[("host", "attacker.example"), ("content-type", json_type)], 421),
            (&[], 200),
        ] {
            let admin = gate.admin();
            let call = headers.iter().fold(admin.call("POST", path), |call, (name, value)| call.header(name, value));
            let answer = call.body(body).await;
            assert_eq!(answer.status(), status, "{path} {headers:?}: {}", answer.body());
        }
        assert_eq!(gate.caller("jane").post(path, body).await.status(), 404, "not on the data plane");
    }
    let answer = gate.admin().get("/try").await;
    assert_eq!((answer.status(), answer.header("allow")), (405, Some("POST")));
}
