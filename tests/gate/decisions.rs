//! Decisions as operators read them: the last ones, the live ones, masked ones; and what happens when none can be written.

use serde_json::{Value, json};
use witgate_tests::api_server::ApiServer;
use witgate_tests::gate::Gate;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

const POD: &str = "/api/v1/namespaces/dev/pods/web-1";

#[tokio::test]
async fn the_last_decisions_are_told_as_they_stand_in_the_log() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).policy("read-only").start().await;
    let mut ids = Vec::new();
    for (name, method) in [("jane", "GET"), ("john", "GET"), ("jane", "DELETE")] {
        ids.push(gate.client_as(name).call(method, POD).await.decision_id().to_owned());
    }
    let log = until("all lines", || async { Some(gate.decisions()).filter(|lines| lines.len() == 3) }).await;

    assert_eq!(gate.recent_decisions("").await, log);
    for (query, picked) in [
        ("user=user%3Adefault%2Fjane", &[0, 2][..]),
        ("decision=deny", &[2]),
        ("verb=get&user=user:default/john", &[1]),
        ("policy=read-only", &[2]),
        ("cluster=one&limit=2", &[1, 2]),
        ("cluster=two", &[]),
        ("since=2999-01-01T00:00:00Z", &[]),
        (&format!("id={}", ids[1]), &[1]),
    ] {
        let expected: Vec<_> = picked.iter().map(|index| log[*index].clone()).collect();
        assert_eq!(gate.recent_decisions(query).await, expected, "{query}");
    }
    assert_eq!(gate.admin().get("/decisions?usr=jane").await.status(), 400);
}

#[tokio::test]
async fn decisions_are_followed_as_they_come() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let before = gate.client_as("jane").get(POD).await;
    let admin = gate.admin().with_header("accept", "text/event-stream");
    let mut events = admin.get("/decisions?user=user:default/jane&limit=1").open().await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));

    let after = gate.client_as("jane").get(POD).await;
    gate.client_as("john").get(POD).await;
    let last = gate.client_as("jane").get(POD).await;

    let mut told = String::new();
    while told.matches("event: decision").count() < 3 {
        told += &events.next_piece().await.unwrap().unwrap();
    }
    let lines: Vec<Value> =
        told.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let ids: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [before.decision_id(), after.decision_id(), last.decision_id()]);
    witgate_tests::secrets::assert_none_in("/decisions", &told);
}

/// Followers are bounded; one who leaves makes room.
#[tokio::test]
async fn there_are_as_many_followers_as_may_be() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).start().await;
    let mut following = Vec::new();
    for _ in 0..16 {
        let admin = gate.admin();
        let events = admin.get("/decisions?follow").open().await;
        following.push((events, admin));
    }
    assert!(following.iter().all(|(events, _)| events.status() == 200));
    assert_eq!(gate.admin().get("/decisions?follow").await.status(), 503);
    assert_eq!(gate.admin().get("/decisions").await.status(), 200);

    following.pop();

    until("there is room again", || async {
        (gate.admin().get("/decisions?follow").open().await.status() == 200).then_some(())
    })
    .await;
}

/// What is masked is masked wherever a record repeats it, in the log and for those who look at it.
#[tokio::test]
async fn masked_fields_are_hashed_or_removed() {
    let api_server = ApiServer::start().await;
    let log = json!({
        "file": "-",
        "mask": { "user": "hash", "groups": "remove", "name": "hash" },
        "maskKey": secret("the key of hashes"),
    });
    let gate = Gate::builder(&api_server).set("decisionLog", log).start().await;

    let first = gate.decision_of(&gate.client_as("jane").get(POD).await).await;
    let second = gate.decision_of(&gate.client_as("jane").get(POD).await).await;
    let other = gate.decision_of(&gate.client_as("john").get(&format!("{POD}?watch=0")).await).await;

    for line in [&first, &second, &other] {
        let text = line.to_string();
        assert!(!text.contains("jane") && !text.contains("john") && !text.contains("web-1"), "{text}");
        assert_eq!(line.get("groups"), None, "{text}");
        assert_eq!((&line["namespace"], &line["resource"]), (&json!("dev"), &json!("pods")), "{text}");
    }
    assert_eq!((&first["user"], &first["name"]), (&second["user"], &second["name"]));
    assert_ne!(first["user"], other["user"]);
    let name = first["name"].as_str().unwrap();
    assert!(name.starts_with('#') && name.len() == 17, "{name}");
    assert_eq!(first["path"], format!("/api/v1/namespaces/dev/pods/{name}"));
    assert_eq!(gate.recent_decisions("").await, [first, second, other]);
}

/// `onFull: deny`: a request whose record cannot be written is refused, and reaches nobody.
#[tokio::test]
async fn no_request_goes_on_without_its_record_where_it_must_not() {
    let api_server = ApiServer::start().await;
    let log = json!({ "file": "/dev/full", "onFull": "deny", "queueLines": 3 });
    let gate = Gate::builder(&api_server).set("decisionLog", log).start().await;
    let jane = gate.client_as("jane");

    let mut served = 0;
    let refused = until("the log is full", || {
        served += 1;
        let jane = jane.clone();
        async move {
            let answer = jane.get(POD).await;
            (answer.status() != 200).then_some(answer)
        }
    });
    let refused = refused.await;

    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")), "{}", refused.summary());
    assert_eq!(refused.message(), "the decision cannot be recorded just now");
    assert_eq!(api_server.requests().len(), served - 1, "the refused one reaches nobody");
    let ready = gate.admin().get("/readyz").await;
    assert_eq!(ready.summary(), "503 not ready: the decision log is full, and no request goes without it\n");
    let metrics = gate.metrics().await;
    assert_eq!(metrics.sum("witgate_requests_total", &[("code", "503")]), 1);
    assert_eq!(metrics.sum("witgate_decision_log_waiting_lines", &[]), 3);
    assert_eq!(metrics.sum("witgate_decision_log_dropped_lines_total", &[]), 1, "that of the refusal itself");
}

/// The default: lines that find no room are dropped, counted and said; requests go on.
#[tokio::test]
async fn a_full_log_drops_lines_and_says_so() {
    let api_server = ApiServer::start().await;
    let log = json!({ "file": "/dev/full", "queueLines": 3 });
    let gate = Gate::builder(&api_server).set("decisionLog", log).start().await;
    let jane = gate.client_as("jane");

    let dropped = until("lines are dropped", || async {
        assert_eq!(jane.get(POD).await.status(), 200);
        Some(gate.metrics().await.sum("witgate_decision_log_dropped_lines_total", &[])).filter(|dropped| *dropped > 0)
    });

    assert!(dropped.await > 0);
    gate.log_line_with("decision log is behind: lines dropped").await;
    assert_eq!(gate.admin().get("/readyz").await.status(), 200);
}

/// What `logrotate` does: rename, then SIGHUP. Nothing is lost, and the old file gets nothing more.
#[tokio::test]
async fn a_log_that_was_rotated_is_opened_anew() {
    let api_server = ApiServer::start().await;
    let gate = Gate::builder(&api_server).set("decisionLog", json!({ "file": "decisions.jsonl" })).start().await;
    let (file, old) = (gate.folder().join("decisions.jsonl"), gate.folder().join("decisions.jsonl.1"));
    let lines = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default().lines().count();
    let jane = gate.client_as("jane");
    jane.get(POD).await;
    until("the first line", || async { (lines(&file) == 1).then_some(()) }).await;

    std::fs::rename(&file, &old).unwrap();
    gate.process().hang_up();
    until("the file is there again", || async { file.exists().then_some(()) }).await;
    jane.get(POD).await;
    until("the second line", || async { (lines(&file) == 1).then_some(()) }).await;
    assert_eq!(lines(&old), 1);

    std::fs::copy(&file, &old).unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_len(0).unwrap();
    jane.get(POD).await;
    let line =
        until("the third line", || async { std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')) });
    assert!(line.await.starts_with(r#"{"id":"#), "no hole where the old lines were");
}
