//! What tells a client which resources there are: `/version`, `/api`, `/apis` and `/openapi/v3`.
//!
//! The OpenAPI documents hold no schemas: only that each kind takes PATCH with `fieldValidation`, which is what kubectl
//! looks for before it leaves validation to the server. They name no body, so that `kubectl apply` sends a merge patch.

use serde_json::{Value, json};

use super::resources::{RESOURCES, Resource, Scope, VERSION};

/// `/version`.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "32", "gitVersion": concat!("v1.32.0+witgate-demo-", env!("CARGO_PKG_VERSION")),
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": "witgate/demo",
    })
}

/// `/api`.
pub(crate) fn core_versions() -> Value {
    json!({
        "kind": "APIVersions", "versions": [VERSION],
        "serverAddressByClientCIDRs": [],
    })
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    let groups: Vec<_> = ["apps", REVIEW_GROUPS[0].0, REVIEW_GROUPS[1].0].into_iter().map(group).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

fn group(name: &str) -> Value {
    let version = json!({ "groupVersion": format!("{name}/{VERSION}"), "version": VERSION });
    json!({ "name": name, "versions": [version], "preferredVersion": version })
}

/// `/apis/GROUP`.
pub(crate) fn one_group(name: &str) -> Option<Value> {
    let known = !name.is_empty() && resources(name).is_some();
    known.then(|| {
        let mut group = group(name);
        if let Some(group) = group.as_object_mut() {
            group.insert("kind".to_owned(), json!("APIGroup"));
            group.insert("apiVersion".to_owned(), json!("v1"));
        }
        group
    })
}

/// `/api/v1` and `/apis/GROUP/v1`.
pub(crate) fn resources(group: &str) -> Option<Value> {
    let mut list: Vec<Value> = RESOURCES.iter().filter(|resource| resource.group == group).map(resource).collect();
    if group.is_empty() {
        list.push(json!({
            "name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"],
        }));
    }
    list.extend(REVIEW_GROUPS.iter().filter(|(name, ..)| *name == group).map(|(_, plural, kind)| {
        json!({
            "name": plural, "singularName": kind.to_lowercase(), "namespaced": false, "kind": kind,
            "verbs": ["create"],
        })
    }));
    if list.is_empty() {
        return None;
    }
    let group_version = if group.is_empty() { VERSION.to_owned() } else { format!("{group}/{VERSION}") };
    Some(json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list }))
}

fn resource(resource: &Resource) -> Value {
    json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.scope == Scope::Namespace,
        "kind": resource.kind,
        "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        "shortNames": resource.short_names,
    })
}

/// `/openapi/v3`.
pub(crate) fn openapi_index() -> Value {
    json!({ "paths": {
        "api/v1": { "serverRelativeURL": "/openapi/v3/api/v1" },
        "apis/apps/v1": { "serverRelativeURL": "/openapi/v3/apis/apps/v1" },
    } })
}

/// `/openapi/v3/api/v1` and `/openapi/v3/apis/GROUP/v1`.
pub(crate) fn openapi(group: &str) -> Option<Value> {
    let paths: serde_json::Map<String, Value> =
        RESOURCES.iter().filter(|resource| resource.group == group).map(openapi_path).collect();
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": { "title": "witgate sample API server", "version": env!("CARGO_PKG_VERSION") },
            "paths": paths,
            "components": { "schemas": {} },
        })
    })
}

fn openapi_path(resource: &Resource) -> (String, Value) {
    let root = if resource.group.is_empty() { "/api" } else { "/apis" };
    let in_namespace = match resource.scope {
        Scope::Namespace => "/namespaces/{namespace}",
        Scope::Cluster => "",
    };
    let path = format!("{root}/{}{in_namespace}/{}/{{name}}", resource.api_version(), resource.plural);
    let string = json!({ "type": "string" });
    let query = |name: &str| json!({ "name": name, "in": "query", "schema": string });
    let patch = json!({
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind": { "group": resource.group, "version": VERSION, "kind": resource.kind },
        "parameters": [query("dryRun"), query("fieldManager"), query("fieldValidation")],
        "responses": { "200": { "description": "OK" } },
    });
    (path, json!({ "patch": patch }))
}

/// Groups that hold one question each, and no objects: (group, plural, kind).
pub(crate) const REVIEW_GROUPS: [(&str, &str, &str); 2] = [
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each row of the table is announced under its own group only. Method: the names, group by group.
    #[test]
    fn each_group_lists_its_own_resources() {
        check("", "configmaps namespaces nodes pods secrets services pods/log");
        check("apps", "deployments");
        check("authorization.k8s.io", "selfsubjectaccessreviews");
        check("batch", "none");
    }

    #[track_caller]
    fn check(group: &str, expected: &str) {
        let names = resources(group).map_or_else(
            || "none".to_owned(),
            |list| {
                let list = list.pointer("/resources").and_then(Value::as_array).cloned().unwrap();
                list.iter().map(|entry| entry.pointer("/name").unwrap().as_str().unwrap()).collect::<Vec<_>>().join(" ")
            },
        );
        assert_eq!(names, expected);
    }
}
