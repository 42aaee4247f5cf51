//! Group I: configurations that are refused, and what is said about them.

use insta::assert_snapshot;
use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::plugin_folder::Plugin;

const URL: &str = "https://cluster.example";

#[tokio::test]
async fn check_accepts_what_serves() {
    let api_server = ApiServer::start().await;

    let ended = Gate::builder(&api_server).check().await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[tokio::test]
async fn i_no_auth_provider() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", URL, "").without("authProvider"));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: cluster 'one' has no auth provider configured; this must be specified via the 'authProvider' or 'authMetadata.kubernetes.io/auth-provider' parameter");
}

#[tokio::test]
async fn i_oidc_without_a_provider() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", URL, "oidc"));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: Invalid cluster 'one': Must specify a token provider for 'oidc' strategy");
}

#[tokio::test]
async fn i_an_unknown_auth_provider() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", URL, "serviceAcount"));
    assert_snapshot!(refusal(gate).await, @r#"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: Invalid cluster 'one': authProvider "serviceAcount" has no config associated with it; there are aks, anonymous, aws, azure, google, googleServiceAccount, kubeconfig, localKubectlProxy, oidc, pinniped, serviceAccount"#);
}

#[tokio::test]
async fn i_an_unknown_locator() {
    let gate = Gate::without_clusters().locator(json!({ "type": "bogus" }));
    assert_snapshot!(refusal(gate).await, @r#"error: DIR/witgate.yaml:23: kubernetes.clusterLocatorMethods[1].type: Unsupported kubernetes.clusterLocatorMethods: "bogus"; supported are config, localKubectlProxy and kubeconfig"#);
}

#[tokio::test]
async fn i_and_a10_one_name_twice_in_a_list() {
    let one = Cluster::at_url("one", URL, "anonymous");
    let gate = Gate::without_clusters().cluster(one.clone()).cluster(one);
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:26: kubernetes.clusterLocatorMethods[0].clusters[1]: Duplicate cluster name 'one': it stands at DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0] and at DIR/witgate.yaml:26: kubernetes.clusterLocatorMethods[0].clusters[1]");
}

#[tokio::test]
async fn a9_one_name_in_two_locators() {
    let one = Cluster::at_url("one", URL, "anonymous");
    let again = json!({ "type": "config", "clusters": [one.clone().into_value()] });
    let gate = Gate::without_clusters().cluster(one).locator(again);
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:31: kubernetes.clusterLocatorMethods[1].clusters[0]: Duplicate cluster name 'one': it stands at DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0] and at DIR/witgate.yaml:31: kubernetes.clusterLocatorMethods[1].clusters[0]");
}

#[tokio::test]
async fn i_a_url_that_is_none() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", "not a url", "anonymous"));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:23: kubernetes.clusterLocatorMethods[0].clusters[0].url: `not a url` is not a URL: it holds white space; write `https://host:port`");
}

#[tokio::test]
async fn i_a_cluster_without_a_name() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", URL, "anonymous").without("name"));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: `name` is missing: the name by which callers ask for the cluster");
}

#[tokio::test]
async fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    let gate = Gate::without_clusters().set("decisionlog", json!({ "file": "-" }));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:16: decisionlog: unknown key; did you mean `decisionLog`?");
}

#[tokio::test]
async fn a_ca_file_that_is_missing() {
    let gate = Gate::without_clusters().cluster(Cluster::at_url("one", URL, "anonymous").with("caFile", "absent.crt"));
    assert_snapshot!(refusal(gate).await, @"error: DIR/witgate.yaml:25: kubernetes.clusterLocatorMethods[0].clusters[0].caFile: `absent.crt` does not exist (a relative path begins at the folder of the file that names it)");
}

#[tokio::test]
async fn a_plugin_that_is_no_component() {
    let gate = Gate::without_clusters().plugin(Plugin::of_bytes("broken", b"not wasm"));
    assert_snapshot!(refusal(gate).await, @r#"
    note: DIR/witgate.yaml:1: there are no clusters: every request to one gets 404
    error: DIR/policies/broken.wasm: `broken.wasm` is not WebAssembly: its first bytes are `6e 6f 74 20 77 61 73 6d` ("not wasm"), a component's are `00 61 73 6d 0d 00 01 00`
    "#);
}

#[tokio::test]
async fn a_plugin_whose_settings_it_refuses() {
    let gate = Gate::without_clusters().plugin(Plugin::fixture("configure-fails"));
    assert_snapshot!(refusal(gate).await, @r#"
    note: DIR/witgate.yaml:1: there are no clusters: every request to one gets 404
    error: DIR/policies/configure-fails.wasm: plug-in `configure-fails` refuses its settings: colour: `mauve` is not a colour; use `red`; size: is missing
    "#);
}

#[tokio::test]
async fn a_plugin_that_does_not_match_its_digest() {
    let sidecar = json!({ "sha256": "0".repeat(64) });
    let ended = Gate::without_clusters().plugin(Plugin::policy("read-only").sidecar(sidecar)).check().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("sha256") && ended.stderr.contains("read-only"), "{}", ended.stderr);
}

/// Backstage's section is taken as it is: what we do not serve is ignored with a note, and its variables are filled in.
#[tokio::test]
async fn backstage_s_section_is_taken_as_it_is() {
    let api_server = ApiServer::start().await;
    let token = witgate_tests::secrets::secret("service-account token in a variable");
    let section = json!({
        "frontend": { "podDelete": { "enabled": true } },
        "serviceLocatorMethod": { "type": "multiTenant" },
        "clusterLocatorMethods": [{ "type": "config", "clusters": [{
            "name": "one", "title": "${TITLE}", "url": api_server.url(), "authProvider": "serviceAccount",
            "serviceAccountToken": { "$env": "CLUSTER_TOKEN" }, "skipMetricsLookup": true, "dashboardApp": "standard",
        }] }],
    });
    let gate = Gate::without_clusters().set("kubernetes", section);
    let gate = gate.variable("CLUSTER_TOKEN", &token).variable("TITLE", "Cluster One").start().await;

    let answer = gate.caller("jane").get("/api/kubernetes/proxy/version").await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(api_server.only_request().header("authorization"), Some(format!("Bearer {token}").as_str()));
    gate.log_line_with("serviceLocatorMethod").await;
}

#[tokio::test]
async fn a_usage_error_is_exit_code_2() {
    let mut command = std::process::Command::new(witgate_tests::artifacts::witgate());
    let ended = witgate_tests::process::Process::run(command.args(["serve", "--no-such-flag"])).await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
}

/// What `check` says, and that `serve` refuses the same configuration.
async fn refusal(gate: GateBuilder) -> String {
    let (checked, served) = gate.check_and_refused_start().await;
    assert_eq!((checked.code, served.code), (Some(1), Some(1)), "{}\n{}", checked.stderr, served.stderr);
    checked.stderr
}
