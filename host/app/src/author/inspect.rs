//! `witgate plugin inspect`: what a plug-in is, and whether the gate would take it.
//!
//! The verdict is the gate's own: the file is loaded as from the drop-in folder, self-test included, and what refuses it there
//! is printed here in the same words. What can be said of a refused file is said all the same.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use witgate_core::{Metadata, PolicyMode};
use witgate_plugin::{ImportGrant, Isolation, Limits, PluginKind, Start};

use super::anatomy::{Anatomy, Sections};
use super::plugin_file::{PluginFile, Workshop, WorkshopOptions, runtime};
use crate::plugins::sidecar::Sidecar;
use crate::plugins::{Plugin, PluginEntry, Problem, self_test};

/// Say what a plug-in is, and whether the gate would take it
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// The component; its sidecar is NAME.yaml beside it
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    workshop: WorkshopOptions,
}

/// Everything that is said of a file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Inspection {
    file: PathBuf,
    name: String,
    bytes: usize,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sidecar: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<PluginKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<PolicyMode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    isolation: Option<Isolation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<ShownLimits>,
    imports: Vec<Import>,
    exports: Vec<String>,
    core_modules: usize,
    components: usize,
    sections: Sections,
    made_by: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<DryRun>,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

#[derive(Debug, Serialize)]
struct Import {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<ImportGrant>,
}

/// The limits in force, by the sidecar's keys.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownLimits {
    deadline_ms: u128,
    #[serde(rename = "memoryMiB")]
    memory_mib: usize,
    table_elements: usize,
    core_instances: usize,
    #[serde(rename = "outputKiB")]
    output_kib: usize,
    #[serde(rename = "logKiB")]
    log_kib: usize,
    concurrency: u32,
    queue: u32,
    instance_calls: u32,
}

/// Medians of a few calls that mean nothing.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DryRun {
    calls: usize,
    /// Making an instance in the state that `configure` left; not measured for strategies.
    #[serde(skip_serializing_if = "Option::is_none")]
    instantiate_us: Option<f64>,
    /// All of a call.
    call_us: f64,
    /// The most linear memory that one of them needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<u64>,
}

/// Prints what there is to say: 0 where the gate would take the plug-in, 1 where it would refuse it.
///
/// # Errors
/// When the engine does not start.
pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let file = match PluginFile::read(&args.file) {
        Ok(file) => file,
        Err(problem) => anyhow::bail!(problem),
    };
    let workshop = args.workshop.open()?;
    let inspection = runtime()?.block_on(inspect(&file, &workshop))?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print!("{inspection}");
    }
    match &inspection.refusal {
        None => Ok(ExitCode::SUCCESS),
        Some(refusal) => {
            eprintln!("error: {refusal}");
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn inspect(file: &PluginFile, workshop: &Workshop) -> anyhow::Result<Inspection> {
    let bytes = file.bytes()?;
    let anatomy = Anatomy::of(&bytes);
    let sidecar = file.parsed_sidecar();
    let started = Instant::now();
    let loaded = file.load(workshop).await;
    let load_ms = started.elapsed().as_secs_f64() * 1e3;
    let tried = match loaded {
        Ok(entry) => match DryRun::of(&entry).await {
            Ok(dry_run) => Ok((entry, dry_run)),
            Err(error) => Err(Problem::of_plugin(file.name(), None, format!("{}: {error:#}", file.path().display()))),
        },
        Err(problem) => Err(problem),
    };
    Ok(Inspection::new(file, bytes.len(), anatomy, sidecar.ok(), tried, load_ms))
}

impl Inspection {
    fn new(
        file: &PluginFile,
        bytes: usize,
        anatomy: Anatomy,
        sidecar: Option<Sidecar>,
        tried: Result<(PluginEntry, DryRun), Problem>,
        load_ms: f64,
    ) -> Self {
        let Anatomy { imports, exports, core_modules, components, sections, made_by, unreadable: _ } = anatomy;
        let (entry, dry_run, refusal) = match tried {
            Ok((entry, dry_run)) => (Some(entry), Some(dry_run), None),
            Err(problem) => (None, None, Some(problem.to_string())),
        };
        let kind = entry.as_ref().map(|entry| entry.plugin.kind()).or_else(|| kind_of(&exports));
        let goes_out = sidecar.as_ref().is_some_and(|sidecar| !sidecar.outbound_hosts.is_empty());
        let imports = imports
            .into_iter()
            .map(|name| Import { grant: kind.map(|kind| ImportGrant::of(kind, goes_out, &name)), name })
            .collect();
        let (start, start_reason) = match entry.as_ref().map(|entry| &entry.start) {
            None => (None, None),
            Some(Start::Snapshot) => (Some("snapshot"), None),
            Some(Start::ConfiguredEach { reason }) => (Some("configured-each"), Some(reason.clone())),
        };
        let mode = kind
            .filter(|kind| *kind == PluginKind::Policy)
            .and_then(|_| sidecar.as_ref().map(|sidecar| sidecar.mode.unwrap_or_default()));
        Self {
            file: file.path().to_owned(),
            name: file.name().to_string(),
            bytes,
            digest: file.digest().to_string(),
            sidecar: file.sidecar_path().map(Into::into),
            kind,
            contract: entry.as_ref().map(|entry| entry.contract.clone()),
            mode,
            isolation: sidecar.as_ref().map(|sidecar| sidecar.isolation),
            limits: sidecar.as_ref().map(|sidecar| ShownLimits::from(sidecar.limits)),
            imports,
            exports,
            core_modules,
            components,
            sections,
            made_by,
            start,
            start_reason,
            load_ms: entry.is_some().then_some(load_ms),
            dry_run,
            accepted: refusal.is_none(),
            refusal,
        }
    }
}

/// What its exports claim, for a file that is not loaded.
fn kind_of(exports: &[String]) -> Option<PluginKind> {
    let has = |interface: &str| exports.iter().any(|export| export.starts_with(interface));
    match (has("witgate:auth/permission-policy@"), has("witgate:auth/authentication-strategy@")) {
        (true, false) => Some(PluginKind::Policy),
        (false, true) => Some(PluginKind::Strategy),
        (true, true) | (false, false) => None,
    }
}

impl DryRun {
    /// Calls a plug-in for nothing, as often as is quickly done.
    async fn of(entry: &PluginEntry) -> anyhow::Result<Self> {
        let began = Instant::now();
        let (mut instantiations, mut calls) = (Vec::new(), Vec::new());
        while calls.len() < DRY_CALLS_MIN || (calls.len() < DRY_CALLS_MAX && began.elapsed() < DRY_TIME) {
            let before = entry.meter.instantiation().read();
            let started = Instant::now();
            let asked = match &entry.plugin {
                Plugin::Policy(policy) => {
                    self_test::ask(&**policy).await?;
                    self_test::QUERIES
                }
                // Of all that a strategy does, only this needs no cluster and never goes out.
                Plugin::Strategy(strategy) => {
                    strategy.validate_cluster(&Metadata::new()).await?;
                    1
                }
            };
            calls.push(micros(started.elapsed()) / f64::from(asked));
            let after = entry.meter.instantiation().read();
            if after.count > before.count {
                instantiations.push((after.sum - before.sum) * 1e6 / (after.count - before.count) as f64);
            }
        }
        let peak = entry.meter.memory_bytes_peak();
        Ok(Self {
            calls: calls.len(),
            instantiate_us: (!instantiations.is_empty()).then(|| median(&mut instantiations)),
            call_us: median(&mut calls),
            memory_bytes: (peak > 0).then_some(peak),
        })
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

impl From<Limits> for ShownLimits {
    fn from(limits: Limits) -> Self {
        Self {
            deadline_ms: limits.deadline.as_millis(),
            memory_mib: limits.memory_bytes_max >> 20,
            table_elements: limits.table_elements_max,
            core_instances: limits.core_instances_max,
            output_kib: limits.output_bytes_max >> 10,
            log_kib: limits.log_bytes_max >> 10,
            concurrency: limits.concurrency_max,
            queue: limits.queue_max,
            instance_calls: limits.instance_calls_max.get(),
        }
    }
}

impl fmt::Display for ShownLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            deadline_ms,
            memory_mib,
            table_elements,
            core_instances,
            output_kib,
            log_kib,
            concurrency,
            queue,
            instance_calls,
        } = self;
        write!(f, "deadlineMs {deadline_ms}, memoryMiB {memory_mib}, concurrency {concurrency}, queue {queue}, ")?;
        write!(f, "outputKiB {output_kib}, logKiB {log_kib}, tableElements {table_elements}, ")?;
        write!(f, "coreInstances {core_instances}, instanceCalls {instance_calls}")
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row =
            |f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display| writeln!(f, "  {name:<10} {value}");
        writeln!(f, "{}", self.file.display())?;
        match (self.kind, &self.contract) {
            (Some(kind), Some(contract)) => row(f, "kind", &format_args!("{kind}, {contract}"))?,
            (Some(kind), None) => row(f, "kind", &format_args!("{kind}, by its exports"))?,
            (None, _) => row(f, "kind", &"unknown")?,
        }
        row(f, "sha256", &self.digest)?;
        row(f, "size", &Bytes(self.bytes))?;
        match &self.sidecar {
            Some(path) => row(f, "sidecar", &path.display())?,
            None => row(f, "sidecar", &"none: the defaults hold")?,
        }
        match self.mode {
            Some(PolicyMode::Enforce) => row(f, "mode", &"enforce")?,
            Some(PolicyMode::Shadow) => row(f, "mode", &"shadow: asked and logged, never counted")?,
            None => {}
        }
        match self.isolation {
            Some(Isolation::Fresh) => row(f, "isolation", &"fresh: an instance for each call")?,
            Some(Isolation::Reused) => row(f, "isolation", &"reused: an instance serves many calls")?,
            None => {}
        }
        if let Some(limits) = &self.limits {
            row(f, "limits", limits)?;
        }
        match (self.start, &self.start_reason) {
            (Some(_), None) => row(f, "start", &"snapshot: configured once, every call begins with what that left")?,
            (Some(_), Some(reason)) => {
                row(f, "start", &format_args!("configured in each instance, as no snapshot can be taken: {reason}"))?;
            }
            (None, _) => {}
        }
        if !self.made_by.is_empty() {
            row(f, "made by", &self.made_by.join(", "))?;
        }
        let Sections { code, data, custom, other } = self.sections;
        row(
            f,
            "sections",
            &format_args!(
                "code {}, data {}, custom {} (names, debug information), other {}; {} core modules, {} components inside",
                Bytes(code),
                Bytes(data),
                Bytes(custom),
                Bytes(other),
                self.core_modules,
                self.components
            ),
        )?;
        let mut title = "imports";
        for Import { name, grant } in &self.imports {
            let meaning = match grant {
                Some(ImportGrant::Contract) => "the contract's",
                Some(ImportGrant::InertWasi) => "inert: no arguments, variables, files or sockets behind it",
                Some(ImportGrant::OutboundHttp) => "granted by `outboundHosts`",
                Some(ImportGrant::NotGranted) => "NOT GRANTED",
                None => "",
            };
            row(f, title, &format_args!("{name:<42} {meaning}"))?;
            title = "";
        }
        if self.imports.is_empty() {
            row(f, title, &"none")?;
        }
        row(f, "exports", &self.exports.join(", "))?;
        if let Some(load_ms) = self.load_ms {
            row(f, "loaded", &format_args!("in {load_ms:.0} ms: compiled, configured, self-tested"))?;
        }
        if let Some(DryRun { calls, instantiate_us, call_us, memory_bytes }) = self.dry_run {
            let instantiate = instantiate_us.map(|us| format!("instantiated in {us:.1} µs, ")).unwrap_or_default();
            let memory = memory_bytes.map(|bytes| format!("; {} of memory", Bytes(bytes as usize))).unwrap_or_default();
            row(f, "dry run", &format_args!("{instantiate}called in {call_us:.1} µs (medians of {calls}){memory}"))?;
        }
        if self.accepted { writeln!(f, "The gate would take it.") } else { writeln!(f, "The gate would refuse it.") }
    }
}

/// A size for people.
struct Bytes(usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0..1024 => write!(f, "{bytes} B"),
            bytes @ 1024..1_048_576 => write!(f, "{:.1} KiB", bytes as f64 / 1024.0),
            bytes => write!(f, "{:.1} MiB", bytes as f64 / 1_048_576.0),
        }
    }
}

/// Calls of a dry run: at least so many, and no more than are done in a moment.
const DRY_CALLS_MIN: usize = 5;
const DRY_CALLS_MAX: usize = 100;
const DRY_TIME: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
Examples:
  witgate plugin inspect policies/read-only.wasm
  witgate plugin inspect target/guests/policies/read-only.wasm --json | jq .imports

The file is loaded as from the drop-in folder, with its sidecar, and called a few times about nothing. No cluster and no other
server is asked.

Exit codes: 0 the gate would take it, 1 it would refuse it and says why, 2 the command line is not understood.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let shown = |bytes| Bytes(bytes).to_string();
        assert_eq!((shown(7), shown(2048), shown(3 << 20)), ("7 B".into(), "2.0 KiB".into(), "3.0 MiB".into()));
    }
}
