//! Who the API server says a request was, while requests of several identities pass each other.
//!
//! Its audit log is the judge: each request carries a marker of its own, and stands there once, under the one name that
//! its cluster's strategy yields. Where the rig is not on the machine, this test says so and passes.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use witgate_tests::authority::Authority;
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig;
use witgate_tests::waiting::{until, within};

/// Requests of all identities together.
const REQUESTS: usize = 1000;

/// How many of them are under way at once.
const AT_ONCE: usize = 40;

/// What every marker begins with.
const MARK: &str = "identity=";

/// A user of the API server, and whom it impersonates.
type Identity = (&'static str, Option<&'static str>);

/// Two client certificates, a bearer token, and a caller's impersonation under a fourth identity, on one gate and over
/// shared connections downstream; HTTP/2 upstream, as the API server offers it.
#[tokio::test]
async fn a_thousand_interleaved_requests_are_who_they_should_be() {
    let rig = match kube_rig::shared() {
        Ok(rig) => rig,
        Err(why) => return println!("skipped: {why}"),
    };
    let authority = Authority::new("gate");
    let impersonating = rig.cluster_as("gateway").with("name", "gateway").with("allowImpersonation", true);
    let gate = Gate::without_clusters()
        .tls(&authority, None)
        .cluster(rig.cluster_as("robot"))
        .cluster(impersonating)
        .file("kubeconfig", &certificate_users(rig))
        .locator(json!({ "type": "kubeconfig", "file": "kubeconfig" }))
        .start()
        .await;
    let jane = gate.caller("jane");
    let as_alice = jane.clone().kubernetes("gateway").with_header("impersonate-user", "alice");
    let robot = "system:serviceaccount:kube-system:robot";
    let callers: [(Client, Identity); 4] = [
        (jane.clone().kubernetes("admin-by-certificate"), ("kubernetes-admin", None)),
        (jane.clone().kubernetes("bob-by-certificate"), ("bob", None)),
        (jane.clone().kubernetes("rig"), (robot, None)),
        (as_alice, ("gateway", Some("alice"))),
    ];

    let mut expected = BTreeMap::new();
    let mut under_way = JoinSet::new();
    for (number, (caller, identity)) in callers.iter().cycle().take(REQUESTS).enumerate() {
        let marker = format!("{MARK}{number}.");
        expected.insert(marker.clone(), vec![*identity]);
        let caller = caller.clone();
        under_way.spawn(async move {
            let path = format!("/api/v1/namespaces/dev/pods/run-0?{marker}x");
            let answer = caller.get(&path).await;
            assert_eq!(answer.status(), 200, "{marker}: {}", answer.body());
        });
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.expect("there are some").unwrap();
        }
    }
    within(std::time::Duration::from_secs(60), "the last answers", under_way.join_all()).await;

    let events = until("the audit events", || async {
        let events = rig.audit_events(MARK);
        (events.len() >= REQUESTS).then_some(events)
    })
    .await;
    let mut seen: BTreeMap<String, Vec<(&str, Option<&str>)>> = BTreeMap::new();
    for event in &events {
        seen.entry(marker_of(event)).or_default().push(identity_of(event));
    }
    assert_eq!(seen.len(), REQUESTS);
    for (marker, identity) in &expected {
        assert_eq!(seen.get(marker), Some(identity), "{marker}");
    }
}

/// A kubeconfig with bob and the administrator, who both show a client certificate to the one API server.
fn certificate_users(rig: &kube_rig::KubeRig) -> String {
    let base64 = |text: &str| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let cluster = json!({ "server": rig.url(), "certificate-authority-data": base64(&rig.certificate_authority()) });
    let user = |name: &str| {
        let (certificate, key) = (rig.file_of(&format!("RIG_CERT_{name}")), rig.file_of(&format!("RIG_KEY_{name}")));
        json!({ "client-certificate-data": base64(&certificate), "client-key-data": base64(&key) })
    };
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "bob-by-certificate",
        "clusters": [{ "name": "rig", "cluster": cluster }],
        "users": [{ "name": "admin", "user": user("ADMIN") }, { "name": "bob", "user": user("BOB") }],
        "contexts": [
            { "name": "admin-by-certificate", "context": { "cluster": "rig", "user": "admin" } },
            { "name": "bob-by-certificate", "context": { "cluster": "rig", "user": "bob" } },
        ],
    });
    kubeconfig.to_string() // JSON is YAML
}

fn marker_of(event: &Value) -> String {
    let uri = event["requestURI"].as_str().unwrap();
    let (before, _) = uri.rsplit_once('.').unwrap();
    before[before.find(MARK).unwrap()..].to_owned() + "."
}

fn identity_of(event: &Value) -> (&str, Option<&str>) {
    let impersonated = event.get("impersonatedUser").map(|user| user["username"].as_str().unwrap());
    (event["user"]["username"].as_str().unwrap(), impersonated)
}
