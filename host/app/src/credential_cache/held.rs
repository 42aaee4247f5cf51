//! One credential that is held: until when it is good, and when it is time for the next.

use std::time::Duration;

use tokio::time::Instant;
use witgate_core::Grant;

use super::clock::Now;
use super::{EXPIRY_MARGIN, HELD_MAX, REFRESH_AFTER_MIN, REFRESH_AHEAD, REFRESH_PAUSE_MAX, REFRESH_PAUSE_MIN};

/// A grant that is good for longer than its own request.
pub(super) struct Held {
    grant: Grant,
    /// Without the margin, on both clocks: a wall clock that is put back must not make a credential live longer.
    good_until: Instant,
    good_until_unix: Duration,
    refresh_at: Instant,
    pause: Duration,
    /// When it was last handed out, as a count.
    used: u64,
}

impl Held {
    /// Holds `grant`, if it has an expiry that is far enough, or has none and is the answer for some time.
    pub(super) fn new(grant: &Grant, same_for: Option<Duration>, now: Now, used: u64) -> Option<Self> {
        let Some(expires_at) = grant.expires_at else {
            let good_until = now.monotonic + same_for?.min(HELD_MAX);
            let (grant, good_until_unix, pause) = (grant.clone(), Duration::MAX, Duration::ZERO);
            return Some(Self { grant, good_until, good_until_unix, refresh_at: good_until, pause, used });
        };
        let good_until_unix = Duration::from_secs(expires_at).checked_sub(EXPIRY_MARGIN)?;
        let good_for = good_until_unix.checked_sub(now.unix).filter(|rest| !rest.is_zero())?.min(HELD_MAX);
        let refresh_in = match good_for.checked_sub(REFRESH_AHEAD) {
            Some(rest) if !rest.is_zero() => rest.max(REFRESH_AFTER_MIN),
            Some(_) | None => (good_for - good_for / 4).max(REFRESH_PAUSE_MIN),
        };
        Some(Self {
            grant: grant.clone(),
            good_until: now.monotonic + good_for,
            good_until_unix,
            refresh_at: now.monotonic + refresh_in,
            pause: Duration::ZERO,
            used,
        })
    }

    /// What is held.
    pub(super) const fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether it may be handed out.
    pub(super) fn is_good(&self, now: Now) -> bool {
        now.monotonic < self.good_until && now.unix < self.good_until_unix
    }

    /// Whether it is time for the next.
    pub(super) fn wants_refresh(&self, now: Now) -> bool {
        now.monotonic >= self.refresh_at
    }

    /// A renewal brought nothing: the next try comes later, and each time later still.
    pub(super) fn back_off(&mut self, now: Now) {
        self.pause = (self.pause * 2).clamp(REFRESH_PAUSE_MIN, REFRESH_PAUSE_MAX);
        self.refresh_at = now.monotonic + self.pause;
    }

    /// Notes that it is handed out.
    pub(super) const fn use_at(&mut self, used: u64) {
        self.used = used;
    }

    /// When it was last handed out; less is longer ago.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use witgate_core::Credential;

    use super::*;

    const NOW: u64 = 1_000_000;

    /// Goal: how long a credential is held and when it is renewed follow from its expiry. Method: rows of expiry, from
    /// now: held until, renewed at.
    #[tokio::test(start_paused = true)]
    async fn the_expiry_decides() {
        check(None, None);
        check(Some(0), None);
        check(Some(10), None);
        check(Some(11), Some((1, 1)));
        check(Some(50), Some((40, 30)));
        check(Some(910), Some((900, 675)));
        check(Some(911), Some((901, 5)));
        check(Some(16 * 60), Some((950, 50)));
        check(Some(20 * 60), Some((1190, 290)));
        check(Some(3610), Some((3600, 2700)));
        check(Some(7210), Some((7200, 6300)));
        check(Some(u64::MAX - NOW), Some((86400, 85500)));
    }

    #[track_caller]
    fn check(expires_in: Option<u64>, expected: Option<(u64, u64)>) {
        let begun = Instant::now();
        let at = |seconds: u64| Now {
            monotonic: begun + Duration::from_secs(seconds),
            unix: Duration::from_secs(NOW + seconds),
        };
        let expires_at = expires_in.map(|seconds| NOW + seconds);
        let grant = Grant { credential: Credential::Anonymous, expires_at, impersonate: None };
        let held = Held::new(&grant, None, at(0), 0);
        assert_eq!(held.is_some(), expected.is_some());
        let (Some(held), Some((until, refresh))) = (held, expected) else { return };
        assert!(held.is_good(at(until - 1)) && !held.is_good(at(until)));
        assert!(!held.wants_refresh(at(refresh - 1)) && held.wants_refresh(at(refresh)));
        let put_back = Now { unix: Duration::ZERO, ..at(until) };
        assert!(!held.is_good(put_back), "the wall clock was put back");
        let put_forward = Now { monotonic: begun, unix: Duration::from_secs(u64::MAX) };
        assert!(!held.is_good(put_forward), "the wall clock was put forward");
    }

    #[tokio::test(start_paused = true)]
    async fn failed_renewals_become_rare() {
        let begun = Now { monotonic: Instant::now(), unix: Duration::from_secs(NOW) };
        let grant = Grant { credential: Credential::Anonymous, expires_at: Some(NOW + 9999), impersonate: None };
        let mut held = Held::new(&grant, None, begun, 0).unwrap();
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                held.back_off(begun);
                (held.refresh_at - begun.monotonic).as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
