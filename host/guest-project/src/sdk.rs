//! The SDK's sources, to be put into a Rust project: it is in no registry.
//!
//! They are part of the tool, so a project stands on the SDK of the gate that it was made for. Nothing here is built.

/// Paths below the project's `sdk` folder, and texts.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    let mut files: Vec<_> = SOURCES.iter().map(|&(path, text)| (path, text.replace(README_EXAMPLES, ""))).collect();
    // In the repository the contract stands elsewhere.
    files.push(("src/bindings.rs", BINDINGS.replace("\"../../wit/", "\"wit/")));
    files.extend(CONTRACTS.iter().map(|&(path, text)| (path, text.to_owned())));
    files
}

/// Versions of everything that the SDK stands on: what it was tested with.
pub(crate) const LOCK: &str = include_str!("../../../guests/Cargo.lock");

/// Its examples stand in the repository alone, and so does their test.
const README_EXAMPLES: &str = "
/// The examples of `guests/README.md`, which are compiled and run with this crate's.
#[cfg(doctest)]
#[doc = include_str!(\"../../README.md\")]
struct Readme;
";

const BINDINGS: &str = include_str!("../../../guests/sdk/src/bindings.rs");

macro_rules! sources {
    ($folder:literal: $($path:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../../../", $folder, "/", $path)))),*]
    };
}

const SOURCES: &[(&str, &str)] = sources!["guests/sdk":
    "Cargo.toml",
    "src/calendar.rs",
    "src/clock.rs",
    "src/condition.rs",
    "src/decision.rs",
    "src/http.rs",
    "src/http/exchange.rs",
    "src/lib.rs",
    "src/log.rs",
    "src/panic.rs",
    "src/pattern.rs",
    "src/plugin.rs",
    "src/policy.rs",
    "src/secrets.rs",
    "src/selector.rs",
    "src/settings.rs",
    "src/strategy.rs",
    "src/testing.rs",
    "src/v0_2.rs",
    "wit/README.md",
    "wit/clocks.wit",
    "wit/http.wit",
    "wit/io.wit",
];

const CONTRACTS: &[(&str, &str)] = sources!["guests/..":
    "wit/auth@0.1.0/authentication-strategy.wit",
    "wit/auth@0.1.0/log.wit",
    "wit/auth@0.1.0/permission-policy.wit",
    "wit/auth@0.1.0/plugin.wit",
    "wit/auth@0.1.0/secrets.wit",
    "wit/auth@0.1.0/types.wit",
    "wit/auth@0.1.0/worlds.wit",
    "wit/auth@0.2.0/authentication-strategy.wit",
    "wit/auth@0.2.0/log.wit",
    "wit/auth@0.2.0/permission-policy.wit",
    "wit/auth@0.2.0/plugin.wit",
    "wit/auth@0.2.0/secrets.wit",
    "wit/auth@0.2.0/types.wit",
    "wit/auth@0.2.0/worlds.wit",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Goal: no file of the SDK or the contract is left out. Method: the folders, beside what is put into projects.
    #[test]
    fn the_sdk_is_whole() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut there = BTreeSet::new();
        walk(&repository.join("guests/sdk"), "", &mut there);
        for version in ["auth@0.1.0", "auth@0.2.0"] {
            walk(&repository.join("wit").join(version), &format!("wit/{version}/"), &mut there);
        }
        let given: BTreeSet<_> = files().iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(given, there);
        for (path, text) in files().iter().filter(|(path, _)| path.ends_with(".rs")) {
            assert!(!text.contains("\"../.."), "{path} reads what stands outside of it");
        }
    }

    /// Goal: a project's SDK has what the guests' workspace gives it.
    #[test]
    fn the_projects_workspace_says_what_the_guests_says() {
        let guests = include_str!("../../../guests/Cargo.toml");
        let template = include_str!("../templates/Cargo.toml");
        for dependency in ["serde = ", "serde_json = ", "serde_path_to_error = ", "wit-bindgen = "] {
            let line = |text: &'static str| text.lines().rfind(|line| line.starts_with(dependency));
            assert_eq!(line(template), line(guests), "{dependency}");
        }
    }

    fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
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
