//! From a core module, as a compiler of C or Go leaves it, to a component.

use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::World;

/// The component that `module` is, with the contract in `wit` as its types. Where the module imports the WASI of
/// core modules, the component imports that of components instead.
pub(crate) fn component(mut module: Vec<u8>, wit: &Path, world: World) -> Result<Vec<u8>, String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let mut resolve = Resolve::default();
    let (package, _) =
        resolve.push_dir(wit).map_err(|error| failed("the WIT cannot be read", &format!("{error:#}")))?;
    let world = resolve
        .select_world(&[package], Some(world.name()))
        .map_err(|error| failed("the WIT has no such world", &format!("{error:#}")))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .map_err(|error| failed("the module takes no types", &format!("{error:#}")))?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .map(|encoder| encoder.merge_imports_based_on_semver(true))
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| failed("it does not fit the contract", &format!("{error:#}")))
}
