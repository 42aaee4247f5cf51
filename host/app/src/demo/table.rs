//! Server-side printing: objects as a `meta.k8s.io/v1` Table, which is what `kubectl get` shows.
//!
//! Cells follow the real server's printers for the columns that people look at; a field that an object lacks prints as
//! the real one prints it. Nothing here fails, whatever an object holds.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::objects::text;
use super::resources::Resource;

/// How a Table is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct TableOptions {
    /// What each row says of its object.
    pub(crate) include_object: IncludeObject,
    /// Whether the columns are described; a watch does so once.
    pub(crate) header: Header,
}

/// The `includeObject` parameter.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// Whether the columns are described.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Header {
    /// They are.
    Shown,
    /// The reader has them already.
    Omitted,
}

impl IncludeObject {
    /// Reads the parameter.
    pub(crate) fn parse(value: Option<&str>) -> Self {
        match value {
            Some("None") => Self::None,
            Some("Object") => Self::Object,
            _ => Self::Metadata,
        }
    }
}

/// `objects` as rows; `metadata` is the list's.
pub(crate) fn table(
    resource: &Resource,
    objects: &[Arc<Value>],
    metadata: Value,
    options: TableOptions,
    now: Timestamp,
) -> Value {
    let columns = columns(resource);
    let definitions: Vec<Value> = match options.header {
        Header::Shown => columns.iter().map(Column::definition).collect(),
        Header::Omitted => Vec::new(),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| (column.cell)(object, now)).collect();
            match options.include_object {
                IncludeObject::None => json!({ "cells": cells }),
                IncludeObject::Metadata => json!({ "cells": cells, "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object.get("metadata"),
                } }),
                IncludeObject::Object => json!({ "cells": cells, "object": object.as_ref() }),
            }
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": definitions, "rows": rows,
    })
}

/// How long ago, in the units of `kubectl get`: `45s`, `2m30s`, `3h`, `5d4h`.
pub(crate) fn age(seconds: i64) -> String {
    let unit = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => unit(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => unit(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => unit(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => unit(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

struct Column {
    name: &'static str,
    kind: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    priority: u8,
    cell: fn(&Value, Timestamp) -> Value,
}

impl Column {
    const fn text(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Self {
        Self { name, kind: "string", priority: 0, cell }
    }

    const fn number(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Self {
        Self { name, kind: "integer", priority: 0, cell }
    }

    const fn wide(name: &'static str, cell: fn(&Value, Timestamp) -> Value) -> Self {
        Self { name, kind: "string", priority: 1, cell }
    }

    fn definition(&self) -> Value {
        let format = if self.name == "Name" { "name" } else { "" };
        json!({
            "name": self.name, "type": self.kind, "format": format, "description": "", "priority": self.priority,
        })
    }
}

fn columns(resource: &Resource) -> &'static [Column] {
    match resource.plural {
        "configmaps" => &CONFIG_MAP_COLUMNS,
        "deployments" => &DEPLOYMENT_COLUMNS,
        "namespaces" => &NAMESPACE_COLUMNS,
        "nodes" => &NODE_COLUMNS,
        "pods" => &POD_COLUMNS,
        "secrets" => &SECRET_COLUMNS,
        "services" => &SERVICE_COLUMNS,
        _ => &PLAIN_COLUMNS,
    }
}

const NAME: Column = Column::text("Name", |object, _| json!(text(object, "/metadata/name")));
const AGE: Column = Column::text("Age", |object, now| {
    let created = text(object, "/metadata/creationTimestamp").parse::<Timestamp>();
    created.map_or_else(|_| json!("<unknown>"), |created| json!(age(now.as_second() - created.as_second())))
});
const STATUS: Column = Column::text("Status", |object, _| json!(text(object, "/status/phase")));
const DATA: Column = Column::number("Data", |object, _| {
    let entries = |field: &str| object.get(field).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    json!(entries("data") + entries("binaryData"))
});

static PLAIN_COLUMNS: [Column; 2] = [NAME, AGE];
static CONFIG_MAP_COLUMNS: [Column; 3] = [NAME, DATA, AGE];
static NAMESPACE_COLUMNS: [Column; 3] = [NAME, STATUS, AGE];

static SECRET_COLUMNS: [Column; 4] = [NAME, Column::text("Type", |secret, _| json!(text(secret, "/type"))), DATA, AGE];

static POD_COLUMNS: [Column; 7] = [
    NAME,
    Column::text("Ready", |pod, _| {
        let ready = container_statuses(pod).filter(|status| status.get("ready") == Some(&json!(true))).count();
        json!(format!("{ready}/{}", length(pod, "/spec/containers")))
    }),
    Column::text("Status", |pod, _| {
        let deleted = pod.pointer("/metadata/deletionTimestamp").is_some();
        json!(if deleted { "Terminating" } else { text(pod, "/status/phase") })
    }),
    Column {
        kind: "string",
        ..Column::number("Restarts", |pod, _| {
            let restarts =
                container_statuses(pod).filter_map(|status| status.get("restartCount").and_then(Value::as_u64));
            json!(restarts.fold(0, u64::saturating_add).to_string())
        })
    },
    AGE,
    Column::wide("IP", |pod, _| or_none(text(pod, "/status/podIP"))),
    Column::wide("Node", |pod, _| or_none(text(pod, "/spec/nodeName"))),
];

static DEPLOYMENT_COLUMNS: [Column; 5] = [
    NAME,
    Column::text("Ready", |deployment, _| {
        let wanted = number(deployment, "/spec/replicas");
        json!(format!("{}/{wanted}", number(deployment, "/status/readyReplicas")))
    }),
    Column::number("Up-to-date", |deployment, _| json!(number(deployment, "/status/updatedReplicas"))),
    Column::number("Available", |deployment, _| json!(number(deployment, "/status/availableReplicas"))),
    AGE,
];

static NODE_COLUMNS: [Column; 5] = [
    NAME,
    Column::text("Status", |node, _| {
        let conditions = node.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
        let mut ready = conditions.filter(|condition| text(condition, "/type") == "Ready");
        json!(if ready.any(|condition| text(condition, "/status") == "True") { "Ready" } else { "NotReady" })
    }),
    Column::text("Roles", |_, _| or_none("")),
    AGE,
    Column::text("Version", |node, _| json!(text(node, "/status/nodeInfo/kubeletVersion"))),
];

static SERVICE_COLUMNS: [Column; 6] = [
    NAME,
    Column::text("Type", |service, _| json!(text(service, "/spec/type"))),
    Column::text("Cluster-IP", |service, _| or_none(text(service, "/spec/clusterIP"))),
    Column::text("External-IP", |_, _| or_none("")),
    Column::text("Port(s)", |service, _| {
        let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
        let ports: Vec<String> = ports
            .map(|port| {
                let protocol = Some(text(port, "/protocol")).filter(|given| !given.is_empty()).unwrap_or("TCP");
                format!("{}/{protocol}", number(port, "/port"))
            })
            .collect();
        or_none(&ports.join(","))
    }),
    AGE,
];

fn container_statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten()
}

fn length(object: &Value, pointer: &str) -> usize {
    object.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len)
}

fn number(object: &Value, pointer: &str) -> u64 {
    object.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ages read as kubectl's. Method: both sides of each bound of `duration.HumanDuration`.
    #[test]
    fn an_age_has_the_units_of_kubectl() {
        for (seconds, expected) in [
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (28_799, "7h59m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (94_694_400, "3y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(age(seconds), expected, "{seconds}");
        }
    }

    /// Goal: what `kubectl get` shows. Method: header and one row a resource; the last rows hold nothing that is expected.
    #[test]
    fn a_row_shows_what_kubectl_shows() {
        let created = json!("2026-01-01T00:00:00Z");
        let metadata = json!({ "name": "web", "creationTimestamp": created });
        let pod = json!({
            "metadata": metadata, "spec": { "containers": [{}, {}], "nodeName": "n1" },
            "status": { "phase": "Running", "containerStatuses": [{ "ready": true, "restartCount": 2 }, { "ready": false }] },
        });
        let service = json!({ "metadata": metadata, "spec": { "type": "ClusterIP", "ports": [{ "port": 80 }] } });
        let deployment = json!({ "metadata": metadata, "spec": { "replicas": 2 }, "status": { "readyReplicas": 1 } });
        let secret = json!({ "metadata": metadata, "type": "Opaque", "data": { "a": "", "b": "" } });
        check("pods", pod, "Name|Ready|Status|Restarts|Age|IP|Node", "web|1/2|Running|2|60s|<none>|n1");
        check(
            "services",
            service,
            "Name|Type|Cluster-IP|External-IP|Port(s)|Age",
            "web|ClusterIP|<none>|<none>|80/TCP|60s",
        );
        check("deployments", deployment, "Name|Ready|Up-to-date|Available|Age", "web|1/2|0|0|60s");
        check("secrets", secret, "Name|Type|Data|Age", "web|Opaque|2|60s");
        check("configmaps", json!({ "metadata": metadata }), "Name|Data|Age", "web|0|60s");
        check("namespaces", json!({ "metadata": 7 }), "Name|Status|Age", "||<unknown>");
        check("nodes", json!([]), "Name|Status|Roles|Age|Version", "|NotReady|<none>|<unknown>|");
        check("pods", json!({}), "Name|Ready|Status|Restarts|Age|IP|Node", "|0/0||0|<unknown>|<none>|<none>");
    }

    #[track_caller]
    fn check(plural: &str, object: Value, header: &str, row: &str) {
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        let options = TableOptions { include_object: IncludeObject::None, header: Header::Shown };
        let table = table(Resource::named(plural), &[Arc::new(object)], json!({}), options, now);
        let list = |pointer: &str| table.pointer(pointer).unwrap().as_array().unwrap().clone();
        let names =
            list("/columnDefinitions").iter().map(|column| text(column, "/name").to_owned()).collect::<Vec<_>>();
        let cells = list("/rows/0/cells");
        let cells = cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned));
        assert_eq!((names.join("|").as_str(), cells.collect::<Vec<_>>().join("|").as_str()), (header, row));
    }

    /// Goal: a row carries as much of its object as was asked for. Method: one row a value of `includeObject`.
    #[test]
    fn a_row_includes_its_object_as_asked() {
        for (asked, expected) in [
            (Some("None"), None),
            (None, Some("PartialObjectMetadata")),
            (Some("Metadata"), Some("PartialObjectMetadata")),
            (Some("Object"), Some("Pod")),
        ] {
            let options = TableOptions { include_object: IncludeObject::parse(asked), header: Header::Omitted };
            let objects = [Arc::new(json!({ "kind": "Pod", "metadata": { "name": "web" } }))];
            let table = table(Resource::named("pods"), &objects, json!({}), options, Timestamp::UNIX_EPOCH);
            assert_eq!(table.pointer("/rows/0/object/kind").and_then(Value::as_str), expected, "{asked:?}");
            assert_eq!(table.pointer("/columnDefinitions"), Some(&json!([])));
        }
    }
}
