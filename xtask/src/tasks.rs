//! The tasks that are a run of cargo or two.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use witgate_guest_project::Language;
use witgate_guest_toolchain::{guests_target_directory, target_directory};

use crate::{examples, guests, instructions};

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    // Cargo sets it for `cargo xtask`; the path of the compiled source serves an executable that is started by hand.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map(Path::to_owned).unwrap_or(manifest)
}

/// `cargo xtask test`.
pub(crate) fn test(cargo_test: &[String]) -> anyhow::Result<()> {
    guests::build_and_show()?;
    // A debug build compiles CPython for minutes; its tests say how to turn them on.
    let python = env::var_os("WITGATE_TEST_LARGE").map(|_| Language::Python);
    let languages = [Some(Language::Js), python, Some(Language::C), Some(Language::Go)];
    examples::build(&languages.into_iter().flatten().collect::<Vec<_>>())?;
    run(cargo_on_guests("test")?.args(["--workspace", "--lib"]))?;
    run(cargo_on_guests("test")?.args(["--package", "witgate-sdk", "--doc"]))?;
    // The integration tests start `target/debug/witgate`. Built with everything else, it shares their dependencies'
    // features, so that nothing is compiled twice.
    build()?;
    let mut workspace = cargo("test");
    if cargo_test.is_empty() {
        workspace.arg("--workspace");
    }
    run(workspace.args(cargo_test))?;
    if !cargo_test.is_empty() {
        return Ok(());
    }
    run(&mut cargo_on_kube_rs("test")?)?;
    instructions::check(false)
}

/// All that the tests need of the workspace.
pub(crate) fn build() -> anyhow::Result<()> {
    run(cargo("build").args(["--workspace", "--all-targets"]))
}

/// `cargo xtask demo`.
pub(crate) fn demo(words: &[String]) -> anyhow::Result<()> {
    guests::build()?;
    let policies = guests::output_directory()?.join("policies");
    let mut demo = cargo("run");
    demo.args(["--package", "witgate", "--", "demo", "--policies"]).arg(policies).args(words);
    run(&mut demo)
}

/// `cargo xtask bench calls`.
pub(crate) fn bench_calls(folders: &[PathBuf]) -> anyhow::Result<()> {
    guests::build()?;
    examples::build(&examples::LANGUAGES)?;
    let policies = guests::output_directory()?.join("policies");
    let examples = guests::output_directory()?.join("examples");
    // Together with the binary, whose dependencies it shares: they are compiled once.
    let packages = ["--package", "witgate", "--package", "witgate-bench", "--bin", "witgate", "--bin", "witgate-bench"];
    run(cargo("build").arg("--release").args(packages))?;
    let executable = target_directory(&env::current_exe()?, &repository()).join("release/witgate-bench");
    run(Command::new(executable).arg(policies).arg(examples).args(folders))
}

/// `cargo xtask bench peers`.
pub(crate) fn bench_peers(words: &[String]) -> anyhow::Result<()> {
    guests::build()?;
    run(cargo("build").args(["--release", "--package", "witgate", "--package", "witgate-bench", "--bin", "witgate"]))?;
    // The harness only starts and reads: as the tests are built, which has compiled all of it before.
    build()?;
    let target = target_directory(&env::current_exe()?, &repository());
    run(Command::new(target.join("debug/examples/peers"))
        .env("WITGATE_BIN", target.join("release/witgate"))
        .args(words))
}

/// `cargo xtask contract`.
pub(crate) fn contract() -> anyhow::Result<()> {
    // As the tests are built: what reads WIT is compiled for them anyway.
    build()?;
    let target = target_directory(&env::current_exe()?, &repository());
    run(&mut Command::new(target.join("debug/examples/contract")))
}

/// `cargo xtask fmt`.
pub(crate) fn fmt() -> anyhow::Result<()> {
    run(cargo("fmt").args(["--all", "--check"]))?;
    run(cargo("fmt").current_dir(repository().join("guests")).args(["--all", "--check"]))?;
    run(cargo("fmt").current_dir(repository().join("tests/kube-rs")).arg("--check"))
}

/// `cargo xtask clippy`.
pub(crate) fn clippy() -> anyhow::Result<()> {
    let lints = ["--", "-D", "warnings"];
    run(cargo("clippy").args(["--workspace", "--all-targets"]).args(lints))?;
    run(cargo_on_guests("clippy")?.args(["--workspace", "--all-targets"]).args(lints))
}

/// `cargo xtask doc`.
pub(crate) fn doc() -> anyhow::Result<()> {
    run(cargo("doc").args(["--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    let sdk = ["--package", "witgate-sdk", "--no-deps"];
    run(cargo_on_guests("doc")?.args(sdk).env("RUSTDOCFLAGS", "-D warnings"))
}

/// `cargo xtask ci`.
pub(crate) fn ci() -> anyhow::Result<()> {
    fmt()?;
    clippy()?;
    doc()?;
    test(&[])
}

fn cargo(task: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository()).arg(task);
    command
}

/// Cargo on the guests' workspace, for this machine: their rules are tested without WebAssembly.
fn cargo_on_guests(task: &str) -> anyhow::Result<Command> {
    let repository = repository();
    let mut command = cargo(task);
    command.arg("--manifest-path").arg(repository.join("guests/Cargo.toml"));
    command.arg("--target-dir").arg(guests_target_directory(&env::current_exe()?, &repository));
    Ok(command)
}

/// Cargo on the tests with kube-rs. They start the gate that was built before, so their target folder is its.
fn cargo_on_kube_rs(task: &str) -> anyhow::Result<Command> {
    let repository = repository();
    let of_guests = guests_target_directory(&env::current_exe()?, &repository);
    let target = of_guests.parent().context("the guests' target folder stands in the target folder")?;
    let mut command = cargo(task);
    command.arg("--manifest-path").arg(repository.join("tests/kube-rs/Cargo.toml"));
    command.arg("--target-dir").arg(target);
    Ok(command)
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let shown = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed: {status}");
    }
    Ok(())
}
