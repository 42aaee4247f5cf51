//! The strategy as a whole, with a test as Entra ID.

use std::cell::RefCell;
use std::rc::Rc;

use witgate_sdk::http::{Error, Method};
use witgate_sdk::testing::{at_time, cluster, log_lines, request_auth, with_http, with_secrets};

use super::*;

const NOW: u64 = 1_700_000_000;
const SECRET: [(&str, Result<&str, &str>); 1] = [("client-secret", Ok("s3cret+&=\n"))];
const FEDERATED: [(&str, Result<&str, &str>); 1] = [("federated-token", Ok("ey.federated.token\n"))];
const GOOD: &str = r#"{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"ey.a-b_c"}"#;

fn settings() -> Settings {
    Settings { tenant_id: Some("tenant-1".into()), client_id: Some("client-1".into()), ..Settings::default() }
}

fn azure(settings: Settings) -> Azure {
    Azure::configure(settings).ok().unwrap()
}

/// What the strategy says at [`NOW`], and what was sent, when `answer` is answered to everything.
fn ask(
    azure: &Azure,
    secrets: &[(&str, Result<&str, &str>)],
    answer: Result<Response, Error>,
) -> (Result<Grant, AuthError>, Vec<Request>) {
    let sent = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&sent);
    let server = move |request: &Request| {
        seen.borrow_mut().push(request.clone());
        answer.clone()
    };
    let call = || azure.credential(&cluster("aks-1", &[]), &request_auth(&[]), None);
    let grant = at_time(NOW, || with_http(server, || with_secrets(secrets, call)));
    let sent = sent.borrow().clone();
    (grant, sent)
}

/// Goal: each identity asks in its own form, byte for byte, and what is answered becomes the grant. Method: rows.
#[test]
fn each_identity_asks_in_its_own_form() {
    let form = "client_id=client-1&scope=6dae42f8-4368-4678-94ff-3960e28e3630%2F.default&grant_type=client_credentials";
    let url = "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token";
    check_form(settings(), &SECRET, Method::Post, url, &format!("{form}&client_secret=s3cret%2B%26%3D"));
    let assertion = format!(
        "{form}&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion=ey.federated.token"
    );
    check_form(settings(), &FEDERATED, Method::Post, url, &assertion);
    let china = || Settings { authority_host: Some("https://login.chinacloudapi.cn/".into()), ..settings() };
    let url = "https://login.chinacloudapi.cn/tenant-1/oauth2/v2.0/token";
    check_form(china(), &FEDERATED, Method::Post, url, &assertion);
    // A secret goes before the other two.
    let all = || Settings { managed_identity: true, ..china() };
    let both = [SECRET[0], FEDERATED[0]];
    check_form(all(), &both, Method::Post, url, &format!("{form}&client_secret=s3cret%2B%26%3D"));
    check_form(all(), &FEDERATED, Method::Post, url, &assertion);

    let machine = || Settings { managed_identity: true, ..Settings::default() };
    let url = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
               &resource=6dae42f8-4368-4678-94ff-3960e28e3630";
    check_form(machine(), &[], Method::Get, url, "");
    let one = Settings { client_id: Some("client-1".into()), ..machine() };
    check_form(one, &[], Method::Get, &format!("{url}&client_id=client-1"), "");
}

#[track_caller]
fn check_form(settings: Settings, secrets: &[(&str, Result<&str, &str>)], method: Method, url: &str, body: &str) {
    let (grant, sent) = ask(&azure(settings), secrets, Ok(Response::new(200, GOOD)));
    assert_eq!(grant, Ok(Grant::bearer_token("ey.a-b_c").expires_at(NOW + 3599)));
    let [request] = &sent[..] else { panic!("{} requests", sent.len()) };
    let text = std::str::from_utf8(request.body_bytes()).unwrap();
    assert_eq!((request.method(), request.url(), text), (method, url, body));
    let header = match method {
        Method::Get => ("metadata".to_owned(), "true".to_owned()),
        Method::Post | Method::Put => ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()),
    };
    assert_eq!(request.headers(), [header]);
}

/// Goal: only a bearer token with a life is one. Method: rows of answers.
#[test]
fn a_token_is_a_bearer_token_with_a_life() {
    let token = |body: &str| Token::parse(body.as_bytes()).map(|Token { token, life }| (token, life));
    let good = |life: u64| Some(("t".to_owned(), life));
    assert_eq!(token(r#"{"token_type":"Bearer","expires_in":"86399","access_token":"t"}"#), good(86399));
    assert_eq!(token(r#"{"token_type":"bearer","expires_in":1,"access_token":"t","resource":"x"}"#), good(1));
    for wrong in [
        "",
        "[]",
        "<html>",
        r#"{"expires_in":1,"access_token":"t"}"#,
        r#"{"token_type":"pop","expires_in":1,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":0,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":-1,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":1.5,"access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":"+1","access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":"","access_token":"t"}"#,
        r#"{"token_type":"Bearer","expires_in":1}"#,
        r#"{"token_type":"Bearer","expires_in":1,"access_token":""}"#,
        r#"{"token_type":"Bearer","expires_in":1,"access_token":"a b"}"#,
        r#"{"token_type":"Bearer","expires_in":1,"access_token":null}"#,
        r#"{"token_type":"Bearer","expires_in":1,"access_token":"t"} trailing"#,
    ] {
        assert_eq!(token(wrong), None, "{wrong}");
    }
}

/// Goal: whatever Entra ID does wrong is an error of the right kind, which repeats nothing. Method: rows.
#[test]
fn what_entra_id_refuses_is_said() {
    let refused =
        |error: &str| format!(r#"{{"error":"{error}","error_description":"s3cret","error_codes":[7000215]}}"#);
    let text = |error: &str| format!("Entra ID refused the token with {error} (AADSTS7000215)");
    for status in [400, 401, 403] {
        check(status, &refused("invalid_client"), AuthError::Misconfigured(text("invalid_client")));
    }
    check(
        400,
        r#"{"error":"invalid_scope"}"#,
        AuthError::Misconfigured("Entra ID refused the token with invalid_scope".into()),
    );
    for (status, error) in [(429, "slow_down"), (503, "server_error"), (400, "temporarily_unavailable")] {
        check(status, &refused(error), AuthError::Unavailable(text(error)));
    }
    for (status, body) in
        [(500, ""), (401, "s3cret"), (302, ""), (204, ""), (400, &refused("s3cret !")), (403, r#"{"error":{}}"#)]
    {
        check(status, body, AuthError::Unavailable(format!("Entra ID answered with status {status}")));
    }
    for body in ["", "s3cret", "<html>s3cret</html>", r#"{"access_token":"s3cret"}"#] {
        check(200, body, AuthError::Unavailable("Entra ID answered with something else than a token".into()));
    }
    let (grant, _) = ask(&azure(settings()), &SECRET, Err(Error::AnswerTimeout));
    assert_eq!(grant, Err(AuthError::Unavailable("the credential's server: no answer in time".into())));
}

#[track_caller]
fn check(status: u16, body: &str, expected: AuthError) {
    let (grant, _) = ask(&azure(settings()), &SECRET, Ok(Response::new(status, body)));
    assert_eq!(grant, Err(expected));
    let log = log_lines().join("\n");
    assert!(!log.is_empty() && !log.contains("s3cret"), "{log}");
}

/// Goal: an identity that is not there, or not whole, is the operator's to mend. Method: rows.
#[test]
fn an_identity_is_whole() {
    let machine = || Settings { managed_identity: true, ..Settings::default() };
    check_identity(settings(), &SECRET, None);
    check_identity(machine(), &[], None);
    check_identity(settings(), &[], Some(NO_IDENTITY));
    check_identity(Settings::default(), &[], Some(NO_IDENTITY));
    check_identity(Settings::default(), &SECRET, Some(NO_APPLICATION));
    check_identity(machine(), &FEDERATED, Some(NO_APPLICATION));
    let unreadable = [("client-secret", Err("x")), FEDERATED[0]];
    let faults = with_secrets(&unreadable, || azure(settings()).validate_cluster(&Metadata::new()));
    assert_eq!(faults, Vec::<String>::new(), "it may be there later");
    let (grant, sent) = ask(&azure(settings()), &unreadable, Ok(Response::new(200, GOOD)));
    assert_eq!(grant, Err(AuthError::Unavailable("a secret of the cluster cannot be read".into())));
    assert_eq!(sent.len(), 0, "the other secret is not taken instead");
}

#[track_caller]
fn check_identity(settings: Settings, secrets: &[(&str, Result<&str, &str>)], expected: Option<&str>) {
    let azure = azure(settings);
    let faults = with_secrets(secrets, || azure.validate_cluster(&Metadata::new()));
    assert_eq!(faults, expected.into_iter().collect::<Vec<_>>());
    let (grant, _) = ask(&azure, secrets, Ok(Response::new(200, GOOD)));
    assert_eq!(grant.err(), expected.map(|fault| AuthError::Misconfigured(fault.into())));
}

/// Goal: wrong settings are named. Method: rows.
#[test]
fn wrong_settings_are_named() {
    let refused = |settings: Settings| Azure::configure(settings).err().unwrap_or_default().join("; ");
    let tenant = |tenant: &str| Settings { tenant_id: Some(tenant.into()), ..settings() };
    assert_eq!(refused(tenant("contoso.onmicrosoft.com")), "");
    for wrong in ["", "..", "a/b", "a?b", "common#", "a b"] {
        let expected = format!("`tenantId` is `{wrong}`: expected a tenant's id or domain");
        assert_eq!(refused(tenant(wrong)), expected);
    }
    let at = |host: &str| Settings { authority_host: Some(host.into()), ..settings() };
    for wrong in ["http://login.microsoftonline.com", "login.microsoftonline.com", "https://a/b", "https:"] {
        assert_eq!(refused(at(wrong)), format!("`authorityHost` is `{wrong}`: expected `https://HOST[:PORT]`"));
    }
    let alone = Settings { tenant_id: None, ..settings() };
    assert_eq!(refused(alone), "`clientId` is set, and neither `tenantId` nor `managedIdentity`");
    let alone = Settings { client_id: None, ..settings() };
    assert_eq!(refused(alone), "`tenantId` is set and `clientId` is not");
    let odd = Settings {
        managed_identity: true,
        managed_identity_endpoint: Some("169.254.169.254".into()),
        client_id: Some("a b".into()),
        ..Settings::default()
    };
    let expected = "`clientId` is `a b`: expected an application's id; \
                    `managedIdentityEndpoint` is `169.254.169.254`: expected `http://HOST[:PORT]`";
    assert_eq!(refused(odd), expected);
}
