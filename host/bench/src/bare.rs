//! The engine alone: the same component, started in the same way, called in a loop with nothing around it.
//!
//! No limits, deadlines, permits or logs, and the arguments are there already. The engine is tuned as the host's is.

use wasmtime::component::{Component, HasSelf, Instance, Lift, Linker, ResourceTable, WasmList};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wizer::{ComponentInstanceState, Wizer};
use witgate_plugin::{Start, flatten};

use self::exports::witgate::auth::permission_policy::{Permission, PolicyQuery};
use self::witgate::auth::types::{ActionClass, RequestAttributes, UserInfo};
use self::witgate::auth::{log, types};
use crate::guests::Guest;

wasmtime::component::bindgen!({
    path: "../../wit/auth@0.1.0",
    world: "policy",
    exports: { default: async },
});

/// A component, ready to be called.
pub(crate) struct Bare {
    engine: Engine,
    linked: PolicyPre<Data>,
    /// None where what they led to is part of the component.
    settings: Option<String>,
    query: PolicyQuery,
    user: UserInfo,
}

/// An instance that waits for its next call.
pub(crate) struct Warm {
    store: Store<Data>,
    policy: Policy,
}

/// What an instance has beside itself: WASI, where it asks for it.
#[derive(Default)]
pub(crate) struct Data(Option<(WasiCtx, ResourceTable)>);

impl Bare {
    /// Starts as the host does.
    pub(crate) async fn new(guest: &Guest, start: &Start) -> Result<Self> {
        let engine = engine()?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        Policy::add_to_linker::<_, HasSelf<_>>(&mut linker, |data: &mut Data| data)?;
        let settings = guest.settings.to_string();
        let (component, settings) = match start {
            Start::ConfiguredEach { .. } => (Component::from_binary(&engine, &guest.bytes)?, Some(settings)),
            Start::Snapshot => (configured(&engine, &linker, &guest.bytes, &settings).await?, None),
        };
        let linked = PolicyPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, linked, settings, query: query(), user: user() })
    }

    /// An instance, and nothing done with it.
    pub(crate) async fn instantiate(&self) -> Result<Warm> {
        let mut store = store(&self.engine);
        let policy = self.linked.instantiate_async(&mut store).await?;
        Ok(Warm { store, policy })
    }

    /// A configured instance.
    pub(crate) async fn warm(&self) -> Result<Warm> {
        let mut warm = self.instantiate().await?;
        if let Some(settings) = &self.settings {
            let plugin = warm.policy.witgate_auth_plugin();
            plugin.call_configure(&mut warm.store, settings).await?.map_err(refused)?;
        }
        Ok(warm)
    }

    /// One call.
    pub(crate) async fn call(&self, Warm { store, policy }: &mut Warm) -> Result<()> {
        let policy = policy.witgate_auth_permission_policy();
        policy.call_handle(store, &self.query, Some(&self.user)).await?;
        Ok(())
    }
}

fn refused(faults: Vec<String>) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the guest refuses its settings: {}", faults.join("; ")))
}

fn store(engine: &Engine) -> Store<Data> {
    let mut store = Store::new(engine, Data::default());
    store.set_epoch_deadline(u64::MAX / 2);
    store
}

fn engine() -> Result<Engine> {
    let with = |pagemap_scan| {
        let mut pool = PoolingAllocationConfig::new();
        pool.max_memory_size(1 << 30).table_elements(100_000).max_tables_per_module(8).max_memories_per_module(4);
        pool.total_component_instances(64).total_core_instances(2048).total_memories(128).total_tables(256);
        pool.linear_memory_keep_resident(4 << 20).table_keep_resident(64 << 10).pagemap_scan(pagemap_scan);
        let mut config = Config::new();
        config.concurrency_support(false).epoch_interruption(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Engine::new(&config)
    };
    with(Enabled::Yes).or_else(|_| with(Enabled::No))
}

/// The component with the state that `configure` leaves.
async fn configured(engine: &Engine, linker: &Linker<Data>, bytes: &[u8], settings: &str) -> Result<Component> {
    let flat = flatten(bytes).map_err(wasmtime::Error::new)?;
    let mut wizer = Wizer::new();
    wizer.keep_init_func(true);
    let (context, instrumented) = wizer.instrument_component(flat.as_deref().unwrap_or(bytes))?;
    let mut store = store(engine);
    let instance = linker.instantiate_async(&mut store, &Component::from_binary(engine, &instrumented)?).await?;
    let policy = Policy::new(&mut store, &instance)?;
    policy.witgate_auth_plugin().call_configure(&mut store, settings).await?.map_err(refused)?;
    let bytes = wizer.snapshot_component(&context, &mut State { store, instance }).await?;
    Component::from_binary(engine, &bytes)
}

/// An instrumented instance, to be read. The host has done the same before, so it works.
struct State {
    store: Store<Data>,
    instance: Instance,
}

impl State {
    async fn read<T: Lift + Send + Sync + 'static>(&mut self, interface: &str, function: &str) -> T {
        let Self { store, instance } = self;
        let interface = instance.get_export_index(&mut *store, None, interface).expect("wizer exports it");
        let function = instance.get_export_index(&mut *store, Some(&interface), function).expect("wizer exports it");
        let function = instance.get_typed_func::<(), (T,)>(&mut *store, &function).expect("it has this type");
        function.call_async(&mut *store, ()).await.expect("it only reads").0
    }
}

impl ComponentInstanceState for State {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.read(instance, func).await;
        contents(list.as_le_slice(&self.store));
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

impl types::Host for Data {}

impl log::Host for Data {
    fn log(&mut self, _level: log::Level, _message: String) {}
}

impl WasiView for Data {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (ctx, table) = self.0.get_or_insert_with(|| (WasiCtx::default(), ResourceTable::new()));
        WasiCtxView { ctx, table }
    }
}

/// The query of [`subject`](crate::subject), as the guest is told it.
fn query() -> PolicyQuery {
    let text = str::to_owned;
    PolicyQuery {
        permission: Permission {
            name: text("kubernetes.proxy"),
            action: None,
            resource_type: Some(text("kubernetes-proxy-request")),
        },
        resource_ref: None,
        request: Some(RequestAttributes {
            cluster: text("staging"),
            verb: text("list"),
            api_group: String::new(),
            api_version: text("v1"),
            namespace: text("dev"),
            resource: text("pods"),
            subresource: String::new(),
            name: String::new(),
            subpath: String::new(),
            field_selector: None,
            label_selector: None,
            resource_request: true,
            method: text("GET"),
            path: text("/api/v1/namespaces/dev/pods"),
            action_class: ActionClass::Read,
            upgrade: false,
            patch_type: None,
            dry_run: false,
        }),
        now: 1_700_000_000,
    }
}

fn user() -> UserInfo {
    UserInfo {
        name: "user:default/jane".to_owned(),
        uid: None,
        groups: vec!["group:default/developers".to_owned()],
        extra: Vec::new(),
    }
}
