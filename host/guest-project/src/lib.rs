//! A folder in which one plug-in is written, in one of several languages.
//!
//! [`Project`] is what `witgate-plugin.yaml` in it says; [`template`] writes a new one; [`build`] turns its sources into `NAME.wasm` with the
//! language's own toolchain. `witgate plugin new`, `build` and `dev` and `cargo xtask examples` stand on it. It knows the contract as text, and
//! nothing of hosts: what it builds is tried by whoever runs it.

mod bindings;
pub mod build;
mod core_module;
pub mod imports;
mod project;
mod sdk;
pub mod template;
pub mod tools;
mod wit;

pub use project::{InvalidProject, Language, MANIFEST, PluginKind, Project, World};
