//! No credential in any output. Every test's gate is searched when it ends; here is one that used them all, and the
//! proof that the search would find one.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::Authority;
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::token_issuer::{ISSUER, TokenIssuer};
use witgate_tests::waiting::until;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn every_kind_of_credential_stays_out_of_logs_and_answers() {
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let api_server = ApiServer::answering(|_| Default::default()).tls_for_clients_of(&servers, &clients).start().await;
    let issuer = TokenIssuer::new("key-1");
    let alice = clients.client("alice", &["dev"]);
    let (token_in_file, token_of_plugin) = (secret("token in a file"), secret("token in a plug-in's settings"));
    let x509 = Plugin::fixture("x509")
        .sidecar(json!({ "secrets": { "cert": { "file": "alice.crt" }, "key": { "file": "alice.key" } } }));
    let bearer = Plugin::fixture("bearer").sidecar(json!({ "settings": { "token": token_of_plugin } }));
    let gate = Gate::builder(&api_server)
        .plugin(x509)
        .plugin(bearer)
        .file("alice.crt", &alice.certificate_pem())
        .file("alice.key", &alice.key_pem())
        .file("token", &token_in_file)
        .file("jwks.json", &issuer.jwks())
        .cluster(Cluster::at("x509", &api_server, "x509"))
        .cluster(Cluster::at("bearer", &api_server, "bearer"))
        .cluster(Cluster::at("google", &api_server, "google"))
        .cluster(
            Cluster::at("file", &api_server, "serviceAccount").with("serviceAccountToken", json!({ "$file": "token" })),
        )
        .cluster(Cluster::at_url("down", &BrokenUpstream::refusing_url().await, "google"))
        .set(
            "authentication",
            json!([
                { "jwt": { "issuer": ISSUER, "audiences": ["backstage"], "jwksFile": "jwks.json" } },
                { "tokenFile": "tokens.yaml" },
            ]),
        )
        .start()
        .await;
    let jwt = gate.client().with_token(&issuer.token("user:default/jane", json!({})));

    for caller in [gate.caller("jane"), jwt, gate.client().with_token(&secret("bad token")), gate.client()] {
        for cluster in ["one", "x509", "bearer", "google", "file", "down", "nope"] {
            let brought = caller
                .clone()
                .with_header("backstage-kubernetes-authorization-google", &secret("token for a strategy"))
                .with_header("cookie", &secret("cookie"));
            brought.clone().backstage(cluster).get(PODS).await;
            let own = brought.with_header("backstage-kubernetes-authorization", &secret("token for the API server"));
            own.backstage(cluster).get(&format!("{PODS}?token={}", secret("token in a query"))).await;
            caller.clone().kubernetes(cluster).post(PODS, secret("body")).await;
        }
    }

    let log = gate.log();
    assert!(log.contains(r#""level":"TRACE""#), "the log is written at level trace");
    // The log's own thread writes the lines; all of them must be searched, so all are waited for.
    until("every decision is written", || async { (gate.decisions().len() == 4 * 7 * 3).then_some(()) }).await;
}

/// What a caller writes into a path stands in the decision log: a secret there shows that the search works.
#[tokio::test]
async fn a_secret_in_the_output_would_be_found() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let answer = gate.client_as("jane").get(&format!("/echo/{}", secret("secret in a path"))).await;
    gate.decision_of(&answer).await;

    assert!(catch_unwind(AssertUnwindSafe(|| drop(gate))).is_err());
}
