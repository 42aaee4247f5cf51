//! Traces and metrics for an OTLP receiver, where the configuration names one.
//!
//! A request only ever puts its trace into a bounded queue; one task makes batches and sends them. A receiver that is slow or
//! gone costs traces, never requests: what finds no room, or is not taken, is dropped and counted.
//!
//! Sent is OTLP over HTTP in its JSON form ([`otlp`]), by a client of our own ([`send`]): the libraries that speak OTLP bring a gRPC
//! stack or an HTTP client with TLS of its own, threads, and an SDK that wants to measure what is measured already.

mod otlp;
mod send;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::SecureRandom;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use witgate_core::Counter;
use witgate_proxy::decision::DecisionRecord;
use witgate_proxy::trace::{Trace, TraceContext, TraceParent, Tracer};

use crate::config::TelemetryConfig;
use crate::metrics::{Family, Kind, Label, Metrics, Sample, Value};
use send::Receiver;

/// Says which requests are traced, and queues their traces.
pub(crate) struct Telemetry {
    queue: mpsc::Sender<Queued>,
    counts: Arc<TelemetryCounts>,
    /// Of all numbers, those up to this one are taken.
    share: u64,
    seed: u64,
    asked: Counter,
}

enum Queued {
    Trace(Box<(Trace, DecisionRecord)>),
    /// Tell when all before is sent.
    Flush(oneshot::Sender<()>),
}

/// What was sent, and what was not.
#[derive(Debug, Default)]
pub(crate) struct TelemetryCounts {
    traces_sent: Counter,
    traces_dropped: Counter,
    failures: Counter,
}

impl TelemetryCounts {
    /// As metrics.
    pub(crate) fn families(&self) -> [Family; 2] {
        let traces = [("sent", &self.traces_sent), ("dropped", &self.traces_dropped)];
        let sample = |labels: Vec<Label>, count: &Counter| Sample { labels, value: Value::Count(count.read()) };
        [
            Family {
                name: "witgate_telemetry_traces",
                help: "Traces of requests that were sent by OTLP, or dropped because the receiver was behind or gone.",
                kind: Kind::Counter,
                samples: traces.map(|(result, count)| sample(vec![("result", result.into())], count)).into(),
            },
            Family {
                name: "witgate_telemetry_failures",
                help: "Batches of traces or metrics that the OTLP receiver did not take.",
                kind: Kind::Counter,
                samples: vec![sample(Vec::new(), &self.failures)],
            },
        ]
    }
}

/// What has to run for traces and metrics to be sent.
pub(crate) struct Sending {
    receiver: Arc<Receiver>,
    queue: mpsc::Receiver<Queued>,
    counts: Arc<TelemetryCounts>,
}

impl Telemetry {
    /// The tracer of `config`, and what sends what it takes.
    ///
    /// # Errors
    /// When the receiver's URL or authorities cannot be used.
    pub(crate) fn new(config: &TelemetryConfig) -> anyhow::Result<(Self, Sending)> {
        let receiver = Arc::new(Receiver::new(config)?);
        let (queue, queued) = mpsc::channel(QUEUE_TRACES_MAX);
        let counts = Arc::<TelemetryCounts>::default();
        // A float's conversion saturates, so 1.0 takes all.
        let share = (config.sample_ratio * u64::MAX as f64) as u64;
        let seed = random().ok_or_else(|| anyhow::anyhow!("the operating system gives no randomness"))?;
        let this = Self { queue, counts: Arc::clone(&counts), share, seed, asked: Counter::default() };
        Ok((this, Sending { receiver, queue: queued, counts }))
    }

    /// What was sent, and what was not.
    pub(crate) const fn counts(&self) -> &Arc<TelemetryCounts> {
        &self.counts
    }

    /// Waits until all that is queued is sent, but not long.
    pub(crate) async fn flush(&self) {
        let (sent, all_sent) = oneshot::channel();
        let flush = async {
            if self.queue.send(Queued::Flush(sent)).await.is_ok() {
                // The sending task may have ended.
                let _ = all_sent.await;
            }
        };
        if tokio::time::timeout(FLUSH_TIMEOUT, flush).await.is_err() {
            warn!("the last traces were not sent within {FLUSH_TIMEOUT:?}");
        }
    }

    /// Whether this one, of those whose client says nothing of a trace, is traced.
    fn takes_next(&self) -> bool {
        self.asked.increment();
        // SplitMix64: spreads what counts up evenly, without a pattern that a client could fall into step with.
        let mut mixed = self.seed.wrapping_add(self.asked.read().wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.share > 0 && (mixed ^ (mixed >> 31)) <= self.share
    }
}

impl Tracer for Telemetry {
    fn begin(&self, parent: Option<TraceParent>) -> Option<TraceContext> {
        let is_taken = parent.map_or_else(|| self.takes_next(), |parent| parent.sampled);
        if !is_taken {
            return None;
        }
        let trace_id = match parent {
            Some(parent) => parent.trace_id,
            None => u128::from(random()?) << 64 | u128::from(random()?),
        };
        let parent_span_id = parent.map(|parent| parent.span_id);
        Some(TraceContext { trace_id, parent_span_id, span_id: random()?, forward_span_id: random()? })
    }

    fn end(&self, trace: Trace, record: &DecisionRecord) {
        if self.queue.try_send(Queued::Trace(Box::new((trace, record.clone())))).is_err() {
            self.counts.traces_dropped.increment();
        }
    }
}

impl Sending {
    /// Sends traces for as long as there may be any.
    pub(crate) async fn send_traces(mut self) {
        let mut batch = Vec::new();
        let mut waiting = Vec::new();
        let mut failing = false;
        let mut due: Option<Instant> = None;
        loop {
            let queued = match due {
                None => self.queue.recv().await,
                Some(at) => match tokio::time::timeout_at(at, self.queue.recv()).await {
                    Ok(queued) => queued,
                    Err(_) => {
                        self.send(&mut batch, &mut failing).await;
                        due = None;
                        continue;
                    }
                },
            };
            match queued {
                Some(Queued::Trace(trace)) => batch.push(*trace),
                Some(Queued::Flush(sent)) => waiting.push(sent),
                None => return,
            }
            if batch.len() >= BATCH_TRACES_MAX || !waiting.is_empty() {
                self.send(&mut batch, &mut failing).await;
                due = None;
                // Whoever waited may have left.
                for sent in waiting.drain(..) {
                    let _ = sent.send(());
                }
            } else {
                due.get_or_insert_with(|| Instant::now() + BATCH_DELAY);
            }
        }
    }

    async fn send(&self, batch: &mut Vec<(Trace, DecisionRecord)>, failing: &mut bool) {
        if batch.is_empty() {
            return;
        }
        let traces = batch.len() as u64;
        let body = otlp::traces(batch);
        batch.clear();
        match self.receiver.post("/v1/traces", body).await {
            Ok(()) => {
                self.counts.traces_sent.add(traces);
                if std::mem::take(failing) {
                    info!("traces are sent again");
                }
            }
            Err(error) => {
                self.counts.traces_dropped.add(traces);
                self.counts.failures.increment();
                if std::mem::replace(failing, true) {
                    debug!(error = format!("{error:#}"), traces, "traces are not sent");
                } else {
                    warn!(error = format!("{error:#}"), "traces are not sent; they are dropped until they can be");
                }
            }
        }
    }

    /// Sends the metrics every so often; never ends.
    pub(crate) fn metrics(&self, metrics: Arc<Metrics>, interval: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (receiver, counts) = (Arc::clone(&self.receiver), Arc::clone(&self.counts));
        async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut failing = false;
            loop {
                ticks.tick().await;
                let body = otlp::metrics(&metrics.read(), metrics.started_at, SystemTime::now());
                match receiver.post("/v1/metrics", body).await {
                    Ok(()) => failing = false,
                    Err(error) => {
                        counts.failures.increment();
                        if !std::mem::replace(&mut failing, true) {
                            warn!(error = format!("{error:#}"), "metrics are not sent; tried again at the next turn");
                        }
                    }
                }
            }
        }
    }
}

/// A number that nobody guesses, and that is not 0, which means none.
fn random() -> Option<u64> {
    static RANDOM: LazyLock<&'static dyn SecureRandom> =
        LazyLock::new(|| rustls::crypto::aws_lc_rs::default_provider().secure_random);
    let mut bytes = [0; 8];
    RANDOM.fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes).max(1))
}

/// Traces that may wait to be sent.
const QUEUE_TRACES_MAX: usize = 2_048;

/// Traces that are sent at once, and how long the first of them waits for others.
const BATCH_TRACES_MAX: usize = 128;
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How long the end of the gate waits for the last traces.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(sample_ratio: f64) -> (Telemetry, Sending) {
        let config = TelemetryConfig {
            endpoint: "http://127.0.0.1:1".into(),
            headers: Vec::new(),
            certificate_authorities: None,
            sample_ratio,
            traces: true,
            metrics: false,
            metrics_interval: Duration::from_secs(60),
        };
        Telemetry::new(&config).unwrap()
    }

    /// Goal: a client's word on tracing counts, else the share. Method: a thousand requests of each kind.
    #[test]
    fn the_client_says_or_the_share_does() {
        let check = |ratio: f64, sampled: Option<bool>, expected: std::ops::RangeInclusive<usize>| {
            let (telemetry, _sending) = telemetry(ratio);
            let parent = sampled.map(|sampled| TraceParent { trace_id: 1, span_id: 2, sampled });
            let taken = (0..1000).filter_map(|_| telemetry.begin(parent)).count();
            assert!(expected.contains(&taken), "{ratio} {sampled:?}: {taken}");
        };
        check(0.0, None, 0..=0);
        check(1.0, None, 1000..=1000);
        check(0.1, None, 50..=150);
        check(0.0, Some(true), 1000..=1000);
        check(1.0, Some(false), 0..=0);
    }

    /// Goal: a queue that is full drops and counts. Method: more traces than fit, and nobody sends.
    #[test]
    fn a_full_queue_drops_and_counts() {
        let (telemetry, _sending) = telemetry(1.0);
        let trace = otlp::tests::trace();
        for _ in 0..QUEUE_TRACES_MAX + 3 {
            telemetry.end(trace.0.clone(), &trace.1);
        }
        assert_eq!(telemetry.counts.traces_dropped.read(), 3);
    }

    /// Goal: what the receiver does not take is dropped, and the next is tried. Method: nobody listens there.
    #[tokio::test]
    async fn a_receiver_that_is_gone_costs_traces_alone() {
        let (telemetry, sending) = telemetry(1.0);
        let sending = tokio::spawn(sending.send_traces());
        let trace = otlp::tests::trace();
        for dropped in 1..=2 {
            telemetry.end(trace.0.clone(), &trace.1);
            telemetry.flush().await;
            assert_eq!((telemetry.counts.traces_dropped.read(), telemetry.counts.failures.read()), (dropped, dropped));
        }
        drop(telemetry);
        sending.await.unwrap();
    }
}
