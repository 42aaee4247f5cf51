//! The last decisions, in memory: to be looked at, filtered, and followed as they come.
//!
//! A ring of a fixed size, and a channel of a fixed size behind it: a follower who reads slowly loses decisions and is told how
//! many; the gate never waits for one.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::broadcast;
use witgate_proxy::decision::{DecisionRecord, Outcome};

/// The last decisions.
pub(crate) struct Recent {
    ring: Mutex<VecDeque<Arc<Kept>>>,
    live: broadcast::Sender<Arc<Kept>>,
    followers: Arc<AtomicUsize>,
}

/// One decision: its line, and what it is filtered by.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The line as it stands in the log, with its line feed.
    pub(crate) line: Bytes,
    id: String,
    time: jiff::Timestamp,
    user: Option<Arc<str>>,
    cluster: Option<String>,
    verb: String,
    policy: Option<String>,
    decision: Outcome,
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
    receiver: broadcast::Receiver<Arc<Kept>>,
    filter: Filter,
    followers: Arc<AtomicUsize>,
}

/// What a follower hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A decision.
    Decision(Arc<Kept>),
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
    /// Takes one decision, with its line.
    pub(crate) fn put(&self, record: &DecisionRecord, line: Bytes) {
        let kept = Arc::new(Kept {
            line,
            id: record.id.to_string(),
            // The gate's own, so it is one.
            time: record.time.parse().unwrap_or_default(),
            user: record.user.clone(),
            cluster: record.request.cluster.clone(),
            verb: record.request.verb.clone().into_owned(),
            policy: record.policy.as_ref().map(|policy| policy.as_str().to_owned()),
            decision: record.decision,
        });
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.len() == KEPT_MAX {
            ring.pop_front();
        }
        ring.push_back(Arc::clone(&kept));
        // Under the lock, so that who begins to follow misses none and hears none twice. Nobody may be listening.
        let _ = self.live.send(kept);
    }

    /// The last `count` that `filter` takes, the oldest first.
    pub(crate) fn last(&self, filter: &Filter, count: usize) -> Vec<Arc<Kept>> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        Self::pick(&ring, filter, count)
    }

    /// The last `count` that `filter` takes, and then all as they come; none when there are as many followers as may be.
    pub(crate) fn follow(&self, filter: Filter, count: usize) -> Option<(Vec<Arc<Kept>>, Follower)> {
        let followers = Arc::clone(&self.followers);
        let before = followers.fetch_add(1, Ordering::Relaxed);
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let follower = Follower { receiver: self.live.subscribe(), filter, followers };
        (before < FOLLOWERS_MAX).then(|| (Self::pick(&ring, &follower.filter, count), follower))
    }

    fn pick(ring: &VecDeque<Arc<Kept>>, filter: &Filter, count: usize) -> Vec<Arc<Kept>> {
        let mut picked: Vec<_> = ring.iter().rev().filter(|kept| filter.takes(kept)).take(count).cloned().collect();
        picked.reverse();
        picked
    }
}

impl Filter {
    fn takes(&self, kept: &Kept) -> bool {
        let is =
            |wanted: &Option<String>, given: Option<&str>| wanted.as_deref().is_none_or(|wanted| given == Some(wanted));
        is(&self.id, Some(&kept.id))
            && is(&self.user, kept.user.as_deref())
            && is(&self.cluster, kept.cluster.as_deref())
            && is(&self.decision, Some(kept.decision.as_str()))
            && is(&self.policy, kept.policy.as_deref())
            && is(&self.verb, Some(&kept.verb))
            && self.since.is_none_or(|since| kept.time >= since)
    }
}

impl Follower {
    /// Waits for the next; none when nothing comes any more.
    pub(crate) async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.receiver.recv().await {
                Ok(kept) if self.filter.takes(&kept) => return Some(Heard::Decision(kept)),
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
    use witgate_core::Generation;
    use witgate_proxy::decision::{DecisionId, RequestFields};

    use super::*;

    fn put(recent: &Recent, user: &str, verb: &'static str) {
        let record = DecisionRecord {
            id: DecisionId::generate(),
            time: "2026-01-02T03:04:05Z".into(),
            user: Some(user.into()),
            groups: None,
            permission: None,
            request: RequestFields { verb: verb.into(), cluster: Some("one".into()), ..RequestFields::default() },
            decision: Outcome::Deny,
            reason: None,
            policy: None,
            digest: None,
            generation: Generation(1),
            policy_us: None,
            strategy: None,
            credential: None,
            cache_hit: None,
            strategy_us: None,
            status: None,
            bytes: None,
            duration_ms: None,
            close_reason: None,
        };
        recent.put(&record, Bytes::from(user.to_owned()));
    }

    fn users(kept: &[Arc<Kept>]) -> Vec<&str> {
        kept.iter().filter_map(|kept| kept.user.as_deref()).collect()
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
