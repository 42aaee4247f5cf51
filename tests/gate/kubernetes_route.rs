//! `/k8s/clusters/<name>/`: the same gate with Kubernetes' manners.

use insta::assert_snapshot;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn a_request_goes_to_the_cluster_of_its_path() {
    let one = ApiServer::start().await;
    let two = ApiServer::start().await;
    let gate = Gate::builder(&one).cluster(Cluster::at("two", &two, "anonymous")).start().await;
    let jane = gate.caller("jane");

    jane.clone().kubernetes("two").get("/api/v1/pods?limit=500").await;
    jane.clone().kubernetes("two").get("").await;
    jane.clone().kubernetes("two").get("/").await;
    // The other route's header means nothing here.
    jane.kubernetes("one").get("/version").header("backstage-kubernetes-cluster", "two").await;

    assert_eq!(two.heard(), ["GET /api/v1/pods?limit=500", "GET /", "GET /"]);
    assert_eq!(one.heard(), ["GET /version"]);
}

#[tokio::test]
async fn errors_are_statuses() {
    let api_server = ApiServer::start().await;
    let refusing = BrokenUpstream::refusing_url().await;
    let gate = Gate::builder(&api_server)
        .policy("read-only")
        .cluster(Cluster::at_url("down", &refusing, "anonymous"))
        .cluster(Cluster::at("google", &api_server, "google"))
        .start()
        .await;
    let jane = |cluster: &str| gate.caller("jane").kubernetes(cluster);

    assert_snapshot!(gate.client().kubernetes("one").get(PODS).await.summary(), @r#"401 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Missing credentials","reason":"Unauthorized","code":401}"#);
    assert_snapshot!(gate.client().with_token(&secret("bad token")).kubernetes("one").get(PODS).await.summary(), @r#"401 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Illegal token","reason":"Unauthorized","code":401}"#);
    assert_snapshot!(jane("one").delete(&format!("{PODS}/p")).await.summary(), @r#"403 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"denied by policy `read-only`: read-only: `delete` is more than reading","reason":"Forbidden","code":403}"#);
    assert_snapshot!(jane("nope").get(PODS).await.summary(), @r#"404 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Cluster 'nope' not found","reason":"NotFound","code":404}"#);
    assert_snapshot!(jane("one").get("/api//v1").await.summary(), @r#"400 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"`//` in the path","reason":"BadRequest","code":400}"#);
    assert_snapshot!(jane("down").get(PODS).await.summary(), @r#"502 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"the cluster's API server cannot be reached","reason":"BadGateway","code":502}"#);
    assert_snapshot!(jane("google").get(PODS).await.summary(), @r#"401 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"Google token not found under auth.google in request body","reason":"Unauthorized","code":401}"#);
    assert_snapshot!(jane("one").call("TRACE", PODS).await.summary(), @r#"405 {"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"method TRACE is not served here","reason":"MethodNotAllowed","code":405}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn an_error_is_json_and_names_its_decision() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.caller("jane").kubernetes("nope").get(PODS).await;

    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.json()["code"], 404);
    let decision = gate.decision_of(&answer).await;
    assert_eq!((&decision["cluster"], &decision["status"]), (&"nope".into(), &404.into()));
}

/// HTTP says that a HEAD has no body; kubectl and probes send them.
#[tokio::test]
async fn a_head_request_has_no_body() {
    let api_server = ApiServer::answering(|_| Reply::new(200, "")).start().await;
    let gate = Gate::builder(&api_server).start().await;

    let denied = gate.client().kubernetes("one").call("HEAD", PODS).await;
    let unknown = gate.caller("jane").kubernetes("nope").call("HEAD", PODS).await;

    assert_eq!((denied.status(), denied.body()), (401, ""));
    assert_eq!((unknown.status(), unknown.body()), (404, ""));
}

#[tokio::test]
async fn a_name_with_unusual_characters_is_found() {
    let api_server = ApiServer::start().await;
    let name = "arn:aws:eks:eu-west-1:1:cluster_a";
    let gate = Gate::without_clusters().cluster(Cluster::at(name, &api_server, "anonymous")).start().await;

    assert_eq!(gate.caller("jane").kubernetes(name).get("/version").await.status(), 200);
    assert_eq!(gate.caller("jane").backstage(name).get("/version").await.status(), 200);
}
