//! The resources that every API server has, by the names that kubectl takes for them.

/// A kind of object, as far as its URL goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Resource {
    /// In the plural, as in the URL.
    pub(super) plural: String,
    /// The API group; empty for the core group.
    pub(super) group: String,
    /// The API group's version.
    pub(super) version: String,
    /// Whether its objects are in namespaces; none where that is not known.
    pub(super) namespaced: Option<bool>,
}

impl Resource {
    /// The one that is called `name` on kubectl's command line: `po`, `pod`, `pods`, `deployments.apps`, or in full `widgets.v1.example.com`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let (first, rest) = lower.split_once('.').unwrap_or((&lower, ""));
        let known = TABLE.iter().find(|(plural, names, group, version, _)| {
            let is_named = *plural == first || names.split(' ').any(|name| name == first);
            is_named
                && (rest.is_empty() || rest == *group || rest == format!("{version}.{group}").trim_end_matches('.'))
        });
        if let Some((plural, _, group, version, namespaced)) = known {
            return Some(Self {
                plural: (*plural).to_owned(),
                group: (*group).to_owned(),
                version: (*version).to_owned(),
                namespaced: Some(*namespaced),
            });
        }
        let (version, group) = rest.split_once('.')?;
        let is_version =
            version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        (is_version && !group.is_empty() && !first.is_empty()).then(|| Self {
            plural: first.to_owned(),
            group: group.to_owned(),
            version: version.to_owned(),
            namespaced: None,
        })
    }

    /// The group's URL, as `/api/v1` or `/apis/apps/v1`.
    pub(super) fn prefix(&self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
    }
}

/// Plural; singular and short names; group; version; whether in namespaces.
type Row = (&'static str, &'static str, &'static str, &'static str, bool);

const RBAC: &str = "rbac.authorization.k8s.io";

const TABLE: &[Row] = &[
    ("bindings", "binding", "", "v1", true),
    ("componentstatuses", "componentstatus cs", "", "v1", false),
    ("configmaps", "configmap cm", "", "v1", true),
    ("endpoints", "endpoint ep", "", "v1", true),
    ("events", "event ev", "", "v1", true),
    ("limitranges", "limitrange limits", "", "v1", true),
    ("namespaces", "namespace ns", "", "v1", false),
    ("nodes", "node no", "", "v1", false),
    ("persistentvolumeclaims", "persistentvolumeclaim pvc", "", "v1", true),
    ("persistentvolumes", "persistentvolume pv", "", "v1", false),
    ("pods", "pod po", "", "v1", true),
    ("podtemplates", "podtemplate", "", "v1", true),
    ("replicationcontrollers", "replicationcontroller rc", "", "v1", true),
    ("resourcequotas", "resourcequota quota", "", "v1", true),
    ("secrets", "secret", "", "v1", true),
    ("serviceaccounts", "serviceaccount sa", "", "v1", true),
    ("services", "service svc", "", "v1", true),
    ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration", "admissionregistration.k8s.io", "v1", false),
    ("validatingadmissionpolicies", "validatingadmissionpolicy", "admissionregistration.k8s.io", "v1", false),
    (
        "validatingadmissionpolicybindings",
        "validatingadmissionpolicybinding",
        "admissionregistration.k8s.io",
        "v1",
        false,
    ),
    ("validatingwebhookconfigurations", "validatingwebhookconfiguration", "admissionregistration.k8s.io", "v1", false),
    ("customresourcedefinitions", "customresourcedefinition crd crds", "apiextensions.k8s.io", "v1", false),
    ("apiservices", "apiservice", "apiregistration.k8s.io", "v1", false),
    ("controllerrevisions", "controllerrevision", "apps", "v1", true),
    ("daemonsets", "daemonset ds", "apps", "v1", true),
    ("deployments", "deployment deploy", "apps", "v1", true),
    ("replicasets", "replicaset rs", "apps", "v1", true),
    ("statefulsets", "statefulset sts", "apps", "v1", true),
    ("horizontalpodautoscalers", "horizontalpodautoscaler hpa", "autoscaling", "v2", true),
    ("cronjobs", "cronjob cj", "batch", "v1", true),
    ("jobs", "job", "batch", "v1", true),
    ("certificatesigningrequests", "certificatesigningrequest csr", "certificates.k8s.io", "v1", false),
    ("leases", "lease", "coordination.k8s.io", "v1", true),
    ("endpointslices", "endpointslice", "discovery.k8s.io", "v1", true),
    ("flowschemas", "flowschema", "flowcontrol.apiserver.k8s.io", "v1", false),
    ("prioritylevelconfigurations", "prioritylevelconfiguration", "flowcontrol.apiserver.k8s.io", "v1", false),
    ("ingressclasses", "ingressclass", "networking.k8s.io", "v1", false),
    ("ingresses", "ingress ing", "networking.k8s.io", "v1", true),
    ("networkpolicies", "networkpolicy netpol", "networking.k8s.io", "v1", true),
    ("runtimeclasses", "runtimeclass", "node.k8s.io", "v1", false),
    ("poddisruptionbudgets", "poddisruptionbudget pdb", "policy", "v1", true),
    ("clusterrolebindings", "clusterrolebinding", RBAC, "v1", false),
    ("clusterroles", "clusterrole", RBAC, "v1", false),
    ("rolebindings", "rolebinding", RBAC, "v1", true),
    ("roles", "role", RBAC, "v1", true),
    ("priorityclasses", "priorityclass pc", "scheduling.k8s.io", "v1", false),
    ("csidrivers", "csidriver", "storage.k8s.io", "v1", false),
    ("csinodes", "csinode", "storage.k8s.io", "v1", false),
    ("storageclasses", "storageclass sc", "storage.k8s.io", "v1", false),
    ("volumeattachments", "volumeattachment", "storage.k8s.io", "v1", false),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a resource is found by each of its names, and others only in full. Method: rows of a name and its URL.
    #[test]
    fn a_resource_goes_by_kubectls_names() {
        check("po", "/api/v1/pods");
        check("Pods", "/api/v1/pods");
        check("deploy", "/apis/apps/v1/deployments");
        check("deployments.apps", "/apis/apps/v1/deployments");
        check("deployments.v1.apps", "/apis/apps/v1/deployments");
        check("widgets.v1beta1.example.com", "/apis/example.com/v1beta1/widgets");
        check("deployments.extensions", "unknown");
        check("widgets", "unknown");
        check("widgets.example.com", "unknown");
        check("", "unknown");
    }

    #[track_caller]
    fn check(name: &str, expected: &str) {
        let url = Resource::named(name).map(|resource| format!("{}/{}", resource.prefix(), resource.plural));
        assert_eq!(url.as_deref().unwrap_or("unknown"), expected, "{name}");
    }
}
