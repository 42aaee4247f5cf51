//! The ready policies with settings of their own, dropped into the folder of a gate that serves.

use std::time::Duration;

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::within;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// How long a large component may take to be compiled, and how often somebody looks.
const LOADED: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);

#[tokio::test]
async fn backstage_rules_opens_by_conditions() {
    let developers = json!({ "anyOf": [
        { "rule": "IS_ACTION", "params": { "actions": ["read"] } },
        { "allOf": [{ "rule": "IS_CLUSTER", "params": { "clusters": ["one"] } },
                    { "rule": "IS_VERB", "params": { "verbs": ["patch"] } },
                    { "not": { "rule": "IS_NAMESPACE", "params": { "namespaces": ["kube-system"] } } }] },
    ] });
    let settings = json!({
        "reusableFor": 300,
        "rules": [{ "groups": ["group:default/developers"], "conditions": developers, "listClusters": true }],
    });
    let wrong = json!({ "rules": [{ "users": ["*"], "conditions": { "rule": "IS_TUESDAY", "params": {} } }] });
    let ready = Ready::start("backstage-rules", settings).await;
    let (jane, john) = (ready.gate.client_as("jane"), ready.gate.client_as("john"));

    for _ in 0..3 {
        check(&jane, "GET", POD, 200).await; // asked once, then answered by the host
        check(&jane, "PATCH", POD, 200).await;
        check(&jane, "PATCH", "/api/v1/namespaces/kube-system/pods/p", 403).await;
        check(&jane, "DELETE", POD, 403).await;
        check(&john, "GET", POD, 403).await;
    }
    assert_eq!(ready.gate.caller("jane").get("/api/kubernetes/clusters").await.status(), 200);
    assert_eq!(ready.gate.caller("john").get("/api/kubernetes/clusters").await.status(), 403);
    ready.refuses(wrong, "rules[0].conditions.rule: unknown rule `IS_TUESDAY`; known are IS_CLUSTER").await;
    check(&jane, "GET", POD, 200).await;
}

#[tokio::test]
async fn rbac_opens_what_roles_and_bindings_say() {
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list", "watch"] },
        { "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["*"] },
    ]);
    let binding = json!({
        "metadata": { "name": "developers", "namespace": "dev" },
        "subjects": [{ "kind": "Group", "name": "group:default/developers" }],
        "roleRef": { "kind": "ClusterRole", "name": "viewer" },
    });
    let settings = json!({
        "onNoMatch": "deny",
        "clusterRoles": [{ "metadata": { "name": "viewer" }, "rules": rules }],
        "roleBindings": [binding],
    });
    let mut wrong = settings.clone();
    wrong["roleBindings"][0]["roleRef"]["name"] = json!("veiwer");
    let ready = Ready::start("rbac", settings).await;
    let jane = ready.gate.client_as("jane");

    check(&jane, "GET", POD, 200).await;
    check(&jane, "GET", "/api/v1/namespaces/dev/pods?watch=1", 200).await;
    check(&jane, "GET", &format!("{POD}/log"), 200).await;
    check(&jane, "GET", &format!("{POD}/exec"), 403).await;
    check(&jane, "GET", "/api/v1/pods", 403).await;
    check(&jane, "PUT", "/api/v1/namespaces/dev/configmaps/mine", 200).await;
    check(&jane, "GET", "/api/v1/namespaces/dev/configmaps?fieldSelector=metadata.name%3Dmine", 200).await;
    check(&jane, "GET", "/api/v1/namespaces/dev/configmaps", 403).await;
    let denied = ready.gate.client_as("john").get(POD).await;
    assert_eq!(
        denied.message(),
        r#"denied by policy `rbac`: User "user:default/john" cannot get resource "pods" in API group "" in the namespace "dev" of cluster "one""#
    );
    ready.refuses(wrong, "roleBindings[0].roleRef: there is no ClusterRole `veiwer`").await;
}

#[tokio::test]
async fn cedar_permits_and_forbids() {
    let policies = r#"permit (principal in Group::"group:default/developers", action, resource)
when { ["read", "exec"].contains(context.actionClass) };
@id("no-shell") @reason("nobody opens a shell in `one`")
forbid (principal, action, resource in Cluster::"one") when { context.actionClass == "exec" };"#;
    let wrong = policies.replace("actionClass == ", "actionclass == ");
    let ready = Ready::start("cedar", json!({ "policies": policies })).await;
    let jane = ready.gate.client_as("jane");

    check(&jane, "GET", POD, 200).await;
    check(&jane, "DELETE", POD, 403).await;
    check(&ready.gate.client_as("john"), "GET", POD, 403).await;
    let denied = jane.get(&format!("{POD}/exec")).await;
    assert_eq!(denied.message(), "denied by policy `cedar`: nobody opens a shell in `one`");
    assert_eq!(ready.start_kind().await, "snapshot", "parsed once, and never for a request");
    ready.refuses(json!({ "policies": wrong }), "policies: policy `no-shell`, line 4: attribute `actionclass`").await;
}

#[tokio::test]
async fn rego_allows_and_denies() {
    let module = r#"package kubernetes

allow if {
    "group:default/developers" in input.user.groups
    input.request.actionClass in {"read", "exec"}
}

deny contains "nobody opens a shell in `one`" if {
    input.request.cluster == "one"
    input.request.actionClass == "exec"
}"#;
    let wrong = format!("{module}\ndeny contains \"late\" if time.now_ns() > 0");
    let ready = Ready::start("rego", json!({ "modules": module })).await;
    let jane = ready.gate.client_as("jane");

    check(&jane, "GET", POD, 200).await;
    check(&jane, "DELETE", POD, 403).await;
    check(&ready.gate.client_as("john"), "GET", POD, 403).await;
    let denied = jane.get(&format!("{POD}/exec")).await;
    assert_eq!(denied.message(), "denied by policy `rego`: nobody opens a shell in `one`");
    assert_eq!(ready.start_kind().await, "snapshot", "parsed once, and never for a request");
    ready.refuses(json!({ "modules": wrong }), "could not find function time.now_ns").await;
}

/// A gate into whose folder one policy was dropped while it served.
struct Ready {
    name: &'static str,
    gate: Gate,
    _api_server: ApiServer,
}

impl Ready {
    async fn start(name: &'static str, settings: Value) -> Self {
        let api_server = ApiServer::start().await;
        let gate = Gate::builder(&api_server).without_allow_all().start().await;
        assert_eq!(gate.client_as("jane").get(POD).await.status(), 403, "an empty folder denies");
        gate.plugins().put(&Plugin::policy(name).sidecar(json!({ "settings": settings })));
        // `cedar` is large: on a busy machine its compilation alone takes longer than anything else that is waited for.
        let loaded = async {
            while !has(&gate.status().await, name) {
                tokio::time::sleep(LOOK).await;
            }
        };
        within(LOADED, "the policy is loaded", loaded).await;
        Self { name, gate, _api_server: api_server }
    }

    /// How its instances start, as `/status` says it.
    async fn start_kind(&self) -> String {
        let status = self.gate.status().await;
        plugin(&status, self.name).unwrap()["start"].as_str().unwrap_or_default().to_owned()
    }

    /// Goal: settings that are wrong are refused in the policy's own words, and what served goes on.
    async fn refuses(&self, settings: Value, words: &str) {
        let before = self.gate.status().await;
        self.gate.plugins().put(&Plugin::policy(self.name).sidecar(json!({ "settings": settings })));
        let refused =
            |status: &Value| status["lastReload"]["error"].as_str().is_some_and(|error| error.contains(words));
        let status = self.gate.status_when(&format!("the refusal: {words}"), refused).await;
        assert_eq!(status["generation"], before["generation"]);
    }
}

fn has(status: &Value, name: &str) -> bool {
    plugin(status, name).is_some_and(|plugin| plugin.get("error").is_none())
}

fn plugin<'a>(status: &'a Value, name: &str) -> Option<&'a Value> {
    status["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name)
}

async fn check(caller: &Client, method: &str, path: &str, expected: u16) {
    let answer = caller.call(method, path).await;
    assert_eq!(answer.status(), expected, "{method} {path}: {}", answer.body());
}
