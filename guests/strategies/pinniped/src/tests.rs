//! The strategy against a Concierge of the test's own.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::{Value, json};
use witgate_sdk::http::{Error, Method, Request, Response};
use witgate_sdk::testing::{at_time, cluster, request_auth, with_http};

use super::*;

const NOW: u64 = 1_769_860_800; // 2026-01-31T12:00:00Z
const AUDIENCE_1: &[(&str, &str)] = &[(AUDIENCE, "audience1")];
const TOKEN_1: &[(&str, Option<&str>, &str)] = &[("pinniped", Some("audience1"), "s3cret")];
const LOGIN: &str = "/apis/login.concierge.pinniped.dev/v1alpha1/tokencredentialrequests";

fn configured(settings: Value) -> Result<Pinniped, Vec<String>> {
    Pinniped::configure(serde_json::from_value(settings).unwrap())
}

fn answer_of(status: Value) -> Response {
    let answer = json!({ "apiVersion": "login.concierge.pinniped.dev/v1alpha1", "kind": "TokenCredentialRequest", "status": status });
    Response::new(201, answer.to_string())
}

fn credential(fields: Value) -> Response {
    answer_of(json!({ "credential": fields }))
}

/// What is sent, and what comes of `answer`.
fn exchange(
    settings: Value,
    metadata: &[(&str, &str)],
    tokens: &[(&str, Option<&str>, &str)],
    answer: Result<Response, Error>,
) -> (Vec<Request>, Result<Grant, AuthError>) {
    let sent = Rc::<RefCell<Vec<Request>>>::default();
    let seen = Rc::clone(&sent);
    let concierge = move |request: &Request| {
        seen.borrow_mut().push(request.clone());
        answer.clone()
    };
    let strategy = configured(settings).unwrap();
    let ask = || strategy.credential(&cluster("one", metadata), &request_auth(tokens), None);
    let got = at_time(NOW, || with_http(concierge, ask));
    (sent.take(), got)
}

/// Case C28: the wire form. Method: the whole request.
#[test]
fn the_token_goes_to_the_concierge_and_nothing_else_does() {
    let answer = credential(json!({
        "clientCertificateData": "cert", "clientKeyData": "key", "expirationTimestamp": "2026-01-31T12:05:00Z",
    }));

    let (sent, got) = exchange(json!({}), AUDIENCE_1, TOKEN_1, Ok(answer));

    assert_eq!(got, Ok(Grant::x509("cert", "key").expires_at(NOW + 300)));
    let [request] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((request.method(), request.url()), (Method::Post, format!("https://cluster.example{LOGIN}").as_str()));
    let names: Vec<_> = request.headers().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["accept", "content-type"]);
    let body: Value = serde_json::from_slice(request.body_bytes()).unwrap();
    let expected = json!({
        "apiVersion": "login.concierge.pinniped.dev/v1alpha1", "kind": "TokenCredentialRequest",
        "spec": {
            "authenticator": {
                "apiGroup": "authentication.concierge.pinniped.dev", "kind": "JWTAuthenticator", "name": "supervisor",
            },
            "token": "s3cret",
        },
    });
    assert_eq!(body, expected);
}

/// Goal: another suffix and another authenticator are found in settings, and before them in metadata. Method: rows.
#[test]
fn metadata_goes_before_settings_and_settings_before_defaults() {
    let settings = json!({
        "apiGroupSuffix": "login.corp", "authenticator": { "kind": "WebhookAuthenticator", "name": "hook" },
    });
    let check = |settings: &Value, metadata: &[(&str, &str)], group: &str, authenticator: [&str; 3]| {
        let metadata = [AUDIENCE_1, metadata].concat();
        let (sent, _) = exchange(settings.clone(), &metadata, TOKEN_1, Err(Error::Unreachable));
        let body: Value = serde_json::from_slice(sent[0].body_bytes()).unwrap();
        assert_eq!(sent[0].url(), format!("https://cluster.example/apis/{group}/v1alpha1/tokencredentialrequests"));
        assert_eq!(body["apiVersion"], format!("{group}/v1alpha1"));
        let [api_group, kind, name] = authenticator;
        assert_eq!(body["spec"]["authenticator"], json!({ "apiGroup": api_group, "kind": kind, "name": name }));
    };
    let group = "login.concierge.login.corp";
    check(&settings, &[], group, ["authentication.concierge.login.corp", "WebhookAuthenticator", "hook"]);
    let metadata = [
        ("kubernetes.io/x-pinniped-api-group-suffix", "a.b"),
        ("kubernetes.io/x-pinniped-authenticator-kind", "JWTAuthenticator"),
        ("kubernetes.io/x-pinniped-authenticator-name", "mine"),
    ];
    check(&settings, &metadata, "login.concierge.a.b", ["authentication.concierge.a.b", "JWTAuthenticator", "mine"]);
    let metadata = [("kubernetes.io/x-pinniped-authenticator-api-group", "auth.example")];
    let plain = "login.concierge.pinniped.dev";
    check(&json!({}), &metadata, plain, ["auth.example", "JWTAuthenticator", "supervisor"]);
}

/// Goal: the token of this cluster's audience, else the one that Backstage's documentation sends. Method: rows.
#[test]
fn the_token_is_the_audiences() {
    let check = |metadata: &[(&str, &str)], tokens: &[(&str, Option<&str>, &str)], expected: Result<&str, &str>| {
        let (sent, got) = exchange(json!({}), metadata, tokens, Err(Error::Unreachable));
        let token = sent.first().map(|request| {
            let body: Value = serde_json::from_slice(request.body_bytes()).unwrap();
            body["spec"]["token"].as_str().unwrap().to_owned()
        });
        match expected {
            Ok(expected) => assert_eq!(token.as_deref(), Some(expected)),
            Err(name) => {
                let text = format!("Auth token not found under pinniped.{name} in request body");
                assert_eq!((token, got), (None, Err(AuthError::MissingToken(text))));
            }
        }
    };
    check(AUDIENCE_1, TOKEN_1, Ok("s3cret"));
    check(&[(AUDIENCE, "Audience1")], TOKEN_1, Ok("s3cret"));
    check(&[], &[("pinniped", Some("clusteridtoken"), "c")], Ok("c"));
    check(AUDIENCE_1, &[("pinniped", Some("clusteridtoken"), "c")], Ok("c"));
    check(AUDIENCE_1, &[("pinniped", Some("clusteridtoken"), "c"), TOKEN_1[0]], Ok("s3cret"));
    check(AUDIENCE_1, &[], Err("audience1"));
    check(AUDIENCE_1, &[("pinniped", None, "scalar")], Err("audience1"));
    check(AUDIENCE_1, &[("pinniped", Some("audience2"), "other")], Err("audience1"));
    check(AUDIENCE_1, &[("oidc", Some("audience1"), "other")], Err("audience1"));
    check(AUDIENCE_1, &[("pinniped", Some("audience1"), "")], Err("audience1"));
    check(&[], TOKEN_1, Err("clusteridtoken"));
}

/// Case C29 and its neighbours. Goal: whatever comes back, the result is what the Concierge gave out or an error of the right
/// kind, without the token. Method: rows.
#[test]
fn an_answer_is_a_credential_or_an_error() {
    use AuthError::{Misconfigured, Refused, Unavailable};
    let x509 = |rest: &str| credential(serde_json::from_str(&format!("{{{rest}}}")).unwrap());
    let refused = |text: &str| Err(Refused(text.to_owned()));
    let odd = || Err(Unavailable("the cluster's Pinniped Concierge gave an answer that is not understood".to_owned()));
    let generic = "the cluster's Pinniped Concierge refused the token";

    check(x509(r#""clientCertificateData":"c","clientKeyData":"k""#), Ok(Grant::x509("c", "k")));
    check(
        x509(r#""token":"t","expirationTimestamp":"2026-01-31T12:00:01Z""#),
        Ok(Grant::bearer_token("t").expires_at(NOW + 1)),
    );
    check(x509(r#""token":"t","clientCertificateData":"c","clientKeyData":"k""#), Ok(Grant::x509("c", "k")));
    check(answer_of(json!({ "message": "authentication failed" })), refused("authentication failed"));
    check(answer_of(json!({ "message": "", "credential": null })), refused(generic));
    check(answer_of(json!({ "message": "no: s3cret" })), refused(generic));
    check(
        answer_of(json!({ "message": format!("a\r\nb{}", "x".repeat(600)) })),
        refused(&format!("ab{}", "x".repeat(498))),
    );

    check(x509(r#""clientCertificateData":"c""#), odd());
    check(x509(r#""clientKeyData":"k""#), odd());
    check(x509(r#""clientCertificateData":"c","clientKeyData":"""#), odd());
    check(x509(r#""clientCertificateData":"c","token":"t""#), odd());
    check(x509(""), odd());
    check(x509(r#""token":"t","expirationTimestamp":"soon""#), odd());
    check(x509(r#""token":7"#), odd());
    let expired = "the cluster's Pinniped Concierge gave out a credential that has expired already";
    check(x509(r#""token":"t","expirationTimestamp":"2026-01-31T12:00:00Z""#), Err(Unavailable(expired.to_owned())));
    check(answer_of(json!({})), odd());
    check(answer_of(Value::Null), odd());
    for body in [
        "",
        "null",
        "[]",
        "<html>",
        r#"{"kind":"Status","status":"Failure","message":"no"}"#,
        r#"{"status":{"credential":{"token":"t"}}}"#,
    ] {
        check(Response::new(201, body), odd());
    }
    check(Response::new(200, [0xff]), odd());

    check(
        Response::new(404, r#"{"kind":"Status"}"#),
        Err(Misconfigured("the cluster has no Pinniped Concierge, or one with another API group suffix".to_owned())),
    );
    for status in [400, 401, 403, 422] {
        let text = format!("the cluster does not take a TokenCredentialRequest: status {status}");
        check(Response::new(status, r#"{"kind":"Status"}"#), Err(Misconfigured(text)));
    }
    for status in [202, 204, 301, 302, 307, 429, 500, 503] {
        let text = format!("the cluster's Pinniped Concierge answered with status {status}");
        let body = credential(json!({ "token": "t" })).text().unwrap().to_owned();
        check(Response::new(status, body), Err(Unavailable(text)));
    }
}

#[track_caller]
fn check(answer: Response, expected: Result<Grant, AuthError>) {
    let (_, got) = exchange(json!({}), AUDIENCE_1, TOKEN_1, Ok(answer));
    assert!(!format!("{:?}", got.as_ref().err()).contains("s3cret"));
    assert_eq!(got, expected);
    let lines = witgate_sdk::testing::log_lines();
    assert!(!lines.iter().any(|line| line.contains("s3cret")), "{lines:?}");
}

/// Goal: who did not answer is said by kind. Method: rows of how the host fails.
#[test]
fn no_answer_is_unavailable_and_no_grant_is_misconfigured() {
    let failure = |error: Error| exchange(json!({}), AUDIENCE_1, TOKEN_1, Err(error)).1.unwrap_err();
    for error in [Error::Unreachable, Error::Untrusted, Error::AnswerTimeout, Error::TooLarge, Error::Incomplete] {
        assert!(matches!(failure(error), AuthError::Unavailable(_)));
    }
    let text = "the credential's server: no grant for this origin; the sidecar of `pinniped` must list `cluster` under \
                `outboundHosts`";
    assert_eq!(failure(Error::Denied), AuthError::Misconfigured(text.to_owned()));
}

/// The audience and nothing else, as in Backstage's documentation.
#[test]
fn the_audience_is_presented() {
    let presented =
        |metadata| configured(json!({})).unwrap().present_auth_metadata(&cluster("one", metadata).auth_metadata);
    assert_eq!(presented(AUDIENCE_1), [("audience".to_owned(), "audience1".to_owned())]);
    assert_eq!(presented(&[("kubernetes.io/x-pinniped-authenticator-name", "mine")]), []);
}

/// Goal: metadata and settings that cannot work are refused, by their keys. Method: rows.
#[test]
fn what_cannot_work_is_named() {
    let faults = |settings: Value, metadata: &[(&str, &str)]| match configured(settings) {
        Ok(strategy) => strategy.validate_cluster(&cluster("one", metadata).auth_metadata),
        Err(faults) => faults,
    };
    assert_eq!(faults(json!({}), AUDIENCE_1), Vec::<String>::new());
    assert_eq!(faults(json!({}), &[]), Vec::<String>::new());
    assert_eq!(faults(json!({}), &[("aws/other", "")]), Vec::<String>::new());
    assert_eq!(
        faults(json!({}), &[("kubernetes.io/x-pinniped-authenticator-kind", "WebhookAuthenticator")]),
        [
            "Must specify `kubernetes.io/x-pinniped-authenticator-name` for 'pinniped' strategy: which WebhookAuthenticator of \
          the cluster verifies the tokens"
        ]
    );
    let known = "there are `kubernetes.io/x-pinniped-audience`, `kubernetes.io/x-pinniped-api-group-suffix`, \
                 `kubernetes.io/x-pinniped-authenticator-api-group`, `kubernetes.io/x-pinniped-authenticator-kind`, \
                 `kubernetes.io/x-pinniped-authenticator-name`";
    assert_eq!(
        faults(json!({}), &[("kubernetes.io/x-pinniped-audiance", "a"), (AUDIENCE, "")]),
        [
            format!("`kubernetes.io/x-pinniped-audiance` is not known; {known}"),
            format!("`{AUDIENCE}` is \"\"; it must be a name that a header's name can end with, such as `audience1`"),
        ]
    );
    for suffix in ["", "a/b", "..", "a..b", "A.b", "-a", "a b", "a?b", "a%2Fb"] {
        let expected = "it must be lower-case letters, digits, `-` and `.`, such as `pinniped.dev`";
        let key = "kubernetes.io/x-pinniped-api-group-suffix";
        assert_eq!(faults(json!({}), &[(key, suffix)]), [format!("`{key}` is \"{suffix}\"; {expected}")]);
        assert_eq!(
            faults(json!({ "apiGroupSuffix": suffix }), &[]),
            [format!("`apiGroupSuffix` is \"{suffix}\"; {expected}")]
        );
    }
    assert_eq!(
        faults(json!({ "authenticator": { "kind": "jwt" } }), &[]),
        ["`authenticator.kind` is \"jwt\"; it must be a kind such as `JWTAuthenticator`"]
    );
}
