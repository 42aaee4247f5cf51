//! What a guest can reach of the outside: one file a capability.

pub(crate) mod http;
pub(crate) mod log;
pub(crate) mod secrets;
pub(crate) mod wasi;
