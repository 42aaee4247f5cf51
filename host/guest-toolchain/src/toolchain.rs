//! Finds the tools that make a component: cargo, rustc, the target's standard library, the component linker.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that guests are built for. Its components import just what their world names.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// A Rust toolchain that can build guests.
#[derive(Clone, Debug)]
pub struct GuestToolchain {
    /// Runs the build.
    pub(crate) cargo: PathBuf,
    /// Turns a core module into a component.
    pub(crate) component_linker: PathBuf,
    /// Links the core module.
    pub(crate) wasm_linker: PathBuf,
    /// Where the toolchain is installed.
    pub(crate) sysroot: PathBuf,
}

/// Why guests cannot be built here. Each says how to get what is missing.
#[derive(Debug, thiserror::Error)]
pub enum ToolchainError {
    /// A tool that cannot be run.
    #[error("cannot run `{tool}`: install Rust from https://rustup.rs and put its `bin` folder on the PATH", tool = .tool.display())]
    Tool {
        /// What was to be run.
        tool: PathBuf,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
    /// A tool that ran and failed.
    #[error("`{command}` failed: {output}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// No standard library for the guests' target, and no rustup to get it.
    #[error(
        "the target `{TARGET}` is not installed, and `rustup` is not there to add it: \
        install rustup from https://rustup.rs, or your distribution's package with Rust's standard library for `{TARGET}`"
    )]
    TargetWithoutRustup,
    /// rustup could not add the target.
    #[error("the target `{TARGET}` is not installed, and `rustup target add {TARGET}` failed: {output}")]
    TargetNotAdded {
        /// What rustup said.
        output: String,
    },
    /// A toolchain without the component linker.
    #[error(
        "`{file}` is not in `{directory}`: rustup's toolchains bring it (1.82 or newer), distributions' often do not; \
        install one with `rustup toolchain install stable`", directory = .directory.display()
    )]
    Linker {
        /// The linker's name.
        file: &'static str,
        /// Where it should be.
        directory: PathBuf,
    },
}

impl GuestToolchain {
    /// Finds the tools, and adds the guests' target through rustup where it is missing.
    ///
    /// `progress` is told before anything is downloaded.
    ///
    /// # Errors
    /// When something is missing and cannot be added; the text says how to get it.
    pub fn find(progress: impl Fn(&str)) -> Result<Self, ToolchainError> {
        Self::find_with(tool("CARGO", "cargo"), &tool("RUSTC", "rustc"), Path::new("rustup"), progress)
    }

    fn find_with(cargo: PathBuf, rustc: &Path, rustup: &Path, progress: impl Fn(&str)) -> Result<Self, ToolchainError> {
        let version = output(clean(rustc).arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
        let sysroot = PathBuf::from(output(clean(rustc).args(["--print", "sysroot"]))?);
        if !sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            progress(&format!("adding the target {TARGET} with rustup"));
            add_target(rustup)?;
        }
        let directory = sysroot.join("lib/rustlib").join(host).join("bin");
        Ok(Self {
            cargo,
            component_linker: linker(&directory, "wasm-component-ld")?,
            wasm_linker: linker(&directory.join("gcc-ld"), "wasm-ld")?,
            sysroot,
        })
    }
}

/// The tool that cargo or the user names in the environment, else the one on the PATH.
fn tool(variable: &str, name: &str) -> PathBuf {
    env::var_os(variable).filter(|path| !path.is_empty()).unwrap_or_else(|| OsString::from(name)).into()
}

fn linker(directory: &Path, file: &'static str) -> Result<PathBuf, ToolchainError> {
    let path = directory.join(format!("{file}{}", env::consts::EXE_SUFFIX));
    if path.is_file() { Ok(path) } else { Err(ToolchainError::Linker { file, directory: directory.to_owned() }) }
}

fn add_target(rustup: &Path) -> Result<(), ToolchainError> {
    match output(clean(rustup).args(["target", "add", TARGET])) {
        Ok(_) => Ok(()),
        Err(ToolchainError::Tool { .. }) => Err(ToolchainError::TargetWithoutRustup),
        Err(ToolchainError::Failed { output, .. }) => Err(ToolchainError::TargetNotAdded { output }),
        Err(error) => Err(error),
    }
}

fn output(command: &mut Command) -> Result<String, ToolchainError> {
    let result = command
        .output()
        .map_err(|source| ToolchainError::Tool { tool: command.get_program().to_owned().into(), source })?;
    if result.status.success() {
        return Ok(String::from_utf8_lossy(&result.stdout).trim().to_owned());
    }
    let output = String::from_utf8_lossy(&result.stderr).trim().to_owned();
    Err(ToolchainError::Failed { command: shown(command), output })
}

pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A command without what an outer cargo, or a user's settings for the host, would do to a guest's build.
///
/// What stays is what says where to get things (`CARGO_HOME`, proxies, registries, `CARGO_NET_*`) and which toolchain to use.
pub(crate) fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_build) {
            command.env_remove(name);
        }
    }
    command
}

fn is_of_the_outer_build(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_ENCODED_RUSTDOCFLAGS",
        "CARGO_INCREMENTAL",
        "CARGO_MAKEFLAGS",
        "CARGO_TARGET_DIR",
        "CLIPPY_ARGS",
        "CLIPPY_CONF_DIR",
        "DEBUG",
        "HOST",
        "LLVM_PROFILE_FILE",
        "MAKEFLAGS",
        "MFLAGS",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTC_LINKER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
    ];
    const PREFIXES: &[&str] = &[
        "CARGO_BUILD_",
        "CARGO_CFG_",
        "CARGO_FEATURE_",
        "CARGO_MANIFEST_",
        "CARGO_PKG_",
        "CARGO_PROFILE_",
        "CARGO_TARGET_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing of an outer build leaks in, and where to get things stays. Method: rows of variables.
    #[test]
    fn the_outer_builds_settings_are_dropped() {
        for dropped in [
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_TARGET_DIR",
            "CARGO_BUILD_TARGET",
            "CARGO_PROFILE_RELEASE_LTO",
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            "CARGO_PKG_NAME",
            "OUT_DIR",
        ] {
            assert!(is_of_the_outer_build(dropped), "{dropped}");
        }
        for kept in [
            "CARGO",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_X_INDEX",
            "HTTPS_PROXY",
            "PATH",
            "RUSTUP_TOOLCHAIN",
            "RUSTC",
        ] {
            assert!(!is_of_the_outer_build(kept), "{kept}");
        }
    }

    /// Goal: each text says what is missing and how to get it.
    #[test]
    fn errors_say_how_to_get_what_is_missing() {
        let missing = linker(Path::new("/nowhere"), "wasm-component-ld").unwrap_err();
        let text = missing.to_string();
        assert!(text.contains("wasm-component-ld") && text.contains("rustup toolchain install"), "{text}");
        let unrunnable = output(&mut Command::new("/nowhere/rustc")).unwrap_err().to_string();
        assert!(unrunnable.contains("/nowhere/rustc") && unrunnable.contains("rustup.rs"), "{unrunnable}");
    }

    /// Goal: a fresh clone sets itself up, or says what to do. Method: a toolchain of scripts without the target, and a
    /// rustup that adds it, fails, or is not there.
    #[cfg(unix)]
    #[test]
    fn a_missing_target_is_added() {
        check("mkdir -p \"$SYSROOT/lib/rustlib/wasm32-unknown-unknown/lib\"; echo \"$@\" > \"$SYSROOT/added\"", "ok");
        check(
            "echo 'no network' >&2; exit 1",
            "the target `wasm32-unknown-unknown` is not installed, \
             and `rustup target add wasm32-unknown-unknown` failed: no network",
        );
        check(
            "",
            "the target `wasm32-unknown-unknown` is not installed, and `rustup` is not there to add it: install rustup from \
             https://rustup.rs, or your distribution's package with Rust's standard library for `wasm32-unknown-unknown`",
        );
    }

    #[cfg(unix)]
    #[track_caller]
    fn check(rustup_script: &str, expected: &str) {
        let sysroot = tempfile::tempdir().unwrap();
        let at = |path: &str| sysroot.path().join(path);
        std::fs::create_dir_all(at("lib/rustlib/some-host/bin/gcc-ld")).unwrap();
        std::fs::write(at("lib/rustlib/some-host/bin/wasm-component-ld"), "").unwrap();
        std::fs::write(at("lib/rustlib/some-host/bin/gcc-ld/wasm-ld"), "").unwrap();
        let sysroot_text = sysroot.path().display();
        let rustc =
            script(&at("rustc"), &format!("[ \"$1\" = -vV ] && echo 'host: some-host' || echo '{sysroot_text}'"));
        let rustup = if rustup_script.is_empty() {
            at("no-rustup")
        } else {
            script(&at("rustup"), &format!("SYSROOT='{sysroot_text}'; {rustup_script}"))
        };

        let said = std::cell::RefCell::new(Vec::new());
        let found =
            GuestToolchain::find_with("cargo".into(), &rustc, &rustup, |step| said.borrow_mut().push(step.to_owned()));

        assert_eq!(said.take(), ["adding the target wasm32-unknown-unknown with rustup"]);
        let got = found.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
        assert_eq!(got, expected);
        if expected == "ok" {
            assert_eq!(std::fs::read_to_string(at("added")).unwrap(), "target add wasm32-unknown-unknown\n");
        }
    }

    /// A script that may be run at once. It is written by another process: a descriptor that this one holds open for writing
    /// may be inherited by a child that another test forks, and a file that someone has open for writing cannot be run.
    #[cfg(unix)]
    fn script(path: &Path, body: &str) -> PathBuf {
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$1\" > \"$0\" && chmod +x \"$0\""])
            .arg(path)
            .arg(body)
            .status();
        assert!(written.is_ok_and(|status| status.success()));
        path.to_owned()
    }
}
