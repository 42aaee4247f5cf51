//! Roles and bindings as Kubernetes writes them, and what its own validation says of them.
//!
//! One struct for all four kinds: they share their head, and each fault can name its key. What an exported object has
//! beside that (`metadata.uid`, `creationTimestamp`, …) is ignored; a key that no such object has is a fault.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::index::Subject;
use crate::rule::{About, Rule};

/// An object of one of the four kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Object {
    api_version: Option<String>,
    kind: Option<String>,
    metadata: Metadata,
    /// Null in an exported role without rules.
    rules: Option<Vec<RawRule>>,
    aggregation_rule: Option<IgnoredAny>,
    subjects: Option<Vec<RawSubject>>,
    role_ref: Option<RawRoleRef>,
    /// Ours: the clusters in which a binding holds.
    clusters: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRule {
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawSubject {
    kind: String,
    api_group: Option<String>,
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawRoleRef {
    api_group: Option<String>,
    kind: String,
    name: String,
}

/// What an object is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Role, Self::ClusterRole, Self::RoleBinding, Self::ClusterRoleBinding];

    const fn is_namespaced(self) -> bool {
        matches!(self, Self::Role | Self::RoleBinding)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Role => "Role",
            Self::ClusterRole => "ClusterRole",
            Self::RoleBinding => "RoleBinding",
            Self::ClusterRoleBinding => "ClusterRoleBinding",
        })
    }
}

/// The role that a binding gives.
pub(crate) enum RoleRef {
    /// Of the binding's own namespace.
    Role(String),
    ClusterRole(String),
}

impl Object {
    /// What it is, where that and its keys fit each other.
    pub(crate) fn kind(&self, of_list: Option<Kind>, key: &str, faults: &mut Vec<String>) -> Option<Kind> {
        let known = "Role, ClusterRole, RoleBinding or ClusterRoleBinding";
        if let Some(version) = self.api_version.as_deref().filter(|version| *version != API_VERSION) {
            faults.push(format!("{key}.apiVersion: is `{version}`; it must be `{API_VERSION}`"));
        }
        let written =
            self.kind.as_deref().map(|text| (text, Kind::ALL.into_iter().find(|kind| kind.to_string() == text)));
        let kind = match (of_list, written) {
            (Some(kind), None) => kind,
            (Some(kind), Some((_, Some(written)))) if kind == written => kind,
            (None, Some((_, Some(written)))) => written,
            (Some(kind), Some((text, _))) => {
                faults.push(format!("{key}.kind: is `{text}`; this list holds objects of kind {kind}"));
                return None;
            }
            (None, Some((text, None))) => {
                faults.push(format!("{key}.kind: is `{text}`; it must be {known}"));
                return None;
            }
            (None, None) => {
                faults.push(format!("{key}.kind: is missing; it must be {known}"));
                return None;
            }
        };
        let is_role = matches!(kind, Kind::Role | Kind::ClusterRole);
        let others = [
            ("rules", self.rules.is_some() && !is_role),
            ("aggregationRule", self.aggregation_rule.is_some() && kind != Kind::ClusterRole),
            ("subjects", self.subjects.is_some() && is_role),
            ("roleRef", self.role_ref.is_some() && is_role),
            ("clusters", self.clusters.is_some() && is_role),
        ];
        for (name, _) in others.into_iter().filter(|(_, misplaced)| *misplaced) {
            faults.push(format!("{key}.{name}: objects of kind {kind} have none"));
        }
        Some(kind)
    }

    /// Its name, and its namespace if its kind has one.
    pub(crate) fn name_and_namespace(
        &self,
        kind: Kind,
        key: &str,
        faults: &mut Vec<String>,
    ) -> Option<(String, Option<String>)> {
        let Metadata { name, namespace } = &self.metadata;
        let fault = match (name.is_empty(), kind.is_namespaced(), namespace.is_empty()) {
            (true, ..) => "name: is empty".to_owned(),
            (false, true, true) => format!("namespace: is missing; a {kind} is of one namespace"),
            (false, false, false) => format!("namespace: objects of kind {kind} have none"),
            (false, true, false) => return Some((name.clone(), Some(namespace.clone()))),
            (false, false, true) => return Some((name.clone(), None)),
        };
        faults.push(format!("{key}.metadata.{fault}"));
        None
    }

    /// The rules of a role.
    pub(crate) fn rules(self, kind: Kind, key: &str, faults: &mut Vec<String>) -> Vec<Rule> {
        let rules = self.rules.unwrap_or_default();
        if rules.is_empty() && self.aggregation_rule.is_some() {
            faults.push(format!(
                "{key}.rules: are missing; an `aggregationRule` is carried out by a controller in a cluster, so write out what it made"
            ));
        }
        let numbered = rules.into_iter().enumerate();
        numbered.filter_map(|(index, rule)| rule.rule(kind, &format!("{key}.rules[{index}]"), faults)).collect()
    }

    /// Whom a binding in `namespace` is for.
    pub(crate) fn subjects(&mut self, namespace: Option<&str>, key: &str, faults: &mut Vec<String>) -> Vec<Subject> {
        let subjects = self.subjects.take().unwrap_or_default();
        if subjects.is_empty() {
            faults.push(format!("{key}.subjects: name at least one; without any, the binding is for nobody"));
        }
        let numbered = subjects.into_iter().enumerate();
        numbered
            .filter_map(|(index, raw)| {
                let key = format!("{key}.subjects[{index}]");
                raw.subject(namespace).map_err(|fault| faults.push(format!("{key}.{fault}"))).ok()
            })
            .collect()
    }

    /// The role that a binding in `namespace` gives.
    pub(crate) fn role_ref(&mut self, namespace: Option<&str>, key: &str, faults: &mut Vec<String>) -> Option<RoleRef> {
        let role_ref = self.role_ref.take().ok_or_else(|| "roleRef: is missing".to_owned());
        role_ref.and_then(|raw| raw.role_ref(namespace)).map_err(|fault| faults.push(format!("{key}.{fault}"))).ok()
    }

    /// The clusters in which a binding holds; none for all.
    pub(crate) fn clusters(self, key: &str, faults: &mut Vec<String>) -> Option<Vec<String>> {
        let clusters = self.clusters?;
        if clusters.is_empty() || clusters.iter().any(String::is_empty) {
            faults.push(format!(
                "{key}.clusters: name the clusters, with `*` for any run of characters; or leave it out"
            ));
        }
        Some(clusters)
    }
}

impl RawRule {
    /// `ValidatePolicyRule`.
    fn rule(self, kind: Kind, key: &str, faults: &mut Vec<String>) -> Option<Rule> {
        let Self { verbs, api_groups, resources, resource_names, non_resource_urls } = self;
        let before = faults.len();
        let mut fault = |text: &str| faults.push(format!("{key}.{text}"));
        if verbs.is_empty() {
            fault("verbs: name at least one, or `*` for all");
        }
        let about = if non_resource_urls.is_empty() {
            if api_groups.is_empty() {
                fault("apiGroups: name at least one: `\"\"` is the core group, `*` every one");
            }
            if resources.is_empty() {
                fault("resources: name at least one, or `*` for all");
            }
            About::Resources { api_groups, resources, resource_names }
        } else {
            if kind.is_namespaced() {
                fault(
                    "nonResourceURLs: paths lie in no namespace; give them in a ClusterRole and a ClusterRoleBinding",
                );
            }
            if !(api_groups.is_empty() && resources.is_empty() && resource_names.is_empty()) {
                fault("nonResourceURLs: one rule cannot be about paths and about resources; make two of it");
            }
            About::Paths(non_resource_urls)
        };
        (faults.len() == before).then_some(Rule { verbs, about })
    }
}

impl RawSubject {
    /// `ValidateRoleBindingSubject`, and `appliesToUser`.
    fn subject(self, namespace: Option<&str>) -> Result<Subject, String> {
        let Self { kind, api_group, name, namespace: own } = self;
        if name.is_empty() {
            return Err("name: is empty".to_owned());
        }
        let expected = if kind == "ServiceAccount" { "" } else { API_GROUP };
        if let Some(group) = api_group.filter(|group| group != expected) {
            return Err(format!("apiGroup: is `{group}`; for a {kind} it must be `{expected}`"));
        }
        match kind.as_str() {
            "User" => Ok(Subject::User(name)),
            "Group" => Ok(Subject::Group(name)),
            "ServiceAccount" => {
                let own = Some(own.as_str()).filter(|own| !own.is_empty());
                let namespace =
                    own.or(namespace).ok_or("namespace: is missing; a ServiceAccount is of one namespace")?;
                Ok(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
            }
            _ => Err(format!("kind: is `{kind}`; it must be User, Group or ServiceAccount")),
        }
    }
}

impl RawRoleRef {
    fn role_ref(self, namespace: Option<&str>) -> Result<RoleRef, String> {
        let Self { api_group, kind, name } = self;
        if let Some(group) = api_group.filter(|group| group != API_GROUP) {
            return Err(format!("roleRef.apiGroup: is `{group}`; it must be `{API_GROUP}`"));
        }
        match (kind.as_str(), namespace) {
            ("ClusterRole", _) => Ok(RoleRef::ClusterRole(name)),
            ("Role", Some(_)) => Ok(RoleRef::Role(name)),
            ("Role", None) => Err("roleRef.kind: a ClusterRoleBinding gives a ClusterRole, not a Role".to_owned()),
            _ => Err(format!("roleRef.kind: is `{kind}`; it must be Role or ClusterRole")),
        }
    }
}

const API_GROUP: &str = "rbac.authorization.k8s.io";
const API_VERSION: &str = "rbac.authorization.k8s.io/v1";
