//! What `bindgen!` makes of the contract, and nothing else. Only the modules that convert use it; everyone else speaks
//! `witgate-core`.
//!
//! The records derive `Debug` and hold credentials in the clear: convert and drop them, never print one.

/// The world `policy`.
pub(crate) mod policy {
    wasmtime::component::bindgen!({
        path: "../../wit/auth@0.1.0",
        world: "policy",
        exports: { default: async },
    });
}

/// The world `strategy`. What it shares with the other is the same type.
pub(crate) mod strategy {
    wasmtime::component::bindgen!({
        path: "../../wit/auth@0.1.0",
        world: "strategy",
        imports: { "witgate:auth/secrets": async },
        exports: { default: async },
        with: {
            "witgate:auth/types": crate::bindings::policy::witgate::auth::types,
            "witgate:auth/log": crate::bindings::policy::witgate::auth::log,
        },
    });
}

pub(crate) use policy::witgate::auth::{log, types};
pub(crate) use strategy::witgate::auth::secrets;

/// The world `policy` of `auth@0.2.0`, whose policies answer with warnings too. The types are those of 0.1.0.
pub(crate) mod policy_v0_2 {
    wasmtime::component::bindgen!({
        path: "../../wit/auth@0.2.0",
        world: "policy",
        exports: { default: async },
        with: {
            "witgate:auth/types": crate::bindings::policy::witgate::auth::types,
        },
    });
}

/// The world `strategy` of `auth@0.2.0`: another name for the same.
pub(crate) mod strategy_v0_2 {
    wasmtime::component::bindgen!({
        path: "../../wit/auth@0.2.0",
        world: "strategy",
        imports: { "witgate:auth/secrets": async },
        exports: { default: async },
        with: {
            "witgate:auth/types": crate::bindings::policy::witgate::auth::types,
            "witgate:auth/log": crate::bindings::policy_v0_2::witgate::auth::log,
        },
    });
}
