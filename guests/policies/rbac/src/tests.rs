//! Tables against the semantics of Kubernetes' RBAC authorizer.

use serde_json::{Value, json};
use witgate_sdk::testing::{clusters_read_query, path_request, proxy_query, resource_request, user};
use witgate_sdk::{ActionClass, Decision, Policy as _, PolicyQuery, RequestAttributes, UserInfo};

use crate::Rbac;

/// Goal: a rule matches by verb, group, resource and subresource as Kubernetes' does. Method: one rule, bound everywhere, and one
/// request a row.
#[test]
fn a_rule_matches_as_kubernetes_does() {
    let pods = json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"] });
    check(&pods, get("pods"), true);
    check(&pods, resource("list", "", "pods", ""), true);
    check(&pods, resource("watch", "", "pods", ""), false);
    check(&pods, resource("get", "", "pods", "log"), false); // a subresource is a resource of its own
    check(&pods, resource("get", "metrics.k8s.io", "pods", ""), false);
    check(&pods, resource("get", "", "Pods", ""), false);
    check(&pods, resource("GET", "", "pods", ""), false);

    let log = json!({ "apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"] });
    check(&log, resource("get", "", "pods", "log"), true);
    check(&log, get("pods"), false);
    check(&log, resource("get", "", "pods", "exec"), false);

    let scale = json!({ "apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"] });
    check(&scale, resource("update", "apps", "deployments", "scale"), true);
    check(&scale, resource("update", "", "replicationcontrollers", "scale"), true);
    check(&scale, resource("update", "apps", "deployments", ""), false);
    check(&scale, resource("update", "apps", "deployments", "status"), false);
    check(&scale, resource("update", "apps", "scale", ""), false);

    // `*` is every resource with every subresource; other wildcards there are none.
    let all = json!({ "apiGroups": ["apps"], "resources": ["*"], "verbs": ["*"] });
    check(&all, resource("patch", "apps", "deployments", "scale"), true);
    check(&all, resource("impersonate", "apps", "x", ""), true);
    check(&all, resource("patch", "", "pods", ""), false);
    for odd in ["pods/*", "*pods", "po*", "*/", "pods/", "*/*"] {
        let rule = json!({ "apiGroups": ["*"], "resources": [odd], "verbs": ["*"] });
        check(&rule, get("pods"), false);
        check(&rule, resource("get", "", "pods", "log"), false);
    }
    let odd = json!({ "apiGroups": ["ap*"], "resources": ["*"], "verbs": ["*"] });
    check(&odd, resource("get", "apps", "deployments", ""), false);
    let odd = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["g*"] });
    check(&odd, get("pods"), false);
}

/// Goal: `resourceNames` are about the request's name, and what has none matches none. Method: rows of verb and name.
#[test]
fn resource_names_need_a_name() {
    let rule = json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"], "resourceNames": ["a", "b"] });
    let named = |verb, name: &str| RequestAttributes { name: name.to_owned(), ..resource(verb, "", "configmaps", "") };
    for verb in ["get", "update", "patch", "delete"] {
        check(&rule, named(verb, "a"), true);
        check(&rule, named(verb, "b"), true);
        check(&rule, named(verb, "c"), false);
        check(&rule, named(verb, "A"), false);
    }
    // `fieldSelector=metadata.name=a` gives a list and a watch their name.
    let by_field = |verb| RequestAttributes { field_selector: Some("metadata.name=a".to_owned()), ..named(verb, "a") };
    check(&rule, by_field("list"), true);
    check(&rule, by_field("watch"), true);
    for verb in ["list", "watch", "create", "deletecollection"] {
        check(&rule, named(verb, ""), false);
    }
    let any = json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"], "resourceNames": [] });
    check(&any, named("create", ""), true);
    check(&any, named("get", "c"), true);
    let star = json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"], "resourceNames": ["*"] });
    check(&star, named("get", "a"), false); // no wildcard here
}

/// Goal: paths match whole, by `*`, or by what stands before a final `*`. Method: rows.
#[test]
fn paths_match_by_prefix() {
    let path = |verb, path| path_request("c", "GET", verb, path, ActionClass::Read);
    let rule = json!({ "nonResourceURLs": ["/version", "/apis/*", "/x**"], "verbs": ["get"] });
    check(&rule, path("get", "/version"), true);
    check(&rule, path("get", "/version/"), false);
    check(&rule, path("get", "/apis/apps"), true);
    check(&rule, path("get", "/apis/"), true);
    check(&rule, path("get", "/apis"), false);
    check(&rule, path("get", "/xy"), true);
    check(&rule, path("post", "/version"), false);
    check(&rule, path("get", "/metrics"), false);
    check(&rule, get("pods"), false);
    let all = json!({ "nonResourceURLs": ["*"], "verbs": ["*"] });
    check(&all, path("head", "/anything"), true);
    check(&all, get("pods"), false);
    let resources = json!({ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] });
    check(&resources, path("get", "/version"), false);
}

/// Goal: a binding is for its subjects, where it applies. Method: one row a caller and namespace.
#[test]
fn a_binding_is_for_its_subjects_in_its_place() {
    let policy = policy(&json!({
        "everybodyIn": ["system:authenticated"],
        "roles": [role(Some("a"), "r", get_pods())],
        "clusterRoles": [role(None, "r", get_pods()), role(None, "all", json!([
            { "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }, { "nonResourceURLs": ["*"], "verbs": ["*"] },
        ]))],
        "roleBindings": [
            binding(Some("a"), json!([{ "kind": "User", "name": "jane" }, { "kind": "ServiceAccount", "name": "ci" }]), "Role", "r"),
            binding(Some("b"), json!([{ "kind": "Group", "name": "b-team" }]), "ClusterRole", "r"),
            binding(Some("c"), json!([{ "kind": "ServiceAccount", "name": "ci", "namespace": "a" }]), "ClusterRole", "all"),
            binding(Some("open"), json!([{ "kind": "Group", "name": "system:authenticated" }]), "ClusterRole", "r"),
        ],
        "clusterRoleBindings": [
            binding(None, json!([{ "kind": "Group", "name": "ops", "apiGroup": "rbac.authorization.k8s.io" }]), "ClusterRole", "all"),
            binding(None, json!([{ "kind": "ServiceAccount", "name": "reader", "namespace": "a", "apiGroup": "" }]), "ClusterRole", "r"),
        ],
    }))
    .unwrap();
    let check = |user: UserInfo, namespace: &str, resource: &str, allowed: bool| {
        let request = resource_request("c", "get", namespace, resource, ActionClass::Read);
        assert_eq!(allows(&policy, &user, request), allowed, "{user:?} {namespace} {resource}");
    };
    let jane = || user("jane", &["x", "b-team"]);
    check(jane(), "a", "pods", true);
    check(jane(), "b", "pods", true);
    check(jane(), "c", "pods", false);
    check(jane(), "", "pods", false); // over all namespaces
    check(jane(), "open", "pods", true);
    check(jane(), "open", "secrets", false);
    check(user("Jane", &[]), "a", "pods", false);
    check(user("b-team", &["jane"]), "a", "pods", false); // a group is no user, nor a user a group
    check(user("b-team", &["jane"]), "b", "pods", false);

    // A service account of the binding's own namespace, and of another.
    let ci = || user("system:serviceaccount:a:ci", &["system:serviceaccounts"]);
    check(ci(), "a", "pods", true);
    check(ci(), "b", "pods", false);
    check(ci(), "c", "secrets", true);
    check(user("system:serviceaccount:b:ci", &[]), "a", "pods", false);
    check(user("ci", &[]), "a", "pods", false);
    check(user("system:serviceaccount:a:reader", &[]), "anywhere", "pods", true);
    check(user("system:serviceaccount:a:reader", &[]), "", "pods", true);

    let ops = || user("x", &["ops"]);
    check(ops(), "a", "secrets", true);
    check(ops(), "", "nodes", true);
    let path = |user: UserInfo| allows(&policy, &user, path_request("c", "GET", "get", "/metrics", ActionClass::Read));
    assert!(path(ops()));
    assert!(!path(jane()));
    assert!(!path(ci()), "a RoleBinding opens no path, whatever its ClusterRole says");
    assert_eq!(policy.handle(&clusters_read_query(), Some(&ops())), Decision::Allow);
    assert_eq!(policy.handle(&clusters_read_query(), Some(&jane())), Decision::NoOpinion);
    assert_eq!(policy.handle(&clusters_read_query(), None), Decision::NoOpinion);
}

/// Goal: a binding with `clusters` holds in these, and does not open the list of clusters.
#[test]
fn a_binding_may_be_for_some_clusters() {
    let mut bound = binding(None, json!([{ "kind": "User", "name": "jane" }]), "ClusterRole", "all");
    bound["clusters"] = json!(["staging-*", "test"]);
    let rules = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }, { "nonResourceURLs": ["*"], "verbs": ["*"] }]);
    let settings = json!({ "clusterRoles": [role(None, "all", rules)], "clusterRoleBindings": [bound] });
    let policy = policy(&settings).unwrap();
    let jane = user("jane", &[]);
    for (cluster, allowed) in [("staging-1", true), ("test", true), ("production", false), ("testing", false)] {
        let request = resource_request(cluster, "get", "dev", "pods", ActionClass::Read);
        assert_eq!(allows(&policy, &jane, request), allowed, "{cluster}");
    }
    assert_eq!(policy.handle(&clusters_read_query(), Some(&jane)), Decision::NoOpinion);
}

/// Goal: what is not allowed is left to others, or denied in the API server's words. Method: rows.
#[test]
fn silence_or_a_denial() {
    let mut settings = bound_everywhere(&get_pods()[0]);
    let secrets = || proxy_query(resource_request("one", "list", "dev", "secrets", ActionClass::Credential));
    let decide =
        |settings: &Value, query: &PolicyQuery| policy(settings).unwrap().handle(query, Some(&user("jane", &[])));
    assert_eq!(decide(&settings, &secrets()), Decision::NoOpinion);

    settings["onNoMatch"] = json!("deny");
    let denied = |query: &PolicyQuery, expected: &str| {
        assert_eq!(decide(&settings, query), Decision::Deny(expected.to_owned()));
    };
    denied(
        &secrets(),
        r#"User "jane" cannot list resource "secrets" in API group "" in the namespace "dev" of cluster "one""#,
    );
    let mut nodes = resource_request("one", "get", "", "nodes", ActionClass::Exec);
    nodes.subresource = "proxy".to_owned();
    denied(
        &proxy_query(nodes),
        r#"User "jane" cannot get resource "nodes/proxy" in API group "" at the cluster scope of cluster "one""#,
    );
    let path = path_request("one", "GET", "get", "/metrics", ActionClass::Read);
    denied(&proxy_query(path), r#"User "jane" cannot get path "/metrics""#);
    denied(&clusters_read_query(), r#"User "jane" cannot get path "/witgate/clusters""#);
    assert_eq!(decide(&settings, &proxy_query(get("pods"))), Decision::Allow);
    let mut other = clusters_read_query();
    other.permission.name = "catalog.read".to_owned();
    assert_eq!(decide(&settings, &other), Decision::NoOpinion);
}

/// Goal: what `kubectl get … -o yaml` prints is taken as it is.
#[test]
fn exported_objects_are_understood() {
    let metadata = json!({ "name": "r", "uid": "1", "creationTimestamp": "2024-01-01T00:00:00Z", "labels": { "a": "b" },
        "annotations": {}, "resourceVersion": "7", "managedFields": [] });
    let group = json!({ "matchLabels": { "a": "b" } });
    let items = json!([
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": metadata,
          "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane" }],
          "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r" } },
        { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata, "rules": get_pods(),
          "aggregationRule": { "clusterRoleSelectors": [group] } },
        { "kind": "Role", "metadata": { "name": "empty", "namespace": "a" }, "rules": null },
    ]);
    assert!(allows(&policy(&json!({ "items": items })).unwrap(), &user("jane", &[]), get("pods")));
}

/// Goal: each mistake is refused, with its key and what would be right. Method: one row a mistake, in settings that are else right.
#[test]
fn a_mistake_is_refused() {
    let right = bound_everywhere(&get_pods()[0]);
    policy(&right).unwrap();
    let with = |path: &str, value: Value| {
        let mut settings = right.clone();
        *settings.pointer_mut(path).unwrap() = value;
        settings
    };
    let rule = |rule: Value| with("/clusterRoles/0/rules/0", rule);
    let subject = |subject: Value| with("/clusterRoleBindings/0/subjects/0", subject);
    let role_ref = |role: Value| with("/clusterRoleBindings/0/roleRef", role);
    let object = |list: &str, object: Value| {
        let mut settings = right.clone();
        settings[list] = json!([object]);
        settings
    };
    for (settings, fault) in [
        (
            rule(json!({ "apiGroups": [""], "resources": ["pods"] })),
            "clusterRoles[0].rules[0].verbs: name at least one, or `*` for all",
        ),
        (
            rule(json!({ "resources": ["pods"], "verbs": ["get"] })),
            "clusterRoles[0].rules[0].apiGroups: name at least one: `\"\"` is the core group, `*` every one",
        ),
        (
            rule(json!({ "apiGroups": [""], "verbs": ["get"] })),
            "clusterRoles[0].rules[0].resources: name at least one, or `*` for all",
        ),
        (
            rule(json!({ "apiGroups": [""], "resources": ["pods"], "nonResourceURLs": ["/x"], "verbs": ["get"] })),
            "clusterRoles[0].rules[0].nonResourceURLs: one rule cannot be about paths and about resources; make two of it",
        ),
        (
            object("roles", role(Some("a"), "r", json!([{ "nonResourceURLs": ["/x"], "verbs": ["get"] }]))),
            "roles[0].rules[0].nonResourceURLs: paths lie in no namespace; give them in a ClusterRole and a ClusterRoleBinding",
        ),
        (
            object("roles", role(None, "r", get_pods())),
            "roles[0].metadata.namespace: is missing; a Role is of one namespace",
        ),
        (
            with("/clusterRoles/0/metadata/namespace", json!("a")),
            "clusterRoles[0].metadata.namespace: objects of kind ClusterRole have none",
        ),
        (
            object("items", role(None, "x", get_pods())),
            "items[0].kind: is missing; it must be Role, ClusterRole, RoleBinding or ClusterRoleBinding",
        ),
        (
            object("items", json!({ "kind": "Pod", "metadata": { "name": "x" } })),
            "items[0].kind: is `Pod`; it must be Role, ClusterRole, RoleBinding or ClusterRoleBinding",
        ),
        (
            object("roles", json!({ "kind": "ClusterRole", "metadata": { "name": "x" } })),
            "roles[0].kind: is `ClusterRole`; this list holds objects of kind Role",
        ),
        (
            object("items", json!({ "kind": "ClusterRole", "apiVersion": "v1", "metadata": { "name": "x" } })),
            "items[0].apiVersion: is `v1`; it must be `rbac.authorization.k8s.io/v1`",
        ),
        (
            object("items", json!({ "kind": "ClusterRole", "metadata": { "name": "x" }, "clusters": ["a"] })),
            "items[0].clusters: objects of kind ClusterRole have none",
        ),
        (
            object("items", json!({ "kind": "ClusterRole", "metadata": { "name": "x" }, "aggregationRule": {} })),
            "items[0].rules: are missing; an `aggregationRule` is carried out by a controller in a cluster, so write out what it made",
        ),
        (
            object("items", json!({ "kind": "ClusterRole", "metadata": { "name": "r" } })),
            "items[0].metadata.name: there are two of kind ClusterRole called `r`",
        ),
        (
            subject(json!({ "kind": "Users", "name": "x", "apiGroup": null })),
            "clusterRoleBindings[0].subjects[0].kind: is `Users`; it must be User, Group or ServiceAccount",
        ),
        (
            subject(json!({ "kind": "ServiceAccount", "name": "x" })),
            "clusterRoleBindings[0].subjects[0].namespace: is missing; a ServiceAccount is of one namespace",
        ),
        (
            subject(json!({ "kind": "User", "name": "x", "apiGroup": "v1" })),
            "clusterRoleBindings[0].subjects[0].apiGroup: is `v1`; for a User it must be `rbac.authorization.k8s.io`",
        ),
        (subject(json!({ "kind": "User", "name": "" })), "clusterRoleBindings[0].subjects[0].name: is empty"),
        (
            with("/clusterRoleBindings/0/subjects", json!([])),
            "clusterRoleBindings[0].subjects: name at least one; without any, the binding is for nobody",
        ),
        (
            role_ref(json!({ "kind": "ClusterRole", "name": "other" })),
            "clusterRoleBindings[0].roleRef: there is no ClusterRole `other`",
        ),
        (
            role_ref(json!({ "kind": "Role", "name": "r" })),
            "clusterRoleBindings[0].roleRef.kind: a ClusterRoleBinding gives a ClusterRole, not a Role",
        ),
        (role_ref(Value::Null), "clusterRoleBindings[0].roleRef: is missing"),
        (
            object("roleBindings", binding(Some("a"), json!([{ "kind": "User", "name": "x" }]), "Role", "r")),
            "roleBindings[0].roleRef: there is no Role `r` in namespace `a`",
        ),
        (
            json!({}),
            "give at least one binding, under `roleBindings` or `clusterRoleBindings`; without any, this policy opens nothing",
        ),
    ] {
        assert_eq!(policy(&settings).err(), Some(vec![fault.to_owned()]), "{settings}");
    }
    let mut clusters = right.clone();
    clusters["clusterRoleBindings"][0]["clusters"] = json!([]);
    let fault =
        "clusterRoleBindings[0].clusters: name the clusters, with `*` for any run of characters; or leave it out";
    assert_eq!(policy(&clusters).err(), Some(vec![fault.to_owned()]));
}

#[track_caller]
fn check(rule: &Value, request: RequestAttributes, allowed: bool) {
    let shown = format!("{rule} {request:?}");
    let policy = policy(&bound_everywhere(rule)).unwrap();
    assert_eq!(allows(&policy, &user("jane", &[]), request), allowed, "{shown}");
}

fn allows(policy: &Rbac, user: &UserInfo, request: RequestAttributes) -> bool {
    match policy.handle(&proxy_query(request), Some(user)) {
        Decision::Allow => true,
        Decision::NoOpinion => false,
        other => panic!("{other:?}"),
    }
}

/// Jane has this rule in every namespace.
fn bound_everywhere(rule: &Value) -> Value {
    json!({
        "clusterRoles": [role(None, "r", json!([rule]))],
        "clusterRoleBindings": [binding(None, json!([{ "kind": "User", "name": "jane" }]), "ClusterRole", "r")],
    })
}

fn get_pods() -> Value {
    json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }])
}

fn role(namespace: Option<&str>, name: &str, rules: Value) -> Value {
    json!({ "metadata": { "name": name, "namespace": namespace.unwrap_or("") }, "rules": rules })
}

fn binding(namespace: Option<&str>, subjects: Value, kind: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": "b", "namespace": namespace.unwrap_or("") },
        "subjects": subjects, "roleRef": { "kind": kind, "name": role },
    })
}

fn get(resource_name: &str) -> RequestAttributes {
    resource("get", "", resource_name, "")
}

fn resource(verb: &str, api_group: &str, resource: &str, subresource: &str) -> RequestAttributes {
    RequestAttributes {
        api_group: api_group.to_owned(),
        subresource: subresource.to_owned(),
        ..resource_request("c", verb, "dev", resource, ActionClass::Read)
    }
}

fn policy(settings: &Value) -> Result<Rbac, Vec<String>> {
    Rbac::configure(serde_json::from_value(settings.clone()).unwrap())
}
