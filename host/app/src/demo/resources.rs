//! The resources that the sample API server serves, as one table.
//!
//! Discovery, routing, printing and storing all read it; a new resource is a new row.

/// One resource.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Resource {
    /// The API group; empty for the core group.
    pub(crate) group: &'static str,
    /// As in a path: `pods`. Unique in the table.
    pub(crate) plural: &'static str,
    /// As typed by people: `pod`.
    pub(crate) singular: &'static str,
    /// As in an object: `Pod`.
    pub(crate) kind: &'static str,
    /// What kubectl also takes: `po`.
    pub(crate) short_names: &'static [&'static str],
    /// Where its objects live.
    pub(crate) scope: Scope,
}

/// Where the objects of a resource live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// In a namespace.
    Namespace,
    /// In the cluster itself.
    Cluster,
}

/// Every version served is this one.
pub(crate) const VERSION: &str = "v1";

/// The whole table.
pub(crate) static RESOURCES: [Resource; 7] = [
    Resource {
        group: "",
        plural: "configmaps",
        singular: "configmap",
        kind: "ConfigMap",
        short_names: &["cm"],
        scope: Scope::Namespace,
    },
    Resource {
        group: "",
        plural: "namespaces",
        singular: "namespace",
        kind: "Namespace",
        short_names: &["ns"],
        scope: Scope::Cluster,
    },
    Resource {
        group: "",
        plural: "nodes",
        singular: "node",
        kind: "Node",
        short_names: &["no"],
        scope: Scope::Cluster,
    },
    Resource { group: "", plural: "pods", singular: "pod", kind: "Pod", short_names: &["po"], scope: Scope::Namespace },
    Resource {
        group: "",
        plural: "secrets",
        singular: "secret",
        kind: "Secret",
        short_names: &[],
        scope: Scope::Namespace,
    },
    Resource {
        group: "",
        plural: "services",
        singular: "service",
        kind: "Service",
        short_names: &["svc"],
        scope: Scope::Namespace,
    },
    Resource {
        group: "apps",
        plural: "deployments",
        singular: "deployment",
        kind: "Deployment",
        short_names: &["deploy"],
        scope: Scope::Namespace,
    },
];

impl Resource {
    /// The row of a group and a plural.
    pub(crate) fn find(group: &str, plural: &str) -> Option<&'static Self> {
        RESOURCES.iter().find(|resource| resource.group == group && resource.plural == plural)
    }

    /// The row of a plural that this module is known to hold.
    ///
    /// # Panics
    /// When the table has no such row: a mistake in the demo itself, never in a request.
    pub(crate) fn named(plural: &str) -> &'static Self {
        RESOURCES.iter().find(|resource| resource.plural == plural).expect("the demo names only rows of its own table")
    }

    /// `v1` or `apps/v1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { VERSION.to_owned() } else { format!("{}/{VERSION}", self.group) }
    }

    /// `pods` or `deployments.apps`, as errors say it.
    pub(crate) fn qualified_name(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }
}
