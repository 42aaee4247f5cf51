//! Finding what `cargo xtask` has built: the binary and the guests.

use std::path::{Path, PathBuf};

/// The gate's binary: `WITGATE_BIN`, else `witgate` beside the folder of the running test executable.
pub fn witgate() -> PathBuf {
    let path = std::env::var_os("WITGATE_BIN").map_or_else(|| profile_folder().join("witgate"), PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p witgate` first, or `cargo xtask test`, which does it",
        path.display()
    );
    path
}

/// Where a guest lies once it is compiled; it may not be there.
pub fn guest_path(kind_and_name: &str) -> PathBuf {
    target_folder().join("guests").join(kind_and_name).with_extension("wasm")
}

/// A compiled guest, such as `policies/read-only`.
pub fn guest(kind_and_name: &str) -> PathBuf {
    let path = guest_path(kind_and_name);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo xtask guests` first, or `cargo xtask test`, which does it",
        path.display()
    );
    path
}

/// Where compiled plug-ins are kept between gates, so that each of many need not compile the same ones.
pub fn plugin_cache() -> PathBuf {
    target_folder().join("gate-tests").join("plugin-cache")
}

/// The repository's top folder.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate stands in the repository")
}

/// `target/`.
fn target_folder() -> PathBuf {
    profile_folder().parent().expect("a profile's folder stands in the target folder").to_owned()
}

/// `target/debug/` of the running executable, which stands in its `deps/`, or in its `examples/`.
fn profile_folder() -> PathBuf {
    let executable = std::env::current_exe().expect("the test executable has a path");
    let folder = executable.parent().expect("an executable stands in a folder");
    let is_inside = folder.ends_with("deps") || folder.ends_with("examples");
    let profile = if is_inside { folder.parent().expect("it stands in a profile's folder") } else { folder };
    profile.to_owned()
}

/// A toolchain's folder of executables, where `cargo xtask examples` put it.
pub fn toolchain(executables: &str) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("WITGATE_TEST_CACHE")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("witgate-tests")))
        .or_else(|| Some(variable("HOME")?.join(".cache/witgate-tests")))?;
    let folder = cache.join(executables);
    folder.is_dir().then_some(folder)
}
