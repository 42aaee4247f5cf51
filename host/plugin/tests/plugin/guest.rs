//! Guests as text: a core module for one world of the contract, made a component.
//!
//! A test writes the bodies of functions; memory, allocation and the exports around them are here. Texts lie
//! from address 16 on, records that a function returns are built at address 8192, and what the host
//! passes in is allocated from 65536 on.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;
use witgate_core::{
    ActionClass, ClusterDetails, ClusterName, Metadata, Permission, PluginName, PolicyQuery, RequestAttributes,
    RequestInfo, UserInfo,
};
use witgate_plugin::{Host, HostConfig, Limits, LoadError, LoadedPlugin, PluginSource, WasmPolicy, WasmStrategy};

/// A guest under construction.
pub(crate) struct Guest {
    world: World,
    configure: String,
    functions: String,
    texts: String,
    next_text: usize,
    memory_pages: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum World {
    Policy,
    Strategy,
    /// A policy with more imports: WIT with a world named `guest` that includes the contract's.
    PolicyWith(&'static str),
    /// WIT of its own, with a world named `guest`.
    Own(&'static str),
}

impl Guest {
    /// A policy whose `handle` has this body; its parameter is `$query`, its result the address of a decision.
    pub(crate) fn policy(handle: &str) -> Self {
        Self::new(World::Policy).function("witgate:auth/permission-policy@0.1.0#handle", "(param $query i32)", handle)
    }

    /// A policy that allows everything.
    pub(crate) fn allowing() -> Self {
        Self::policy(ALLOW)
    }

    /// A strategy whose `get-credential` has this body; its result is the address of a result.
    pub(crate) fn strategy(get_credential: &str) -> Self {
        Self::new(World::Strategy)
            .function(
                "witgate:auth/authentication-strategy@0.1.0#get-credential",
                "(param $arguments i32)",
                get_credential,
            )
            .function(
                "witgate:auth/authentication-strategy@0.1.0#present-auth-metadata",
                "(param $metadata i32) (param $length i32)",
                // The same list back.
                "(i32.store (i32.const 8192) (local.get $metadata))
                 (i32.store (i32.const 8196) (local.get $length))
                 (i32.const 8192)",
            )
            .function(
                "witgate:auth/authentication-strategy@0.1.0#validate-cluster",
                "(param $metadata i32) (param $length i32)",
                "(i32.store (i32.const 8196) (i32.const 0)) (i32.const 8192)",
            )
    }

    /// A policy that imports what the world `guest` of `wit` imports.
    pub(crate) fn policy_with(wit: &'static str, handle: &str) -> Self {
        Self { world: World::PolicyWith(wit), ..Self::policy(handle) }
    }

    /// A component for the world `guest` of `wit`.
    pub(crate) fn of_world(wit: &'static str) -> Self {
        Self::new(World::Own(wit))
    }

    fn new(world: World) -> Self {
        Self {
            world,
            configure: "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)".into(),
            functions: String::new(),
            texts: String::new(),
            next_text: 16,
            memory_pages: 8,
        }
    }

    /// The body of `configure`; its parameters are `$settings` and `$length`.
    pub(crate) fn configure(mut self, body: &str) -> Self {
        self.configure = body.into();
        self
    }

    /// Pages of 64 KiB that it starts with.
    pub(crate) const fn memory_pages(mut self, pages: u32) -> Self {
        self.memory_pages = pages;
        self
    }

    /// One more exported function.
    pub(crate) fn function(mut self, export: &str, parameters: &str, body: &str) -> Self {
        writeln!(self.functions, "(func (export \"{export}\") {parameters} (result i32) {body})").unwrap();
        self
    }

    /// Anything else of a module, such as a global or a function to call.
    pub(crate) fn with(mut self, fields: &str) -> Self {
        self.functions.push_str(fields);
        self
    }

    /// Puts a text into memory; in bodies, `$NAME` is its address and `$NAME.length` its length.
    pub(crate) fn text(mut self, name: &str, text: &str) -> Self {
        let address = self.next_text;
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(
            self.texts,
            "(global ${name} i32 (i32.const {address})) (global ${name}.length i32 (i32.const {})) (data (i32.const {address}) \"{bytes}\")",
            text.len()
        )
        .unwrap();
        self.next_text += text.len();
        assert!(self.next_text < 8192, "texts end where results begin");
        self
    }

    /// The component.
    pub(crate) fn build(self) -> Arc<[u8]> {
        let mut module = wat::parse_str(self.module_text()).expect("the guest's text is WebAssembly");
        let mut resolve = Resolve::default();
        let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/auth@0.1.0");
        let (package, world) = match self.world {
            World::Own(wit) => (resolve.push_str("guest.wit", wit).unwrap(), "guest"),
            World::PolicyWith(wit) => {
                resolve.push_dir(contract).unwrap();
                (resolve.push_str("guest.wit", wit).unwrap(), "guest")
            }
            World::Policy | World::Strategy => {
                let world = if self.world == World::Policy { "policy" } else { "strategy" };
                (resolve.push_dir(contract).unwrap().0, world)
            }
        };
        let world = resolve.select_world(&[package], Some(world)).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        let encoder = ComponentEncoder::default();
        encoder.module(&module).unwrap().validate(true).encode().expect("the guest fits its world").into()
    }

    fn module_text(&self) -> String {
        let Self { configure, functions, texts, memory_pages, .. } = self;
        let plugin = match self.world {
            World::Own(_) => String::new(),
            World::Policy | World::PolicyWith(_) | World::Strategy => format!(
                "(func (export \"witgate:auth/plugin@0.1.0#configure\") (param $settings i32) (param $length i32) (result i32) {configure})"
            ),
        };
        // Imports come first in a module.
        let (imports, rest): (Vec<&str>, Vec<&str>) =
            functions.lines().partition(|line| line.trim_start().starts_with("(import"));
        format!(
            "(module {imports}
               (memory (export \"memory\") {memory_pages})
               (global $allocated (mut i32) (i32.const 65536))
               (func (export \"cabi_realloc\") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
                 (local $address i32)
                 (local.set $address (i32.and
                   (i32.add (global.get $allocated) (i32.sub (local.get $align) (i32.const 1)))
                   (i32.sub (i32.const 0) (local.get $align))))
                 (global.set $allocated (i32.add (local.get $address) (local.get $size)))
                 (local.get $address))
               {texts} {plugin} {rest})",
            imports = imports.concat(),
            rest = rest.join("\n"),
        )
    }

    /// Loads it as it is, and expects it to be a policy.
    pub(crate) async fn into_policy(self) -> Arc<WasmPolicy> {
        policy_of(host().load(source("x", self.build())).await)
    }

    pub(crate) async fn into_policy_within(self, limits: Limits) -> Arc<WasmPolicy> {
        policy_of(host().load(PluginSource { limits, ..source("x", self.build()) }).await)
    }

    /// Loads it as it is, and expects it to be a strategy.
    pub(crate) async fn into_strategy(self) -> Arc<WasmStrategy> {
        match host().load(source("x", self.build())).await {
            Ok(LoadedPlugin::Strategy(strategy)) => strategy,
            Ok(LoadedPlugin::Policy(_)) => panic!("it is a policy"),
            Err(error) => panic!("{}", chain(&error)),
        }
    }
}

pub(crate) fn policy_of(loaded: Result<LoadedPlugin, LoadError>) -> Arc<WasmPolicy> {
    match loaded {
        Ok(LoadedPlugin::Policy(policy)) => policy,
        Ok(LoadedPlugin::Strategy(_)) => panic!("it is a strategy"),
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// One host for all tests that need no other: what one plug-in does must not matter to another.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(HostConfig::default()).unwrap())
}

pub(crate) fn source(name: &str, bytes: Arc<[u8]>) -> PluginSource {
    // A busy machine must not fail a test that is not about time.
    let limits = Limits::new(5_000, 64, 64).unwrap();
    PluginSource { limits, ..PluginSource::without_sidecar(PluginName::try_from(name).unwrap(), bytes) }
}

/// An error and its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").unwrap();
        cause = error.source();
    }
    text
}

/// Jane reads pods in `dev` of `staging`.
pub(crate) fn query() -> PolicyQuery {
    PolicyQuery {
        permission: Permission::PROXY,
        resource_ref: None,
        request: Some(RequestAttributes {
            cluster: ClusterName::try_from("staging").unwrap(),
            info: RequestInfo {
                is_resource_request: true,
                verb: "list".into(),
                namespace: "dev".into(),
                resource: "pods".into(),
                ..RequestInfo::default()
            },
            method: "GET".into(),
            path: "/api/v1/namespaces/dev/pods".into(),
            action_class: ActionClass::Read,
            upgrade: false,
            patch_type: None,
            dry_run: false,
        }),
        now: 1_700_000_000,
    }
}

pub(crate) fn jane() -> UserInfo {
    UserInfo { groups: vec!["dev".into()], ..UserInfo::named("user:default/jane") }
}

pub(crate) fn cluster() -> ClusterDetails {
    ClusterDetails {
        name: ClusterName::try_from("staging").unwrap(),
        title: None,
        server: "https://staging.example".into(),
        auth_metadata: Metadata::from([("kubernetes.io/oidc-token-provider".into(), "okta".into())]),
        ca_data: None,
        skip_tls_verify: false,
    }
}

pub(crate) const ALLOW: &str = "(i32.store8 (i32.const 8192) (i32.const 0)) (i32.const 8192)";
pub(crate) const NO_OPINION: &str = "(i32.store8 (i32.const 8192) (i32.const 2)) (i32.const 8192)";
/// Denies with the text `$reason`.
pub(crate) const DENY: &str = "(i32.store8 (i32.const 8192) (i32.const 1))
    (i32.store (i32.const 8196) (global.get $reason)) (i32.store (i32.const 8200) (global.get $reason.length))
    (i32.const 8192)";
