//! The way from a component's bytes to a plug-in that can be called. Blocks: run it where blocking is allowed.
//!
//! ```text
//! recognise ─► cached with its state? ─────────────────────────────────────────────────────────► link ─► one instance tried
//!                 └► flatten ─► instrument ─► link-check ─► configure ─► snapshot ─► compile ─►──┘          ▲
//!                         └──────────── where that cannot be ──► compile as it is ─► link ─► configure──────┘
//! ```
//!
//! What a snapshot would freeze wrongly (a secret, a handle) is judged here, what it cannot hold in
//! [`snapshot`](crate::snapshot). Both only cost speed: the plug-in is then configured in each instance, and says so.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::runtime::Handle;
use tracing::{debug, info};
use wasmtime::Engine;
use wasmtime::component::Component;
use witgate_core::{CallError, Digest};

use crate::call::{Call, Runner};
use crate::capability::http::send::Outbound;
use crate::contract::{PluginKind, Wasi, inspect};
use crate::flatten::flatten;
use crate::host::{Shared, Snapshots};
use crate::limits::LOAD_DEADLINE;
use crate::snapshot::Instrumented;
use crate::start_state::{Linked, Start, StartState};
use crate::worlds::{PolicyPre, StrategyPre};
use crate::{Grants, LoadError, LoadedPlugin, PluginSource, WasmPolicy, WasmStrategy, compiler};

/// Loads one plug-in; what waits in it waits on `runtime`.
///
/// # Errors
/// When the plug-in cannot be run as its sidecar says. Nothing of it is left behind then.
pub(crate) fn load(shared: &Arc<Shared>, runtime: &Handle, source: PluginSource) -> Result<LoadedPlugin, LoadError> {
    let PluginSource { name, bytes, settings, limits, grants, mode, isolation } = source;
    compiler::recognise(&name, &bytes)?;
    let Grants { secrets, outbound_hosts } = grants;
    let outbound = (!outbound_hosts.is_empty()).then(|| Arc::new(Outbound::new(outbound_hosts)));
    let goes_out = outbound.is_some();
    let runner = Runner::new(name, Digest::of(&bytes), limits, secrets, outbound, Arc::clone(shared));
    let without_settings = settings.as_object().is_none_or(serde_json::Map::is_empty);
    let loading = Loading {
        shared,
        runtime,
        runner: &runner,
        bytes: &bytes,
        settings: settings.to_string().into(),
        without_settings,
        goes_out,
    };
    let (linked, start) = loading.run()?;
    match &start {
        Start::Snapshot => debug!(plugin = %runner.name, "every call starts from a snapshot"),
        Start::ConfiguredEach { reason } => {
            info!(plugin = %runner.name, %reason, "no snapshot: it is configured anew in each instance");
        }
    }
    Ok(match linked {
        LinkedPlugin::Policy(state, wasi) => {
            let state = state.isolated(isolation, &runner);
            LoadedPlugin::Policy(Arc::new(WasmPolicy::new(runner, state, start, mode, wasi)))
        }
        LinkedPlugin::Strategy(state, wasi) => {
            let state = state.isolated(isolation, &runner);
            LoadedPlugin::Strategy(Arc::new(WasmStrategy::new(runner, state, start, wasi)))
        }
    })
}

/// One plug-in on its way.
struct Loading<'a> {
    shared: &'a Shared,
    runtime: &'a Handle,
    runner: &'a Runner,
    bytes: &'a [u8],
    settings: Arc<str>,
    without_settings: bool,
    goes_out: bool,
}

/// A component whose imports are all there, with its exports looked up.
enum LinkedPlugin {
    Policy(StartState<PolicyPre>, Wasi),
    Strategy(StartState<StrategyPre>, Wasi),
}

/// Why there is no snapshot; the plug-in itself may be good.
struct NoSnapshot(String);

impl Loading<'_> {
    fn run(&self) -> Result<(LinkedPlugin, Start), LoadError> {
        let snapshot = match self.shared.snapshots {
            Snapshots::WherePossible => self.cached_snapshot()?,
            Snapshots::Never => Err(NoSnapshot("none is to be taken".to_owned())),
        };
        let (component, start) = match snapshot {
            Ok(component) => (component, Start::Snapshot),
            Err(NoSnapshot(reason)) => (self.compile()?, Start::ConfiguredEach { reason }),
        };
        let (kind, wasi) = self.inspect(&self.shared.engine, &component)?;
        let linked = match kind {
            PluginKind::Policy => LinkedPlugin::Policy(self.tried(&component, &start)?, wasi),
            PluginKind::Strategy => LinkedPlugin::Strategy(self.tried(&component, &start)?, wasi),
        };
        Ok((linked, start))
    }

    /// The component with its configured state, as it was compiled before or anew; or why there is none.
    fn cached_snapshot(&self) -> Result<Result<Component, NoSnapshot>, LoadError> {
        let (key, code) = (self.snapshot_key(), &self.shared.code);
        let make = || -> Result<Component, Result<NoSnapshot, LoadError>> {
            match code.on_disk(&self.shared.engine, key) {
                Some(component) => Ok(component),
                None => self.snapshot(key).map_err(Err)?.map_err(Ok),
            }
        };
        match code.in_memory(key, self.runner.digest, make) {
            Ok(component) => Ok(Ok(component)),
            Err(no_component) => no_component.map(Err),
        }
    }

    /// What a snapshot of this component with these settings is cached under. Nothing else goes into one: the clock
    /// and random numbers of `configure` are constants, and whoever asks for a secret gets no snapshot.
    fn snapshot_key(&self) -> Digest {
        let component = self.runner.digest;
        Digest::of(format!("witgate snapshot 1\n{component}\n{}", self.settings).as_bytes())
    }

    /// The component as it was delivered, compiled.
    fn compile(&self) -> Result<Component, LoadError> {
        let Self { shared, runner, bytes, .. } = self;
        shared.code.component(&shared.engine, &runner.name, bytes, runner.digest)
    }

    fn inspect(&self, engine: &Engine, component: &Component) -> Result<(PluginKind, Wasi), LoadError> {
        let name = &self.runner.name;
        let (kind, wasi) = inspect(name, engine, &component.component_type(), self.goes_out)?;
        match kind {
            PluginKind::Policy if self.goes_out => {
                Err(LoadError::StrategiesOnly { plugin: name.clone(), key: "outboundHosts" })
            }
            PluginKind::Strategy if name.as_str().contains('-') => {
                Err(LoadError::StrategyName { plugin: name.clone() })
            }
            PluginKind::Policy | PluginKind::Strategy => Ok((kind, wasi)),
        }
    }

    /// The component with its configured state, compiled; or why there is none.
    fn snapshot(&self, key: Digest) -> Result<Result<Component, NoSnapshot>, LoadError> {
        // What is instrumented and read is the guest's: a panic over it is contained, as any other fault of a guest.
        let attempt = catch_unwind(AssertUnwindSafe(|| self.configured_component()));
        let (kind, bytes) = match attempt.unwrap_or_else(|panic| Ok(Err(NoSnapshot(panicked(&*panic)))))? {
            Ok(configured) => configured,
            Err(no_snapshot) => return Ok(Err(no_snapshot)),
        };
        let component = match self.shared.code.compile(&self.shared.engine, &bytes) {
            Ok(component) => component,
            Err(error) => return Ok(Err(NoSnapshot(format!("the snapshot does not compile: {error:#}")))),
        };
        // Settings are no secrets, but a strategy's are close to some: only what holds none of them is written to disk.
        if kind == PluginKind::Policy || self.without_settings {
            self.shared.code.keep_on_disk(&component, key);
        }
        Ok(Ok(component))
    }

    /// The component with its configured state.
    fn configured_component(&self) -> Result<Result<(PluginKind, Vec<u8>), NoSnapshot>, LoadError> {
        let engine = &self.shared.throw_away.engine;
        let code = &self.shared.code;
        let key = Digest::of(format!("witgate instrumented 1\n{}", self.runner.digest).as_bytes());
        let compile = |bytes: &[u8]| code.in_memory(key, self.runner.digest, || code.compile(engine, bytes));
        let flat = match flatten(self.bytes) {
            Ok(flat) => flat,
            Err(error) => return Ok(Err(NoSnapshot(error.to_string()))),
        };
        let instrumented = match Instrumented::new(flat.as_deref().unwrap_or(self.bytes), compile) {
            Ok(instrumented) => instrumented,
            Err(error) => return Ok(Err(NoSnapshot(format!("{error:#}")))),
        };
        // What is wrong with its imports and exports is told in the words of the component as it was delivered.
        let kind = match self.inspect(engine, &instrumented.component) {
            Ok((kind, _)) => kind,
            Err(error) => return Ok(Err(NoSnapshot(error.to_string()))),
        };
        let configured = match kind {
            PluginKind::Policy => self.runtime.block_on(self.configured::<PolicyPre>(&instrumented)),
            PluginKind::Strategy => self.runtime.block_on(self.configured::<StrategyPre>(&instrumented)),
        };
        Ok(configured?.map(|bytes| (kind, bytes)))
    }

    async fn configured<P: Linked>(
        &self,
        instrumented: &Instrumented<'_>,
    ) -> Result<Result<Vec<u8>, NoSnapshot>, LoadError> {
        let throw_away = &self.shared.throw_away;
        let misfit = |error: wasmtime::Error| Ok(Err(NoSnapshot(format!("{error:#}"))));
        let linked = match P::linker(&throw_away.linkers).instantiate_pre(&instrumented.component) {
            Ok(linked) => linked,
            Err(error) => return misfit(error),
        };
        let mut call = self.begin(&throw_away.engine)?;
        let ended = call.deadline.bound(linked.instantiate_async(&mut call.store)).await;
        let instance = call.outcome(ended).map_err(|source| self.not_configured(source))?;
        let exports = match P::exports(&mut call.store, &instance) {
            Ok(exports) => exports,
            Err(error) => return misfit(error),
        };
        let ended = call.deadline.bound(P::configure(&exports, &mut call.store, &self.settings)).await;
        self.accepted(call.outcome(ended))?;
        if let Some(reason) = call.store.data().unfit_for_snapshot() {
            return Ok(Err(NoSnapshot(reason.to_owned())));
        }
        // From here on the host reads, and the guest's own limits are not what bounds it.
        let deadline = self.runner.deadline(LOAD_DEADLINE);
        call.store.data_mut().deadline = deadline.clone();
        call.store.data_mut().budget.without_memory_limit();
        call.store.set_hostcall_fuel(usize::MAX);
        match deadline.bound(instrumented.snapshot(&mut call.store, instance)).await {
            Ok(Ok(bytes)) => Ok(Ok(bytes)),
            Ok(Err(error)) => misfit(error),
            Err(_) => Ok(Err(NoSnapshot(format!("it could not be read within {LOAD_DEADLINE:?}")))),
        }
    }

    /// Links a component, and tries what every call will do.
    fn tried<P: Linked>(&self, component: &Component, start: &Start) -> Result<StartState<P>, LoadError> {
        let plugin = || self.runner.name.clone();
        let linked = P::link(&self.shared.linkers, component)
            .map_err(|error| LoadError::Mismatch { plugin: plugin(), source: error.into() })?;
        let start = match start {
            Start::Snapshot => StartState::snapshot(linked),
            Start::ConfiguredEach { .. } => StartState::configured_each(linked, Arc::clone(&self.settings)),
        };
        let mut call = self.begin(&self.shared.engine)?;
        self.runtime.block_on(async {
            let ended = call.deadline.bound(start.bare_instance(&mut call.store)).await;
            let instance = match call.outcome(ended) {
                // Nothing has answered yet: what does not fit are the types of what it exports.
                Err(CallError::Malformed { plugin, reason }) => {
                    return Err(LoadError::Mismatch { plugin, source: reason.into() });
                }
                instance => instance.map_err(|source| self.not_configured(source))?,
            };
            let ended = call.deadline.bound(start.try_settings(&instance, &mut call.store)).await;
            self.accepted(call.outcome(ended))
        })?;
        Ok(start)
    }

    fn begin(&self, engine: &Engine) -> Result<Call<'_>, LoadError> {
        self.runner.begin_loading(engine).map_err(|source| self.not_configured(source))
    }

    /// What `configure` says of the settings; the inner list is the guest's own.
    fn accepted(&self, answer: Result<Result<(), Vec<String>>, CallError>) -> Result<(), LoadError> {
        answer.map_err(|source| self.not_configured(source))?.map_err(|errors| LoadError::SettingsRefused {
            plugin: self.runner.name.clone(),
            errors: crate::answer::texts(errors),
        })
    }

    fn not_configured(&self, source: CallError) -> LoadError {
        LoadError::NotConfigured { plugin: self.runner.name.clone(), source }
    }
}

/// What a panic said.
fn panicked(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("taking it failed: {}", text.unwrap_or("it does not say how"))
}
