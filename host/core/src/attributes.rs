//! What policies judge: a request's Kubernetes attributes, with what the gate adds.

use crate::query::Query;
use crate::{ActionClass, ClusterName, RequestInfo, RequestInfoError, RequestTarget, classify};

/// One request to one cluster, as a policy sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestAttributes {
    /// The cluster that the caller named. It may not exist: clusters are looked up after the verdict.
    pub cluster: ClusterName,
    /// What the API server will make of the method, path and query.
    pub info: RequestInfo,
    /// HTTP's method.
    pub method: String,
    /// The path at the API server, decoded; without the query.
    pub path: String,
    /// What kind of act this is.
    pub action_class: ActionClass,
    /// Whether the client asks for another protocol on this connection (exec, attach, port-forward).
    pub upgrade: bool,
    /// The media type of a patch, such as `application/apply-patch+yaml`.
    pub patch_type: Option<String>,
    /// Whether a write is sure to keep nothing: the query of a create, update or patch says `dryRun=All`.
    ///
    /// Never of a delete: the API server reads a delete's options from the body if there is one, and then not
    /// from the query. Never of an exec or a token either: these happen whatever the query says.
    pub dry_run: bool,
}

impl RequestAttributes {
    /// Reads the attributes of a request to `cluster`. `content_type` is the header's value, where there is one.
    ///
    /// ```
    /// use witgate_core::{ActionClass, ClusterName, RequestAttributes, RequestTarget};
    ///
    /// let target = RequestTarget::parse("/api/v1/namespaces/dev/pods/web").unwrap();
    /// let cluster = ClusterName::try_from("one").unwrap();
    /// let attributes = RequestAttributes::of(cluster, "DELETE", &target, false, None).unwrap();
    /// assert_eq!(attributes.info.verb, "delete");
    /// assert_eq!(attributes.action_class, ActionClass::Delete);
    /// ```
    ///
    /// # Errors
    /// When the API server itself could not say what the request is about.
    pub fn of(
        cluster: ClusterName,
        method: &str,
        target: &RequestTarget,
        upgrade: bool,
        content_type: Option<&str>,
    ) -> Result<Self, RequestInfoError> {
        let info = RequestInfo::of(method, target.decoded_path(), target.query())?;
        let patch_type = match method {
            "PATCH" => content_type
                .and_then(|value| value.split(';').next())
                .map(|media_type| media_type.trim().to_ascii_lowercase()),
            _ => None,
        };
        let action_class = classify(&info, upgrade);
        let dry_run = matches!(info.verb.as_str(), "create" | "update" | "patch")
            && matches!(action_class, ActionClass::Write | ActionClass::Escalate)
            && says_dry_run(Query::new(target.query().unwrap_or_default()));
        Ok(Self {
            cluster,
            action_class,
            info,
            method: method.to_owned(),
            path: target.decoded_path().to_owned(),
            upgrade,
            patch_type,
            dry_run,
        })
    }
}

/// Every value must be `All` for the API server to take it; several values are one too many.
fn says_dry_run(query: Query<'_>) -> bool {
    let mut values = query.pairs().filter(|(key, _)| key == "dryRun");
    values.next().is_some_and(|(_, value)| value == "All") && values.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that happens is taken for a dry run. Method: rows of a request and whether it is one.
    #[test]
    fn a_dry_run_is_one_for_sure() {
        check("POST", "/api/v1/namespaces/n/pods?dryRun=All", true);
        check("PATCH", "/api/v1/namespaces/n/pods/p?fieldManager=x&dryRun=All", true);
        check("PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r?dryRun=All", true);
        check("POST", "/api/v1/namespaces/n/pods", false);
        check("POST", "/api/v1/namespaces/n/pods?dryRun=", false);
        check("POST", "/api/v1/namespaces/n/pods?dryRun=all", false);
        check("POST", "/api/v1/namespaces/n/pods?dryRun=All;x", false);
        check("POST", "/api/v1/namespaces/n/pods?dryRun=All&dryRun=x", false);
        check("DELETE", "/api/v1/namespaces/n/pods/p?dryRun=All", false);
        check("DELETE", "/api/v1/namespaces/n/pods?dryRun=All", false);
        check("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterroles/r?dryRun=All", false);
        check("POST", "/api/v1/namespaces/n/pods/p/exec?dryRun=All", false);
        check("POST", "/api/v1/namespaces/n/services/s/proxy/?dryRun=All", false);
        check("POST", "/api/v1/namespaces/n/serviceaccounts/s/token?dryRun=All", false);
        check("POST", "/healthz?dryRun=All", false);
    }

    #[track_caller]
    fn check(method: &str, target: &str, expected: bool) {
        let cluster = ClusterName::try_from("one").unwrap();
        let target = RequestTarget::parse(target).unwrap();
        let attributes = RequestAttributes::of(cluster, method, &target, false, None).unwrap();
        assert_eq!(attributes.dry_run, expected, "{method} {target}");
    }
}
