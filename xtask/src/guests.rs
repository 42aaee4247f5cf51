//! Builds every guest, checks what each imports, and lays them out by kind.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use witgate_guest_project::imports::imports;
use witgate_guest_toolchain::{
    GuestBuild, GuestToolchain, Packages, Profile, guests_target_directory, target_directory,
};

use crate::examples;
use crate::tasks::repository;

/// `cargo xtask guests`.
pub(crate) fn build_and_show() -> anyhow::Result<()> {
    show(&build()?)
}

/// Prints a table of them.
pub(crate) fn show(guests: &[Guest]) -> anyhow::Result<()> {
    let width = guests.iter().map(|guest| guest.path().len()).max().unwrap_or_default();
    println!("{:width$}  {:>9}  imports", "component", "bytes");
    for guest in guests {
        println!("{:width$}  {:>9}  {}", guest.path(), guest.bytes, guest.imports.join(", "));
    }
    println!("{} components in {}", guests.len(), output_directory()?.display());
    Ok(())
}

/// A component in its place.
pub(crate) struct Guest {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) bytes: usize,
    pub(crate) imports: Vec<String>,
}

impl Guest {
    fn path(&self) -> String {
        format!("{}/{}.wasm", self.kind, self.name)
    }
}

/// Builds all guests into [`output_directory`].
pub(crate) fn build() -> anyhow::Result<Vec<Guest>> {
    let repository = repository();
    let toolchain = GuestToolchain::find(|step| eprintln!("{step}"))?;
    let built = toolchain.build(&GuestBuild {
        manifest: &repository.join("guests/Cargo.toml"),
        packages: Packages::All,
        target_directory: &guests_target_directory(&env::current_exe()?, &repository),
        profile: Profile::Release,
    })?;
    let output = output_directory()?;
    let mut guests = Vec::new();
    for component in built {
        let kind = kind(&component.package_directory, &repository.join("guests"))?;
        let bytes = fs::read(&component.component)
            .with_context(|| format!("cannot read `{}`", component.component.display()))?;
        let imports = imports(&bytes).with_context(|| format!("`{}` is not a component", component.name))?;
        let goes_out = kind != "policies";
        let allowed =
            |import: &str| ALLOWED_IMPORTS.contains(&import) || (goes_out && OUTBOUND_IMPORTS.contains(&import));
        if let Some(import) = imports.iter().find(|import| !allowed(import)) {
            bail!("`{}` imports `{import}`; its world names only {}", component.name, ALLOWED_IMPORTS.join(" and "));
        }
        let directory = output.join(&kind);
        fs::create_dir_all(&directory).with_context(|| format!("cannot create `{}`", directory.display()))?;
        replace(&directory.join(format!("{}.wasm", component.name)), &bytes)?;
        guests.push(Guest { kind, name: component.name, bytes: bytes.len(), imports });
    }
    remove_stale(&output, &guests)?;
    guests.sort_by_key(Guest::path);
    Ok(guests)
}

/// `target/guests`.
pub(crate) fn output_directory() -> anyhow::Result<PathBuf> {
    Ok(target_directory(&env::current_exe()?, &repository()).join("guests"))
}

/// The folder of `guests` in which the package lies: `policies`, `strategies`, `examples`, `fixtures`.
fn kind(package: &Path, guests: &Path) -> anyhow::Result<String> {
    let inside = package.strip_prefix(guests).with_context(|| format!("`{}` is no guest", package.display()))?;
    let first = inside.components().next().context("a guest lies in a folder that says its kind")?;
    Ok(first.as_os_str().to_string_lossy().into_owned())
}

/// Written beside it and moved: a gate may be watching this folder. An equal file is left as it is.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|known| known == bytes) {
        return Ok(());
    }
    let beside = path.with_extension("new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

/// Guests that were renamed or removed must not go on being loaded. Those of other languages are [`crate::examples`]'.
fn remove_stale(output: &Path, guests: &[Guest]) -> anyhow::Result<()> {
    for kind in KINDS {
        let Ok(entries) = fs::read_dir(output.join(kind)) else { continue };
        for entry in entries {
            let path = entry?.path();
            let stale = path.extension().is_some_and(|extension| extension == "wasm")
                && !examples::is_one(&path)
                && !guests.iter().any(|guest| output.join(guest.path()) == path);
            if stale {
                fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
            }
        }
    }
    Ok(())
}

const KINDS: [&str; 4] = ["policies", "strategies", "examples", "fixtures"];

/// What the contract's worlds import, and the interface whose types they use.
const ALLOWED_IMPORTS: [&str; 4] =
    ["witgate:auth/log@0.1.0", "witgate:auth/secrets@0.1.0", "witgate:auth/types@0.1.0", "witgate:auth/types@0.2.0"];

/// What the SDK's `http` and `clock` add, to those that use them.
const OUTBOUND_IMPORTS: [&str; 7] = [
    "wasi:clocks/monotonic-clock@0.2.12",
    "wasi:clocks/wall-clock@0.2.12",
    "wasi:http/outgoing-handler@0.2.12",
    "wasi:http/types@0.2.12",
    "wasi:io/error@0.2.12",
    "wasi:io/poll@0.2.12",
    "wasi:io/streams@0.2.12",
];
