//! The plug-ins' families, one set of series for each plug-in as it was loaded.
//!
//! A plug-in that is loaded anew counts anew, under the generation that first served it so. The series of one that serves no
//! more stay for a while, so that what it counted last is still scraped; then they go, so that the text does not grow with
//! reloads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use witgate_core::{CallMeter, Generation, PluginName, PolicyMode, QuarantineStanding, ShadowCounts};
use witgate_plugin::PluginKind;

use super::gate::{counter, histogram};
use super::{Family, Kind, Label, Sample, Value};
use crate::plugins::call_facts::CallFacts;

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
    pub(crate) kind: PluginKind,
    /// Whether its answer counts; policies only.
    pub(crate) mode: Option<PolicyMode>,
    /// Its quarantine, and what it would have changed where it is a shadow policy.
    pub(crate) calls: CallFacts,
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
        let serving = state.serving.iter().map(|plugin| {
            let [name, generation] = plugin.labels();
            let labels =
                [name, generation, ("kind", plugin.kind.as_str().into()), ("mode", mode_word(plugin.mode).into())];
            Sample::new(labels, Value::Count(1))
        });
        let mut families = vec![
            Family {
                name: "witgate_plugin_info",
                help: "The plug-ins that serve, each with the generation that first served it as it is; always 1.",
                kind: Kind::Gauge,
                samples: serving.collect(),
            },
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
        ];
        families.extend(quarantine(meters()));
        families.push(shadow(meters()));
        families
    }
}

/// Told of plug-ins that ever were in quarantine alone: for all others the answer is zero.
fn quarantine<'a>(meters: impl Iterator<Item = &'a PluginMeter>) -> [Family; 2] {
    let (mut callers, mut begun) = (Vec::new(), Vec::new());
    for plugin in meters {
        let Some(standing) = plugin.calls.quarantine().filter(|standing| standing.begun > 0) else { continue };
        let QuarantineStanding { callers: paused, pause_ms: _, begun: begun_count, refused: _ } = standing;
        callers.push(Sample::new(plugin.labels(), Value::Count(paused as u64)));
        begun.push(Sample::new(plugin.labels(), Value::Count(begun_count)));
    }
    [
        Family {
            name: "witgate_plugin_quarantined_callers",
            help: "Callers for whom a plug-in is not called just now, because it kept failing for them.",
            kind: Kind::Gauge,
            samples: callers,
        },
        counter(
            "witgate_plugin_quarantines",
            "How often a plug-in was no longer called for a caller; the calls that were refused are outcome \"quarantined\".",
            begun,
        ),
    ]
}

fn shadow<'a>(meters: impl Iterator<Item = &'a PluginMeter>) -> Family {
    let mut samples = Vec::new();
    for plugin in meters {
        let Some(ShadowCounts { agreed, would_deny, would_allow, failed, dropped }) = plugin.calls.shadow() else {
            continue;
        };
        let outcomes = [
            ("agreed", agreed),
            ("would-deny", would_deny),
            ("would-allow", would_allow),
            ("failed", failed),
            ("dropped", dropped),
        ];
        samples.extend(outcomes.map(|(outcome, count)| {
            let [name, generation] = plugin.labels();
            Sample::new([name, generation, ("outcome", outcome.into())], Value::Count(count))
        }));
    }
    counter(
        "witgate_plugin_shadow_decisions",
        "Decisions that a shadow policy was asked about, by what enforcing it would have changed.",
        samples,
    )
}

const fn mode_word(mode: Option<PolicyMode>) -> &'static str {
    match mode {
        Some(PolicyMode::Enforce) => "enforce",
        Some(PolicyMode::Shadow) => "shadow",
        None => "",
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
            kind: PluginKind::Policy,
            mode: Some(PolicyMode::Enforce),
            calls: CallFacts::default(),
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
            let memory = families.iter().find(|family| family.name == "witgate_plugin_memory_peak_bytes").unwrap();
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
