//! Write policies and authentication strategies for witgate in Rust.
//!
//! A guest implements [`Policy`] or [`Strategy`] for a type of its own and exports it. The whole of a policy:
//!
//! ```
//! use witgate_sdk::{ActionClass, Decision, NoSettings, Policy, PolicyQuery, UserInfo};
//!
//! struct ReadOnly;
//!
//! impl Policy for ReadOnly {
//!     type Settings = NoSettings;
//!
//!     fn configure(_settings: NoSettings) -> Result<Self, Vec<String>> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&self, query: &PolicyQuery, _user: Option<&UserInfo>) -> Decision {
//!         match query.request.as_ref().map(|request| request.action_class) {
//!             None | Some(ActionClass::Read) => Decision::NoOpinion,
//!             Some(class) => Decision::Deny(format!("read-only: `{class}` is more than reading")),
//!         }
//!     }
//! }
//!
//! witgate_sdk::export_policy!(ReadOnly);
//! ```
//!
//! Its crate is a `cdylib` built for `wasm32-unknown-unknown`. On any other target the same crate compiles
//! without its exports, so that its rules are tested with plain `cargo test`; see [`testing`].
//!
//! The types are those of the contract, `wit/auth@0.1.0`, with its words as their documentation. A policy that has warnings for its
//! callers is one of [`v0_2`]; nothing else there differs.

mod bindings;
pub mod calendar;
pub mod clock;
pub mod condition;
mod decision;
pub mod http;
pub mod log;
mod panic;
pub mod pattern;
mod plugin;
mod policy;
pub mod secrets;
pub mod selector;
mod settings;
mod strategy;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod v0_2;

pub use bindings::policy::exports::witgate::auth::permission_policy::{
    Condition, Conditional, Decision, Permission, PolicyQuery,
};
pub use bindings::policy::witgate::auth::types::{
    ActionClass, AuthError, ClientCertificate, ClusterDetails, Credential, Grant, Impersonation, Metadata,
    RequestAttributes, UserInfo,
};
pub use policy::Policy;
pub use settings::NoSettings;
pub use strategy::{RequestAuth, Strategy};

/// The examples of `guests/README.md`, which are compiled and run with this crate's.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What the export macros lean on; not for use by hand.
#[doc(hidden)]
pub mod macro_support {
    pub use crate::bindings::{configurable, policy, strategy, v0_2};
    pub use crate::plugin::Plugin;
    pub use crate::settings::parse;
    pub use crate::v0_2::answer;
}
