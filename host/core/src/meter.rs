//! Counting without a lock: what the parts count for themselves, and others read when they want to know.
//!
//! Nothing here knows who reads or in which format. Everything is a plain atomic that somebody holds already when
//! something happens, so counting looks nothing up and allocates nothing.
//!
//! Promise: each value only grows (but for what says that it is a gauge), and a reading is never ahead of what happened.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Answer, AuthError, CallError, Decision, Issued, Limit};

/// How often something happened.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Once more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// So many times more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How often so far.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many of something there are now.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more.
    pub fn enter(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn leave(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// Remembers `value` if it is the greatest so far.
    pub fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }

    /// How many now.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something took, in buckets.
#[derive(Debug)]
pub struct Histogram {
    bounds_us: &'static [u64],
    /// One for each bound, and one for what is longer.
    buckets: Box<[Counter]>,
    sum_ns: Counter,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramReading {
    /// The upper bounds in seconds, each with how many took no longer and longer than the bound before; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// All together, in seconds.
    pub sum: f64,
    /// How many.
    pub count: u64,
}

impl Histogram {
    /// An empty one; `bounds_us` are microseconds and ascend.
    pub fn new(bounds_us: &'static [u64]) -> Self {
        let buckets = std::iter::repeat_with(Counter::default).take(bounds_us.len() + 1).collect();
        Self { bounds_us, buckets, sum_ns: Counter::default() }
    }

    /// It took so long.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let index = self.bounds_us.iter().take_while(|bound| nanos > **bound * 1000).count();
        if let Some(bucket) = self.buckets.get(index) {
            bucket.increment();
        }
        self.sum_ns.add(nanos);
    }

    fn clear(&self) {
        for counter in self.buckets.iter().chain([&self.sum_ns]) {
            counter.0.store(0, Ordering::Relaxed);
        }
    }

    /// What it holds now.
    pub fn read(&self) -> HistogramReading {
        let bounds = self.bounds_us.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets.iter().map(Counter::read)).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        HistogramReading { buckets, sum: self.sum_ns.read() as f64 / 1e9, count }
    }
}

/// What came of a plug-in's call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallOutcome {
    /// A policy allowed.
    Allow,
    /// A policy denied.
    Deny,
    /// A policy has no rule.
    NoOpinion,
    /// A policy left it to conditions.
    Conditional,
    /// A strategy yielded a credential.
    Credential,
    /// A strategy lacks the caller's token.
    MissingToken,
    /// The identity provider said no.
    Refused,
    /// The identity provider cannot be reached.
    Unavailable,
    /// The configuration is wrong.
    Misconfigured,
    /// Interrupted at its deadline.
    DeadlineExceeded,
    /// As many calls as may be were in flight.
    Saturated,
    /// Not called: it kept failing for this caller.
    Quarantined,
    /// Out of memory.
    MemoryLimit,
    /// Out of table elements.
    TableLimit,
    /// More core instances than it may have.
    InstanceLimit,
    /// Out of stack.
    StackLimit,
    /// The answer was too large.
    OutputLimit,
    /// The guest died.
    Trapped,
    /// The answer is not of the contract.
    MalformedAnswer,
    /// Whoever asked left before the answer.
    Cancelled,
}

impl CallOutcome {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Allow,
        Self::Deny,
        Self::NoOpinion,
        Self::Conditional,
        Self::Credential,
        Self::MissingToken,
        Self::Refused,
        Self::Unavailable,
        Self::Misconfigured,
        Self::DeadlineExceeded,
        Self::Saturated,
        Self::Quarantined,
        Self::MemoryLimit,
        Self::TableLimit,
        Self::InstanceLimit,
        Self::StackLimit,
        Self::OutputLimit,
        Self::Trapped,
        Self::MalformedAnswer,
        Self::Cancelled,
    ];

    /// A short stable word; for a call that failed the one of [`CallError::code`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::NoOpinion => "no-opinion",
            Self::Conditional => "conditional",
            Self::Credential => "credential",
            Self::MissingToken => "missing-token",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Saturated => "saturated",
            Self::Quarantined => "quarantined",
            Self::MemoryLimit => "memory-limit",
            Self::TableLimit => "table-limit",
            Self::InstanceLimit => "instance-limit",
            Self::StackLimit => "stack-limit",
            Self::OutputLimit => "output-limit",
            Self::Trapped => "trapped",
            Self::MalformedAnswer => "malformed-answer",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<&Answer> for CallOutcome {
    fn from(answer: &Answer) -> Self {
        Self::from(&answer.decision)
    }
}

impl From<&Decision> for CallOutcome {
    fn from(decision: &Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny(_) => Self::Deny,
            Decision::NoOpinion => Self::NoOpinion,
            Decision::Conditional(_) => Self::Conditional,
        }
    }
}

impl From<&Result<Issued, AuthError>> for CallOutcome {
    fn from(answer: &Result<Issued, AuthError>) -> Self {
        match answer {
            Ok(_) => Self::Credential,
            Err(AuthError::MissingToken(_)) => Self::MissingToken,
            Err(AuthError::Refused(_)) => Self::Refused,
            Err(AuthError::Unavailable(_)) => Self::Unavailable,
            Err(AuthError::Misconfigured(_)) => Self::Misconfigured,
        }
    }
}

impl From<&CallError> for CallOutcome {
    fn from(error: &CallError) -> Self {
        match error {
            CallError::DeadlineExceeded { .. } => Self::DeadlineExceeded,
            CallError::Saturated { .. } => Self::Saturated,
            CallError::Quarantined { .. } => Self::Quarantined,
            CallError::LimitReached { limit: Limit::Memory, .. } => Self::MemoryLimit,
            CallError::LimitReached { limit: Limit::Table, .. } => Self::TableLimit,
            CallError::LimitReached { limit: Limit::Instances, .. } => Self::InstanceLimit,
            CallError::LimitReached { limit: Limit::Stack, .. } => Self::StackLimit,
            CallError::LimitReached { limit: Limit::Output, .. } => Self::OutputLimit,
            CallError::Trapped { .. } => Self::Trapped,
            CallError::Malformed { .. } => Self::MalformedAnswer,
        }
    }
}

/// What the calls of one loaded plug-in came to.
#[derive(Debug)]
pub struct CallMeter {
    outcomes: [Counter; CallOutcome::ALL.len()],
    duration: Histogram,
    instantiation: Histogram,
    memory_bytes_peak: Gauge,
}

impl Default for CallMeter {
    fn default() -> Self {
        Self {
            outcomes: Default::default(),
            duration: Histogram::new(CALL_BOUNDS_US),
            instantiation: Histogram::new(CALL_BOUNDS_US),
            memory_bytes_peak: Gauge::default(),
        }
    }
}

impl CallMeter {
    /// Waits for `call` and counts it, whatever comes of it; one that is dropped is counted as cancelled.
    pub async fn measure<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError>
    where
        for<'a> CallOutcome: From<&'a T>,
    {
        let mut running = Running { meter: self, started: Instant::now(), outcome: CallOutcome::Cancelled };
        let answer = call.await;
        running.outcome = match &answer {
            Ok(answer) => <CallOutcome as From<&T>>::from(answer),
            Err(error) => <CallOutcome as From<&CallError>>::from(error),
        };
        answer
    }

    /// Waits for an instance, and counts how long that took.
    pub async fn measure_instantiation<T>(&self, instance: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let instance = instance.await;
        self.instantiation.observe(started.elapsed());
        instance
    }

    /// Forgets every call so far: those before it serves are the host's own trials, and nobody has read of them.
    pub fn begin(&self) {
        for counter in &self.outcomes {
            counter.0.store(0, Ordering::Relaxed);
        }
        self.duration.clear();
        self.instantiation.clear();
        self.memory_bytes_peak.0.store(0, Ordering::Relaxed);
    }

    /// A call needed so much memory.
    pub fn needed_memory(&self, bytes: usize) {
        self.memory_bytes_peak.raise(bytes as u64);
    }

    /// How often calls came to each outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (CallOutcome, u64)> + '_ {
        CallOutcome::ALL.into_iter().zip(self.outcomes.iter().map(Counter::read))
    }

    /// How long calls took, instantiation included.
    pub const fn duration(&self) -> &Histogram {
        &self.duration
    }

    /// How long instances took to be made and configured.
    pub const fn instantiation(&self) -> &Histogram {
        &self.instantiation
    }

    /// The most linear memory that one call needed.
    pub fn memory_bytes_peak(&self) -> u64 {
        self.memory_bytes_peak.read()
    }
}

/// A call that is under way.
struct Running<'a> {
    meter: &'a CallMeter,
    started: Instant,
    outcome: CallOutcome,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.meter.duration.observe(self.started.elapsed());
        if let Some(counter) = self.meter.outcomes.get(self.outcome as usize) {
            counter.increment();
        }
    }
}

/// From 5 µs, where a small policy's call lies, to the longest deadline that a sidecar may give.
const CALL_BOUNDS_US: &[u64] = &[
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    10_000_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each outcome is counted where it is read. Method: the order of `ALL` is that of the variants.
    #[test]
    fn outcomes_stand_in_their_order() {
        for (index, outcome) in CallOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.as_str());
        }
    }

    /// Goal: a bound belongs to its bucket, and what is longer than all to the last. Method: rows.
    #[test]
    fn a_duration_falls_into_one_bucket() {
        let check = |nanos: u64, expected: [u64; 3]| {
            let histogram = Histogram::new(&[5, 10]);
            histogram.observe(Duration::from_nanos(nanos));
            let reading = histogram.read();
            assert_eq!(reading.buckets.iter().map(|(_, count)| *count).collect::<Vec<_>>(), expected, "{nanos} ns");
            assert_eq!((reading.count, reading.sum), (1, nanos as f64 / 1e9));
        };
        check(0, [1, 0, 0]);
        check(5_000, [1, 0, 0]);
        check(5_001, [0, 1, 0]);
        check(10_001, [0, 0, 1]);
    }
}
