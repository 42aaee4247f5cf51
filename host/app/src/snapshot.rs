//! Makes the snapshots that the data plane reads: plug-ins and clusters of one generation, tried before they serve.
//!
//! Connections to API servers outlive a reload: each cluster's `Upstream` is made once,
//! from the configuration, and every generation uses it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::bail;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tracing::warn;
use witgate_core::{
    AuthenticationStrategy, BoxFuture, ClusterDetails, ClusterName, Generation, Metadata, PermissionPolicy, SecretStore,
};
use witgate_plugin::{Host, HostConfig};
use witgate_proxy::limits::Limits;
use witgate_proxy::snapshot::{
    ClientAuthorization, ClientImpersonation, Cluster, Clusters, CurrentSnapshot, PermissionRule, Snapshot,
};
use witgate_proxy::upstream::{Http2, InvalidTarget, Reach, ServerTrust, Target, Upstream};

use crate::cli::environment;
use crate::cluster_health::RefusedClusters;
use crate::cluster_trust::{Authorities, TrustFile};
use crate::config::{self, ClusterConfig, Config};
use crate::credential_cache::{CachedStrategy, CredentialCache};
use crate::decision_cache::CachedPolicy;
use crate::metrics::plugins::{PluginMeter, PluginMeters};
use crate::plugins::builtin::BUILTINS;
use crate::plugins::load::HostLoader;
use crate::plugins::reload::{Publish, Refusal, Reload, ReloadHandle, ReloadParts};
use crate::plugins::status::ReloadStatus;
use crate::plugins::{DependsOn, Plugin, PluginEntry};
use crate::secrets::ClusterSecrets;

/// Makes a generation of clusters out of plug-ins, and lets it serve.
pub(crate) struct SnapshotBuilder {
    permission: PermissionRule,
    clusters: Vec<Reachable>,
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

/// A strategy of a candidate, and what its credentials depend on.
type Strategies<'a> = HashMap<&'a str, (&'a Arc<dyn AuthenticationStrategy>, DependsOn)>;

/// A cluster with what outlives a reload: its connections and its secrets.
struct Reachable {
    config: ClusterConfig,
    secrets: Arc<dyn SecretStore>,
    upstream: Arc<Upstream>,
    /// What the cluster's `ca_data` is by now.
    authorities: Authorities,
}

/// What a gate's reloads are made of.
pub(crate) struct Control {
    /// Reloads for as long as it runs.
    pub(crate) reload: Reload<HostLoader, SnapshotBuilder>,
    /// Asks for a reload.
    pub(crate) handle: ReloadHandle,
    /// What serves, for the admin routes.
    pub(crate) status: watch::Receiver<Arc<ReloadStatus>>,
    /// The files of certificate authorities, to be followed.
    pub(crate) trust_files: Vec<TrustFile>,
    /// What the credential caches did, for the admin routes.
    pub(crate) credentials: Arc<CredentialCache>,
    /// What the last candidate's clusters had wrong, for the admin routes.
    pub(crate) refused: Arc<RefusedClusters>,
    /// What the plug-ins' calls came to.
    pub(crate) meters: Arc<PluginMeters>,
}

impl SnapshotBuilder {
    /// Prepares the clusters of `config`. Connects to nothing.
    ///
    /// # Errors
    /// With all that is wrong with them, one text each.
    pub(crate) fn new(config: &Config, current: Arc<CurrentSnapshot>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let mut clusters = Vec::new();
        for cluster in &config.clusters {
            match Reachable::new(cluster, config.limits) {
                Ok(reachable) => clusters.push(reachable),
                Err(problem) => problems.push(problem),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let permission = match config.permission {
            config::PermissionRule::Enabled => PermissionRule::Enabled,
            config::PermissionRule::Disabled => PermissionRule::Disabled,
        };
        Ok(Self {
            permission,
            clusters,
            current,
            credentials: Arc::new(CredentialCache::new()),
            refused: Arc::default(),
            meters: Arc::default(),
        })
    }

    async fn snapshot(&self, plugins: &[PluginEntry], generation: Generation) -> anyhow::Result<Candidate> {
        let mut policies: Vec<Arc<dyn PermissionPolicy>> = Vec::new();
        let mut strategies = Strategies::new();
        let meters = plugins.iter().map(|entry| PluginMeter {
            name: entry.name.clone(),
            generation: entry.generation,
            meter: Arc::clone(&entry.meter),
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
        for reachable in &self.clusters {
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
        if policies.is_empty() && self.permission == PermissionRule::Enabled {
            warn!("the plug-in folder holds no policy, so every request is denied");
        }
        let clusters = Clusters::from_iter(clusters);
        let snapshot = Arc::new(Snapshot { generation, permission: self.permission, policies, clusters });
        Ok(Candidate { snapshot, caches, meters })
    }
}

impl Publish for SnapshotBuilder {
    type Candidate = Candidate;

    fn build<'a>(
        &'a self,
        plugins: &'a [PluginEntry],
        generation: Generation,
    ) -> BoxFuture<'a, anyhow::Result<Self::Candidate>> {
        Box::pin(self.snapshot(plugins, generation))
    }

    fn publish(&self, candidate: Self::Candidate) {
        let Candidate { snapshot, caches, meters } = candidate;
        self.current.publish(snapshot);
        self.credentials.serve(caches);
        self.meters.serve(meters);
    }
}

impl Reachable {
    fn new(config: &ClusterConfig, limits: Limits) -> Result<Self, String> {
        let name = &config.details.name;
        let at = &config.origin;
        let invalid = |error: &dyn std::fmt::Display| format!("{at}: Invalid cluster '{name}': {error}");
        let target = target(config).map_err(|error| invalid(&error))?;
        let reach = Reach {
            target,
            proxy: config.proxy.clone(),
            http2: if config.disable_http2 { Http2::Disabled } else { Http2::Offered },
            trust: ServerTrust {
                ca_data: config.details.ca_data.clone(),
                skip_tls_verify: config.details.skip_tls_verify,
            },
        };
        let upstream = Upstream::new(reach, limits).map_err(|error| invalid(&error))?;
        let secrets = ClusterSecrets::new(&config.secrets, &environment)
            .map_err(|error| format!("{at}: Invalid cluster '{name}': {error:#}"))?;
        let authorities = Arc::new(ArcSwap::from_pointee(config.details.ca_data.clone()));
        Ok(Self { config: config.clone(), secrets: Arc::new(secrets), upstream: Arc::new(upstream), authorities })
    }

    /// The file of its authorities, where one is believed.
    fn trust_file(&self) -> Option<TrustFile> {
        let path = self.config.ca_file.clone().filter(|_| !self.config.details.skip_tls_verify)?;
        Some(TrustFile {
            cluster: self.config.details.name.clone(),
            path,
            authorities: Arc::clone(&self.authorities),
            upstream: Arc::clone(&self.upstream),
        })
    }

    /// The cluster as one generation serves it, once its strategy has looked at its metadata; else what is wrong.
    async fn with_strategy(
        &self,
        strategies: &Strategies<'_>,
        credentials: &CredentialCache,
    ) -> Result<(Cluster, CachedStrategy), String> {
        let ClusterConfig { details, auth_provider, dashboard_url, oidc_token_provider, .. } = &self.config;
        let Some((strategy, depends_on)) = strategies.get(auth_provider.as_str()) else {
            let mut known: Vec<_> = strategies.keys().copied().collect();
            known.sort_unstable();
            return Err(format!(
                "authProvider \"{auth_provider}\" has no config associated with it; there are {}",
                known.join(", ")
            ));
        };
        let failed = |error: witgate_core::CallError| format!("{:#}", anyhow::Error::from(error));
        let problems = strategy.validate_cluster(&details.auth_metadata).await.map_err(failed)?;
        if !problems.is_empty() {
            return Err(problems.join("; "));
        }
        // By the contract a failure leaves the cluster in the list, without `auth`: it can be served all the same.
        let presented_metadata = strategy.present_auth_metadata(&details.auth_metadata).await.unwrap_or_else(|error| {
            let error = anyhow::Error::from(error);
            warn!(cluster = %details.name, error = format!("{error:#}"), "what clients may know of the cluster is not known");
            Metadata::default()
        });
        let details = ClusterDetails { ca_data: (**self.authorities.load()).clone(), ..details.clone() };
        let cache = credentials.around(strategy, *depends_on, &details);
        let cluster = Cluster {
            details,
            dashboard_url: dashboard_url.clone(),
            oidc_token_provider: oidc_token_provider.clone(),
            presented_metadata,
            client_impersonation: match self.config.allow_impersonation {
                true => ClientImpersonation::AskPolicies,
                false => ClientImpersonation::Refused,
            },
            client_authorization: match self.config.allow_client_authorization {
                true => ClientAuthorization::Taken,
                false => ClientAuthorization::Refused,
            },
            strategy: Arc::new(cache.clone()),
            secrets: Arc::clone(&self.secrets),
            upstream: Arc::clone(&self.upstream),
        };
        Ok((cluster, cache))
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
        let publisher = SnapshotBuilder::new(config, current)?;
        let trust_files = publisher.clusters.iter().filter_map(Reachable::trust_file).collect();
        let credentials = Arc::clone(&publisher.credentials);
        let refused = Arc::clone(&publisher.refused);
        let meters = Arc::clone(&publisher.meters);
        let host_config =
            HostConfig { cache_directory: config.plugins.cache_directory.clone(), ..HostConfig::default() };
        let host = Host::new(host_config)
            .map_err(|error| vec![format!("{:#}", anyhow::Error::from(error).context("no WebAssembly engine"))])?;
        let (sender, status) = watch::channel(Arc::default());
        let parts = ReloadParts {
            directory: config.plugins.directory.clone(),
            trusted_keys: config.plugins.trusted_keys.clone(),
            kept_generations_max: config.plugins.kept_generations_max,
            builtins: BUILTINS,
            loader: Arc::new(HostLoader::new(host, environment)),
            publisher,
            changed,
            status: sender,
        };
        let (reload, handle) = Reload::start(parts).await.map_err(texts)?;
        Ok(Self { reload, handle, status, credentials, refused, meters, trust_files })
    }
}

/// Where a cluster's API server is, and what its certificate must name.
fn target(config: &ClusterConfig) -> Result<Target, InvalidTarget> {
    let target = Target::parse(&config.details.server)?;
    match &config.tls_server_name {
        Some(name) => target.with_server_name(name),
        None => Ok(target),
    }
}

/// One text for each problem; a problem of the clusters holds a line for each.
fn texts(Refusal { problems }: Refusal) -> Vec<String> {
    problems.iter().flat_map(|problem| problem.text.lines()).map(str::to_owned).collect()
}

/// A snapshot that denies everything, for as long as there is no other.
pub(crate) fn empty() -> Arc<CurrentSnapshot> {
    Arc::new(CurrentSnapshot::new(Arc::new(Snapshot {
        generation: Generation(0),
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
