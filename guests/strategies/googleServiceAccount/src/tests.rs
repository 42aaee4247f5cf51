//! The strategy against token endpoints of the test's own. An independent verifier is in the integration tests.

use std::cell::RefCell;
use std::rc::Rc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::sha2::Sha256;
use rsa::signature::Verifier as _;
use serde_json::{Value, json};
use witgate_sdk::http::{Error, Method, Response};
use witgate_sdk::testing::{at_time, cluster, log_lines, request_auth, with_http, with_secrets};

use super::*;

/// Made for these tests and used nowhere else.
const KEY: &str = include_str!("test-key.pem");
const NOW: u64 = 1_769_860_800;
const TOKEN_URI: &str = "https://oauth2.example/token";

fn key_file(changes: &Value) -> String {
    let mut file = json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k1", "private_key": KEY,
        "client_email": "gate@p.iam.example", "client_id": "1", "token_uri": TOKEN_URI,
    });
    for (field, value) in changes.as_object().unwrap() {
        file[field] = value.clone();
    }
    file.to_string()
}

fn configured(settings: Value) -> Result<GoogleServiceAccount, Vec<String>> {
    GoogleServiceAccount::configure(serde_json::from_value(settings).unwrap())
}

/// What is sent, and what comes of `answer`.
fn exchange(
    settings: Value,
    secrets: &[(&str, Result<&str, &str>)],
    answer: Result<Response, Error>,
) -> (Vec<Request>, Result<Grant, AuthError>) {
    let sent = Rc::<RefCell<Vec<Request>>>::default();
    let seen = Rc::clone(&sent);
    let server = move |request: &Request| {
        seen.borrow_mut().push(request.clone());
        answer.clone()
    };
    let strategy = configured(settings).unwrap();
    let ask = || strategy.credential(&cluster("one", &[]), &request_auth(&[("google", None, "of the caller")]), None);
    let got = at_time(NOW, || with_http(server, || with_secrets(secrets, ask)));
    (sent.take(), got)
}

fn token(expires_in: u64) -> Response {
    let token = json!({ "access_token": "ya29.t", "expires_in": expires_in, "token_type": "Bearer" });
    Response::new(200, token.to_string())
}

/// Goal: the request of RFC 7523 and nothing else. Method: the whole of it, taken apart, its signature verified.
#[test]
fn a_signed_assertion_is_exchanged_for_a_token() {
    let file = key_file(&json!({}));

    let (sent, got) = exchange(json!({}), &[(SECRET, Ok(&file))], Ok(token(3599)));

    assert_eq!(got, Ok(Grant::bearer_token("ya29.t").expires_at(NOW + 3599)));
    let [request] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((request.method(), request.url()), (Method::Post, TOKEN_URI));
    let headers = [("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(request.headers(), headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let body = std::str::from_utf8(request.body_bytes()).unwrap();
    let prefix = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=";
    let assertion = body.strip_prefix(prefix).unwrap();
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |part: &str| Base64UrlUnpadded::decode_vec(part).unwrap();
    let parse = |part: &str| serde_json::from_slice::<Value>(&decode(part)).unwrap();
    assert_eq!(parse(header), json!({ "alg": "RS256", "typ": "JWT", "kid": "k1" }));
    let expected = json!({
        "iss": "gate@p.iam.example", "scope": "https://www.googleapis.com/auth/cloud-platform", "aud": TOKEN_URI,
        "iat": NOW, "exp": NOW + 3600,
    });
    assert_eq!(parse(claims), expected);
    let public = rsa::RsaPrivateKey::from_pkcs8_pem(KEY).unwrap().to_public_key();
    let signature = Signature::try_from(&decode(signature)[..]).unwrap();
    VerifyingKey::<Sha256>::new(public).verify(signed.as_bytes(), &signature).unwrap();
}

#[test]
fn settings_choose_the_scopes() {
    let file = key_file(&json!({ "private_key_id": null }));
    let settings = json!({ "scopes": ["https://a.example/x", "email"] });
    let (sent, _) = exchange(settings, &[(SECRET, Ok(&file))], Ok(token(60)));
    let body = std::str::from_utf8(sent[0].body_bytes()).unwrap();
    let mut parts = body.rsplit_once('=').unwrap().1.split('.');
    let mut part =
        || serde_json::from_slice::<Value>(&Base64UrlUnpadded::decode_vec(parts.next().unwrap()).unwrap()).unwrap();
    assert_eq!(part(), json!({ "alg": "RS256", "typ": "JWT" }));
    assert_eq!(part()["scope"], "https://a.example/x email");
}

/// Goal: a key that cannot be used is said by its fault, and nothing of it is told or sent. Method: rows.
#[test]
fn a_key_that_cannot_be_used_is_named() {
    let check = |secrets: &[(&str, Result<&str, &str>)], expected: &str| {
        let (sent, got) = exchange(json!({}), secrets, Ok(token(60)));
        let text = match got.unwrap_err() {
            AuthError::Misconfigured(text) => format!("misconfigured: {text}"),
            AuthError::Unavailable(text) => format!("unavailable: {text}"),
            other => panic!("{other:?}"),
        };
        assert_eq!((sent, text.as_str()), (Vec::new(), expected));
        let lines = log_lines();
        assert!(!lines.iter().any(|line| line.contains("s3cret")), "{lines:?}");
    };
    let file = |changes: Value, expected: &str| {
        check(&[(SECRET, Ok(&key_file(&changes)))], &format!("misconfigured: the secret `service-account` {expected}"));
    };
    check(
        &[],
        "misconfigured: googleServiceAccount has no secret `service-account`: its sidecar must name a service account's key",
    );
    check(&[(SECRET, Err("gone"))], "unavailable: a secret of the cluster cannot be read");
    for text in ["", "s3cret", "[]", r#"{"private_key":7}"#] {
        check(
            &[(SECRET, Ok(text))],
            "misconfigured: the secret `service-account` is not the JSON of a service account's key",
        );
    }
    file(json!({ "type": "authorized_user" }), "is not a key of the type `service_account`");
    file(json!({ "type": null }), "is not a key of the type `service_account`");
    file(json!({ "client_email": "" }), "has no `client_email`");
    file(json!({ "token_uri": null }), "has no `token_uri`");
    file(json!({ "token_uri": "oauth2.example" }), "has a `token_uri` that is not a URL");
    file(json!({ "private_key": null }), "has no `private_key`");
    let bad = "has a `private_key` that is not an RSA key as PKCS #8 PEM";
    file(json!({ "private_key": "s3cret" }), bad);
    file(json!({ "private_key": KEY.replace("PRIVATE KEY", "RSA PRIVATE KEY") }), bad);
    file(json!({ "private_key": KEY.replacen("M", "N", 1) }), bad);
}

/// Goal: whatever comes back, the result is the token that was given out or an error of the right kind. Method: rows, each
/// from both servers.
#[test]
fn an_answer_is_a_token_or_an_error() {
    let odd = "unavailable: WHO gave an answer that is not understood";
    let ok = |body: &str| Response::new(200, body);
    check(token(1), "ya29.t until 1");
    check(ok(r#"{"access_token":"t","expires_in":60,"token_type":"bearer","more":1}"#), "t until 60");
    check(token(0), "unavailable: WHO gave out a token that has expired already");
    check(token(u64::MAX), &format!("ya29.t until {}", u64::MAX - NOW));
    for body in [
        "",
        "null",
        "{}",
        "ya29.t",
        r#"{"access_token":"t","expires_in":-1,"token_type":"Bearer"}"#,
        r#"{"access_token":"t","expires_in":"60","token_type":"Bearer"}"#,
        r#"{"access_token":"t","token_type":"Bearer"}"#,
        r#"{"access_token":"t","expires_in":60}"#,
        r#"{"access_token":"t","expires_in":60,"token_type":"MAC"}"#,
        r#"{"access_token":"","expires_in":60,"token_type":"Bearer"}"#,
        r#"{"access_token":"a b","expires_in":60,"token_type":"Bearer"}"#,
        r#"{"access_token":"a\r\nb","expires_in":60,"token_type":"Bearer"}"#,
        r#"{"id_token":"ey"}"#,
    ] {
        check(ok(body), odd);
    }
    let refusal = r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#;
    check(Response::new(400, refusal), "misconfigured: WHO refuses: invalid_grant");
    check(Response::new(401, r#"{"error":"s3cret S3CRET"}"#), "misconfigured: WHO refuses: status 401");
    check(Response::new(403, "no"), "misconfigured: WHO refuses: status 403");
    check(Response::new(404, ""), "misconfigured: WHO refuses: status 404");
    for status in [201, 204, 301, 302, 307, 408, 429, 500, 503] {
        let body = token(60).text().unwrap().to_owned();
        check(Response::new(status, body), &format!("unavailable: WHO answered with status {status}"));
    }
}

#[track_caller]
fn check(answer: Response, expected: &str) {
    let file = key_file(&json!({}));
    let answer = answer.with_header("Metadata-Flavor", "Google");
    for (settings, who) in
        [(json!({}), "Google's token endpoint"), (json!({ "credentials": "metadataServer" }), "the metadata server")]
    {
        let (_, got) = exchange(settings, &[(SECRET, Ok(&file))], Ok(answer.clone()));
        let got = match got {
            Ok(Grant {
                credential: witgate_sdk::Credential::BearerToken(token),
                expires_at: Some(at),
                impersonate: None,
            }) => {
                format!("{token} until {}", at - NOW)
            }
            Err(AuthError::Misconfigured(text)) => format!("misconfigured: {text}"),
            Err(AuthError::Unavailable(text)) => format!("unavailable: {text}"),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected.replace("WHO", who));
    }
}

/// Goal: the metadata server's wire form, and no taking another's word for it. Method: the request, and an answer without its header.
#[test]
fn the_metadata_server_is_asked_as_it_wants_to_be() {
    let settings = || json!({ "credentials": "metadataServer" });
    let (sent, got) = exchange(settings(), &[], Ok(token(60).with_header("Metadata-Flavor", "Google")));
    assert_eq!(got, Ok(Grant::bearer_token("ya29.t").expires_at(NOW + 60)));
    let [request] = &sent[..] else { panic!("{sent:?}") };
    let url = "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
    assert_eq!((request.method(), request.url(), request.body_bytes()), (Method::Get, url, &b""[..]));
    let headers = [("accept", "application/json"), ("metadata-flavor", "Google")];
    assert_eq!(request.headers(), headers.map(|(name, value)| (name.to_owned(), value.to_owned())));

    let (_, got) = exchange(settings(), &[], Ok(token(60)));
    assert_eq!(got, Err(AuthError::Unavailable("what answers is not Google's metadata server".to_owned())));

    let settings = json!({ "credentials": "metadataServer", "metadataServer": "http://127.0.0.1:8080" });
    let (sent, _) = exchange(settings, &[], Ok(token(60)));
    assert!(sent[0].url().starts_with("http://127.0.0.1:8080/computeMetadata/"), "{}", sent[0].url());
}

/// Goal: a missing grant names the key of the sidecar. Method: both servers.
#[test]
fn a_missing_grant_is_misconfigured() {
    let file = key_file(&json!({}));
    for (settings, what) in
        [(json!({}), "the `token_uri` of its key"), (json!({ "credentials": "metadataServer" }), "the metadata server")]
    {
        let (_, got) = exchange(settings, &[(SECRET, Ok(&file))], Err(Error::Denied));
        let text = format!(
            "the credential's server: no grant for this origin; the sidecar of `googleServiceAccount` must list {what} under \
             `outboundHosts`"
        );
        assert_eq!(got, Err(AuthError::Misconfigured(text)));
    }
    let (_, got) = exchange(json!({}), &[(SECRET, Ok(&file))], Err(Error::AnswerTimeout));
    assert!(matches!(got, Err(AuthError::Unavailable(_))), "{got:?}");
}

/// Goal: settings that cannot work are refused, by their keys. Method: rows.
#[test]
fn settings_that_cannot_work_are_named() {
    let check = |settings: Value, expected: &[&str]| {
        assert_eq!(configured(settings).err().unwrap_or_default(), expected);
    };
    check(json!({}), &[]);
    check(json!({ "credentials": "serviceAccountKey", "scopes": ["email"] }), &[]);
    check(json!({ "credentials": "metadataServer", "metadataServer": "http://127.0.0.1:1" }), &[]);
    let scopes = "`scopes` must be a list of scopes such as `https://www.googleapis.com/auth/cloud-platform`";
    for wrong in [json!([]), json!([""]), json!(["a b"]), json!(["ok", "a\nb"])] {
        check(json!({ "scopes": wrong }), &[scopes]);
    }
    let own = "`scopes` is for `credentials: serviceAccountKey`: a machine's scopes are its own";
    check(json!({ "credentials": "metadataServer", "scopes": ["email"] }), &[own]);
    check(json!({ "metadataServer": "http://a.example" }), &["`metadataServer` is for `credentials: metadataServer`"]);
    let origin = "`metadataServer` must be an origin such as `http://metadata.google.internal`";
    for wrong in ["", "metadata", "ftp://a", "http://", "http://a/", "http://a?b"] {
        check(json!({ "credentials": "metadataServer", "metadataServer": wrong }), &[origin]);
    }
}
