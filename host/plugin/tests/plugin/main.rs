//! Plug-ins, from the host's view: small guests written as text, loaded and called.

#![expect(clippy::indexing_slicing, reason = "tests may")]

mod cache;
mod containment;
mod faults;
mod guest;
mod loading;
mod logging;
mod policy;
mod reuse;
mod snapshot;
mod strategy;
mod wasi;
