//! `witgate plugin inspect`: what a component is, and the gate's own judgement.

use serde_json::{Value, json};
use witgate_tests::author_desk::AuthorDesk;

#[tokio::test]
async fn a_good_policy_is_described_and_taken() {
    let desk = AuthorDesk::new().guest("policies/read-only");

    let ended = desk.plugin(&["inspect", "read-only.wasm"]).await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for expected in [
        "kind       policy, auth@0.1.0",
        "sidecar    none: the defaults hold",
        "isolation  fresh",
        "limits     deadlineMs 50, memoryMiB 64,",
        "start      snapshot",
        "imports    witgate:auth/log@0.1.0                     the contract's",
        "dry run    instantiated in ",
        "The gate would take it.",
    ] {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }
}

#[tokio::test]
async fn a_sidecar_changes_what_is_said() {
    let sidecar = json!({ "mode": "shadow", "isolation": "reused", "limits": { "memoryMiB": 7 } });
    let desk = AuthorDesk::new().guest("policies/read-only").sidecar("read-only", &sidecar);

    let inspection = json_of(&desk, "read-only.wasm", 0).await;

    assert_eq!(inspection["mode"], "shadow");
    assert_eq!(inspection["isolation"], "reused");
    assert_eq!(inspection["limits"]["memoryMiB"], 7);
    assert_eq!(inspection["accepted"], true);
}

/// Goal: what is refused is refused in the gate's words, and described all the same. Method: a strategy without, then with its grant.
#[tokio::test]
async fn an_import_without_a_grant_is_named() {
    let desk = AuthorDesk::new().guest("fixtures/fetch");
    let ended = desk.plugin(&["inspect", "fetch.wasm"]).await;
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr.trim(),
        "error: fetch.wasm: plug-in `fetch` imports `wasi:http/types@0.2.12`, `wasi:http/outgoing-handler@0.2.12`, \
         which its sidecar does not grant"
    );
    assert!(ended.stdout.contains("wasi:http/outgoing-handler@0.2.12          NOT GRANTED"), "{}", ended.stdout);
    assert!(ended.stdout.trim_end().ends_with("The gate would refuse it."), "{}", ended.stdout);

    let desk = desk.sidecar("fetch", &json!({ "outboundHosts": ["https://sts.example"] }));
    let inspection = json_of(&desk, "fetch.wasm", 0).await;
    let imports = inspection["imports"].as_array().unwrap();
    let http = imports.iter().find(|import| import["name"] == "wasi:http/outgoing-handler@0.2.12").unwrap();
    assert_eq!(http["grant"], "outbound-http");
}

#[tokio::test]
async fn what_the_gate_refuses_is_exit_code_1() {
    let desk =
        AuthorDesk::new().guest("fixtures/configure-fails").file("text.wasm", "not wasm").file("x.yaml", "mod: x");
    let refusal = async |file: &str| {
        let ended = desk.plugin(&["inspect", file]).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stdout);
        ended.stderr
    };
    assert!(refusal("configure-fails.wasm").await.contains("refuses its settings: colour: `mauve` is not a colour"));
    assert!(refusal("text.wasm").await.contains("is not WebAssembly: its first bytes are"));
    assert!(refusal("absent.wasm").await.contains("absent.wasm cannot be read"));
    assert!(refusal("x.yaml").await.contains("its name must end with `.wasm`"));
    assert_eq!(desk.plugin(&["inspect"]).await.code, Some(2));
}

async fn json_of(desk: &AuthorDesk, file: &str, code: i32) -> Value {
    let ended = desk.plugin(&["inspect", file, "--json"]).await;
    assert_eq!(ended.code, Some(code), "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
