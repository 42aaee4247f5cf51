//! No header by which a caller could become someone else reaches the API server.

use witgate_tests::api_server::ApiServer;
use witgate_tests::client::BACKSTAGE_PROXY;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;

use crate::NOTHING;

#[tokio::test]
async fn identity_headers_of_a_front_proxy_are_dropped() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane")
        .get("/version")
        .header("x-remote-user", "admin")
        .header("X-Remote-Group", "system:masters")
        .header("X-REMOTE-EXTRA-scopes", "all")
        .header("x-remote-anything", "x")
        .await;

    let request = api_server.only_request();
    assert!(!request.header_names().iter().any(|name| name.starts_with("x-remote")), "{:?}", request.headers);
}

#[tokio::test]
async fn the_caller_s_token_never_goes_up() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane").get("/version").await;
    gate.caller("jane").kubernetes("one").get("/version").await;

    let callers = gate.token_of("jane");
    for request in api_server.requests() {
        assert!(!format!("{:?}", request.headers).contains(callers));
        assert!(request.header("authorization").unwrap().starts_with("Bearer sEcReT-"));
    }
}

/// CVE-2021-31999: a `Connection` header that names one of the gate's own stamps must not take it off again.
#[tokio::test]
async fn headers_that_connection_names_go_and_the_gate_s_stay() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane")
        .get("/version")
        .header("connection", "keep-alive, X-Private, Authorization, Host")
        .header("x-private", "for the next hop")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("proxy-authorization", &secret("a caller's proxy password"))
        .header("proxy-connection", "keep-alive")
        .await;

    let request = api_server.only_request();
    for hop_by_hop in ["x-private", "keep-alive", "proxy-authorization", "proxy-connection"] {
        assert_eq!(request.header(hop_by_hop), None, "{hop_by_hop}");
    }
    assert!(request.header("authorization").is_some());
    assert!(request.header("host").is_some());
}

/// Some servers read `X_Remote_User` as `X-Remote-User`.
#[tokio::test]
async fn header_names_with_underscores_are_dropped() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    gate.client_as("jane")
        .get("/version")
        .header("x_remote_user", "admin")
        .header("backstage_kubernetes_authorization", "x")
        .header("harmless_header", "x")
        .await;

    let request = api_server.only_request();
    assert!(!request.header_names().iter().any(|name| name.contains('_')), "{:?}", request.headers);
}

#[tokio::test]
async fn a_header_name_that_http_does_not_allow_is_400() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let token = gate.token_of("jane");
    let heads = ["impersonate-user : admin", "impersonate user: admin", "x-remote-user\0: admin", " folded: x"];

    for header in heads {
        let mut raw = gate.raw_client().await;
        let line = format!("GET {BACKSTAGE_PROXY}/version HTTP/1.1");
        raw.write(format!("{line}\r\nhost: gate\r\nauthorization: Bearer {token}\r\n{header}\r\n\r\n")).await;
        assert_eq!(raw.read_to_close().await.status, Some(400), "{header:?}");
    }
    assert_eq!(api_server.heard(), NOTHING);
}

#[tokio::test]
async fn a_second_authorization_is_refused() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let twice = gate.client_as("jane").with_token("another-token");
    let answer = twice.get("/version").await;

    assert!([400, 401].contains(&answer.status()), "{}", answer.summary());
    assert_eq!(api_server.heard(), NOTHING);
}
