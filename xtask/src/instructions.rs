//! `cargo xtask bench instructions`: what a request costs in instructions, beside what it cost when the baseline was kept.
//!
//! Counted by callgrind, so the figure is the same on a busy machine and on an idle one. As the tests are built, without
//! optimisation of our own crates: a release build would take longer than all tests, and a loss shows in both.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, bail, ensure};
use witgate_guest_toolchain::target_directory;

use crate::guests;
use crate::tasks::{build, repository};

/// Compares with the baseline, or writes it anew.
///
/// # Errors
/// When a way costs noticeably more than the baseline says, or nothing can be counted although valgrind is there.
pub(crate) fn run(write: bool) -> anyhow::Result<()> {
    guests::build()?;
    build()?;
    check(write)
}

/// The same, of what is built already.
pub(crate) fn check(write: bool) -> anyhow::Result<()> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: instructions are counted by valgrind, which is not here (Debian: apt-get install valgrind)");
        return Ok(());
    }
    let kept = Baseline::read(&baseline_path())?;
    let of = toolchain()?;
    if !write && kept.of != of {
        println!(
            "skipped: the baseline is of {}, this is {of}; `cargo xtask bench instructions --write` keeps a new one",
            kept.of
        );
        return Ok(());
    }
    let target = target_directory(&env::current_exe()?, &repository());
    let cache = target.join("bench-cache");
    let mut counted = BTreeMap::new();
    for way in WAYS {
        counted.insert(way.to_owned(), a_request(way, &target, &cache)?);
    }
    if write {
        Baseline { of, ways: counted }.write(&baseline_path())?;
        println!("kept in {BASELINE}");
        return Ok(());
    }
    let mut losses = Vec::new();
    for (way, now) in counted {
        let Some(&then) = kept.ways.get(&way) else { bail!("{BASELINE} has no `{way}`; write it anew") };
        let ratio = now as f64 / then as f64;
        println!("{way:<15} {now:>9} instructions a request, {ratio:.3} of the baseline's {then}");
        if ratio > LOSS {
            losses.push(way.clone());
        } else if ratio < 2.0 - LOSS {
            println!("                 that is less: `cargo xtask bench instructions --write` keeps it");
        }
    }
    let why = "a request costs noticeably more than the baseline says; where that is meant, `cargo xtask bench instructions --write`";
    ensure!(losses.is_empty(), "{}: {why}", losses.join(", "));
    Ok(())
}

/// What one more request costs, from two runs.
fn a_request(way: &str, target: &Path, cache: &Path) -> anyhow::Result<u64> {
    let few = count(way, FEW, target, cache)?;
    // The first run may have compiled the policy: it is in the cache now.
    let few = if way == "policy" { count(way, FEW, target, cache)?.min(few) } else { few };
    let many = count(way, MANY, target, cache)?;
    Ok(many.saturating_sub(few) / (MANY - FEW))
}

fn count(way: &str, requests: u64, target: &Path, cache: &Path) -> anyhow::Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--smc-check=all-non-file", "--callgrind-out-file=/dev/null"]);
    command.arg(target.join("debug/hot-path")).arg(way).arg(requests.to_string());
    if way == "policy" {
        command.arg(guests::output_directory()?.join("policies/allow-all.wasm")).arg(cache);
    }
    let output = command.output().context("cannot run valgrind")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{way}` under valgrind: {}\n{told}", output.status);
    let collected = told.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim().parse());
    collected.with_context(|| format!("valgrind counted nothing:\n{told}"))?.context("valgrind's count is a number")
}

/// What was kept.
struct Baseline {
    of: String,
    ways: BTreeMap<String, u64>,
}

impl Baseline {
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let (mut of, mut ways) = (String::new(), BTreeMap::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(": ") {
                Some(("of", toolchain)) => toolchain.clone_into(&mut of),
                Some((way, count)) => {
                    let count = count.parse().with_context(|| format!("{}: `{line}` has no number", path.display()))?;
                    ways.insert(way.to_owned(), count);
                }
                None => bail!("{}: `{line}` is no `WAY: INSTRUCTIONS`", path.display()),
            }
        }
        Ok(Self { of, ways })
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = String::from(HEAD);
        writeln!(text, "of: {}", self.of)?;
        for (way, count) in &self.ways {
            writeln!(text, "{way}: {count}")?;
        }
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The compiler and the machine that the counts are of: another one's code is another code.
fn toolchain() -> anyhow::Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).current_dir(repository()).arg("--version").output().context("cannot run rustc")?;
    Ok(format!("{}, {}", String::from_utf8_lossy(&output.stdout).trim(), env::consts::ARCH))
}

fn baseline_path() -> PathBuf {
    repository().join(BASELINE)
}

const BASELINE: &str = "host/bench/instructions.txt";
const HEAD: &str = "# Instructions of one request in a debug build, by callgrind; written by `cargo xtask bench instructions --write`.\n";
const WAYS: [&str; 3] = ["permission-off", "conditional", "policy"];
const FEW: u64 = 100;
const MANY: u64 = 300;
/// Two runs of one binary differ by less than a thousandth; what is built anew, by a little more.
const LOSS: f64 = 1.05;
