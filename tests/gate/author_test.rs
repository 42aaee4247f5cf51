//! `witgate plugin test`: YAML cases against compiled policies.

use witgate_tests::artifacts;
use witgate_tests::author_desk::AuthorDesk;

const CASES: &str = "\
defaults: { user: user:default/jane, groups: [dev] }
cases:
  - { name: reading is nobody's business, kubectl: get pods -n dev, decision: no-opinion }
  - { name: exec is refused, kubectl: exec web -n dev -it -- sh, reason: read-only }
  - { request: DELETE /api/v1/namespaces/dev/pods/web }
";

#[tokio::test]
async fn cases_that_hold_pass() {
    let desk = AuthorDesk::new().guest("policies/read-only").file("read-only.test.yaml", CASES);

    let ended = desk.plugin(&["test"]).await;

    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("  ok     exec is refused\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("3 passed, 0 failed"), "{}", ended.stdout);
}

/// Goal: a case with `as` fails by the question that was refused, and coverage counts each question. Method: a policy that refuses what escalates.
#[tokio::test]
async fn a_case_of_impersonation_asks_about_each_identity() {
    let cases = "\
defaults: { user: jane }
policies: [read-only.wasm, allow-all.wasm]
cases:
  - { name: herself, kubectl: get pods, decision: allow }
  - { name: as kim, kubectl: get pods, as: { user: kim }, reason: '`escalate` is more than reading' }
  - { name: her own request comes first, kubectl: delete pod x, as: { user: kim }, reason: '`delete` is more than reading' }
  - { name: wrong, kubectl: get pods, as: { user: kim, groups: [ops] }, decision: allow }
";
    let desk = AuthorDesk::new().guest("policies/read-only").guest("policies/allow-all").file("x.test.yaml", cases);

    let ended = desk.plugin(&["test", "--coverage"]).await;

    assert_eq!(ended.code, Some(1), "{}{}", ended.stdout, ended.stderr);
    for expected in [
        "  ok     as kim\n",
        "  ok     her own request comes first\n",
        "  FAILED wrong\n",
        "as         `kim` in ops\n",
        "may they be users `kim`? deny: denied by policy `read-only`: read-only: `escalate` is more than reading\n",
        "3 passed, 1 failed",
    ] {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }
    let line = |class: &str| {
        ended.stdout.lines().find(|line| line.contains(class)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line("kubernetes.proxy          read  ")[2..4], ["3", "0"], "{}", ended.stdout);
    assert_eq!(line("kubernetes.proxy          escalate")[2..4], ["0", "2"], "{}", ended.stdout);
    assert_eq!(line("kubernetes.proxy          delete")[2..4], ["0", "1"], "{}", ended.stdout);
}

/// Goal: a failure shows the query and the way to the answer, on the screen and in CI. Method: a case that expects the wrong thing.
#[tokio::test]
async fn a_failure_shows_the_way_to_the_answer() {
    let cases = "cases: [{ name: may write, user: jane, kubectl: create cm x -n dev, decision: allow }]";
    let desk = AuthorDesk::new().guest("policies/read-only").file("read-only.test.yaml", cases);

    let ended = desk.plugin(&["test", "--junit", "report.xml"]).await;

    assert_eq!(ended.code, Some(1));
    for expected in [
        "FAILED may write",
        "at         ./read-only.test.yaml:1",
        "asked      kubectl create cm x -n dev",
        "request    create configmaps (core/v1) in namespace `dev` of cluster `test`; POST /api/v1/namespaces/dev/configmaps",
        "expected   allow",
        "got        deny: denied by policy `read-only`: read-only: `write` is more than reading",
        "policy `read-only`: deny: read-only: `write` is more than reading (",
        "0 passed, 1 failed",
    ] {
        assert!(ended.stdout.contains(expected), "no `{expected}` in {}", ended.stdout);
    }
    let report = desk.read("report.xml");
    assert!(report.contains(r#"tests="1" skipped="0" failures="1" errors="0""#), "{report}");
    assert!(report.contains("may write") && report.contains("expected   allow"), "{report}");
}

#[tokio::test]
async fn a_wrong_file_is_told_with_line_key_and_fix() {
    let desk = AuthorDesk::new()
        .guest("policies/read-only")
        .file("read-only.test.yaml", "cases:\n  - user: jane\n    kubctl: get pods\n");
    let ended = desk.plugin(&["test", "read-only.test.yaml"]).await;
    assert_eq!(ended.code, Some(1));
    let expected = "read-only.test.yaml:3: the key `kubctl`, which is unknown: did you mean `kubectl`?";
    assert!(ended.stdout.contains(expected), "{}", ended.stdout);
}

/// A policy that fails denies in the gate; in a test that would hide the bug.
#[tokio::test]
async fn a_policy_that_gives_no_answer_passes_no_case() {
    let cases = "cases: [{ user: jane, kubectl: get pods, decision: deny }]";
    let sidecar = serde_json::json!({ "selfTest": false });
    let desk = AuthorDesk::new().guest("fixtures/trap").sidecar("trap", &sidecar).file("trap.test.yaml", cases);
    let ended = desk.plugin(&["test"]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stdout);
    assert!(ended.stdout.contains("got        policy `trap` gave no answer"), "{}", ended.stdout);
}

#[tokio::test]
async fn coverage_shows_what_no_case_is_about() {
    let desk = AuthorDesk::new().guest("policies/read-only").file("read-only.test.yaml", CASES);
    let ended = desk.plugin(&["test", "--coverage", "--filter", "exec"]).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("1 passed, 0 failed"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("kubernetes.proxy          exec               0       1  never allowed"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("kubernetes.proxy          escalate           0       0  no case"),
        "{}",
        ended.stdout
    );
    assert!(ended.stdout.contains("1 of 7 cells have cases"), "{}", ended.stdout);

    let ended = desk.plugin(&["test", "--filter", "no such case"]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("none holds `no such case`"), "{}", ended.stderr);
}

/// Goal: the cases that come with a ready policy hold. Method: its file, with the compiled policy.
#[tokio::test]
async fn the_cases_of_the_ready_policies_hold() {
    for name in ["namespace-tenancy", "read-only"] {
        let cases = artifacts::repository().join(format!("guests/policies/{name}/{name}.test.yaml"));
        let policy = artifacts::guest(&format!("policies/{name}"));
        let desk = AuthorDesk::new();
        let words = ["test", cases.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--coverage"];
        let ended = desk.plugin(&words).await;
        assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
        assert!(ended.stdout.contains("7 of 7 cells have cases"), "{}", ended.stdout);
    }
}

/// Goal: the example of the documentation works as it stands there. Method: it, beside the policy that it names.
#[tokio::test]
async fn the_example_of_the_documentation_holds() {
    let page = std::fs::read_to_string(artifacts::repository().join("docs/policy-tests.md")).unwrap();
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let desk = AuthorDesk::new().guest("policies/namespace-tenancy").file("namespace-tenancy.test.yaml", example);
    let ended = desk.plugin(&["test"]).await;
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("12 passed, 0 failed"), "{}", ended.stdout);
}
