//! Why a plug-in is not loaded.

use witgate_core::{BoxError, CallError, PluginName};

/// Why a plug-in is not loaded. For the operator to read; no caller ever sees one.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Some other file.
    #[error(
        "`{plugin}.wasm` is not WebAssembly: its first bytes are {first_bytes}, a component's are `00 61 73 6d 0d 00 01 00`"
    )]
    NotWebAssembly {
        /// Which plug-in.
        plugin: PluginName,
        /// What it begins with, to be recognised by.
        first_bytes: String,
    },
    /// WebAssembly of the wrong layer.
    #[error(
        "`{plugin}.wasm` is not a component: it is a core module; build it with `witgate plugin build`, \
         or make a component of it with `wasm-tools component new`"
    )]
    CoreModule {
        /// Which plug-in.
        plugin: PluginName,
    },
    /// A component that is too large to be one.
    #[error("`{plugin}.wasm` has {bytes} bytes; it must have no more than {bytes_max}")]
    TooLarge {
        /// Which plug-in.
        plugin: PluginName,
        /// What it has.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// A component that does not parse, validate or compile: truncated, for instance.
    #[error("`{plugin}.wasm` is not a valid component")]
    Invalid {
        /// Which plug-in.
        plugin: PluginName,
        /// What the compiler says.
        #[source]
        source: BoxError,
    },
    /// The compiler gave up in a way that it should not.
    #[error("`{plugin}.wasm` could not be compiled: the compiler failed")]
    CompilerFailed {
        /// Which plug-in.
        plugin: PluginName,
        /// How.
        #[source]
        source: BoxError,
    },
    /// A component for something else.
    #[error(
        "plug-in `{plugin}` exports neither `witgate:auth/permission-policy` nor \
         `witgate:auth/authentication-strategy`; it exports {exports}"
    )]
    UnknownKind {
        /// Which plug-in.
        plugin: PluginName,
        /// What it exports.
        exports: String,
    },
    /// A component that is both, or one of them in two versions.
    #[error("plug-in `{plugin}` exports a policy or strategy more than once; it must be one of them, in one version")]
    TwoKinds {
        /// Which plug-in.
        plugin: PluginName,
    },
    /// Something that its kind must have.
    #[error("plug-in `{plugin}` does not export `{export}`, which every {kind} must")]
    MissingExport {
        /// Which plug-in.
        plugin: PluginName,
        /// What it is.
        kind: crate::PluginKind,
        /// What is missing.
        export: &'static str,
    },
    /// A component for another version of the contract.
    #[error("plug-in `{plugin}` {uses} `{item}`; this witgate speaks auth@0.1.0 and auth@0.2.0")]
    OtherContract {
        /// Which plug-in.
        plugin: PluginName,
        /// `imports` or `exports`.
        uses: &'static str,
        /// The interface, with its version.
        item: String,
    },
    /// Something of the outside that nobody granted.
    #[error("plug-in `{plugin}` imports {imports}, which its sidecar does not grant")]
    NotGranted {
        /// Which plug-in.
        plugin: PluginName,
        /// The interfaces, with their versions.
        imports: String,
    },
    /// The right names with other types behind them.
    #[error("plug-in `{plugin}` does not fit the contract whose interfaces it names")]
    Mismatch {
        /// Which plug-in.
        plugin: PluginName,
        /// Where.
        #[source]
        source: BoxError,
    },
    /// A strategy that no header could name (Backstage's text).
    #[error("Strategy name can not include dashes: `{plugin}` is part of a header's name, where a dash ends it")]
    StrategyName {
        /// Which plug-in.
        plugin: PluginName,
    },
    /// A policy with something that only strategies can have.
    #[error("plug-in `{plugin}` is a policy, and its sidecar lists `{key}`, which only strategies have")]
    StrategiesOnly {
        /// Which plug-in.
        plugin: PluginName,
        /// The sidecar's key.
        key: &'static str,
    },
    /// The guest's own judgement.
    #[error("plug-in `{plugin}` refuses its settings: {}", errors.join("; "))]
    SettingsRefused {
        /// Which plug-in.
        plugin: PluginName,
        /// What is wrong, one text a fault.
        errors: Vec<String>,
    },
    /// `configure` trapped, span, or reached a limit.
    #[error("plug-in `{plugin}` could not be configured")]
    NotConfigured {
        /// Which plug-in.
        plugin: PluginName,
        /// How it failed.
        #[source]
        source: CallError,
    },
}
