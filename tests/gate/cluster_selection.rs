//! Group A: which cluster a request goes to, and what is said where there is none.

use insta::assert_snapshot;
use witgate_tests::api_server::ApiServer;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};

use crate::NOTHING;

const PODS: &str = "/api/kubernetes/proxy/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn a1_no_clusters_is_404() {
    let gate = Gate::without_clusters().start().await;

    let answer = gate.caller("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"404 {"error":{"name":"NotFoundError","message":"No Clusters configured"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":404}}"#);
}

#[tokio::test]
async fn a2_the_only_cluster_needs_no_header() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.caller("jane").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(api_server.heard(), ["GET /api/v1/namespaces/dev/pods"]);
}

#[tokio::test]
async fn a3_several_clusters_and_no_header_is_400_naming_the_header() {
    let api_server = ApiServer::start().await;
    let gate = two_clusters(&api_server).start().await;

    let answer = gate.caller("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"400 {"error":{"name":"InputError","message":"header `Backstage-Kubernetes-Cluster` is missing; it names the cluster, and there are several"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":400}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a4_an_unknown_cluster_is_404() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.caller("jane").get(PODS).header("backstage-kubernetes-cluster", "nope").await;

    assert_snapshot!(answer.summary(), @r#"404 {"error":{"name":"NotFoundError","message":"Cluster 'nope' not found"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":404}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

/// A caller who is denied must not learn which clusters there are.
#[tokio::test]
async fn a_denied_caller_cannot_probe_cluster_names() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("deny-proxy").start().await;
    let jane = gate.caller("jane");

    let known = jane.get(PODS).header("backstage-kubernetes-cluster", "one").await;
    let unknown = jane.get(PODS).header("backstage-kubernetes-cluster", "nope").await;

    assert_eq!(known.status(), 403);
    assert_eq!(unknown.summary(), known.summary());
}

#[tokio::test]
async fn a7_the_header_twice_is_400() {
    let api_server = ApiServer::start().await;
    let gate = two_clusters(&api_server).start().await;

    let jane = gate.caller("jane").backstage("one").backstage("local");
    let answer = jane.get("/api/v1/namespaces/dev/pods").await;

    assert_snapshot!(answer.summary(), @r#"400 {"error":{"name":"InputError","message":"header `Backstage-Kubernetes-Cluster` is given more than once"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":400}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn the_header_names_the_cluster() {
    let one = ApiServer::start().await;
    let local = ApiServer::start().await;
    let gate = Gate::builder(&one).cluster(Cluster::at("local", &local, "anonymous")).start().await;

    let answer = gate.caller("jane").backstage("local").get("/version").await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(local.heard(), ["GET /version"]);
    assert_eq!(one.connections_count(), 0);
}

fn two_clusters(api_server: &ApiServer) -> GateBuilder {
    Gate::builder(api_server).cluster(Cluster::at("local", api_server, "anonymous"))
}
