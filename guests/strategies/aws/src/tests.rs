//! The strategy as a whole, with a test as STS.

use std::cell::RefCell;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use witgate_sdk::Credential;
use witgate_sdk::http::{Error, Request, Response};
use witgate_sdk::testing::{at_time, cluster, log_lines, request_auth, with_http, with_secrets};

use super::*;

const NOW: u64 = 1_704_164_645; // 2024-01-02T03:04:05Z
const ROLE: &str = "arn:aws:iam::123456789012:role/eks-reader";
const KEYS: [(&str, Result<&str, &str>); 2] =
    [("access-key-id", Ok("AKIDEXAMPLE\n")), ("secret-access-key", Ok("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n"))];
const WEB_IDENTITY: [(&str, Result<&str, &str>); 1] = [("web-identity-token", Ok("ey.web.identity\n"))];

fn settings(settings: Settings) -> Aws {
    Aws::configure(settings).ok().unwrap()
}

fn keys_answer(action: &str, expiration: &str) -> String {
    format!(
        "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser>\
         <Arn>arn:aws:sts::123456789012:assumed-role/eks-reader/s</Arn></AssumedRoleUser><Credentials>\
         <AccessKeyId>ASIATEMPORARY</AccessKeyId><SecretAccessKey>temporary/secret+key</SecretAccessKey>\
         <SessionToken>temporary/session+token==</SessionToken><Expiration>{expiration}</Expiration></Credentials>\
         </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
    )
}

fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
}

/// What the strategy says at [`NOW`], and what STS was sent, when STS answers `answer` to everything.
fn ask(
    aws: &Aws,
    secrets: &[(&str, Result<&str, &str>)],
    metadata: &[(&str, &str)],
    answer: impl Fn(&Request) -> Result<Response, Error> + 'static,
) -> (Result<Grant, AuthError>, Vec<Request>) {
    let sent = Rc::new(RefCell::new(Vec::new()));
    let server = {
        let sent = Rc::clone(&sent);
        move |request: &Request| {
            sent.borrow_mut().push(request.clone());
            answer(request)
        }
    };
    let call = || aws.credential(&cluster("eks-1", metadata), &request_auth(&[]), None);
    let grant = at_time(NOW, || with_http(server, || with_secrets(secrets, call)));
    let sent = sent.borrow().clone();
    (grant, sent)
}

fn url_of(grant: &Grant) -> String {
    let Credential::BearerToken(token) = &grant.credential else { panic!("not a bearer token") };
    let encoded = token.strip_prefix("k8s-aws-v1.").unwrap();
    String::from_utf8(URL_SAFE_NO_PAD.decode(encoded).unwrap()).unwrap()
}

fn no_answer(_: &Request) -> Result<Response, Error> {
    Err(Error::Denied)
}

/// Goal: case C21: without a role nobody is asked, and the token is the signed URL. Method: the cluster's names in rows.
#[test]
fn a_token_is_a_signed_url() {
    let check = |metadata: &[(&str, &str)], region: Option<&str>, host: &str, signature: &str| {
        let aws = settings(Settings { region: region.map(Into::into), ..Settings::default() });
        let (grant, sent) = ask(&aws, &KEYS, metadata, no_answer);
        let grant = grant.unwrap();
        assert_eq!(sent.len(), 0);
        let url = url_of(&grant);
        assert!(
            url.starts_with(&format!("https://{host}/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-")),
            "{url}"
        );
        assert!(url.contains("&X-Amz-Expires=0&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id&"), "{url}");
        assert!(url.contains(&format!("&X-Amz-Signature={signature}")), "{url}");
        assert_eq!(grant.expires_at, Some(NOW + 840));
        url
    };
    // botocore's signature of the same, as in `signature.rs`.
    let signature = "e8c49d1f341c514ea57f79f610672fcee0a0be53a51fa6cec115d5dc00bca654";
    check(&[(CLUSTER_ID, "eks-id")], Some("eu-west-1"), "sts.eu-west-1.amazonaws.com", signature);
    let named = check(&[], None, "sts.us-east-1.amazonaws.com", "");
    let empty = check(&[(CLUSTER_ID, "")], None, "sts.us-east-1.amazonaws.com", "");
    let same = check(&[(CLUSTER_ID, "eks-1")], None, "sts.us-east-1.amazonaws.com", "");
    assert!(named == empty && named == same);
}

/// Goal: case C22: a role is asked for with its external id, by a signed call, and its keys sign the token. Method: the form,
/// and the token's parameters.
#[test]
fn a_role_is_taken_on() {
    let metadata = [(CLUSTER_ID, "eks-id"), (ASSUME_ROLE, ROLE), (EXTERNAL_ID, "ext/1")];
    let answer = |_: &Request| Ok(Response::new(200, keys_answer("AssumeRole", "2024-01-02T04:04:05Z")));
    let (grant, sent) = ask(&settings(Settings::default()), &KEYS, &metadata, answer);

    let grant = grant.unwrap();
    let [request] = &sent[..] else { panic!("{} requests", sent.len()) };
    let body = std::str::from_utf8(request.body_bytes()).unwrap();
    assert_eq!(
        body,
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Feks-reader\
         &RoleSessionName=aws-sdk-js-1704164645000&ExternalId=ext%2F1"
    );
    assert_eq!(request.url(), "https://sts.us-east-1.amazonaws.com/");
    let url = url_of(&grant);
    assert!(url.contains("X-Amz-Credential=ASIATEMPORARY%2F20240102%2Fus-east-1%2Fsts%2Faws4_request"), "{url}");
    assert!(url.contains("X-Amz-Security-Token=temporary%2Fsession%2Btoken%3D%3D"), "{url}");
    assert_eq!(grant.expires_at, Some(NOW + 840));
    // STS's keys may end earlier than the URL would.
    let answer = |_: &Request| Ok(Response::new(200, keys_answer("AssumeRole", "2024-01-02T03:14:05.5Z")));
    let (grant, _) = ask(&settings(Settings::default()), &KEYS, &metadata, answer);
    assert_eq!(grant.unwrap().expires_at, Some(NOW + 600));
}

/// Goal: a web identity becomes keys, and those keys take on the cluster's role. Method: both calls' forms.
#[test]
fn a_web_identity_is_exchanged() {
    let aws = settings(Settings {
        role_arn: Some("arn:aws:iam::123456789012:role/gate".into()),
        role_session_name: Some("witgate".into()),
        ..Settings::default()
    });
    let answer = |request: &Request| {
        let web = request.body_bytes().starts_with(b"Action=AssumeRoleWithWebIdentity&");
        let action = if web { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
        Ok(Response::new(200, keys_answer(action, "2024-01-02T04:04:05Z")))
    };
    let (grant, sent) = ask(&aws, &WEB_IDENTITY, &[(ASSUME_ROLE, ROLE)], answer);
    assert!(grant.is_ok());
    let [web, role] = &sent[..] else { panic!("{} requests", sent.len()) };
    assert_eq!(
        std::str::from_utf8(web.body_bytes()).unwrap(),
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fgate\
         &RoleSessionName=witgate&WebIdentityToken=ey.web.identity"
    );
    let names = |request: &Request| request.headers().iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(web), ["content-type"], "the token is the proof");
    assert_eq!(names(role), ["content-type", "x-amz-date", "authorization", "x-amz-security-token"]);
}

/// Goal: whatever STS does wrong is an error of the right kind, which repeats nothing. Method: rows.
#[test]
fn what_sts_refuses_is_said() {
    let answer = |status: u16, body: String| move |_: &Request| Ok(Response::new(status, body.clone()));
    let misconfigured = |code: &str| AuthError::Misconfigured(format!("AWS STS refused AssumeRole with {code}"));
    let unavailable = |text: &str| AuthError::Unavailable(text.to_owned());
    for code in ["AccessDenied", "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken", "ValidationError"] {
        check(answer(403, refusal(code, "s3cret")), misconfigured(code));
    }
    for (status, code) in [(400, "Throttling"), (503, "ServiceUnavailable"), (500, "InternalFailure")] {
        check(answer(status, refusal(code, "s3cret")), unavailable(&format!("AWS STS refused AssumeRole with {code}")));
    }
    for (status, body) in [
        (500, String::new()),
        (401, "s3cret".to_owned()),
        (302, "s3cret".to_owned()),
        (204, String::new()),
        (403, refusal("<b>s3cret</b>", "")),
        (403, refusal("s3cret s3cret", "")),
    ] {
        check(answer(status, body), unavailable(&format!("AWS STS answered AssumeRole with status {status}")));
    }
    let expiry = "2024-01-02T04:04:05Z";
    for body in [
        String::new(),
        "s3cret".to_owned(),
        "{\"Credentials\":{}}".to_owned(),
        keys_answer("AssumeRoleWithWebIdentity", expiry),
        keys_answer("AssumeRole", ""),
        keys_answer("AssumeRole", "tomorrow"),
        keys_answer("AssumeRole", "1704164645"),
        keys_answer("AssumeRole", expiry).replace("ASIATEMPORARY", ""),
        keys_answer("AssumeRole", expiry).replace("ASIATEMPORARY", "A B"),
        keys_answer("AssumeRole", expiry).replace("<SessionToken>", "<!DOCTYPE x><SessionToken>"),
    ] {
        check(answer(200, body), unavailable("AWS STS answered AssumeRole with something else than keys"));
    }
    check(|_| Err(Error::Unreachable), unavailable("the credential's server: it cannot be reached"));
    check(|_| Err(Error::Denied), AuthError::Misconfigured("the credential's server: no grant for this origin".into()));
}

#[track_caller]
fn check(answer: impl Fn(&Request) -> Result<Response, Error> + 'static, expected: AuthError) {
    let (grant, sent) = ask(&settings(Settings::default()), &KEYS, &[(ASSUME_ROLE, ROLE)], answer);
    assert_eq!((grant.err(), sent.len()), (Some(expected), 1));
    let log = log_lines().join("\n");
    // Who may not do what is for the operator to read; other texts may repeat what was sent.
    assert!(!log.is_empty() && log.contains("s3cret") == log.contains("AccessDenied"), "{log}");
}

/// Goal: an identity that is not there, or not whole, is the operator's to mend. Method: rows of secrets.
#[test]
fn an_identity_is_whole() {
    let with_role = || Settings { role_arn: Some(ROLE.into()), ..Settings::default() };
    check_identity(Settings::default(), &KEYS, None, None);
    check_identity(with_role(), &WEB_IDENTITY, None, None);
    let none = AuthError::Misconfigured(NO_IDENTITY.into());
    check_identity(with_role(), &[], Some(NO_IDENTITY), Some(none));
    let incomplete = || Some(AuthError::Misconfigured("the gate's AWS identity is incomplete".into()));
    let no_secret = "the strategy `aws` has the secret `access-key-id` and no `secret-access-key`";
    check_identity(Settings::default(), &KEYS[..1], Some(no_secret), incomplete());
    let no_role = "the strategy `aws` has the secret `web-identity-token` and no role for it: \
                   set `roleArn` in its settings, or AWS_ROLE_ARN";
    check_identity(Settings::default(), &WEB_IDENTITY, Some(no_role), incomplete());
    let unreadable = Some(AuthError::Unavailable("a secret of the cluster cannot be read".into()));
    check_identity(Settings::default(), &[("access-key-id", Err("x"))], None, unreadable.clone());
    check_identity(Settings::default(), &[KEYS[0], ("secret-access-key", Err("x"))], None, unreadable);
}

#[track_caller]
fn check_identity(
    given: Settings,
    secrets: &[(&str, Result<&str, &str>)],
    fault: Option<&str>,
    expected: Option<AuthError>,
) {
    let aws = settings(given);
    let faults = with_secrets(secrets, || aws.validate_cluster(&Metadata::new()));
    assert_eq!(faults, fault.into_iter().collect::<Vec<_>>());
    let answer = |_: &Request| Ok(Response::new(200, keys_answer("AssumeRoleWithWebIdentity", "2024-01-02T04:04:05Z")));
    assert_eq!(ask(&aws, secrets, &[], answer).0.err(), expected);
}

/// Goal: wrong metadata and settings are named before any request. Method: rows.
#[test]
fn wrong_values_are_named() {
    let aws = settings(Settings::default());
    let faults = |metadata: &[(&str, &str)]| {
        with_secrets(&KEYS, || aws.validate_cluster(&cluster("c", metadata).auth_metadata)).join("; ")
    };
    assert_eq!(faults(&[(CLUSTER_ID, "eks"), (ASSUME_ROLE, ROLE), (EXTERNAL_ID, "e-1")]), "");
    assert_eq!(faults(&[(ASSUME_ROLE, "arn:aws-us-gov:iam::123456789012:role/path/name")]), "");
    assert_eq!(
        faults(&[(CLUSTER_ID, "a b")]),
        "`kubernetes.io/x-k8s-aws-id` is `a b`: expected the name of an EKS cluster"
    );
    for arn in ["admin", "arn:aws:iam::123456789012:user/jane-of-the-gate", "arn:aws:iam::12:role/short-account-number"]
    {
        let expected = format!("`kubernetes.io/aws-assume-role` is `{arn}`: expected `arn:aws:iam::ACCOUNT:role/NAME`");
        assert_eq!(faults(&[(ASSUME_ROLE, arn)]), expected);
    }
    assert!(!faults(&[(ASSUME_ROLE, ROLE), (EXTERNAL_ID, "s3 cret")]).contains("s3 cret"));
    assert!(faults(&[(EXTERNAL_ID, "e-1")]).contains("there is no `kubernetes.io/aws-assume-role`"));

    let refused = |settings: Settings| Aws::configure(settings).err().unwrap_or_default().join("; ");
    let expected = "`region` is `x y`: expected one such as `eu-west-1`; \
                    `roleArn` is `r`: expected `arn:aws:iam::ACCOUNT:role/NAME`; \
                    `roleSessionName` is `a b`: expected 2 to 64 letters, digits or characters of `_=,.@-`";
    let all = Settings {
        region: Some("x y".into()),
        role_arn: Some("r".into()),
        role_session_name: Some("a b".into()),
        sts_endpoint: None,
    };
    assert_eq!(refused(all), expected);
    let odd = cluster("two words", &[]);
    let error = with_secrets(&KEYS, || aws.credential(&odd, &request_auth(&[]), None)).unwrap_err();
    assert_eq!(error, AuthError::Misconfigured("`kubernetes.io/x-k8s-aws-id` is no cluster name of EKS's".into()));
}
