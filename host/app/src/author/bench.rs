//! `witgate plugin bench`: what a call of a policy costs, and whether that has changed.
//!
//! Figures are of this machine at this time: fresh and warm calls take turns in short batches, so that whatever else the
//! machine does hits both. Medians count; the spread says how much to believe them.

mod baseline;
mod instructions;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use witgate_core::{CallMeter, PermissionPolicy};

use super::plugin_file::{PluginFile, Workshop, WorkshopOptions, runtime};
use super::policy_set::read_settings;
use super::question::{OneOrMany, Question};
use super::run::QuestionOptions;
use crate::plugins::Plugin;
use baseline::Baseline;

/// Measure what a call of a policy costs, and compare with an earlier measurement
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// The component; its sidecar's settings and limits hold
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Settings instead of the sidecar's: a YAML or JSON file
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    question: QuestionOptions,
    /// Keep the figures under this name, in .witgate/bench/NAME.json; a path ends with .json
    #[arg(long, value_name = "NAME", conflicts_with = "baseline")]
    save: Option<String>,
    /// Compare with the figures that were kept under this name
    #[arg(long, value_name = "NAME")]
    baseline: Option<String>,
    /// Exit with 1 where a median has grown by more than so many percent, and beyond the spread
    #[arg(long, value_name = "PERCENT", requires = "baseline")]
    fail_above: Option<f64>,
    /// For how long calls are measured
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Count instructions with valgrind where the processor's counters are not to be had; takes a minute
    #[arg(long)]
    instructions: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Only make so many fresh calls: what instruction counters are put around
    #[arg(long, hide = true, value_name = "CALLS")]
    only_call: Option<u64>,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

/// What was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    /// A call in an instance of its own.
    fresh_call_us: Spread,
    /// A call in an instance that has served others.
    warm_call_us: Spread,
    /// Making a fresh instance, configured; part of a fresh call.
    instantiate_us: Spread,
    /// Instructions of a fresh call, the host's part included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instructions: Option<u64>,
}

/// A median, and between what four of five samples lie.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
}

/// One policy in both isolations.
struct Subject {
    fresh: Arc<dyn PermissionPolicy>,
    fresh_meter: Arc<CallMeter>,
    warm: Arc<dyn PermissionPolicy>,
    question: Question,
}

/// Measures and prints: 0, or 1 where `--fail-above` says so.
///
/// # Errors
/// When the plug-in is refused, gives no answer, or a baseline cannot be read or written.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let workshop = args.workshop.open()?;
    let runtime = runtime()?;
    let subject = runtime.block_on(Subject::load(args, &workshop))?;
    if let Some(calls) = args.only_call {
        runtime.block_on(async {
            for _ in 0..calls {
                subject.ask(&subject.fresh).await?;
            }
            anyhow::Ok(())
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let earlier = args.baseline.as_deref().map(Baseline::read).transpose()?;
    let mut figures = runtime.block_on(subject.measure(Duration::from_secs(args.seconds)))?;
    let counted = instructions::count(args.instructions);
    figures.instructions = counted.as_ref().ok().copied();
    let now = Baseline::new(&subject.question, figures);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&now)?);
    } else {
        println!("{}: {}", args.file.display(), now.question);
        if cfg!(debug_assertions) {
            println!(
                "  this witgate is a debug build: its own part of each call is many times slower than in a release build"
            );
        }
        print!("{}", now.figures);
        if let Err(why) = &counted {
            println!("  instructions not counted: {why}");
        }
    }
    if let Some(name) = &args.save {
        println!("kept in {}", now.write(name)?.display());
    }
    let Some(earlier) = earlier else { return Ok(ExitCode::SUCCESS) };
    let comparison = earlier.compare(&now);
    if !args.json {
        comparison.lines.iter().for_each(|line| println!("{line}"));
    }
    match args.fail_above {
        Some(percent) if comparison.worst_percent > percent => {
            eprintln!("error: a median grew by {:.1} %, more than {percent} %", comparison.worst_percent);
            Ok(ExitCode::FAILURE)
        }
        Some(_) | None => Ok(ExitCode::SUCCESS),
    }
}

impl Subject {
    async fn load(args: &BenchArgs, workshop: &Workshop) -> anyhow::Result<Self> {
        let mut keys = args.question.keys()?;
        if args.question.is_empty() {
            keys.request = Some(OneOrMany(vec![REQUEST.to_owned()]));
        }
        keys.user.get_or_insert_with(|| USER.to_owned());
        let questions = keys.questions().map_err(anyhow::Error::msg)?;
        let question = questions.into_iter().next().context("there is no question")?;
        if question.impersonate.is_some() {
            bail!("one call is measured, and an identity that is asked for takes several: leave `as` out");
        }
        let mut file = PluginFile::read(&args.file)?;
        if let Some(settings) = args.settings.as_deref().map(read_settings).transpose()? {
            file = file.with_settings(settings)?;
        }
        // One call that this machine was late for must not end the measurement.
        file = file.with_patience()?;
        let of = async |isolation: &str| {
            let file = file.clone().with_key("isolation", Value::String(isolation.to_owned()))?;
            let entry = file.load(workshop).await?;
            match entry.plugin {
                Plugin::Policy(policy) => Ok((policy, entry.meter)),
                Plugin::Strategy(_) => {
                    bail!("{} is a strategy, and calls of policies are measured", args.file.display())
                }
            }
        };
        let (fresh, fresh_meter) = of("fresh").await?;
        let (warm, _) = of("reused").await?;
        Ok(Self { fresh, fresh_meter, warm, question })
    }

    async fn ask(&self, policy: &Arc<dyn PermissionPolicy>) -> anyhow::Result<()> {
        policy.handle(&self.question.query, Some(&self.question.user)).await?;
        Ok(())
    }

    /// Microseconds that each of so many calls took.
    async fn time(&self, policy: &Arc<dyn PermissionPolicy>, calls: u32) -> anyhow::Result<f64> {
        let began = Instant::now();
        for _ in 0..calls {
            self.ask(policy).await?;
        }
        Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
    }

    async fn measure(&self, time: Duration) -> anyhow::Result<Figures> {
        let mut batches = [0_u32; 2];
        for (batch, policy) in batches.iter_mut().zip([&self.fresh, &self.warm]) {
            self.time(policy, WARM_UP_CALLS).await?;
            let one = self.time(policy, WARM_UP_CALLS).await?;
            *batch = (BATCH.as_secs_f64() * 1e6 / one).clamp(1.0, 1000.0) as u32;
        }
        let [fresh_batch, warm_batch] = batches;
        let (mut fresh, mut warm, mut instantiate) = (Vec::new(), Vec::new(), Vec::new());
        let began = Instant::now();
        while fresh.len() < SAMPLES_MIN || (fresh.len() < SAMPLES_MAX && began.elapsed() < time) {
            let before = self.fresh_meter.instantiation().read();
            fresh.push(self.time(&self.fresh, fresh_batch).await?);
            let after = self.fresh_meter.instantiation().read();
            instantiate.push((after.sum - before.sum) * 1e6 / (after.count - before.count).max(1) as f64);
            warm.push(self.time(&self.warm, warm_batch).await?);
        }
        Ok(Figures {
            fresh_call_us: Spread::of(fresh),
            warm_call_us: Spread::of(warm),
            instantiate_us: Spread::of(instantiate),
            instructions: None,
        })
    }
}

impl Spread {
    fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |share: usize| samples.get((samples.len() * share / 10).min(samples.len().saturating_sub(1))).copied();
        let at = |share| at(share).unwrap_or(f64::NAN);
        Self { median: at(5), low: at(1), high: at(9) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, low, high } = self;
        write!(f, "{median:>9.1} µs   (four of five between {low:.1} and {high:.1})")
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  fresh call   {}", self.fresh_call_us)?;
        writeln!(f, "  warm call    {}", self.warm_call_us)?;
        writeln!(f, "  instantiate  {}", self.instantiate_us)?;
        if let Some(instructions) = self.instructions {
            writeln!(f, "  instructions {instructions:>9} a fresh call, the host's part included")?;
        }
        Ok(())
    }
}

/// Who asks, and what, where nothing is said.
const USER: &str = "user:default/bench";
const REQUEST: &str = "GET /api/v1/namespaces/default/pods";
const WARM_UP_CALLS: u32 = 10;
const BATCH: Duration = Duration::from_millis(1);
const SAMPLES_MIN: usize = 11;
const SAMPLES_MAX: usize = 20_000;

const EXAMPLES: &str = "\
Examples:
  witgate plugin bench tenancy.wasm --settings tenants.yaml --save before
  witgate plugin bench tenancy.wasm --settings tenants.yaml --baseline before --fail-above 20
  witgate plugin bench read-only.wasm --user jane --kubectl 'exec web -n dev -- sh'

Without a question, one to list pods in `default` is asked. A fresh call makes an instance of its own, as `isolation: fresh`; a
warm one has an instance that served others, as `isolation: reused`. Measure on a quiet machine, with a release build, and
compare figures of one machine alone.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_of_the_samples() {
        let spread = Spread::of((0..=10).map(f64::from).collect());
        assert_eq!(spread, Spread { median: 5.0, low: 1.0, high: 9.0 });
        assert_eq!(Spread::of(vec![7.0]), Spread { median: 7.0, low: 7.0, high: 7.0 });
    }
}
