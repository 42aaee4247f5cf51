//! Group C: which credential the API server sees.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Request};
use witgate_tests::authority::Authority;
use witgate_tests::client::{Answer, Client};
use witgate_tests::cluster::Cluster;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

#[tokio::test]
async fn c1_the_service_account_s_token_goes_up() {
    let api_server = ApiServer::start().await;
    let token = secret("service-account token");
    let cluster = Cluster::at("one", &api_server, "serviceAccount").service_account_token(&token);
    let gate = Gate::without_clusters().cluster(cluster).start().await;

    gate.client_as("jane").get(PODS).await;

    assert_eq!(api_server.only_request().header("authorization"), Some(format!("Bearer {token}").as_str()));
}

/// The strategy `google` would refuse, so an answer shows that it was not asked.
#[tokio::test]
async fn c2_the_caller_s_own_authorization_goes_up_as_it_is() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, "google").await;
    let own = secret("a caller's own cluster credential");

    let answer = gate.client_as("jane").get(PODS).header("Backstage-Kubernetes-Authorization", &own).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(api_server.only_request().header("authorization"), Some(own.as_str()));
    assert_eq!(gate.decision_of(&answer).await.get("strategy"), None);
}

#[tokio::test]
async fn c2_a_cluster_may_refuse_the_caller_s_own_authorization() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "anonymous").with("allowClientAuthorization", false);
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let own = secret("a caller's own cluster credential");

    let answer = gate.client_as("jane").get(PODS).header("backstage-kubernetes-authorization", &own).await;

    assert_snapshot!(answer.summary(), @r#"400 {"error":{"name":"InputError","message":"cluster 'one' does not take `Backstage-Kubernetes-Authorization`"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":400}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

/// The fixture puts what it was given into the token, in hexadecimal digits.
#[tokio::test]
async fn c3_a_strategy_is_given_what_the_caller_brought() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "echo");
    let gate =
        Gate::without_clusters().plugin(Plugin::fixture("echo-auth").named("echo")).cluster(cluster).start().await;
    let entries = [("google", None), ("aks", None), ("oidc", Some("okta")), ("oidc", Some("gitlab"))];
    let entries = entries.into_iter().chain([("pinniped", Some("audience1")), ("pinniped", Some("au-b-c-d-e"))]);
    let entries: Vec<_> =
        entries.map(|(provider, sub)| (provider, sub, secret(&format!("{provider} token")))).collect();
    let jane = entries.iter().fold(gate.client_as("jane"), |jane, (provider, sub, token)| {
        let name =
            ["Backstage-Kubernetes-Authorization", provider].into_iter().chain(*sub).collect::<Vec<_>>().join("-");
        jane.with_header(&name, token)
    });

    jane.get(PODS).await;
    gate.client_as("john").get(PODS).await;

    let requests = api_server.requests();
    let [with_tokens, without] = requests.as_slice() else { panic!("{requests:?}") };
    let (with_tokens, without) = (echo_of(with_tokens), echo_of(without));
    assert_eq!(with_tokens["requestAuth"], json!(entries));
    assert_eq!(with_tokens["caller"], json!({ "name": "user:default/jane", "groups": ["group:default/developers"] }));
    assert_eq!(without["requestAuth"], json!([]), "C4: no headers, no tokens");
}

/// What the strategy of the fixture `echo-auth` was given.
fn echo_of(request: &Request) -> Value {
    let digits = request.header("authorization").unwrap().strip_prefix("Bearer echo-").unwrap();
    let digits: Vec<_> = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
    let bytes: Vec<_> = digits.into_iter().map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
    serde_json::from_slice(&bytes).unwrap()
}

/// One set of headers, as Backstage's front end sends it; each cluster's strategy finds its own token in it.
#[tokio::test]
async fn c3_each_strategy_finds_the_token_that_the_caller_brought_for_it() {
    let api_server = ApiServer::start().await;
    let oidc = |name: &str, provider: &str| Cluster::at(name, &api_server, "oidc").with("oidcTokenProvider", provider);
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("google", &api_server, "google"))
        .cluster(Cluster::at("aks", &api_server, "aks"))
        .cluster(oidc("okta", "okta"))
        .cluster(oidc("gitlab", "gitlab"))
        .cluster(oidc("dashes", "au-b-c-d-e"))
        .start()
        .await;
    let headers = ["Google", "Aks", "Oidc-Okta", "Oidc-Gitlab", "Oidc-Au-B-C-D-E", "Pinniped-Audience1"]
        .map(|provider| (format!("Backstage-Kubernetes-Authorization-{provider}"), secret(provider)));
    let jane = headers.iter().fold(gate.caller("jane"), |jane, (name, token)| jane.with_header(name, token));

    for cluster in ["google", "aks", "okta", "gitlab", "dashes"] {
        let answer = jane.clone().backstage(cluster).get(PODS).await;
        assert_eq!(answer.status(), 200, "{cluster}: {}", answer.body());
    }

    let arrived: Vec<_> =
        api_server.requests().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect();
    let expected: Vec<_> = headers.iter().take(5).map(|(_, token)| format!("Bearer {token}")).collect();
    assert_eq!(arrived, expected);
}

/// A strategy that needs nothing of the caller's is content with nothing.
#[tokio::test]
async fn c4_and_c13_aks_without_a_token_is_anonymous() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, "aks").await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(api_server.only_request().header("authorization"), None);
    assert_eq!(gate.decision_of(&answer).await["credential"], "anonymous");
}

#[tokio::test]
async fn c6_a_provider_s_token_beside_its_sub_provider_s_is_400() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "oidc").with("oidcTokenProvider", "okta");
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let jane = gate.client_as("jane");

    let conflict = jane
        .get(PODS)
        .header("backstage-kubernetes-authorization-oidc", &secret("scalar token"))
        .header("backstage-kubernetes-authorization-oidc-okta", &secret("token of a sub-provider"))
        .await;
    let twice = jane
        .get(PODS)
        .header("backstage-kubernetes-authorization-google", &secret("first token"))
        .header("backstage-kubernetes-authorization-google", &secret("second token"))
        .await;

    assert_snapshot!(conflict.summary(), @r#"400 {"error":{"name":"InputError","message":"Backstage-Kubernetes-Authorization headers conflict: `oidc` is given both as one token and by sub-provider"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":400}}"#);
    assert_snapshot!(twice.summary(), @r#"400 {"error":{"name":"InputError","message":"Backstage-Kubernetes-Authorization headers conflict: `google` is given twice"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":400}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn c9_and_c19_an_anonymous_credential_sends_no_authorization() {
    let api_server = ApiServer::start().await;
    for strategy in ["anonymous", "localKubectlProxy"] {
        let gate = gate_with(&api_server, strategy).await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!(answer.status(), 200, "{strategy}: {}", answer.body());
    }

    for request in api_server.requests() {
        assert_eq!(request.header("authorization"), None);
    }
}

/// C19 as it stands: the caller shows nothing at all, and is let in as a guest.
#[tokio::test]
async fn c19_a_caller_without_authorization_gives_the_api_server_none() {
    let api_server = ApiServer::start().await;
    let gate = Gate::without_clusters()
        .cluster(Cluster::at("one", &api_server, "localKubectlProxy"))
        .set("authentication", json!([{ "anonymous": { "user": "user:default/guest", "groups": [] } }]))
        .start()
        .await;

    let answer = gate.client().backstage("one").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    assert_eq!(api_server.only_request().header("authorization"), None);
}

#[tokio::test]
async fn c10_a_client_certificate_goes_up_and_no_token() {
    let servers = Authority::new("cluster's servers");
    let clients = Authority::new("cluster's clients");
    let alice = clients.client("alice", &["dev"]);
    let api_server = ApiServer::answering(|_| Default::default()).tls_for_clients_of(&servers, &clients).start().await;
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{ "name": "c", "cluster": { "server": api_server.url(), "certificate-authority": "ca.crt" } }],
        "users": [{ "name": "alice", "user": { "client-certificate": "alice.crt", "client-key": "alice.key" } }],
        "contexts": [{ "name": "one", "context": { "cluster": "c", "user": "alice" } }],
    });
    let gate = Gate::without_clusters()
        .file("ca.crt", &servers.pem())
        .file("alice.crt", &alice.certificate_pem())
        .file("alice.key", &alice.key_pem())
        .file("kubeconfig", &kubeconfig.to_string())
        .locator(json!({ "type": "kubeconfig", "file": "kubeconfig" }))
        .start()
        .await;

    let answer = gate.caller("jane").backstage("one").get(PODS).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
    let request = api_server.only_request();
    assert_eq!(request.peer_certificate, Some(alice.certificate_der()));
    assert_eq!(request.header("authorization"), None);
    assert_eq!(gate.decision_of(&answer).await["credential"], "x509 client certificate");
}

#[tokio::test]
async fn c14_google_without_a_token_is_401() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, "google").await;

    let answer = gate.client_as("jane").get(PODS).await;

    assert_snapshot!(answer.summary(), @r#"401 {"error":{"name":"AuthenticationError","message":"Google token not found under auth.google in request body"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":401}}"#);
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn c15_oidc_takes_the_token_of_its_provider() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "oidc").with("oidcTokenProvider", "okta");
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let token = secret("token of okta");

    gate.client_as("jane").get(PODS).header("backstage-kubernetes-authorization-oidc-okta", &token).await;

    assert_eq!(api_server.only_request().header("authorization"), Some(format!("Bearer {token}").as_str()));
}

/// `oidcTokenProvider` is short for this key of the metadata.
#[tokio::test]
async fn c15_the_provider_may_stand_in_the_metadata() {
    let api_server = ApiServer::start().await;
    let metadata = json!({ "kubernetes.io/oidc-token-provider": "okta" });
    let cluster = Cluster::at("one", &api_server, "oidc").with("authMetadata", metadata);
    let gate = Gate::without_clusters().cluster(cluster).start().await;

    let jane = gate.client_as("jane");
    let answer = jane.get(PODS).header("backstage-kubernetes-authorization-oidc-okta", &secret("token")).await;

    assert_eq!(answer.status(), 200, "{}", answer.body());
}

#[tokio::test]
async fn c16_oidc_without_its_provider_s_token_is_401() {
    let api_server = ApiServer::start().await;
    let cluster = Cluster::at("one", &api_server, "oidc").with("oidcTokenProvider", "okta");
    let gate = Gate::without_clusters().cluster(cluster).start().await;
    let jane = gate.client_as("jane");

    let none = jane.get(PODS).await;
    let other = jane.get(PODS).header("backstage-kubernetes-authorization-oidc-gitlab", &secret("gitlab's")).await;
    let scalar = jane.get(PODS).header("backstage-kubernetes-authorization-oidc", &secret("a scalar")).await;

    assert_snapshot!(none.summary(), @r#"401 {"error":{"name":"AuthenticationError","message":"Auth token not found under oidc.okta in request body"},"request":{"method":"GET","url":"/api/kubernetes/proxy/api/v1/namespaces/dev/pods"},"response":{"statusCode":401}}"#);
    assert_eq!(other.summary(), none.summary());
    assert_eq!(scalar.summary(), none.summary());
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn c17_oidc_without_a_provider_refuses_to_start() {
    let cluster = Cluster::at_url("one", "https://cluster.example", "oidc");

    let ended = Gate::without_clusters().cluster(cluster).refused_start().await;

    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Must specify a token provider for 'oidc' strategy"), "{}", ended.stderr);
}

#[tokio::test]
async fn c20_a_service_account_without_a_token_refuses_to_start() {
    let cluster = Cluster::at_url("one", "https://cluster.example", "serviceAccount");

    let ended = Gate::without_clusters().cluster(cluster).refused_start().await;

    assert_eq!(ended.code, Some(1));
    assert_snapshot!(ended.stderr, @"error: DIR/witgate.yaml:21: kubernetes.clusterLocatorMethods[0].clusters[0]: has no `serviceAccountToken`, and witgate does not run in a pod with a mounted service-account token; give the cluster's token");
}

#[tokio::test]
async fn c31_a_strategy_in_the_folder_leaves_the_built_in_ones() {
    let api_server = ApiServer::start().await;
    let token = secret("service-account token");
    let gate = Gate::without_clusters()
        .plugin(Plugin::strategy("anonymous").named("custom"))
        .cluster(Cluster::at("one", &api_server, "custom"))
        .cluster(Cluster::at("two", &api_server, "serviceAccount").service_account_token(&token))
        .start()
        .await;

    for cluster in ["one", "two"] {
        let answer = gate.caller("jane").backstage(cluster).get(PODS).await;
        assert_eq!(answer.status(), 200, "{cluster}: {}", answer.body());
    }

    let requests = api_server.requests();
    let authorizations: Vec<_> = requests.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(authorizations, [None, Some(format!("Bearer {token}").as_str())]);
}

/// A file of a built-in strategy's name replaces it.
#[tokio::test]
async fn a_strategy_in_the_folder_replaces_the_built_in_one_of_its_name() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::strategy("anonymous").named("serviceAccount")).start().await;

    gate.client_as("jane").get(PODS).await;

    assert_eq!(api_server.only_request().header("authorization"), None);
}

#[tokio::test]
async fn c32_a_strategy_s_name_without_dashes() {
    let strategy = Plugin::strategy("anonymous").named("a-b");

    let ended = Gate::without_clusters().plugin(strategy).refused_start().await;

    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Strategy name can not include dashes"), "{}", ended.stderr);
}

/// Each credential is the request's own: callers who bring different tokens never get one another's.
#[tokio::test]
async fn tokens_of_different_callers_do_not_mix() {
    let api_server = ApiServer::start().await;
    let gate = gate_with(&api_server, "google").await;
    let callers: Vec<_> = ["jane", "john", "jane", "john"]
        .map(|name| (gate.client_as(name).on_new_connection(), secret(&format!("google token of {name}"))))
        .into();

    let calls = callers.iter().enumerate().map(|(index, (caller, token))| {
        let (caller, token) = (caller.clone(), token.clone());
        tokio::spawn(async move { ten_calls(index, &caller, &token).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }

    let requests = api_server.requests();
    assert_eq!(requests.len(), 40);
    for request in requests {
        let (_, index) = request.target.rsplit_once('=').unwrap();
        let (_, token) = callers.get(index.parse::<usize>().unwrap()).unwrap();
        assert_eq!(request.header("authorization"), Some(format!("Bearer {token}").as_str()));
    }
}

async fn ten_calls(index: usize, caller: &Client, token: &str) {
    for _ in 0..10 {
        let call = caller.get(&format!("{PODS}?caller={index}"));
        let answer: Answer = call.header("backstage-kubernetes-authorization-google", token).await;
        assert_eq!(answer.status(), 200, "{}", answer.body());
    }
}

/// A gate with the cluster `one` and a strategy that needs no configuration.
async fn gate_with(api_server: &ApiServer, strategy: &str) -> Gate {
    Gate::without_clusters().cluster(Cluster::at("one", api_server, strategy)).start().await
}
