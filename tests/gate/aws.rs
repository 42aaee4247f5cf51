//! `authProvider: aws` from outside: what STS and the API server get, checked by two independent judges of signatures.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Reply, Request};
use witgate_tests::artifacts::repository;
use witgate_tests::authority::Authority;
use witgate_tests::botocore::Botocore;
use witgate_tests::broken_upstream::BrokenUpstream;
use witgate_tests::cluster::Cluster;
use witgate_tests::fake_sts::{FakeSts, Faults, refusal};
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::secrets::secret;
use witgate_tests::sigv4::{AccessKey, verify_presigned};

use crate::NOTHING;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// The URL in the token of a request.
#[track_caller]
fn url_of(request: &Request) -> String {
    let token = request.header("authorization").unwrap().strip_prefix("Bearer k8s-aws-v1.").unwrap();
    assert!(!token.contains('='), "the token has no padding");
    String::from_utf8(URL_SAFE_NO_PAD.decode(token).unwrap()).unwrap()
}

fn access_key() -> AccessKey {
    AccessKey { id: "AKIDGATE".into(), secret: secret("secret access key"), session_token: None }
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

fn eks(name: &str, api_server: &ApiServer, metadata: Value) -> Cluster {
    Cluster::at(name, api_server, "aws").with("authMetadata", metadata)
}

/// A gate whose sidecar `aws.yaml` grants the STS at `url` and the keys in files, with `changes` to it.
fn gate(url: &str, authority: &Authority, key: &AccessKey, changes: Value) -> GateBuilder {
    let mut sidecar = json!({
        "settings": { "stsEndpoint": url },
        "outboundHosts": [{ "origin": url, "caFile": "../ca.pem" }],
        "secrets": { "access-key-id": { "file": "../id" }, "secret-access-key": { "file": "../secret" } },
    });
    sidecar.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Gate::without_clusters()
        .file("ca.pem", &authority.pem())
        .file("id", &key.id)
        .file("secret", &key.secret)
        .file("policies/aws.yaml", &sidecar.to_string())
}

/// Without a sidecar, with the variables that AWS's own clients know; nobody is asked.
#[tokio::test]
async fn c21_the_token_is_a_signed_url_of_sts() {
    let api_server = ApiServer::start().await;
    let temporary = AccessKey { session_token: Some(format!("{}/+==", secret("session token"))), ..access_key() };
    for key in [access_key(), temporary] {
        let mut gate = Gate::without_clusters()
            .cluster(eks("eks-1", &api_server, json!({ "kubernetes.io/x-k8s-aws-id": "eks-id" })))
            .cluster(eks("eks-2", &api_server, json!({})))
            .variable("AWS_REGION", "eu-west-3")
            .variable("AWS_ACCESS_KEY_ID", &key.id)
            .variable("AWS_SECRET_ACCESS_KEY", &key.secret);
        if let Some(token) = &key.session_token {
            gate = gate.variable("AWS_SESSION_TOKEN", token);
        }
        let gate = gate.start().await;
        let botocore = Botocore::find().await;
        for (cluster, id) in [("eks-1", "eks-id"), ("eks-2", "eks-2")] {
            assert_eq!(gate.caller("jane").backstage(cluster).get(PODS).await.status(), 200);

            let url = url_of(api_server.requests().last().unwrap());
            let begin = "https://sts.eu-west-3.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-";
            assert!(url.starts_with(begin), "{url}");
            assert_eq!(verify_presigned(&url, &key, "eu-west-3", "sts.eu-west-3.amazonaws.com", id), Ok(()));
            if let Some(botocore) = &botocore {
                assert_eq!(signature_of(&url), Some(botocore.signature(&presigned(&url, &key, id)).await.as_str()));
            }
        }
    }
}

/// What botocore is to sign for the URL `url`.
fn presigned(url: &str, key: &AccessKey, id: &str) -> Value {
    let date = url.split("X-Amz-Date=").nth(1).and_then(|rest| rest.split('&').next());
    json!({
        "form": "query", "method": "GET", "url": url.split("&X-Amz-").next(), "headers": { "x-k8s-aws-id": id }, "body": "",
        "region": "eu-west-3", "accessKeyId": key.id, "secretAccessKey": key.secret, "sessionToken": key.session_token,
        "date": date,
    })
}

fn signature_of(url: &str) -> Option<&str> {
    url.split("X-Amz-Signature=").nth(1)?.split('&').next()
}

#[tokio::test]
async fn c22_a_role_is_taken_on_with_its_external_id() {
    let api_server = ApiServer::start().await;
    let (authority, key) = (Authority::new("sts"), access_key());
    let sts = FakeSts::start("us-east-1", &authority, &key, "").await;
    let metadata = json!({ "kubernetes.io/aws-assume-role": role("reader"), "kubernetes.io/aws-external-id": "ext/1" });
    let gate = gate(&sts.url(), &authority, &key, json!({})).cluster(eks("eks-1", &api_server, metadata)).start().await;

    let cold = gate.client_as("jane").get(PODS).await;
    let warm = gate.client_as("john").get(PODS).await;

    assert_eq!((cold.status(), warm.status()), (200, 200));
    assert_eq!((sts.complaints(), sts.taken_on()), (vec![], vec!["AssumeRole reader ext/1".to_owned()]));
    let requests = api_server.requests();
    let url = url_of(&requests[0]);
    assert_eq!(verify_presigned(&url, &sts.last_key(), "us-east-1", &sts.host(), "eks-1"), Ok(()));
    assert_eq!(url, url_of(&requests[1]), "one token for all callers");
    let [cold, warm] = [gate.decision_of(&cold).await, gate.decision_of(&warm).await];
    assert_eq!((&cold["cacheHit"], &warm["cacheHit"]), (&json!(false), &json!(true)));
    println!("aws with a role: cold {} us, warm {} us", cold["strategyUs"], warm["strategyUs"]);
    if let Some(botocore) = Botocore::find().await {
        let call = sts.server().only_request();
        let (signed, signature) = call.header("authorization").unwrap().rsplit_once("Signature=").unwrap();
        assert!(signed.contains("SignedHeaders=content-type;host;x-amz-date, "), "{signed}");
        let asked = json!({
            "form": "headers", "method": "POST", "url": format!("{}/", sts.url()), "body": call.body.text(),
            "headers": { "content-type": call.header("content-type") }, "region": "us-east-1", "accessKeyId": key.id,
            "secretAccessKey": key.secret, "sessionToken": null, "date": call.header("x-amz-date"),
        });
        assert_eq!(botocore.signature(&asked).await, signature);
    }
}

/// IRSA: the token is a file that is rotated; the cluster's role is taken on by the keys that it gives.
#[tokio::test]
async fn a_web_identity_takes_on_the_clusters_role() {
    let api_server = ApiServer::start().await;
    let (authority, key) = (Authority::new("sts"), access_key());
    let token = secret("web identity token");
    let sts = FakeSts::start("eu-west-1", &authority, &key, &token).await;
    let changes = json!({
        "settings": { "stsEndpoint": sts.url(), "region": "eu-west-1", "roleArn": role("gate"), "roleSessionName": "witgate" },
        "secrets": { "web-identity-token": { "file": "../token" } },
    });
    let gate = gate(&sts.url(), &authority, &key, changes)
        .file("token", "old")
        .cluster(eks("plain", &api_server, json!({})))
        .cluster(eks("role", &api_server, json!({ "kubernetes.io/aws-assume-role": role("reader") })))
        .start()
        .await;
    std::fs::write(gate.folder().join("token"), format!("{token}\n")).unwrap();

    for cluster in ["plain", "role"] {
        assert_eq!(gate.caller("jane").backstage(cluster).get(PODS).await.status(), 200);
    }

    assert_eq!(sts.complaints(), NOTHING);
    let web = "AssumeRoleWithWebIdentity gate";
    assert_eq!(sts.taken_on(), [web, web, "AssumeRole reader"]);
    let url = url_of(&api_server.requests()[1]);
    assert_eq!(verify_presigned(&url, &sts.last_key(), "eu-west-1", &sts.host(), "role"), Ok(()));
}

/// What STS answers.
type Answer = fn() -> Reply;

/// However STS fails, nobody becomes anonymous, and the caller learns the kind of failure alone.
#[tokio::test]
async fn whatever_sts_does_wrong_nothing_is_forwarded() {
    let api_server = ApiServer::start().await;
    let (authority, key) = (Authority::new("sts"), access_key());
    const BOMB: &str = "<?xml version=\"1.0\"?><!DOCTYPE x [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">\
        <!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>&c;</AccessKeyId>\
        </Credentials></AssumeRoleResult></AssumeRoleResponse>";
    let rows: [(&'static str, Answer, u16, &str); 12] = [
        (
            "denied",
            || refusal(403, "AccessDenied", "not authorized"),
            500,
            "AWS STS refused AssumeRole with AccessDenied",
        ),
        (
            "unknown",
            || refusal(401, "InvalidClientTokenId", ""),
            500,
            "AWS STS refused AssumeRole with InvalidClientTokenId",
        ),
        ("busy", || refusal(400, "Throttling", "slow"), 502, "AWS STS refused AssumeRole with Throttling"),
        ("unauthorized", || Reply::new(401, ""), 502, "AWS STS answered AssumeRole with status 401"),
        ("failing", || Reply::new(500, "oops"), 502, "AWS STS answered AssumeRole with status 500"),
        ("empty", || Reply::new(200, ""), 502, "AWS STS answered AssumeRole with something else than keys"),
        ("garbage", || Reply::new(200, "\u{1}\u{2}"), 502, "AWS STS answered AssumeRole with something else than keys"),
        ("json", || Reply::json(200, "{}"), 502, "AWS STS answered AssumeRole with something else than keys"),
        ("bomb", || Reply::new(200, BOMB), 502, "AWS STS answered AssumeRole with something else than keys"),
        (
            "redirect",
            || Reply::new(307, "").header("location", "https://sts.amazonaws.com/"),
            502,
            "AWS STS answered AssumeRole with status 307",
        ),
        ("huge", || Reply::new(200, vec![b'x'; 2 << 20]), 502, "the credential's server: too large"),
        ("silent", Reply::never, 504, "the cluster's authentication strategy gave no answer"),
    ];
    let faults = Faults::from_iter(rows.iter().map(|(name, reply, ..)| (*name, *reply)));
    let sts = FakeSts::with_faults("us-east-1", &authority, &key, "", faults).await;
    let mut builder = gate(&sts.url(), &authority, &key, json!({ "limits": { "deadlineMs": 5000 } }));
    for (name, ..) in &rows {
        builder = builder.cluster(eks(name, &api_server, json!({ "kubernetes.io/aws-assume-role": role(name) })));
    }
    let gate = builder.start().await;

    for (name, _, status, message) in &rows {
        let answer = gate.caller("jane").backstage(name).get(PODS).await;
        assert_eq!((answer.status(), &answer.json()["error"]["message"]), (*status, &json!(message)), "{name}");
    }
    assert_eq!(sts.complaints(), NOTHING);
    assert_eq!(api_server.heard(), NOTHING);
}

/// An STS that cannot be reached, that is not who it should be, or that does not know the gate.
#[tokio::test]
async fn an_sts_that_cannot_be_asked_is_a_failure() {
    let api_server = ApiServer::start().await;
    let (authority, other, key) = (Authority::new("sts"), Authority::new("other"), access_key());
    let sts = FakeSts::start("us-east-1", &authority, &key, "").await;
    let nobody = BrokenUpstream::refusing_url().await.replace("http:", "https:");
    let stranger = access_key();
    for (url, believed, signs, status, message) in [
        (&nobody, &authority, &key, 502, "the credential's server: it cannot be reached"),
        (&sts.url(), &other, &key, 502, "the credential's server: its certificate is not trusted"),
        (&sts.url(), &authority, &stranger, 500, "AWS STS refused AssumeRole with ValidationError"),
    ] {
        let metadata = json!({ "kubernetes.io/aws-assume-role": role("reader") });
        let gate = gate(url, believed, signs, json!({})).cluster(eks("eks-1", &api_server, metadata)).start().await;
        let answer = gate.client_as("jane").get(PODS).await;
        assert_eq!((answer.status(), &answer.json()["error"]["message"]), (status, &json!(message)));
    }
    assert_eq!(sts.complaints().len(), 1, "the stranger's signature");
    assert!(sts.complaints()[0].starts_with("signature: "), "{:?}", sts.complaints());
    assert_eq!(api_server.heard(), NOTHING);
}

/// A cluster of whom the strategy cannot sign anything refuses the start, and says what to write.
#[tokio::test]
async fn without_an_identity_the_start_says_what_to_write() {
    let api_server = ApiServer::start().await;
    let gate = Gate::without_clusters().cluster(eks("eks-1", &api_server, json!({})));

    let (check, start) = gate.check_and_refused_start().await;

    assert_eq!((check.code, start.code), (Some(1), Some(1)));
    for said in [check.stderr, start.stderr] {
        let expected = "Invalid cluster 'eks-1': the strategy `aws` has no AWS identity: grant it `secrets` in the sidecar \
            `aws.yaml`, `access-key-id` and `secret-access-key` or `web-identity-token`, or set AWS_ACCESS_KEY_ID and \
            AWS_SECRET_ACCESS_KEY";
        assert!(said.contains(expected), "{said}");
    }
}

/// What the documentation shows is what the gate takes: each sidecar for a built-in strategy, with a cluster for it.
#[tokio::test]
async fn the_documented_sidecars_are_taken() {
    let text = std::fs::read_to_string(repository().join("policies/README.md")).unwrap();
    let mut gate = Gate::without_clusters();
    for name in ["aws", "azure"] {
        let sidecar =
            text.split("```yaml\n").find_map(|block| block.strip_prefix(&format!("# policies/{name}.yaml\n")));
        let sidecar = sidecar.and_then(|block| block.split("```").next()).unwrap();
        gate = gate.file(&format!("policies/{name}.yaml"), sidecar).cluster(Cluster::at_url(
            name,
            "https://cluster.example",
            name,
        ));
    }

    let ended = gate.check().await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
