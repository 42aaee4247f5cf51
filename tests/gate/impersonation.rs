//! `Impersonate-*`: from a grant, or from a caller where cluster and policies allow it; never otherwise.

use serde_json::json;
use witgate_tests::api_server::{ApiServer, Request};
use witgate_tests::client::Client;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn b16_a_caller_may_impersonate_where_the_cluster_and_every_policy_allow_it() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "anonymous").with("allowImpersonation", true);
    let gate = Gate::without_clusters().cluster(cluster).start().await;

    let answer = as_kim(&gate.caller("jane").kubernetes("one")).get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    let request = api_server.only_request();
    let expected = [
        ("impersonate-extra-scopes", "view"),
        ("impersonate-group", "dev"),
        ("impersonate-group", "ops"),
        ("impersonate-uid", "42"),
        ("impersonate-user", "kim"),
    ];
    assert_eq!(impersonation(&request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Each header is one more query: the verb `impersonate`, and denied by any policy that denies that verb.
#[tokio::test]
async fn b16_each_impersonation_header_is_a_query_to_the_policies() {
    let api_server = ApiServer::start().await;
    let condition = |resources: &[&str]| {
        json!([
            [{ "rule": "IS_VERB", "params": { "verbs": ["impersonate"] }, "negated": true }],
            [{ "rule": "IS_RESOURCE_TYPE", "params": { "resourceTypes": resources } }],
        ])
    };

    for (resources, expected) in [
        (&["users", "groups", "uids", "userextras"][..], 200),
        (&["users", "groups", "uids"], 403),
        (&["users", "groups", "userextras"], 403),
        (&["users", "uids", "userextras"], 403),
        (&["groups", "uids", "userextras"], 403),
    ] {
        let conditional =
            Plugin::fixture("conditional").sidecar(json!({ "settings": { "anyOf": condition(resources) } }));
        let cluster = Cluster::at("one", &api_server, "anonymous").with("allowImpersonation", true);
        let gate = Gate::without_clusters().without_allow_all().plugin(conditional).cluster(cluster).start().await;
        let answer = as_kim(&gate.caller("jane").kubernetes("one")).get(PODS).await;
        assert_eq!(answer.status(), expected, "{resources:?}: {}", answer.body());
    }
}

#[tokio::test]
async fn groups_without_a_user_are_refused() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "anonymous").with("allowImpersonation", true);
    let gate = Gate::without_clusters().cluster(cluster).start().await;

    let answer = gate.client_as("jane").get(PODS).header("impersonate-group", "system:masters").await;

    assert!([400, 403].contains(&answer.status()), "{}", answer.summary());
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_grant_s_impersonation_is_stamped() {
    let api_server = ApiServer::start().await;
    let token = secret("token of a grant");
    let settings = json!({ "token": token, "impersonate": {
        "user": "jane", "uid": "7", "groups": ["a", "b"], "extra": { "example.com/team": ["x"] },
    } });
    let bearer = Plugin::fixture("bearer").sidecar(json!({ "settings": settings }));
    let gate = Gate::without_clusters().plugin(bearer).cluster(Cluster::at("one", &api_server, "bearer")).start().await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    let request = api_server.only_request();
    let expected = [
        ("impersonate-extra-example.com%2fteam", "x"),
        ("impersonate-group", "a"),
        ("impersonate-group", "b"),
        ("impersonate-uid", "7"),
        ("impersonate-user", "jane"),
    ];
    assert_eq!(impersonation(&request), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(request.header("authorization"), Some(format!("Bearer {token}").as_str()));
}

/// `kubectl --as=kim --as-uid=42 --as-group=dev --as-group=ops`, with a scope.
fn as_kim(caller: &Client) -> Client {
    caller
        .clone()
        .with_header("impersonate-user", "kim")
        .with_header("impersonate-uid", "42")
        .with_header("impersonate-group", "dev")
        .with_header("impersonate-group", "ops")
        .with_header("impersonate-extra-scopes", "view")
}

fn impersonation(request: &Request) -> Vec<(String, String)> {
    let mut headers: Vec<_> =
        request.headers.iter().filter(|(name, _)| name.starts_with("impersonate-")).cloned().collect();
    headers.sort_unstable();
    headers
}
