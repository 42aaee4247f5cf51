//! Checks that all counts agree under a mixed load with reloads: `cargo run --example mixed_load -- [SECONDS [WORKERS]]`.
//!
//! WORKERS (8) callers ask for SECONDS (600): lists, reads, writes, deletes, watches that end, denied requests, unknown callers,
//! clusters and routes; meanwhile policies come and go. Compared at the end, exactly: what the callers counted, `/metrics`, the
//! decision log, and the audit log of the rig's real API server. A table is printed; the exit code is 1 where anything differs.

#![expect(clippy::indexing_slicing, reason = "JSON is read by key: what is not there fails the check")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use witgate_tests::client::Client;
use witgate_tests::gate::Gate;
use witgate_tests::kube_rig;
use witgate_tests::metrics::Metrics;
use witgate_tests::plugin_folder::Plugin;
use witgate_tests::secrets::secret;
use witgate_tests::waiting::until;

type Counts = BTreeMap<String, u64>;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let seconds = arguments.next().unwrap_or(600);
    let workers = arguments.next().unwrap_or(8);
    let rig = match kube_rig::shared() {
        Ok(rig) => rig,
        Err(why) => return println!("skipped: {why}"),
    };
    // In each request's query, so that its audit event is found; the API server passes over what it does not know.
    let mark = format!("mixedLoad={}", std::process::id());
    let shadow = Plugin::policy("deny-proxy").sidecar(json!({ "mode": "shadow" }));
    let builder = Gate::without_clusters().cluster(rig.cluster_as("admin")).plugin(shadow);
    // All of the log is kept in memory, and ten minutes of tracing are too much of it.
    let gate = builder.log_level("warn,witgate::serve=info").start().await;
    let gate = Arc::new(gate);
    let stopped = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..workers)
        .map(|number| tokio::spawn(ask(Arc::clone(&gate), Arc::clone(&stopped), mark.clone(), number)))
        .collect();
    let reloads = tokio::spawn(reload(Arc::clone(&gate), Arc::clone(&stopped)));
    println!("{workers} callers for {seconds} s, with reloads");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    stopped.store(true, Ordering::Relaxed);

    let mut asked = Counts::new();
    let mut judged = 0;
    for caller in callers {
        let (counts, judged_of_caller) = caller.await.unwrap();
        for (code, count) in counts {
            *asked.entry(code).or_default() += count;
        }
        judged += judged_of_caller;
    }
    let reloads = reloads.await.unwrap();
    let total: u64 = asked.values().sum();
    let metrics = until("all streams are closed", || async {
        let metrics = gate.metrics().await;
        (metrics.sum("witgate_streams_open", &[]) == 0).then_some(metrics)
    });
    let metrics = metrics.await;
    let streams = metrics.sum("witgate_streams_closed_total", &[]);
    let lines = until("every decision is written", || async {
        let lines = gate.decisions();
        (lines.len() as u64 >= total + streams).then_some(lines)
    });
    let lines = lines.await;
    let audited =
        audited(rig, &mark, metrics.sum("witgate_requests_total", &[("cluster", "rig"), ("decision", "allow")])).await;

    // A plug-in in shadow mode is asked behind the answer.
    let metrics = gate.metrics().await;
    let ends = lines.iter().filter(|line| line.get("closeReason").is_some()).count() as u64;
    let logged = by_code(lines.iter().filter(|line| line.get("closeReason").is_none()), |line| line["status"].as_u64());
    let mut table = Table { differs: false };
    println!("{:<42} {:>10} {:>10}", "", "expected", "got");
    table.rows("/metrics, requests by code", &asked, &metrics.by("witgate_requests_total", &["code"]));
    table.rows("decision log, lines by status", &asked, &logged);
    table.rows("audit log, requests that went up by code", &audited, &went_up(&metrics));
    table.row("decision log, ends of streams", streams, ends);
    table.row("/metrics, requests timed", total, metrics.sum("witgate_request_duration_seconds_count", &[]));
    let strangers = asked.get("401").copied().unwrap_or_default();
    table.row("/metrics, decisions", judged + strangers, metrics.sum("witgate_decisions_total", &[]));
    table.row("allow-all, calls", judged, metrics.sum("witgate_plugin_calls_total", &[("plugin", "allow-all")]));
    let shadow = metrics.by("witgate_plugin_shadow_decisions_total", &["outcome"]);
    table.row("deny-proxy in shadow mode, decisions", judged, shadow.values().sum());
    let asked_of_shadow = judged - shadow.get("dropped").copied().unwrap_or_default();
    let shadow_calls = metrics.sum("witgate_plugin_calls_total", &[("plugin", "deny-proxy")]);
    table.row("deny-proxy in shadow mode, calls", asked_of_shadow, shadow_calls);
    let ended = metrics.by("witgate_reloads_total", &["result"]);
    // A machine that does much else may let a plug-in miss its time while it is tried; the folder is looked at again then.
    let log = gate.log();
    let refusals: Vec<_> = log.lines().filter(|line| line.contains("the last good generation serves on")).collect();
    let refused = refusals.len() as u64;
    for (result, expected) in [("published", reloads + 1), ("refused", refused)] {
        table.row(&format!("/metrics, reloads {result}"), expected, ended.get(result).copied().unwrap_or_default());
    }
    let phases = metrics.by("witgate_reload_phase_duration_seconds_count", &["phase"]);
    let loaded = phases.get("load").copied().unwrap_or_default();
    table.row("/metrics, reloads that came to load", reloads + 1 + refused, loaded);
    table.row("/metrics, reloads that came to build", reloads + 1, phases.get("build").copied().unwrap_or_default());
    let status = gate.status().await;
    table.row("/status, generation", reloads + 1, status["generation"].as_u64().unwrap_or_default());
    table.row("/metrics, generation", reloads + 1, metrics.sum("witgate_generation", &[]));
    table.row("/metrics, dropped lines", 0, metrics.sum("witgate_decision_log_dropped_lines_total", &[]));
    table.row("/metrics, in flight at the end", 0, metrics.sum("witgate_requests_in_flight", &[]));
    println!("{total} requests, {streams} watches, {reloads} reloads");
    refusals.iter().for_each(|line| println!("{line}"));
    if table.differs {
        println!("the counts differ");
        std::process::exit(1);
    }
    println!("all counts agree");
}

struct Table {
    differs: bool,
}

impl Table {
    fn row(&mut self, what: &str, expected: u64, got: u64) {
        let verdict = if expected == got { "" } else { "DIFFERS" };
        self.differs |= expected != got;
        println!("{what:<42} {expected:>10} {got:>10} {verdict}");
    }

    fn rows(&mut self, what: &str, expected: &Counts, got: &Counts) {
        let codes: BTreeSet<_> = expected.keys().chain(got.keys()).collect();
        for code in codes {
            let count = |counts: &Counts| counts.get(code).copied().unwrap_or_default();
            self.row(&format!("{what}: {code}"), count(expected), count(got));
        }
    }
}

fn by_code<'a>(lines: impl Iterator<Item = &'a Value>, code: impl Fn(&Value) -> Option<u64>) -> Counts {
    let mut counts = Counts::new();
    for line in lines {
        *counts.entry(code(line).map_or_else(|| "none".to_owned(), |code| code.to_string())).or_default() += 1;
    }
    counts
}

fn went_up(metrics: &Metrics) -> Counts {
    let by = metrics.by("witgate_requests_total", &["cluster", "decision", "code"]);
    by.into_iter().filter_map(|(labels, count)| Some((labels.strip_prefix("rig allow ")?.to_owned(), count))).collect()
}

/// The API server's own account, once it has written all that it is going to.
async fn audited(rig: &kube_rig::KubeRig, mark: &str, expected: u64) -> Counts {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let events = rig.audit_events(mark);
        let whole: Vec<_> = events.iter().filter(|event| event["stage"] == "ResponseComplete").collect();
        if whole.len() as u64 >= expected || Instant::now() > deadline {
            return by_code(whole.into_iter(), |event| event.pointer("/responseStatus/code")?.as_u64());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Policies come and go; how many times they did.
async fn reload(gate: Arc<Gate>, stopped: Arc<AtomicBool>) -> u64 {
    let mut count = 0;
    let mut present = BTreeSet::new();
    while !stopped.load(Ordering::Relaxed) {
        let name = if count % 3 == 0 { "read-only" } else { "no-opinion" };
        let before = gate.status().await["generation"].as_u64();
        if present.remove(name) {
            gate.plugins().remove(name);
        } else {
            present.insert(name);
            gate.plugins().put(&if name == "read-only" { Plugin::policy(name) } else { Plugin::fixture(name) });
        }
        gate.status_when("the next generation", |status| status["generation"].as_u64() > before).await;
        count += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    count
}

/// One caller: a story of requests again and again, each answer counted, and those that policies are asked about.
async fn ask(gate: Arc<Gate>, stopped: Arc<AtomicBool>, mark: String, number: u64) -> (Counts, u64) {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut counts = Counts::new();
    let mut judged = 0;
    let mut count = |status: u16| *counts.entry(status.to_string()).or_default() += 1;
    let rig: Client =
        if number.is_multiple_of(2) { gate.caller("jane").kubernetes("rig") } else { gate.client_as("jane") };
    let stranger = gate.client().with_token(&secret("a token that nobody has")).kubernetes("rig");
    let maps = "/api/v1/namespaces/default/configmaps";
    while !stopped.load(Ordering::Relaxed) {
        let name = format!("mixed-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let map =
            json!({ "kind": "ConfigMap", "apiVersion": "v1", "metadata": { "name": name }, "data": { "n": "1" } });
        count(rig.get(&format!("{maps}?limit=5&{mark}")).await.status());
        count(rig.post(&format!("{maps}?{mark}"), map.to_string()).await.status());
        count(rig.get(&format!("{maps}/{name}?{mark}")).await.status());
        count(rig.get(&format!("{maps}?watch=1&timeoutSeconds=1&labelSelector=no%3Dne&{mark}")).await.status());
        count(rig.delete(&format!("{maps}/{name}?{mark}")).await.status());
        count(rig.get(&format!("{maps}/none?{mark}")).await.status());
        count(rig.call("PATCH", &format!("{maps}/none?{mark}")).body("{").await.status());
        count(rig.call("OPTIONS", &format!("{maps}?{mark}")).await.status());
        judged += 8;
        // No policy hears of these.
        count(rig.get(&format!("/api/v1/../v1/pods?{mark}")).await.status());
        count(stranger.get(&format!("{maps}?{mark}")).await.status());
        count(gate.caller("jane").kubernetes("nope").get(maps).await.status());
        count(gate.caller("jane").get("/elsewhere").await.status());
    }
    (counts, judged)
}
