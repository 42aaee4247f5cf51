//! The reloads' families: how they ended, and how long their phases took. Read from the history that the reload tells everybody,
//! so that it need not know of metrics.
//!
//! Promise: each reload is counted once, as long as no more of them end between two looks than the history holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use witgate_core::{Counter, Histogram};

use super::gate::{counter, histogram};
use super::{Family, Kind, Sample, Value};
use crate::plugins::status::{Cause, Phases, ReloadRecord, ReloadResult, ReloadStatus};

/// What the reloads since the start came to.
pub(crate) struct ReloadMeter {
    /// By cause and then result.
    ended: [[Counter; RESULTS.len()]; CAUSES.len()],
    phases: [Histogram; PHASES.len()],
    /// Plug-ins whose newest version does not serve.
    refused: AtomicU64,
    /// 1 where what serves is not what the folder holds.
    pinned: AtomicU64,
}

impl Default for ReloadMeter {
    fn default() -> Self {
        Self {
            ended: Default::default(),
            phases: std::array::from_fn(|_| Histogram::new(PHASE_BOUNDS_US)),
            refused: AtomicU64::default(),
            pinned: AtomicU64::default(),
        }
    }
}

impl ReloadMeter {
    /// Counts each reload that `status` tells, those that it holds now included; never ends but with its sender.
    pub(crate) async fn follow(self: Arc<Self>, mut status: watch::Receiver<Arc<ReloadStatus>>) {
        let mut counted = 0;
        loop {
            let told = Arc::clone(&status.borrow_and_update());
            counted = self.read(&told, counted);
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    /// Counts what came after the reload of number `counted`, and returns the last one's.
    fn read(&self, told: &ReloadStatus, counted: u64) -> u64 {
        for record in told.reloads.iter().filter(|record| record.number > counted) {
            self.count(record);
        }
        let refused = told.plugins.iter().filter(|plugin| plugin.error.is_some()).count();
        self.refused.store(refused as u64, Ordering::Relaxed);
        self.pinned.store(u64::from(told.pinned.is_some()), Ordering::Relaxed);
        told.reloads.last().map_or(counted, |last| last.number.max(counted))
    }

    fn count(&self, ReloadRecord { cause, result, phases, .. }: &ReloadRecord) {
        let position =
            CAUSES.iter().position(|(of, _)| of == cause).zip(RESULTS.iter().position(|(of, _)| of == result));
        if let Some(counter) =
            position.and_then(|(cause, result)| self.ended.get(cause).and_then(|results| results.get(result)))
        {
            counter.increment();
        }
        for (histogram, (_, took)) in self.phases.iter().zip(PHASES) {
            // Zero is that of a phase that it did not come to.
            let took = took(phases);
            if !took.is_zero() {
                histogram.observe(took);
            }
        }
    }

    pub(super) fn families(&self) -> [Family; 4] {
        let ended = CAUSES.iter().zip(&self.ended).flat_map(|((_, cause), results)| {
            RESULTS.iter().zip(results).map(|((_, result), count)| {
                Sample::new([("result", (*result).into()), ("cause", (*cause).into())], Value::Count(count.read()))
            })
        });
        let phases = PHASES.iter().zip(&self.phases);
        let gauge = |name, help, value: &AtomicU64| {
            Family::of_one(name, help, Kind::Gauge, Vec::new(), Value::Count(value.load(Ordering::Relaxed)))
        };
        [
            counter(
                "witgate_reloads",
                "Reloads of the plug-in folder, the start and rollbacks included, by how they ended and why they were tried.",
                ended.collect(),
            ),
            Family {
                name: "witgate_reload_phase_duration_seconds",
                help: "How long a reload waited for the folder to keep still (settle), read and hashed it (scan), compiled, \
                       configured and tried what differs (load), and made and tried the clusters (build).",
                kind: Kind::Histogram,
                samples: phases
                    .filter_map(|((name, _), histogram_of)| histogram(histogram_of, [("phase", (*name).into())]))
                    .collect(),
            },
            gauge("witgate_plugins_refused", "Plug-ins whose newest version does not serve.", &self.refused),
            gauge(
                "witgate_plugins_pinned",
                "Whether what serves was rolled back to, and is not what the plug-in folder holds.",
                &self.pinned,
            ),
        ]
    }
}

const CAUSES: [(Cause, &str); 5] = [
    (Cause::Start, "start"),
    (Cause::Changed, "changed"),
    (Cause::Asked, "asked"),
    (Cause::Retry, "retry"),
    (Cause::Rollback, "rollback"),
];

const RESULTS: [(ReloadResult, &str); 3] = [
    (ReloadResult::Published, "published"),
    (ReloadResult::Unchanged, "unchanged"),
    (ReloadResult::Refused, "refused"),
];

type Took = fn(&Phases) -> Duration;

const PHASES: [(&str, Took); 4] = [
    ("settle", |phases| phases.settle),
    ("scan", |phases| phases.scan),
    ("load", |phases| phases.load),
    ("build", |phases| phases.build),
];

/// From 1 ms, what a scan takes, to a minute, the longest that a build may.
const PHASE_BOUNDS_US: &[u64] = &[
    1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 60_000_000,
];

#[cfg(test)]
mod tests {
    use witgate_core::Generation;

    use super::*;

    fn record(number: u64, cause: Cause, result: ReloadResult, load_ms: u64) -> ReloadRecord {
        let phases = Phases { load: Duration::from_millis(load_ms), ..Phases::default() };
        let (time, generation) = (String::new(), Generation(1));
        ReloadRecord { number, time, cause, result, generation, changes: None, phases, error: None }
    }

    /// Goal: each reload counts once, also where a look shows several, or some for the second time. Method: three looks.
    #[test]
    fn each_reload_counts_once() {
        use ReloadResult::{Published, Refused};
        let meter = ReloadMeter::default();
        let mut told = ReloadStatus { reloads: vec![record(1, Cause::Start, Published, 9)], ..ReloadStatus::default() };
        let counted = meter.read(&told, 0);
        assert_eq!(meter.read(&told, counted), 1, "nothing new");
        told.reloads.extend([
            record(2, Cause::Changed, Refused, 0),
            record(3, Cause::Changed, Published, 30),
            record(4, Cause::Rollback, Published, 0),
        ]);
        assert_eq!(meter.read(&told, counted), 4);
        let [ended, phases, ..] = meter.families();
        let told: Vec<_> = ended
            .samples
            .iter()
            .filter_map(|sample| match (&sample.value, sample.labels.as_slice()) {
                (Value::Count(1..), [(_, result), (_, cause)]) => Some(format!("{cause} {result}")),
                _ => None,
            })
            .collect();
        assert_eq!(told, ["start published", "changed published", "changed refused", "rollback published"]);
        let loads = phases.samples.iter().map(|sample| match &sample.value {
            Value::Histogram(reading) => reading.count,
            other => panic!("{}", matches!(other, Value::Count(_))),
        });
        assert_eq!(loads.collect::<Vec<_>>(), [2], "phases that it did not come to are not told");
    }
}
