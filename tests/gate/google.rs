//! The strategy `googleServiceAccount`: a key or the machine becomes an access token, and nothing else gets through.

use std::sync::Arc;

use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Reply, Request};
use witgate_tests::authority::Authority;
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::google_tokens::{GoogleTokens, METADATA_PATH};
use witgate_tests::secrets::secret;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";
const NAME: &str = "googleServiceAccount";

/// A gate whose built-in strategy has this sidecar, and whose secret `service-account` is the file `key.json`.
fn gate(api_server: &ApiServer, sidecar: Value) -> GateBuilder {
    let mut whole = json!({ "secrets": { "service-account": { "file": "../key.json" } } });
    whole.as_object_mut().unwrap().extend(sidecar.as_object().unwrap().clone());
    Gate::without_clusters()
        .cluster(Cluster::at("one", api_server, NAME))
        .file(&format!("policies/{NAME}.yaml"), &whole.to_string()) // JSON is YAML
}

/// A token endpoint that answers as Google's does, for the key of `google`.
async fn endpoint_of(google: &Arc<GoogleTokens>) -> ApiServer {
    let google = Arc::clone(google);
    ApiServer::answering(move |request: &Request| google.exchange(request)).start().await
}

/// One exchange for all who ask, whoever they are; the assertion is verified by another implementation than the guest's.
#[tokio::test]
async fn a_key_becomes_an_access_token() {
    let google = Arc::new(GoogleTokens::default());
    let endpoint = endpoint_of(&google).await;
    let api_server = ApiServer::start().await;
    let gate = gate(&api_server, json!({ "outboundHosts": [endpoint.url()] }))
        .file("key.json", &google.key_file(&format!("{}/token", endpoint.url())))
        .start()
        .await;

    for (name, hit) in [("jane", false), ("john", true), ("jane", true)] {
        let answer = gate.client_as(name).with_header("Backstage-Kubernetes-Authorization-Google", "g").get(PODS).await;
        assert_eq!(answer.status(), 200, "{} {:?}", answer.summary(), google.complaints());
        let decision = gate.decision_of(&answer).await;
        assert_eq!((&decision["strategy"], &decision["credential"]), (&json!(NAME), &json!("bearer token")));
        assert_eq!(decision["cacheHit"], hit);
    }

    assert_eq!((google.complaints(), endpoint.requests().len()), (vec![], 1));
    let expected = format!("Bearer {}", google.access_token());
    for request in api_server.requests() {
        assert_eq!(request.header("authorization"), Some(expected.as_str()));
    }
}

/// By TLS, with the authority that the sidecar names.
#[tokio::test]
async fn the_endpoint_is_believed_by_its_authority() {
    let google = Arc::new(GoogleTokens::default());
    let (authority, inner) = (Authority::new("google"), Arc::clone(&google));
    let endpoint = ApiServer::answering(move |request: &Request| inner.exchange(request)).tls(&authority).start().await;
    let api_server = ApiServer::start().await;
    let key_file = google.key_file(&format!("{}/token", endpoint.url()));
    let start = async |grant: Value| {
        let builder = gate(&api_server, json!({ "outboundHosts": [grant] }));
        builder.file("key.json", &key_file).file("ca.pem", &authority.pem()).start().await
    };

    let trusting = start(json!({ "origin": endpoint.url(), "caFile": "../ca.pem" })).await;
    assert_eq!(trusting.client_as("jane").get(PODS).await.status(), 200);
    let strict = start(json!(endpoint.url())).await;
    assert_eq!(strict.client_as("jane").get(PODS).await.status(), 502);

    assert_eq!((google.complaints(), api_server.requests().len()), (vec![], 1));
}

#[tokio::test]
async fn the_metadata_server_gives_the_machines_token() {
    let google = Arc::new(GoogleTokens::default());
    let inner = Arc::clone(&google);
    let metadata = ApiServer::answering(move |request: &Request| inner.metadata(request)).start().await;
    let api_server = ApiServer::start().await;
    let settings = json!({ "credentials": "metadataServer", "metadataServer": metadata.url() });
    let gate = gate(&api_server, json!({ "settings": settings, "outboundHosts": [metadata.url()] }))
        .file("key.json", "not asked for")
        .start()
        .await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_eq!(answer.status(), 200, "{} {:?}", answer.summary(), google.complaints());
    assert_eq!((google.complaints(), metadata.heard()), (vec![], vec![format!("GET {METADATA_PATH}")]));
    let expected = format!("Bearer {}", google.access_token());
    assert_eq!(api_server.only_request().header("authorization"), Some(expected.as_str()));
}

/// Whatever a token endpoint does wrong, nobody's request is forwarded: not as anybody, and not as nobody.
#[tokio::test]
async fn a_failing_endpoint_forwards_nothing() {
    let google = GoogleTokens::default();
    let api_server = ApiServer::start().await;
    let stolen = secret("a token from a redirect");
    let token = |kind: &str, expires_in: i64| {
        json!({ "access_token": stolen, "expires_in": expires_in, "token_type": kind }).to_string()
    };
    let elsewhere = ApiServer::start().await;
    let invalid = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    for (what, reply, expected) in [
        ("refused", Reply::json(400, invalid), 500),
        ("401", Reply::json(401, r#"{"error":"invalid_client"}"#), 500),
        ("500", Reply::new(500, "oops"), 502),
        ("503", Reply::json(503, token("Bearer", 60)), 502),
        ("garbage", Reply::new(200, "<html>captive portal</html>"), 502),
        ("empty", Reply::new(200, ""), 502),
        ("another type", Reply::json(200, token("MAC", 60)), 502),
        ("expired", Reply::json(200, token("Bearer", 0)), 502),
        ("expired long ago", Reply::json(200, token("Bearer", -60)), 502),
        ("redirect", Reply::json(302, token("Bearer", 60)).header("location", &elsewhere.url()), 502),
        ("silence", Reply::never(), 504),
    ] {
        let endpoint = ApiServer::replying([reply]).start().await;
        let sidecar = json!({ "outboundHosts": [endpoint.url()], "limits": { "deadlineMs": 3000 } });
        let gate = gate(&api_server, sidecar)
            .file("key.json", &google.key_file(&format!("{}/token", endpoint.url())))
            .start()
            .await;

        let answer = gate.client_as("jane").get(PODS).await;

        assert_eq!(answer.status(), expected, "{what}: {}", answer.summary());
        assert_eq!(endpoint.heard(), ["POST /token"], "{what}");
    }
    assert_eq!((api_server.heard(), elsewhere.connections_count()), (vec![], 0));
}

/// A gate that is not told the account's key, or not granted its endpoint, says which key of the sidecar is missing.
#[tokio::test]
async fn what_is_missing_is_said() {
    let google = GoogleTokens::default();
    let api_server = ApiServer::start().await;
    let endpoint = ApiServer::start().await;
    let key_file = google.key_file(&format!("{}/token", endpoint.url()));
    let other = google.key_file(&format!("{}/token", api_server.url()));
    let ask = async |builder: GateBuilder| {
        let gate = builder.start().await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!(answer.status(), 500, "{}", answer.summary());
        answer.message()
    };
    let cluster = || Cluster::at("one", &api_server, NAME);
    let granted = || gate(&api_server, json!({ "outboundHosts": [endpoint.url()] }));

    let secret = "the secret `service-account`";
    assert_eq!(
        ask(Gate::without_clusters().cluster(cluster())).await,
        "googleServiceAccount has no secret `service-account`: its sidecar must name a service account's key"
    );
    assert_eq!(
        ask(granted().file("key.json", "{}")).await,
        format!("{secret} is not a key of the type `service_account`")
    );
    assert_eq!(
        ask(granted().file("key.json", &key_file.replace("PRIVATE", "PUBLIC"))).await,
        format!("{secret} has a `private_key` that is not an RSA key as PKCS #8 PEM")
    );
    // Another endpoint than the granted one, as a key file that somebody swapped would name it.
    assert_eq!(
        ask(granted().file("key.json", &other)).await,
        "the credential's server: no grant for this origin; the sidecar of `googleServiceAccount` must list the `token_uri` of \
         its key under `outboundHosts`"
    );
    // Without `outboundHosts` Google's own endpoint is granted, and nothing beside it.
    assert_eq!(
        ask(gate(&api_server, json!({})).file("key.json", &key_file)).await,
        "the credential's server: no grant for this origin; the sidecar of `googleServiceAccount` must list the `token_uri` of \
         its key under `outboundHosts`"
    );
    assert_eq!((api_server.heard(), endpoint.connections_count()), (NOTHING.map(str::to_owned).to_vec(), 0));
}
