//! Kubernetes-style roles and bindings, kept in front of many clusters instead of in each.
//!
//! ```yaml
//! settings:
//!   onNoMatch: no-opinion                 # or deny
//!   clusterRoles:
//!     - metadata: { name: viewer }
//!       rules:
//!         - { apiGroups: [""], resources: [pods, pods/log], verbs: [get, list, watch] }
//!   roleBindings:
//!     - metadata: { name: developers, namespace: dev }
//!       subjects: [{ kind: Group, name: "group:default/developers" }]
//!       roleRef: { kind: ClusterRole, name: viewer }
//!       clusters: ["staging-*"]           # ours; absent: every cluster
//! ```
//!
//! What is allowed is what Kubernetes' own RBAC authorizer allows with the same objects
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/>); [`rule`] holds its matching, [`index`] its choice of
//! bindings. Roles and bindings are found by subject and namespace in tables that `configure` built, so that a thousand
//! bindings of others cost a request nothing.
//!
//! Who may list the clusters is said with a path of the gate's own: `{ nonResourceURLs: [/witgate/clusters], verbs: [get] }`.

mod index;
mod object;
mod rule;
mod settings;

use index::{Bindings, Grant};
use rule::{Act, Rule};
use settings::{OnNoMatch, Settings};
use witgate_sdk::{Decision, Policy, PolicyQuery, RequestAttributes, UserInfo};

struct Rbac {
    /// The rules of each role that some binding refers to.
    roles: Vec<Vec<Rule>>,
    bindings: Bindings,
    everybody_in: Vec<String>,
    on_no_match: OnNoMatch,
}

impl Policy for Rbac {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        settings.policy()
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let Some(user) = user else { return Decision::NoOpinion };
        let (cluster, act) = match (query.permission.name.as_str(), &query.request) {
            ("kubernetes.proxy", Some(request)) => (Some(request.cluster.as_str()), Act::of(request)),
            ("kubernetes.clusters.read", _) => (None, Act::LISTS_CLUSTERS),
            _ => return Decision::NoOpinion,
        };
        if self.allows(user, cluster, &act) {
            return Decision::Allow;
        }
        match self.on_no_match {
            OnNoMatch::NoOpinion => Decision::NoOpinion,
            OnNoMatch::Deny => Decision::Deny(refusal(user, query.request.as_ref(), &act)),
        }
    }
}

witgate_sdk::export_policy!(Rbac);

impl Rbac {
    fn allows(&self, user: &UserInfo, cluster: Option<&str>, act: &Act<'_>) -> bool {
        let groups = user.groups.iter().chain(&self.everybody_in).map(String::as_str);
        let allows = |grant: &Grant| {
            grant.is_for_cluster(cluster)
                && self.roles.get(grant.role).is_some_and(|rules| rules.iter().any(|rule| rule.allows(act)))
        };
        self.bindings.of(&user.name, groups, act.namespace()).any(allows)
    }
}

/// The API server's own words for it.
fn refusal(user: &UserInfo, request: Option<&RequestAttributes>, act: &Act<'_>) -> String {
    let name = &user.name;
    match act {
        Act::Path { verb, path } => format!("User {name:?} cannot {verb} path {path:?}"),
        Act::Resource { verb, combined, api_group, namespace, .. } => {
            let scope = match *namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let cluster = request.map(|request| format!(" of cluster {:?}", request.cluster)).unwrap_or_default();
            format!("User {name:?} cannot {verb} resource {combined:?} in API group {api_group:?} {scope}{cluster}")
        }
    }
}

#[cfg(test)]
mod tests;
