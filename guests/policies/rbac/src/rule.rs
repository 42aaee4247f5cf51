//! One rule of a role against one request: Kubernetes' `RuleAllows`.
//!
//! By `pkg/registry/rbac/validation` and `component-helpers/auth/rbac` of Kubernetes 1.34, as the documentation tells it under "Role and
//! ClusterRole", "Referring to resources" and "Referring to subjects":
//! - a verb, API group or resource matches as a whole or by `*`; there are no other wildcards but the two that follow;
//! - a subresource is a resource of its own, `pods/log`; `*/scale` is that subresource of every resource, and `*` alone is
//!   every resource with every subresource, while `pods/*` is nothing;
//! - `resourceNames` match the request's name as a whole. So a create, or a deletecollection, which has no name, matches no rule
//!   with `resourceNames`, and a list or watch only if a `fieldSelector` says `metadata.name=…`;
//! - a path matches as a whole, by `*`, or by a prefix before a final `*`.

use witgate_sdk::RequestAttributes;

/// What a request does, as rules see it.
pub(crate) enum Act<'a> {
    /// Something with an API resource.
    Resource {
        verb: &'a str,
        api_group: &'a str,
        /// `pods`, or `pods/log`.
        combined: String,
        subresource: &'a str,
        name: &'a str,
        namespace: &'a str,
    },
    /// Something with another path.
    Path { verb: &'a str, path: &'a str },
}

impl<'a> Act<'a> {
    /// For the gate's own list of clusters there is no path at an API server: this one stands for it.
    pub(crate) const LISTS_CLUSTERS: Act<'static> = Act::Path { verb: "get", path: "/witgate/clusters" };

    /// What `request` does.
    pub(crate) fn of(request: &'a RequestAttributes) -> Self {
        if !request.resource_request {
            return Self::Path { verb: &request.verb, path: &request.path };
        }
        let combined = match request.subresource.as_str() {
            "" => request.resource.clone(),
            subresource => format!("{}/{subresource}", request.resource),
        };
        Self::Resource {
            verb: &request.verb,
            api_group: &request.api_group,
            combined,
            subresource: &request.subresource,
            name: &request.name,
            namespace: &request.namespace,
        }
    }

    /// Where it happens; empty outside namespaces.
    pub(crate) fn namespace(&self) -> &'a str {
        match self {
            Self::Resource { namespace, .. } => namespace,
            Self::Path { .. } => "",
        }
    }
}

/// One rule of a role. It is about resources or about paths, never about both.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    pub(crate) about: About,
}

/// What a rule is about.
#[derive(Debug)]
pub(crate) enum About {
    Resources { api_groups: Vec<String>, resources: Vec<String>, resource_names: Vec<String> },
    Paths(Vec<String>),
}

impl Rule {
    /// Whether the rule allows it, wherever its binding applies.
    pub(crate) fn allows(&self, act: &Act<'_>) -> bool {
        match (&self.about, act) {
            (
                About::Resources { api_groups, resources, resource_names },
                Act::Resource { verb, api_group, combined, subresource, name, .. },
            ) => {
                has_or_all(&self.verbs, verb)
                    && has_or_all(api_groups, api_group)
                    && resources.iter().any(|resource| resource_matches(resource, combined, subresource))
                    && (resource_names.is_empty() || resource_names.iter().any(|known| known == name))
            }
            (About::Paths(paths), Act::Path { verb, path }) => {
                has_or_all(&self.verbs, verb) && paths.iter().any(|known| path_matches(known, path))
            }
            (About::Resources { .. }, Act::Path { .. }) | (About::Paths(_), Act::Resource { .. }) => false,
        }
    }
}

fn has_or_all(known: &[String], wanted: &str) -> bool {
    known.iter().any(|known| known == "*" || known == wanted)
}

fn resource_matches(known: &str, combined: &str, subresource: &str) -> bool {
    known == "*"
        || known == combined
        || (!subresource.is_empty() && known.strip_prefix("*/").is_some_and(|known| known == subresource))
}

fn path_matches(known: &str, path: &str) -> bool {
    known == "*" || known == path || (known.ends_with('*') && path.starts_with(known.trim_end_matches('*')))
}
