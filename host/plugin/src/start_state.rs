//! How a fresh instance comes to the state that `configure` left.
//!
//! Where it can be, that state is part of the component that serves ([`snapshot`](crate::snapshot)); else each instance
//! is configured anew, which every guest allows.

use std::sync::Arc;

use wasmtime::Store;
use wasmtime::component::{Component, Instance, Linker};

use crate::Isolation;
use crate::bindings::policy::{Policy, PolicyPre};
use crate::bindings::strategy::{Strategy, StrategyPre};
use crate::call::{Call, Runner};
use crate::host::Linkers;
use crate::sandbox::{Sandbox, SecretStores};
use crate::warm::{Past, Warm, WarmInstances};
use witgate_core::CallError;

/// How a plug-in's calls come to the state that `configure` left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Start {
    /// It is part of what an instance begins with: `configure` ran once, when the plug-in was loaded.
    Snapshot,
    /// `configure` runs in each instance.
    ConfiguredEach {
        /// Why there is no snapshot; for operators.
        reason: String,
    },
}

/// A component, linked, and what it takes to make a configured instance of it.
pub(crate) struct StartState<P: Linked> {
    linked: P,
    settings: Settings,
    /// None where each call has an instance of its own.
    warm: Option<WarmInstances<Kept<P::Instance>>>,
}

/// An instance with the store that it lives in.
type Kept<I> = (Store<Sandbox>, I);

/// A configured instance, for one call.
pub(crate) struct Leased<I> {
    /// It.
    pub(crate) instance: I,
    past: Past,
}

/// When the settings reach the guest.
enum Settings {
    /// Never: the guest's memory holds what it made of them.
    InComponent,
    /// In each instance, before anything else.
    EachInstance(Arc<str>),
}

/// A call, with the instance that it goes on with, where there is one.
type Begun<'a, P> = (Call<'a>, Option<Leased<<P as Linked>::Instance>>);

/// An instance took other settings than the one that was asked when the plug-in was loaded.
#[derive(Debug, thiserror::Error)]
#[error("`configure` refused the settings that it took when the plug-in was loaded")]
struct SettingsNoLongerTaken;

/// A world with the interface `plugin`, linked.
pub(crate) trait Linked: Sized + Send + Sync {
    /// An instance of it.
    type Instance: Send + Sync;

    /// What a component of this world may import.
    fn linker(linkers: &Linkers) -> &Linker<Sandbox>;

    /// Joins a component with its imports, and looks its exports up.
    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self>;

    /// The exports of an instance that was made without it.
    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Self::Instance>;

    fn instantiate(&self, store: &mut Store<Sandbox>) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;

    fn configure(
        instance: &Self::Instance,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> impl Future<Output = wasmtime::Result<Result<(), Vec<String>>>> + Send;
}

impl<P: Linked> StartState<P> {
    /// Every instance is configured as it begins.
    pub(crate) const fn snapshot(linked: P) -> Self {
        Self { linked, settings: Settings::InComponent, warm: None }
    }

    /// Keeps instances for later calls where `isolation` says so.
    pub(crate) fn isolated(self, isolation: Isolation, runner: &Runner) -> Self {
        let warm = match isolation {
            Isolation::Fresh => None,
            Isolation::Reused => Some(runner.warm_instances()),
        };
        Self { warm, ..self }
    }

    /// Whether no call sees what another one left.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.warm.is_none()
    }

    /// Begins a call, with an instance of an earlier one where there is one to be had.
    pub(crate) async fn begin<'a>(&self, runner: &'a Runner, secrets: SecretStores) -> Result<Begun<'a, P>, CallError> {
        let warm = || {
            let Warm { instance: (store, instance), past } = self.warm.as_ref()?.take()?;
            Some((store, Leased { instance, past }))
        };
        runner.begin(secrets, warm).await
    }

    /// `call` ended well, and its answer was one: its instance may serve others.
    pub(crate) fn end(&self, call: Call<'_>, leased: Leased<P::Instance>) {
        let Some(warm) = &self.warm else { return };
        let Call { mut store, .. } = call;
        if store.data_mut().end_call() {
            warm.give_back((store, leased.instance), leased.past);
        }
    }

    /// Every instance is configured before it is used.
    pub(crate) const fn configured_each(linked: P, settings: Arc<str>) -> Self {
        Self { linked, settings: Settings::EachInstance(settings), warm: None }
    }

    /// The component.
    pub(crate) const fn linked(&self) -> &P {
        &self.linked
    }

    /// An instance that nobody has configured, to see whether the component's types fit.
    pub(crate) async fn bare_instance(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<P::Instance> {
        self.linked.instantiate(store).await
    }

    /// Tries the settings once, when the plug-in is loaded; the inner error is the guest's own list.
    pub(crate) async fn try_settings(
        &self,
        instance: &P::Instance,
        store: &mut Store<Sandbox>,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        match &self.settings {
            Settings::InComponent => Ok(Ok(())),
            Settings::EachInstance(settings) => P::configure(instance, store, settings).await,
        }
    }

    /// The instance that the call began with, or a fresh one, configured.
    pub(crate) async fn instance(
        &self,
        store: &mut Store<Sandbox>,
        leased: Option<Leased<P::Instance>>,
    ) -> wasmtime::Result<Leased<P::Instance>> {
        if let Some(leased) = leased {
            return Ok(leased);
        }
        let instance = self.linked.instantiate(store).await?;
        match &self.settings {
            Settings::InComponent => {}
            Settings::EachInstance(settings) => {
                P::configure(&instance, store, settings)
                    .await?
                    .map_err(|_refused| wasmtime::Error::new(SettingsNoLongerTaken))?;
            }
        }
        Ok(Leased { instance, past: Past::default() })
    }
}

impl Linked for PolicyPre<Sandbox> {
    type Instance = Policy;

    fn linker(linkers: &Linkers) -> &Linker<Sandbox> {
        &linkers.policies
    }

    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self> {
        Self::new(linkers.policies.instantiate_pre(component)?)
    }

    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Policy> {
        Policy::new(store, instance)
    }

    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Policy> {
        self.instantiate_async(store).await
    }

    async fn configure(
        policy: &Policy,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        policy.witgate_auth_plugin().call_configure(store, settings).await
    }
}

impl Linked for StrategyPre<Sandbox> {
    type Instance = Strategy;

    fn linker(linkers: &Linkers) -> &Linker<Sandbox> {
        &linkers.strategies
    }

    fn link(linkers: &Linkers, component: &Component) -> wasmtime::Result<Self> {
        Self::new(linkers.strategies.instantiate_pre(component)?)
    }

    fn exports(store: &mut Store<Sandbox>, instance: &Instance) -> wasmtime::Result<Strategy> {
        Strategy::new(store, instance)
    }

    async fn instantiate(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<Strategy> {
        self.instantiate_async(store).await
    }

    async fn configure(
        strategy: &Strategy,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> wasmtime::Result<Result<(), Vec<String>>> {
        strategy.witgate_auth_plugin().call_configure(store, settings).await
    }
}
