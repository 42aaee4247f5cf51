//! A client of another make than kubectl, through the gate: kube-rs.
//!
//! Where the rig is not on the machine, these tests say so and pass.

use futures_util::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{AttachParams, DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::WatchEvent;
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use witgate_tests::authority::Authority;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig;
use witgate_tests::waiting::soon;

/// A client of a gate before the rig, or the end of the test.
macro_rules! client_or_skip {
    () => {
        match client().await {
            Ok(started) => started,
            Err(why) => return println!("skipped: {why}"),
        }
    };
}

#[tokio::test]
async fn kube_rs_lists_gets_creates_patches_watches_and_deletes() {
    let (_gate, client) = client_or_skip!();
    let pods: Api<Pod> = Api::namespaced(client.clone(), "dev");
    let running = soon("a list", pods.list(&ListParams::default().labels("app=run"))).await.unwrap();
    assert_eq!(running.items.len(), 4);
    let missing = soon("an error", pods.get("none")).await.unwrap_err();
    assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{missing:?}");

    let configmaps: Api<ConfigMap> = Api::namespaced(client, "default");
    let name = "written-by-kube-rs";
    let labelled = json!({ "metadata": { "name": name, "labels": { "by": "kube-rs" } }, "data": { "text": "first" } });
    let now = configmaps.list(&ListParams::default().limit(1)).await.unwrap();
    let version = now.metadata.resource_version.expect("a list has one");
    let watch = configmaps.watch(&WatchParams::default().labels("by=kube-rs"), &version).await.unwrap();

    let created = configmaps.create(&PostParams::default(), &serde_json::from_value(labelled).unwrap()).await.unwrap();
    assert_eq!(created.metadata.name.as_deref(), Some(name));
    let second = Patch::Merge(json!({ "data": { "text": "second" } }));
    configmaps.patch(name, &PatchParams::default(), &second).await.unwrap();
    let applied = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "text": "third" },
    });
    let third = PatchParams::apply("kube-rs").force();
    configmaps.patch(name, &third, &Patch::Apply(applied)).await.unwrap();
    assert_eq!(text_of(&configmaps.get(name).await.unwrap()), "third");
    configmaps.delete(name, &DeleteParams::default()).await.unwrap();

    let seen = soon("four events", watch.take(4).map_ok(told).try_collect::<Vec<_>>()).await.unwrap();
    assert_eq!(seen, ["added first", "modified second", "modified third", "deleted third"]);
}

#[tokio::test]
async fn kube_rs_follows_logs() {
    let (_gate, client) = client_or_skip!();
    let pods: Api<Pod> = Api::namespaced(client, "dev");
    let follow = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };

    let lines = pods.log_stream("run-1", &follow).await.unwrap().lines();

    let lines = soon("lines", lines.take(4).try_collect::<Vec<_>>()).await.unwrap();
    assert_eq!(lines, [19, 20, 21, 22].map(|number| format!("dev/run-1/main line {number}")));
}

#[tokio::test]
async fn kube_rs_executes_by_websocket() {
    let (_gate, client) = client_or_skip!();
    let pods: Api<Pod> = Api::namespaced(client, "dev");

    let mut process = pods.exec("run-1", ["echo", "from", "kube-rs"], &AttachParams::default()).await.unwrap();
    let mut output = String::new();
    soon("the output", process.stdout().unwrap().read_to_string(&mut output)).await.unwrap();
    let status = soon("the status", process.take_status().unwrap()).await.expect("the container tells it");
    assert_eq!((output.as_str(), status.status.as_deref()), ("from kube-rs\n", Some("Success")));

    let interactive = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("run-1", ["cat"], &interactive).await.unwrap();
    let (mut input, mut output) = (process.stdin().unwrap(), process.stdout().unwrap());
    let block = "0123456789abcdef".repeat(4096);
    let mut back = vec![0; block.len()];
    let (written, read) =
        soon("the echo", async { tokio::join!(input.write_all(block.as_bytes()), output.read_exact(&mut back)) }).await;
    written.unwrap();
    read.unwrap();
    assert!(back == block.as_bytes(), "other bytes came back");

    let failing = AttachParams::default().stderr(false);
    let mut process = pods.exec("run-1", ["exit", "7"], &failing).await.unwrap();
    let status = soon("the status", process.take_status().unwrap()).await.expect("the container tells it");
    assert_eq!((status.status.as_deref(), status.reason.as_deref()), (Some("Failure"), Some("NonZeroExitCode")));
}

/// What a watch told.
fn told(event: WatchEvent<ConfigMap>) -> String {
    match event {
        WatchEvent::Added(object) => format!("added {}", text_of(&object)),
        WatchEvent::Modified(object) => format!("modified {}", text_of(&object)),
        WatchEvent::Deleted(object) => format!("deleted {}", text_of(&object)),
        other => format!("{other:?}"),
    }
}

fn text_of(configmap: &ConfigMap) -> &str {
    configmap.data.as_ref().and_then(|data| data.get("text")).map_or("", String::as_str)
}

/// A gate before the rig, and kube-rs as jane, configured as any Kubernetes client is.
async fn client() -> Result<(Gate, Client), &'static str> {
    let rig = kube_rig::shared()?;
    let authority = Authority::new("gate");
    let gate = Gate::without_clusters().tls(&authority, None).cluster(rig.cluster_as("robot")).start().await;
    let certificates = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(authority.pem())
    };
    let server = format!("https://{}/k8s/clusters/rig", gate.address());
    let kubeconfig: Value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "gate",
        "clusters": [{ "name": "gate", "cluster": { "server": server, "certificate-authority-data": certificates } }],
        "users": [{ "name": "jane", "user": { "token": gate.token_of("jane") } }],
        "contexts": [{ "name": "gate", "context": { "cluster": "gate", "user": "jane" } }],
    });
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Ok((gate, Client::try_from(config).unwrap()))
}
