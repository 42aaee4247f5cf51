//! What is shown: made of two looks and the decisions since, and the same for the terminal and for `--once`.

use std::collections::VecDeque;

use super::looking::{Cluster, Decision, Decisions, Look, Plugin};
use super::samples::Samples;

/// What is known of the gate.
#[derive(Debug, Default)]
pub(super) struct Board {
    last: Option<Look>,
    before: Option<Totals>,
    decisions: VecDeque<Decision>,
    /// Why the last look failed; none where it did not.
    pub(super) trouble: Option<String>,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
struct Totals {
    at: std::time::Instant,
    started_at: f64,
    requests: f64,
    allowed: f64,
    denied: f64,
}

/// Counters, and how fast they grow; no rate before the second look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Traffic {
    pub(super) requests: Flow,
    pub(super) allowed: Flow,
    pub(super) denied: Flow,
    pub(super) in_flight: u64,
    pub(super) streams: u64,
    pub(super) memory_bytes: u64,
    pub(super) up_seconds: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Flow {
    pub(super) total: u64,
    pub(super) per_second: Option<f64>,
}

/// A plug-in's calls.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Calls {
    pub(super) total: u64,
    pub(super) failed: u64,
    pub(super) p50: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Board {
    /// Takes a look; the one before is what rates are measured from.
    pub(super) fn learn(&mut self, look: Look) {
        self.before = self.last.as_ref().map(Totals::of);
        self.last = Some(look);
        self.trouble = None;
    }

    /// The last look, once there was one.
    pub(super) const fn last(&self) -> Option<&Look> {
        self.last.as_ref()
    }

    /// Takes decisions, the oldest first. The second line of a stream takes the place of its first.
    pub(super) fn decided(&mut self, Decisions { decisions }: Decisions) {
        for decision in decisions {
            if let Some(known) = self.decisions.iter_mut().find(|known| known.id == decision.id) {
                if decision.close_reason.is_some() {
                    *known = decision;
                }
                continue;
            }
            if self.decisions.len() == DECISIONS_MAX {
                self.decisions.pop_back();
            }
            self.decisions.push_front(decision);
        }
    }

    /// The decisions that are kept, the newest first.
    pub(super) fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    pub(super) fn traffic(&self) -> Option<Traffic> {
        let look = self.last.as_ref()?;
        let now = Totals::of(look);
        // Another process counts from zero: what it did since the last look is not known.
        let before = self.before.filter(|before| before.started_at == now.started_at);
        let flow = |of: fn(&Totals) -> f64| {
            let per_second = before.and_then(|before| {
                let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
                (seconds > 0.0).then(|| (of(&now) - of(&before)).max(0.0) / seconds)
            });
            Flow { total: whole(of(&now)), per_second }
        };
        let epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
        let samples = &look.samples;
        Some(Traffic {
            requests: flow(|totals| totals.requests),
            allowed: flow(|totals| totals.allowed),
            denied: flow(|totals| totals.denied),
            in_flight: whole(samples.sum("witgate_requests_in_flight", &[])),
            streams: whole(samples.sum("witgate_streams_open", &[])),
            memory_bytes: whole(samples.sum("process_resident_memory_bytes", &[])),
            up_seconds: (now.started_at > 0.0).then(|| whole(epoch - now.started_at)),
        })
    }

    /// The plug-ins, policies first; built-in strategies that nothing asked only where `with_unused` says so.
    pub(super) fn plugins(&self, with_unused: bool) -> Vec<(&Plugin, Calls)> {
        let Some(Look { status, samples, .. }) = &self.last else { return Vec::new() };
        let plugins = status.plugins.iter().map(|plugin| (plugin, Calls::of(plugin, samples)));
        let is_used = |(plugin, calls): &(&Plugin, Calls)| {
            with_unused || !plugin.builtin || calls.total > 0 || plugin.error.is_some()
        };
        let mut plugins: Vec<_> = plugins.filter(is_used).collect();
        plugins.sort_by_key(|(plugin, _)| plugin.kind.as_deref() == Some("strategy"));
        plugins
    }

    pub(super) fn clusters(&self) -> impl Iterator<Item = (&Cluster, &Samples)> {
        self.last.iter().flat_map(|look| look.status.clusters.iter().map(|cluster| (cluster, &look.samples)))
    }
}

impl Totals {
    fn of(look: &Look) -> Self {
        let requests = |wanted: &[(&str, &str)]| look.samples.sum("witgate_requests_total", wanted);
        Self {
            at: look.at,
            started_at: look.samples.sum("process_start_time_seconds", &[]),
            requests: requests(&[]),
            allowed: requests(&[("decision", "allow")]),
            denied: requests(&[("decision", "deny")]),
        }
    }
}

impl Calls {
    fn of(plugin: &Plugin, samples: &Samples) -> Self {
        let generation = plugin.generation.map(|generation| generation.to_string()).unwrap_or_default();
        let wanted = [("plugin", plugin.name.as_str()), ("generation", generation.as_str())];
        let outcomes = samples.by("witgate_plugin_calls_total", &wanted, "outcome");
        let of = |failed: bool| {
            outcomes
                .iter()
                .filter(|(outcome, _)| ANSWERS.contains(outcome) != failed)
                .map(|(_, count)| count)
                .sum::<f64>()
        };
        let duration = |share| samples.quantile("witgate_plugin_call_duration_seconds", &wanted, share);
        Self { total: whole(of(false) + of(true)), failed: whole(of(true)), p50: duration(0.5), p99: duration(0.99) }
    }
}

/// A count that came as a number with a fraction.
pub(super) fn whole(number: f64) -> u64 {
    // Counts are far below where a `f64` ends to be exact; the cast saturates.
    number.round() as u64
}

/// What is an answer, and not a failure to give one; that a caller brings no token is the caller's.
const ANSWERS: [&str; 7] = ["allow", "deny", "no-opinion", "conditional", "credential", "missing-token", "refused"];

/// Decisions that are kept to be shown.
const DECISIONS_MAX: usize = 200;

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a test may panic")]
pub(super) mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::top::looking::Status;

    /// A look at a gate that did a little; `requests` of them, half a minute after it started.
    pub(in crate::top) fn look(at: Instant, requests: u64, started_at: u64) -> Look {
        let status: Status = serde_json::from_value(serde_json::json!({
            "generation": 3,
            "plugins": [
                { "name": "aks", "kind": "strategy", "generation": 1, "builtin": true },
                { "name": "serviceAccount", "kind": "strategy", "generation": 1, "builtin": true },
                { "name": "read-only", "kind": "policy", "mode": "shadow", "generation": 3,
                  "shadow": { "agreed": 5, "wouldDeny": 2, "wouldAllow": 0, "failed": 0 } },
                { "name": "tenancy", "kind": "policy", "mode": "enforce", "generation": 2,
                  "quarantine": { "callers": 1 }, "error": "tenancy.wasm: not a component" },
            ],
            "lastReload": { "time": "2026-01-02T03:04:05Z", "result": "refused", "error": "tenancy.wasm: not a component" },
            "pinned": { "contentOf": 2 },
            "clusters": [
                { "name": "one", "authProvider": "serviceAccount" },
                { "name": "two", "authProvider": "aks", "error": "its API server is not reached" },
            ],
        }))
        .unwrap();
        let text = format!(
            "witgate_requests_total{{cluster=\"one\",decision=\"allow\",code=\"200\"}} {requests}\n\
             witgate_requests_total{{cluster=\"one\",decision=\"deny\",code=\"403\"}} 2\n\
             witgate_requests_in_flight{{cluster=\"one\"}} 4\n\
             witgate_plugin_calls_total{{plugin=\"tenancy\",generation=\"2\",outcome=\"allow\"}} {requests}\n\
             witgate_plugin_calls_total{{plugin=\"tenancy\",generation=\"2\",outcome=\"trapped\"}} 1\n\
             witgate_plugin_calls_total{{plugin=\"tenancy\",generation=\"1\",outcome=\"allow\"}} 900\n\
             witgate_plugin_calls_total{{plugin=\"serviceAccount\",generation=\"1\",outcome=\"credential\"}} 7\n\
             witgate_plugin_call_duration_seconds_bucket{{plugin=\"tenancy\",generation=\"2\",le=\"0.00001\"}} 9\n\
             witgate_plugin_call_duration_seconds_bucket{{plugin=\"tenancy\",generation=\"2\",le=\"0.0025\"}} 10\n\
             witgate_request_duration_seconds_bucket{{cluster=\"one\",le=\"0.01\"}} 10\n\
             witgate_build_info{{version=\"0.1.0\"}} 1\n\
             process_resident_memory_bytes 83886080\n\
             process_start_time_seconds {started_at}\n"
        );
        Look { at, status, samples: Samples::parse(&text), unready: None }
    }

    pub(in crate::top) fn decision(id: &str, verdict: &str, user: &str) -> Decision {
        Decision {
            id: id.to_owned(),
            time: "2026-01-02T03:04:05.678Z".to_owned(),
            user: Some(user.to_owned()),
            cluster: Some("one".to_owned()),
            verb: Some("get".to_owned()),
            namespace: Some("dev".to_owned()),
            resource: Some("pods".to_owned()),
            decision: verdict.to_owned(),
            reason: (verdict == "deny").then(|| "denied by policy `read-only`: no".to_owned()),
            policy: Some("read-only".to_owned()),
            status: Some(if verdict == "deny" { 403 } else { 200 }),
            duration_ms: Some(3),
            ..Decision::default()
        }
    }

    /// Goal: rates are of the time between two looks at one process. Method: looks two seconds apart, then another process.
    #[test]
    fn rates_are_of_one_process() {
        let start = Instant::now();
        let mut board = Board::default();
        assert_eq!(board.traffic(), None);
        board.learn(look(start, 10, 5));
        assert_eq!(board.traffic().unwrap().requests, Flow { total: 12, per_second: None });
        board.learn(look(start + Duration::from_secs(2), 30, 5));
        let traffic = board.traffic().unwrap();
        assert_eq!(traffic.requests, Flow { total: 32, per_second: Some(10.0) });
        assert_eq!(traffic.denied, Flow { total: 2, per_second: Some(0.0) });
        board.learn(look(start + Duration::from_secs(4), 1, 6));
        assert_eq!(board.traffic().unwrap().requests, Flow { total: 3, per_second: None });
    }

    /// Goal: a plug-in's calls are those of its generation, failures apart; what nothing asked is left out. Method: all kinds.
    #[test]
    fn calls_are_of_the_generation_that_serves() {
        let mut board = Board::default();
        board.learn(look(Instant::now(), 9, 5));
        let plugins = board.plugins(false);
        let names: Vec<_> = plugins.iter().map(|(plugin, _)| plugin.name.as_str()).collect();
        assert_eq!(names, ["read-only", "tenancy", "serviceAccount"]);
        assert_eq!(plugins[1].1, Calls { total: 10, failed: 1, p50: Some(0.00001), p99: Some(0.0025) });
        assert_eq!(board.plugins(true).len(), 4);
    }

    /// Goal: decisions are bounded, told once, and a stream's end goes to its beginning. Method: more than are kept, and one twice.
    #[test]
    fn decisions_are_bounded_and_told_once() {
        let mut board = Board::default();
        let all = (0..DECISIONS_MAX + 5).map(|number| decision(&number.to_string(), "allow", "jane"));
        board.decided(Decisions { decisions: all.collect() });
        let last = (DECISIONS_MAX + 4).to_string();
        let end = Decision { close_reason: Some("completed".to_owned()), ..decision(&last, "allow", "jane") };
        board.decided(Decisions { decisions: vec![end, decision(&last, "allow", "jane")] });
        assert_eq!(board.decisions().count(), DECISIONS_MAX);
        let first = board.decisions().next().unwrap();
        assert_eq!((first.id.as_str(), first.close_reason.as_deref()), (last.as_str(), Some("completed")));
    }
}
