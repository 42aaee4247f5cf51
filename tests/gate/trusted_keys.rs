//! Signed plug-ins: with `plugins.trustedKeys`, what nobody trusted has signed takes no effect.

use std::fs;

use serde_json::json;
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::minisign::Signer;
use witgate_tests::plugin_folder::Plugin;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// Unsigned, wrongly signed and exchanged files are refused by name and reason, at a start and at a reload; the built-in
/// strategies need no signature.
#[tokio::test]
async fn only_signed_plugins_serve() {
    let api_server = ApiServer::start().await;
    let (ours, theirs) = (Signer::of_seed(1), Signer::of_seed(2));
    let plugins = json!({ "directory": "policies", "trustedKeys": [ours.public_key()] });
    let builder = || Gate::builder(&api_server).set("plugins", plugins.clone());

    let refused = builder().refused_start().await;
    assert_eq!(refused.code, Some(1));
    let text = "allow-all.wasm is not signed: `plugins.trustedKeys` is given, and there is no `allow-all.wasm.minisig`";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);

    let builder = builder();
    let folder = builder.folder().join("policies");
    let sign = |signer: &Signer, file: &str, name: &str| {
        let signature = signer.sign(name, &fs::read(folder.join(file)).unwrap());
        fs::write(folder.join(format!("{file}.minisig")), signature).unwrap();
    };
    sign(&ours, "allow-all.wasm", "allow-all.wasm");
    sign(&ours, "allow-all.yaml", "allow-all.yaml");
    let gate = builder.start().await;
    let jane = gate.client_as("jane");
    assert_eq!(jane.get(POD).await.status(), 200, "the built-in strategy serves");

    let refused = async |error: &str| {
        let answer = gate.admin().post("/reload", "").await;
        assert!(answer.status() == 409 && answer.body().contains(error), "{}", answer.summary());
        assert_eq!(jane.get(POD).await.status(), 200, "the last good generation serves");
    };
    gate.plugins().put_whole(&Plugin::policy("deny-proxy"));
    refused("deny-proxy.wasm is not signed").await;
    sign(&theirs, "deny-proxy.wasm", "deny-proxy.wasm");
    refused("deny-proxy.wasm is signed with a key that is not in `plugins.trustedKeys`").await;
    // Whoever can write to the folder, but not sign, takes another policy's file and signature.
    sign(&ours, "deny-proxy.wasm", "allow-all.wasm");
    refused("deny-proxy.wasm has a signature that is not for this name").await;
    sign(&ours, "deny-proxy.wasm", "deny-proxy.wasm");
    refused("deny-proxy.yaml is not signed").await;
    sign(&ours, "deny-proxy.yaml", "deny-proxy.yaml");

    let answer = gate.admin().post("/reload", "").await;
    assert_eq!(answer.status(), 200, "{}", answer.summary());
    assert_eq!(jane.get(POD).await.status(), 403);

    // The signed policy is switched off by an unsigned sidecar: no.
    fs::write(folder.join("deny-proxy.yaml"), "mode: shadow\n").unwrap();
    let answer = gate.admin().post("/reload", "").await;
    assert!(answer.body().contains("deny-proxy.yaml does not match its signature"), "{}", answer.summary());
    assert_eq!(jane.get(POD).await.status(), 403);
}
