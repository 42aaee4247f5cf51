//! Makes the snapshots that the data plane reads: plug-ins and the configuration of one generation, tried before they serve.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::bail;
use tokio::sync::{Notify, watch};
use tracing::warn;
use witgate_core::{BoxFuture, ClusterName, Generation, PermissionPolicy};
use witgate_plugin::{Host, HostConfig};
use witgate_proxy::snapshot::{Clusters, CurrentSnapshot, PermissionRule, Snapshot};

use crate::authentication;
use crate::cli::environment;
use crate::cluster_health::RefusedClusters;
use crate::config::{ClusterConfig, Config};
use crate::configured::{ConfigurationFile, Configured};
use crate::credential_cache::{CachedStrategy, CredentialCache};
use crate::decision_cache::CachedPolicy;
use crate::metrics::plugins::{PluginMeter, PluginMeters};
use crate::plugins::builtin::BUILTINS;
use crate::plugins::call_facts::CallFacts;
use crate::plugins::load::HostLoader;
use crate::plugins::oci::Delivery;
use crate::plugins::reload::{Publish, Refusal, Reload, ReloadHandle, ReloadParts};
use crate::plugins::status::{Cause, ReloadStatus};
use crate::plugins::{Plugin, PluginEntry};
use crate::reachable::Strategies;
use crate::trust_files::PluginTrust;

/// Makes a generation of clusters out of plug-ins, and lets it serve.
pub(crate) struct SnapshotBuilder {
    file: Arc<ConfigurationFile>,
    current: Arc<CurrentSnapshot>,
    credentials: Arc<CredentialCache>,
    refused: Arc<RefusedClusters>,
    meters: Arc<PluginMeters>,
}

/// A generation that does not serve yet, with the credential caches that it will use.
pub(crate) struct Candidate {
    snapshot: Arc<Snapshot>,
    caches: HashMap<ClusterName, CachedStrategy>,
    meters: Vec<PluginMeter>,
}

/// What a gate's reloads are made of.
pub(crate) struct Control {
    /// Reloads for as long as it runs.
    pub(crate) reload: Reload<HostLoader, SnapshotBuilder>,
    /// Asks for a reload.
    pub(crate) handle: ReloadHandle,
    /// What serves, for the admin routes.
    pub(crate) status: watch::Receiver<Arc<ReloadStatus>>,
    /// The configuration's file, to be followed.
    pub(crate) file: Arc<ConfigurationFile>,
    /// What the credential caches did, for the admin routes.
    pub(crate) credentials: Arc<CredentialCache>,
    /// What the last candidate's clusters had wrong, for the admin routes.
    pub(crate) refused: Arc<RefusedClusters>,
    /// What the plug-ins' calls came to.
    pub(crate) meters: Arc<PluginMeters>,
    /// The files of authorities that plug-ins believe.
    pub(crate) plugin_trust: Arc<PluginTrust>,
}

impl SnapshotBuilder {
    async fn snapshot(
        &self,
        configured: &Configured,
        plugins: &[PluginEntry],
        generation: Generation,
    ) -> anyhow::Result<Candidate> {
        let mut policies: Vec<Arc<dyn PermissionPolicy>> = Vec::new();
        let mut strategies = Strategies::new();
        let meters = plugins.iter().map(|entry| PluginMeter {
            name: entry.name.clone(),
            generation: entry.generation,
            meter: Arc::clone(&entry.meter),
            kind: entry.plugin.kind(),
            mode: entry.mode,
            calls: CallFacts::of(&entry.plugin),
        });
        let meters = meters.collect();
        for entry in plugins {
            match &entry.plugin {
                Plugin::Policy(policy) => policies.push(Arc::new(CachedPolicy::around(Arc::clone(policy)))),
                Plugin::Strategy(strategy) => {
                    strategies.insert(entry.name.as_str(), (strategy, entry.depends_on));
                }
            }
        }
        let mut problems = BTreeMap::new();
        let mut texts = Vec::new();
        let mut clusters = Vec::new();
        let mut caches = HashMap::new();
        for reachable in &configured.clusters {
            match reachable.with_strategy(&strategies, &self.credentials).await {
                Ok((cluster, cache)) => {
                    caches.insert(cluster.details.name.clone(), cache);
                    clusters.push(Arc::new(cluster));
                }
                Err(problem) => {
                    let ClusterConfig { details, origin, .. } = &reachable.config;
                    texts.push(format!("{origin}: Invalid cluster '{}': {problem}", details.name));
                    problems.insert(details.name.clone(), problem);
                }
            }
        }
        if !texts.is_empty() {
            let text = texts.join("\n");
            self.refused.refuse(text.clone(), problems);
            bail!(text);
        }
        if policies.is_empty() && configured.permission == PermissionRule::Enabled {
            warn!("the plug-in folder holds no policy, so every request is denied");
        }
        let clusters = Clusters::from_iter(clusters);
        let Configured { permission, authenticator, .. } = configured;
        let (permission, authenticator) = (*permission, Arc::clone(authenticator));
        let snapshot = Arc::new(Snapshot { generation, authenticator, permission, policies, clusters });
        Ok(Candidate { snapshot, caches, meters })
    }
}

impl Publish for SnapshotBuilder {
    type Configuration = Configured;
    type Candidate = Candidate;

    fn configuration(&self, cause: Cause) -> BoxFuture<'_, Result<Arc<Configured>, String>> {
        Box::pin(async move {
            if cause == Cause::Asked {
                let file = Arc::clone(&self.file);
                let reread = tokio::task::spawn_blocking(move || file.reread());
                reread.await.map_err(|error| format!("the configuration was not read to its end: {error}"))?;
            }
            self.file.read()
        })
    }

    fn build<'a>(
        &'a self,
        configuration: &'a Self::Configuration,
        plugins: &'a [PluginEntry],
        generation: Generation,
    ) -> BoxFuture<'a, anyhow::Result<Self::Candidate>> {
        Box::pin(self.snapshot(configuration, plugins, generation))
    }

    fn publish(&self, candidate: Self::Candidate) {
        let Candidate { snapshot, caches, meters } = candidate;
        self.current.publish(snapshot);
        self.credentials.serve(caches);
        self.meters.serve(meters);
    }
}

impl Control {
    /// Loads every plug-in, tries every cluster, and publishes the first generation to `current`.
    ///
    /// # Errors
    /// With all that is wrong, one text each.
    pub(crate) async fn start(
        config: &Config,
        current: Arc<CurrentSnapshot>,
        changed: Arc<Notify>,
    ) -> Result<Self, Vec<String>> {
        let file = Arc::new(configuration_file(config).await?);
        let (credentials, refused) = (Arc::new(CredentialCache::new()), Arc::<RefusedClusters>::default());
        let meters = Arc::<PluginMeters>::default();
        let publisher = SnapshotBuilder {
            file: Arc::clone(&file),
            current,
            credentials: Arc::clone(&credentials),
            refused: Arc::clone(&refused),
            meters: Arc::clone(&meters),
        };
        let host_config =
            HostConfig { cache_directory: config.plugins.cache_directory.clone(), ..HostConfig::default() };
        let host = Host::new(host_config)
            .map_err(|error| vec![format!("{:#}", anyhow::Error::from(error).context("no WebAssembly engine"))])?;
        let loader = Arc::new(HostLoader::new(host, environment));
        let plugin_trust = loader.trust();
        let (sender, status) = watch::channel(Arc::default());
        let parts = ReloadParts {
            directory: config.plugins.directory.clone(),
            trusted_keys: config.plugins.trusted_keys.clone(),
            configuration: file.good(),
            delivery: Delivery::new(&config.plugins).map(Arc::new),
            kept_generations_max: config.plugins.kept_generations_max,
            builtins: BUILTINS,
            loader,
            publisher,
            changed,
            status: sender,
        };
        let (reload, handle) = Reload::start(parts).await.map_err(texts)?;
        Ok(Self { reload, handle, status, credentials, refused, meters, plugin_trust, file })
    }
}

/// Reads the files that the configuration names off the runtime's workers.
async fn configuration_file(config: &Config) -> Result<ConfigurationFile, Vec<String>> {
    let config = config.clone();
    let read = tokio::task::spawn_blocking(move || ConfigurationFile::new(&config));
    read.await.unwrap_or_else(|error| Err(vec![format!("the configuration was not read to its end: {error}")]))
}

/// One text for each problem; a problem of the clusters holds a line for each.
fn texts(Refusal { problems }: Refusal) -> Vec<String> {
    problems.iter().flat_map(|problem| problem.text.lines()).map(str::to_owned).collect()
}

/// A snapshot that denies everything, for as long as there is no other.
pub(crate) fn empty() -> Arc<CurrentSnapshot> {
    Arc::new(CurrentSnapshot::new(Arc::new(Snapshot {
        generation: Generation(0),
        authenticator: authentication::nobody(),
        permission: PermissionRule::Enabled,
        policies: Vec::new(),
        clusters: Clusters::default(),
    })))
}

/// Everything about clusters and plug-ins that a start would refuse: one text each.
pub(crate) async fn check(config: &Config) -> Vec<String> {
    match Control::start(config, empty(), Arc::default()).await {
        Ok(_) => Vec::new(),
        Err(problems) => problems,
    }
}
