//! What wit-bindgen's generators make of the contract: for C and what calls C, and for Go.
//!
//! It is kept as text, so that a C project needs a compiler and nothing else. `wit-bindgen c --world WORLD`, version 0.61.1, writes
//! it again, from the `wit` folder of any project, with a last function more, which links the types that are added here later; a released contract never changes, and so neither does this.

use std::fs;
use std::io;
use std::path::Path;

use crate::World;

macro_rules! go {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../bindings/go/", $path)))),*]
    };
}

/// Paths below a Go project's `bindings` folder, and texts: a module without dependencies. `wit-bindgen go --world policy
/// --pkg-name witgate`, version 0.61.1, writes what is in `internal`, but what is ours like `policy`: `wit_runtime` and
/// `wit_types`, which stand for the modules that the generated code would import from elsewhere, and `export_*`. Paths of imports are those of this module.
pub(crate) const GO: &[(&str, &str)] = go![
    "go.mod",
    "policy/policy.go",
    "settings/settings.go",
    "internal/export_witgate_auth_permission_policy/permission_policy.go",
    "internal/export_witgate_auth_plugin/plugin.go",
    "internal/wit_exports/wit_exports.go",
    "internal/wit_runtime/empty.s",
    "internal/wit_runtime/runtime.go",
    "internal/wit_types/types.go",
    "internal/witgate_auth_log/empty.s",
    "internal/witgate_auth_log/wit_bindings.go",
    "internal/witgate_auth_permission_policy/wit_bindings.go",
    "internal/witgate_auth_types/wit_bindings.go",
];

/// C's names and texts for a world; there are none for strategies yet.
pub(crate) fn of(world: World) -> &'static [(&'static str, &'static str)] {
    match world {
        World::Policy => &[
            ("policy.h", include_str!("../bindings/policy.h")),
            ("policy.c", include_str!("../bindings/policy.c")),
            ("settings.h", include_str!("../bindings/settings.h")),
        ],
        World::Strategy | World::OutgoingStrategy => &[],
    }
}

/// Writes C's into a folder.
pub(crate) fn write(world: World, directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    of(world).iter().try_for_each(|(name, text)| fs::write(directory.join(name), text))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Goal: no file of Go's bindings is left out of new projects, but their tests. Method: the folder, beside what is put into projects.
    #[test]
    fn gos_bindings_are_whole() {
        let mut there = BTreeSet::new();
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("bindings/go"), "", &mut there);
        there.retain(|path| !path.ends_with("_test.go"));
        let given: BTreeSet<_> = GO.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(given, there);
    }

    fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }
}
