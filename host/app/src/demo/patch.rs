//! The three patches that kubectl sends: JSON patch (RFC 6902), JSON merge patch (RFC 7386), strategic merge patch.
//!
//! Knows nothing of objects: it turns one JSON value into another. Server-side apply is not among them, as it needs the
//! owner of every field.

use serde_json::{Map, Value};

use super::failure::Failure;

/// How a body changes an object, by its `Content-Type`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PatchKind {
    /// `application/json-patch+json`
    Json,
    /// `application/merge-patch+json`
    Merge,
    /// `application/strategic-merge-patch+json`
    StrategicMerge,
}

impl PatchKind {
    /// Reads a `Content-Type`.
    pub(crate) fn parse(content_type: &str) -> Result<Self, Failure> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::StrategicMerge),
            "application/apply-patch+yaml" | "application/apply-patch+cbor" => Err(Failure::unsupported_media_type(
                "the sample API server of `witgate demo` has no server-side apply: use kubectl apply without --server-side",
            )),
            other => Err(Failure::unsupported_media_type(format!("`{other}` is not a patch that is read here"))),
        }
    }

    /// What `target` becomes.
    pub(crate) fn apply(self, mut target: Value, patch: Value) -> Result<Value, Failure> {
        match (self, patch) {
            (Self::Json, Value::Array(operations)) if operations.len() <= OPERATIONS_MAX => {
                for operation in &operations {
                    json_operation(&mut target, operation)?;
                }
                Ok(target)
            }
            (Self::Json, _) => {
                Err(Failure::bad_request(format!("a JSON patch is a list of up to {OPERATIONS_MAX} operations")))
            }
            (Self::Merge, patch @ Value::Object(_)) => {
                merge(&mut target, patch);
                Ok(target)
            }
            (Self::StrategicMerge, Value::Object(patch)) => {
                strategic_merge(&mut target, patch);
                Ok(target)
            }
            (Self::Merge | Self::StrategicMerge, _) => Err(Failure::bad_request("a merge patch is an object")),
        }
    }
}

/// RFC 7386: objects merge, null removes, all else replaces.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    let target = object(target);
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Like a merge patch, but lists of things that have a key merge by that key, and `$` directives say more.
fn strategic_merge(target: &mut Value, mut patch: Map<String, Value>) {
    match patch.shift_remove("$patch") {
        Some(directive) if directive == "replace" => {
            *target = Value::Object(patch);
            return;
        }
        Some(directive) if directive == "delete" => {
            *target = Value::Object(Map::new());
            return;
        }
        _ => {}
    }
    let target = object(target);
    if let Some(Value::Array(kept)) = patch.shift_remove("$retainKeys") {
        target.retain(|key, _| kept.iter().any(|kept| kept.as_str() == Some(key)));
    }
    for (key, value) in patch {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(have)), Value::Array(unwanted)) = (target.get_mut(list), value) {
                have.retain(|value| !unwanted.contains(value));
            }
            continue;
        }
        if key.starts_with('$') {
            continue; // `$setElementOrder/…` only orders what the merge below has brought together
        }
        match value {
            Value::Null => {
                target.shift_remove(&key);
            }
            Value::Object(value) => strategic_merge(target.entry(key).or_insert(Value::Null), value),
            Value::Array(value) => {
                let have = target.entry(key.as_str()).or_insert(Value::Null);
                match MERGE_KEYS.iter().find(|(list, _)| *list == key) {
                    Some((_, keys)) => merge_by_key(have, value, keys),
                    None => *have = Value::Array(value),
                }
            }
            value => {
                target.insert(key, value);
            }
        }
    }
}

/// Merges a list of objects by the first of `keys` that an entry has.
fn merge_by_key(target: &mut Value, patch: Vec<Value>, keys: &[&str]) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Some(target) = target.as_array_mut() else { return };
    if patch.iter().any(|entry| entry.get("$patch").is_some_and(|directive| directive == "replace")) {
        target.clear();
    }
    for entry in patch {
        let Value::Object(mut entry) = entry else {
            if !target.contains(&entry) {
                target.push(entry); // a list of names, such as finalizers
            }
            continue;
        };
        let directive = entry.get("$patch").and_then(Value::as_str).map(str::to_owned);
        let Some((key, value)) = keys.iter().find_map(|key| Some((*key, entry.get(*key)?.clone()))) else {
            continue; // the lone `$patch: replace`
        };
        let same = |have: &Value| have.get(key) == Some(&value);
        match directive.as_deref() {
            Some("delete") => target.retain(|have| !same(have)),
            _ => match target.iter_mut().find(|have| same(have)) {
                Some(have) => strategic_merge(have, entry),
                None => {
                    entry.shift_remove("$patch");
                    let mut new = Value::Null;
                    strategic_merge(&mut new, entry); // drops what is null or a directive
                    target.push(new);
                }
            },
        }
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("made an object just above")
}

/// One operation of RFC 6902.
fn json_operation(target: &mut Value, operation: &Value) -> Result<(), Failure> {
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let missing = |key: &str| Failure::bad_request(format!("a JSON patch operation has no `{key}`"));
    let path = text("path").ok_or_else(|| missing("path"))?;
    let value = || operation.get("value").cloned().ok_or_else(|| missing("value"));
    let from = || text("from").ok_or_else(|| missing("from"));
    let found = |target: &Value, path: &str| target.pointer(path).cloned().ok_or_else(|| no_such_path(path));
    match text("op").ok_or_else(|| missing("op"))? {
        "add" => add(target, path, value()?),
        "remove" => remove(target, path).map(drop),
        "replace" => {
            *target.pointer_mut(path).ok_or_else(|| no_such_path(path))? = value()?;
            Ok(())
        }
        "move" => {
            let moved = remove(target, from()?)?;
            add(target, path, moved)
        }
        "copy" => {
            let copied = found(target, from()?)?;
            add(target, path, copied)
        }
        "test" if found(target, path)? == value()? => Ok(()),
        "test" => Err(Failure::bad_request(format!("the JSON patch's test of `{path}` does not hold"))),
        other => Err(Failure::bad_request(format!("`{other}` is not a JSON patch operation"))),
    }
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Failure> {
    let (parent, last) = split_pointer(path)?;
    match target.pointer_mut(parent) {
        Some(Value::Object(object)) => {
            object.insert(last, value);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let at = if last == "-" { list.len() } else { last.parse().map_err(|_| no_such_path(path))? };
            if at > list.len() {
                return Err(no_such_path(path));
            }
            list.insert(at, value);
            Ok(())
        }
        _ => Err(no_such_path(path)),
    }
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Failure> {
    let (parent, last) = split_pointer(path)?;
    let removed = match target.pointer_mut(parent) {
        Some(Value::Object(object)) => object.shift_remove(&last),
        Some(Value::Array(list)) => match last.parse::<usize>() {
            Ok(at) if at < list.len() => Some(list.remove(at)),
            _ => None,
        },
        _ => None,
    };
    removed.ok_or_else(|| no_such_path(path))
}

fn split_pointer(path: &str) -> Result<(&str, String), Failure> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| no_such_path(path))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn no_such_path(path: &str) -> Failure {
    Failure::bad_request(format!("the object has nothing at the JSON patch's path `{path}`"))
}

/// The lists of the served kinds that merge by a key, as the API types' `patchMergeKey` tags say.
const MERGE_KEYS: [(&str, &[&str]); 12] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("imagePullSecrets", &["name"]),
    ("ports", &["containerPort", "port"]),
    ("hostAliases", &["ip"]),
    ("conditions", &["type"]),
    ("ownerReferences", &["uid"]),
    ("finalizers", &[]),
];

/// The real server's limit too.
const OPERATIONS_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Goal: each patch changes just what it names. Method: rows of kind, object, patch, result.
    #[test]
    fn a_patch_changes_what_it_names() {
        let map = json!({ "data": { "a": "1", "b": "2" } });
        check(
            PatchKind::Merge,
            &map,
            json!({ "data": { "a": null, "c": "3" } }),
            json!({ "data": { "b": "2", "c": "3" } }),
        );
        check(PatchKind::Merge, &map, json!({ "data": ["x"] }), json!({ "data": ["x"] }));

        let pod = json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "b", "image": "1" }] });
        let patch =
            json!({ "$setElementOrder/containers": [{ "name": "a" }], "containers": [{ "name": "a", "image": "2" }] });
        let patched = json!({ "containers": [{ "name": "a", "image": "2" }, { "name": "b", "image": "1" }] });
        check(PatchKind::StrategicMerge, &pod, patch, patched);
        let patch = json!({ "containers": [{ "name": "b", "$patch": "delete" }, { "name": "c", "image": null }] });
        let patched = json!({ "containers": [{ "name": "a", "image": "1" }, { "name": "c" }] });
        check(PatchKind::StrategicMerge, &pod, patch, patched);
        let patch = json!({ "containers": [{ "$patch": "replace" }, { "name": "z" }] });
        check(PatchKind::StrategicMerge, &pod, patch, json!({ "containers": [{ "name": "z" }] }));

        let list = json!({ "l": [1, 2], "k/e": 0 });
        check(
            PatchKind::Json,
            &list,
            json!([{ "op": "add", "path": "/l/-", "value": 3 }]),
            json!({ "l": [1, 2, 3], "k/e": 0 }),
        );
        check(PatchKind::Json, &list, json!([{ "op": "remove", "path": "/l/0" }]), json!({ "l": [2], "k/e": 0 }));
        check(
            PatchKind::Json,
            &list,
            json!([{ "op": "replace", "path": "/k~1e", "value": 1 }]),
            json!({ "l": [1, 2], "k/e": 1 }),
        );
        check(
            PatchKind::Json,
            &list,
            json!([{ "op": "move", "from": "/l", "path": "/m" }]),
            json!({ "m": [1, 2], "k/e": 0 }),
        );
    }

    #[track_caller]
    fn check(kind: PatchKind, target: &Value, patch: Value, expected: Value) {
        assert_eq!(kind.apply(target.clone(), patch), Ok(expected));
    }

    /// Goal: a patch that does not fit is refused whole. Method: rows; an `Err` holds no half-changed object.
    #[test]
    fn a_patch_that_does_not_fit_is_refused() {
        check_refused(PatchKind::Json, json!([{ "op": "remove", "path": "/absent" }]));
        check_refused(PatchKind::Json, json!([{ "op": "add", "path": "/l/9", "value": 1 }]));
        check_refused(PatchKind::Json, json!([{ "op": "test", "path": "/l/0", "value": 9 }]));
        check_refused(PatchKind::Json, json!([{ "op": "add", "path": "nowhere", "value": 9 }]));
        check_refused(PatchKind::Json, json!([{ "path": "/l" }]));
        check_refused(PatchKind::Json, json!({}));
        check_refused(PatchKind::Merge, json!([]));
        check_refused(PatchKind::StrategicMerge, json!("x"));
    }

    #[track_caller]
    fn check_refused(kind: PatchKind, patch: Value) {
        let failure = kind.apply(json!({ "l": [1] }), patch).unwrap_err();
        assert_eq!(failure.code(), http::StatusCode::BAD_REQUEST);
    }

    #[test]
    fn server_side_apply_is_refused_by_name() {
        let failure = PatchKind::parse("application/apply-patch+yaml").unwrap_err();
        assert_eq!(failure.code(), http::StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(failure.to_json().to_string().contains("server-side apply"));
    }
}
