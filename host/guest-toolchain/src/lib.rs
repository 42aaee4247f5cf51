//! Builds Rust guests into WebAssembly components, with what rustup already brought.
//!
//! [`GuestToolchain`] knows where the tools are and what to do about one that is missing; [`GuestBuild`] is one run
//! of cargo. It is used by `cargo xtask`, by the binary's build script (for the built-in strategies) and by `witgate plugin
//! build`, so it knows nothing of wasmtime, of plug-in folders or of the contract.
//!
//! Promise: a build never waits for the cargo that started it. It has a target directory, and so a lock, of its own,
//! and takes over none of the outer cargo's settings.

mod build;
mod target_directory;
mod toolchain;

pub use build::{BuildError, BuiltGuest, GuestBuild, Packages, Profile};
pub use target_directory::{guests_target_directory, target_directory};
pub use toolchain::{GuestToolchain, ToolchainError};
