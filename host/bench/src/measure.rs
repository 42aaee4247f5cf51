//! Times the ways to call a guest, so that they can be compared on a machine that does other things too.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use witgate_plugin::Start;

use crate::bare::Warm;
use crate::guests::Guest;
use crate::subject::{Subjects, Way};

/// What was measured of one guest.
pub(crate) struct Row {
    label: String,
    snapshot: bool,
    /// Medians in µs, in the order of [`Way::ALL`].
    calls: [f64; 5],
    /// Of one call after a pause: bare, host.
    paused: [f64; 2],
    /// Calls of two threads, over those of one: bare, host.
    scaling: [f64; 2],
    /// Allocations of a fresh call: bare, host.
    allocations: [u64; 2],
}

/// Measures one guest.
pub(crate) fn measure(guest: &Guest) -> anyhow::Result<Row> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let subjects = runtime.block_on(Subjects::new(guest)).with_context(|| format!("cannot load `{}`", guest.label))?;
    let (calls, paused, allocations) = runtime.block_on(alone(&subjects))?;
    let scaling = [scaling(&subjects, Way::BareFresh)?, scaling(&subjects, Way::HostFresh)?];
    let snapshot = subjects.start == Start::Snapshot;
    Ok(Row { label: guest.label.clone(), snapshot, calls, paused, scaling, allocations })
}

type Alone = ([f64; 5], [f64; 2], [u64; 2]);

/// All that one thread can measure.
async fn alone(subjects: &Subjects) -> anyhow::Result<Alone> {
    let mut warm = subjects.warm().await?;
    let mut calls = [0.0; 5];
    let mut samples: [Vec<f64>; 5] = Default::default();
    let mut batches = [1_u32; 5];
    for (batch, way) in batches.iter_mut().zip(Way::ALL) {
        subjects.call(way, &mut warm).await?;
        let one = time(subjects, way, &mut warm, 1).await?;
        *batch = (BATCH.as_secs_f64() / one.as_secs_f64()).clamp(1.0, 1000.0).round() as u32;
    }
    for _ in 0..BATCHES {
        for ((way, batch), samples) in Way::ALL.into_iter().zip(batches).zip(&mut samples) {
            let took = time(subjects, way, &mut warm, batch).await?;
            samples.push(took.as_secs_f64() * 1e6 / f64::from(batch));
        }
    }
    for (median_of, samples) in calls.iter_mut().zip(samples) {
        *median_of = median(samples);
    }

    let mut after_a_pause: [Vec<f64>; 2] = Default::default();
    for _ in 0..PAUSES {
        for (way, samples) in [Way::BareFresh, Way::HostFresh].into_iter().zip(&mut after_a_pause) {
            tokio::time::sleep(PAUSE).await;
            samples.push(time(subjects, way, &mut warm, 1).await?.as_secs_f64() * 1e6);
        }
    }

    let mut allocations = [0; 2];
    for (count, way) in allocations.iter_mut().zip([Way::BareFresh, Way::HostFresh]) {
        let mut ended = None;
        let counted = allocation_counter::measure(|| ended = subjects.call(way, &mut warm).now_or_never());
        // One that gave its thread up on the way would be counted in part.
        ended.transpose()?;
        *count = counted.count_total;
    }
    Ok((calls, after_a_pause.map(median), allocations))
}

async fn time(subjects: &Subjects, way: Way, warm: &mut Warm, calls: u32) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for _ in 0..calls {
        subjects.call(way, warm).await?;
    }
    Ok(begun.elapsed())
}

/// How many times as much two threads do: one and two take turns, and the medians count.
fn scaling(subjects: &Subjects, way: Way) -> anyhow::Result<f64> {
    let (mut ones, mut twos) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        ones.push(calls_of(subjects, way, 1)?);
        twos.push(calls_of(subjects, way, 2)?);
    }
    Ok(median(twos) / median(ones))
}

/// The calls that so many threads do in a while.
fn calls_of(subjects: &Subjects, way: Way, threads: usize) -> anyhow::Result<f64> {
    let (over, calls) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut warm = subjects.warm().await?;
                while !over.load(Ordering::Relaxed) {
                    subjects.call(way, &mut warm).await?;
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                anyhow::Ok(())
            })
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        std::thread::sleep(TURN);
        over.store(true, Ordering::Relaxed);
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a thread died")))
    })?;
    Ok(calls.into_inner() as f64)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Row {
    /// What the columns are.
    pub(crate) const HEAD: &str = "\
guest                             start      | instan- | fresh call           | warm call            | after 10 ms  | 2 threads | allocs
                                             | tiate   | bare    host      ×  | bare    host      ×  | bare   host  | bare host | bare host";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.snapshot { "snapshot" } else { "each" };
        let [instantiate, bare, host, bare_warm, host_warm] = self.calls;
        let [bare_paused, host_paused] = self.paused;
        let [bare_scaling, host_scaling] = self.scaling;
        let [bare_allocations, host_allocations] = self.allocations;
        write!(f, "{:<33} {start:<10} | {instantiate:>7.1} ", self.label)?;
        write!(f, "| {bare:>7.1} {host:>7.1} {:>4.2} ", host / bare)?;
        write!(f, "| {bare_warm:>7.1} {host_warm:>7.1} {:>4.2} ", host_warm / bare_warm)?;
        write!(f, "| {bare_paused:>5.0} {host_paused:>6.0} | {bare_scaling:>4.2} {host_scaling:>4.2} ")?;
        write!(f, "| {bare_allocations:>4} {host_allocations:>4}")
    }
}

const BATCH: Duration = Duration::from_millis(1);
const BATCHES: usize = 301;
const PAUSE: Duration = Duration::from_millis(10);
const PAUSES: usize = 51;
const TURN: Duration = Duration::from_millis(250);
const TURNS: usize = 5;
