//! Whether a plug-in that keeps failing is called again.
//!
//! Kept for each caller, and not for the plug-in as a whole. A count of all failures would be a weapon: whoever finds a
//! request that traps a policy could lock everybody else out with it, and a share of failures is no better against
//! somebody who sends more than all others. So a caller whose calls nearly all fail is not called for, for a pause that doubles;
//! then one call decides. Others notice nothing, and a plug-in that fails everyone costs each of them a few calls a minute.
//!
//! What this cannot tell apart is one caller: people who share one name, as an anonymous one, share its pauses.
//!
//! Nothing here calls a plug-in or looks at a clock: the time is passed in.
//!
//! Promise: it only ever refuses. A caller whom it forgets, for want of room, is called for as before.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The failures of one loaded plug-in, by caller. A reload of the plug-in begins with a new one.
#[derive(Debug, Default)]
pub struct Quarantine {
    limits: QuarantineLimits,
    /// Callers are keyed by a hash that nobody outside can aim at.
    hasher: RandomState,
    callers: Mutex<HashMap<u64, Caller>>,
    /// How many of them there are, so that a plug-in that does not fail takes no lock.
    tracked: AtomicUsize,
    begun: AtomicU64,
    refused: AtomicU64,
}

/// When a caller's calls pause, and for how long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuarantineLimits {
    /// Failures are counted for as long, then anew.
    pub window: Duration,
    /// Fewer failures in a window never pause anything.
    pub failures_min: u32,
    /// Of a caller's calls in the window, how many of a hundred must have failed.
    pub failed_percent_min: u32,
    /// The first pause. It doubles each time that the call after it fails.
    pub pause_min: Duration,
    /// The longest one.
    pub pause_max: Duration,
    /// Callers whose failures are counted at a time; further ones are not, and so never paused.
    pub callers_max: usize,
}

impl Default for QuarantineLimits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            failures_min: 10,
            failed_percent_min: 90,
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
            callers_max: 1024,
        }
    }
}

/// Calls of one caller.
#[derive(Debug)]
struct Caller {
    since: Instant,
    calls: u32,
    failures: u32,
    pause: Option<Pause>,
}

#[derive(Debug)]
struct Pause {
    until: Instant,
    length: Duration,
    /// Whether the call that decides is under way.
    probing: bool,
}

/// A call that may be made. Dropped without an outcome, it counts as if it had not been.
#[derive(Debug)]
pub struct Admitted<'a> {
    quarantine: &'a Quarantine,
    caller: u64,
    probing: bool,
}

/// The plug-in is not called for this caller now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Paused {
    /// When it may be again.
    pub retry_after: Duration,
}

/// What an outcome changed, for the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuarantineChange {
    /// A caller is paused for the first time.
    Begun {
        /// For how long.
        pause: Duration,
        /// How many are paused now, this one included.
        callers: usize,
    },
    /// The call after a pause failed as well.
    Prolonged {
        /// For how long.
        pause: Duration,
    },
    /// The call after a pause succeeded.
    Lifted {
        /// How many are still paused.
        callers: usize,
    },
}

/// What `/status` and metrics tell of a quarantine.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuarantineStanding {
    /// Callers that are paused now.
    pub callers: usize,
    /// The longest of their pauses, in milliseconds.
    pub pause_ms: u64,
    /// How often a caller was paused, over all time.
    pub begun: u64,
    /// How many calls were refused, over all time.
    pub refused: u64,
}

impl Quarantine {
    /// One with these limits.
    pub fn new(limits: QuarantineLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Asks whether the plug-in may be called for `caller`.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit(&self, caller: impl Hash, now: Instant) -> Result<Admitted<'_>, Paused> {
        let caller = self.hasher.hash_one(caller);
        let admitted = |probing| Admitted { quarantine: self, caller, probing };
        if self.tracked.load(Ordering::Relaxed) == 0 {
            return Ok(admitted(false));
        }
        let mut callers = self.callers();
        let Some(pause) = callers.get_mut(&caller).and_then(|caller| caller.pause.as_mut()) else {
            return Ok(admitted(false));
        };
        if now < pause.until || pause.probing {
            let retry_after = pause.until.saturating_duration_since(now).max(self.limits.pause_min);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Paused { retry_after });
        }
        pause.probing = true;
        Ok(admitted(true))
    }

    /// How things stand at `now`.
    pub fn standing(&self, now: Instant) -> QuarantineStanding {
        let mut standing = QuarantineStanding {
            begun: self.begun.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            ..QuarantineStanding::default()
        };
        if self.tracked.load(Ordering::Relaxed) > 0 {
            let mut callers = self.callers();
            self.forget_the_old(&mut callers, now);
            for pause in callers.values().filter_map(|caller| caller.pause.as_ref()) {
                let pause_ms = u64::try_from(pause.length.as_millis()).unwrap_or(u64::MAX);
                standing.callers += 1;
                standing.pause_ms = standing.pause_ms.max(pause_ms);
            }
        }
        standing
    }

    fn count(&self, key: u64, probing: bool, succeeded: bool, now: Instant) -> Option<QuarantineChange> {
        if succeeded && !probing && self.tracked.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let limits = &self.limits;
        let mut callers = self.callers();
        if probing {
            if succeeded {
                callers.remove(&key);
                self.tracked.store(callers.len(), Ordering::Relaxed);
                return Some(QuarantineChange::Lifted { callers: paused(&callers) });
            }
            let pause = callers.get_mut(&key)?.pause.as_mut()?;
            let length = pause.length.saturating_mul(2).min(limits.pause_max);
            *pause = Pause { until: now + length, length, probing: false };
            return Some(QuarantineChange::Prolonged { pause: length });
        }
        if !succeeded && !callers.contains_key(&key) {
            if callers.len() >= limits.callers_max {
                self.forget_the_old(&mut callers, now);
            }
            if callers.len() < limits.callers_max {
                callers.insert(key, Caller { since: now, calls: 0, failures: 0, pause: None });
                self.tracked.store(callers.len(), Ordering::Relaxed);
            }
        }
        let caller = callers.get_mut(&key)?;
        if caller.pause.is_some() {
            return None; // it began before the pause did
        }
        if now.saturating_duration_since(caller.since) > limits.window {
            if succeeded {
                callers.remove(&key);
                self.tracked.store(callers.len(), Ordering::Relaxed);
                return None;
            }
            *caller = Caller { since: now, calls: 0, failures: 0, pause: None };
        }
        caller.calls = caller.calls.saturating_add(1);
        caller.failures = caller.failures.saturating_add(u32::from(!succeeded));
        let share = u64::from(caller.failures) * 100;
        let nearly_all = share >= u64::from(caller.calls) * u64::from(limits.failed_percent_min);
        if succeeded || caller.failures < limits.failures_min || !nearly_all {
            return None;
        }
        let length = limits.pause_min;
        caller.pause = Some(Pause { until: now + length, length, probing: false });
        self.begun.fetch_add(1, Ordering::Relaxed);
        Some(QuarantineChange::Begun { pause: length, callers: paused(&callers) })
    }

    /// Callers who have not come back for as long as it would count.
    fn forget_the_old(&self, callers: &mut HashMap<u64, Caller>, now: Instant) {
        callers.retain(|_, caller| match &caller.pause {
            Some(pause) => pause.probing || now < pause.until + self.limits.pause_max,
            None => now.saturating_duration_since(caller.since) <= self.limits.window,
        });
        self.tracked.store(callers.len(), Ordering::Relaxed);
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<u64, Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admitted<'_> {
    /// The plug-in answered.
    pub fn succeeded(mut self, now: Instant) -> Option<QuarantineChange> {
        self.ended(true, now)
    }

    /// The plug-in failed, and nobody else.
    pub fn failed(mut self, now: Instant) -> Option<QuarantineChange> {
        self.ended(false, now)
    }

    fn ended(&mut self, succeeded: bool, now: Instant) -> Option<QuarantineChange> {
        let probing = std::mem::take(&mut self.probing);
        self.quarantine.count(self.caller, probing, succeeded, now)
    }
}

/// Lets the next call decide instead.
impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        if self.probing
            && let Some(pause) =
                self.quarantine.callers().get_mut(&self.caller).and_then(|caller| caller.pause.as_mut())
        {
            pause.probing = false;
        }
    }
}

fn paused(callers: &HashMap<u64, Caller>) -> usize {
    callers.values().filter(|caller| caller.pause.is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Goal: a caller whose calls all fail is paused, for longer each time, until one call succeeds.
    /// Method: a plug-in that is dead until it is not; each step with its moment.
    #[test]
    fn pauses_double_until_a_call_succeeds() {
        let quarantine = Quarantine::default();
        let start = Instant::now();
        for failure in 1..10 {
            assert_eq!(fail(&quarantine, "jane", start), None, "failure {failure}");
        }
        let begun = QuarantineChange::Begun { pause: SECOND, callers: 1 };
        assert_eq!(fail(&quarantine, "jane", start), Some(begun));
        let mut now = start;
        for pause_s in [2, 4, 8, 16, 32, 60, 60] {
            let paused = quarantine.admit("jane", now).unwrap_err();
            now += paused.retry_after;
            let prolonged = QuarantineChange::Prolonged { pause: SECOND * pause_s };
            assert_eq!(fail(&quarantine, "jane", now), Some(prolonged));
        }
        assert_eq!(quarantine.standing(now), QuarantineStanding { callers: 1, pause_ms: 60_000, begun: 1, refused: 7 });
        now += SECOND * 60;
        let probe = quarantine.admit("jane", now).unwrap();
        assert_eq!(quarantine.admit("jane", now).unwrap_err(), Paused { retry_after: SECOND }, "one call decides");
        assert_eq!(probe.succeeded(now), Some(QuarantineChange::Lifted { callers: 0 }));
        assert!(quarantine.admit("jane", now).is_ok());
        assert_eq!(quarantine.standing(now).callers, 0);
    }

    /// Goal: nobody is paused for what another caller does. Method: one floods with failures, one calls now and then.
    #[test]
    fn a_caller_who_traps_a_policy_pauses_nobody_else() {
        let quarantine = Quarantine::default();
        let start = Instant::now();
        for second in 0..600 {
            let now = start + SECOND * second;
            for _ in 0..1_000 {
                if let Ok(admitted) = quarantine.admit("mallory", now) {
                    admitted.failed(now);
                }
            }
            let jane = quarantine.admit("jane", now).expect("jane is never paused");
            assert_eq!(jane.succeeded(now), None);
        }
        assert!(quarantine.standing(start + SECOND * 600).refused > 500_000);
    }

    /// Goal: failures among answers do not pause, and few do not either. Method: rows of (answers, failures, paused).
    #[test]
    fn only_a_high_share_pauses() {
        for (answers, failures, paused) in
            [(0, 9, false), (0, 10, true), (1, 10, true), (2, 10, false), (900, 90, false)]
        {
            let quarantine = Quarantine::default();
            let now = Instant::now();
            fail(&quarantine, "jane", now); // counting begins with the first
            for _ in 0..answers {
                quarantine.admit("jane", now).unwrap().succeeded(now);
            }
            for _ in 1..failures {
                fail(&quarantine, "jane", now);
            }
            assert_eq!(quarantine.admit("jane", now).is_err(), paused, "{answers} answers, {failures} failures");
        }
    }

    /// Goal: what failed long ago does not count. Method: nine failures, a window, nine more.
    #[test]
    fn a_window_ends() {
        let quarantine = Quarantine::default();
        let start = Instant::now();
        for now in [start, start + SECOND * 61] {
            for _ in 0..9 {
                assert_eq!(fail(&quarantine, "jane", now), None);
            }
        }
    }

    /// Goal: a caller who leaves while the deciding call is under way blocks nothing. Method: drop it.
    #[test]
    fn a_probe_that_is_dropped_decides_nothing() {
        let quarantine = Quarantine::default();
        let start = Instant::now();
        for _ in 0..10 {
            fail(&quarantine, "jane", start);
        }
        let later = start + SECOND;
        drop(quarantine.admit("jane", later).unwrap());
        assert!(quarantine.admit("jane", later).is_ok());
    }

    /// Goal: memory is bounded, by forgetting the old and not counting the new. Method: one caller more than fits.
    #[test]
    fn callers_are_bounded() {
        let limits = QuarantineLimits { callers_max: 2, failures_min: 1, ..QuarantineLimits::default() };
        let quarantine = Quarantine::new(limits);
        let start = Instant::now();
        assert!(fail(&quarantine, "a", start).is_some());
        assert!(fail(&quarantine, "b", start).is_some());
        assert_eq!(fail(&quarantine, "c", start), None);
        assert!(quarantine.admit("c", start).is_ok());
        let later = start + SECOND * 62;
        assert!(fail(&quarantine, "c", later).is_some());
        assert_eq!(quarantine.standing(later).callers, 1, "the others have not come back");
    }

    #[track_caller]
    fn fail(quarantine: &Quarantine, caller: &str, now: Instant) -> Option<QuarantineChange> {
        quarantine.admit(caller, now).expect("not paused").failed(now)
    }
}
