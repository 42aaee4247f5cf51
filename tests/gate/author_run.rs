//! `witgate plugin run`: one question, and the way to the answer.

use serde_json::{Value, json};
use witgate_tests::author_desk::AuthorDesk;

const READ: &str = "GET /api/v1/namespaces/dev/pods";

/// Goal: the whole way is shown: how the request is read, each condition, what the guest logs. Method: a guest that answers with conditions.
#[tokio::test]
async fn conditions_are_shown_with_their_outcomes() {
    let is = |rule: &str, param: &str, value: &str| json!({ "rule": rule, "params": { param: [value] } });
    let any_of = json!([
        [is("IS_CLUSTER", "clusters", "production"), is("IS_ACTION", "actions", "read")],
        [is("IS_NAMESPACE", "namespaces", "dev")],
    ]);
    let desk = AuthorDesk::new()
        .guest("fixtures/conditional")
        .sidecar("conditional", &json!({ "settings": { "anyOf": any_of } }));

    let ended = desk
        .plugin(&[
            "run",
            "conditional.wasm",
            "--user",
            "jane",
            "--group",
            "dev",
            "--cluster",
            "staging",
            "--request",
            READ,
        ])
        .await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let times = regex_free(&ended.stdout);
    insta::assert_snapshot!(times, @r"
    GET /api/v1/namespaces/dev/pods
      user       `jane` in dev
      permission kubernetes.proxy at 2026-01-01T00:00:00Z
      request    list pods (core/v1) in namespace `dev` of cluster `staging`; GET /api/v1/namespaces/dev/pods
      class      read
      policy `conditional`: conditional, which comes to allow, as its conditions hold (… µs)
        if all of these hold: false
          false IS_CLUSTER clusters=[production] (the request: staging)
          true  IS_ACTION actions=[read] (the request: read)
        or all of these hold: true
          true  IS_NAMESPACE namespaces=[dev] (the request: dev)
        log info: asked
    allow: policy `conditional` allows it, and none denies
    ");
}

#[tokio::test]
async fn several_policies_are_judged_by_the_rule() {
    let desk = AuthorDesk::new().guest("policies/read-only").guest("policies/allow-all");
    let question = ["--user", "jane", "--kubectl", "delete pod web -n dev"];
    let words = [&["run", "read-only.wasm", "allow-all.wasm", "--json"][..], &question].concat();
    let ended = desk.plugin(&words).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["decision"], "deny");
    assert_eq!(answer["reason"], "denied by policy `read-only`: read-only: `delete` is more than reading");
    assert_eq!(answer["policies"][0]["said"], "deny");
    assert_eq!(answer["policies"][1]["said"], "allow");
    assert_eq!(answer["request"]["actionClass"], "delete");

    // The same as a folder, in which the order is that of the names.
    let folder = desk.plugin(&[&["run", ".", "--json"][..], &question].concat()).await;
    let answer: Value = serde_json::from_str(&folder.stdout).unwrap();
    assert_eq!(answer["policies"][0]["policy"], "allow-all");
    assert_eq!(answer["decision"], "deny");
}

/// Goal: a question by flags, as JSON and as kubectl's words is one question. Method: each of them, and the same request.
#[tokio::test]
async fn a_question_is_put_in_each_way() {
    let desk = AuthorDesk::new().guest("policies/allow-all");
    let request = async |words: &[&str], input: &str| {
        let all = [&["run", "allow-all.wasm", "--json"][..], words].concat();
        let ended = desk.plugin_with_input(&all, input).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        serde_json::from_str::<Value>(&ended.stdout).unwrap()["request"].clone()
    };
    let by_flags = request(&["--user", "j", "--verb", "list", "--resource", "pods", "-n", "dev"], "").await;
    assert_eq!(by_flags["verb"], "list");
    assert_eq!(request(&["--user", "j", "--request", READ], "").await, by_flags);
    assert_eq!(request(&["--user", "j", "--kubectl", "get pods -n dev"], "").await, by_flags);
    let query = json!({ "user": "j", "kubectl": "get pods -n dev" }).to_string();
    assert_eq!(request(&["--query", "-"], &query).await, by_flags);
    assert_eq!(request(&["--query", "-", "--cluster", "other"], &query).await["cluster"], "other");
    let header = ["--user", "j", "--request", "GET /api/v1/namespaces/a/pods/b/exec", "--header", "Upgrade: websocket"];
    assert_eq!(request(&header, "").await["upgrade"], true);
}

#[tokio::test]
async fn no_answer_is_exit_code_1() {
    let desk = AuthorDesk::new().guest("fixtures/trap").sidecar("trap", &json!({ "selfTest": false }));
    let ended = desk.plugin(&["run", "trap.wasm", "--user", "j", "--request", READ]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("no answer (trapped), which denies"), "{}", ended.stdout);
    assert!(ended.stdout.contains("deny: policy `trap` gave no answer: trapped"), "{}", ended.stdout);
    let ended = desk.plugin(&["run", "trap.wasm", "--request", READ]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("`user` is missing"), "{}", ended.stderr);
}

/// Goal: a credential is described and never shown. Method: a token in a file, and all that is printed searched for it.
#[tokio::test]
async fn a_strategy_s_token_is_never_shown() {
    let token = witgate_tests::secrets::secret("a caller's token");
    let desk = AuthorDesk::new().guest("strategies/oidc").file("token.txt", &token);
    let metadata = "kubernetes.io/oidc-token-provider=okta";
    let words = ["run", "oidc.wasm", "--user", "jane", "--auth-metadata", metadata, "--token", "oidc-okta=token.txt"];

    let ended = desk.plugin(&words).await;

    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("credential  bearer token"), "{}", ended.stdout);
    assert!(ended.stdout.contains("impersonate nobody"), "{}", ended.stdout);
    let as_json = desk.plugin(&[&words[..], &["--json"]].concat()).await;
    for text in [&ended.stdout, &ended.stderr, &as_json.stdout, &as_json.stderr] {
        assert!(!text.contains(&token), "{text}");
    }
    let without = desk.plugin(words.get(..6).unwrap()).await;
    assert_eq!(without.code, Some(1), "{}", without.stdout);
    assert!(without.stderr.contains("the strategy refuses: "), "{}", without.stderr);
}

/// The text with `…` for each time that something took.
fn regex_free(text: &str) -> String {
    let lines = text.lines().map(|line| match (line.rfind('('), line.ends_with(" µs)")) {
        (Some(at), true) => format!("{}(… µs)", line.get(..at).unwrap()),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Goal: who asks to be somebody else gets the gate's further questions, in the gate's order, and the first refusal decides. Method: a
/// guest that lets users be impersonated and nothing else; `--as` by flags, in text and as JSON.
#[tokio::test]
async fn each_part_of_another_identity_is_asked_about() {
    let is = |rule: &str, param: &str, value: &str, negated: bool| json!({ "rule": rule, "params": { param: [value] }, "negated": negated });
    let any_of = json!([
        [is("IS_VERB", "verbs", "impersonate", true)],
        [is("IS_RESOURCE_TYPE", "resourceTypes", "users", false)],
    ]);
    let desk = AuthorDesk::new()
        .guest("fixtures/conditional")
        .sidecar("conditional", &json!({ "settings": { "anyOf": any_of } }));
    let question = ["run", "conditional.wasm", "--user", "jane", "--request", READ, "--as", "kim"];

    let ended = desk.plugin(&question).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for expected in
        ["\n  as         `kim`\n", "\n  may they be users `kim`? allow\n    policy `conditional`: conditional"]
    {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }
    assert!(ended.stdout.ends_with("allow: policy `conditional` allows it, and none denies"), "{}", ended.stdout);

    let groups = ["--as-group", "ops", "--as-group", "dev", "--as-uid", "7", "--as-extra", "team=x"];
    let ended = desk.plugin(&[&question[..], &groups].concat()).await;
    assert!(
        ended.stdout.contains("\n  as         `kim` in ops, dev, uid 7, extra {\"team\": [\"x\"]}\n"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("\n  may they be groups `ops`? deny: no policy allows this request\n"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("groups `dev`?"), "the first refusal ends it: {}", ended.stdout);
    assert!(ended.stdout.ends_with("\ndeny: no policy allows this request"), "{}", ended.stdout);

    let ended = desk.plugin(&[&question[..], &groups, &["--json"]].concat()).await;
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["as"]["groups"], json!(["ops", "dev"]));
    assert_eq!((&answer["decision"], &answer["reason"]), (&json!("deny"), &json!("no policy allows this request")));
    let asked: Vec<_> =
        answer["identities"].as_array().unwrap().iter().map(|identity| &identity["request"]["resource"]).collect();
    assert_eq!(asked, ["users", "groups"]);

    for (words, expected) in [
        (&["--as-group", "ops"][..], "--as <NAME>"),
        (&["--as", "kim", "--header", "Impersonate-User: kim"], "`headers` has `Impersonate-User`: write `as: "),
    ] {
        let ended = desk.plugin(&[&question[..6], words].concat()).await;
        assert!(ended.code != Some(0) && ended.stderr.contains(expected), "{words:?}: {}", ended.stderr);
    }
}
