//! From a project's sources to its component.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use witgate_guest_toolchain::{BuildError, Profile};
use witgate_guest_toolchain::{GuestBuild, GuestToolchain, Packages, ToolchainError};

use crate::tools::{MissingTool, Tools};
use crate::{Language, Project, World, bindings, core_module, project, wit};

/// How a build is done.
#[derive(Clone, Debug)]
pub struct Build {
    /// Where toolchains are.
    pub tools: Tools,
    /// Small and fast code, or soon there: of Rust alone.
    pub profile: Profile,
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum ProjectBuildError {
    /// No toolchain.
    #[error(transparent)]
    Tool(#[from] MissingTool),
    /// No Rust.
    #[error(transparent)]
    Rust(#[from] ToolchainError),
    /// Cargo failed.
    #[error(transparent)]
    Cargo(#[from] BuildError),
    /// A world that the language has no bindings for.
    #[error("there are no bindings for the world `{world}` in {language}, which makes policies")]
    NoBindings {
        /// What it is written in.
        language: Language,
        /// What it is for.
        world: &'static str,
    },
    /// No component came of a Rust build.
    #[error("`{manifest}` builds no component: it needs `crate-type = [\"cdylib\"]` under `[lib]`", manifest = .manifest.display())]
    NoComponent {
        /// The project's `Cargo.toml`.
        manifest: PathBuf,
    },
    /// A tool ran and failed.
    #[error("`{command}` failed:\n{output}")]
    Failed {
        /// What was run.
        command: String,
        /// What it said.
        output: String,
    },
    /// A tool could not be run, or a file not be read or written.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it did not work.
        #[source]
        source: io::Error,
    },
    /// The compiler's module is no plug-in.
    #[error("`{source_file}`: {reason}", source_file = .source_file.display())]
    Component {
        /// What was compiled.
        source_file: PathBuf,
        /// What does not fit.
        reason: String,
    },
}

impl Project {
    /// Builds the component and leaves it at `output`, whole or not at all. `progress` is told what takes time.
    ///
    /// # Errors
    /// When the toolchain is missing, or does not make a component of the sources; the text says what to do.
    pub fn build(&self, build: &Build, output: &Path, progress: impl Fn(&str)) -> Result<(), ProjectBuildError> {
        // Tools run in the project's folder: what they are told must mean the same there.
        let directory = std::path::absolute(&self.directory);
        let directory = directory.map_err(|source| failed("the folder cannot be resolved", source))?;
        Self { directory, ..self.clone() }.build_there(build, output, progress)
    }

    fn build_there(&self, build: &Build, output: &Path, progress: impl Fn(&str)) -> Result<(), ProjectBuildError> {
        let scratch = tempfile::tempdir().map_err(|source| failed("cannot make a folder for the build", source))?;
        let own = self.directory.join("wit");
        let wit = if own.is_dir() {
            own
        } else {
            let written = scratch.path().join("wit");
            wit::write(&written).map_err(|source| failed("cannot write the contract", source))?;
            written
        };
        let made = scratch.path().join("component.wasm");
        match self.language {
            Language::Rust => self.cargo(build, &made, progress)?,
            Language::Js if self.world == World::OutgoingStrategy => self.starlingmonkey(&build.tools, &wit, &made)?,
            Language::Js => self.quickjs(&build.tools, &wit, &made)?,
            Language::Python => self.cpython(&build.tools, &wit, &made)?,
            Language::C => self.c(&build.tools, &wit, scratch.path(), &made)?,
            Language::Go => self.go(&build.tools, &wit, scratch.path(), &made)?,
        }
        let beside = output.with_extension("wasm.new");
        fs::copy(&made, &beside)
            .and_then(|_| fs::rename(&beside, output))
            .map_err(|source| failed(&format!("cannot write `{}`", output.display()), source))
    }

    fn cargo(&self, build: &Build, made: &Path, progress: impl Fn(&str)) -> Result<(), ProjectBuildError> {
        let toolchain = GuestToolchain::find(progress)?;
        let manifest = self.directory.join("Cargo.toml");
        let built = toolchain.build(&GuestBuild {
            manifest: &manifest,
            packages: Packages::Under(&[&self.directory]),
            target_directory: &self.directory.join("target"),
            profile: build.profile,
        })?;
        let own = |guest: &&witgate_guest_toolchain::BuiltGuest| same_folder(&guest.package_directory, &self.directory);
        let guest = built.iter().find(own).ok_or(ProjectBuildError::NoComponent { manifest })?;
        fs::copy(&guest.component, made).map(drop).map_err(|source| failed("cannot copy the component", source))
    }

    fn quickjs(&self, tools: &Tools, wit: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        let mut command = Command::new(tools.componentize_qjs(&self.directory)?);
        command.arg("--wit").arg(wit).arg("--js").arg(self.source()).args(["--world", self.world.name()]);
        // Neither WASI 0.3, nor a WASI that traps: `console.log` goes to the plug-in's log.
        command.args(["--sync", "--minify", "--output"]).arg(made);
        run(command.current_dir(&self.directory))
    }

    /// With `fetch`. QuickJS's toolchain cannot link `wasi:http` beside its own `wasi:io`; this engine is ten times as large.
    fn starlingmonkey(&self, tools: &Tools, wit: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        let mut command = Command::new(tools.componentize_js(&self.directory)?);
        command.arg(self.source()).arg("--wit").arg(wit).args(["--world-name", self.world.name()]);
        command.args(["--disable", "fetch-event", "--out"]).arg(made);
        run(command.current_dir(&self.directory))
    }

    fn cpython(&self, tools: &Tools, wit: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        let mut command = Command::new(tools.componentize_py(&self.directory)?);
        command.arg("--quiet").arg("--wit-path").arg(wit).args(["--world", self.world.name(), "componentize"]);
        command.arg(project::python_module(&self.name)).arg("--python-path").arg(&self.directory);
        // What an interpreter on this machine would add to the sources is no part of the project.
        command.env_remove("VIRTUAL_ENV").env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
        run(command.arg("--output").arg(made).current_dir(&self.directory))
    }

    /// By Zig's C compiler, which brings a libc.
    fn c(&self, tools: &Tools, wit: &Path, scratch: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        self.needs_bindings()?;
        let mut command = Command::new(tools.zig(&self.directory)?);
        let own = self.directory.join("bindings");
        let bindings = if own.is_dir() {
            own
        } else {
            let written = scratch.join("bindings");
            bindings::write(self.world, &written).map_err(|source| failed("cannot write the bindings", source))?;
            written
        };
        let include = format!("-I{}", bindings.display());
        let generated = bindings.join("policy.c");
        let module = scratch.join("module.wasm");
        command.args(["cc", "--target=wasm32-wasi", "-mexec-model=reactor", "-Os", "-s"]);
        command.args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-o"]).arg(&module);
        command.arg(include).arg(self.source()).arg(generated);
        command.args(["-Wl,--no-entry", "-Wl,-z,stack-size=131072"]);
        run(command.current_dir(&self.directory))?;
        self.componentize(&module, wit, made)
    }

    /// By the Go compiler itself: a library of WASI's first preview, whose exports are those of the contract.
    fn go(&self, tools: &Tools, wit: &Path, scratch: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        self.needs_bindings()?;
        let module = scratch.join("module.wasm");
        let mut command = Command::new(tools.go(&self.directory)?);
        command.args(["build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false"]);
        // The bindings ask the runtime for memory before it has begun, by a name that the linker keeps to itself.
        command.arg("-ldflags=-s -w -checklinkname=0").arg("-o").arg(&module).arg(".");
        // What is set for other builds on this machine is no part of the project.
        command.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOWORK", "off").env_remove("GOFLAGS");
        run(command.current_dir(&self.directory))?;
        self.componentize(&module, wit, made)
    }

    fn needs_bindings(&self) -> Result<(), ProjectBuildError> {
        match self.world {
            World::Policy => Ok(()),
            World::Strategy | World::OutgoingStrategy => {
                Err(ProjectBuildError::NoBindings { language: self.language, world: self.world.name() })
            }
        }
    }

    fn componentize(&self, module: &Path, wit: &Path, made: &Path) -> Result<(), ProjectBuildError> {
        let module = fs::read(module).map_err(|source| failed("cannot read the compiler's module", source))?;
        let component = core_module::component(module, wit, self.world)
            .map_err(|reason| ProjectBuildError::Component { source_file: self.source(), reason })?;
        fs::write(made, component).map_err(|source| failed("cannot write the component", source))
    }
}

/// Runs a tool that is heard only where it fails.
fn run(command: &mut Command) -> Result<(), ProjectBuildError> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output =
        command.stdin(Stdio::null()).output().map_err(|source| failed(&format!("cannot run `{shown}`"), source))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(ProjectBuildError::Failed { command: shown, output: String::from_utf8_lossy(&said).trim().to_owned() })
}

fn same_folder(one: &Path, other: &Path) -> bool {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    resolved(one) == resolved(other)
}

fn failed(what: &str, source: io::Error) -> ProjectBuildError {
    ProjectBuildError::Io { what: what.to_owned(), source }
}
