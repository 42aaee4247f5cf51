//! The settings, and what becomes of them.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_sdk::pattern::Patterns;

use crate::Rbac;
use crate::index::{Bindings, Grant};
use crate::object::{Kind, Object, RoleRef};
use crate::rule::Rule;

/// The sidecar's `settings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Settings {
    #[serde(default)]
    on_no_match: OnNoMatch,
    /// Groups in which every caller is, such as `system:authenticated`.
    #[serde(default)]
    everybody_in: Vec<String>,
    #[serde(default)]
    roles: Vec<Object>,
    #[serde(default)]
    cluster_roles: Vec<Object>,
    #[serde(default)]
    role_bindings: Vec<Object>,
    #[serde(default)]
    cluster_role_bindings: Vec<Object>,
    /// Objects of any of the four kinds, as `kubectl get … -o yaml` lists them.
    #[serde(default)]
    items: Vec<Object>,
}

/// What is said of a request that no binding allows.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnNoMatch {
    /// Nothing: another policy may allow it.
    #[default]
    NoOpinion,
    /// No, whatever other policies say.
    Deny,
}

/// A role by its namespace, which a ClusterRole has not, and its name.
type RoleKey = (Option<String>, String);

impl Settings {
    /// The policy, or every fault with its key.
    pub(crate) fn policy(self) -> Result<Rbac, Vec<String>> {
        let Self { on_no_match, everybody_in, roles, cluster_roles, role_bindings, cluster_role_bindings, items } =
            self;
        let lists = [
            ("roles", Some(Kind::Role), roles),
            ("clusterRoles", Some(Kind::ClusterRole), cluster_roles),
            ("roleBindings", Some(Kind::RoleBinding), role_bindings),
            ("clusterRoleBindings", Some(Kind::ClusterRoleBinding), cluster_role_bindings),
            ("items", None, items),
        ];
        let mut building = Building::default();
        for (list, kind, objects) in lists {
            for (index, object) in objects.into_iter().enumerate() {
                building.add(kind, object, format!("{list}[{index}]"));
            }
        }
        let (roles, bindings) = building.finish()?;
        Ok(Rbac { roles, bindings, everybody_in, on_no_match })
    }
}

/// Objects in the order in which they stand: a binding may stand before its role.
#[derive(Default)]
struct Building {
    roles: Vec<Vec<Rule>>,
    role_of: BTreeMap<RoleKey, usize>,
    bindings: Vec<(String, Option<String>, Object)>,
    faults: Vec<String>,
}

impl Building {
    /// Takes an object in; `kind` is what its list holds, where that is one kind.
    fn add(&mut self, kind: Option<Kind>, object: Object, key: String) {
        let Some(kind) = object.kind(kind, &key, &mut self.faults) else { return };
        let Some((name, namespace)) = object.name_and_namespace(kind, &key, &mut self.faults) else { return };
        match kind {
            Kind::Role | Kind::ClusterRole => {
                let rules = object.rules(kind, &key, &mut self.faults);
                if self.role_of.insert((namespace, name.clone()), self.roles.len()).is_some() {
                    self.faults.push(format!("{key}.metadata.name: there are two of kind {kind} called `{name}`"));
                }
                self.roles.push(rules);
            }
            Kind::RoleBinding | Kind::ClusterRoleBinding => self.bindings.push((key, namespace, object)),
        }
    }

    fn finish(mut self) -> Result<(Vec<Vec<Rule>>, Bindings), Vec<String>> {
        let mut index = Bindings::default();
        let bindings = std::mem::take(&mut self.bindings);
        if bindings.is_empty() && self.faults.is_empty() {
            self.faults.push(
                "give at least one binding, under `roleBindings` or `clusterRoleBindings`; without any, this policy opens nothing"
                    .to_owned(),
            );
        }
        // A role that is wrong is not known, and need not be told of twice.
        let roles_are_right = self.faults.is_empty();
        for (key, namespace, mut object) in bindings {
            let role = object
                .role_ref(namespace.as_deref(), &key, &mut self.faults)
                .map(|role| self.role(role, namespace.as_deref(), &key));
            let subjects = object.subjects(namespace.as_deref(), &key, &mut self.faults);
            let clusters = object.clusters(&key, &mut self.faults).map(Patterns::new);
            let role = match role {
                Some(Ok(role)) => role,
                Some(Err(fault)) => {
                    if roles_are_right {
                        self.faults.push(fault);
                    }
                    continue;
                }
                None => continue,
            };
            for subject in subjects {
                index.add(subject, namespace.as_deref(), Grant { role, clusters: clusters.clone() });
            }
        }
        if self.faults.is_empty() { Ok((self.roles, index)) } else { Err(self.faults) }
    }

    /// Where the rules of the role stand that a binding in this namespace refers to.
    fn role(&self, role: RoleRef, namespace: Option<&str>, key: &str) -> Result<usize, String> {
        let (kind, name, namespace) = match role {
            RoleRef::Role(name) => (Kind::Role, name, namespace.map(str::to_owned)),
            RoleRef::ClusterRole(name) => (Kind::ClusterRole, name, None),
        };
        let place = namespace.as_ref().map(|namespace| format!(" in namespace `{namespace}`")).unwrap_or_default();
        let fault = format!("{key}.roleRef: there is no {kind} `{name}`{place}");
        self.role_of.get(&(namespace, name)).copied().ok_or(fault)
    }
}
