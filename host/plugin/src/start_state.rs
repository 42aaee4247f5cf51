//! How a fresh instance comes to the state that `configure` left.
//!
//! Today it configures each instance anew, which every guest allows. A guest whose configured memory
//! could be made part of its component would need only the other constructor; nothing else here or
//! outside would change.

use std::sync::Arc;

use wasmtime::Store;

use crate::bindings::policy::{Policy, PolicyPre};
use crate::bindings::strategy::{Strategy, StrategyPre};
use crate::sandbox::Sandbox;

/// A component, linked, and what it takes to make a configured instance of it.
pub(crate) struct StartState<P> {
    linked: P,
    settings: Settings,
}

/// When the settings reach the guest.
enum Settings {
    /// In each instance, before anything else.
    EachInstance(Arc<str>),
}

/// An instance took other settings than the one that was asked when the plug-in was loaded.
#[derive(Debug, thiserror::Error)]
#[error("`configure` refused the settings that it took when the plug-in was loaded")]
struct SettingsNoLongerTaken;

/// A world with the interface `plugin`, linked.
pub(crate) trait Linked {
    /// An instance of it.
    type Instance: Send;

    fn instantiate(&self, store: &mut Store<Sandbox>) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;

    fn configure(
        instance: &Self::Instance,
        store: &mut Store<Sandbox>,
        settings: &str,
    ) -> impl Future<Output = wasmtime::Result<Result<(), Vec<String>>>> + Send;
}

impl<P: Linked + Sync> StartState<P> {
    /// Every instance is configured before it is used.
    pub(crate) const fn configured_each(linked: P, settings: Arc<str>) -> Self {
        Self { linked, settings: Settings::EachInstance(settings) }
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
            Settings::EachInstance(settings) => P::configure(instance, store, settings).await,
        }
    }

    /// A fresh instance, configured.
    pub(crate) async fn instance(&self, store: &mut Store<Sandbox>) -> wasmtime::Result<P::Instance> {
        let instance = self.linked.instantiate(store).await?;
        match &self.settings {
            Settings::EachInstance(settings) => {
                P::configure(&instance, store, settings)
                    .await?
                    .map_err(|_refused| wasmtime::Error::new(SettingsNoLongerTaken))?;
            }
        }
        Ok(instance)
    }
}

impl Linked for PolicyPre<Sandbox> {
    type Instance = Policy;

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
