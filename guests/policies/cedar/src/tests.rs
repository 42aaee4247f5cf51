use serde_json::{Value, json};
use witgate_sdk::testing::{clusters_read_query, log_lines, path_request, proxy_query, resource_request, user};
use witgate_sdk::{ActionClass, Decision, Policy as _, PolicyQuery, RequestAttributes, UserInfo};

use crate::{Cedar, model, settings};

const NO_EXEC: &str = r#"
@id("no-exec-in-production")
@reason("nobody opens a shell in production")
forbid (principal, action, resource in Cluster::"production") when { context.actionClass == "exec" };
"#;

/// Goal: each part of the model says what it should. Method: one `permit` a row, a request that it is about, and one that
/// it is not.
#[test]
fn a_permit_sees_the_request() {
    let pods = || resource_request("one", "list", "dev", "pods", ActionClass::Read);
    let other = || resource_request("two", "create", "prod", "secrets", ActionClass::Write);
    for condition in [
        r#"resource.cluster == "one""#,
        r#"resource in Cluster::"one""#,
        r#"resource.namespace == "dev""#,
        r#"resource in Namespace::"dev""#,
        r#"resource.resource == "pods""#,
        r#"resource == Resource::"/api/v1/namespaces/dev/pods""#,
        r#"["pods", "services"].contains(resource.resource)"#,
        r#"action == Action::"list""#,
        r#"action in [Action::"get", Action::"list"]"#,
        r#"context.actionClass == "read""#,
        r#"context.method == "GET""#,
        r#"resource.path like "*/pods""#,
    ] {
        let policy = permit(condition);
        check(&policy, &pods(), Decision::Allow);
        check(&policy, &other(), Decision::NoOpinion);
    }

    let mut fine = pods();
    fine.api_group = "apps".to_owned();
    fine.subresource = "log".to_owned();
    fine.name = "web".to_owned();
    fine.subpath = "x".to_owned();
    fine.field_selector = Some("metadata.name=web".to_owned());
    fine.label_selector = Some("team=a,tier in (web)".to_owned());
    fine.patch_type = Some("application/apply-patch+yaml".to_owned());
    fine.dry_run = true;
    fine.upgrade = true;
    for condition in [
        r#"resource.apiGroup == "apps" && resource.apiVersion == "v1""#,
        r#"resource.subresource == "log""#,
        r#"resource.name == "web" && resource.subpath == "x""#,
        r#"context has fieldSelector && context.fieldSelector == "metadata.name=web""#,
        r#"context has labelSelector"#,
        r#"context.labels.containsAll(["team=a", "tier=web"])"#,
        r#"context has patchType && context.patchType like "*apply-patch*""#,
        "context.dryRun",
        "context.upgrade",
    ] {
        check(&permit(condition), &fine, Decision::Allow);
        check(&permit(condition), &pods(), Decision::NoOpinion);
    }

    let version = path_request("one", "GET", "get", "/version", ActionClass::Read);
    check(&permit(r#"resource.path == "/version" && resource in Cluster::"one""#), &version, Decision::Allow);
    check(&permit(r#"resource.path == "/version" && resource in Cluster::"two""#), &version, Decision::NoOpinion);
    check(&permit("resource.resourceRequest"), &version, Decision::NoOpinion);
    check(&permit("resource.resourceRequest"), &pods(), Decision::Allow);
}

/// Goal: who calls is as the gate found out, with what `entities` adds. Method: rows of a caller and a condition.
#[test]
fn a_permit_sees_the_caller() {
    let entities = json!([
        { "uid": { "type": "Group", "id": "team-a" }, "attrs": {}, "parents": [{ "type": "Group", "id": "staff" }] },
        { "uid": { "type": "User", "id": "jane" }, "attrs": { "name": "x", "uid": "forged" },
          "parents": [{ "type": "Group", "id": "on-call" }] },
        { "uid": { "type": "Cluster", "id": "one" }, "attrs": {}, "parents": [{ "type": "ClusterGroup", "id": "production" }] },
    ]);
    let check = |condition: &str, user: UserInfo, expected: Decision| {
        let policy = configured(&json!({ "policies": permit(condition), "entities": entities })).unwrap();
        let query = proxy_query(resource_request("one", "list", "dev", "pods", ActionClass::Read));
        assert_eq!(policy.handle(&query, Some(&user)), expected, "{condition} {user:?}");
    };
    let jane = || user("jane", &["team-a", "team-b"]);
    check(r#"principal == User::"jane""#, jane(), Decision::Allow);
    check(r#"principal.name == "jane""#, jane(), Decision::Allow);
    check(r#"principal in Group::"team-b""#, jane(), Decision::Allow);
    check(r#"principal in Group::"staff""#, jane(), Decision::Allow); // through a group
    check(r#"principal in Group::"on-call""#, jane(), Decision::Allow); // through `entities`
    check(r#"principal in Group::"on-call""#, user("john", &["team-a"]), Decision::NoOpinion);
    check(r#"principal in Group::"staff""#, user("john", &["team-b"]), Decision::NoOpinion);
    check(r#"resource in ClusterGroup::"production""#, jane(), Decision::Allow);
    check("principal has uid", jane(), Decision::NoOpinion); // the gate knows of none
    let scoped =
        UserInfo { uid: Some("7".to_owned()), extra: vec![("scopes".to_owned(), vec!["read".to_owned()])], ..jane() };
    check(r#"principal has uid && principal.uid == "7""#, scoped.clone(), Decision::Allow);
    let tag = r#"principal.hasTag("scopes") && principal.getTag("scopes").contains("read")"#;
    check(tag, scoped, Decision::Allow);
    check(tag, jane(), Decision::NoOpinion);
    // A group's name is data, whatever it holds.
    check(r#"principal in Group::"a\"b""#, user("x", &["a\"b"]), Decision::Allow);
}

/// Goal: time comes from the query. Method: rows of a time and a condition; 1769860800 is Saturday, 2026-01-31T12:00:00Z.
#[test]
fn time_is_the_query_s() {
    let check = |condition: &str, now: u64, expected: Decision| {
        let mut query = proxy_query(resource_request("one", "list", "dev", "pods", ActionClass::Read));
        query.now = now;
        let policy = configured(&json!({ "policies": permit(condition) })).unwrap();
        assert_eq!(policy.handle(&query, Some(&user("jane", &[]))), expected, "{condition} {now}");
    };
    let noon = 1_769_860_800;
    let office = r#"context.time.toTime() >= duration("8h") && context.time.toTime() < duration("18h")"#;
    check(office, noon, Decision::Allow);
    check(office, noon + 6 * 3600, Decision::NoOpinion);
    check(r#"context.weekday == "Saturday""#, noon, Decision::Allow);
    check(r#"context.weekday == "Saturday""#, noon + 86_400, Decision::NoOpinion);
    check("context.minuteOfDay == 720 && context.now == 1769860800", noon, Decision::Allow);
    let before = r#"context.time < datetime("2026-02-01T00:00:00Z")"#;
    check(before, noon, Decision::Allow);
    check(before, noon + 86_400, Decision::NoOpinion);
    check(before, u64::MAX, Decision::NoOpinion);
}

/// Goal: a forbid wins, with the author's words. Method: rows of policies and what comes of an exec in production.
#[test]
fn a_forbid_denies_with_its_reason() {
    let exec = resource_request("production", "create", "dev", "pods", ActionClass::Exec);
    let denied = |reason: &str| Decision::Deny(reason.to_owned());
    let all = "permit (principal, action, resource);";
    check(all, &exec, Decision::Allow);
    check(&format!("{all}{NO_EXEC}"), &exec, denied("nobody opens a shell in production"));
    let without_reason = NO_EXEC.replace(r#"@reason("nobody opens a shell in production")"#, "");
    check(&format!("{all}{without_reason}"), &exec, denied("forbidden by `no-exec-in-production`"));
    check(&format!("{all}\nforbid (principal, action, resource);"), &exec, denied("forbidden by `policy1`"));
    let elsewhere = resource_request("staging", "create", "dev", "pods", ActionClass::Exec);
    check(&format!("{all}{NO_EXEC}"), &elsewhere, Decision::Allow);
    // Of several, always the same one.
    let two = r#"@id("b") forbid (principal, action, resource); @id("a") forbid (principal, action, resource);"#;
    check(two, &exec, denied("forbidden by `a`"));
}

/// Goal: a forbid that cannot be evaluated denies; a permit that cannot, does not open. Method: an overflow, which validation cannot see.
#[test]
fn what_fails_does_not_open() {
    let overflow = "context.now * 9223372036854775807 > 0";
    let query = |now| {
        let request = resource_request("one", "list", "dev", "pods", ActionClass::Read);
        PolicyQuery { now, ..proxy_query(request) }
    };
    let decide = |policies: String, now| {
        configured(&json!({ "policies": policies })).unwrap().handle(&query(now), Some(&user("x", &[])))
    };
    log_lines();
    assert_eq!(decide(permit(overflow), 7), Decision::NoOpinion);
    assert!(log_lines()[0].starts_with("warn: policy `policy0` could not be evaluated: "));
    let all = "permit (principal, action, resource);";
    let forbid = format!(r#"{all} @id("sum") forbid (principal, action, resource) when {{ {overflow} }};"#);
    assert_eq!(decide(forbid.clone(), 7), Decision::Deny("policy `sum` could not be evaluated".to_owned()));
    assert_eq!(decide(forbid, 0), Decision::Allow);
    let also_denied = format!(
        r#"{NO_EXEC} @id("z") forbid (principal, action, resource); forbid (principal, action, resource) when {{ {overflow} }};"#
    );
    assert_eq!(decide(also_denied, 7), Decision::Deny("forbidden by `z`".to_owned()));
}

#[test]
fn listing_the_clusters_is_an_action() {
    let policy = configured(
        &json!({ "policies": r#"permit (principal in Group::"ops", action == Action::"listClusters", resource);"# }),
    )
    .unwrap();
    assert_eq!(policy.handle(&clusters_read_query(), Some(&user("x", &["ops"]))), Decision::Allow);
    assert_eq!(policy.handle(&clusters_read_query(), Some(&user("x", &[]))), Decision::NoOpinion);
    assert_eq!(policy.handle(&clusters_read_query(), None), Decision::NoOpinion);
    let mut other = clusters_read_query();
    other.permission.name = "catalog.read".to_owned();
    assert_eq!(policy.handle(&other, Some(&user("x", &["ops"]))), Decision::NoOpinion);
}

/// Goal: a fault says which policy, which line and what. Method: one row a fault.
#[test]
fn a_fault_names_policy_and_line() {
    let fault = |settings: Value| configured(&settings).err().unwrap_or_default();
    let policies = |text: &str| fault(json!({ "policies": text }));
    let unfinished = policies("permit (principal, action, resource);\npermit (principal, action resource);");
    assert_eq!(unfinished.len(), 1);
    assert!(
        unfinished[0].starts_with("policies: line 2, column 27: unexpected token `resource`; expected "),
        "{unfinished:#?}"
    );
    let unknown = format!(
        "{NO_EXEC}@id(\"typo\")\npermit (principal, action, resource)\nwhen {{ context.actionclass == \"read\" }};"
    );
    let faults = policies(&unknown);
    assert!(
        faults
            .iter()
            .any(|fault| fault.starts_with("policies: policy `typo`, line 7: attribute `actionclass` in context for ")
                && fault.contains("did you mean `actionClass`?")),
        "{faults:#?}"
    );
    let many = fault(
        json!({ "policies": { "base": NO_EXEC, "more": "permit (principal, action == Action::\"lst\", resource);" } }),
    );
    assert!(
        many.iter().any(|fault| fault
            .starts_with("policies.more: policy `more/policy0`, line 1: unrecognized action `Action::\"lst\"`")),
        "{many:#?}"
    );
    assert_eq!(
        fault(json!({ "policies": { "a": NO_EXEC, "b": NO_EXEC } })),
        [r#"policies.b: there are two policies with `@id("no-exec-in-production")`"#]
    );
    assert_eq!(
        policies(r#"@id("t") permit (principal == ?principal, action, resource);"#),
        ["policies: policy `t` has a slot; templates are linked by nobody here, so write out who and what"]
    );
    assert_eq!(policies(""), ["policies: there are none; a text of Cedar policies is wanted"]);
    let schema = fault(json!({ "policies": NO_EXEC, "schema": "entity User;\nentity" }));
    assert!(schema[0].starts_with("schema: line 2, column"), "{schema:#?}");
    let entity = json!([{ "uid": { "type": "Clustre", "id": "x" }, "attrs": {}, "parents": [] }]);
    let entities = fault(json!({ "policies": NO_EXEC, "entities": entity }));
    assert!(entities[0].starts_with("entities: ") && entities[0].contains("Clustre"), "{entities:#?}");
}

/// Goal: own types come with an own schema. Method: the gate's, with one attribute more.
#[test]
fn a_schema_of_ones_own() {
    let schema = settings::SCHEMA
        .replace("entity Cluster in [ClusterGroup];", "entity Cluster in [ClusterGroup] { frozen?: Bool };");
    let entities = json!([{ "uid": { "type": "Cluster", "id": "one" }, "attrs": { "frozen": true }, "parents": [] }]);
    let policies =
        r#"forbid (principal, action, resource) unless { Cluster::"one" has frozen && !Cluster::"one".frozen };"#;
    let policy = configured(&json!({ "schema": schema, "entities": entities, "policies": policies })).unwrap();
    let query = proxy_query(resource_request("one", "list", "dev", "pods", ActionClass::Read));
    assert_eq!(policy.handle(&query, Some(&user("x", &[]))), Decision::Deny("forbidden by `policy0`".to_owned()));
}

/// Goal: what is asked is what the schema promises, or validation would promise too much. Method: each kind of request,
/// checked by Cedar against the schema.
#[test]
fn questions_fit_the_schema() {
    let (schema, _) = cedar_policy::Schema::from_cedarschema_str(settings::SCHEMA).unwrap();
    let none = cedar_policy::Entities::empty();
    let mut asked: Vec<_> =
        ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "impersonate"]
            .into_iter()
            .map(|verb| proxy_query(resource_request("one", verb, "dev", "pods", ActionClass::Read)))
            .collect();
    asked.extend(
        ["get", "head", "options", "post", "put", "patch", "delete"]
            .into_iter()
            .map(|verb| proxy_query(path_request("one", &verb.to_uppercase(), verb, "/x", ActionClass::Read))),
    );
    asked.push(clusters_read_query());
    let caller = UserInfo {
        uid: Some("7".to_owned()),
        extra: vec![("a".to_owned(), vec!["b".to_owned()])],
        ..user("jane", &["g"])
    };
    for mut query in asked {
        if let Some(request) = &mut query.request {
            request.patch_type = Some("x".to_owned());
            request.label_selector = Some("a=b".to_owned());
            request.field_selector = Some("a=b".to_owned());
        }
        let question = model::question(&query, &caller, &none).unwrap().unwrap();
        let (request, entities) = (question.request, question.entities);
        cedar_policy::Entities::from_entities(entities.iter().cloned(), Some(&schema)).unwrap();
        let (principal, action) = (request.principal().unwrap().clone(), request.action().unwrap().clone());
        let (resource, context) = (request.resource().unwrap().clone(), request.context().unwrap().clone());
        cedar_policy::Request::new(principal, action, resource, context, Some(&schema))
            .unwrap_or_else(|error| panic!("{query:?}: {error}"));
    }
}

fn permit(condition: &str) -> String {
    format!("permit (principal, action, resource) when {{ {condition} }};")
}

#[track_caller]
fn check(policies: &str, request: &RequestAttributes, expected: Decision) {
    let policy =
        configured(&json!({ "policies": policies })).unwrap_or_else(|faults| panic!("{policies}: {faults:#?}"));
    assert_eq!(
        policy.handle(&proxy_query(request.clone()), Some(&user("jane", &[]))),
        expected,
        "{policies} {request:?}"
    );
}

fn configured(settings: &Value) -> Result<Cedar, Vec<String>> {
    Cedar::configure(serde_json::from_value(settings.clone()).unwrap())
}
