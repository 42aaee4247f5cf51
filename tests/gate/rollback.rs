//! Reloads and rollbacks that an operator asks for, and what `/status` tells of them.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::plugin_folder::Plugin;

const POD: &str = "/api/v1/namespaces/dev/pods/p";

/// A rollback is at once and without loading; the folder counts again when it changes, or when somebody says so.
#[tokio::test]
async fn a_rollback_undoes_a_bad_policy() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    gate.plugins().put_whole(&Plugin::policy("deny-proxy"));
    assert_eq!(post(&gate, "/reload", "").await, (200, json!({ "generation": 2 })));
    assert_eq!(jane.get(POD).await.status(), 403);
    let before = gate.status().await;

    assert_eq!(post(&gate, "/rollback", "").await, (200, json!({ "generation": 3 })));

    let answer = jane.get(POD).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(gate.decision_of(&answer).await["generation"], 3);
    let status = gate.status().await;
    assert_eq!(status["pinned"]["contentOf"], 1);
    assert_eq!(status["keptGenerations"], json!([2]));
    assert_eq!(status["compilations"], before["compilations"], "nothing is loaded");
    let record = status["reloads"].as_array().unwrap().last().unwrap();
    assert_eq!((&record["cause"], &record["result"]), (&json!("rollback"), &json!("published")));

    let metrics = gate.metrics().await;
    assert_eq!(metrics.by("witgate_reloads_total", &["cause", "result"])["rollback published"], 1);
    assert_eq!(metrics.sum("witgate_plugins_pinned", &[]), 1);

    // Looking at the folder again, however often, does not undo it.
    std::fs::write(gate.plugins().path().join("README.md"), "x").unwrap();
    std::fs::write(gate.plugins().path().join("deny-proxy.wasm"), Plugin::policy("deny-proxy").component()).unwrap();
    gate.log_line_with("rolled back: pinned").await;
    assert_eq!(jane.get(POD).await.status(), 200);

    assert_eq!(post(&gate, "/rollback", r#"{"generation":2}"#).await, (200, json!({ "generation": 4 })));
    assert_eq!(jane.get(POD).await.status(), 403);
    assert_eq!(gate.status().await["pinned"], Value::Null, "the folder holds just that");
    assert_eq!(post(&gate, "/rollback", r#"{"generation":3}"#).await, (200, json!({ "generation": 5 })));
    assert_eq!(post(&gate, "/reload", "").await, (200, json!({ "generation": 6 })));
    assert_eq!(jane.get(POD).await.status(), 403);
}

/// What cannot be done is refused, each with its own status, and changes nothing.
#[tokio::test]
async fn what_cannot_be_done_is_refused() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    gate.plugins().put(&Plugin::of_bytes("bad", b"garbage"));

    let check = async |path: &str, body: &str, status: u16, error: &str| {
        let (got, answer) = post(&gate, path, body).await;
        let text = answer["error"].as_str().unwrap_or_default().to_owned();
        assert!(got == status && text.contains(error), "{path} {body}: {got} {answer}");
    };
    check("/reload", "", 409, "bad.wasm").await;
    assert_eq!(gate.metrics().await.sum("witgate_plugins_refused", &[]), 1);
    check("/rollback", "", 404, "a generation before the one that serves is not kept; kept are none").await;
    check("/rollback", r#"{"generation":7}"#, 404, "generation 7 is not kept").await;
    check("/rollback", r#"{"generation":-1}"#, 400, "the body is not understood").await;
    check("/rollback", r#"{"generations":1}"#, 400, "unknown field `generations`").await;
    check("/rollback", "1", 400, "the body is not understood").await;
    check("/rollback", &" ".repeat(5000), 400, "has more than 4096 bytes").await;
    assert_eq!(post(&gate, "/rollback", r#"{"generation":1}"#).await.0, 200, "it serves");

    for path in ["/reload", "/rollback"] {
        let answer = gate.admin().get(path).await;
        assert_eq!((answer.status(), answer.header("allow")), (405, Some("POST")));
        let answer = gate.admin().post(path, "").header("origin", "http://evil.example").await;
        assert_eq!(answer.status(), 403, "a web page");
        assert_eq!(gate.caller("jane").post(path, "").await.status(), 404, "not on the data plane");
    }
    assert_eq!(gate.status().await["generation"], 1);
}

/// How many are kept is a setting, and none is one too.
#[tokio::test]
async fn as_many_generations_are_kept_as_the_configuration_says() {
    let api_server = ApiServer::start().await;
    for (kept, expected) in [(0, json!([])), (2, json!([3, 4]))] {
        let plugins = json!({ "directory": "policies", "keptGenerations": kept });
        let gate = Gate::builder(&api_server).set("plugins", plugins).start().await;
        for number in 0..4 {
            gate.plugins()
                .put_whole(&Plugin::policy("read-only").sidecar(json!({ "limits": { "deadlineMs": 2000 + number } })));
            assert_eq!(post(&gate, "/reload", "").await, (200, json!({ "generation": number + 2 })));
        }
        assert_eq!(gate.status().await["keptGenerations"], expected);
    }
}

/// What a sidecar says is not code, but for what the plug-in makes of its settings: whatever else changes, nothing is compiled.
#[tokio::test]
async fn a_sidecar_change_compiles_nothing() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("deny-proxy").start().await;
    // What an earlier run compiled would have been compiled here.
    let compiled = async || {
        let counts = gate.status().await["compilations"].clone();
        counts["compiled"].as_u64().unwrap() + counts["fromDisk"].as_u64().unwrap()
    };
    let at_start = compiled().await;
    assert!(at_start > 2, "{at_start}: the built-ins, and two policies");

    let sidecars =
        [json!({ "mode": "shadow" }), json!({ "limits": { "deadlineMs": 3000 } }), json!({ "selfTest": false })];
    for (index, sidecar) in sidecars.into_iter().enumerate() {
        gate.plugins().put_whole(&Plugin::policy("deny-proxy").sidecar(sidecar));
        assert_eq!(post(&gate, "/reload", "").await, (200, json!({ "generation": index + 2 })));
    }
    // Nor does a second plug-in of the same bytes, or one that comes back from what is kept.
    gate.plugins().put_whole(&Plugin::policy("deny-proxy").named("second"));
    gate.plugins().remove("deny-proxy");
    assert_eq!(post(&gate, "/reload", "").await.0, 200);
    gate.plugins().put_whole(&Plugin::policy("deny-proxy"));
    assert_eq!(post(&gate, "/reload", "").await.0, 200);
    assert_eq!(compiled().await, at_start);

    let tenants = async |group: &str| {
        let rule = json!({ "groups": [group], "clusters": ["*"], "namespaces": ["*"], "actions": ["*"] });
        let tenancy = Plugin::policy("namespace-tenancy").sidecar(json!({ "settings": { "tenants": [rule] } }));
        gate.plugins().put_whole(&tenancy);
        assert_eq!(post(&gate, "/reload", "").await.0, 200);
        compiled().await
    };
    let first = tenants("a").await;
    assert!(first > at_start, "other bytes are compiled");
    let second = tenants("b").await;
    assert!(second <= first + 1, "at most the snapshot of what it made of its settings");
    assert_eq!(tenants("a").await, second, "that is known");
}

async fn post(gate: &Gate, path: &str, body: &str) -> (u16, Value) {
    let answer = gate.admin().post(path, body.to_owned()).await;
    (answer.status(), answer.json())
}
