//! A plug-in that can be called.

use std::sync::Arc;

use witgate_core::{AuthenticationStrategy, CallMeter, Digest, PermissionPolicy, PluginName};

use crate::contract::PluginKind;
use crate::{Start, WasmPolicy, WasmStrategy};

/// A plug-in that can be called: recognised, compiled, linked, and content with its settings.
#[derive(Clone)]
pub enum LoadedPlugin {
    /// Judges requests.
    Policy(Arc<WasmPolicy>),
    /// Yields credentials.
    Strategy(Arc<WasmStrategy>),
}

impl LoadedPlugin {
    /// Its file's name.
    pub fn name(&self) -> &PluginName {
        match self {
            Self::Policy(policy) => policy.name(),
            Self::Strategy(strategy) => strategy.name(),
        }
    }

    /// Which bytes it runs.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Policy(policy) => policy.digest(),
            Self::Strategy(strategy) => strategy.digest(),
        }
    }

    /// How its calls come to the state that `configure` left.
    pub fn start(&self) -> &Start {
        match self {
            Self::Policy(policy) => policy.start(),
            Self::Strategy(strategy) => strategy.start(),
        }
    }

    /// The version of the contract that it speaks, such as `auth@0.1.0`.
    pub fn contract(&self) -> &'static str {
        match self {
            Self::Policy(policy) => policy.contract(),
            Self::Strategy(strategy) => strategy.contract(),
        }
    }

    /// Counts its calls.
    pub fn meter(&self) -> &Arc<CallMeter> {
        match self {
            Self::Policy(policy) => policy.meter(),
            Self::Strategy(strategy) => strategy.meter(),
        }
    }

    /// What it does.
    pub const fn kind(&self) -> PluginKind {
        match self {
            Self::Policy(_) => PluginKind::Policy,
            Self::Strategy(_) => PluginKind::Strategy,
        }
    }
}
