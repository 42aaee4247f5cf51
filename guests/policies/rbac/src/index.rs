//! Which bindings apply to a caller in a namespace: Kubernetes' `VisitRulesFor`, by tables instead of by looking at each.
//!
//! A ClusterRoleBinding applies everywhere, a RoleBinding in its namespace. A subject of kind ServiceAccount is the user
//! `system:serviceaccount:NAMESPACE:NAME`. Subjects have no wildcards.

use std::collections::BTreeMap;

use witgate_sdk::pattern::Patterns;

/// One subject's part of one binding.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// Where the role's rules stand.
    pub(crate) role: usize,
    /// None: every cluster, and the list of clusters too.
    pub(crate) clusters: Option<Patterns>,
}

impl Grant {
    /// Whether it holds for this cluster; none is the list of clusters, which is of none of them.
    pub(crate) fn is_for_cluster(&self, cluster: Option<&str>) -> bool {
        match (&self.clusters, cluster) {
            (None, _) => true,
            (Some(clusters), Some(cluster)) => clusters.matches(cluster),
            (Some(_), None) => false,
        }
    }
}

/// All bindings, by subject and then by namespace.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    users: BTreeMap<String, Grants>,
    groups: BTreeMap<String, Grants>,
}

#[derive(Debug, Default)]
struct Grants {
    everywhere: Vec<Grant>,
    in_namespace: BTreeMap<String, Vec<Grant>>,
}

/// Whom a binding is for.
#[derive(Debug)]
pub(crate) enum Subject {
    User(String),
    Group(String),
}

impl Bindings {
    /// Adds one subject's part of a binding; without a namespace it is a ClusterRoleBinding's.
    pub(crate) fn add(&mut self, subject: Subject, namespace: Option<&str>, grant: Grant) {
        let grants = match subject {
            Subject::User(name) => self.users.entry(name).or_default(),
            Subject::Group(name) => self.groups.entry(name).or_default(),
        };
        match namespace {
            None => grants.everywhere.push(grant),
            Some(namespace) => grants.in_namespace.entry(namespace.to_owned()).or_default().push(grant),
        }
    }

    /// What applies to a caller in a namespace. Outside namespaces, the empty name, no RoleBinding applies.
    pub(crate) fn of<'a>(
        &'a self,
        user: &str,
        groups: impl Iterator<Item = &'a str>,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Grant> {
        let of_groups = groups.filter_map(|group| self.groups.get(group));
        self.users.get(user).into_iter().chain(of_groups).flat_map(move |grants| {
            let here = grants.in_namespace.get(namespace).into_iter().flatten();
            grants.everywhere.iter().chain(here)
        })
    }
}
