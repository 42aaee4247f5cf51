//! The host of all plug-ins: one engine, its clock, and the way from bytes to a loaded plug-in.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug_span};
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use witgate_core::{BoxError, Digest};

use crate::bindings::{policy, strategy};
use crate::capability::{http, wasi};
use crate::compiled_cache::{CacheDirectoryError, CompiledCache};
use crate::compiled_code::{CompilationCounts, CompiledCode};
use crate::function_cache::FunctionCache;
use crate::sandbox::Sandbox;
use crate::ticker::Ticker;
use crate::{LoadError, LoadedPlugin, PluginSource, engine, loading, worlds};

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
    /// Whether calls start from snapshots.
    pub snapshots: Snapshots,
}

/// Whether calls start from a snapshot of what `configure` left.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Snapshots {
    /// Wherever one can be taken.
    #[default]
    WherePossible,
    /// Every instance is configured. To compare the two; it gives the same answers.
    Never,
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
    pub(crate) linkers: Linkers,
    /// For what runs once, when a plug-in is configured.
    pub(crate) throw_away: ThrowAway,
    pub(crate) snapshots: Snapshots,
    pub(crate) code: CompiledCode,
    /// For instances that wait for their next call, of all plug-ins together.
    pub(crate) warm_places: Arc<Semaphore>,
    /// Compilations at the same time: each uses several threads and much memory.
    compilations: Semaphore,
    /// Ends with the last plug-in.
    pub(crate) ticker: Ticker,
}

/// An engine that compiles fast.
pub(crate) struct ThrowAway {
    pub(crate) engine: Engine,
    pub(crate) linkers: Linkers,
}

/// What components may import, by kind.
pub(crate) struct Linkers {
    pub(crate) policies: Linker<Sandbox>,
    pub(crate) strategies: Linker<Sandbox>,
}

impl Host {
    /// Starts the engine and its clock.
    ///
    /// # Errors
    /// When the engine, its clock's thread or the cache directory cannot be had.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let functions = Arc::new(FunctionCache::default());
        let engine = engine::build(config.instances_max, &functions).map_err(engine_error)?;
        let cache = config.cache_directory.map(|directory| CompiledCache::open(directory, &engine)).transpose()?;
        let linkers = Linkers::new(&engine).map_err(engine_error)?;
        let throw_away = engine::build_throw_away(&functions).map_err(engine_error)?;
        let engines = [engine.clone(), throw_away.clone()];
        let ticker =
            Ticker::start(move || engines.iter().for_each(Engine::increment_epoch)).map_err(HostError::Ticker)?;
        let throw_away = ThrowAway { linkers: Linkers::new(&throw_away).map_err(engine_error)?, engine: throw_away };
        let compilations = Semaphore::new(COMPILATIONS_MAX);
        // The other half of the pool is for instances that are in use.
        let warm_places = Arc::new(Semaphore::new(config.instances_max.get() as usize / 2));
        Ok(Self(Arc::new(Shared {
            engine,
            linkers,
            throw_away,
            snapshots: config.snapshots,
            code: CompiledCode::new(cache),
            warm_places,
            compilations,
            ticker,
        })))
    }

    /// Loads one plug-in off the runtime's workers: compiled, link-checked and configured, with the state that
    /// `configure` left as the start of every call where a snapshot of it can be taken.
    ///
    /// # Errors
    /// When the plug-in cannot be run as its sidecar says. Nothing of it is left behind then.
    pub async fn load(&self, source: PluginSource) -> Result<LoadedPlugin, LoadError> {
        let span = debug_span!("load_plugin", plugin = %source.name);
        self.load_now(source).instrument(span).await
    }

    /// Lets go of the compiled code of every component but these; a plug-in that is loaded keeps its own.
    pub fn retain_compiled(&self, components: &BTreeSet<Digest>) {
        self.0.code.retain(components);
    }

    /// Where the code of the plug-ins that were loaded came from.
    pub fn compilations(&self) -> CompilationCounts {
        self.0.code.counts()
    }

    async fn load_now(&self, source: PluginSource) -> Result<LoadedPlugin, LoadError> {
        // Loading may wait; never closed, so this cannot fail.
        let _permit = self.0.compilations.acquire().await;
        let (shared, runtime, span) = (Arc::clone(&self.0), Handle::current(), Span::current());
        let plugin = source.name.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            let _entered = span.enter();
            loading::load(&shared, &runtime, source)
        });
        // A panic of the compiler is this plug-in's failure, not ours.
        loaded.await.map_err(|error| LoadError::CompilerFailed { plugin, source: error.into() })?
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
        Self {
            cache_directory: None,
            instances_max: NonZeroU32::new(512).expect("512 is not zero"),
            snapshots: Snapshots::default(),
        }
    }
}

impl Linkers {
    fn new(engine: &Engine) -> wasmtime::Result<Self> {
        Ok(Self { policies: policy_linker(engine)?, strategies: strategy_linker(engine)? })
    }
}

fn policy_linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    policy::Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox: &mut Sandbox| sandbox)?;
    worlds::link_policy_v0_2(&mut linker)?;
    Ok(linker)
}

fn strategy_linker(engine: &Engine) -> wasmtime::Result<Linker<Sandbox>> {
    let mut linker = Linker::new(engine);
    wasi::link(&mut linker)?;
    http::link(&mut linker)?;
    strategy::Strategy::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox: &mut Sandbox| sandbox)?;
    worlds::link_strategy_v0_2(&mut linker)?;
    Ok(linker)
}

fn engine_error(error: wasmtime::Error) -> HostError {
    HostError::Engine(error.into())
}

const COMPILATIONS_MAX: usize = 4;
