//! What keeps a cluster from being served, as far as the gate knows by now: the `error` of `/status`' clusters.
//!
//! Three things can: its strategy refused its metadata in the reload that was refused last, the last exchange for its
//! credential failed, its API server is taken for dead. Nothing is probed here: what is not known is no error.
//!
//! Promise: a text holds what callers or the operator's log are told anyway, and no credential, URL or address.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use witgate_core::ClusterName;
use witgate_proxy::snapshot::CurrentSnapshot;

use crate::admin::ClusterStatus;
use crate::credential_cache::CredentialCache;
use crate::plugins::status::ReloadStatus;

/// Where the gate learns how its clusters are.
pub(crate) struct ClusterHealth {
    /// What serves.
    pub(crate) current: Arc<CurrentSnapshot>,
    /// How the last reload ended.
    pub(crate) reload: watch::Receiver<Arc<ReloadStatus>>,
    /// What the last candidate's clusters had wrong.
    pub(crate) refused: Arc<RefusedClusters>,
    /// How the last exchanges ended.
    pub(crate) credentials: Arc<CredentialCache>,
}

impl ClusterHealth {
    /// Every cluster that serves, by name.
    pub(crate) fn list(&self) -> Vec<ClusterStatus> {
        let last_reload = self.reload.borrow().last_reload.as_ref().and_then(|last| last.error.clone());
        let snapshot = self.current.read();
        let clusters = snapshot.clusters.iter().map(|cluster| {
            let name = &cluster.details.name;
            let refused = last_reload.as_deref().and_then(|error| self.refused.problem_of(name, error));
            let suspended = cluster.upstream.is_suspended();
            let errors = [
                refused.map(|problem| format!("the plug-ins of the last reload do not serve it: {problem}")),
                self.credentials.failure_of(name).map(|failure| format!("its strategy failed: {failure}")),
                suspended.then(|| "its API server is not reached; requests are refused for a while".to_owned()),
            ];
            let errors: Vec<_> = errors.into_iter().flatten().collect();
            ClusterStatus {
                name: name.clone(),
                auth_provider: cluster.strategy.name().clone(),
                error: (!errors.is_empty()).then(|| errors.join("; ")),
            }
        });
        clusters.collect()
    }
}

/// What was wrong with clusters of the last candidate that could not be built.
#[derive(Debug, Default)]
pub(crate) struct RefusedClusters(Mutex<Refused>);

#[derive(Debug, Default)]
struct Refused {
    /// The whole refusal, as the reload tells it.
    text: String,
    problems: BTreeMap<ClusterName, String>,
}

impl RefusedClusters {
    /// A candidate is refused for its clusters; `text` is what the reload will tell.
    pub(crate) fn refuse(&self, text: String, problems: BTreeMap<ClusterName, String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Refused { text, problems };
    }

    /// What is wrong with a cluster, if the refusal that the last reload told is the one that is known here: a later reload
    /// may have ended without a look at the clusters.
    fn problem_of(&self, cluster: &ClusterName, last_reload: &str) -> Option<String> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.text == last_reload { refused.problems.get(cluster).cloned() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a cluster's problem is told for as long as the refusal is. Method: one refusal, and what reloads tell after it.
    #[test]
    fn a_problem_is_told_with_its_refusal() {
        let name = |name: &str| ClusterName::try_from(name).unwrap();
        let refused = RefusedClusters::default();
        assert_eq!(refused.problem_of(&name("one"), ""), None);
        refused.refuse("one: no region".to_owned(), [(name("one"), "no region".to_owned())].into());
        assert_eq!(refused.problem_of(&name("one"), "one: no region").as_deref(), Some("no region"));
        assert_eq!(refused.problem_of(&name("two"), "one: no region"), None);
        assert_eq!(refused.problem_of(&name("one"), "x.wasm: not a component"), None);
    }
}
