//! Says which callers may touch which clusters, namespaces and action classes.
//!
//! ```yaml
//! settings:
//!   tenants:
//!     - groups: ["group:default/team-a"]   # or users: [...]; at least one of both
//!       clusters: ["staging-*"]
//!       namespaces: ["team-a", "team-a-*"]
//!       actions: [read, write]
//!     - users: ["user:default/ops"]
//!       clusters: ["*"]
//!       namespaces: ["*"]                  # everything, what lies outside namespaces included
//!       actions: ["*"]
//!       listClusters: true
//! ```
//!
//! It only opens: what no tenant's rule names is left to other policies, and silence denies.

mod settings;

use settings::{Settings, Tenant};
use witgate_sdk::{ActionClass, Decision, Policy, PolicyQuery, RequestAttributes, UserInfo};

struct NamespaceTenancy {
    tenants: Vec<Tenant>,
}

impl Policy for NamespaceTenancy {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Vec<String>> {
        Ok(Self { tenants: settings.tenants()? })
    }

    fn handle(&self, query: &PolicyQuery, user: Option<&UserInfo>) -> Decision {
        let Some(user) = user else { return Decision::NoOpinion };
        let mut tenants = self.tenants.iter().filter(|tenant| tenant.is_held_by(user));
        let allowed = match (query.permission.name.as_str(), &query.request) {
            ("kubernetes.proxy", Some(request)) => tenants.any(|tenant| tenant.covers(request)),
            ("kubernetes.clusters.read", _) => tenants.any(|tenant| tenant.list_clusters),
            _ => false,
        };
        if allowed { Decision::Allow } else { Decision::NoOpinion }
    }
}

witgate_sdk::export_policy!(NamespaceTenancy);

impl Tenant {
    fn is_held_by(&self, user: &UserInfo) -> bool {
        self.users.matches(&user.name) || user.groups.iter().any(|group| self.groups.matches(group))
    }

    fn covers(&self, request: &RequestAttributes) -> bool {
        self.clusters.matches(&request.cluster)
            && (is_for_every_tenant(request) || (self.actions.contains(&request.action_class) && self.reaches(request)))
    }

    /// Whether the request stays where the tenant may go. What lies in no namespace is a cluster-scoped resource or
    /// a list over all namespaces; nothing in a request tells the two apart, so one setting covers both.
    fn reaches(&self, request: &RequestAttributes) -> bool {
        if is_namespaced(request) { self.namespaces.matches(&request.namespace) } else { self.cluster_scoped }
    }
}

/// Whether the request is about something in a namespace. To the API server a namespace lies in itself; here it may be
/// looked at by its tenants, but to change or delete it is not theirs.
fn is_namespaced(request: &RequestAttributes) -> bool {
    let is_itself_a_namespace = request.api_group.is_empty() && request.resource == "namespaces";
    request.resource_request
        && !request.namespace.is_empty()
        && (!is_itself_a_namespace || request.action_class == ActionClass::Read)
}

/// What clients need before they can do anything: discovery, and asking about oneself.
fn is_for_every_tenant(request: &RequestAttributes) -> bool {
    if request.action_class != ActionClass::Read {
        return false;
    }
    if request.resource_request {
        return request.namespace.is_empty()
            && matches!(
                (request.api_group.as_str(), request.resource.as_str(), request.subresource.as_str()),
                ("authorization.k8s.io", "selfsubjectaccessreviews" | "selfsubjectrulesreviews", "")
                    | ("authentication.k8s.io", "selfsubjectreviews", "")
            );
    }
    ["/api", "/apis", "/openapi", "/version"]
        .iter()
        .any(|root| request.path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use witgate_sdk::ActionClass::{Credential, Delete, Escalate, Exec, Read, Write};
    use witgate_sdk::testing::{clusters_read_query, path_request, proxy_query, resource_request, user};

    use super::*;

    const SETTINGS: &str = r#"{"tenants": [
        {"groups": ["team-a"], "clusters": ["staging-*"], "namespaces": ["a", "a-*"], "actions": ["read", "write"]},
        {"groups": ["team-a"], "clusters": ["production"], "namespaces": ["a"], "actions": ["read"]},
        {"users": ["ops"], "clusters": ["*"], "namespaces": ["*"], "actions": ["*"], "listClusters": true},
        {"groups": ["auditors"], "clusters": ["*"], "clusterScoped": true, "actions": ["read"]}
    ]}"#;

    /// Goal: a rule opens exactly what it names. Method: one row a request: who, where, what.
    #[test]
    fn a_rule_opens_what_it_names() {
        let a = || user("jane", &["team-b", "team-a"]);
        check(a(), resource_request("staging-1", "list", "a", "pods", Read), true);
        check(a(), resource_request("staging-1", "create", "a-dev", "pods", Write), true);
        check(a(), resource_request("production", "get", "a", "pods", Read), true);
        // Another action class, namespace, cluster or caller.
        check(a(), resource_request("staging-1", "delete", "a", "pods", Delete), false);
        check(a(), resource_request("staging-1", "get", "a", "pods", Exec), false);
        check(a(), resource_request("staging-1", "get", "a", "secrets", Credential), false);
        check(a(), resource_request("staging-1", "list", "b", "pods", Read), false);
        check(a(), resource_request("staging-1", "list", "ab", "pods", Read), false);
        check(a(), resource_request("production", "create", "a", "pods", Write), false);
        check(a(), resource_request("production", "get", "a-dev", "pods", Read), false);
        check(a(), resource_request("Staging-1", "list", "a", "pods", Read), false);
        check(user("team-a", &["team-b"]), resource_request("staging-1", "list", "a", "pods", Read), false);
    }

    /// Goal: what lies in no namespace needs a rule that says so. Method: rows.
    #[test]
    fn what_lies_outside_namespaces_is_said_apart() {
        let a = || user("jane", &["team-a"]);
        check(a(), resource_request("staging-1", "list", "", "nodes", Read), false);
        check(a(), resource_request("staging-1", "list", "", "pods", Read), false); // over all namespaces
        check(a(), resource_request("staging-1", "get", "a", "namespaces", Read), true);
        check(a(), resource_request("staging-1", "update", "a", "namespaces", Write), false);
        check(user("x", &["auditors"]), resource_request("any", "list", "", "nodes", Read), true);
        check(user("x", &["auditors"]), resource_request("any", "list", "a", "pods", Read), false);
        check(user("x", &["auditors"]), resource_request("any", "delete", "", "nodes", Delete), false);
        check(user("ops", &[]), resource_request("any", "delete", "a", "namespaces", Delete), true);
        check(user("ops", &[]), resource_request("any", "impersonate", "", "users", Escalate), true);
    }

    /// Goal: kubectl finds its way for every tenant of a cluster, and for nobody else. Method: rows.
    #[test]
    fn discovery_is_for_every_tenant() {
        let read = |cluster, path| path_request(cluster, "GET", "get", path, Read);
        let a = || user("jane", &["team-a"]);
        for path in ["/api", "/api/v1", "/apis", "/apis/apps/v1", "/version", "/openapi/v3"] {
            check(a(), read("staging-1", path), true);
            check(a(), read("other", path), false);
            check(user("stranger", &[]), read("staging-1", path), false);
        }
        for path in ["/", "/metrics", "/logs/x", "/apisx", "/debug/pprof"] {
            check(a(), read("staging-1", path), false);
        }
        check(a(), path_request("staging-1", "POST", "post", "/version", Write), false);
        check(user("ops", &[]), read("any", "/metrics"), true);
        let mut review = resource_request("staging-1", "create", "", "selfsubjectaccessreviews", Read);
        check(a(), review.clone(), false); // of the core group: no such thing
        review.api_group = "authorization.k8s.io".to_owned();
        check(a(), review.clone(), true);
        review.resource = "subjectaccessreviews".to_owned(); // about others
        check(a(), review, false);
    }

    #[test]
    fn listing_the_clusters_is_said_apart() {
        let handle = |user: Option<UserInfo>| policy(SETTINGS).unwrap().handle(&clusters_read_query(), user.as_ref());
        assert_eq!(handle(Some(user("ops", &[]))), Decision::Allow);
        assert_eq!(handle(Some(user("jane", &["team-a"]))), Decision::NoOpinion);
        assert_eq!(handle(None), Decision::NoOpinion);
    }

    #[track_caller]
    fn check(user: UserInfo, request: RequestAttributes, allowed: bool) {
        let expected = if allowed { Decision::Allow } else { Decision::NoOpinion };
        assert_eq!(policy(SETTINGS).unwrap().handle(&proxy_query(request), Some(&user)), expected);
    }

    fn policy(settings: &str) -> Result<NamespaceTenancy, Vec<String>> {
        NamespaceTenancy::configure(serde_json::from_str(settings).unwrap())
    }
}
