//! Group F, authentication: who calls.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::authority::{Authority, HTTP2_AND_HTTP1, client_tls};
use witgate_tests::client::{Answer, Client};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::secrets::{register, secret};
use witgate_tests::token_issuer::{ISSUER, TokenIssuer, seconds_since_epoch};
use witgate_tests::waiting::until;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn f1_no_token_or_another_scheme_is_401() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let stranger = gate.client().backstage("one");

    let none = stranger.get(PODS).await;
    let basic = register("a caller's password", "amFuZTpzRWNSZVQtcGFzc3dvcmQ=");
    let basic = stranger.get(PODS).header("authorization", &format!("Basic {basic}")).await;
    let empty = stranger.get(PODS).header("authorization", "").await;

    assert_snapshot!(none.summary(), @r#"401 {"error":{"name":"AuthenticationError","message":"Missing credentials"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":401}}"#);
    assert_eq!(basic.summary(), none.summary());
    assert_eq!(empty.status(), 401);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn f2_a_bad_token_is_401() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client().with_token(&secret("token that nobody gave out")).backstage("one").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"401 {"error":{"name":"AuthenticationError","message":"Illegal token"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":401}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn without_authentication_nobody_gets_in() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).unset("authentication").start().await;

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 401);
    assert_eq!(gate.client().backstage("one").get(PODS).await.status(), 401);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_token_file_names_the_caller_and_may_hold_digests() {
    let api_server = ApiServer::start().await;
    let token = secret("token of which the file holds the digest");
    let digest: String =
        <sha2::Sha256 as sha2::Digest>::digest(&token).iter().map(|byte| format!("{byte:02x}")).collect();
    let people = json!([{ "sha256": digest, "user": "user:default/kim", "groups": ["a", "b"] }]);
    let gate = Gate::builder(&api_server).file("tokens.yaml", &people.to_string()).start().await;

    let answer = gate.client().with_token(&token).backstage("one").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    check_caller(&gate, &answer, "user:default/kim", json!(["a", "b"])).await;
}

#[tokio::test]
async fn a_backstage_token_is_believed_by_the_keys_of_a_file() {
    let api_server = ApiServer::start().await;
    let issuer = TokenIssuer::new("key-1");
    let gate =
        jwt_gate(&api_server, json!({ "jwksFile": "jwks.json" })).file("jwks.json", &issuer.jwks()).start().await;

    let answer = with_jwt(&gate, &issuer, json!({})).get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    let groups = json!(["user:default/jane", "group:default/developers"]);
    check_caller(&gate, &answer, "user:default/jane", groups).await;
}

/// Goal: a JWT is believed only as a whole. Method: each claim wrong, one at a time.
#[tokio::test]
async fn a_jwt_that_is_wrong_in_anything_is_401() {
    let api_server = ApiServer::start().await;
    let issuer = TokenIssuer::new("key-1");
    let stranger = TokenIssuer::new("key-1");
    let gate =
        jwt_gate(&api_server, json!({ "jwksFile": "jwks.json" })).file("jwks.json", &issuer.jwks()).start().await;
    let past = seconds_since_epoch() - 3600;
    let changes = [
        json!({ "exp": past }),
        json!({ "exp": null }),
        json!({ "nbf": past + 7200 }),
        json!({ "iss": "https://elsewhere.example" }),
        json!({ "iss": null }),
        json!({ "aud": "another" }),
        json!({ "aud": null }),
        json!({ "sub": null }),
        json!({ "sub": 7 }),
        json!({ "sub": "" }),
    ];

    for change in changes {
        let answer = with_jwt(&gate, &issuer, change.clone()).get(PODS).await;
        assert_eq!((answer.status(), answer.message().as_str()), (401, "Illegal token"), "{change}");
    }
    assert_eq!(with_jwt(&gate, &stranger, json!({})).get(PODS).await.status(), 401, "signed by another key");
    let token = issuer.token("user:default/jane", json!({}));
    let (signed, _) = token.rsplit_once('.').unwrap();
    for forged in [signed.to_owned(), format!("{signed}."), unsigned(signed)] {
        let answer = gate.client().with_token(&forged).backstage("one").get(PODS).await;
        assert_eq!(answer.status(), 401, "without a signature");
    }
    assert_eq!(api_server.heard(), NOTHING);
}

/// The token's payload under a head that says that no signature is needed.
fn unsigned(signed: &str) -> String {
    use base64::Engine as _;
    let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let (_, payload) = signed.split_once('.').unwrap();
    format!("{head}.{payload}.")
}

#[tokio::test]
async fn keys_from_a_url_are_fetched_again_when_they_were_rotated() {
    let api_server = ApiServer::start().await;
    let mut issuer = TokenIssuer::new("key-1");
    let key_server = issuer.serve().await;
    let url = format!("{}/.well-known/jwks.json", key_server.url());
    let gate = jwt_gate(&api_server, json!({ "jwksUrl": url })).start().await;

    assert_eq!(with_jwt(&gate, &issuer, json!({})).get(PODS).await.status(), 200);
    issuer.rotate("key-2");

    // The gate leaves a key server some seconds of peace, whatever tokens come in.
    let rotated = with_jwt(&gate, &issuer, json!({}));
    until("the new key is believed", || async { (rotated.get(PODS).await.status() == 200).then_some(()) }).await;
    assert!(key_server.heard().iter().all(|heard| heard == "GET /.well-known/jwks.json"));
    assert_eq!(key_server.requests().len(), 2);
}

#[tokio::test]
async fn keys_from_a_file_are_read_again_when_they_were_rotated() {
    let api_server = ApiServer::start().await;
    let mut issuer = TokenIssuer::new("key-1");
    let gate =
        jwt_gate(&api_server, json!({ "jwksFile": "jwks.json" })).file("jwks.json", &issuer.jwks()).start().await;
    assert_eq!(with_jwt(&gate, &issuer, json!({})).get(PODS).await.status(), 200);

    issuer.rotate("key-2");
    std::fs::write(gate.folder().join("jwks.json"), issuer.jwks()).unwrap();

    let rotated = with_jwt(&gate, &issuer, json!({}));
    until("the new key is believed", || async { (rotated.get(PODS).await.status() == 200).then_some(()) }).await;
}

#[tokio::test]
async fn a_key_server_that_is_down_lets_nobody_in_and_other_methods_go_on() {
    let api_server = ApiServer::start().await;
    let issuer = TokenIssuer::new("key-1");
    let url = witgate_tests::broken_upstream::BrokenUpstream::refusing_url().await;
    let jwt = json!({ "jwt": { "issuer": ISSUER, "audiences": ["backstage"], "jwksUrl": url } });
    let methods = json!([jwt, { "tokenFile": "tokens.yaml" }]);
    let gate = Gate::builder(&api_server).set("authentication", methods).start().await;

    assert_eq!(with_jwt(&gate, &issuer, json!({})).get(PODS).await.status(), 401);
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);
}

#[tokio::test]
async fn a_client_certificate_names_the_caller() {
    let (servers, clients) = (Authority::new("gate"), Authority::new("people"));
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server)
        .tls(&servers, Some(&clients))
        .set("authentication", json!([{ "clientCertificate": {} }, { "tokenFile": "tokens.yaml" }]))
        .start()
        .await;
    let bob = clients.client("bob", &["dev"]);
    let bob = Client::new(gate.address(), Some(client_tls(&servers, Some(&bob), &HTTP2_AND_HTTP1))).backstage("one");

    let answer = bob.get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    check_caller(&gate, &answer, "bob", json!(["dev"])).await;
    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200, "a token does as well");
    assert_eq!(gate.client().backstage("one").get(PODS).await.status(), 401, "neither does not");
}

#[tokio::test]
async fn a_client_certificate_of_another_authority_is_not_believed() {
    let (servers, clients) = (Authority::new("gate"), Authority::new("people"));
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server)
        .tls(&servers, Some(&clients))
        .set("authentication", json!([{ "clientCertificate": {} }]))
        .start()
        .await;
    let mallory = Authority::new("people").client("bob", &["dev"]);
    let mallory = Client::new(gate.address(), Some(client_tls(&servers, Some(&mallory), &["http/1.1"])));

    let answer = mallory.backstage("one").get(PODS).try_open().await;

    assert!(answer.map_or(true, |answer| answer.status() == 401));
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn an_anonymous_caller_has_the_name_that_is_configured() {
    let api_server = ApiServer::start().await;
    let anonymous = json!({ "anonymous": { "user": "user:default/guest", "groups": ["guests"] } });
    let gate = Gate::builder(&api_server);
    let gate = gate.set("authentication", json!([{ "tokenFile": "tokens.yaml" }, anonymous])).start().await;

    let answer = gate.client().backstage("one").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    check_caller(&gate, &answer, "user:default/guest", json!(["guests"])).await;
    let bad = gate.client().with_token(&secret("token that nobody gave out")).backstage("one").get(PODS).await;
    assert_eq!(bad.status(), 401, "a caller with a bad token is not a guest");
}

/// A gate that believes tokens of `ISSUER` by the keys of `keys`.
fn jwt_gate(api_server: &ApiServer, keys: Value) -> GateBuilder {
    let mut jwt = json!({ "issuer": ISSUER, "audiences": ["backstage"], "usernameClaim": "sub", "groupsClaim": "ent" });
    jwt.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    let cluster = Cluster::at("one", api_server, "anonymous");
    Gate::without_clusters().cluster(cluster).set("authentication", json!([{ "jwt": jwt }]))
}

fn with_jwt(gate: &Gate, issuer: &TokenIssuer, changes: Value) -> Client {
    gate.client().with_token(&issuer.token("user:default/jane", changes)).backstage("one")
}

async fn check_caller(gate: &Gate, answer: &Answer, user: &str, groups: Value) {
    let decision = gate.decision_of(answer).await;
    assert_eq!((&decision["user"], &decision["groups"]), (&json!(user), &groups));
}
