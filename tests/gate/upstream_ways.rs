//! Ways to an API server that a cluster's configuration names: HTTP/1.1 alone, another name in its certificate, a proxy.

use base64::Engine as _;
use serde_json::json;
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::connect_proxy::ConnectProxy;
use witgate_tests::gate::Gate;
use witgate_tests::secrets;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn http2_can_be_switched_off_for_a_cluster() {
    let api_server = ApiServer::answering(|_| Reply::default()).tls(&Authority::new("cluster")).start().await;
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("both", &api_server, "anonymous"))
        .cluster(Cluster::at("old", &api_server, "anonymous").with("disableHttp2", true))
        .start()
        .await;

    for cluster in ["both", "old"] {
        assert_eq!(gate.caller("jane").backstage(cluster).get(PODS).await.status(), 200);
    }

    let versions: Vec<_> = api_server.requests().into_iter().map(|request| request.version).collect();
    assert_eq!(versions, ["HTTP/2.0", "HTTP/1.1"]);
}

/// A tunnel's end has another name than the API server behind it.
#[tokio::test]
async fn the_certificate_may_have_to_name_something_else_than_the_url() {
    let authority = Authority::new("cluster");
    let identity = authority.server_named(&["kubernetes.default.svc"]);
    let api_server = ApiServer::answering(|_| Reply::default()).tls_as(&identity, &authority, None).start().await;
    let named =
        |name: &str, server_name: &str| Cluster::at(name, &api_server, "anonymous").with("tlsServerName", server_name);
    let kubeconfig = json!({
        "clusters": [{ "name": "c", "cluster": {
            "server": api_server.url(), "certificate-authority": "ca.crt", "tls-server-name": "kubernetes.default.svc",
        } }],
        "users": [{ "name": "u", "user": { "token": secrets::secret("kubeconfig token") } }],
        "contexts": [{ "name": "by-kubeconfig", "context": { "cluster": "c", "user": "u" } }],
    });
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("unnamed", &api_server, "anonymous"))
        .cluster(named("named", "kubernetes.default.svc"))
        .cluster(named("misnamed", "other.example"))
        .file("ca.crt", &authority.pem())
        .file("kubeconfig", &kubeconfig.to_string())
        .locator(json!({ "type": "kubeconfig", "file": "kubeconfig" }))
        .start()
        .await;

    for (cluster, expected) in [("unnamed", 502), ("named", 200), ("misnamed", 502), ("by-kubeconfig", 200)] {
        let answer = gate.caller("jane").backstage(cluster).get(PODS).await;
        assert_eq!(answer.status(), expected, "{cluster}: {}", answer.body());
    }
    assert_eq!(api_server.requests().len(), 2);
}

#[tokio::test]
async fn a_proxy_tunnels_http_and_https_alike() {
    let proxy = ConnectProxy::start().await;
    let plain = ApiServer::start().await;
    let secure = ApiServer::answering(|_| Reply::default()).tls(&Authority::new("cluster")).start().await;
    let password = secrets::secret("proxy password");
    let open = format!("http://{}", proxy.address());
    let with_password = format!("http://jane:{password}@{}", proxy.address());
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("jane:{password}"));
    secrets::register("proxy authorization", &encoded);
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("plain", &plain, "anonymous").with("proxyUrl", open))
        .cluster(Cluster::at("secure", &secure, "anonymous").with("proxyUrl", with_password))
        .start()
        .await;

    for cluster in ["plain", "secure"] {
        let answer = gate.caller("jane").backstage(cluster).get(PODS).await;
        assert_eq!(answer.status(), 200, "{cluster}: {}", answer.body());
    }

    let (plain, secure) = (plain.address(), secure.address());
    assert_eq!(
        proxy.heads(),
        [
            format!("CONNECT {plain} HTTP/1.1\r\nHost: {plain}\r\n\r\n"),
            format!("CONNECT {secure} HTTP/1.1\r\nHost: {secure}\r\nProxy-Authorization: Basic {encoded}\r\n\r\n"),
        ]
    );
}

/// What a proxy says is not the caller's to know; the log has it.
#[tokio::test]
async fn a_proxy_that_refuses_is_502() {
    let api_server = ApiServer::start().await;
    for (answer, cause) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy answered 407"),
        ("HTTP/1.1 20", "the proxy broke off"),
    ] {
        let proxy = ConnectProxy::answering(answer).await;
        let cluster =
            Cluster::at("one", &api_server, "anonymous").with("proxyUrl", format!("http://{}", proxy.address()));
        let gate = Gate::without_clusters().cluster(cluster).start().await;

        let answer = gate.client_as("jane").get(PODS).await;

        assert_eq!(answer.status(), 502);
        assert_eq!(answer.message(), "the cluster's API server cannot be reached");
        gate.log_line_with(cause).await;
    }
    assert!(api_server.requests().is_empty());
}
