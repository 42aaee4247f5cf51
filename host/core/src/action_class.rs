//! What kind of act a request is, in six words that policies can be written in.
//!
//! Verbs are too fine for a rule of thumb and lie about the worst acts: a WebSocket exec
//! is a GET, an eviction a create. Each rule of [`classify`] says where it comes from.
//!
//! Promise: a request that no rule knows is `escalate`, the class that fewest are allowed.
//!
//! What a class cannot say: a write of a secret answers with the secret (as `patch` does under
//! RBAC), so who must not read secrets should not be given `write` on them either.

use std::fmt;

use crate::RequestInfo;

/// What kind of act a request is. The classes exclude each other.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionClass {
    /// Changes nothing and shows no credential.
    Read,
    /// Creates or changes something.
    Write,
    /// Removes something, an evicted pod included.
    Delete,
    /// Acts inside a workload or node: exec, attach, port-forward, proxy, debug containers, any other upgrade.
    Exec,
    /// Shows, issues or vouches for a credential.
    Credential,
    /// Changes who may do what, or is an act that no rule knows.
    Escalate,
}

impl ActionClass {
    /// The class in one word, as in the contract, the decision log and policies' settings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Exec => "exec",
            Self::Credential => "credential",
            Self::Escalate => "escalate",
        }
    }
}

impl fmt::Display for ActionClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Says what kind of act a request is; `upgrade` is whether its client asks for another protocol.
///
/// ```
/// use witgate_core::{ActionClass, RequestInfo, classify};
///
/// // `kubectl exec` over WebSocket is a GET.
/// let info = RequestInfo::of("GET", "/api/v1/namespaces/dev/pods/web-0/exec", Some("command=sh"))?;
/// assert_eq!(classify(&info, true), ActionClass::Exec);
///
/// let info = RequestInfo::of("GET", "/api/v1/namespaces/dev/pods/web-0/log", None)?;
/// assert_eq!(classify(&info, false), ActionClass::Read);
/// # Ok::<(), witgate_core::RequestInfoError>(())
/// ```
pub fn classify(info: &RequestInfo, upgrade: bool) -> ActionClass {
    use ActionClass::{Credential, Delete, Escalate, Exec, Read, Write};

    let class = if info.is_resource_request { of_resource(info) } else { of_other_path(&info.verb) };
    // A watch and a log may be read over WebSocket; they stay what they are.
    if !upgrade || info.is_resource_request && (info.verb == "watch" || info.subresource == "log") {
        return class;
    }
    match class {
        Read | Exec => Exec,
        // The API server upgrades none of these: it does the write and overlooks the upgrade. Were it `exec`,
        // who may exec could write anything by asking for an upgrade too.
        Write | Delete | Escalate => Escalate,
        // As before; reading a secret stays that, whatever the client asks for besides.
        Credential => Credential,
    }
}

/// `/healthz`, `/openapi/v3`, `/logs/x`: the verb is the method. Any other method is known to no rule.
fn of_other_path(method: &str) -> ActionClass {
    match method {
        "get" | "head" | "options" => ActionClass::Read,
        "post" | "put" | "patch" => ActionClass::Write,
        "delete" => ActionClass::Delete,
        _ => ActionClass::Escalate,
    }
}

/// An API resource. From the most dangerous rule down, so that the first that fits is the answer.
fn of_resource(info: &RequestInfo) -> ActionClass {
    let by_verb = match info.verb.as_str() {
        "get" | "list" | "watch" => ActionClass::Read,
        "create" | "update" | "patch" => ActionClass::Write,
        "delete" | "deletecollection" => ActionClass::Delete,
        // The old `/api/v1/proxy/…`.
        "proxy" => ActionClass::Exec,
        // `impersonate`, which the gate asks for `kubectl --as`; the empty verb of a method that the API server
        // does not know; RBAC's `bind`, `escalate`, `approve`, which no request has.
        _ => ActionClass::Escalate,
    };
    match by_verb {
        ActionClass::Escalate => ActionClass::Escalate,
        ActionClass::Write | ActionClass::Delete if decides_who_may(&info.api_group) => ActionClass::Escalate,
        _ if is_credential(info, by_verb) => ActionClass::Credential,
        _ if is_exec(info, by_verb) => ActionClass::Exec,
        // The eviction API deletes the pod.
        ActionClass::Write if info.subresource == "eviction" => ActionClass::Delete,
        ActionClass::Write if is_review(info) => ActionClass::Read,
        _ => by_verb,
    }
}

/// Groups whose objects decide who may do what.
///
/// - `rbac.authorization.k8s.io`: roles and bindings.
/// - `authorization.openshift.io`: the same under OpenShift's own names; it writes RBAC objects.
/// - `admissionregistration.k8s.io`: a webhook sees every secret that is written and may rewrite every
///   object; an admission policy removed opens what it closed.
/// - `apiregistration.k8s.io`: an APIService sends a whole group's requests, with their users, elsewhere.
fn decides_who_may(api_group: &str) -> bool {
    matches!(
        api_group,
        "rbac.authorization.k8s.io"
            | "authorization.openshift.io"
            | "admissionregistration.k8s.io"
            | "apiregistration.k8s.io"
    )
}

fn is_credential(info: &RequestInfo, by_verb: ActionClass) -> bool {
    let reads = by_verb == ActionClass::Read;
    let writes = by_verb == ActionClass::Write;
    match (info.api_group.as_str(), info.resource.as_str(), info.subresource.as_str()) {
        // A list and a watch show what a get shows.
        ("", "secrets", _) => reads,
        // TokenRequest: a token of the service account.
        ("", "serviceaccounts", "token") => true,
        // Approving a request for a certificate, and signing it: a signer writes the certificate into the status.
        ("certificates.k8s.io", _, "approval" | "status") => writes,
        // Says whether a token is good, and whose it is.
        ("authentication.k8s.io", "tokenreviews", _) => writes,
        // Pinniped's: a token becomes a client certificate. The group's suffix is the installation's own.
        (_, "tokencredentialrequests", _) => writes,
        _ => false,
    }
}

fn is_exec(info: &RequestInfo, by_verb: ActionClass) -> bool {
    match info.subresource.as_str() {
        // Of `pods`, `nodes` and `services`, and under the same names in aggregated APIs (KubeVirt's
        // `portforward`). With any verb: exec over WebSocket is a get, a proxied request has its own method's.
        "exec" | "attach" | "portforward" | "proxy" => true,
        // `kubectl debug`: a new container in a running pod.
        "ephemeralcontainers" => by_verb != ActionClass::Read,
        _ => by_verb == ActionClass::Exec,
    }
}

/// `kubectl auth can-i` and `whoami` ask by creating an object that is answered and never kept.
fn is_review(info: &RequestInfo) -> bool {
    info.verb == "create"
        && info.subresource.is_empty()
        && matches!(
            (info.api_group.as_str(), info.resource.as_str()),
            (
                "authorization.k8s.io",
                "selfsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
                    | "subjectaccessreviews"
                    | "localsubjectaccessreviews"
            ) | ("authentication.k8s.io", "selfsubjectreviews")
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "/api/v1/namespaces/default/pods/p";
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    const CERTIFICATES: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

    /// Goal: the attribute policy's paths (group G of the Backstage cases) and its traps. Method: rows.
    #[test]
    fn the_cases_of_the_attribute_policy() {
        check("GET", POD, "get read"); // G1
        check("DELETE", POD, "delete delete"); // G2
        check("POST", &format!("{POD}/exec"), "create exec"); // G3
        check("POST", &format!("{POD}/attach"), "create exec");
        check("POST", &format!("{POD}/portforward"), "create exec");
        check("GET", "/api/v1/namespaces/default/secrets/s", "get credential"); // G6
        check("GET", "/api/v1/namespaces", "list read");
        check("GET", "/api/v1/namespaces/default", "get read");
        check("DELETE", "/api/v1/namespaces/default/pods", "deletecollection delete");
        check("GET", "/api/v1/namespaces/default/pods?watch=true", "watch read");
        check("GET", &format!("{POD}/log"), "get read");
        check("GET", "/apis/apps/v1/namespaces/d/deployments/x/status", "get read");
        check("GET", &format!("{RBAC}/clusterroles/admin"), "get read");
        for path in ["/healthz", "/version", "/openapi/v2", "/", "/api/v1", "/apis/apps"] {
            check("GET", path, "get read");
        }
        check("PUT", "/apis/apps/v1/namespaces/d/deployments/x/status", "update write");
        check("GET", "/api/v1/namespaces/default/pods?watch=false", "list read");
        check("GET", "/api/v1/watch/pods", "watch read");
        check("GET", &format!("{POD}/proxy/x"), "get exec");
    }

    #[test]
    fn reads_writes_and_deletes() {
        check("HEAD", POD, "get read");
        check("POST", "/api/v1/namespaces/default/pods", "create write");
        check("PUT", POD, "update write");
        check("PATCH", POD, "patch write");
        check("POST", &format!("{POD}/binding"), "create write");
        check("POST", "/api/v1/namespaces/default/bindings", "create write");
        check("POST", &format!("{POD}/eviction"), "create delete");
        check("PATCH", "/apis/apps/v1/namespaces/ns/deployments/d/scale", "patch write");
        check("PUT", "/api/v1/namespaces/ns/finalize", "update write");
        check("DELETE", "/api/v1/namespaces/ns", "delete delete");
        check("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "create read");
        check("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", "create read");
        check("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "create read");
        check("POST", "/apis/authorization.k8s.io/v1/namespaces/n/localsubjectaccessreviews", "create read");
        check("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", "create read");
        check("POST", "/apis/x.example/v1/selfsubjectreviews", "create write");
        check("PUT", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x", "update write");
    }

    #[test]
    fn acts_inside_workloads_and_nodes_are_exec() {
        for subresource in ["exec", "attach", "portforward", "proxy", "proxy/a/b"] {
            check("GET", &format!("{POD}/{subresource}"), "get exec");
            check("POST", &format!("{POD}/{subresource}"), "create exec");
        }
        check("DELETE", &format!("{POD}/proxy/x"), "delete exec");
        check("GET", "/api/v1/nodes/n/proxy/metrics", "get exec");
        check("GET", "/api/v1/namespaces/ns/services/https:svc:443/proxy/", "get exec");
        check("GET", "/api/v1/proxy/namespaces/other/pods/foo", "proxy exec");
        check("PATCH", &format!("{POD}/ephemeralcontainers"), "patch exec");
        check("PUT", &format!("{POD}/ephemeralcontainers"), "update exec");
        check("GET", &format!("{POD}/ephemeralcontainers"), "get read");
        check(
            "GET",
            "/apis/subresources.kubevirt.io/v1/namespaces/n/virtualmachineinstances/v/portforward",
            "get exec",
        );
    }

    #[test]
    fn what_shows_or_issues_credentials_is_credential() {
        let secrets = "/api/v1/namespaces/ns/secrets";
        check("GET", secrets, "list credential");
        check("HEAD", &format!("{secrets}/s"), "get credential");
        check("GET", "/api/v1/secrets", "list credential");
        check("GET", "/api/v1/secrets?watch=1", "watch credential");
        check("GET", "/api/v1/watch/secrets", "watch credential");
        check("GET", &format!("{secrets}/s/status"), "get credential");
        check("POST", secrets, "create write");
        check("PATCH", &format!("{secrets}/s"), "patch write");
        check("DELETE", &format!("{secrets}/s"), "delete delete");
        check("GET", "/apis/example.com/v1/namespaces/ns/secrets", "list read");
        check("POST", "/api/v1/namespaces/ns/serviceaccounts/sa/token", "create credential");
        check("POST", "/api/v1/namespaces/ns/serviceaccounts", "create write");
        check("GET", "/api/v1/namespaces/ns/serviceaccounts/sa", "get read");
        check("POST", CERTIFICATES, "create write");
        check("GET", &format!("{CERTIFICATES}/c"), "get read");
        check("GET", &format!("{CERTIFICATES}/c/approval"), "get read");
        check("PUT", &format!("{CERTIFICATES}/c/approval"), "update credential");
        check("PATCH", &format!("{CERTIFICATES}/c/status"), "patch credential");
        check("DELETE", &format!("{CERTIFICATES}/c"), "delete delete");
        check("POST", "/apis/authentication.k8s.io/v1/tokenreviews", "create credential");
        check("POST", "/apis/login.concierge.pinniped.dev/v1alpha1/tokencredentialrequests", "create credential");
    }

    #[test]
    fn what_decides_who_may_is_escalate() {
        check("GET", &format!("{RBAC}/clusterroles"), "list read");
        check("POST", &format!("{RBAC}/clusterroles"), "create escalate");
        check("PUT", &format!("{RBAC}/namespaces/n/roles/r"), "update escalate");
        check("PATCH", &format!("{RBAC}/namespaces/n/rolebindings/r"), "patch escalate");
        check("DELETE", &format!("{RBAC}/clusterrolebindings/r"), "delete escalate");
        check("DELETE", &format!("{RBAC}/clusterrolebindings"), "deletecollection escalate");
        check("POST", "/apis/authorization.openshift.io/v1/namespaces/n/rolebindings", "create escalate");
        check("DELETE", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w", "delete escalate");
        check("POST", "/apis/apiregistration.k8s.io/v1/apiservices", "create escalate");
        check("GET", "/apis/apiregistration.k8s.io/v1/apiservices", "list read");
    }

    /// Goal: the unknown is the worst. Method: methods that Kubernetes does not know, and verbs that only the gate asks.
    #[test]
    fn what_no_rule_knows_is_escalate() {
        check("OPTIONS", "/api/v1/pods", " escalate");
        check("TRACE", "/api/v1/pods", " escalate");
        check("get", "/api/v1/pods", " escalate");
        check("CONNECT", "/healthz", "connect escalate");
        check("WATCH", "/healthz", "watch escalate");
        for verb in ["impersonate", "bind", "escalate", "approve", "use", "*", "Get"] {
            let info = RequestInfo {
                is_resource_request: true,
                verb: verb.into(),
                resource: "users".into(),
                ..RequestInfo::default()
            };
            assert_eq!(classify(&info, false), ActionClass::Escalate, "{verb}");
            assert_eq!(classify(&info, true), ActionClass::Escalate, "{verb}");
        }
        assert_eq!(classify(&RequestInfo::default(), false), ActionClass::Escalate);
    }

    #[test]
    fn other_paths_go_by_method() {
        check("HEAD", "/healthz", "head read");
        check("OPTIONS", "/healthz", "options read");
        check("POST", "/logs/x", "post write");
        check("PUT", "/debug/flags/v", "put write");
        check("PATCH", "/x", "patch write");
        check("DELETE", "/x", "delete delete");
    }

    /// Goal: an upgrade of a read is exec, but for watches and logs, and hides nothing worse. Method: rows.
    #[test]
    fn an_upgrade_is_exec_and_hides_nothing_worse() {
        check_upgrade("GET", &format!("{POD}/exec"), ActionClass::Exec);
        check_upgrade("GET", "/api/v1/namespaces/default/pods", ActionClass::Exec);
        check_upgrade("GET", "/apis/x.example/v1/namespaces/n/machines/m/console", ActionClass::Exec);
        check_upgrade("GET", "/echo", ActionClass::Exec);
        check_upgrade("GET", "/watch/log", ActionClass::Exec);
        check_upgrade("GET", "/api/v1/namespaces/default/pods?watch=1", ActionClass::Read);
        check_upgrade("GET", &format!("{POD}/log?follow=1"), ActionClass::Read);
        check_upgrade("GET", "/api/v1/secrets?watch=1", ActionClass::Credential);
        check_upgrade("GET", "/api/v1/namespaces/n/secrets/s", ActionClass::Credential);
        check_upgrade("POST", "/api/v1/namespaces/n/serviceaccounts/s/token", ActionClass::Credential);
        check_upgrade("POST", "/api/v1/namespaces/default/pods", ActionClass::Escalate);
        check_upgrade("DELETE", POD, ActionClass::Escalate);
        check_upgrade("DELETE", &format!("{POD}/log"), ActionClass::Delete);
        check_upgrade("POST", &format!("{RBAC}/clusterroles"), ActionClass::Escalate);
        check_upgrade("POST", "/echo", ActionClass::Escalate);
    }

    #[track_caller]
    fn check(method: &str, url: &str, expected: &str) {
        let info = parse(method, url);
        assert_eq!(format!("{} {}", info.verb, classify(&info, false)), expected, "{method} {url}");
    }

    #[track_caller]
    fn check_upgrade(method: &str, url: &str, expected: ActionClass) {
        assert_eq!(classify(&parse(method, url), true), expected, "{method} {url}");
    }

    #[track_caller]
    fn parse(method: &str, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        RequestInfo::of(method, path, query).unwrap()
    }
}
