//! Instances that wait for their next call, for plug-ins with `isolation: reused`.
//!
//! Nobody else has an instance while a call does: it is taken out, and comes back only when the call ended well. So what is
//! never given back (a trap, a deadline, a limit, a dropped call) is not used again, without anyone having to remember that.
//! Two limits bound how many wait: one a plug-in, and one over all plug-ins, so that they never fill the engine's pool.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The instances of one plug-in that nobody uses now.
pub(crate) struct WarmInstances<T> {
    waiting: Mutex<Vec<Warm<T>>>,
    calls_max: NonZeroU32,
    places: Arc<Semaphore>,
}

/// An instance that has been called before.
pub(crate) struct Warm<T> {
    /// It.
    pub(crate) instance: T,
    /// What it has behind it.
    pub(crate) past: Past,
}

/// What an instance has behind it.
#[derive(Default)]
pub(crate) struct Past {
    calls: u32,
    /// Given back with the instance. A new one has none yet.
    place: Option<OwnedSemaphorePermit>,
}

impl<T> WarmInstances<T> {
    /// None yet. Each is called `calls_max` times; `places` are those of all plug-ins.
    pub(crate) const fn new(calls_max: NonZeroU32, places: Arc<Semaphore>) -> Self {
        Self { waiting: Mutex::new(Vec::new()), calls_max, places }
    }

    /// The one that was used last, whose memory is the warmest.
    pub(crate) fn take(&self) -> Option<Warm<T>> {
        self.waiting().pop()
    }

    /// Keeps `instance` after one more call that ended well, unless it has had its calls or there is no room.
    pub(crate) fn give_back(&self, instance: T, past: Past) {
        let Past { calls, place } = past;
        let calls = calls.saturating_add(1);
        if calls >= self.calls_max.get() {
            return;
        }
        let Some(place) = place.or_else(|| Arc::clone(&self.places).try_acquire_owned().ok()) else { return };
        let surplus = {
            let mut waiting = self.waiting();
            let warm = Warm { instance, past: Past { calls, place: Some(place) } };
            if waiting.len() < WAITING_MAX {
                waiting.push(warm);
                None
            } else {
                Some(warm)
            }
        };
        // An instance takes a while to drop: not under the lock.
        drop(surplus);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Warm<T>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Instances of one plug-in that wait. More calls than that at once make instances of their own.
const WAITING_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(calls_max: u32, places: usize) -> WarmInstances<u32> {
        WarmInstances::new(NonZeroU32::new(calls_max).unwrap(), Arc::new(Semaphore::new(places)))
    }

    /// Goal: an instance serves so many calls and no more. Method: one that is given back after each.
    #[test]
    fn an_instance_has_its_calls() {
        let warm = instances(3, 9);
        warm.give_back(1, Past::default());
        let Warm { instance, past } = warm.take().unwrap();
        assert!(warm.take().is_none(), "nobody else has it");
        warm.give_back(instance, past);
        let Warm { instance, past } = warm.take().unwrap();
        warm.give_back(instance, past);
        assert!(warm.take().is_none(), "that was its third call");

        let never = instances(1, 9);
        never.give_back(1, Past::default());
        assert!(never.take().is_none());
    }

    /// Goal: what waits is bounded, for a plug-in and for all of them; places come back. Method: one more than each allows.
    #[test]
    fn what_waits_is_bounded() {
        let warm = instances(9, WAITING_MAX + 1);
        (0..=WAITING_MAX).for_each(|_| warm.give_back(1, Past::default()));
        assert_eq!(warm.waiting().len(), WAITING_MAX);
        assert_eq!(warm.places.available_permits(), 1, "the surplus gave its place back");

        let one = instances(9, 1);
        one.give_back(1, Past::default());
        one.give_back(2, Past::default());
        assert_eq!(one.waiting().len(), 1);
        drop(one.take());
        one.give_back(3, Past::default());
        assert_eq!(one.take().unwrap().instance, 3);
    }
}
