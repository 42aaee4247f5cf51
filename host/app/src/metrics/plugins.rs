//! The plug-ins' families, one set of series for each plug-in as it was loaded.
//!
//! A plug-in that is loaded anew counts anew, under the generation that first served it so. The series of one that serves no
//! more stay for a while, so that what it counted last is still scraped; then they go, so that the text does not grow with
//! reloads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use witgate_core::{CallMeter, Generation, PluginName};

use super::gate::{counter, histogram};
use super::{Family, Kind, Label, Sample, Value};

/// The meters of all plug-ins that serve, and of those that served last.
#[derive(Default)]
pub(crate) struct PluginMeters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    serving: Vec<PluginMeter>,
    retired: VecDeque<PluginMeter>,
}

/// One plug-in as it was loaded.
#[derive(Clone)]
pub(crate) struct PluginMeter {
    pub(crate) name: PluginName,
    /// The generation that first served it as it is.
    pub(crate) generation: Generation,
    pub(crate) meter: Arc<CallMeter>,
}

impl PluginMeters {
    /// What serves from now on.
    pub(crate) fn serve(&self, meters: Vec<PluginMeter>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut state.serving, meters);
        let State { serving, retired } = &mut *state;
        let serves = |meter: &Arc<CallMeter>| serving.iter().any(|serving| Arc::ptr_eq(&serving.meter, meter));
        // One that is put back, a built-in for instance, is no longer retired.
        retired.retain(|retired| !serves(&retired.meter));
        retired.extend(before.into_iter().filter(|before| !serves(&before.meter)));
        while retired.len() > RETIRED_MAX {
            retired.pop_front();
        }
    }

    /// The families.
    pub(super) fn families(&self) -> Vec<Family> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let meters = || state.retired.iter().chain(&state.serving);
        let mut calls = Vec::new();
        for plugin in meters() {
            let [name, generation] = plugin.labels();
            let outcomes = plugin.meter.outcomes().filter(|(_, count)| *count > 0);
            calls.extend(outcomes.map(|(outcome, count)| {
                let labels = [name.clone(), generation.clone(), ("outcome", outcome.as_str().into())];
                Sample::new(labels, Value::Count(count))
            }));
        }
        let timed = |name, help, of: fn(&CallMeter) -> &witgate_core::Histogram| Family {
            name,
            help,
            kind: Kind::Histogram,
            samples: meters().filter_map(|plugin| histogram(of(&plugin.meter), plugin.labels())).collect(),
        };
        let memory = meters().filter(|plugin| plugin.meter.memory_bytes_peak() > 0);
        vec![
            counter("witgate_plugin_calls", "Calls of plug-ins about requests, by what came of them.", calls),
            timed(
                "witgate_plugin_call_duration_seconds",
                "How long calls of plug-ins took, instantiation included.",
                CallMeter::duration,
            ),
            timed(
                "witgate_plugin_instantiate_seconds",
                "How long it took to make a configured instance of a plug-in.",
                CallMeter::instantiation,
            ),
            Family {
                name: "witgate_plugin_memory_peak_bytes",
                help: "The most linear memory that one call needed.",
                kind: Kind::Gauge,
                samples: memory
                    .map(|plugin| Sample::new(plugin.labels(), Value::Count(plugin.meter.memory_bytes_peak())))
                    .collect(),
            },
        ]
    }
}

impl PluginMeter {
    fn labels(&self) -> [Label; 2] {
        [("plugin", self.name.as_str().to_owned().into()), ("generation", self.generation.to_string().into())]
    }
}

/// Plug-ins that serve no more whose series are still told.
const RETIRED_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(name: &str, generation: u64) -> PluginMeter {
        let meter = PluginMeter {
            name: PluginName::try_from(name).unwrap(),
            generation: Generation(generation),
            meter: Arc::default(),
        };
        meter.meter.needed_memory(1);
        meter
    }

    /// Goal: series come and go with what serves; a few that went are still told. Method: a hundred generations.
    #[test]
    fn series_do_not_grow_with_reloads() {
        let meters = PluginMeters::default();
        let (kept, builtin) = (meter("kept", 1), meter("builtin", 1));
        meters.serve(vec![kept.clone(), builtin.clone()]);
        for generation in 2..=100 {
            meters.serve(vec![kept.clone(), meter("changing", generation)]);
        }
        let generations = || {
            let families = meters.families();
            let memory = families.last().unwrap();
            let told = memory.samples.iter().map(|sample| match sample.labels.as_slice() {
                [(_, name), (_, generation)] => format!("{name} {generation}"),
                other => panic!("{other:?}"),
            });
            told.collect::<Vec<_>>()
        };
        let told = generations();
        assert_eq!(told.len(), RETIRED_MAX + 2, "{told:?}");
        assert!(told.contains(&"changing 99".to_owned()) && !told.contains(&"builtin 1".to_owned()), "{told:?}");
        meters.serve(vec![kept, builtin]);
        assert_eq!(generations().iter().filter(|told| *told == "builtin 1").count(), 1);
    }
}
