//! What the gate tells of itself in numbers.
//!
//! Whoever does something counts it, in plain atomics of its own (`witgate_core::meter`, `witgate_proxy::counts`); here they
//! are read, only when somebody looks, and become families of samples. Two formats are made of those: Prometheus' text
//! ([`text`]) and OTLP ([`telemetry`](crate::telemetry)).
//!
//! Promise: every label's values are of a fixed set, or names of the configuration and of plug-ins that serve or served
//! just now; nothing that a caller or a guest wrote is one.

mod gate;
pub(crate) mod plugins;
mod process;
pub(crate) mod reloads;
pub(crate) mod text;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use witgate_core::HistogramReading;
use witgate_proxy::counts::GateCounts;
use witgate_proxy::snapshot::CurrentSnapshot;

use crate::credential_cache::CredentialCache;
use crate::decision_log::json_lines::JsonLines;
use crate::telemetry::TelemetryCounts;
use plugins::PluginMeters;
use reloads::ReloadMeter;

/// Everything that counts, to be read together.
pub(crate) struct Metrics {
    pub(crate) started_at: SystemTime,
    pub(crate) counts: Arc<GateCounts>,
    pub(crate) current: Arc<CurrentSnapshot>,
    pub(crate) credentials: Arc<CredentialCache>,
    pub(crate) plugins: Arc<PluginMeters>,
    pub(crate) reloads: Arc<ReloadMeter>,
    pub(crate) decision_log: Option<Arc<JsonLines>>,
    pub(crate) telemetry: Option<Arc<TelemetryCounts>>,
}

/// Samples of one name.
pub(crate) struct Family {
    /// Without the suffix `_total` of a counter.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) samples: Vec<Sample>,
}

/// What a family's values are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// They only grow.
    Counter,
    /// They come and go.
    Gauge,
    /// Durations, in seconds.
    Histogram,
}

/// One value, with what tells it from the others.
pub(crate) struct Sample {
    pub(crate) labels: Vec<Label>,
    pub(crate) value: Value,
}

/// A label's name and value.
pub(crate) type Label = (&'static str, Cow<'static, str>);

/// A value.
pub(crate) enum Value {
    Count(u64),
    Number(f64),
    Histogram(HistogramReading),
}

impl Metrics {
    /// All families as they are now; those without a sample are left out.
    pub(crate) fn read(&self) -> Vec<Family> {
        let snapshot = self.current.read();
        let mut families = vec![
            Family::of_one(
                "witgate_build_info",
                "The version of the gate, and those of the contract that it speaks; always 1.",
                Kind::Gauge,
                vec![("version", env!("CARGO_PKG_VERSION").into()), ("contract", "auth@0.1.0 auth@0.2.0".into())],
                Value::Count(1),
            ),
            Family::of_one(
                "witgate_generation",
                "The generation of plug-ins and clusters that serves.",
                Kind::Gauge,
                Vec::new(),
                Value::Count(snapshot.generation.0),
            ),
        ];
        families.extend(gate::families(&self.counts, &snapshot));
        families.extend(self.plugins.families());
        families.extend(self.reloads.families());
        families.extend(self.credential_cache());
        families.extend(self.logs());
        families.extend(process::families(self.started_at));
        families.retain(|family| !family.samples.is_empty());
        families
    }

    fn credential_cache(&self) -> [Family; 2] {
        let status = self.credentials.status();
        let lookups = [
            ("hit", status.hits),
            ("miss", status.misses),
            ("refresh", status.refreshes),
            ("failure", status.failures),
            ("rejection", status.rejections),
        ];
        [
            Family::of_one(
                "witgate_credential_cache_entries",
                "Credentials that are held now.",
                Kind::Gauge,
                Vec::new(),
                Value::Count(status.entries as u64),
            ),
            Family {
                name: "witgate_credential_cache_events",
                help: "Requests spared a call of their strategy (hit), calls waited for (miss), renewals ahead of expiry (refresh), \
                       calls of both kinds that failed (failure), and credentials dropped after a 401 (rejection).",
                kind: Kind::Counter,
                samples: lookups
                    .into_iter()
                    .map(|(event, count)| Sample::new([("event", event.into())], Value::Count(count)))
                    .collect(),
            },
        ]
    }

    fn logs(&self) -> Vec<Family> {
        let mut families = Vec::new();
        if let Some(log) = &self.decision_log {
            families.push(Family::of_one(
                "witgate_decision_log_dropped_lines",
                "Lines of the decision log that found no room.",
                Kind::Counter,
                Vec::new(),
                Value::Count(log.dropped()),
            ));
            families.push(Family::of_one(
                "witgate_decision_log_waiting_lines",
                "Lines of the decision log that wait to be written, or whose place is kept for a request under way.",
                Kind::Gauge,
                Vec::new(),
                Value::Count(log.waiting() as u64),
            ));
        }
        if let Some(telemetry) = &self.telemetry {
            families.extend(telemetry.families());
        }
        families
    }
}

impl Family {
    fn of_one(name: &'static str, help: &'static str, kind: Kind, labels: Vec<Label>, value: Value) -> Self {
        Self { name, help, kind, samples: vec![Sample { labels, value }] }
    }
}

impl Sample {
    pub(crate) fn new<const N: usize>(labels: [Label; N], value: Value) -> Self {
        Self { labels: labels.into(), value }
    }
}
