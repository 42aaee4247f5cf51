//! What one cluster's cache holds, behind one lock that is never held across a wait.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use witgate_core::{Credential, Grant};

use super::clock::Now;
use super::failure::Failure;
use super::held::Held;
use super::key::Key;
use super::{ENTRIES_MAX, FAILURE_KEPT, Outcome, REJECTION_PAUSE};

/// Credentials, failures, and the exchanges under way, by key.
#[derive(Default)]
pub(super) struct Store(Mutex<State>);

#[derive(Default)]
struct State {
    held: HashMap<Key, Held>,
    /// Each with when it is forgotten.
    failures: HashMap<Key, (Failure, Instant)>,
    /// Keys whose credential a 401 dropped, each with when that may happen again.
    rejections: HashMap<Key, Instant>,
    /// As many as there are calls: the plug-in's own limit bounds them.
    flights: HashMap<Key, watch::Receiver<Option<Outcome>>>,
    uses: u64,
}

/// What a request does for its credential.
pub(super) enum Step {
    /// It has one, and begins a renewal where it is handed a flight.
    Held { grant: Grant, renewal: Option<watch::Sender<Option<Outcome>>> },
    /// It failed a moment ago.
    Failed(Failure),
    /// It waits for an exchange that is under way.
    Wait(watch::Receiver<Option<Outcome>>),
    /// It begins one, which others may wait for.
    Lead(watch::Sender<Option<Outcome>>),
    /// It asks for itself.
    Direct,
}

impl Store {
    /// Decides what a request does. With `per_request` it begins nothing that others would wait for.
    pub(super) fn step(&self, key: Key, now: Now, per_request: bool) -> Step {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(held) = state.held.get_mut(&key) {
            if held.is_good(now) {
                state.uses += 1;
                held.use_at(state.uses);
                let grant = held.grant().clone();
                let refreshes = held.wants_refresh(now) && !state.flights.contains_key(&key);
                return Step::Held { grant, renewal: refreshes.then(|| state.take_off(key)) };
            }
            state.held.remove(&key);
        }
        if let Some(flight) = state.flights.get(&key) {
            return Step::Wait(flight.clone());
        }
        if let Some((failure, until)) = state.failures.get(&key) {
            if now.monotonic < *until {
                return Step::Failed(failure.clone());
            }
            state.failures.remove(&key);
        }
        if per_request { Step::Direct } else { Step::Lead(state.take_off(key)) }
    }

    /// Keeps what an exchange brought.
    pub(super) fn settle(&self, key: Key, now: Now, outcome: &Outcome, same_for: Option<Duration>) {
        let mut state = self.lock();
        let state = &mut *state;
        match outcome {
            Ok(grant) => {
                state.failures.remove(&key);
                if let Some(held) = Held::new(grant, same_for, now, state.uses + 1) {
                    state.uses += 1;
                    state.make_room(&key, now);
                    state.held.insert(key, held);
                    return;
                }
            }
            Err(failure) => {
                if failure.is_remembered() {
                    forget_past(&mut state.failures, &key, |(_, until)| now.monotonic < *until);
                    state.failures.insert(key, (failure.clone(), now.monotonic + FAILURE_KEPT));
                }
            }
        }
        if let Some(held) = state.held.get_mut(&key) {
            held.back_off(now);
        }
    }

    /// The exchange is over, and nobody needs to wait for it any more.
    pub(super) fn land(&self, key: &Key) {
        self.lock().flights.remove(key);
    }

    /// Drops `credential`, if it is held and none was dropped a short while ago. Says whether there is or may be another one.
    pub(super) fn reject(&self, key: Key, now: Now, credential: &Credential) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let recently = state.rejections.get(&key).is_some_and(|until| now.monotonic < *until);
        match state.held.get(&key) {
            // Another request dropped it, and what is there now is another one.
            Some(held) if held.grant().credential != *credential => true,
            Some(_) if recently => false,
            Some(_) => {
                forget_past(&mut state.rejections, &key, |until| now.monotonic < *until);
                state.rejections.insert(key, now.monotonic + REJECTION_PAUSE);
                state.held.remove(&key);
                true
            }
            // Another request dropped it, and is about to ask for another one.
            None => recently,
        }
    }

    /// How many credentials are held.
    pub(super) fn held_count(&self) -> usize {
        self.lock().held.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_off(&mut self, key: Key) -> watch::Sender<Option<Outcome>> {
        let (flight, ended) = watch::channel(None);
        self.flights.insert(key, ended);
        flight
    }

    /// Makes room for one more credential: those that are over go first, then the one that was not used for longest.
    fn make_room(&mut self, key: &Key, now: Now) {
        if self.held.len() < ENTRIES_MAX || self.held.contains_key(key) {
            return;
        }
        self.held.retain(|_, held| held.is_good(now));
        while self.held.len() >= ENTRIES_MAX {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used()).map(|(key, _)| *key);
            let Some(oldest) = oldest else { return };
            self.held.remove(&oldest);
        }
    }
}

/// Makes room for `key` among what is only remembered: what is over goes first, then any.
fn forget_past<K: Copy + Eq + Hash, V>(entries: &mut HashMap<K, V>, key: &K, is_current: impl Fn(&V) -> bool) {
    if entries.len() < ENTRIES_MAX || entries.contains_key(key) {
        return;
    }
    entries.retain(|_, value| is_current(value));
    while entries.len() >= ENTRIES_MAX {
        let Some(any) = entries.keys().next().copied() else { return };
        entries.remove(&any);
    }
}
