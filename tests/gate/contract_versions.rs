//! Versions of the contract side by side: what was built for an old one goes on, what a new one brings arrives.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use witgate_tests::api_server::ApiServer;
use witgate_tests::artifacts::repository;
use witgate_tests::cluster::Cluster;
use witgate_tests::contract_page;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;

const PODS: &str = "/api/v1/namespaces/dev/pods";

/// Goal: components that were built for `auth@0.1.0`, byte for byte, load and answer. Method: one of each kind, kept in the
/// repository since that version was released.
#[tokio::test]
async fn components_of_the_first_version_still_serve() {
    let api_server = ApiServer::start().await;
    let token = secret("token that the client brings");
    let gate = Gate::builder(&api_server)
        .cluster(Cluster::at("two", &api_server, "golden"))
        .plugin(Plugin::of_bytes("read-only", &golden("read-only.wasm")).sidecar(json!({})))
        .plugin(Plugin::of_bytes("golden", &golden("google.wasm")).sidecar(json!({})))
        .start()
        .await;
    let jane = gate.caller("jane").backstage("two");

    let read = jane.get(PODS).header("backstage-kubernetes-authorization-google", &token).await;
    let without_token = jane.get(PODS).await;
    let deleted = jane.delete(&format!("{PODS}/p")).await;

    assert_eq!((read.status(), without_token.status(), deleted.status()), (200, 401, 403), "{}", read.body());
    assert_eq!(api_server.heard(), [format!("GET {PODS}")]);
    let status = gate.status().await;
    assert_eq!(
        (contract(&status, "read-only"), contract(&status, "golden")),
        (&json!("auth@0.1.0"), &json!("auth@0.1.0"))
    );
}

/// Goal: a released version never changes: not its words, not its golden components. Method: their digests, as recorded.
#[test]
fn a_released_version_never_changes() {
    check("wit/auth@0.1.0", "95330403cd4f17f7c55e9bb53b774be6d1095248594d3df3db28dfdb4d2ddc73");
    check("tests/golden/auth@0.1.0", "17a304b9f6e37f6e9da23e012bf7cfe8ec91d5ca84f6ea524eb54312307a5f54");
}

/// A released folder has this digest: of each file in order, its name, a line feed, its length, a line feed and its bytes.
#[track_caller]
fn check(folder: &str, expected: &str) {
    let mut files: Vec<PathBuf> =
        repository().join(folder).read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let name = file.file_name().and_then(|name| name.to_str()).unwrap();
        digest.update(format!("{name}\n{}\n", bytes.len()));
        digest.update(bytes);
    }
    let got: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(got, expected, "{folder} is released: make a new version instead of changing it");
}

/// Goal: warnings of a policy of `auth@0.2.0` reach the caller whatever the verdict is, on both routes, few, short and harmless;
/// those of a shadow policy do not. Method: one that warns, beside one of `auth@0.1.0`.
#[tokio::test]
async fn warnings_reach_the_caller() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).plugin(Plugin::fixture("warns")).start().await;
    assert_eq!(contract(&gate.status().await, "warns"), "auth@0.2.0");
    assert_eq!(contract(&gate.status().await, "allow-all"), "auth@0.1.0");
    let jane = gate.client_as("jane");

    for caller in [jane.clone(), gate.caller("jane").kubernetes("one")] {
        let allowed = caller.get(PODS).await;
        assert_eq!(allowed.status(), 200, "{}", allowed.body());
        assert_eq!(allowed.header("warning"), Some(r#"299 - "namespace \"dev\" moves  X-Forged: on 1 May""#));
        assert_eq!(allowed.header("x-forged"), None);
        let denied = caller.get("/api/v1/namespaces/closed/pods").await;
        assert_eq!(denied.status(), 403, "{}", denied.body());
        assert_eq!(denied.header("warning"), Some(r#"299 - "namespace \"closed\" moves  X-Forged: on 1 May""#));
    }
    let chatty = jane.get("/api/v1/namespaces/chatty/pods").await;
    assert_eq!(chatty.status(), 200, "{}", chatty.body());
    let warnings = chatty.headers_named("warning");
    assert_eq!(warnings.len(), 8);
    assert!(warnings.iter().all(|warning| warning.chars().count() <= 256 + r#"299 - """#.len()), "{warnings:?}");

    let shadow = Plugin::fixture("warns").sidecar(json!({ "mode": "shadow" }));
    let before = gate.status().await["generation"].clone();
    gate.plugins().put(&shadow);
    gate.status_when("it is a shadow", |status| status["generation"] != before).await;
    assert_eq!(jane.get(PODS).await.header("warning"), None);
}

fn golden(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(repository().join(Path::new("tests/golden/auth@0.1.0")).join(name)).unwrap();
    assert!(bytes.len() < 70 << 10, "{name} has {} bytes", bytes.len());
    bytes
}

fn contract<'a>(status: &'a Value, name: &str) -> &'a Value {
    &status["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name).unwrap()["contract"]
}

/// The page about the contract says what the contract says.
#[test]
fn the_contract_s_page_is_up_to_date() {
    let page = std::fs::read_to_string(contract_page::path()).unwrap_or_default();
    assert!(page == contract_page::text(), "docs/contract.md is stale: run `cargo xtask contract`");
}
