//! Runs policies and strategies: WebAssembly components behind the contract in `wit/`, in each of its versions.
//!
//! [`Host::load`] turns a component's bytes into a [`LoadedPlugin`]: recognised, compiled,
//! link-checked and configured, or refused with the reason. The loaded plug-in implements a trait of
//! `witgate-core`, so that whoever asks a policy does not know how one is run.
//!
//! This crate knows neither of folders, files beside a component and reloads, nor of HTTP's server side. Its client side is
//! one capability, `capability/http`.
//!
//! Promise: every call ends within its plug-in's deadline, in an instance that no other call has at that time (a fresh one,
//! unless its sidecar says `isolation: reused`), whatever the guest does; and every way to fail is a [`CallError`](witgate_core::CallError), never an answer.

mod answer;
mod bindings;
mod call;
mod call_clock;
mod capability;
mod compiled_cache;
mod compiled_code;
mod compiler;
mod contract;
mod credential_check;
mod engine;
mod flatten;
mod function_cache;
mod host;
mod limits;
mod load_error;
mod loaded;
mod loading;
mod lower;
mod pace;
mod policy;
mod sandbox;
mod snapshot;
mod source;
mod start_state;
mod strategy;
mod ticker;
mod warm;
mod worlds;

pub use capability::http::address::{AddressRange, InvalidAddressRange};
pub use capability::http::allow_list::{InvalidOrigin, OutboundHost};
pub use capability::http::authorities::{Authorities, InvalidAuthorities};
pub use compiled_cache::CacheDirectoryError;
pub use compiled_code::CompilationCounts;
pub use contract::{ImportGrant, PluginKind};
pub use flatten::{FlattenError, flatten};
pub use host::{Host, HostConfig, HostError, Snapshots};
pub use limits::{InvalidLimit, LimitNumbers, Limits};
pub use load_error::LoadError;
pub use loaded::LoadedPlugin;
pub use policy::WasmPolicy;
pub use source::{Grants, Isolation, PluginSource};
pub use start_state::Start;
pub use strategy::WasmStrategy;
