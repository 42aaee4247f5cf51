//! One run of cargo over guests.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::toolchain::{GuestToolchain, TARGET, clean, shown};

/// What to build, and where to.
#[derive(Clone, Debug)]
pub struct GuestBuild<'a> {
    /// The `Cargo.toml` of a guest, or of a workspace of guests.
    pub manifest: &'a Path,
    /// Which of its packages.
    pub packages: Packages<'a>,
    /// A target directory that no other kind of build uses; see
    /// [`guests_target_directory`](crate::guests_target_directory).
    pub target_directory: &'a Path,
    /// For whom it is built.
    pub profile: Profile,
}

/// What a build is good for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Profile {
    /// To serve: cargo's `release`.
    #[default]
    Release,
    /// To be tried at once: cargo's `dev`.
    Dev,
}

/// Which packages of a workspace.
#[derive(Clone, Copy, Debug)]
pub enum Packages<'a> {
    /// Every member, with its examples.
    All,
    /// The members whose folder lies in one of these; there must be some in each.
    Under(&'a [&'a Path]),
}

/// One component that was built.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BuiltGuest {
    /// The plug-in's name: the package's folder, or the example's name.
    pub name: String,
    /// The folder of the package.
    pub package_directory: PathBuf,
    /// The component.
    pub component: PathBuf,
}

/// Why a build gave no components.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Cargo could not be run, or its output not be read.
    #[error("cannot run `{command}`")]
    Run {
        /// What was to be run.
        command: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
    /// Cargo ran, and the build failed. Its messages went to stderr.
    #[error("`{command}` failed; its messages are above")]
    Failed {
        /// What was run.
        command: String,
    },
    /// The workspace cannot be described.
    #[error("`{command}` failed: {output}")]
    Metadata {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// Cargo's answer is not in the form that it documents.
    #[error("`{command}` answered with something else than its documented JSON")]
    Answer {
        /// What was run.
        command: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// No package to build.
    #[error("no package of `{manifest}` is under `{directory}`", manifest = .manifest.display(), directory = .directory.display())]
    NoPackage {
        /// The workspace.
        manifest: PathBuf,
        /// Where its packages were looked for.
        directory: PathBuf,
    },
}

impl GuestToolchain {
    /// Builds guests and says where the components are. Cargo's progress and messages go to stderr.
    ///
    /// # Errors
    /// When cargo cannot be run or the build fails.
    pub fn build(&self, build: &GuestBuild<'_>) -> Result<Vec<BuiltGuest>, BuildError> {
        let mut command = clean(&self.cargo);
        command.args(["build", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
        match build.profile {
            Profile::Release => drop(command.arg("--release")),
            // Incremental compilation is what makes it fast, whatever the environment says.
            Profile::Dev => drop(command.env("CARGO_INCREMENTAL", "1")),
        }
        command.arg("--manifest-path").arg(build.manifest);
        command.arg("--target-dir").arg(build.target_directory);
        match build.packages {
            Packages::All => {
                command.args(["--workspace", "--lib", "--examples"]);
            }
            Packages::Under(directories) => {
                command.arg("--lib");
                for directory in directories {
                    for package in self.packages_under(build.manifest, directory)? {
                        command.arg("--package").arg(package);
                    }
                }
            }
        }
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &self.component_linker);
        command.env("CARGO_ENCODED_RUSTFLAGS", self.rust_flags(build.manifest));
        command.stdin(Stdio::null()).stdout(Stdio::piped());

        let command_line = shown(&command);
        let run = |source| BuildError::Run { command: command_line.clone(), source };
        let mut cargo = command.spawn().map_err(run)?;
        let mut guests = Vec::new();
        if let Some(stdout) = cargo.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                guests.extend(built_guest(&line.map_err(run)?));
            }
        }
        let status = cargo.wait().map_err(run)?;
        if !status.success() {
            return Err(BuildError::Failed { command: command_line });
        }
        guests.sort();
        Ok(guests)
    }

    /// The names of the workspace's packages in this folder.
    fn packages_under(&self, manifest: &Path, directory: &Path) -> Result<Vec<String>, BuildError> {
        let mut command = clean(&self.cargo);
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = command.output().map_err(|source| BuildError::Run { command: shown(&command), source })?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(BuildError::Metadata { command: shown(&command), output });
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)
            .map_err(|source| BuildError::Answer { command: shown(&command), source })?;
        let resolved = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let under = |package: &Package| {
            [directory, &resolved].iter().any(|directory| package.manifest_path.starts_with(directory))
        };
        let names: Vec<String> = metadata.packages.into_iter().filter(under).map(|package| package.name).collect();
        if names.is_empty() {
            return Err(BuildError::NoPackage { manifest: manifest.to_owned(), directory: directory.to_owned() });
        }
        Ok(names)
    }

    /// The flags of each rustc: how to link, and names in place of this machine's folders, so that the same
    /// sources give the same bytes wherever they lie.
    fn rust_flags(&self, manifest: &Path) -> OsString {
        let mut flags = OsString::from("-Clink-arg=--wasm-ld-path=");
        flags.push(&self.wasm_linker);
        let guests = manifest.parent().map(Path::to_owned).map(|guests| guests.canonicalize().unwrap_or(guests));
        let mut remap = |from: &Path, to: &str| {
            flags.push("\u{1f}--remap-path-prefix=");
            flags.push(from);
            flags.push("=");
            flags.push(to);
        };
        // Where several match, rustc takes the last.
        if let Some(cargo_home) = cargo_home() {
            remap(&cargo_home, "/cargo");
            // Registries lie under their host's name: the sources are the same from a mirror.
            let registries = std::fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten().flatten();
            registries.for_each(|registry| remap(&registry.path(), "/crates"));
        }
        remap(&self.sysroot, "/rust");
        if let Some(guests) = guests {
            remap(&guests, "/guests");
        }
        flags
    }
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

/// The component that a line of cargo's JSON tells of, if it does.
fn built_guest(line: &str) -> Option<BuiltGuest> {
    let Ok(Message::CompilerArtifact { manifest_path, target, filenames }) = serde_json::from_str(line) else {
        return None;
    };
    let component = filenames.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?;
    let package_directory = manifest_path.parent()?.to_owned();
    let name = if target.kind.iter().any(|kind| kind == "example") {
        target.name
    } else {
        package_directory.file_name()?.to_str()?.to_owned()
    };
    Some(BuiltGuest { name, package_directory, component })
}

/// The lines of `cargo build --message-format json` that matter here.
#[derive(serde::Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        manifest_path: PathBuf,
        target: Target,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

#[derive(serde::Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

#[derive(serde::Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a component is named after what its author named. Method: lines as cargo prints them.
    #[test]
    fn a_component_is_named_after_its_folder_or_example() {
        check(
            r#"{"reason":"compiler-artifact","package_id":"path+file:///g#service-account@0.1.0","manifest_path":"/g/strategies/serviceAccount/Cargo.toml","target":{"kind":["cdylib"],"crate_types":["cdylib"],"name":"service_account","src_path":"/g/lib.rs"},"filenames":["/t/service_account.wasm"],"executable":null,"fresh":true}"#,
            Some(("serviceAccount", "/g/strategies/serviceAccount", "/t/service_account.wasm")),
        );
        check(
            r#"{"reason":"compiler-artifact","manifest_path":"/g/fixtures/Cargo.toml","target":{"kind":["example"],"name":"configure-spin"},"filenames":["/t/examples/configure-spin.wasm"]}"#,
            Some(("configure-spin", "/g/fixtures", "/t/examples/configure-spin.wasm")),
        );
        check(
            r#"{"reason":"compiler-artifact","manifest_path":"/g/sdk/Cargo.toml","target":{"kind":["lib"],"name":"witgate_sdk"},"filenames":["/t/libwitgate_sdk.rlib"]}"#,
            None,
        );
        check(r#"{"reason":"build-finished","success":true}"#, None);
        check("not JSON", None);
    }

    #[track_caller]
    fn check(line: &str, expected: Option<(&str, &str, &str)>) {
        let expected = expected.map(|(name, package_directory, component)| BuiltGuest {
            name: name.to_owned(),
            package_directory: package_directory.into(),
            component: component.into(),
        });
        assert_eq!(built_guest(line), expected);
    }
}
