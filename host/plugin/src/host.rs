//! The host of all plug-ins: one engine, its clock, and the way from bytes to a loaded plug-in.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug_span};
use wasmtime::Engine;
use wasmtime::component::{HasSelf, InstancePre, Linker};
use witgate_core::{BoxError, CallError, Digest, PluginName};

use crate::bindings::{policy, strategy};
use crate::call::{Call, Runner};
use crate::capability::http::send::Outbound;
use crate::capability::{http, wasi};
use crate::compiled_cache::{CacheDirectoryError, CompiledCache};
use crate::contract::{PluginKind, Wasi, inspect};
use crate::sandbox::Sandbox;
use crate::start_state::{Linked, StartState};
use crate::ticker::Ticker;
use crate::{
    Grants, Isolation, LoadError, LoadedPlugin, OutboundHost, PluginSource, WasmPolicy, WasmStrategy, compiler, engine,
};

/// Runs plug-ins. Cheap to clone; what it loaded keeps it alive.
#[derive(Clone)]
pub struct Host(Arc<Shared>);

/// How a host runs plug-ins.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Where compiled code is kept between runs: a directory of ours alone, made if missing. Without
    /// one nothing is written to disk.
    pub cache_directory: Option<PathBuf>,
    /// Instances of all plug-ins together; further calls are refused, not queued.
    pub instances_max: NonZeroU32,
}

/// Why no plug-in can be run at all.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine does not start.
    #[error("the WebAssembly engine cannot be started")]
    Engine(#[source] BoxError),
    /// Its clock does not start.
    #[error("the thread that interrupts plug-ins cannot be started")]
    Ticker(#[source] std::io::Error),
    /// The cache cannot be used as it was configured.
    #[error(transparent)]
    CacheDirectory(#[from] CacheDirectoryError),
}

/// What a host's plug-ins share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    policies: Linker<Sandbox>,
    strategies: Linker<Sandbox>,
    cache: Option<CompiledCache>,
    /// Compilations at the same time: each uses several threads and much memory.
    compilations: Semaphore,
    /// Dropped with the last plug-in.
    _ticker: Ticker,
}

impl Host {
    /// Starts the engine and its clock.
    ///
    /// # Errors
    /// When the engine, its clock's thread or the cache directory cannot be had.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let engine = engine::build(config.instances_max).map_err(engine_error)?;
        let cache = config.cache_directory.map(|directory| CompiledCache::open(directory, &engine)).transpose()?;
        let policies = policy_linker(&engine).map_err(engine_error)?;
        let strategies = strategy_linker(&engine).map_err(engine_error)?;
        let ticker = Ticker::start(engine.clone()).map_err(HostError::Ticker)?;
        let compilations = Semaphore::new(COMPILATIONS_MAX);
        Ok(Self(Arc::new(Shared { engine, policies, strategies, cache, compilations, _ticker: ticker })))
    }

    /// Loads one plug-in: compiled off the runtime's workers, link-checked, and configured once to see
    /// whether it takes its settings.
    ///
    /// # Errors
    /// When the plug-in cannot be run as its sidecar says. Nothing of it is left behind then.
    pub async fn load(&self, source: PluginSource) -> Result<LoadedPlugin, LoadError> {
        let span = debug_span!("load_plugin", plugin = %source.name);
        self.load_now(source).instrument(span).await
    }

    async fn load_now(&self, source: PluginSource) -> Result<LoadedPlugin, LoadError> {
        match source.isolation {
            Isolation::Fresh => {}
            Isolation::Reused => return Err(LoadError::NotIsolated { plugin: source.name }),
        }
        let PluginSource { name, bytes, settings, limits, grants, mode, isolation: _ } = source;
        let Grants { secrets, outbound_hosts } = grants;
        let (digest, plugin, outbound) = self.link(name.clone(), bytes, outbound_hosts).await?;
        let runner = Runner::new(name, digest, limits, secrets, outbound, Arc::clone(&self.0));
        let settings: Arc<str> = settings.to_string().into();
        match plugin {
            LinkedPlugin::Policy(linked, wasi) => {
                let start = configured(&runner, linked, settings).await?;
                Ok(LoadedPlugin::Policy(Arc::new(WasmPolicy::new(runner, start, mode, wasi))))
            }
            LinkedPlugin::Strategy(linked) => {
                let start = configured(&runner, linked, settings).await?;
                Ok(LoadedPlugin::Strategy(Arc::new(WasmStrategy::new(runner, start))))
            }
        }
    }

    /// Hashes, compiles and link-checks `bytes` where blocking is allowed.
    async fn link(
        &self,
        name: PluginName,
        bytes: Arc<[u8]>,
        outbound_hosts: Vec<OutboundHost>,
    ) -> Result<(Digest, LinkedPlugin, Option<Arc<Outbound>>), LoadError> {
        // Loading may wait; never closed, so this cannot fail.
        let _permit = self.0.compilations.acquire().await;
        let shared = Arc::clone(&self.0);
        let plugin = name.clone();
        let span = Span::current();
        let linked = tokio::task::spawn_blocking(move || {
            let _entered = span.enter();
            let digest = Digest::of(&bytes);
            let goes_out = !outbound_hosts.is_empty();
            let linked = shared.link(&plugin, &bytes, digest, goes_out)?;
            let outbound = goes_out.then(|| Arc::new(Outbound::new(outbound_hosts)));
            Ok((digest, linked, outbound))
        });
        // A panic of the compiler is this plug-in's failure, not ours.
        linked.await.map_err(|error| LoadError::CompilerFailed { plugin: name, source: error.into() })?
    }
}

/// Not what it holds: there is nothing to read in an engine.
impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

impl Default for HostConfig {
    fn default() -> Self {
        Self { cache_directory: None, instances_max: NonZeroU32::new(512).expect("512 is not zero") }
    }
}

/// A component whose imports are all there, with its exports looked up.
enum LinkedPlugin {
    Policy(policy::PolicyPre<Sandbox>, Wasi),
    Strategy(strategy::StrategyPre<Sandbox>),
}

impl Shared {
    fn link(&self, name: &PluginName, bytes: &[u8], digest: Digest, outbound: bool) -> Result<LinkedPlugin, LoadError> {
        let component = compiler::compile(&self.engine, self.cache.as_ref(), name, bytes, digest)?;
        let mismatch = |error: wasmtime::Error| LoadError::Mismatch { plugin: name.clone(), source: error.into() };
        let (kind, wasi) = inspect(name, &self.engine, &component.component_type(), outbound)?;
        match kind {
            PluginKind::Policy if outbound => {
                Err(LoadError::StrategiesOnly { plugin: name.clone(), key: "outboundHosts" })
            }
            PluginKind::Policy => {
                let instance_pre: InstancePre<_> = self.policies.instantiate_pre(&component).map_err(mismatch)?;
                Ok(LinkedPlugin::Policy(policy::PolicyPre::new(instance_pre).map_err(mismatch)?, wasi))
            }
            PluginKind::Strategy if name.as_str().contains('-') => {
                Err(LoadError::StrategyName { plugin: name.clone() })
            }
            PluginKind::Strategy => {
                let instance_pre: InstancePre<_> = self.strategies.instantiate_pre(&component).map_err(mismatch)?;
                Ok(LinkedPlugin::Strategy(strategy::StrategyPre::new(instance_pre).map_err(mismatch)?))
            }
        }
    }
}

/// Asks the guest once whether it takes its settings.
async fn configured<P: Linked + Sync>(
    runner: &Runner,
    linked: P,
    settings: Arc<str>,
) -> Result<StartState<P>, LoadError> {
    let start = StartState::configured_each(linked, settings);
    let failed = |source| LoadError::NotConfigured { plugin: runner.name.clone(), source };
    let mut call: Call<'_> = runner.begin_loading().map_err(failed)?;
    let ended = call.deadline.bound(start.bare_instance(&mut call.store)).await;
    let instance = match call.outcome(ended) {
        // Nothing has answered yet: what does not fit are the types of what it exports.
        Err(CallError::Malformed { plugin, reason }) => {
            return Err(LoadError::Mismatch { plugin, source: reason.into() });
        }
        instance => instance.map_err(failed)?,
    };
    let ended = call.deadline.bound(start.try_settings(&instance, &mut call.store)).await;
    match call.outcome(ended).map_err(failed)? {
        Ok(()) => Ok(start),
        Err(errors) => {
            let errors = crate::answer::texts(errors);
            Err(LoadError::SettingsRefused { plugin: runner.name.clone(), errors })
        }
    }
}

fn policy_linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    policy::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox: &mut Sandbox| sandbox)?;
    Ok(linker)
}

fn strategy_linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    http::link(&mut linker)?;
    strategy::Strategy::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox: &mut Sandbox| sandbox)?;
    Ok(linker)
}

fn engine_error(error: wasmtime::Error) -> HostError {
    HostError::Engine(error.into())
}

const COMPILATIONS_MAX: usize = 4;
