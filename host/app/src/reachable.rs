//! A cluster of the configuration with what outlives a generation: its connections, what they believe, and its secrets.
//!
//! Promise: a cluster that is configured as before keeps its connections, and one of which anything else changed keeps them
//! too, unless it is another API server, or is reached in another way.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tracing::warn;
use witgate_core::{AuthenticationStrategy, CallError, ClusterDetails, Metadata, SecretStore};
use witgate_proxy::limits::Limits;
use witgate_proxy::snapshot::{ClientAuthorization, ClientImpersonation, Cluster};
use witgate_proxy::upstream::{Http2, InvalidTarget, Reach, ServerTrust, Target, Upstream};

use crate::cli::environment;
use crate::config::ClusterConfig;
use crate::credential_cache::{CachedStrategy, CredentialCache};
use crate::plugins::DependsOn;
use crate::secrets::ClusterSecrets;
use crate::trust_files::{Believer, ClusterAuthorities, TrustFile};

/// A cluster with what outlives a generation.
pub(crate) struct Reachable {
    pub(crate) config: ClusterConfig,
    secrets: Arc<dyn SecretStore>,
    upstream: Arc<Upstream>,
    /// What the cluster's `ca_data` is by now.
    authorities: ClusterAuthorities,
}

/// A strategy of a candidate, and what its credentials depend on.
pub(crate) type Strategies<'a> = HashMap<&'a str, (&'a Arc<dyn AuthenticationStrategy>, DependsOn)>;

impl Reachable {
    /// The cluster of `config`, with the connections of `before` where they lead to the same place in the same way. Connects to
    /// nothing.
    ///
    /// # Errors
    /// With what is wrong, naming file and key.
    pub(crate) fn new(config: &ClusterConfig, before: Option<&Self>, limits: Limits) -> Result<Self, String> {
        let name = &config.details.name;
        let at = &config.origin;
        let invalid = |error: &dyn std::fmt::Display| format!("{at}: Invalid cluster '{name}': {error}");
        let secrets = match before.filter(|before| before.config.secrets == config.secrets) {
            Some(before) => Arc::clone(&before.secrets),
            None => {
                let secrets = ClusterSecrets::new(&config.secrets, &environment);
                Arc::new(secrets.map_err(|error| format!("{at}: Invalid cluster '{name}': {error:#}"))?)
            }
        };
        let (upstream, authorities) = match before.filter(|before| is_reached_alike(&before.config, config)) {
            Some(before) => (Arc::clone(&before.upstream), Arc::clone(&before.authorities)),
            None => {
                let reach = Reach {
                    target: target(config).map_err(|error| invalid(&error))?,
                    proxy: config.proxy.clone(),
                    http2: if config.disable_http2 { Http2::Disabled } else { Http2::Offered },
                    trust: ServerTrust {
                        ca_data: config.details.ca_data.clone(),
                        skip_tls_verify: config.details.skip_tls_verify,
                    },
                };
                let upstream = Upstream::new(reach, limits).map_err(|error| invalid(&error))?;
                (Arc::new(upstream), Arc::new(ArcSwap::from_pointee(config.details.ca_data.clone())))
            }
        };
        Ok(Self { config: config.clone(), secrets, upstream, authorities })
    }

    /// Whether it is what `config` says.
    pub(crate) fn is(&self, config: &ClusterConfig) -> bool {
        self.config.details.name == config.details.name && without_followed(&self.config) == without_followed(config)
    }

    /// The file of its authorities, where one is believed.
    pub(crate) fn trust_file(&self) -> Option<TrustFile> {
        let path = self.config.ca_file.clone().filter(|_| !self.config.details.skip_tls_verify)?;
        let believer = Believer::Cluster {
            name: self.config.details.name.clone(),
            authorities: Arc::clone(&self.authorities),
            upstream: Arc::clone(&self.upstream),
        };
        Some(TrustFile { path, believer })
    }

    /// The cluster as one generation serves it, once its strategy has looked at its metadata; else what is wrong.
    pub(crate) async fn with_strategy(
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
        let failed = |error: CallError| format!("{:#}", anyhow::Error::from(error));
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
        let cache = credentials.around(strategy, *depends_on, &details, &self.secrets);
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

/// Without what is followed for itself: the authorities of a file, and where in the file it stands.
fn without_followed(config: &ClusterConfig) -> ClusterConfig {
    let ca_data = config.details.ca_data.clone().filter(|_| config.ca_file.is_none());
    ClusterConfig {
        details: ClusterDetails { ca_data, ..config.details.clone() },
        origin: String::new(),
        ..config.clone()
    }
}

/// Whether the connections of one are good for the other.
fn is_reached_alike(one: &ClusterConfig, other: &ClusterConfig) -> bool {
    let reach = |config: &ClusterConfig| {
        let ClusterConfig { details, ca_file, tls_server_name, proxy, disable_http2, .. } = without_followed(config);
        (details.server, details.ca_data, details.skip_tls_verify, ca_file, tls_server_name, proxy, disable_http2)
    };
    reach(one) == reach(other)
}

/// Where a cluster's API server is, and what its certificate must name.
fn target(config: &ClusterConfig) -> Result<Target, InvalidTarget> {
    let target = Target::parse(&config.details.server)?;
    match &config.tls_server_name {
        Some(name) => target.with_server_name(name),
        None => Ok(target),
    }
}
