//! The decision log: one line a decision, a second one when a stream ends, never a credential.

use insta::assert_snapshot;
use serde_json::{Value, json};
use witgate_tests::api_server::{ApiServer, Reply};
use witgate_tests::gate::Gate;
use witgate_tests::waiting::until;

/// All keys, in the order that tools rely on.
const KEYS: &str = "id time user groups permission cluster verb apiGroup apiVersion namespace resource subresource \
    name subpath fieldSelector labelSelector method path actionClass upgrade decision reason policy digest generation \
    policyUs strategy credential cacheHit strategyUs status bytes durationMs closeReason";

#[tokio::test]
async fn an_allowed_request_is_one_line() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let path = "/apis/apps/v1/namespaces/dev/deployments?labelSelector=app%3Dx&fieldSelector=metadata.namespace%3Ddev";
    let answer = gate.client_as("jane").get(path).await;

    let line = gate.decision_of(&answer).await;
    check_keys(&line);
    assert_snapshot!(stable(&line), @r#"{"id":"…","time":"…","user":"user:default/jane","groups":["group:default/developers"],"permission":"kubernetes.proxy","cluster":"one","verb":"list","apiGroup":"apps","apiVersion":"v1","namespace":"dev","resource":"deployments","fieldSelector":"metadata.namespace=dev","labelSelector":"app=x","method":"GET","path":"/apis/apps/v1/namespaces/dev/deployments","actionClass":"read","decision":"allow","policy":"allow-all","digest":"…","generation":1,"policyUs":"…","strategy":"serviceAccount","credential":"bearer token","cacheHit":false,"strategyUs":"…","status":200,"bytes":61,"durationMs":"…"}"#);
}

#[tokio::test]
async fn a_denied_request_is_one_line_with_the_reason() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;

    let answer = gate.client_as("jane").delete("/api/v1/namespaces/dev/pods/p").await;

    let line = gate.decision_of(&answer).await;
    check_keys(&line);
    assert_snapshot!(stable(&line), @r#"{"id":"…","time":"…","user":"user:default/jane","groups":["group:default/developers"],"permission":"kubernetes.proxy","cluster":"one","verb":"delete","apiVersion":"v1","namespace":"dev","resource":"pods","name":"p","method":"DELETE","path":"/api/v1/namespaces/dev/pods/p","actionClass":"delete","decision":"deny","reason":"denied by policy `read-only`: read-only: `delete` is more than reading","policy":"read-only","digest":"…","generation":1,"policyUs":"…","status":403,"durationMs":"…"}"#);
}

#[tokio::test]
async fn a_caller_who_is_not_known_is_a_line_too() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;

    let answer = gate.client().backstage("one").get("/version").await;

    let line = gate.decision_of(&answer).await;
    check_keys(&line);
    assert_eq!((&line["decision"], &line["status"], line.get("user")), (&json!("deny"), &json!(401), None));
}

#[tokio::test]
async fn a_stream_is_a_line_when_it_starts_and_one_when_it_ends() {
    let (reply, writer) = Reply::streamed();
    let api_server = ApiServer::replying([reply]).start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");
    let mut watch = jane.get("/api/v1/namespaces/dev/pods?watch=1").open().await;
    let id = watch.header("witgate-decision-id").unwrap().to_owned();
    let started = gate.decisions_of(&id, 1).await;
    let [start] = started.as_slice() else { panic!("{started:?}") };
    assert_eq!((start.get("closeReason"), &start["verb"]), (None, &json!("watch")));

    writer.write("0123456789").await;
    watch.next_piece().await.unwrap().unwrap();
    drop(writer);
    assert!(watch.next_piece().await.is_none());

    let both = gate.decisions_of(&id, 2).await;
    let end = both.last().unwrap();
    check_keys(end);
    assert_eq!(end["bytes"], 10, "{end}");
    assert!(end["closeReason"].is_string(), "{end}");
    assert!(end["durationMs"].is_number(), "{end}");
}

#[tokio::test]
async fn each_request_has_one_line_and_an_id_of_its_own() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let jane = gate.client_as("jane");

    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let answer = jane.get("/version").await;
        ids.insert(answer.decision_id().to_owned());
        gate.decision_of(&answer).await;
    }

    assert_eq!(ids.len(), 20);
    assert_eq!(gate.decisions().len(), 20);
}

#[tokio::test]
async fn the_log_may_be_a_file() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("decisionLog", json!({ "file": "decisions.jsonl" })).start().await;

    let answer = gate.client_as("jane").get("/version").await;

    let file = gate.folder().join("decisions.jsonl");
    let line = until("the line in the file", || async {
        std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
    });
    let line: Value = serde_json::from_str(&line.await).unwrap();
    assert_eq!(line["id"], answer.decision_id());
    witgate_tests::secrets::assert_none_in("the decision log's file", &line.to_string());
    assert_eq!(gate.decisions(), Vec::<Value>::new());
}

/// Every key is one of `KEYS`, and they come in that order.
#[track_caller]
fn check_keys(line: &Value) {
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let ordered: Vec<_> = KEYS.split(' ').filter(|key| keys.contains(key)).collect();
    assert_eq!(keys, ordered);
}

/// The line without what differs from run to run.
fn stable(line: &Value) -> String {
    let mut line = line.clone();
    for varying in ["id", "time", "digest", "policyUs", "strategyUs", "durationMs"] {
        if let Some(value) = line.get_mut(varying) {
            *value = "…".into();
        }
    }
    line.to_string()
}
