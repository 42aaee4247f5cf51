//! `witgate plugin build`: from a project to its component.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use witgate_guest_project::Project;
use witgate_guest_project::build::{Build, BuildError, Profile, ProjectBuildError};
use witgate_guest_project::imports::imports;
use witgate_guest_project::tools::Tools;

/// Build a project into NAME.wasm, with the toolchain of its language
#[derive(Debug, Args)]
#[command(after_long_help = NOTES)]
pub(crate) struct BuildArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
}

/// Builds, and says what came of it.
///
/// # Errors
/// When a tool is missing, or the sources do not compile; the text says what to do.
pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let project = Project::read(&args.directory)?;
    let began = Instant::now();
    let component = component(&project, Profile::Release)?;
    let path = project.component();
    let path = path.strip_prefix(".").unwrap_or(&path);
    println!("built {} in {:.1} s: {}", path.display(), began.elapsed().as_secs_f64(), summary(path, &component)?);
    Ok(ExitCode::SUCCESS)
}

/// The project's component, built and left in its place.
///
/// # Errors
/// As [`run`]'s.
pub(super) fn component(project: &Project, profile: Profile) -> anyhow::Result<Vec<u8>> {
    let path = project.component();
    let built = project.build(&Build { tools: Tools::default(), profile }, &path, |step| eprintln!("{step}"));
    match built {
        Err(ProjectBuildError::Cargo(BuildError::Failed { .. })) => bail!("it does not compile; cargo says above why"),
        other => other?,
    }
    std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))
}

/// Its size and what it asks of the gate.
///
/// # Errors
/// When it is no component.
pub(super) fn summary(path: &Path, component: &[u8]) -> anyhow::Result<String> {
    let imports = imports(component).with_context(|| format!("`{}`", path.display()))?;
    let (wasi, own): (Vec<_>, Vec<_>) = imports.into_iter().partition(|import| import.starts_with("wasi:"));
    let goes_out = wasi.iter().any(|import| import.starts_with("wasi:http/"));
    let wasi = match (wasi.is_empty(), goes_out) {
        (true, _) => None,
        (false, false) => Some("WASI".to_owned()),
        (false, true) => Some("WASI with wasi:http".to_owned()),
    };
    let asks: Vec<_> = own.into_iter().chain(wasi).collect();
    let asks = if asks.is_empty() { "nothing".to_owned() } else { asks.join(", ") };
    Ok(format!("{} KiB, imports {asks}", component.len().div_ceil(1024)))
}

const NOTES: &str = "\
Examples:
  witgate plugin build                 the project in this folder
  witgate plugin build no-shells       another

A project is a folder with a `witgate-plugin.yaml`; `witgate plugin new` makes one. The toolchain is looked for in the project
(node_modules, .venv) and on the PATH; what is missing is named, with the command that gets it.

A Rust project is built in its `target` folder, for wasm32-unknown-unknown, which rustup is asked to add where it is missing.

Exit codes: 0 built, 1 a tool is missing or the sources do not compile, 2 the command line is not understood.";
