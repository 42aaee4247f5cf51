//! Keeps a dead API server from costing more than a probe now and then.
//!
//! After a few connections in a row that could not be made, the next requests are refused
//! at once, for a pause that doubles up to a limit. Then one request at a time may try;
//! the first that gets through ends it all. Only whether a connection is made counts, never
//! what is answered on it.
//!
//! Promise: an attempt that is dropped, because its client left, judges nothing and blocks nobody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::UpstreamError;
use crate::limits::Limits;

/// Whether one cluster's API server is worth a connection.
#[derive(Debug)]
pub(super) struct Breaker {
    failures_max: u32,
    pause_min: Duration,
    pause_max: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Connections in a row that could not be made.
    failures: u32,
    /// Set while requests are refused.
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    pause: Duration,
    until: Instant,
    probing: bool,
}

/// One connection that is being made.
#[derive(Debug)]
#[must_use]
pub(super) struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    judged: bool,
}

impl Breaker {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            failures_max: limits.breaker_failures_max,
            pause_min: limits.breaker_pause_min,
            pause_max: limits.breaker_pause_max,
            state: Mutex::default(),
        }
    }

    /// Leave to make one connection.
    ///
    /// # Errors
    /// [`UpstreamError::Suspended`] while the API server is taken for dead.
    pub(super) fn attempt(&self) -> Result<Attempt<'_>, UpstreamError> {
        let mut state = self.state();
        state.check()?;
        let is_probe = match &mut state.open {
            None => false,
            Some(open) => {
                open.probing = true;
                true
            }
        };
        Ok(Attempt { breaker: self, is_probe, judged: false })
    }

    /// Whether a connection may be made now; for those who would have to wait for somebody else's first.
    ///
    /// # Errors
    /// [`UpstreamError::Suspended`] while the API server is taken for dead.
    pub(super) fn check(&self) -> Result<(), UpstreamError> {
        self.state().check()
    }

    /// Whether requests are refused, but for one that may try.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> Result<(), UpstreamError> {
        let Some(open) = &self.open else { return Ok(()) };
        let left = open.until.saturating_duration_since(Instant::now());
        if open.probing || !left.is_zero() { Err(UpstreamError::Suspended { retry_after: left }) } else { Ok(()) }
    }
}

impl Attempt<'_> {
    /// The API server is there, whatever it said.
    pub(super) fn reached(mut self) {
        self.judged = true;
        let before = std::mem::take(&mut *self.breaker.state());
        if before.open.is_some() {
            info!("the cluster's API server is reached again");
        }
    }

    /// It could not be reached.
    pub(super) fn failed(mut self) {
        self.judged = true;
        let breaker = self.breaker;
        let mut state = breaker.state();
        state.failures = state.failures.saturating_add(1);
        let pause = match state.open {
            // One that began before the pause did says nothing new.
            Some(_) if !self.is_probe => return,
            Some(open) => (open.pause * 2).min(breaker.pause_max),
            None if state.failures < breaker.failures_max => return,
            None => breaker.pause_min,
        };
        state.open = Some(Open { pause, until: Instant::now() + pause, probing: false });
        let failures = state.failures;
        drop(state);
        warn!(failures, ?pause, "the cluster's API server is not reached; its requests are refused for a while");
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_probe
            && !self.judged
            && let Some(open) = &mut self.breaker.state().open
        {
            open.probing = false; // the next request may try
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: refused after three failures in a row, for a pause that doubles, with one probe at a time, until one gets
    /// through. Method: a story of attempts on a paused clock, one line each.
    #[tokio::test(start_paused = true)]
    async fn a_dead_server_is_tried_ever_more_rarely() {
        let breaker = breaker();
        check(&breaker, Some(false), "tried");
        check(&breaker, Some(false), "tried");
        check(&breaker, Some(true), "tried"); // one success forgets the failures
        check(&breaker, Some(false), "tried");
        check(&breaker, Some(false), "tried");
        check(&breaker, Some(false), "tried");
        for pause in [1, 2, 4, 5, 5] {
            check(&breaker, None, &format!("refused for {pause}s"));
            tokio::time::advance(Duration::from_secs(pause)).await;
            check(&breaker, Some(false), "tried");
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        check(&breaker, Some(true), "tried");
        check(&breaker, Some(false), "tried");
        check(&breaker, Some(false), "tried");
    }

    #[track_caller]
    fn check(breaker: &Breaker, reached: Option<bool>, expected: &str) {
        let got = match (breaker.attempt(), reached) {
            (Ok(attempt), Some(true)) => {
                attempt.reached();
                "tried".to_owned()
            }
            (Ok(attempt), Some(false)) => {
                attempt.failed();
                "tried".to_owned()
            }
            (Ok(_), None) => "let through".to_owned(),
            (Err(UpstreamError::Suspended { retry_after }), _) => format!("refused for {retry_after:?}"),
            (Err(other), _) => other.to_string(),
        };
        assert_eq!(got, expected);
    }

    /// Goal: one probe at a time; one whose client left makes room; late failures from before do not lengthen the pause.
    #[tokio::test(start_paused = true)]
    async fn there_is_one_probe_at_a_time() {
        let breaker = breaker();
        let late = breaker.attempt().unwrap();
        for _ in 0..3 {
            breaker.attempt().unwrap().failed();
        }
        late.failed();
        tokio::time::advance(Duration::from_secs(1)).await;

        let probe = breaker.attempt().unwrap();
        assert!(matches!(breaker.attempt(), Err(UpstreamError::Suspended { .. })));
        drop(probe);
        let probe = breaker.attempt().unwrap();
        probe.failed();

        check(&breaker, None, "refused for 2s");
    }

    fn breaker() -> Breaker {
        Breaker::new(&Limits {
            breaker_failures_max: 3,
            breaker_pause_min: Duration::from_secs(1),
            breaker_pause_max: Duration::from_secs(5),
            ..Limits::default()
        })
    }
}
