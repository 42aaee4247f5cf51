//! A folder in which one plug-in is written, in one of several languages.
//!
//! [`Project`] is what `witgate-plugin.yaml` in it says; [`build`] turns its sources into `NAME.wasm` with the
//! language's own toolchain. `cargo xtask examples` stands on it. It knows the contract as text, and nothing of hosts: what it builds is
//! tried by whoever runs it.

mod bindings;
pub mod build;
mod core_module;
pub mod imports;
mod project;
pub mod tools;
mod wit;

pub use project::{InvalidProject, Language, MANIFEST, PluginKind, Project, World};
