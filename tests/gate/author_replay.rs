//! `witgate plugin replay`: a log that the gate wrote, against candidates.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::author_desk::AuthorDesk;
use witgate_tests::gate::Gate;

/// What a gate with `allow-all` and `read-only` recorded.
async fn recorded(mask: Value) -> Vec<Value> {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only");
    let gate = gate.set("decisionLog", json!({ "file": "-", "mask": mask, "maskKey": "k" })).start().await;
    let jane = gate.client_as("jane");
    for path in ["/api/v1/namespaces/dev/pods", "/api/v1/namespaces/team-a/pods", "/version"] {
        assert_eq!(jane.get(path).await.status(), 200);
    }
    let denied = jane.delete("/api/v1/namespaces/dev/pods/web").await;
    assert_eq!(denied.status(), 403);
    let stranger = gate.client().backstage("one").get("/version").await;
    gate.decision_of(&denied).await;
    gate.decision_of(&stranger).await;
    gate.decisions()
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[tokio::test]
async fn the_same_policies_change_nothing() {
    let log = text(&recorded(json!({})).await);
    let desk = AuthorDesk::new().guest("policies/read-only").guest("policies/allow-all").file("log.jsonl", &log);

    let ended = desk.plugin(&["replay", "--log", "log.jsonl", "--candidate", "."]).await;

    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("5 lines: 4 asked again, 1 passed over"), "{}", ended.stdout);
    assert!(ended.stdout.contains("1  passed over: refused before any policy was asked"), "{}", ended.stdout);
    assert!(ended.stdout.contains("No decision would change."), "{}", ended.stdout);
}

/// Goal: a planted change is found and explained, both ways, by groups with counts. Method: other candidates, from standard input too.
#[tokio::test]
async fn a_planted_change_is_found_and_explained() {
    let lines = recorded(json!({})).await;
    let deletion = lines.iter().find(|line| line["verb"] == "delete").unwrap();
    let desk = AuthorDesk::new().guest("policies/allow-all").guest("policies/deny-proxy");

    let ended = desk.plugin_with_input(&["replay", "--log", "-", "--candidate", "allow-all.wasm"], &text(&lines)).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for expected in [
        "1 decisions would change, in 1 groups:",
        "1  deny → allow   delete pods in `dev` of cluster `one`, for group:default/developers",
        "was: denied by policy `read-only`: read-only: `delete` is more than reading",
        "now: allowed by policy `allow-all`",
        &format!("such as {} (`user:default/jane`)", deletion["id"].as_str().unwrap()),
    ] {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }

    let words = ["replay", "--log", "-", "--candidate", "deny-proxy.wasm", "--json"];
    let ended = desk.plugin_with_input(&words, &text(&lines)).await;
    assert_eq!(ended.code, Some(1));
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&found["replayed"], &found["changed"]), (&json!(4), &json!(3)));
    let groups = found["groups"].as_array().unwrap();
    assert!(groups.iter().all(|group| group["old"] == "allow" && group["new"] == "deny"), "{groups:?}");
    assert_eq!(groups.iter().map(|group| group["count"].as_u64().unwrap()).sum::<u64>(), 3);
}

#[tokio::test]
async fn masked_values_are_not_mistaken_for_values() {
    let log = text(&recorded(json!({ "user": "hash" })).await);
    let desk = AuthorDesk::new().guest("policies/allow-all").file("log.jsonl", &log);
    let words = ["replay", "--log", "log.jsonl", "--candidate", "allow-all.wasm"];
    let skipped = desk.plugin(&words).await;
    assert_eq!(skipped.code, Some(1));
    assert!(
        skipped.stdout.contains("4  passed over: masked in the log, so that a policy would see the mask: user"),
        "{}",
        skipped.stdout
    );
    assert!(skipped.stderr.contains("holds no decision that could be asked for again"), "{}", skipped.stderr);

    let asked = desk.plugin(&[&words[..], &["--masked", "ask"]].concat()).await;
    assert!(asked.stdout.contains("5 lines: 4 asked again"), "{}", asked.stdout);
    assert!(asked.stdout.contains("1 decisions would change"), "{}", asked.stdout);
}

/// Goal: a long log is replayed by several threads, and nothing in it is lost or counted twice. Method: 3,000 lines with 30 that change, and
/// lines that are none.
#[tokio::test]
async fn a_long_log_is_counted_to_the_line() {
    let lines = recorded(json!({})).await;
    let reading = lines.iter().find(|line| line["verb"] == "list").unwrap();
    let mut log = String::new();
    for number in 0..3_000 {
        let mut line = reading.clone();
        line["id"] = json!(format!("id-{number:05}"));
        if number % 100 == 0 {
            line["verb"] = json!("delete");
            line["actionClass"] = json!("delete");
        }
        log.push_str(&format!("{line}\n"));
    }
    log.push_str("not json\n\n{\"id\":\"cut");
    let desk = AuthorDesk::new().guest("policies/read-only").guest("policies/allow-all").file("log.jsonl", &log);
    let words = ["replay", "--log", "log.jsonl", "--candidate", ".", "--threads", "3", "--json"];
    let ended = desk.plugin(&words).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let found: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&found["replayed"], &found["changed"]), (&json!(3_000), &json!(30)));
    assert_eq!(found["skipped"], json!([{ "why": "not a line of a decision log", "count": 2, "firstLine": 3001 }]));
    assert_eq!(found["groups"][0]["exampleId"], "id-00000");
}
