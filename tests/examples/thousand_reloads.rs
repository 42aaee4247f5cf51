//! Reloads under load, measured: `cargo run --example thousand_reloads -- [RELOADS [CONNECTIONS [PAUSE_MS]]]`.
//!
//! CONNECTIONS callers (64) ask without a break of more than PAUSE_MS (20) between two requests, first in peace, then while the
//! one policy is replaced RELOADS times (1000), allowing and denying in turn. It ends with an error where a request failed or an
//! answer was not that of exactly one generation; it prints the 99th percentile of both phases, and the memory after the
//! first ten reloads and after all. Then, without load: how long it takes from saving a policy until it is enforced, with
//! code that is compiled already and with bytes that never were, and where the time goes.
//!
//! The gate is `target/debug/witgate`, or what `WITGATE_BIN` names: a figure for the record is that of a release build. The callers
//! run on the same machine, so their own work is in the figures.

use std::time::{Duration, Instant};

use serde_json::Value;
use witgate_tests::api_server::ApiServer;
use witgate_tests::reload_storm::Storm;

/// How long the callers ask in peace.
const QUIET: Duration = Duration::from_secs(10);
/// How many saves are measured of each sort.
const SAVES: u32 = 31;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().expect("a number"));
    let reloads = arguments.next().unwrap_or(1000);
    let connections = arguments.next().unwrap_or(64) as usize;
    let pause = Duration::from_millis(arguments.next().unwrap_or(20));
    println!("{reloads} reloads, {connections} connections, {pause:?} between two requests of each");

    let api_server = ApiServer::start().await;
    let mut storm = Storm::start(&api_server).await;
    let load = storm.load(connections, pause);
    tokio::time::sleep(QUIET).await;
    let quiet = load.stop().await;
    tell("in peace", &quiet, QUIET);

    let load = storm.load(connections, pause);
    let begun = Instant::now();
    let mut took = Vec::new();
    let mut memory_after_ten = 0;
    for number in 1..=reloads {
        took.push(storm.reload().await);
        if number == 10.min(reloads) {
            memory_after_ten = storm.gate().memory_kib();
        }
        if number % 100 == 0 {
            println!("  {number} reloads: {} KiB resident", storm.gate().memory_kib());
        }
    }
    let memory_after_all = storm.gate().memory_kib();
    let lasted = begun.elapsed();
    let loaded = load.stop().await;
    tell("with reloads", &loaded, lasted);
    let ratio = percentile(&loaded, 99).as_secs_f64() / percentile(&quiet, 99).as_secs_f64();
    println!("p99 with reloads: {ratio:.2} times that in peace (goal: at most 2)");
    took.sort();
    println!("a reload: median {:.1?}, longest {:.1?}", percentile(&took, 50), percentile(&took, 100));
    let grown = memory_after_all as i64 - memory_after_ten as i64;
    println!(
        "memory: {memory_after_ten} KiB after ten reloads, {memory_after_all} KiB after all: {grown:+} KiB (goal: 2048)"
    );
    let (lines, generations) = storm.check_decisions(quiet.len() + loaded.len()).await;
    println!("{lines} decisions of {generations} generations, each line of exactly one");
    drop(storm);

    for is_new in [false, true] {
        let mut storm = Storm::start(&api_server).await;
        // The first saves compile both policies.
        for _ in 0..2 {
            storm.save_to_enforced(None).await;
        }
        let mut took = Vec::new();
        // No earlier run had these bytes: what it compiled is in the cache on disk.
        let first = std::process::id().wrapping_mul(SAVES);
        for number in 0..SAVES {
            took.push(storm.save_to_enforced(is_new.then_some(first.wrapping_add(number))).await);
        }
        took.sort();
        let (what, goal) = if is_new { ("new bytes", 300) } else { ("compiled before", 100) };
        let (median, p90) = (percentile(&took, 50), percentile(&took, 90));
        println!(
            "save to enforced, {what}: median {median:.1?}, p90 {p90:.1?} (goal: {goal} ms); {}",
            phases(&storm).await
        );
    }
}

fn tell(what: &str, latencies: &[Duration], lasted: Duration) {
    let rate = latencies.len() as f64 / lasted.as_secs_f64();
    let [p50, p90, p99, max] = [50, 90, 99, 100].map(|percent| percentile(latencies, percent));
    println!(
        "{what}: {} requests, {rate:.0}/s; p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?}",
        latencies.len()
    );
}

/// Of sorted durations.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// The medians of the phases of the last reloads, as `/status` tells them.
async fn phases(storm: &Storm) -> String {
    let status = storm.gate().status().await;
    let reloads = status.get("reloads").and_then(Value::as_array).cloned().unwrap_or_default();
    let median = |phase: &str| {
        let pointer = format!("/phasesMs/{phase}");
        let of_phase =
            reloads.iter().rev().take(SAVES as usize).filter_map(|reload| reload.pointer(&pointer)?.as_f64());
        let mut of_phase: Vec<_> = of_phase.collect();
        of_phase.sort_by(f64::total_cmp);
        let median = of_phase.get(of_phase.len() / 2).copied().unwrap_or_default();
        format!("{phase} {median:.1} ms")
    };
    ["settle", "scan", "load", "build"].map(median).join(", ")
}
