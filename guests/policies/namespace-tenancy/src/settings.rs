//! The settings, as they are written and as they are used.

use serde::Deserialize;
use witgate_sdk::ActionClass;
use witgate_sdk::pattern::Patterns;

/// The sidecar's `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    tenants: Vec<RawTenant>,
}

/// One rule as it is written: any texts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawTenant {
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    clusters: Vec<String>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default)]
    cluster_scoped: bool,
    actions: Vec<String>,
    #[serde(default)]
    list_clusters: bool,
}

/// One rule: who may do what, and where.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) groups: Patterns,
    pub(crate) users: Patterns,
    pub(crate) clusters: Patterns,
    pub(crate) namespaces: Patterns,
    /// Whether what lies outside namespaces is the tenant's too.
    pub(crate) cluster_scoped: bool,
    pub(crate) actions: Vec<ActionClass>,
    /// Whether the tenant may list the clusters; all of them are shown then.
    pub(crate) list_clusters: bool,
}

impl Settings {
    /// The rules, or every fault with its key. A rule that could never match is a fault: it is a mistake.
    pub(crate) fn tenants(self) -> Result<Vec<Tenant>, Vec<String>> {
        let mut faults = Vec::new();
        if self.tenants.is_empty() {
            faults.push("tenants: name at least one tenant; without any, this policy opens nothing".to_owned());
        }
        let numbered = self.tenants.into_iter().enumerate();
        let tenants = numbered.map(|(index, raw)| raw.tenant(&format!("tenants[{index}]"), &mut faults)).collect();
        if faults.is_empty() { Ok(tenants) } else { Err(faults) }
    }
}

impl RawTenant {
    fn tenant(self, key: &str, faults: &mut Vec<String>) -> Tenant {
        let mut patterns = |name: &str, texts: Vec<String>| {
            for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
                faults.push(format!("{key}.{name}[{index}]: is empty; write a name, or `*` for any"));
            }
            Patterns::new(texts)
        };
        let groups = patterns("groups", self.groups);
        let users = patterns("users", self.users);
        let clusters = patterns("clusters", self.clusters);
        let namespaces = patterns("namespaces", self.namespaces);
        if groups.is_empty() && users.is_empty() {
            faults.push(format!("{key}: name at least one group or user, or `*` for everybody"));
        }
        if clusters.is_empty() {
            faults.push(format!("{key}.clusters: name at least one cluster, or `*` for all"));
        }
        if namespaces.is_empty() && !self.cluster_scoped {
            faults.push(format!("{key}.namespaces: name at least one namespace, or say `clusterScoped: true`"));
        }
        if self.actions.is_empty() {
            faults.push(format!("{key}.actions: name at least one action class, or `*` for all"));
        }
        let mut actions = Vec::new();
        for (index, text) in self.actions.iter().enumerate() {
            match text.as_str() {
                "*" => actions.extend(ActionClass::ALL),
                text => match text.parse() {
                    Ok(class) => actions.push(class),
                    Err(fault) => faults.push(format!("{key}.actions[{index}]: {fault}")),
                },
            }
        }
        let cluster_scoped = self.cluster_scoped || namespaces.has_everything();
        Tenant { groups, users, clusters, namespaces, cluster_scoped, actions, list_clusters: self.list_clusters }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every fault is told with its key. Method: one row a fault, and one with several.
    #[test]
    fn faults_name_their_keys() {
        check(r#"{"groups":["g"],"clusters":["*"],"namespaces":["a"],"actions":["read"]}"#, &[]);
        check(r#"{"users":["u"],"clusters":["c"],"clusterScoped":true,"actions":["*"]}"#, &[]);
        check(
            r#"{"clusters":["*"],"namespaces":["a"],"actions":["read"]}"#,
            &["tenants[0]: name at least one group or user, or `*` for everybody"],
        );
        check(
            r#"{"groups":["g",""],"clusters":[],"actions":["read","reed"]}"#,
            &[
                "tenants[0].groups[1]: is empty; write a name, or `*` for any",
                "tenants[0].clusters: name at least one cluster, or `*` for all",
                "tenants[0].namespaces: name at least one namespace, or say `clusterScoped: true`",
                "tenants[0].actions[1]: unknown action class `reed`; known are read, write, delete, exec, credential and escalate",
            ],
        );
        check(
            r#"{"groups":["g"],"clusters":["c"],"namespaces":["a"],"actions":[]}"#,
            &["tenants[0].actions: name at least one action class, or `*` for all"],
        );
        let none: Settings = serde_json::from_str(r#"{"tenants":[]}"#).unwrap();
        assert_eq!(
            none.tenants().unwrap_err(),
            ["tenants: name at least one tenant; without any, this policy opens nothing"]
        );
    }

    #[track_caller]
    fn check(tenant: &str, expected: &[&str]) {
        let settings: Settings = serde_json::from_str(&format!(r#"{{"tenants":[{tenant}]}}"#)).unwrap();
        assert_eq!(settings.tenants().err().unwrap_or_default(), expected);
    }
}
