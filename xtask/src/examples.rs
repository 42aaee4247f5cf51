//! Builds the examples in other languages, with toolchains of pinned versions that are kept outside the repository.
//!
//! A toolchain is fetched once, by its language's own package manager, into `WITGATE_TEST_CACHE`, or `witgate-tests` in
//! `XDG_CACHE_HOME` or `~/.cache`. What cannot be had is said, and the examples that need it are left out.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use witgate_guest_project::build::Build;
use witgate_guest_project::imports::imports;
use witgate_guest_project::tools::{GO_PACKAGE, NPM_HTTP_PACKAGE, NPM_PACKAGE, PYTHON_PACKAGE, Tools, ZIG_PACKAGE};
use witgate_guest_project::{Language, Project};
use witgate_guest_toolchain::Profile;

use crate::guests::{self, Guest};
use crate::tasks::repository;

/// The languages that have examples, but Rust, which is [`guests`]'.
pub(crate) const LANGUAGES: [Language; 4] = [Language::Js, Language::Python, Language::C, Language::Go];

/// `cargo xtask examples`.
pub(crate) fn build_and_show() -> anyhow::Result<()> {
    guests::show(&build(&LANGUAGES)?)
}

/// Builds the examples into `target/guests/examples/NAME-LANGUAGE.wasm`; those whose sources are as they were stay.
pub(crate) fn build(languages: &[Language]) -> anyhow::Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for &language in languages {
        let folder = repository().join("guests/examples").join(language.to_string());
        let tools = match toolchain(language) {
            Ok(tools) => tools,
            Err(error) => {
                println!("skipped: the examples in {language}: {error:#}");
                continue;
            }
        };
        for project in projects(&folder)? {
            guests.push(build_one(&project, &tools)?);
        }
    }
    Ok(guests)
}

/// Whether this is the component of an example in another language than Rust.
pub(crate) fn is_one(component: &Path) -> bool {
    let name = component.file_stem().unwrap_or_default().to_string_lossy();
    let in_folder = component.parent().is_some_and(|folder| folder.ends_with("examples"));
    in_folder && ["-js", "-python", "-c", "-go"].iter().any(|language| name.ends_with(language))
}

fn build_one(project: &Project, tools: &Tools) -> anyhow::Result<Guest> {
    let name = format!("{}-{}", project.name, project.language);
    let folder = guests::output_directory()?.join("examples");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let component = folder.join(format!("{name}.wasm"));
    if !is_fresh(&component, &project.directory) {
        println!("building {name}");
        let build = Build { tools: tools.clone(), profile: Profile::Release };
        project
            .build(&build, &component, |step| eprintln!("{step}"))
            .with_context(|| format!("cannot build `{name}`"))?;
    }
    let bytes = fs::read(&component).with_context(|| format!("cannot read `{}`", component.display()))?;
    let imports = imports(&bytes).with_context(|| format!("`{name}` is not a component"))?;
    // WASI's are many, and of the toolchain: the gate has an inert one.
    let (wasi, own): (Vec<_>, Vec<_>) = imports.into_iter().partition(|import| import.starts_with("wasi:"));
    let outbound = wasi.iter().any(|import| import.starts_with("wasi:http/"));
    let wasi = match (wasi.len(), outbound) {
        (0, _) => None,
        (_, false) => Some("WASI".to_owned()),
        (_, true) => Some("WASI with wasi:http".to_owned()),
    };
    Ok(Guest { kind: "examples".to_owned(), name, bytes: bytes.len(), imports: own.into_iter().chain(wasi).collect() })
}

/// Whether nothing of the project, of this tool or of the contract is newer than the component.
fn is_fresh(component: &Path, project: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let Some(built) = changed(component) else { return false };
    let sources = fs::read_dir(project).into_iter().flatten().flatten().map(|entry| entry.path());
    let tool = env::current_exe().ok();
    sources.chain(tool).all(|path| changed(&path).is_some_and(|changed| changed <= built))
}

fn projects(folder: &Path) -> anyhow::Result<Vec<Project>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut folders: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    folders.retain(|path| path.is_dir());
    folders.sort();
    folders.iter().map(|folder| Ok(Project::read(folder)?)).collect()
}

/// The language's toolchain, fetched where it is not in the cache.
fn toolchain(language: Language) -> anyhow::Result<Tools> {
    let folder = match language {
        Language::Rust => bail!("cargo builds them"),
        Language::Js => return Ok(Tools::in_folders(vec![node(NPM_PACKAGE)?, node(NPM_HTTP_PACKAGE)?])),
        Language::Python => python(PYTHON_PACKAGE)?,
        Language::C => python(ZIG_PACKAGE)?,
        Language::Go => python(GO_PACKAGE)?,
    };
    Ok(Tools::in_folders(vec![folder]))
}

fn node(package: &str) -> anyhow::Result<PathBuf> {
    fetched(package, "node_modules/.bin", |folder| {
        let install = ["install", "--no-audit", "--no-fund", "--silent", "--fetch-retries=1", "--fetch-timeout=60000"];
        run(Command::new("npm").args(install).arg("--prefix").arg(folder).arg(package))
    })
}

fn python(package: &str) -> anyhow::Result<PathBuf> {
    fetched(package, "bin", |folder| {
        run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        run(Command::new(folder.join("bin/python3")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--retries",
            "1",
            package,
        ]))
    })
}

/// The folder of a package's executables in the cache.
fn fetched(
    package: &str,
    executables: &str,
    fetch: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = match (variable("WITGATE_TEST_CACHE"), variable("XDG_CACHE_HOME"), variable("HOME")) {
        (Some(cache), _, _) => cache,
        (None, Some(caches), _) => caches.join("witgate-tests"),
        (None, None, Some(home)) => home.join(".cache/witgate-tests"),
        (None, None, None) => bail!("none of WITGATE_TEST_CACHE, XDG_CACHE_HOME and HOME is set"),
    };
    let folder = cache.join(package.trim_start_matches('@').replace("==", "-").replace(['@', '/'], "-"));
    // A Python environment knows where it lies, so it is not made aside and moved; the mark says that it is whole.
    let whole = folder.join("whole");
    if !whole.is_file() {
        println!("fetching {package} into {}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        fetch(&folder)?;
        fs::write(&whole, "").with_context(|| format!("cannot write `{}`", whole.display()))?;
    }
    Ok(folder.join(executables))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{program}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    bail!("`{program}` failed: {}", said.trim().lines().last().unwrap_or("it does not say why"))
}
