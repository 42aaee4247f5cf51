//! The document that modules see as `input`.
//!
//! ```json
//! {
//!   "user": { "name": "user:default/jane", "uid": "…", "groups": ["group:default/team-a"], "extra": { "scopes": ["…"] } },
//!   "permission": { "name": "kubernetes.proxy", "action": "…", "resourceType": "kubernetes-proxy-request" },
//!   "request": {
//!     "cluster": "production", "verb": "list", "apiGroup": "", "apiVersion": "v1", "namespace": "dev", "resource": "pods",
//!     "subresource": "", "name": "", "subpath": "", "fieldSelector": "…", "labelSelector": "team=a", "labels": { "team": "a" },
//!     "resourceRequest": true, "method": "GET", "path": "/api/v1/namespaces/dev/pods", "actionClass": "read", "upgrade": false,
//!     "patchType": "…", "dryRun": false
//!   },
//!   "now": 1769860800, "time": { "text": "2026-01-31T12:00:00Z", "weekday": "Saturday", "hour": 12, "minuteOfDay": 720 }
//! }
//! ```
//!
//! What a query does not have is not there, and so undefined: `request` for the permission to list the clusters, `uid`, selectors, … Texts
//! such as `namespace` are always there, and empty where the request has none. Times are in UTC.

use regorus::Value;
use serde_json::{Map, Value as Json, json};
use witgate_sdk::calendar::Utc;
use witgate_sdk::selector::required_labels;
use witgate_sdk::{PolicyQuery, RequestAttributes, UserInfo};

/// The input for one query.
pub(crate) fn input(query: &PolicyQuery, user: &UserInfo) -> Value {
    let UserInfo { name, uid, groups, extra } = user;
    let extra: Map<_, _> = extra.iter().map(|(key, values)| (key.clone(), json!(values))).collect();
    let permission = &query.permission;
    let utc = Utc::at(query.now);
    let input = object([
        (
            "user",
            object([("name", json!(name)), ("uid", json!(uid)), ("groups", json!(groups)), ("extra", extra.into())]),
        ),
        (
            "permission",
            object([
                ("name", json!(permission.name)),
                ("action", json!(permission.action)),
                ("resourceType", json!(permission.resource_type)),
            ]),
        ),
        ("resourceRef", json!(query.resource_ref)),
        ("request", query.request.as_ref().map_or(Json::Null, request)),
        ("now", json!(query.now)),
        (
            "time",
            json!({
                "text": utc.to_string(), "weekday": utc.weekday.to_string(), "hour": utc.hour,
                "minuteOfDay": utc.minute_of_day(),
            }),
        ),
    ]);
    Value::from(input)
}

fn request(request: &RequestAttributes) -> Json {
    let selector = request.label_selector.as_deref().unwrap_or("");
    // Of a label that is demanded twice with two values nothing is selected.
    let labels: Map<_, _> =
        required_labels(selector).into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    object([
        ("cluster", json!(request.cluster)),
        ("verb", json!(request.verb)),
        ("apiGroup", json!(request.api_group)),
        ("apiVersion", json!(request.api_version)),
        ("namespace", json!(request.namespace)),
        ("resource", json!(request.resource)),
        ("subresource", json!(request.subresource)),
        ("name", json!(request.name)),
        ("subpath", json!(request.subpath)),
        ("fieldSelector", json!(request.field_selector)),
        ("labelSelector", json!(request.label_selector)),
        ("labels", labels.into()),
        ("resourceRequest", json!(request.resource_request)),
        ("method", json!(request.method)),
        ("path", json!(request.path)),
        ("actionClass", json!(request.action_class.as_str())),
        ("upgrade", json!(request.upgrade)),
        ("patchType", json!(request.patch_type)),
        ("dryRun", json!(request.dry_run)),
    ])
}

/// An object without what is null: to Rego, null is something.
fn object<const N: usize>(pairs: [(&str, Json); N]) -> Json {
    let there = pairs.into_iter().filter(|(_, value)| !value.is_null());
    Json::Object(there.map(|(key, value)| (key.to_owned(), value)).collect())
}
