//! `authProvider: azure` from outside: what Entra ID and the API server get.

use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::authority::Authority;
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::cluster::Cluster;
use witgate_tests::fake_entra::{CLIENT, FakeEntra, Proof, TENANT, answer, refusal};
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::secrets::secret;
use witgate_tests::token_issuer::TokenIssuer;
use witgate_tests::waiting::until;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// A gate with one AKS cluster and its application at `url`, with `changes` to the sidecar `azure.yaml`.
fn gate(api_server: &ApiServer, url: &str, authority: &Authority, changes: Value) -> GateBuilder {
    let mut sidecar = json!({
        "settings": { "tenantId": TENANT, "clientId": CLIENT, "authorityHost": url },
        "outboundHosts": [{ "origin": url, "caFile": "../ca.pem" }],
        "secrets": { "client-secret": { "file": "../secret" } },
    });
    sidecar.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Gate::without_clusters()
        .cluster(Cluster::at("aks-1", api_server, "azure"))
        .file("ca.pem", &authority.pem())
        .file("policies/azure.yaml", &sidecar.to_string())
}

fn authorizations(api_server: &ApiServer) -> Vec<String> {
    api_server.requests().iter().map(|request| request.header("authorization").unwrap_or_default().to_owned()).collect()
}

fn bearer<'a>(tokens: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    tokens.into_iter().map(|token| format!("Bearer {token}")).collect()
}

#[tokio::test]
async fn c23_two_calls_are_one_exchange() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("entra");
    let client_secret = format!("{}~+&=%", secret("client secret"));
    let entra = FakeEntra::start(&authority, Proof::ClientSecret(client_secret.clone()), 20 * 60).await;
    let gate = gate(&api_server, &entra.url(), &authority, json!({}))
        .file("secret", &format!("{client_secret}\n"))
        .start()
        .await;

    let cold = gate.client_as("jane").get(PODS).await;
    let warm = gate.client_as("john").get(PODS).await;

    assert_eq!((cold.status(), warm.status()), (200, 200));
    assert_eq!((entra.complaints(), entra.asked_count()), (vec![], 1));
    let token = &entra.tokens()[0];
    assert_eq!(authorizations(&api_server), bearer([token, token]));
    let [cold, warm] = [gate.decision_of(&cold).await, gate.decision_of(&warm).await];
    assert_eq!((&cold["cacheHit"], &warm["cacheHit"]), (&json!(false), &json!(true)));
    println!("azure: cold {} us, warm {} us", cold["strategyUs"], warm["strategyUs"]);
}

/// A token is renewed 15 minutes before its end. This one is good for hardly longer, so that a test can see it; the
/// minutes of the case are in the credential cache's own tests, where time is paused.
#[tokio::test]
async fn c24_a_token_is_renewed_15_minutes_early() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("entra");
    let client_secret = secret("client secret");
    let entra = FakeEntra::start(&authority, Proof::ClientSecret(client_secret.clone()), 15 * 60 + 14).await;
    let gate = gate(&api_server, &entra.url(), &authority, json!({})).file("secret", &client_secret).start().await;
    let jane = gate.client_as("jane");

    let first = jane.get(PODS).await;
    until("the next token is sent", || async {
        assert_eq!(jane.get(PODS).await.status(), 200);
        let next = entra.tokens().get(1).map(|token| format!("Bearer {token}"));
        (next.is_some() && authorizations(&api_server).last() == next.as_ref()).then_some(())
    })
    .await;

    assert_eq!((first.status(), entra.complaints()), (200, vec![]));
    assert_eq!(gate.decision_of(&first).await["cacheHit"], false);
    let cache = gate.status().await["credentialCache"].clone();
    assert_eq!((&cache["misses"], &cache["failures"]), (&json!(1), &json!(0)), "nobody waited for the second token");
}

#[tokio::test]
async fn c27_it_recovers_after_a_failed_first_fetch() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("entra");
    let client_secret = secret("client secret");
    let entra = FakeEntra::answering(&authority, Proof::ClientSecret(client_secret.clone()), |number, token| {
        if number == 0 { Reply::new(500, "") } else { answer(&token, 3600) }
    })
    .await;
    let gate = gate(&api_server, &entra.url(), &authority, json!({})).file("secret", &client_secret).start().await;

    let failed = gate.client_as("jane").get(PODS).await;
    until("it recovers", || async { (gate.client_as("jane").get(PODS).await.status() == 200).then_some(()) }).await;

    assert_eq!(failed.status(), 502);
    assert_eq!(failed.json()["error"]["message"], "Entra ID answered with status 500");
    assert_eq!((entra.complaints(), entra.asked_count()), (vec![], 2));
    assert_eq!(authorizations(&api_server), bearer(&entra.tokens()[1..]));
}

/// Workload identity, as its webhook sets it up: variables of the environment, and a token that is rotated in its file.
#[tokio::test]
async fn a_workload_identity_asserts_its_token() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("entra");
    let subject = "system:serviceaccount:witgate:witgate";
    let issuer = TokenIssuer::new("cluster");
    let assertion = issuer.token(subject, json!({ "aud": "api://AzureADTokenExchange" }));
    let entra = FakeEntra::start(&authority, Proof::Federated(issuer, subject), 3600).await;
    let url = entra.url();
    let hosts = json!({ "outboundHosts": [{ "origin": url, "caFile": "../ca.pem" }] });
    let builder = Gate::without_clusters()
        .cluster(Cluster::at("aks-1", &api_server, "azure"))
        .file("ca.pem", &authority.pem())
        .file("policies/azure.yaml", &hosts.to_string())
        .file("assertion", "not yet written");
    let file = builder.folder().join("assertion");
    let gate = builder
        .variable("AZURE_TENANT_ID", TENANT)
        .variable("AZURE_CLIENT_ID", CLIENT)
        .variable("AZURE_AUTHORITY_HOST", &format!("{url}/"))
        .variable("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap())
        .start()
        .await;
    std::fs::write(&file, assertion).unwrap();

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);

    assert_eq!(entra.complaints(), NOTHING);
    assert_eq!(authorizations(&api_server), bearer(&entra.tokens()));
}

/// A machine's identity: asked only where the settings say so, at an address that is granted by that alone.
#[tokio::test]
async fn a_managed_identity_is_asked_with_its_header() {
    let api_server = ApiServer::start().await;
    let machine = FakeEntra::answering(&Authority::new("none"), Proof::Machine, |_, token| {
        let body = json!({
            "access_token": token, "client_id": CLIENT, "expires_in": "86400", "expires_on": "1506484173",
            "resource": "6dae42f8-4368-4678-94ff-3960e28e3630", "token_type": "Bearer",
        });
        Reply::json(200, body.to_string())
    })
    .await;
    let settings = json!({ "managedIdentity": true, "managedIdentityEndpoint": machine.url(), "clientId": CLIENT });
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("aks-1", &api_server, "azure"))
        .file("policies/azure.yaml", &json!({ "settings": settings }).to_string())
        .start()
        .await;

    assert_eq!(gate.client_as("jane").get(PODS).await.status(), 200);

    assert_eq!(machine.complaints(), NOTHING);
    assert_eq!(authorizations(&api_server), bearer(&machine.tokens()));
}

/// What Entra ID answers.
type Answer = fn() -> Reply;

/// However Entra ID fails, nobody becomes anonymous, and the caller learns the kind of failure alone.
#[tokio::test]
async fn whatever_entra_id_does_wrong_nothing_is_forwarded() {
    let api_server = ApiServer::start().await;
    let authority = Authority::new("entra");
    let client_secret = secret("client secret");
    let garbage = "Entra ID answered with something else than a token";
    let rows: [(Answer, u16, &str); 11] = [
        (|| refusal(401, "invalid_client"), 500, "Entra ID refused the token with invalid_client (AADSTS7000215)"),
        (|| refusal(429, "slow_down"), 502, "Entra ID refused the token with slow_down (AADSTS7000215)"),
        (|| Reply::new(401, ""), 502, "Entra ID answered with status 401"),
        (|| Reply::new(500, "oops"), 502, "Entra ID answered with status 500"),
        (
            || Reply::new(302, "").header("location", "https://login.live.com/"),
            502,
            "Entra ID answered with status 302",
        ),
        (|| Reply::new(200, ""), 502, garbage),
        (|| Reply::new(200, "<html>"), 502, garbage),
        (|| Reply::json(200, "{}"), 502, garbage),
        (|| answer("", 3600), 502, garbage),
        (|| answer("token", 0), 502, garbage),
        (Reply::never, 504, "the cluster's authentication strategy gave no answer"),
    ];
    for (reply, status, message) in rows {
        let entra =
            FakeEntra::answering(&authority, Proof::ClientSecret(client_secret.clone()), move |_, _| reply()).await;
        let limits = json!({ "limits": { "deadlineMs": 5000 } });
        let gate = gate(&api_server, &entra.url(), &authority, limits).file("secret", &client_secret).start().await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!((answer.status(), &answer.json()["error"]["message"]), (status, &json!(message)));
        assert_eq!(entra.complaints(), NOTHING);
    }
    let nobody = BrokenUpstream::refusing_url().await.replace("http:", "https:");
    let entra = FakeEntra::start(&authority, Proof::ClientSecret(secret("another client secret")), 3600).await;
    for (url, status, message) in [
        (&nobody, 502, "the credential's server: it cannot be reached"),
        (&entra.url(), 500, "Entra ID refused the token with invalid_request (AADSTS7000215)"),
    ] {
        let gate = gate(&api_server, url, &authority, json!({})).file("secret", &client_secret).start().await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!((answer.status(), &answer.json()["error"]["message"]), (status, &json!(message)));
    }
    assert_eq!(entra.complaints().len(), 1, "the other secret");
    assert_eq!(api_server.heard(), NOTHING);
}

/// A cluster for whom nobody can ask refuses the start, and says what to write.
#[tokio::test]
async fn without_an_identity_the_start_says_what_to_write() {
    let api_server = ApiServer::start().await;
    let gate = Gate::without_clusters().cluster(Cluster::at("aks-1", &api_server, "azure"));

    let (check, start) = gate.check_and_refused_start().await;

    assert_eq!((check.code, start.code), (Some(1), Some(1)));
    for said in [check.stderr, start.stderr] {
        let expected =
            "Invalid cluster 'aks-1': the strategy `azure` has no identity: in the sidecar `azure.yaml`, grant it";
        assert!(said.contains(expected), "{said}");
    }
}
