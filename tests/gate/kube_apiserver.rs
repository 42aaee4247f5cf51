//! A real kube-apiserver and a real kubectl, with the gate between them.
//!
//! Where the rig or kubectl is not on the machine, these tests say so and pass.

use serde_json::{Value, json};
use witgate_tests::authority::{Authority, client_tls_trusting_pem};
use witgate_tests::client::Client;
use witgate_tests::gate::{Gate, GateBuilder};
use witgate_tests::kube_rig::{self, BIG_COUNT, KubeRig};
use witgate_tests::kubectl::Kubectl;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::waiting::until;

/// The rig, or the end of the test.
macro_rules! rig_or_skip {
    () => {
        match kube_rig::shared() {
            Ok(rig) => rig,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

/// kubectl as jane through the gate, or the end of the test.
macro_rules! kubectl_or_skip {
    ($gate:expr, $authority:expr) => {
        match kubectl(&$gate, &$authority) {
            Ok(kubectl) => kubectl,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

#[tokio::test]
async fn kubectl_gets_lists_and_describes() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let kubectl = kubectl_or_skip!(gate, authority);

    assert!(kubectl.succeed(&["version", "-o", "json"]).await.contains("v1.20.2"));
    assert!(kubectl.succeed(&["api-resources"]).await.contains("deployments"));
    assert_eq!(kubectl.succeed(&["get", "configmap", "x", "-o", "jsonpath={.data.key}"]).await, "value");
    assert!(kubectl.succeed(&["describe", "node", "fake-node"]).await.contains("fake-node"));
    let pods = kubectl.succeed(&["get", "pods", "-n", "dev"]).await;
    assert_eq!(pods.lines().filter(|line| line.starts_with("run-")).count(), 4, "{pods}");
    let names = kubectl.succeed(&["get", "configmaps", "-n", "dev", "-l", "i=3", "-o", "name"]).await;
    assert_eq!(names.lines().count(), 20, "{names}");
    let missing = kubectl.run(&["get", "pod", "none", "-n", "dev"]).await;
    assert_eq!(
        (missing.code, missing.stderr.trim()),
        (Some(1), r#"Error from server (NotFound): pods "none" not found"#)
    );
}

#[tokio::test]
async fn kubectl_creates_applies_patches_and_deletes() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let kubectl = kubectl_or_skip!(gate, authority);
    let value = ["get", "configmap", "applied", "-o", "jsonpath={.data}"];
    let metadata = json!({ "name": "applied" });
    let manifest =
        |text: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { "text": text } });

    kubectl.succeed(&["create", "namespace", "written"]).await;
    let in_namespace = |arguments: &[&'static str]| [arguments, &["-n", "written"]].concat();
    kubectl.succeed(&in_namespace(&["create", "configmap", "created", "--from-literal=a=b"])).await;

    for (text, server_side) in [("first", false), ("second", false), ("third", true)] {
        let file = kubectl.file("applied.json", &manifest(text).to_string());
        let mut apply = vec!["apply", "-n", "written", "-f", &file];
        if server_side {
            apply.extend(["--server-side", "--force-conflicts"]);
        }
        kubectl.succeed(&apply).await;
        assert_eq!(kubectl.succeed(&in_namespace(&value)).await, json!({ "text": text }).to_string());
    }

    let merge = ["patch", "configmap", "applied", "--type=merge", r#"-p={"data":{"more":"1"}}"#];
    kubectl.succeed(&in_namespace(&merge)).await;
    let replace = ["patch", "configmap", "applied", "--type=json", r#"-p=[{"op":"remove","path":"/data/more"}]"#];
    kubectl.succeed(&in_namespace(&replace)).await;
    kubectl.succeed(&in_namespace(&["label", "configmap", "applied", "a=b"])).await;
    assert_eq!(kubectl.succeed(&in_namespace(&value)).await, json!({ "text": "third" }).to_string());

    kubectl.succeed(&in_namespace(&["delete", "configmap", "applied", "created"])).await;
    kubectl.succeed(&["delete", "namespace", "written", "--wait=false"]).await;
}

#[tokio::test]
async fn kubectl_watches() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let kubectl = kubectl_or_skip!(gate, authority);
    kubectl.succeed(&["create", "configmap", "watched-0", "--from-literal=a=b"]).await;

    let watch = kubectl.start(&["get", "configmaps", "-w", "-o", "name"]);
    let named = |name: &'static str| move |line: &str| (line == name).then_some(());
    watch.stdout.wait_for("the first list", 1, named("configmap/watched-0")).await;
    for name in ["watched-1", "watched-2"] {
        kubectl.succeed(&["create", "configmap", name, "--from-literal=a=b"]).await;
    }

    watch.stdout.wait_for("the first event", 1, named("configmap/watched-1")).await;
    watch.stdout.wait_for("the second event", 1, named("configmap/watched-2")).await;
    watch.terminate();
    kubectl.succeed(&["delete", "configmap", "watched-0", "watched-1", "watched-2"]).await;
}

#[tokio::test]
async fn kubectl_reads_why_it_was_denied() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).policy("read-only").start().await;
    let kubectl = kubectl_or_skip!(gate, authority);

    let denied = kubectl.run(&["delete", "pod", "pod-000", "-n", "dev"]).await;
    assert_eq!(denied.code, Some(1));
    assert!(denied.stderr.contains("Error from server (Forbidden): denied by policy `read-only`"), "{}", denied.stderr);
    let impersonating = kubectl.run(&["get", "pods", "--as=admin"]).await;
    assert!(impersonating.stderr.contains("Forbidden"), "{}", impersonating.stderr);
}

/// What the gate hands on is, byte for byte, what the API server wrote: JSON, Protocol Buffers, compressed.
#[tokio::test]
async fn a_list_of_5000_is_identical_to_a_direct_one() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let through = gate.caller("jane").kubernetes("rig");
    let direct = direct(rig);
    let now = direct.get("/api/v1/namespaces/big/configmaps?limit=1").await.json();
    // The list as it was at one moment, since other tests write meanwhile.
    let version = now["metadata"]["resourceVersion"].as_str().unwrap();
    let list = format!("/api/v1/namespaces/big/configmaps?resourceVersionMatch=Exact&resourceVersion={version}");
    let protobuf = "application/vnd.kubernetes.protobuf";

    for (accept, encoding) in [("application/json", "identity"), ("application/json", "gzip"), (protobuf, "identity")] {
        let ask =
            |client: &Client| client.clone().with_header("accept", accept).with_header("accept-encoding", encoding);
        let (expected, got) = (ask(&direct).get(&list).await, ask(&through).get(&list).await);
        assert_eq!((got.status(), got.bytes().len()), (200, expected.bytes().len()), "{accept} {encoding}");
        assert!(got.bytes() == expected.bytes(), "{accept} {encoding}: the bytes differ");
        for header in ["content-type", "content-encoding"] {
            assert_eq!(got.header(header), expected.header(header));
        }
        if (accept, encoding) == ("application/json", "identity") {
            assert!(got.json()["items"].as_array().unwrap().len() >= BIG_COUNT);
        }
    }
}

/// The API server's own audit log names the service account for each request, whatever the caller tried to add.
#[tokio::test]
async fn the_audit_log_knows_only_the_strategy_s_identity() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let jane = gate.caller("jane").kubernetes("rig");

    for index in 0..20 {
        let call = jane.get(&format!("/api/v1/namespaces/dev/configmaps?limit=1&labelSelector=audited%3D{index}"));
        let spoofed = call.header("x-remote-user", "admin").header("x-remote-group", "system:masters");
        assert_eq!(spoofed.header("x-forwarded-user", "admin").await.status(), 200);
    }

    let events = until("the audit events", || async {
        let events = rig.audit_events("labelSelector=audited%3D");
        (events.len() >= 20).then_some(events)
    })
    .await;
    for event in events {
        assert_eq!(event["user"]["username"], "system:serviceaccount:kube-system:robot", "{event}");
        assert_eq!(event.get("impersonatedUser"), None, "{event}");
    }
}

#[tokio::test]
async fn a_token_that_the_api_server_refuses_is_its_401() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let wrong = witgate_tests::secrets::secret("token that the API server does not know");
    let cluster = rig.cluster_as("robot").service_account_token(&wrong);
    let gate = Gate::without_clusters().tls(&authority, None).cluster(cluster).start().await;

    let answer = gate.caller("jane").kubernetes("rig").get("/api/v1/namespaces").await;

    assert_eq!((answer.status(), answer.json()["reason"].as_str()), (401, Some("Unauthorized")));
}

/// The promise of the folder, with real traffic: kubectl deletes, a policy is copied in, kubectl is denied.
#[tokio::test]
async fn a_policy_dropped_in_denies_kubectl_delete_and_leaves_get() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).start().await;
    let kubectl = kubectl_or_skip!(gate, authority);
    let get = ["get", "configmap", "x", "-o", "name"];
    let delete = ["delete", "configmap", "--ignore-not-found", "dropped-in"];
    kubectl.succeed(&delete).await;

    gate.plugins().put(&Plugin::policy("read-only"));
    gate.status_when("the policy is loaded", |status| has_plugin(status, "read-only")).await;
    let denied = kubectl.run(&["delete", "configmap", "x"]).await;
    assert!(denied.stderr.contains("read-only"), "{}", denied.stderr);
    kubectl.succeed(&get).await;

    gate.plugins().remove("read-only");
    gate.status_when("the policy is gone", |status| !has_plugin(status, "read-only")).await;
    kubectl.succeed(&delete).await;
    kubectl.succeed(&get).await;
}

/// What a policy has to tell the caller, kubectl prints, whether the verdict is yes or no.
#[tokio::test]
async fn kubectl_prints_a_policys_warnings() {
    let rig = rig_or_skip!();
    let authority = Authority::new("gate");
    let gate = gate(rig, &authority).plugin(Plugin::fixture("warns")).start().await;
    let kubectl = kubectl_or_skip!(gate, authority);

    let pods = kubectl.run(&["get", "pods", "-n", "dev"]).await;
    let closed = kubectl.run(&["get", "pods", "-n", "closed"]).await;

    assert_eq!(pods.code, Some(0), "{}", pods.stderr);
    assert!(pods.stderr.contains(r#"Warning: namespace "dev" moves  X-Forged: on 1 May"#), "{}", pods.stderr);
    assert_eq!(closed.code, Some(1));
    assert!(closed.stderr.contains(r#"Warning: namespace "closed" moves  X-Forged: on 1 May"#), "{}", closed.stderr);
}

fn has_plugin(status: &Value, name: &str) -> bool {
    status["plugins"].as_array().unwrap().iter().any(|plugin| plugin["name"] == name)
}

/// A gate in front of the rig, which it asks as the service account `robot`; kubectl sends tokens only over TLS.
fn gate(rig: &KubeRig, authority: &Authority) -> GateBuilder {
    Gate::without_clusters().tls(authority, None).cluster(rig.cluster_as("robot"))
}

fn kubectl(gate: &Gate, authority: &Authority) -> Result<Kubectl, &'static str> {
    let url = format!("https://{}/k8s/clusters/rig", gate.address());
    Kubectl::new(&url, &authority.pem(), gate.token_of("jane"))
}

/// A client of the API server itself, with the same credential.
fn direct(rig: &KubeRig) -> Client {
    let address = rig.url().strip_prefix("https://").unwrap().parse().unwrap();
    let tls = client_tls_trusting_pem(&rig.certificate_authority(), &["http/1.1"]);
    Client::new(address, Some(tls)).with_token(rig.token_of("robot"))
}
