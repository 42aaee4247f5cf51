//! From a component and its sidecar to something that can be called.
//!
//! [`Load`] is what [`reload`](super::reload) knows of it, so that the life cycle is tested without
//! WebAssembly; [`HostLoader`] is the one implementation that serves.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use witgate_core::{BoxFuture, CallMeter, Digest, PluginName};
use witgate_plugin::{Authorities, CompilationCounts, Grants, Host, LoadedPlugin, OutboundHost, PluginSource, Start};

use super::Plugin;
use super::sidecar::{OutboundGrant, Sidecar};
use crate::config;
use crate::secrets::ClusterSecrets;
use crate::trust_files::PluginTrust;

/// Makes plug-ins callable.
pub(crate) trait Load: Send + Sync + 'static {
    /// Compiles, link-checks and configures one plug-in, off the request path.
    ///
    /// The error's chain is for operators: what was given, what was expected.
    fn load(&self, source: Source) -> BoxFuture<'_, anyhow::Result<Loaded>>;

    /// Lets go of what was kept to load plug-ins of other components than these again.
    fn retain(&self, components: &BTreeSet<Digest>);

    /// Where the compiled code of what was loaded came from.
    fn compilations(&self) -> CompilationCounts;
}

/// What a plug-in is made from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Its name.
    pub(crate) name: PluginName,
    /// Its component.
    pub(crate) bytes: Arc<[u8]>,
    /// What it may.
    pub(crate) sidecar: Sidecar,
}

/// What became of it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// How to call it.
    pub(crate) plugin: Plugin,
    /// Counts its calls.
    pub(crate) meter: Arc<CallMeter>,
    /// The version of the contract that it speaks.
    pub(crate) contract: String,
    /// How its calls come to the state that `configure` left.
    pub(crate) start: Start,
}

/// Loads plug-ins into the WebAssembly host.
pub(crate) struct HostLoader {
    host: Host,
    environment: Environment,
    trust: Arc<PluginTrust>,
}

/// Looks a variable up.
type Environment = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

impl HostLoader {
    /// A loader for `host`; `environment` looks up the variables that sidecars name.
    pub(crate) fn new(host: Host, environment: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { host, environment: Box::new(environment), trust: Arc::default() }
    }

    /// The files of authorities that its plug-ins believe.
    pub(crate) fn trust(&self) -> Arc<PluginTrust> {
        Arc::clone(&self.trust)
    }

    /// `host`, with the authorities of `file` instead of the system's; followed from now on.
    async fn believing(&self, host: OutboundHost, plugin: &PluginName, file: PathBuf) -> anyhow::Result<OutboundHost> {
        let context = || format!("`caFile` of `outboundHosts`, {}", file.display());
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || config::certificate_authorities(&path)).await?;
        let pem = read.map_err(anyhow::Error::msg).with_context(context)?;
        let authorities = Arc::new(Authorities::of(&pem).with_context(context)?);
        self.trust.follow(plugin.clone(), file, &authorities);
        Ok(host.with_certificate_authorities(authorities))
    }
}

impl Load for HostLoader {
    fn load(&self, source: Source) -> BoxFuture<'_, anyhow::Result<Loaded>> {
        Box::pin(async move {
            let Source { name, bytes, sidecar } = source;
            let Sidecar {
                settings,
                outbound_hosts,
                secrets,
                limits,
                isolation,
                sha256: _,
                credential_depends_on: _,
                self_test: _,
                mode,
            } = sidecar;
            let secrets = ClusterSecrets::new(&secrets, &self.environment).context("its sidecar's `secrets`")?;
            let mut granted = Vec::new();
            for OutboundGrant { host, ca_file } in outbound_hosts {
                granted.push(match ca_file {
                    None => host,
                    Some(file) => self.believing(host, &name, file).await?,
                });
            }
            let grants = Grants { secrets: Arc::new(secrets), outbound_hosts: granted };
            let mode = mode.unwrap_or_default();
            let source = PluginSource { name, bytes, settings, limits, grants, mode, isolation };
            let loaded = self.host.load(source).await?;
            let contract = loaded.contract().to_owned();
            let start = loaded.start().clone();
            let meter = Arc::clone(loaded.meter());
            let plugin = match loaded {
                LoadedPlugin::Policy(policy) => Plugin::Policy(policy),
                LoadedPlugin::Strategy(strategy) => Plugin::Strategy(strategy),
            };
            Ok(Loaded { plugin, meter, contract, start })
        })
    }

    fn retain(&self, components: &BTreeSet<Digest>) {
        self.host.retain_compiled(components);
    }

    fn compilations(&self) -> CompilationCounts {
        self.host.compilations()
    }
}

/// Not what it holds: the environment is nobody's business.
impl fmt::Debug for HostLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostLoader").finish_non_exhaustive()
    }
}
