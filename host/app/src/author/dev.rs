//! `witgate plugin dev`: save, and the gate that runs decides by what was saved.
//!
//! Each round is: build → swap component and sidecar into the gate's folder → wait until the gate enforces them → ask the cases, and
//! show which came to something else. A build that fails, or a gate that refuses, leaves what serves as it is; the next save is another try.

mod gate;
mod sources;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use witgate_core::Digest;
use witgate_guest_project::build::Profile;
use witgate_guest_project::{PluginKind, Project};

use super::build;
use super::plugin_file::{Workshop, WorkshopOptions, runtime};
use super::test::{SuiteOutcome, cases_of};
use crate::admin_client::AdminOptions;
use sources::Sources;

/// At every save: build, swap the plug-in into a running gate, and show which cases changed
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct DevArgs {
    /// The project's folder
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// The plug-in folder of a gate that runs (its `plugins.directory`); without it, nothing is swapped
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// One round, and end: 1 where it does not build, the gate refuses it or a case fails
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

/// Watches and builds until it is interrupted.
///
/// # Errors
/// When the project or the gate's folder is not there, or the project can no longer be watched.
pub(crate) fn run(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let project = Project::read(&args.directory)?;
    if let Some(into) = args.into.as_ref().filter(|into| !into.is_dir()) {
        bail!("--into: `{}` is no folder; name the one that the gate watches, its `plugins.directory`", into.display());
    }
    let mut sources = Sources::watch(&project.directory)?;
    let mut bench = Bench { project, args, runtime: runtime()?, workshop: args.workshop.open()?, verdicts: None };
    let mut saved = None;
    loop {
        let good = bench.round(saved).unwrap_or_else(|error| {
            println!("  failed      {error:#}");
            if args.into.is_some() {
                println!("              what the gate enforced before goes on");
            }
            false
        });
        if args.once {
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        println!("\nwaiting for a save in {} (Ctrl-C ends)", sources.directory().display());
        let change = sources.next()?;
        println!("\n{}", change.file.display());
        saved = Some(change.at);
    }
}

/// What one round needs, and what it leaves for the next.
struct Bench<'a> {
    project: Project,
    args: &'a DevArgs,
    runtime: tokio::runtime::Runtime,
    workshop: Workshop,
    /// What each case came to, the last time that they were asked.
    verdicts: Option<Verdicts>,
}

/// What a gate's folder got.
struct Swapped {
    digest: Digest,
    /// Whether anything is another than before.
    is_new: bool,
}

impl Bench<'_> {
    /// One round; whether all of it is good.
    fn round(&mut self, saved: Option<Instant>) -> anyhow::Result<bool> {
        let began = Instant::now();
        let component = build::component(&self.project, Profile::Dev)?;
        let path = self.project.component();
        step("built", began.elapsed(), &build::summary(&path, &component)?);
        if let Some(into) = &self.args.into {
            let began = Instant::now();
            let before = self.runtime.block_on(gate::last_reload(&self.args.admin))?;
            let swapped = swap(&self.project, &component, into)?;
            let name = &self.project.name;
            let enforced = gate::enforced(&self.args.admin, name, &swapped.digest, before, swapped.is_new);
            let generation = self.runtime.block_on(enforced)?;
            let since = saved.map(|saved| format!(", {} after the save", milliseconds(saved.elapsed())));
            let text = format!("by generation {generation} of the gate{}", since.unwrap_or_default());
            step("enforced", began.elapsed(), &text);
        }
        match self.project.world.kind() {
            PluginKind::Policy => self.test(),
            PluginKind::Strategy => Ok(true),
        }
    }

    fn test(&mut self) -> anyhow::Result<bool> {
        let began = Instant::now();
        let suites = self.runtime.block_on(cases_of(&self.project.directory, &self.workshop))?;
        self.workshop.let_go();
        let verdicts = verdicts(&suites);
        let failed = suites.iter().flat_map(|suite| &suite.outcomes).filter(|outcome| outcome.failure.is_some());
        let errors = suites.iter().filter_map(|suite| suite.error.as_ref()).collect::<Vec<_>>();
        let failures = failed.clone().count();
        let text = format!("{} passed, {failures} failed", verdicts.len().saturating_sub(failures));
        step("cases", began.elapsed(), if suites.is_empty() { "there is no *.test.yaml" } else { &text });
        for outcome in failed {
            println!("              FAILED  {}: {}", outcome.name, outcome.verdict);
        }
        errors.iter().for_each(|error| println!("              ERROR   {error}"));
        if let Some(before) = &self.verdicts {
            let changes = changes(before, &verdicts);
            println!("  changed     {} of {} cases", changes.len(), verdicts.len());
            changes.iter().for_each(|change| println!("              {change}"));
        }
        let good = failures == 0 && errors.is_empty();
        // Where none could be asked, the next round is compared with the one before.
        if errors.is_empty() {
            self.verdicts = Some(verdicts);
        }
        Ok(good)
    }
}

/// What each case came to, by file and name.
type Verdicts = BTreeMap<(String, String), String>;

fn verdicts(suites: &[SuiteOutcome]) -> Verdicts {
    let of_suite = |suite: &SuiteOutcome| {
        let outcomes = suite.outcomes.iter();
        let named = outcomes.map(|outcome| ((suite.name.clone(), outcome.name.clone()), outcome.verdict.clone()));
        named.collect::<Vec<_>>()
    };
    suites.iter().flat_map(of_suite).collect()
}

/// What cases come to now and did not before. A new case is no change.
fn changes(before: &Verdicts, now: &Verdicts) -> Vec<String> {
    let changed = now.iter().filter_map(|(case, now)| {
        let before = before.get(case)?;
        (before != now).then(|| format!("{}: {before} → {now}", case.1))
    });
    changed.collect()
}

/// Puts the plug-in into the gate's folder, sidecar first: a component that is there has its settings.
fn swap(project: &Project, component: &[u8], into: &Path) -> anyhow::Result<Swapped> {
    let name = &project.name;
    let sidecar = project.directory.join(format!("{name}.yaml"));
    let mut is_new = false;
    if sidecar.is_file() {
        let text = fs::read(&sidecar).with_context(|| format!("cannot read `{}`", sidecar.display()))?;
        is_new |= replace(&into.join(format!("{name}.yaml")), &text)?;
    }
    is_new |= replace(&into.join(format!("{name}.wasm")), component)?;
    Ok(Swapped { digest: Digest::of(component), is_new })
}

/// Writes beside it and moves, so that a gate never reads half a file; whether it was another. An equal one is left alone.
fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<bool> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(false);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, bytes)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("cannot write `{}`", path.display()))?;
    Ok(true)
}

fn step(name: &str, took: Duration, text: &str) {
    println!("  {name:<9} {:>8}  {text}", milliseconds(took));
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

const EXAMPLES: &str = "\
Examples:
  witgate demo                                    in one terminal
  witgate plugin dev --into ../demo/policies      in another, in the project's folder
  witgate plugin dev                              without a gate: builds and asks the cases

The gate's admin listener is asked what it enforces: --admin, where that is not 127.0.0.1:7008.

Rust is built with cargo's `dev` profile here, which is sooner there; `witgate plugin build` makes what to deliver.

Exit codes: 0 ended; with --once, 1 where it does not build, is refused, or a case fails; 2 the command line is not understood.";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only what came to something else is shown, and a new case is no change. Method: two rounds.
    #[test]
    fn changes_are_what_came_to_something_else() {
        let verdicts = |cases: &[(&str, &str)]| -> Verdicts {
            cases
                .iter()
                .map(|(case, came)| (("p.test.yaml".to_owned(), (*case).to_owned()), (*came).to_owned()))
                .collect()
        };
        let before = verdicts(&[("a", "deny: late"), ("b", "no opinion")]);
        let now = verdicts(&[("a", "allow"), ("b", "no opinion"), ("c", "allow")]);
        assert_eq!(changes(&before, &now), ["a: deny: late → allow"]);
        assert_eq!(changes(&now, &before), ["a: allow → deny: late"]);
    }

    /// Goal: an equal file is not touched, since a gate would look at it again. Method: its time of change.
    #[test]
    fn an_equal_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.wasm");
        assert!(replace(&path, b"one").unwrap());
        let changed = || fs::metadata(&path).unwrap().modified().unwrap();
        let before = changed();
        assert!(!replace(&path, b"one").unwrap());
        assert_eq!(changed(), before);
        assert!(replace(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
