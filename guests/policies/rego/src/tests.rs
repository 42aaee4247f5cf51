use serde_json::{Value, json};
use witgate_sdk::testing::{clusters_read_query, log_lines, path_request, proxy_query, resource_request, user};
use witgate_sdk::{ActionClass, Decision, Policy as _, PolicyQuery, RequestAttributes, UserInfo};

use crate::Rego;

/// Goal: the input says what it should. Method: one condition a row, that holds for one query and not for the other.
#[test]
fn modules_see_the_query() {
    let mut fine = resource_request("one", "list", "dev", "pods", ActionClass::Read);
    fine.api_group = "apps".to_owned();
    fine.subresource = "log".to_owned();
    fine.name = "web".to_owned();
    fine.subpath = "x".to_owned();
    fine.field_selector = Some("metadata.name=web".to_owned());
    fine.label_selector = Some("team=a,tier in (web)".to_owned());
    fine.patch_type = Some("application/apply-patch+yaml".to_owned());
    fine.dry_run = true;
    fine.upgrade = true;
    let fine = PolicyQuery { now: 1_769_860_800, ..proxy_query(fine) };
    let other = proxy_query(path_request("two", "POST", "post", "/x", ActionClass::Write));
    let jane = UserInfo {
        uid: Some("7".to_owned()),
        extra: vec![("scopes".to_owned(), vec!["read".to_owned()])],
        ..user("jane", &["a", "b"])
    };
    for condition in [
        r#"input.user.name == "jane""#,
        r#"input.user.uid == "7""#,
        r#""b" in input.user.groups"#,
        r#""read" in input.user.extra.scopes"#,
        r#"input.request.cluster == "one""#,
        r#"input.request.verb == "list""#,
        r#"input.request.apiGroup == "apps"; input.request.apiVersion == "v1""#,
        r#"input.request.namespace == "dev""#,
        r#"input.request.resource == "pods"; input.request.subresource == "log"; input.request.name == "web""#,
        r#"input.request.subpath == "x""#,
        r#"input.request.fieldSelector == "metadata.name=web""#,
        r#"input.request.labelSelector; input.request.labels.tier == "web""#,
        "input.request.resourceRequest",
        r#"input.request.method == "GET""#,
        r#"glob.match("/api/v1/**", ["/"], input.request.path)"#,
        r#"regex.match(`^/api/`, input.request.path)"#,
        r#"input.request.actionClass == "read""#,
        "input.request.upgrade; input.request.dryRun",
        r#"input.request.patchType == "application/apply-patch+yaml""#,
        r#"input.now == 1769860800; input.time.text == "2026-01-31T12:00:00Z""#,
        r#"input.time.weekday == "Saturday"; input.time.hour == 12; input.time.minuteOfDay == 720"#,
        r#"not input.request.namespace == """#,
    ] {
        let policy =
            configured(&json!({ "modules": format!("package kubernetes\nallow if {{ {condition} }}") })).unwrap();
        assert_eq!(policy.handle(&fine, Some(&jane)), Decision::Allow, "{condition}");
        assert_eq!(policy.handle(&other, Some(&user("john", &[]))), Decision::NoOpinion, "{condition}");
    }
    let absent = r#"package kubernetes
        allow if { not input.user.uid; not input.request.fieldSelector; not input.request.patchType; input.permission.name == "kubernetes.proxy" }"#;
    check(absent, &pods(), Decision::Allow);
}

/// Goal: what a rule's value comes to. Method: rows of a rule and the decision.
#[test]
fn a_value_becomes_a_decision() {
    let denied = |reason: &str| Decision::Deny(reason.to_owned());
    let rows = [
        ("allow := true", Decision::Allow),
        ("default allow := false", Decision::NoOpinion),
        ("allow if { false }", Decision::NoOpinion),
        (r#"allow := "true""#, Decision::NoOpinion),
        ("allow contains 1", Decision::NoOpinion),
        ("deny := false\nallow := true", Decision::Allow),
        (r#"deny contains "x" if { false }"#, Decision::NoOpinion),
        ("deny := true\nallow := true", denied("denied by `data.kubernetes.deny`")),
        (r#"deny := "not today""#, denied("not today")),
        ("deny contains \"b\"\ndeny contains \"a\"\nallow := true", denied("a; b")),
        (r#"deny contains {"msg": "in an object", "code": 7}"#, denied("in an object")),
        (r#"deny := ["one", "two"]"#, denied("one; two")),
        ("deny contains 7", denied("7")),
        ("deny := 7", denied("`data.kubernetes.deny` is of a kind that is not understood")),
        ("deny := {\"a\": 1}", denied("`data.kubernetes.deny` is of a kind that is not understood")),
        ("deny := null", denied("`data.kubernetes.deny` is of a kind that is not understood")),
    ];
    for (rules, expected) in rows {
        check(&format!("package kubernetes\n{rules}"), &pods(), expected);
    }
}

/// Goal: what cannot be evaluated denies, wherever it stands. Method: a function that fails, and one that is not there, in rules
/// that a made-up request does not reach.
#[test]
fn what_fails_denies() {
    log_lines();
    for (rule, name) in [("allow if", "allow"), ("deny contains \"x\" if", "deny")] {
        for failing in [
            "to_number(input.request.namespace) == 1",
            "time.now_ns() > 0",
            "rand.intn(\"x\", 9) == 1",
            "1 / count(input.user.groups) == 1",
        ] {
            let module = format!(
                "package kubernetes\n{rule} {{ input.request.cluster == \"one\"\n {failing} }}\nallow if {{ false }}"
            );
            check(&module, &pods(), Decision::Deny(format!("`data.kubernetes.{name}` could not be evaluated")));
            let line = log_lines().remove(0);
            assert!(
                line.starts_with(&format!(
                    "error: `data.kubernetes.{name}` could not be evaluated: modules: line 3, column "
                )),
                "{line}"
            );
        }
    }
}

#[test]
fn prints_are_logged() {
    log_lines();
    check("package kubernetes\nallow if { print(\"ns\", input.request.namespace) }", &pods(), Decision::Allow);
    assert!(log_lines().iter().any(|line| line.starts_with("info: ") && line.ends_with("ns dev")));
}

#[test]
fn other_names_and_data() {
    let settings = json!({
        "modules": {
            "main": "package gate.main\nimport data.gate.who\nmay if who.is_ops",
            "who": "package gate.who\nis_ops if input.user.name in data.ops",
        },
        "data": { "ops": ["jane"] },
        "allow": "data.gate.main.may",
    });
    let policy = configured(&settings).unwrap();
    assert_eq!(policy.handle(&proxy_query(pods()), Some(&user("jane", &[]))), Decision::Allow);
    assert_eq!(policy.handle(&proxy_query(pods()), Some(&user("john", &[]))), Decision::NoOpinion);
    assert_eq!(policy.handle(&clusters_read_query(), Some(&user("jane", &[]))), Decision::Allow);
    assert_eq!(policy.handle(&clusters_read_query(), None), Decision::NoOpinion);
}

/// Goal: one query leaves nothing for the next. Method: two callers in turn.
#[test]
fn queries_do_not_see_each_other() {
    let policy = configured(&json!({ "modules": "package kubernetes\nallow if input.user.name == \"jane\"" })).unwrap();
    for _ in 0..2 {
        assert_eq!(policy.handle(&proxy_query(pods()), Some(&user("jane", &[]))), Decision::Allow);
        assert_eq!(policy.handle(&proxy_query(pods()), Some(&user("john", &[]))), Decision::NoOpinion);
    }
}

/// Goal: a fault says which module, which line and what. Method: one row a fault.
#[test]
fn a_fault_names_module_and_line() {
    let fault = |settings: Value| configured(&settings).err().unwrap_or_default();
    let modules = |text: &str| fault(json!({ "modules": text }));
    let unfinished = modules("package kubernetes\n\nallow if { input. }");
    assert!(unfinished[0].starts_with("modules: line 3, column "), "{unfinished:?}");
    let second =
        fault(json!({ "modules": { "a": "package kubernetes\nallow := true", "b": "package kubernetes\ndeny if {" } }));
    assert!(second[0].starts_with("modules.b: line "), "{second:?}");
    let unknown = modules("package kubernetes\nallow if time.now_ns() > 0");
    assert_eq!(unknown.len(), 1);
    assert!(
        unknown[0].starts_with("modules: line 2, column ")
            && unknown[0].ends_with("could not find function time.now_ns"),
        "{unknown:?}"
    );
    let unsafe_variable = modules("package kubernetes\nallow if { x > 1 }");
    assert!(unsafe_variable[0].starts_with("modules: line 2, column "), "{unsafe_variable:?}");
    assert_eq!(
        modules("package other\nallow := true"),
        [
            "modules: there is neither `data.kubernetes.allow` nor `data.kubernetes.deny`; name the rules with `allow` and `deny`"
        ]
    );
    assert_eq!(
        fault(json!({ "modules": "package kubernetes\nallow := true", "deny": "data.kubernetes.denied" })),
        ["deny: no module has a rule `data.kubernetes.denied`"]
    );
}

#[track_caller]
fn check(modules: &str, request: &RequestAttributes, expected: Decision) {
    let policy = configured(&json!({ "modules": modules })).unwrap_or_else(|faults| panic!("{modules}: {faults:#?}"));
    assert_eq!(policy.handle(&proxy_query(request.clone()), Some(&user("jane", &[]))), expected, "{modules}");
}

fn pods() -> RequestAttributes {
    resource_request("one", "list", "dev", "pods", ActionClass::Read)
}

fn configured(settings: &Value) -> Result<Rego, Vec<String>> {
    Rego::configure(serde_json::from_value(settings.clone()).unwrap())
}
