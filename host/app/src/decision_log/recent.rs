//! The last decisions, in memory: to be looked at, filtered, and followed as they come.
//!
//! A ring of a fixed size, and a channel of a fixed size behind it: a follower who reads slowly loses decisions and is told how
//! many; the gate never waits for one.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::broadcast;

/// The last decisions, as the lines that stand in the log, each with its line feed.
pub(crate) struct Recent {
    ring: Mutex<VecDeque<Bytes>>,
    live: broadcast::Sender<Bytes>,
    followers: Arc<AtomicUsize>,
}

/// What a line is filtered by. Read when somebody filters, and not when the decision is made: most lines nobody asks for.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cluster: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    verb: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    policy: Option<Cow<'a, str>>,
    #[serde(borrow)]
    decision: Cow<'a, str>,
}

/// Which decisions are wanted; all by default.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Filter {
    pub(crate) id: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) decision: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) verb: Option<String>,
    pub(crate) since: Option<jiff::Timestamp>,
}

/// One who follows decisions as they come. A place for another is free when it is dropped.
pub(crate) struct Follower {
    receiver: broadcast::Receiver<Bytes>,
    filter: Filter,
    followers: Arc<AtomicUsize>,
}

/// What a follower hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A decision's line.
    Decision(Bytes),
    /// It was too slow for so many.
    Lost(u64),
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            ring: Mutex::new(VecDeque::with_capacity(KEPT_MAX)),
            live: broadcast::Sender::new(LIVE_MAX),
            followers: Arc::default(),
        }
    }
}

impl Recent {
    /// Takes one decision's line.
    pub(crate) fn put(&self, line: Bytes) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(line.clone());
        // Under the lock, so that who begins to follow misses none and hears none twice. Nobody may be listening.
        let _ = self.live.send(line);
    }

    /// The last `count` that `filter` takes, the oldest first.
    pub(crate) fn last(&self, filter: &Filter, count: usize) -> Vec<Bytes> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        Self::pick(&ring, filter, count)
    }

    /// The last `count` that `filter` takes, and then all as they come; none when there are as many followers as may be.
    pub(crate) fn follow(&self, filter: Filter, count: usize) -> Option<(Vec<Bytes>, Follower)> {
        let followers = Arc::clone(&self.followers);
        let before = followers.fetch_add(1, Ordering::Relaxed);
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = Follower { receiver: self.live.subscribe(), filter, followers };
        (before < FOLLOWERS_MAX).then(|| (Self::pick(&ring, &follower.filter, count), follower))
    }

    fn pick(ring: &VecDeque<Bytes>, filter: &Filter, count: usize) -> Vec<Bytes> {
        let mut picked: Vec<_> = ring.iter().rev().filter(|line| filter.takes(line)).take(count).cloned().collect();
        picked.reverse();
        picked
    }
}

impl Filter {
    fn takes(&self, line: &[u8]) -> bool {
        if *self == Self::default() {
            return true;
        }
        // The gate's own lines, which can be read.
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(line) else { return false };
        let is = |wanted: &Option<String>, given: Option<&Cow<'_, str>>| {
            wanted.as_deref().is_none_or(|wanted| given.is_some_and(|given| given == wanted))
        };
        is(&self.id, Some(&fields.id))
            && is(&self.user, fields.user.as_ref())
            && is(&self.cluster, fields.cluster.as_ref())
            && is(&self.decision, Some(&fields.decision))
            && is(&self.policy, fields.policy.as_ref())
            && is(&self.verb, fields.verb.as_ref())
            && self.since.is_none_or(|since| fields.time.parse().is_ok_and(|time: jiff::Timestamp| time >= since))
    }
}

impl Follower {
    /// Waits for the next; none when nothing comes any more.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.receiver.recv().await {
                Ok(line) if self.filter.takes(&line) => return Some(Heard::Decision(line)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(lost)) => return Some(Heard::Lost(lost)),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Decisions that are kept to be looked at.
pub(crate) const KEPT_MAX: usize = 1_000;

/// Decisions that may wait for a follower to read them.
const LIVE_MAX: usize = 1_024;

/// Who may follow at once.
pub(crate) const FOLLOWERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(recent: &Recent, user: &str, verb: &str) {
        let line = json!({
            "id": "01", "time": "2026-01-02T03:04:05Z", "user": user, "cluster": "one", "verb": verb,
            "decision": "deny", "generation": 1,
        });
        recent.put(Bytes::from(format!("{line}\n")));
    }

    fn users(lines: &[Bytes]) -> Vec<String> {
        let user = |line: &Bytes| serde_json::from_slice::<Fields<'_>>(line).unwrap().user.unwrap().into_owned();
        lines.iter().map(user).collect()
    }

    /// Goal: the ring is bounded, and filters pick. Method: one more than it holds, then rows.
    #[test]
    fn the_last_decisions_are_kept_and_picked() {
        let recent = Recent::default();
        put(&recent, "first", "get");
        (0..KEPT_MAX - 1).for_each(|_| put(&recent, "jane", "get"));
        put(&recent, "john", "list");
        assert_eq!(recent.last(&Filter::default(), usize::MAX).len(), KEPT_MAX);
        let check =
            |filter: Filter, expected: &[&str]| assert_eq!(users(&recent.last(&filter, 2)), expected, "{filter:?}");
        let some = |text: &str| Some(text.to_owned());
        check(Filter::default(), &["jane", "john"]);
        check(Filter { user: some("first"), ..Filter::default() }, &[]);
        check(Filter { user: some("jane"), ..Filter::default() }, &["jane", "jane"]);
        check(Filter { verb: some("list"), ..Filter::default() }, &["john"]);
        check(Filter { decision: some("allow"), ..Filter::default() }, &[]);
        check(Filter { id: some("01"), ..Filter::default() }, &["jane", "john"]);
        check(Filter { policy: some("p"), ..Filter::default() }, &[]);
        check(Filter { cluster: some("one"), verb: some("list"), ..Filter::default() }, &["john"]);
        check(Filter { since: "2026-01-02T03:04:06Z".parse().ok(), ..Filter::default() }, &[]);
    }

    /// Goal: a slow follower is told how many it lost. Method: more decisions than may wait, and then one is read.
    #[tokio::test]
    async fn a_slow_follower_is_told_what_it_lost() {
        let recent = Recent::default();
        put(&recent, "before", "get");
        let (before, mut follower) = recent.follow(Filter::default(), 10).unwrap();
        assert_eq!(users(&before), ["before"]);
        (0..LIVE_MAX + 3).for_each(|_| put(&recent, "jane", "get"));
        assert!(matches!(follower.next().await, Some(Heard::Lost(3))));
        assert!(matches!(follower.next().await, Some(Heard::Decision(_))));
    }

    /// Goal: followers are bounded, and one who leaves makes room. Method: as many as may be, one more, one less.
    #[test]
    fn followers_are_bounded() {
        let recent = Recent::default();
        let mut all: Vec<_> =
            std::iter::repeat_with(|| recent.follow(Filter::default(), 0)).take(FOLLOWERS_MAX).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(recent.follow(Filter::default(), 0).is_none());
        all.pop();
        assert!(recent.follow(Filter::default(), 0).is_some());
    }
}
