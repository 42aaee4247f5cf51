//! `witgate plugin test`: YAML cases against compiled policies.

mod coverage;
mod junit;
mod suite;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use witgate_core::{DenyReason, Verdict};

use super::judgement::{Judgement, judge};
use super::plugin_file::{PluginFile, Workshop, WorkshopOptions, runtime};
use super::policy_set::PluginSet;
use coverage::Coverage;
use suite::{Case, Expected, Suite};

/// Run test cases against compiled policies
#[derive(Debug, Default, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct TestArgs {
    /// Files of cases, or folders in which every *.test.yaml counts
    #[arg(value_name = "FILE|DIR", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Test this component instead of the only one that a file of cases names; its settings there still hold
    #[arg(long, value_name = "FILE.wasm")]
    policy: Option<PathBuf>,
    /// Only the cases whose name, or whose file's name, holds this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write a report for CI
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Show which cells of permission × action class have cases
    #[arg(long)]
    coverage: bool,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

/// A case that was asked.
pub(crate) struct Outcome {
    /// The case's name.
    pub(super) name: String,
    took: Duration,
    /// What the policies came to, in a line.
    pub(super) verdict: String,
    /// Why it failed, for people.
    pub(super) failure: Option<String>,
}

/// A file of cases that was run.
pub(crate) struct SuiteOutcome {
    /// The file.
    pub(super) name: String,
    /// Its cases', in their order.
    pub(super) outcomes: Vec<Outcome>,
    /// Why none of it could be asked.
    pub(super) error: Option<String>,
}

/// Runs the cases: 0 where all pass, 1 where one fails, a file is wrong or there are none.
///
/// # Errors
/// When the engine does not start, or a report cannot be written.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let files = find(&args.paths)?;
    let workshop = args.workshop.open()?;
    let mut coverage = Coverage::default();
    let began = Instant::now();
    let suites = runtime()?.block_on(async {
        let mut suites = Vec::new();
        for file in &files {
            let suite = run_file(file, args, &workshop, &mut coverage).await;
            print_suite(&suite);
            suites.push(suite);
        }
        suites
    });
    let outcomes = suites.iter().flat_map(|suite| &suite.outcomes);
    let failed = outcomes.clone().filter(|outcome| outcome.failure.is_some()).count();
    let passed = outcomes.count() - failed;
    let wrong = suites.iter().filter(|suite| suite.error.is_some()).count();
    if args.coverage {
        println!("{coverage}");
    }
    if let Some(path) = &args.junit {
        junit::write(path, &suites)?;
    }
    let wrong_files = if wrong > 0 { format!(", {wrong} of the files could not be run") } else { String::new() };
    println!("{passed} passed, {failed} failed{wrong_files} ({:.1} s)", began.elapsed().as_secs_f64());
    if passed + failed + wrong == 0 {
        eprintln!(
            "error: no case was run{}",
            args.filter.as_ref().map(|text| format!(": none holds `{text}`")).unwrap_or_default()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(if failed + wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every case of a folder and tells nobody; nothing where it has no file of cases.
///
/// # Errors
/// When the folder cannot be read.
pub(super) async fn cases_of(folder: &Path, workshop: &Workshop) -> anyhow::Result<Vec<SuiteOutcome>> {
    let (mut files, mut suites) = (Vec::new(), Vec::new());
    find_in(folder, 0, &mut files)?;
    for file in &files {
        suites.push(run_file(file, &TestArgs::default(), workshop, &mut Coverage::default()).await);
    }
    Ok(suites)
}

async fn run_file(path: &Path, args: &TestArgs, workshop: &Workshop, coverage: &mut Coverage) -> SuiteOutcome {
    let name = path.display().to_string();
    match try_file(path, args, workshop, coverage).await {
        Ok(outcomes) => SuiteOutcome { name, outcomes, error: None },
        Err(error) => SuiteOutcome { name, outcomes: Vec::new(), error: Some(format!("{error:#}")) },
    }
}

async fn try_file(
    path: &Path,
    args: &TestArgs,
    workshop: &Workshop,
    coverage: &mut Coverage,
) -> anyhow::Result<Vec<Outcome>> {
    let text = read(path)?;
    let mut suite = Suite::parse(path, &text)?;
    if let Some(filter) = &args.filter {
        let whole = path.file_name().is_some_and(|name| name.to_string_lossy().contains(filter.as_str()));
        suite.cases.retain(|case| whole || case.name.contains(filter.as_str()));
    }
    if suite.cases.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(file) = &args.policy {
        let [only] = suite.policies.as_mut_slice() else {
            bail!("{}: names {} policies, and --policy takes the place of one", path.display(), suite.policies.len());
        };
        only.file.clone_from(file);
    }
    let mut set = PluginSet::default();
    for policy in suite.policies {
        let mut file = PluginFile::read(&policy.file).with_context(|| {
            format!("{}: its policy is not there; build it, or name it under `policies`", suite.path.display())
        })?;
        if let Some(settings) = policy.settings {
            file = file.with_settings(settings)?;
        }
        set.add(file.load(workshop).await?);
    }
    if let Some((name, _)) = set.strategies.first() {
        bail!(
            "{}: `{name}` is a strategy, and cases are about policies: try `witgate plugin run`",
            suite.path.display()
        );
    }
    let mut outcomes = Vec::new();
    for case in suite.cases {
        let began = Instant::now();
        let judgement = judge(&set.policies, &case.question).await;
        let took = began.elapsed();
        judgement.verdicts(&case.question.query).for_each(|(query, verdict)| coverage.count(query, verdict));
        let failure = case.fault(&judgement).map(|fault| case.report(&fault, &judgement, &suite.path));
        outcomes.push(Outcome { verdict: brief(judgement.verdict()), name: case.name, took, failure });
    }
    Ok(outcomes)
}

impl Case {
    /// What came of it that must not; none where it passes.
    fn fault(&self, judgement: &Judgement) -> Option<String> {
        // A bug must not pass as a denial.
        if let Some((policy, text)) = judgement.failure() {
            return Some(format!("policy `{policy}` gave no answer: {text}"));
        }
        let wrong = || Some(judgement.outcome());
        match (self.expected, judgement.verdict()) {
            (Expected::Allow, Verdict::Allow { .. }) | (Expected::NoOpinion, Verdict::Deny(DenyReason::Silence)) => {
                None
            }
            (Expected::Deny, Verdict::Deny(reason)) => match &self.reason {
                Some(expected) if !reason.to_string().contains(expected.as_str()) => wrong(),
                Some(_) | None => None,
            },
            (Expected::Allow, Verdict::Deny(_))
            | (Expected::Deny, Verdict::Allow { .. })
            | (Expected::NoOpinion, Verdict::Allow { .. } | Verdict::Deny(_)) => wrong(),
        }
    }

    /// The failure with the way to it.
    fn report(&self, fault: &str, judgement: &Judgement, path: &Path) -> String {
        let reason =
            self.reason.as_ref().map(|text| format!(", with a reason that holds `{text}`")).unwrap_or_default();
        let mut lines = vec![
            format!("at         {}:{}", path.display(), self.line),
            format!("asked      {}", self.question.written),
        ];
        lines.extend(self.question.describe());
        lines.push(format!("expected   {}{reason}", self.expected.as_str()));
        lines.push(format!("got        {fault}"));
        lines.extend(judgement.trace().into_iter().map(|line| format!("  {line}")));
        lines.join("\n")
    }
}

/// The verdict in the words of a case.
fn brief(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { .. } => "allow".to_owned(),
        Verdict::Deny(DenyReason::Silence) => "no-opinion".to_owned(),
        Verdict::Deny(DenyReason::Policy { reason, .. }) => format!("deny: {reason}"),
        Verdict::Deny(reason @ DenyReason::PolicyFailed { .. }) => format!("deny: {reason}"),
    }
}

fn print_suite(suite: &SuiteOutcome) {
    if suite.outcomes.is_empty() && suite.error.is_none() {
        return;
    }
    println!("{}", suite.name);
    if let Some(error) = &suite.error {
        println!("  ERROR  {error}");
    }
    for Outcome { name, failure, .. } in &suite.outcomes {
        match failure {
            None => println!("  ok     {name}"),
            Some(failure) => {
                println!("  FAILED {name}");
                failure.lines().for_each(|line| println!("           {line}"));
            }
        }
    }
}

/// Every file of cases, in order. Folders that are hidden or full of what was built are passed over.
fn find(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            find_in(path, 0, &mut files)?;
        } else if path.is_file() {
            files.push(path.clone());
        } else {
            bail!("{} does not exist", path.display());
        }
    }
    if files.is_empty() {
        let shown: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("there is no *{} in {}: docs/policy-tests.md says how to write one", suite::SUFFIX, shown.join(", "));
    }
    Ok(files)
}

fn find_in(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // What a link leads to would be found twice, or for ever.
        if path.is_dir() && !path.is_symlink() {
            if depth < DEPTH_MAX && !matches!(name.as_str(), "target" | "node_modules" | "__pycache__") {
                find_in(&path, depth + 1, files)?;
            }
        } else if name.ends_with(suite::SUFFIX) {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            bail!("there are more than {FILES_MAX} files of cases in {}", folder.display());
        }
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<String> {
    let length = std::fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?.len();
    if length > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// How deep folders are looked through.
const DEPTH_MAX: usize = 16;
/// How many files of cases one run takes.
const FILES_MAX: usize = 10_000;
/// How large one may be.
const FILE_BYTES_MAX: u64 = 4 << 20;

const EXAMPLES: &str = "\
Examples:
  witgate plugin test                                       every *.test.yaml in this folder and below
  witgate plugin test policies/read-only.test.yaml --filter exec
  witgate plugin test --junit report.xml --coverage         for CI
  witgate plugin test hours.test.yaml --policy js/hours.wasm    the same cases for another build of the policy

A file of cases (read-only.test.yaml beside read-only.wasm):
  defaults: { user: user:default/jane, groups: [dev], now: 2026-01-05T10:00:00Z }
  cases:
    - { kubectl: get pods -n dev, decision: no-opinion }
    - { kubectl: exec web -n dev -it -- sh, decision: deny, reason: read-only }
    - request: DELETE /api/v1/namespaces/dev/pods/web       # no `decision`: it must be denied

docs/policy-tests.md describes every key.

Exit codes: 0 all passed, 1 one failed or could not be run, 2 the command line is not understood.";
