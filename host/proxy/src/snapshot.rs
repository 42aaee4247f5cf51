//! What one request reads: who is believed, the policies and the clusters of one generation.
//!
//! The control plane makes a whole new one and publishes it; the data plane only
//! reads. A request takes one `Arc` when it starts, so it never sees half of a reload.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use witgate_core::{
    AuthenticationStrategy, Authenticator, ClusterDetails, ClusterName, Generation, Metadata, PermissionPolicy,
    SecretStore,
};

use crate::upstream::Upstream;

/// All that a request is judged by, of one generation.
pub struct Snapshot {
    /// Counts the snapshots that were published.
    pub generation: Generation,
    /// Finds out who calls.
    pub authenticator: Arc<dyn Authenticator>,
    /// Whether policies are asked at all (`permission.enabled`).
    pub permission: PermissionRule,
    /// Every policy, enforcing and shadow, in the order in which they are asked.
    pub policies: Vec<Arc<dyn PermissionPolicy>>,
    /// The clusters by name.
    pub clusters: Clusters,
}

/// Whether policies are asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PermissionRule {
    /// Every policy is asked about every request, and silence denies.
    Enabled,
    /// Whoever is authenticated is let through (Backstage's `permission.enabled: false`).
    Disabled,
}

/// One cluster, ready to be forwarded to.
pub struct Cluster {
    /// What its strategy is told.
    pub details: ClusterDetails,
    /// Shown by `GET /api/kubernetes/clusters`.
    pub dashboard_url: Option<String>,
    /// Shown by `GET /api/kubernetes/clusters`.
    pub oidc_token_provider: Option<String>,
    /// What its strategy shows of its metadata; asked once, when the snapshot was made.
    pub presented_metadata: Metadata,
    /// Whether a client may bring `Impersonate-*`.
    pub client_impersonation: ClientImpersonation,
    /// Whether a client may bring the cluster's `Authorization` itself.
    pub client_authorization: ClientAuthorization,
    /// Yields its credential.
    pub strategy: Arc<dyn AuthenticationStrategy>,
    /// The secrets that its strategy may ask for.
    pub secrets: Arc<dyn SecretStore>,
    /// The way to its API server.
    pub upstream: Arc<Upstream>,
}

/// Whether a client may bring `Impersonate-*` (`kubectl --as`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientImpersonation {
    /// A request with such a header is refused.
    Refused,
    /// Each header is one more question to the policies.
    AskPolicies,
}

/// Whether `Backstage-Kubernetes-Authorization` becomes the upstream `Authorization`, verbatim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuthorization {
    /// It does, and the strategy is not asked (Backstage's behaviour).
    Taken,
    /// A request with that header is refused.
    Refused,
}

/// The clusters by name; listed in the order of the configuration.
#[derive(Default)]
pub struct Clusters {
    ordered: Vec<Arc<Cluster>>,
    by_name: HashMap<ClusterName, usize>,
}

impl Clusters {
    /// The cluster of this name.
    pub fn find(&self, name: &ClusterName) -> Option<&Arc<Cluster>> {
        self.by_name.get(name).and_then(|index| self.ordered.get(*index))
    }

    /// The only cluster, where there is just one.
    pub fn only(&self) -> Option<&Arc<Cluster>> {
        match self.ordered.as_slice() {
            [cluster] => Some(cluster),
            _ => None,
        }
    }

    /// All, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.ordered.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ordered.is_empty()
    }
}

/// Later clusters of a name that is taken are left out; the configuration has refused them before.
impl FromIterator<Arc<Cluster>> for Clusters {
    fn from_iter<I: IntoIterator<Item = Arc<Cluster>>>(clusters: I) -> Self {
        let mut all = Self::default();
        for cluster in clusters {
            let index = all.ordered.len();
            if let std::collections::hash_map::Entry::Vacant(entry) = all.by_name.entry(cluster.details.name.clone()) {
                entry.insert(index);
                all.ordered.push(cluster);
            }
        }
        all
    }
}

/// Where the current snapshot is read, and replaced whole.
pub struct CurrentSnapshot(ArcSwap<Snapshot>);

impl CurrentSnapshot {
    /// Starts with `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self(ArcSwap::new(snapshot))
    }

    /// The snapshot that requests starting now use. Never blocks.
    pub fn read(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Replaces it. Requests in flight keep theirs.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        self.0.store(snapshot);
    }
}
