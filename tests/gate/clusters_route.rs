//! Group J: what `GET /api/kubernetes/clusters` shows.

use insta::assert_snapshot;
use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;

#[tokio::test]
async fn j1_and_j2_the_clusters_are_listed_without_url_ca_or_token() {
    let authority = Authority::new("cluster");
    let api_server = ApiServer::answering(|_| Default::default()).tls(&authority).start().await;
    let token = witgate_tests::secrets::secret("service-account token");
    let one = Cluster::at("one", &api_server, "serviceAccount")
        .service_account_token(&token)
        .with("title", "Cluster One")
        .with("dashboardUrl", "http://dash.example");
    let two = Cluster::at("two", &api_server, "oidc").with("oidcTokenProvider", "okta");
    let gate = Gate::without_clusters().cluster(one).cluster(two).start().await;

    let answer = gate.caller("jane").get("/api/kubernetes/clusters").await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_snapshot!(answer.body(), @r#"{"items":[{"name":"one","title":"Cluster One","dashboardUrl":"http://dash.example","authProvider":"serviceAccount"},{"name":"two","authProvider":"oidc","oidcTokenProvider":"okta"}]}"#);
    for hidden in [&api_server.url(), "127.0.0.1", "BEGIN", &token] {
        assert!(!answer.body().contains(hidden), "{hidden}");
    }
    assert_eq!(api_server.connections_count(), 0);
}

#[tokio::test]
async fn j1_no_clusters_are_an_empty_list() {
    let gate = Gate::without_clusters().start().await;

    assert_eq!(gate.caller("jane").get("/api/kubernetes/clusters").await.json(), json!({ "items": [] }));
}

#[tokio::test]
async fn the_list_needs_a_caller_and_a_policy_that_allows_it() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).without_allow_all().start().await;

    assert_eq!(gate.client().get("/api/kubernetes/clusters").await.status(), 401);
    let denied = gate.caller("jane").get("/api/kubernetes/clusters").await;

    assert_snapshot!(denied.summary(), @r#"403 {"error":{"name":"NotAllowedError","message":"no policy allows this request"},"request":{"method":"GET","url":"/api/kubernetes/clusters"},"response":{"statusCode":403}}"#);
    let decision = gate.decision_of(&denied).await;
    assert_eq!(decision["permission"], "kubernetes.clusters.read");
    assert_eq!(decision["decision"], "deny");
}

#[tokio::test]
async fn the_list_is_only_read() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(gate.caller("jane").call(method, "/api/kubernetes/clusters").await.status(), 405, "{method}");
    }
}
