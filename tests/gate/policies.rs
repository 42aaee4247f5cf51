//! Group F, policies: what they decide, and that no answer is a denial.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// The seed's `KubernetesDenyAllProxyEndpointPolicy`, and a caller whom Backstage would not have judged.
#[tokio::test]
async fn f4_deny_proxy_denies_everyone_the_proxy_and_nothing_else() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).without_allow_all().policy("deny-proxy").start().await;

    let proxied = gate.client_as("jane").get(PODS).await;
    let clusters = gate.caller("jane").get("/api/kubernetes/clusters").await;

    assert_snapshot!(proxied.summary(), @r#"403 {"error":{"name":"NotAllowedError","message":"denied by policy `deny-proxy`: the proxy is closed"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":403}}"#);
    assert_eq!(clusters.status(), 200, "{}", clusters.body());
    assert_eq!(gate.caller("jane").kubernetes("one").get(PODS).await.status(), 403);
    assert_eq!(gate.client_as("john").get(PODS).await.status(), 403);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn silence_denies() {
    let api_server = ApiServer::start().await;
    let empty = Gate::builder(&api_server).without_allow_all().start().await;
    // `read-only` has no opinion about reading: that alone allows nothing.
    let silent = Gate::builder(&api_server).without_allow_all().policy("read-only").start().await;

    assert_snapshot!(empty.client_as("jane").get(PODS).await.summary(), @r#"403 {"error":{"name":"NotAllowedError","message":"no policy allows this request"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":403}}"#);
    assert_eq!(silent.client_as("jane").get(PODS).await.status(), 403);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn any_deny_denies_whatever_others_allow() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let jane = gate.client_as("jane");

    assert_eq!(jane.get(PODS).await.status(), 200);
    assert_snapshot!(jane.delete(&format!("{PODS}/p")).await.summary(), @r#"403 {"error":{"name":"NotAllowedError","message":"denied by policy `read-only`: read-only: `delete` is more than reading"},"request":{"method":"DELETE","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods/p"},"response":{"statusCode":403}}"#);
    assert_eq!(jane.post(PODS, "{}").await.status(), 403);
    assert_eq!(api_server.heard(), [format!("GET {PODS}")]);
}

/// Exec by WebSocket is a GET: a policy for readers must not be fooled.
#[tokio::test]
async fn read_only_denies_every_way_to_exec() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let jane = gate.client_as("jane");
    let paths = [
        "/api/v1/namespaces/dev/pods/p/exec?command=sh",
        "/api/v1/namespaces/dev/pods/p/attach",
        "/api/v1/namespaces/dev/pods/p/portforward",
        "/api/v1/namespaces/dev/pods/p/proxy/",
        "/api/v1/namespaces/dev/services/s/proxy/x",
        "/api/v1/nodes/n/proxy/exec/dev/p/c",
    ];

    for path in paths {
        assert_eq!(jane.get(path).await.status(), 403, "{path}");
    }
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn namespace_tenancy_keeps_groups_to_their_namespaces() {
    let api_server = ApiServer::start().await;
    let settings = json!({ "tenants": [
        { "groups": ["group:default/developers"], "clusters": ["one"], "namespaces": ["dev"],
          "actions": ["read", "write"] },
        { "groups": ["group:default/readers"], "clusters": ["*"], "namespaces": ["*"], "actions": ["read"] },
    ] });
    let tenancy = Plugin::policy("namespace-tenancy").sidecar(json!({ "settings": settings }));
    let gate = Gate::builder(&api_server).without_allow_all().plugin(tenancy).start().await;
    let (jane, john) = (gate.client_as("jane"), gate.client_as("john"));

    check(&jane, "GET", "/api/v1/namespaces/dev/pods", 200).await;
    check(&jane, "POST", "/api/v1/namespaces/dev/pods", 200).await;
    check(&jane, "DELETE", "/api/v1/namespaces/dev/pods/p", 403).await;
    check(&jane, "GET", "/api/v1/namespaces/prod/pods", 403).await;
    check(&jane, "GET", "/api/v1/pods", 403).await;
    check(&jane, "GET", "/api/v1/namespaces/dev/secrets/s", 403).await;
    check(&john, "GET", "/api/v1/namespaces/prod/pods", 200).await;
    check(&john, "POST", "/api/v1/namespaces/dev/pods", 403).await;
}

async fn check(caller: &Client, method: &str, path: &str, expected: u16) {
    let answer = caller.call(method, path).await;
    assert_eq!(answer.status(), expected, "{method} {path}: {}", answer.body());
}

#[tokio::test]
async fn f8_permission_disabled_asks_no_policy_and_says_so() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("deny-proxy").set("permission", json!({ "enabled": false }));
    let gate = gate.start().await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(gate.client().backstage("one").get(PODS).await.status(), 401, "who calls is still asked");
    let warning = gate.log_line_with("permission").await;
    assert!(warning.contains(r#""level":"WARN""#), "{warning}");
}

/// A policy that never returns must cost one denied request, not a stuck gate.
#[tokio::test]
async fn f7_a_spinning_policy_is_denied_at_its_deadline() {
    check_misbehaving(Plugin::fixture("spin").sidecar(json!({ "limits": { "deadlineMs": 50 } })), "deadline-exceeded")
        .await;
}

#[tokio::test]
async fn f6_a_trapping_policy_denies() {
    check_misbehaving(Plugin::fixture("trap"), "trapped").await;
}

#[tokio::test]
async fn f6_an_unknown_condition_denies() {
    check_misbehaving(Plugin::fixture("bad-condition"), "malformed-answer").await;
}

#[tokio::test]
async fn a_policy_that_hoards_memory_denies() {
    check_misbehaving(Plugin::fixture("hoard"), "memory-limit").await;
}

#[tokio::test]
async fn a_policy_that_recurses_without_end_denies() {
    check_misbehaving(Plugin::fixture("deep-recursion"), "trapped").await;
}

#[tokio::test]
async fn a_policy_that_answers_too_much_denies() {
    check_misbehaving(Plugin::fixture("huge-output"), "output-limit").await;
}

/// Goal: a policy that fails denies that request, with its own reason code, and nothing else.
/// Method: the fixture beside `allow-all`; then the fixture goes, and the same gate allows.
async fn check_misbehaving(fixture: Plugin, code: &str) {
    let name = fixture.name().to_owned();
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(fixture).start().await;
    let jane = gate.client_as("jane");

    for caller in [jane.clone(), gate.caller("jane").kubernetes("one")] {
        let answer = caller.get(PODS).await;
        assert_eq!(answer.status(), 403, "{}", answer.body());
        assert_eq!(answer.message(), format!("policy `{name}` gave no answer: {code}"));
        let decision = gate.decision_of(&answer).await;
        assert_eq!((&decision["decision"], &decision["policy"]), (&json!("deny"), &json!(name)));
    }
    assert_eq!(api_server.heard(), NOTHING);
    assert_eq!(gate.admin().get("/readyz").await.status(), 200, "the gate still answers");

    gate.plugins().remove(&name);
    gate.status_when("the fixture is gone", |status| !names(status).contains(&name.as_str())).await;
    assert_eq!(jane.get(PODS).await.status(), 200);
}

fn names(status: &Value) -> Vec<&str> {
    status["plugins"].as_array().unwrap().iter().filter_map(|plugin| plugin["name"].as_str()).collect()
}

/// Many callers at once must not be a way around a policy that fails, nor stop the gate.
#[tokio::test]
async fn a_spinning_policy_does_not_stop_other_requests() {
    let api_server = ApiServer::start().await;
    let spin = Plugin::fixture("spin").sidecar(json!({ "limits": { "deadlineMs": 50 } }));
    let gate = Gate::builder(&api_server).plugin(spin).start().await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let caller = gate.client_as("jane").on_new_connection();
            tokio::spawn(async move { caller.get(PODS).await.status() })
        })
        .collect();

    assert_eq!(gate.client().get("/nowhere").await.status(), 404, "a request that asks no policy");
    for call in calls {
        assert!([403, 503].contains(&call.await.unwrap()));
    }
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_shadow_policy_is_asked_and_never_counts() {
    let api_server = ApiServer::start().await;
    let shadow = Plugin::policy("deny-proxy").sidecar(json!({ "mode": "shadow" }));
    let gate = Gate::builder(&api_server).plugin(shadow).start().await;

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);
    let status = gate.status().await;
    let plugins = status["plugins"].as_array().unwrap();
    assert!(plugins.iter().any(|plugin| plugin["name"] == "deny-proxy" && plugin["mode"] == "shadow"), "{status}");
}

/// A trap costs the request that caused it, and no other one, before or after.
#[tokio::test]
async fn a_policy_that_traps_sometimes_denies_only_then() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("trap-sometimes")).start().await;
    let jane = gate.client_as("jane");

    for _ in 0..5 {
        assert_eq!(jane.get(PODS).await.status(), 200);
        assert_eq!(jane.get("/api/v1/namespaces/trap/pods").await.status(), 403);
    }
}

/// What one caller's request left in a guest's memory must not reach another's: a fresh instance a call.
#[tokio::test]
async fn a_policy_remembers_nothing_from_call_to_call() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("remember")).start().await;

    for name in ["jane", "john", "jane"] {
        let message = gate.client_as(name).get(PODS).await.message();
        assert_eq!(message, "denied by policy `remember`: calls before: 0, previous caller: nobody");
    }
}

#[tokio::test]
async fn a_policy_that_floods_the_log_is_cut_short() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("log-flood")).start().await;

    for _ in 0..5 {
        gate.client_as("jane").get(PODS).await;
    }

    let flooded = gate.log().lines().filter(|line| line.contains("line ") && line.contains("log-flood")).count();
    assert!((1..5_000).contains(&flooded), "{flooded} of 50,000 lines were written");
    assert!(gate.log().lines().all(|line| line.len() < 100_000), "a line of 1 MB was written whole");
}

/// What reaches a policy, for a request in which everything is there.
#[tokio::test]
async fn a_policy_sees_the_request_and_its_caller() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("echo-query")).start().await;

    let path = "/apis/apps/v1/namespaces/dev/deployments/x/scale?dryRun=All";
    let jane = gate.client_as("jane").with_header("content-type", "application/apply-patch+yaml");
    let answer = jane.call("PATCH", path).body("{}").await;

    let message = answer.message();
    let (_, echo) = message.split_once("echo:").unwrap();
    let mut echo: Value = serde_json::from_str(echo).unwrap();
    assert!(echo["now"].as_u64().unwrap() > 1_700_000_000, "{echo}");
    echo["now"] = 0.into();
    echo.sort_all_objects();
    assert_snapshot!(serde_json::to_string_pretty(&echo).unwrap(), @r#"
    {
      "action": null,
      "now": 0,
      "permission": "kubernetes.proxy",
      "request": {
        "actionClass": "write",
        "apiGroup": "apps",
        "apiVersion": "v1",
        "cluster": "one",
        "dryRun": true,
        "fieldSelector": null,
        "labelSelector": null,
        "method": "PATCH",
        "name": "x",
        "namespace": "dev",
        "patchType": "application/apply-patch+yaml",
        "path": "/apis/apps/v1/namespaces/dev/deployments/x/scale",
        "resource": "deployments",
        "resourceRequest": true,
        "subpath": "",
        "subresource": "scale",
        "upgrade": false,
        "verb": "patch"
      },
      "resourceRef": null,
      "resourceType": "kubernetes-proxy-request",
      "user": {
        "extra": [],
        "groups": [
          "group:default/developers"
        ],
        "name": "user:default/jane",
        "uid": null
      }
    }
    "#);
}

/// Goal: conditions are checked by the host (cases F13 and G1 to G6). Method: one condition, one request, one status.
#[tokio::test]
async fn f13_and_g_a_conditional_allows_where_its_conditions_hold() {
    let api_server = ApiServer::start().await;
    let is = |rule: &str, param: &str, values: &[&str]| json!({ "rule": rule, "params": { param: values } });
    let reading = is("IS_ACTION", "actions", &["read"]);
    let changing = is("IS_ACTION", "actions", &["read", "write"]);
    let staging = is("IS_CLUSTER", "clusters", &["staging"]);
    let workloads = is("IS_RESOURCE_TYPE", "resourceTypes", &["pods", "deployments"]);
    let not_staging = json!({ "rule": "IS_CLUSTER", "params": { "clusters": ["staging"] }, "negated": true });
    let (pod, exec, secret) =
        (format!("{PODS}/p"), format!("{PODS}/p/exec"), "/api/v1/namespaces/dev/secrets/s".to_owned());
    let cases = [
        ("G1", json!([[reading]]), "GET", &pod, 200),
        ("G2", json!([[reading]]), "DELETE", &pod, 403),
        ("G3", json!([[changing]]), "POST", &exec, 403),
        ("G5", json!([[staging]]), "GET", &pod, 403),
        ("G6", json!([[reading, workloads]]), "GET", &secret, 403),
        ("G6", json!([[reading, workloads]]), "GET", &pod, 200),
        ("F13 any", json!([[staging], [reading]]), "GET", &pod, 200),
        ("F13 all", json!([[staging, reading]]), "GET", &pod, 403),
        ("F13 not", json!([[not_staging]]), "GET", &pod, 200),
        ("F13 empty", json!([]), "GET", &pod, 403),
        ("F13 empty", json!([[]]), "GET", &pod, 403),
        ("F13 unknown rule", json!([[reading], [is("IS_TUESDAY", "days", &["2"])]]), "GET", &pod, 403),
    ];

    for (case, any_of, method, path, expected) in cases {
        let conditional = Plugin::fixture("conditional").sidecar(json!({ "settings": { "anyOf": any_of } }));
        let gate = Gate::builder(&api_server).without_allow_all().plugin(conditional).start().await;
        let answer = gate.client_as("jane").call(method, path).await;
        assert_eq!(answer.status(), expected, "{case}: {}", answer.body());
    }
}
