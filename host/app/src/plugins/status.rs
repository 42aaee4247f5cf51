//! What `/status` tells of the plug-ins: the generation that serves, and how the last reload ended.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use witgate_core::{Generation, PluginName, PolicyMode};
use witgate_plugin::{CompilationCounts, Isolation, PluginKind, Start};

use super::call_facts::CallFacts;
use super::{Origin, PluginEntry, Problem};

/// The plug-ins' part of `/status`.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReloadStatus {
    /// The generation that serves; 0 before the first.
    pub(crate) generation: Generation,
    /// Its plug-ins, and those that were refused, by name.
    pub(crate) plugins: Vec<PluginStatus>,
    /// How the last reload that found a difference ended; none before the first.
    pub(crate) last_reload: Option<LastReload>,
    /// A rollback that is in force: what serves is not what the folder holds.
    pub(crate) pinned: Option<Pinned>,
    /// What can be rolled back to, the oldest first.
    pub(crate) kept_generations: Vec<Generation>,
    /// The last reloads, the oldest first.
    pub(crate) reloads: Vec<ReloadRecord>,
    /// Where the compiled code of the plug-ins came from, since the start.
    pub(crate) compilations: CompilationCounts,
}

/// A rollback that is in force.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pinned {
    /// The generation that served the same plug-ins before.
    pub(crate) content_of: Generation,
    /// Since when, as RFC 3339.
    pub(crate) since: String,
}

/// One reload, from its cause to its end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReloadRecord {
    /// Counts the reloads since the start, those that are not told any more included.
    pub(crate) number: u64,
    /// When it ended, as RFC 3339.
    pub(crate) time: String,
    /// Why it was tried.
    pub(crate) cause: Cause,
    /// How it ended.
    pub(crate) result: ReloadResult,
    /// The generation that served after it.
    pub(crate) generation: Generation,
    /// What it did to the plug-ins, such as `+new ~changed -gone`; none where nothing was published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) changes: Option<String>,
    /// How long it took.
    #[serde(rename = "phasesMs")]
    pub(crate) phases: Phases,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Why a reload happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cause {
    /// The gate starts.
    Start,
    /// The folder may have changed.
    Changed,
    /// Someone asked.
    Asked,
    /// What was refused may be good by now: a deadline missed on a busy machine must not be for ever.
    Retry,
    /// Someone asked for an earlier generation.
    Rollback,
}

/// How long the phases of a reload took; zero for those that it did not come to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct Phases {
    /// Waiting until the folder kept still.
    #[serde(serialize_with = "as_milliseconds")]
    pub(crate) settle: Duration,
    /// Reading, hashing and verifying what stands in it.
    #[serde(serialize_with = "as_milliseconds")]
    pub(crate) scan: Duration,
    /// Compiling, link-checking, configuring and self-testing what differs.
    #[serde(serialize_with = "as_milliseconds")]
    pub(crate) load: Duration,
    /// Making the snapshot and trying its clusters.
    #[serde(serialize_with = "as_milliseconds")]
    pub(crate) build: Duration,
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settle, scan, load, build } = self;
        write!(f, "settle {settle:.1?}, scan {scan:.1?}, load {load:.1?}, build {build:.1?}")
    }
}

/// Milliseconds with three decimals.
fn as_milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e6).round() / 1e3)
}

/// One plug-in. What is not known of one that was refused is absent.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PluginStatus {
    /// Its name.
    pub(crate) name: PluginName,
    /// Policy or strategy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<PluginKind>,
    /// The SHA-256 of the component that serves; of the one that was refused, where none serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// The version of the contract.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) contract: Option<String>,
    /// Whether its answer counts; policies only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<PolicyMode>,
    /// Whether calls share an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) isolation: Option<Isolation>,
    /// How its calls come to the state that `configure` left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<StartWord>,
    /// Why each instance is configured anew, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_reason: Option<String>,
    /// The generation that first served it as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<Generation>,
    /// Whether it is embedded in the binary.
    pub(crate) builtin: bool,
    /// Where it was fetched from, where a registry delivered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reference: Option<std::sync::Arc<str>>,
    /// Why its newest version does not serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// How its calls go: `quarantine` and `shadow`.
    #[serde(flatten)]
    pub(crate) calls: CallFacts,
}

/// How a plug-in's calls come to the state that `configure` left, in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StartWord {
    /// It ran once, when the plug-in was loaded.
    Snapshot,
    /// It runs in each instance.
    ConfiguredEach,
}

/// How a reload ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastReload {
    /// When, as RFC 3339.
    pub(crate) time: String,
    /// How.
    pub(crate) result: ReloadResult,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// How a reload ended, in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReloadResult {
    /// A new generation serves.
    Published,
    /// The folder holds what serves already: nothing was loaded.
    Unchanged,
    /// The last good generation serves on.
    Refused,
}

impl LastReload {
    /// The part of a record that has been told from the beginning.
    pub(crate) fn of(record: &ReloadRecord) -> Self {
        Self { time: record.time.clone(), result: record.result, error: record.error.clone() }
    }
}

impl PluginStatus {
    /// A plug-in that serves.
    pub(crate) fn of(entry: &PluginEntry) -> Self {
        let (start, start_reason) = match &entry.start {
            Start::Snapshot => (StartWord::Snapshot, None),
            Start::ConfiguredEach { reason } => (StartWord::ConfiguredEach, Some(reason.clone())),
        };
        Self {
            name: entry.name.clone(),
            kind: Some(entry.plugin.kind()),
            digest: Some(entry.digest.to_string()),
            contract: Some(entry.contract.clone()),
            mode: entry.mode,
            isolation: Some(entry.isolation),
            start: Some(start),
            start_reason,
            generation: Some(entry.generation),
            builtin: entry.origin == Origin::Builtin,
            reference: entry.reference.clone(),
            error: None,
            calls: CallFacts::of(&entry.plugin),
        }
    }

    /// The plug-ins that serve, each with what is wrong with its newest version, and those that never served.
    pub(crate) fn list<'a>(serving: impl Iterator<Item = &'a PluginEntry>, problems: &[Problem]) -> Vec<Self> {
        let mut plugins: Vec<_> = serving.map(Self::of).collect();
        for problem in problems {
            let Some(name) = &problem.plugin else { continue };
            match plugins.iter_mut().find(|plugin| plugin.name == *name) {
                Some(plugin) => {
                    plugin.error = Some(match plugin.error.take() {
                        Some(error) => format!("{error}; {problem}"),
                        None => problem.to_string(),
                    });
                }
                None => plugins.push(Self {
                    name: name.clone(),
                    kind: None,
                    digest: problem.digest.map(|digest| digest.to_string()),
                    contract: None,
                    mode: None,
                    isolation: None,
                    start: None,
                    start_reason: None,
                    generation: None,
                    builtin: false,
                    reference: None,
                    error: Some(problem.to_string()),
                    calls: CallFacts::default(),
                }),
            }
        }
        plugins.sort_by(|one, other| one.name.cmp(&other.name));
        plugins
    }
}
