//! Makes a component whose memory already holds what `configure` left.
//!
//! The component is instrumented so that its memories and globals can be read, compiled without care, configured as any
//! other, and read; what was read becomes the data of the component that is compiled with care and serves. What
//! cannot be read refuses it: a table that may change, a nested component with code in it, an instruction that drops data.
//!
//! Nothing here knows what kind of plug-in it is, nor when a snapshot would be wrong although it can be taken.

use tokio::sync::mpsc;
use wasmtime::Store;
use wasmtime::component::{Component, Instance, Lift, WasmList};
use wasmtime_wizer::{ComponentContext, ComponentInstanceState, Wizer};

use crate::sandbox::Sandbox;

/// A component whose state can be read, compiled to be configured once.
pub(crate) struct Instrumented<'a> {
    /// It.
    pub(crate) component: Component,
    wizer: Wizer,
    context: ComponentContext<'a>,
}

/// An export of the instrumented component that it should have and has not.
#[derive(Debug, thiserror::Error)]
#[error("the instrumented component has no `{0}`")]
struct NoAccessor(String);

/// A snapshot ended without a result.
#[derive(Debug, thiserror::Error)]
#[error("reading the state ended without a result")]
struct NotRead;

impl<'a> Instrumented<'a> {
    /// Instruments `bytes` and gives the outcome to `compile`.
    ///
    /// # Errors
    /// When it is no component that a snapshot can be taken of, or none at all.
    pub(crate) fn new(
        bytes: &'a [u8],
        compile: impl FnOnce(&[u8]) -> wasmtime::Result<Component>,
    ) -> wasmtime::Result<Self> {
        let mut wizer = Wizer::new();
        // `configure` is an export like any other, and one that the contract demands.
        wizer.keep_init_func(true);
        let (context, instrumented) = wizer.instrument_component(bytes)?;
        let component = compile(&instrumented)?;
        Ok(Self { component, wizer, context })
    }

    /// The original component with the state that `instance` is in.
    pub(crate) async fn snapshot(&self, store: &mut Store<Sandbox>, instance: Instance) -> wasmtime::Result<Vec<u8>> {
        let (failure, mut failures) = mpsc::channel(1);
        let mut state = State { store, instance, failure };
        tokio::select! {
            biased;
            component = self.wizer.snapshot_component(&self.context, &mut state) => component,
            failure = failures.recv() => Err(failure.unwrap_or_else(|| wasmtime::Error::new(NotRead))),
        }
    }
}

/// An instrumented instance, to be read.
struct State<'a> {
    store: &'a mut Store<Sandbox>,
    instance: Instance,
    /// The reader knows no errors: it waits while somebody else ends it with this one.
    failure: mpsc::Sender<wasmtime::Error>,
}

impl State<'_> {
    async fn read<T: Lift + Send + Sync + 'static>(&mut self, interface: &str, function: &str) -> T {
        match self.call(interface, function).await {
            Ok(value) => value,
            Err(error) => {
                // Only the first one matters.
                let _ = self.failure.try_send(error);
                std::future::pending().await
            }
        }
    }

    async fn call<T: Lift + Send + Sync + 'static>(&mut self, interface: &str, function: &str) -> wasmtime::Result<T> {
        let missing = || wasmtime::Error::new(NoAccessor(format!("{interface}#{function}")));
        let interface = self.instance.get_export_index(&mut *self.store, None, interface).ok_or_else(missing)?;
        let function = self.instance.get_export_index(&mut *self.store, Some(&interface), function);
        let function = function.ok_or_else(missing)?;
        let function = self.instance.get_typed_func::<(), (T,)>(&mut *self.store, &function)?;
        let (value,) = function.call_async(&mut *self.store, ()).await?;
        Ok(value)
    }
}

impl ComponentInstanceState for State<'_> {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.read(instance, func).await;
        contents(list.as_le_slice(&*self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.read(instance, func).await
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.read(instance, func).await
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.read::<f32>(instance, func).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.read::<f64>(instance, func).await.to_bits()
    }
}
